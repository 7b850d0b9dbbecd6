/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register window of a virtio device driven by a hostile guest, with the
 * device quiesced, saved, loaded and resumed in between. A state of the
 * device's own must be taken back unchanged, anybody's else must be refused
 * or be harmless, and a device that gave up must come back after a reset.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/echo_device.h"
#include "virtio/spec.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/base/fd.h"
#include "vmm/core/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PLAYED   UINT64_C(0x20000)
#define WIRE_MAX 1024u

static uint64_t touch(struct device *dev, uint64_t offset, uint64_t value,
    uint8_t len, bool is_write)
{
    struct bus_access a = {
        .offset = offset, .value = value, .len = len, .is_write = is_write};

    dev->ops->access(dev, &a);
    return a.value;
}

static void raw_access(struct echo_bench *b, struct bytes_reader *r)
{
    uint8_t how = bytes_get_u8(r);
    uint8_t len = (uint8_t)(1u << (how % 4));
    uint64_t offset = bytes_get_u16(r) % (VIRTIO_MMIO_SIZE - len + 1u);

    (void)touch(b->dev, offset, bytes_get_u32(r), len, (how & 0x80) != 0);
}

/* A register as such: 64 words, most of which mean something. */
static void word_access(struct echo_bench *b, struct bytes_reader *r)
{
    uint8_t what = bytes_get_u8(r);
    uint64_t offset = (what & 0x3fu) * UINT64_C(4);

    if ((what & 0x80) == 0)
        drive_write(b->dev, offset,
            (what & 0x40) != 0 ? bytes_get_u32(r) : bytes_get_u8(r));
    else
        (void)drive_read(b->dev, offset);
}

static void poke(struct echo_bench *b, struct bytes_reader *r)
{
    uint64_t at = bytes_get_u16(r) + (bytes_get_u8(r) & 1) * UINT64_C(0x10000);
    uint8_t len = (uint8_t)(bytes_get_u8(r) % 17);
    uint8_t buf[16];

    bytes_get(r, buf, len);
    if (gmem_write(&b->mem, gpa(ECHO_RINGS + at), buf, len) < 0)
        abort();
}

static void chain(struct echo_bench *b, struct bytes_reader *r)
{
    uint8_t how = bytes_get_u8(r);
    uint32_t queue = how & 1;
    const struct drive_buffer bufs[] = {
        {ECHO_DATA + bytes_get_u8(r), how & 0x0cu, false},
        {ECHO_DATA + 0x1000, bytes_get_u8(r), true},
        {ECHO_DATA + 0x2000, 1, (how & 0x10) == 0}};

    (void)drive_add(&b->d[queue], bufs, (uint16_t)(1 + how / 86));
    drive_kick(b->dev, queue);
}

static size_t save(struct echo_bench *b, uint8_t *wire)
{
    struct bytes_writer w;

    bytes_writer_init(&w, wire, WIRE_MAX);
    state_save(b->dev->ops->state, b->dev->state, &w);
    assert(!w.failed);
    return w.pos;
}

/*
 * Quiesces, saves, changes `damage` bytes of what was saved and loads that. A
 * state without damage must be accepted, and come back as it was.
 */
static void reload(struct echo_bench *b, struct bytes_reader *r, uint8_t damage)
{
    uint8_t wire[WIRE_MAX];
    uint8_t again[WIRE_MAX];
    struct bytes_reader in;
    size_t n;
    int rc;

    rc = b->dev->ops->quiesce(b->dev, NULL);
    assert(rc == 0);
    n = save(b, wire);
    for (uint8_t i = 0; i < damage; i++) {
        uint16_t at = bytes_get_u16(r);

        wire[at % n] = bytes_get_u8(r);
    }
    bytes_reader_init(&in, wire, n);
    rc = state_load(b->dev->ops->state, 1, &in, b->dev->state);
    assert(rc == 0);
    rc = b->dev->ops->post_load(b->dev, NULL);
    assert(rc == 0 || damage > 0);
    if (rc == 0) {
        assert(save(b, again) == n && memcmp(wire, again, n) == 0);
    } else {
        assert(b->e.state.virtio.status == 0);
    }
    b->dev->ops->resume(b->dev);
}

static void step(struct echo_bench *b, struct bytes_reader *r)
{
    static const uint64_t wishes[] = {ECHO_F_ALL, VIRTIO_F_VERSION_1,
        VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX,
        VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET};
    uint8_t what = bytes_get_u8(r);

    switch (what % 9) {
    case 0:
        raw_access(b, r);
        break;
    case 1:
    case 2:
        word_access(b, r);
        break;
    case 3:
        poke(b, r);
        break;
    case 4:
        chain(b, r);
        break;
    case 5:
        if (drive_negotiate(b->dev, wishes[what / 9 % 4]))
            drive_write(b->dev, VIRTIO_MMIO_STATUS, 0x0b);
        break;
    case 6:
        drive_setup_queue(b->dev, what / 9 % 2, &b->d[what / 9 % 2]);
        if ((what & 0x80) != 0)
            drive_write(b->dev, VIRTIO_MMIO_STATUS, 0x0f);
        break;
    case 7:
        b->e.holds = (what & 0x80) != 0;
        break;
    default:
        reload(b, r, (what & 0x80) != 0 ? what % 4 : 0);
        break;
    }
}

static void check(const struct echo_bench *b)
{
    const struct virtio_state *s = &b->e.state.virtio;

    assert((s->status & ~VIRTIO_STATUS_ALL) == 0);
    assert((s->status & VIRTIO_STATUS_DRIVER_OK) == 0 ||
           (s->status & VIRTIO_STATUS_FEATURES_OK) != 0);
    assert((s->status & VIRTIO_STATUS_FEATURES_OK) == 0 ||
           (s->driver_features & ~b->e.virtio.features) == 0);
    assert((s->interrupt_status & ~3u) == 0);
}

/* Whatever came before, a driver that starts over is served. */
static void prove_alive(struct echo_bench *b)
{
    const struct drive_buffer bufs[] = {
        {ECHO_DATA, 4, false}, {ECHO_DATA + 0x1000, 4, true}};
    uint32_t id = 0;
    uint32_t len = 0;
    bool answered;

    b->e.holds = false;
    drive_write(b->dev, VIRTIO_MMIO_STATUS, 0);
    drive_queue_init(&b->d[0], &b->mem, ECHO_RINGS, ECHO_SIZE);
    drive_start(b->dev, ECHO_F_ALL, b->d, 1);
    (void)drive_add(&b->d[0], bufs, 2);
    drive_kick(b->dev, 0);
    answered = drive_get_used(&b->d[0], &id, &len);
    assert(answered && len == 4);
    (void)answered;
    drive_write(b->dev, VIRTIO_MMIO_STATUS, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct echo_bench bench;
    struct echo_bench *b = &bench;
    struct bytes_reader r;

    if (b->dev == NULL)
        echo_bench_init(b);
    bytes_reader_init(&r, data, size);
    if (gmem_zero(&b->mem, gpa(ECHO_RINGS), PLAYED) < 0)
        abort();
    drive_queue_init(&b->d[0], &b->mem, ECHO_RINGS, ECHO_SIZE);
    drive_queue_init(&b->d[1], &b->mem, ECHO_RINGS + 0x10000, 2 * ECHO_SIZE);
    while (bytes_left(&r) > 0) {
        step(b, &r);
        check(b);
    }
    prove_alive(b);
    (void)fd_eventfd_drain(b->irq);
    return 0;
}
