/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The balloon with lists of pages that are mostly RAM, its own rings among
 * them, hints and reports of any shape, statistics, and loads of a changed
 * state. Nothing stays in flight.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/balloon.h"
#include "vmm/base/bytes.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM   NUM_MIB
#define RINGS UINT64_C(0x1000)
#define APART UINT64_C(0x1000)
#define LIST  UINT64_C(0x10000)
#define SIZE  ((uint16_t)16)

/*
 * The places of the rings in a saved state. They stay as they are: a used ring
 * over the available one makes work of every answer, without end.
 */
#define PLACES     32u
#define PLACES_LEN ((unsigned int)VIRTIO_QUEUES_MAX * 3 * 8)

struct rig {
    struct gmem mem;
    struct balloon b;
    struct device *dev;
    struct drive_queue d[BALLOON_ROLES];
};

static void begin(struct rig *g, uint64_t features)
{
    drive_write(g->dev, VIRTIO_MMIO_STATUS, 0);
    for (uint32_t i = 0; i < BALLOON_ROLES; i++)
        drive_queue_init(&g->d[i], &g->mem, RINGS + i * APART, SIZE);
    drive_start(g->dev, features, g->d, BALLOON_ROLES);
}

static void put(struct rig *g, uint64_t at, const void *src, size_t len)
{
    if (gmem_write(&g->mem, gpa(at), src, len) < 0)
        abort();
}

/* A list of `n` times four bytes: pages, statistics or a command id. */
static uint32_t put_list(struct rig *g, struct bytes_reader *r)
{
    uint8_t n = bytes_get_u8(r);
    uint16_t first = bytes_get_u16(r);
    uint8_t step = bytes_get_u8(r);

    for (uint32_t i = 0; i < n; i++) {
        const le32 wire = le32_put((uint32_t)(first % 260 + i * (step % 7)));

        put(g, LIST + i * sizeof(wire), &wire, sizeof(wire));
    }
    /* Seldom an odd number of bytes. */
    return n * 4u + (step == 255);
}

static void request(struct rig *g, struct bytes_reader *r, uint32_t queue)
{
    struct drive_buffer bufs[3];
    uint8_t shape = bytes_get_u8(r);
    uint16_t n = 0;

    if ((shape & 3) != 3)
        bufs[n++] = (struct drive_buffer){LIST, put_list(g, r), false};
    if ((shape & 4) != 0) {
        bufs[n++] = (struct drive_buffer){.addr = bytes_get_u16(r) * 16u,
            .len = (uint32_t)bytes_get_u8(r) << (shape >> 4),
            .writable = true};
    }
    if (n == 0 || (shape & 8) != 0)
        bufs[n++] = (struct drive_buffer){LIST * 2, 4096, true};
    (void)drive_add(&g->d[queue], bufs, n);
}

static void poke(struct rig *g, struct bytes_reader *r)
{
    uint16_t at = bytes_get_u16(r) % (BALLOON_ROLES * APART);
    uint8_t byte = bytes_get_u8(r);

    put(g, RINGS + at, &byte, 1);
}

static void ask(struct rig *g, uint8_t what, struct bytes_reader *r)
{
    switch (what >> 4) {
    case 0:
        (void)balloon_poll_stats(&g->b);
        break;
    case 1:
    case 2:
        if (balloon_start_hinting(&g->b, what >> 4 == 1, NULL) == 0)
            assert(g->b.state.host_cmd >= BALLOON_CMD_FIRST);
        break;
    case 3:
        balloon_stop_hinting(&g->b);
        assert(g->b.state.host_cmd < BALLOON_CMD_FIRST);
        break;
    case 4:
        if (balloon_set_target(&g->b, bytes_get_u16(r), NULL) == 0)
            assert(g->b.state.target <= RAM / NUM_PAGE_SIZE);
        break;
    default:
        drive_write(
            g->dev, VIRTIO_MMIO_CONFIG + (what >> 6) * 4u, bytes_get_u16(r));
        break;
    }
}

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
    state_save(desc, &g->b.state, &w);
    assert(!w.failed);
    at = (uint16_t)(at % (w.pos - PLACES_LEN));
    wire[at < PLACES ? at : at + PLACES_LEN] ^= bytes_get_u8(r);
    bytes_reader_init(&from, wire, w.pos);
    rc = state_load(desc, desc->version, &from, &g->b.state);
    assert(rc == 0);
    rc = g->dev->ops->post_load(g->dev, NULL);
    assert(rc == 0 || g->b.state.virtio.status == 0);
    (void)rc;
    g->dev->ops->resume(g->dev);
}

static void step(struct rig *g, struct bytes_reader *r, uint64_t features)
{
    uint8_t what = bytes_get_u8(r);

    if (what % 16 < 10) {
        request(g, r, what % BALLOON_ROLES);
        drive_kick(g->dev, what % BALLOON_ROLES);
    } else if (what % 16 < 12) {
        poke(g, r);
    } else if (what % 16 < 14) {
        ask(g, what, r);
    } else if (what % 16 == 14) {
        reload(g, r);
    } else {
        begin(g, features);
    }
    for (uint32_t i = 0; i < BALLOON_ROLES; i++)
        assert(g->b.virtio.queues[i].q.inflight == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    const struct balloon_config config = {.id = "balloon",
        .stats_interval_ms = 1000,
        .deflate_on_oom = true,
        .page_hinting = true,
        .page_reporting = true};
    const struct virtio_host host = {.mem = &g->mem, .irq = {.fd = -1}};
    struct bytes_reader r;
    uint64_t features = VIRTIO_F_VERSION_1;
    uint8_t wish;

    if (g->mem.host == NULL && gmem_init(&g->mem, RAM, NULL) < 0)
        abort();
    if (balloon_init(&g->b, &config, &host, NULL) < 0)
        abort();
    g->dev = &g->b.virtio.base;
    bytes_reader_init(&r, data, size);
    wish = bytes_get_u8(&r);
    if ((wish & 1) != 0)
        features |= VIRTIO_F_EVENT_IDX;
    features |= (uint64_t)(~wish & 0x2e);
    begin(g, features);
    while (bytes_left(&r) > 0)
        step(g, &r, features);
    assert(g->b.stats.failed == 0);
    g->dev->ops->reset(g->dev);
    balloon_fini(&g->b);
    return 0;
}
