/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register window of a virtio device driven by a hostile guest, in front
 * of a device that echoes and may keep chains until it is drained. Besides
 * what fuzz_guest plays: any access of any width, rings anywhere, over each
 * other too. What is answered is what was asked, and a device that gave up
 * comes back after a reset.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "virtio/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BUFS 4u

struct rig {
    struct fuzz_guest guest;
    struct echo e;
};

static void raw_access(struct rig *g, struct bytes_reader *r)
{
    uint8_t how = bytes_get_u8(r);
    struct bus_access a = {
        .len = (uint8_t)(1u << (how & 3)), .is_write = (how & 0x80) != 0};

    a.offset = bytes_get_u16(r) % (VIRTIO_MMIO_SIZE - a.len + 1u);
    a.value = a.is_write ? bytes_get_u32(r) : UINT64_MAX;
    device_lock(g->guest.dev);
    g->guest.dev->ops->access(g->guest.dev, &a);
    device_unlock(g->guest.dev);
    g->guest.wild = g->guest.wild || a.is_write;
}

/* A queue anywhere in the pages of rings, its parts where they like. */
static void place_queue(struct rig *g, struct bytes_reader *r)
{
    uint8_t how = bytes_get_u8(r);
    struct drive_queue d = g->guest.queues[how & 1];
    uint32_t status = g->e.state.virtio.status;

    d.desc = FUZZ_RINGS + bytes_get_u8(r) * UINT64_C(16);
    d.avail = FUZZ_RINGS + bytes_get_u8(r) * UINT64_C(16);
    d.used = FUZZ_RINGS + bytes_get_u8(r) * UINT64_C(16);
    /*
     * A used ring over the available one makes work without end. That is cut
     * short late where there is no loop: long before, it is of no interest.
     */
    if (!g->guest.has_loop)
        d.used += UINT64_C(0x1000);
    if ((how & 2) != 0)
        d.size = (uint16_t)bytes_get_u8(r);
    drive_write(g->guest.dev, VIRTIO_MMIO_QUEUE_SEL, how & 1);
    drive_write(g->guest.dev, VIRTIO_MMIO_QUEUE_READY, 0);
    drive_setup_queue(g->guest.dev, how & 1, &d);
    if ((how & 4) != 0)
        drive_write(
            g->guest.dev, VIRTIO_MMIO_STATUS, status | VIRTIO_STATUS_DRIVER_OK);
    g->guest.wild = true;
}

static void chain(struct rig *g, struct bytes_reader *r)
{
    struct drive_buffer bufs[BUFS];
    uint8_t how = bytes_get_u8(r);
    uint16_t n = (uint16_t)(1 + (how >> 1) % BUFS);
    uint16_t readable = (uint16_t)(how >> 4 & 3);

    for (uint16_t i = 0; i < n; i++)
        bufs[i] = fuzz_guest_buffer(r, i >= readable, 64);
    fuzz_guest_add(&g->guest, how & 1, bufs, n, (how & 8) != 0);
    if ((how & 0x80) == 0)
        fuzz_guest_kick(&g->guest, how & 1);
}

static void check_used(struct rig *g, unsigned int queue)
{
    struct drive_queue *d = &g->guest.queues[queue];
    uint32_t id;
    uint32_t len;

    while (!g->guest.wild && drive_get_used(d, &id, &len))
        fuzz_require(id < d->size && len <= d->size * FUZZ_RAM);
}

static void step(struct rig *g, struct bytes_reader *r)
{
    uint8_t what = bytes_get_u8(r);

    switch (what % 8) {
    case 0:
        raw_access(g, r);
        break;
    case 1:
        place_queue(g, r);
        break;
    case 2:
    case 3:
        chain(g, r);
        break;
    case 4:
        g->e.holds = (what & 0x80) != 0;
        break;
    default:
        fuzz_guest_step(&g->guest, r);
        break;
    }
    fuzz_guest_check(&g->guest, false);
    for (unsigned int i = 0; i < ECHO_QUEUES; i++)
        check_used(g, i);
}

/* Whatever came before, a driver that starts over is served. */
static void prove_alive(struct rig *g)
{
    const struct drive_buffer bufs[] = {
        {FUZZ_FIXED, 4, false}, {FUZZ_WRITABLE, 4, true}};
    uint32_t id = 0;
    uint32_t len = 0;

    g->e.holds = false;
    if (g->guest.quiesced)
        g->guest.dev->ops->resume(g->guest.dev);
    g->guest.quiesced = false;
    fuzz_guest_restart(&g->guest);
    fuzz_guest_add(&g->guest, 0, bufs, 2, false);
    fuzz_guest_kick(&g->guest, 0);
    fuzz_guest_run(&g->guest);
    fuzz_require(drive_get_used(&g->guest.queues[0], &id, &len) && len == 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    struct virtio_host host;
    struct bytes_reader r;
    uint8_t wish;

    bytes_reader_init(&r, data, size);
    /* The bench has no init that may fail. */
    host = fuzz_guest_prepare(&g->guest, bytes_get_u8(&r) & 1);
    wish = bytes_get_u8(&r);
    g->guest.bench.bind_result = -ENOSYS;
    echo_init(&g->guest.bench, &g->e, host.loop);
    fuzz_guest_start(&g->guest, &g->e.virtio, ECHO_QUEUES, wish, ECHO_F);
    g->guest.eager = 3;
    while (bytes_left(&r) > 0)
        step(g, &r);
    prove_alive(g);
    fuzz_guest_finish(&g->guest, data, size);
    virtio_fini(&g->e.virtio);
    fuzz_guest_end(&g->guest);
    return 0;
}
