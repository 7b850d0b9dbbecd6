/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The persistent memory device with flushes of any shape, a limit or none, a
 * file that cannot be synced, and accesses that KVM hands out. What every
 * device must stand is played and checked by fuzz_guest; here, that an answer
 * is one of two, and that no load moves the mapping.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "tests/fuzz/support/fuzz_kernel.h"
#include "virtio/pmem.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/core/bus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WINDOW UINT64_C(0x100000000)
#define MAPPED (2 * NUM_MIB)
#define BUFS   5u

/* Answers are written here by requests that are well formed. */
#define ANSWER (FUZZ_RAM - 64)

struct rig {
    struct fuzz_guest guest;
    struct bus mmio;
    struct pmem pmem;
    int fd;
    unsigned int faults;
    unsigned int expected_faults;
};

static void on_fault(void *opaque)
{
    struct rig *g = opaque;

    g->faults++;
}

/* Most of them flushes: RAM is zero where nothing was answered. */
static void request(struct rig *g, struct bytes_reader *r)
{
    struct drive_buffer bufs[BUFS];
    uint8_t shape = bytes_get_u8(r);
    const le32 type = le32_put((shape & 7) == 7 ? shape : PMEM_REQ_FLUSH);
    uint16_t n = (uint16_t)(1 + (shape >> 3) % BUFS);

    if ((shape & 0x80) == 0) {
        fuzz_guest_put(&g->guest, 0, &type, sizeof(type));
        bufs[0] = (struct drive_buffer){FUZZ_TEXT, 4, false};
        bufs[1] = (struct drive_buffer){ANSWER, 4, true};
        n = 2;
    } else {
        for (uint16_t i = 0; i < n; i++)
            bufs[i] = fuzz_guest_buffer(r, i > shape % 4, 64);
    }
    fuzz_guest_add(&g->guest, 0, bufs, n, (shape & 0x40) != 0);
}

static void touch(struct rig *g, struct bytes_reader *r)
{
    uint64_t at = bytes_get_u32(r) % MAPPED;
    uint8_t how = bytes_get_u8(r);
    uint32_t len = UINT32_C(1) << (how & 3);
    bool is_write = (how & 4) != 0;
    uint8_t data[8] = {how};

    if (!bus_access(&g->mmio, WINDOW + at, data, len, is_write))
        return;
    if (!is_write || !g->pmem.read_only)
        g->expected_faults++;
    fuzz_require(is_write || data[0] == 0xff);
}

static void set_rate(struct rig *g, uint8_t what)
{
    const struct rate_config rate = {
        .ops = {.size = what % 8, .refill_ms = 10, .burst = what >> 6},
        .bytes = {.size = what * UINT64_C(0x10000), .refill_ms = what % 4}};

    fuzz_require(pmem_set_rate(&g->pmem, &rate, NULL) == 0);
}

static void check_used(struct rig *g)
{
    uint32_t id;
    uint32_t len;
    le32 status;

    while (drive_get_used(&g->guest.queues[0], &id, &len))
        fuzz_require(g->guest.wild ||
                     (id < g->guest.queues[0].size && len == sizeof(status)));
    fuzz_require(
        gmem_read(g->guest.mem, gpa(ANSWER), &status, sizeof(status)) == 0);
    fuzz_require(g->guest.wild || le32_get(status) <= PMEM_RESP_EIO);
}

static void step(struct rig *g, struct bytes_reader *r)
{
    uint8_t what = bytes_get_u8(r);

    if (what < 0x70)
        request(g, r);
    else if (what < 0xe0)
        fuzz_guest_step(&g->guest, r);
    else if (what < 0xf0)
        touch(g, r);
    else if (what < 0xf8)
        set_rate(g, bytes_get_u8(r));
    else
        fuzz_kernel_fail(
            FUZZ_KERNEL_SYNC, what & 1, what < 0xfc ? EIO : ENOSPC);
    if ((what & 1) == 0)
        fuzz_guest_kick(&g->guest, 0);
    fuzz_guest_check(&g->guest, true);
    fuzz_require(g->pmem.syncing == NULL);
    fuzz_require(g->pmem.state.start == WINDOW && g->pmem.state.size == MAPPED);
    check_used(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    struct pmem_config config = {.id = "pmem",
        .start = WINDOW,
        .size = MAPPED,
        .on_fault = on_fault,
        .opaque = g};
    struct virtio_host host;
    struct bytes_reader r;
    uint8_t wish;

    log_set_level(LOG_ERR);
    bytes_reader_init(&r, data, size);
    host = fuzz_guest_prepare(&g->guest, bytes_get_u8(&r));
    wish = bytes_get_u8(&r);
    config.read_only = (wish & 0x10) != 0;
    if ((wish & 0x20) != 0)
        config.rate.ops =
            (struct rate_bucket_config){.size = 4, .refill_ms = 1, .burst = 2};
    if ((wish & 0xc0) == 0xc0)
        config.on_fault = NULL;
    g->fd = fuzz_kernel_listen();
    config.fd = g->fd;
    g->faults = 0;
    g->expected_faults = 0;
    bus_init(&g->mmio);
    if (pmem_init(&g->pmem, &config, &host, NULL) == 0) {
        fuzz_require(bus_add(&g->mmio, WINDOW, MAPPED, &g->pmem.window) == 0);
        fuzz_guest_start(&g->guest, &g->pmem.virtio, 1, wish, 0);
        while (bytes_left(&r) > 0)
            step(g, &r);
        fuzz_guest_finish(&g->guest, data, size);
        fuzz_require(
            config.on_fault == NULL || g->faults == g->expected_faults);
        fuzz_require(!g->pmem.read_only || g->pmem.stats.syncs == 0);
        pmem_fini(&g->pmem);
    }
    fd_closep(&g->fd);
    fuzz_guest_end(&g->guest);
    return 0;
}
