/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The persistent memory device with chains of any shape, broken rings, resets,
 * accesses that KVM hands out, and loads of a state that was changed. Nothing
 * stays in flight, an answer is one of two, and no load moves the mapping.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/pmem.h"
#include "vmm/base/bytes.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/core/bus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM    NUM_MIB
#define RINGS  UINT64_C(0x1000)
#define TABLE  UINT64_C(0x4000)
#define DATA   UINT64_C(0x10000)
#define WINDOW UINT64_C(0x100000000)
#define MAPPED (2 * NUM_MIB)
#define SIZE   ((uint16_t)16)
#define BUFS   5u
#define STEPS  24u /* an input's: more of them find nothing but time */

/*
 * The places of the rings in a saved state. They stay as they are: a used ring
 * over the available one makes work of every answer, without end.
 */
#define PLACES     32u
#define PLACES_LEN ((unsigned int)VIRTIO_QUEUES_MAX * 3 * 8)

struct rig {
    struct gmem mem;
    struct bus mmio;
    int fd;
    struct pmem pmem;
    struct device *dev;
    struct drive_queue d;
    unsigned int faults;
    unsigned int expected_faults;
};

static void on_fault(void *opaque)
{
    struct rig *g = opaque;

    g->faults++;
}

static void begin(struct rig *g, uint64_t features)
{
    drive_write(g->dev, VIRTIO_MMIO_STATUS, 0);
    drive_queue_init(&g->d, &g->mem, RINGS, SIZE);
    drive_start(g->dev, features, &g->d, 1);
}

/* Most of them flushes: DATA is zero where nothing was answered. */
static void request(struct rig *g, struct bytes_reader *r)
{
    struct drive_buffer bufs[BUFS];
    uint8_t shape = bytes_get_u8(r);
    uint16_t n = (uint16_t)(1 + shape % BUFS);

    for (uint16_t i = 0; i < n; i++) {
        uint16_t at = bytes_get_u16(r);
        uint8_t len = bytes_get_u8(r);

        bufs[i] = (struct drive_buffer){.addr = DATA + at * UINT64_C(16),
            .len = (len & 0x80) != 0 ? (uint32_t)len << 12 : len,
            .writable = (shape & 0x80) != 0 ? i > 0 : (len & 1) != 0};
    }
    if ((shape & 0x40) != 0)
        (void)drive_add_indirect(&g->d, TABLE, bufs, n);
    else
        (void)drive_add(&g->d, bufs, n);
}

static void poke(struct rig *g, struct bytes_reader *r)
{
    uint16_t at = bytes_get_u16(r) % 0x1000;
    uint8_t byte = bytes_get_u8(r);

    if (gmem_write(&g->mem, gpa(RINGS + at), &byte, 1) < 0)
        abort();
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
    assert(is_write || data[0] == 0xff);
}

/* A save, a byte of it changed, and the load: refused or taken. */
static void reload(struct rig *g, struct bytes_reader *r)
{
    const struct state_desc *desc = g->dev->ops->state;
    uint8_t wire[1024];
    struct bytes_writer w;
    struct bytes_reader from;
    uint16_t at = bytes_get_u16(r);
    int rc = g->dev->ops->quiesce(g->dev, NULL);

    assert(rc == 0);
    bytes_writer_init(&w, wire, sizeof(wire));
    state_save(desc, &g->pmem.state, &w);
    assert(!w.failed);
    at = (uint16_t)(at % (w.pos - PLACES_LEN));
    wire[at < PLACES ? at : at + PLACES_LEN] ^= bytes_get_u8(r);
    bytes_reader_init(&from, wire, w.pos);
    rc = state_load(desc, desc->version, &from, &g->pmem.state);
    assert(rc == 0);
    rc = g->dev->ops->post_load(g->dev, NULL);
    assert(rc == 0 || g->pmem.state.virtio.status == 0);
    assert(g->pmem.state.start == WINDOW && g->pmem.state.size == MAPPED);
    g->dev->ops->resume(g->dev);
}

static void init(struct rig *g, bool read_only)
{
    struct pmem_config config = {.id = "pmem",
        .start = WINDOW,
        .size = MAPPED,
        .read_only = read_only,
        .rate = {.ops = {.size = 4, .refill_ms = 1, .burst = 2}},
        .on_fault = on_fault,
        .opaque = g};
    const struct virtio_host host = {.mem = &g->mem, .irq = {.fd = -1}};

    if (g->mem.host == NULL) {
        log_set_level(LOG_ERR);
        g->fd = memfd_create("pmem", MFD_CLOEXEC);
        if (g->fd < 0 || gmem_init(&g->mem, RAM, NULL) < 0)
            abort();
    }
    config.fd = g->fd;
    g->faults = 0;
    g->expected_faults = 0;
    bus_init(&g->mmio);
    if (pmem_init(&g->pmem, &config, &host, NULL) < 0 ||
        bus_add(&g->mmio, WINDOW, MAPPED, &g->pmem.window) < 0)
        abort();
    g->dev = &g->pmem.virtio.base;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    struct bytes_reader r;
    uint64_t features = VIRTIO_F_VERSION_1;
    uint8_t wish;

    bytes_reader_init(&r, data, size);
    wish = bytes_get_u8(&r);
    init(g, (wish & 4) != 0);
    if ((wish & 1) != 0)
        features |= VIRTIO_F_INDIRECT_DESC;
    if ((wish & 2) != 0)
        features |= VIRTIO_F_EVENT_IDX;
    begin(g, features);
    for (unsigned int i = 0; i < STEPS && bytes_left(&r) > 0; i++) {
        uint8_t what = bytes_get_u8(&r);

        if (what % 8 < 3)
            request(g, &r);
        else if (what % 8 == 3)
            poke(g, &r);
        else if (what % 8 == 4)
            begin(g, features);
        else if (what % 8 == 5)
            reload(g, &r);
        else if (what % 8 == 6)
            touch(g, &r);
        drive_kick(g->dev, 0);
        assert(g->pmem.virtio.queues[0].q.inflight == 0);
        assert(g->pmem.syncing == NULL);
    }
    assert(g->faults == g->expected_faults);
    assert(!g->pmem.read_only || g->pmem.stats.syncs == 0);
    g->dev->ops->reset(g->dev);
    pmem_fini(&g->pmem);
    return 0;
}
