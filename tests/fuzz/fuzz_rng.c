/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entropy device with chains of any shape, broken rings, resets and loads
 * of a state that was changed. Nothing stays in flight, and nothing outside
 * the buffers of the driver is written to.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/rng.h"
#include "vmm/base/bytes.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM   NUM_MIB
#define RINGS UINT64_C(0x1000)
#define TABLE UINT64_C(0x4000)
#define DATA  UINT64_C(0x10000)
#define SIZE  ((uint16_t)16)
#define BUFS  5u

/*
 * The places of the rings in a saved state. They stay as they are: a used ring
 * over the available one makes work of every answer, without end.
 */
#define PLACES     32u
#define PLACES_LEN ((unsigned int)VIRTIO_QUEUES_MAX * 3 * 8)

struct rig {
    struct gmem mem;
    struct rng rng;
    struct device *dev;
    struct drive_queue d;
};

static void begin(struct rig *g, uint64_t features)
{
    drive_write(g->dev, VIRTIO_MMIO_STATUS, 0);
    drive_queue_init(&g->d, &g->mem, RINGS, SIZE);
    drive_start(g->dev, features, &g->d, 1);
}

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
            .writable = (shape & 0x80) == 0 || (len & 1) != 0};
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
    state_save(desc, &g->rng.state, &w);
    assert(!w.failed);
    at = (uint16_t)(at % (w.pos - PLACES_LEN));
    wire[at < PLACES ? at : at + PLACES_LEN] ^= bytes_get_u8(r);
    bytes_reader_init(&from, wire, w.pos);
    rc = state_load(desc, desc->version, &from, &g->rng.state);
    assert(rc == 0);
    rc = g->dev->ops->post_load(g->dev, NULL);
    assert(rc == 0 || g->rng.state.virtio.status == 0);
    (void)rc;
    g->dev->ops->resume(g->dev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    const struct rng_config config = {.id = "rng"};
    struct bytes_reader r;
    uint64_t features = VIRTIO_F_VERSION_1;
    uint8_t wish;

    if (g->mem.host == NULL && gmem_init(&g->mem, RAM, NULL) < 0)
        abort();
    if (rng_init(&g->rng, &config,
            &(struct virtio_host){.mem = &g->mem, .irq = {.fd = -1}}, NULL) < 0)
        abort();
    g->dev = &g->rng.virtio.base;
    bytes_reader_init(&r, data, size);
    wish = bytes_get_u8(&r);
    if ((wish & 1) != 0)
        features |= VIRTIO_F_INDIRECT_DESC;
    if ((wish & 2) != 0)
        features |= VIRTIO_F_EVENT_IDX;
    begin(g, features);
    while (bytes_left(&r) > 0) {
        uint8_t what = bytes_get_u8(&r);

        if (what % 8 < 4)
            request(g, &r);
        else if (what % 8 == 4)
            poke(g, &r);
        else if (what % 8 == 5)
            begin(g, features);
        else if (what % 8 == 6)
            reload(g, &r);
        drive_kick(g->dev, 0);
        assert(g->rng.virtio.queues[0].q.inflight == 0);
    }
    g->dev->ops->reset(g->dev);
    rng_fini(&g->rng);
    return 0;
}
