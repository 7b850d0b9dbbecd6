/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console with a sink that takes as much as it likes, input, chains of
 * any shape and loads of a changed state. Nothing stays in flight, and the
 * sink is not called between its refusal and vconsole_sink_ready.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/drive_queue.h"
#include "virtio/vconsole.h"
#include "vmm/base/bytes.h"
#include "vmm/base/num.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM   NUM_MIB
#define RINGS UINT64_C(0x1000)
#define APART UINT64_C(0x2000)
#define TABLE UINT64_C(0x6000)
#define DATA  UINT64_C(0x10000)
#define SIZE  ((uint16_t)16)
#define BUFS  4u

/*
 * The places of the rings in a saved state. They stay as they are: a used ring
 * over the available one makes work of every answer, without end.
 */
#define PLACES     32u
#define PLACES_LEN ((unsigned int)VIRTIO_QUEUES_MAX * 3 * 8)

struct rig {
    struct gmem mem;
    struct vconsole c;
    struct device *dev;
    struct drive_queue d[VCONSOLE_QUEUES];
    size_t room;  /* bytes that the sink takes before it is full */
    bool is_full; /* it has refused some */
};

static size_t sink_write(void *opaque, const uint8_t *data, size_t len)
{
    struct rig *g = opaque;
    size_t n = num_min(len, g->room);
    volatile uint8_t last = data[len - 1];

    (void)last;
    g->room -= n;
    g->is_full = n < len;
    return n;
}

static void begin(struct rig *g, uint64_t features)
{
    g->is_full = false;
    drive_write(g->dev, VIRTIO_MMIO_STATUS, 0);
    for (uint32_t i = 0; i < VCONSOLE_QUEUES; i++)
        drive_queue_init(&g->d[i], &g->mem, RINGS + i * APART, SIZE);
    drive_start(g->dev, features, g->d, VCONSOLE_QUEUES);
}

static void request(struct rig *g, struct bytes_reader *r, uint32_t queue)
{
    struct drive_buffer bufs[BUFS];
    uint8_t shape = bytes_get_u8(r);
    uint16_t n = (uint16_t)(1 + shape % BUFS);
    bool writable = (queue == VCONSOLE_QUEUE_RX) != ((shape & 0xe0) == 0xe0);

    for (uint16_t i = 0; i < n; i++) {
        uint16_t at = bytes_get_u16(r);
        uint8_t len = bytes_get_u8(r);

        bufs[i] = (struct drive_buffer){.addr = DATA + at * UINT64_C(16),
            .len = (len & 0x80) != 0 ? (uint32_t)len << 11 : len,
            .writable = writable};
    }
    if ((shape & 0x10) != 0)
        (void)drive_add_indirect(&g->d[queue], TABLE, bufs, n);
    else
        (void)drive_add(&g->d[queue], bufs, n);
}

static void poke(struct rig *g, struct bytes_reader *r)
{
    uint16_t at = bytes_get_u16(r) % (2 * APART);
    uint8_t byte = bytes_get_u8(r);

    if (gmem_write(&g->mem, gpa(RINGS + at), &byte, 1) < 0)
        abort();
}

static void input(struct rig *g, struct bytes_reader *r)
{
    static const uint8_t text[4096];
    size_t len = bytes_get_u8(r) * 16u;
    size_t n = vconsole_receive(&g->c, text, len);

    assert(n <= len);
    (void)n;
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
    g->is_full = false;
    bytes_writer_init(&w, wire, sizeof(wire));
    state_save(desc, &g->c.state, &w);
    assert(!w.failed);
    at = (uint16_t)(at % (w.pos - PLACES_LEN));
    wire[at < PLACES ? at : at + PLACES_LEN] ^= bytes_get_u8(r);
    bytes_reader_init(&from, wire, w.pos);
    rc = state_load(desc, desc->version, &from, &g->c.state);
    assert(rc == 0);
    rc = g->dev->ops->post_load(g->dev, NULL);
    assert(rc == 0 || g->c.state.virtio.status == 0);
    (void)rc;
    g->dev->ops->resume(g->dev);
}

static void step(struct rig *g, struct bytes_reader *r, uint64_t features)
{
    uint8_t what = bytes_get_u8(r);

    switch (what % 8) {
    case 0:
    case 1:
        request(g, r, what % 2);
        drive_kick(g->dev, what % 2);
        break;
    case 2:
        poke(g, r);
        break;
    case 3:
        g->room += (size_t)bytes_get_u8(r) << (what >> 4);
        g->is_full = false;
        vconsole_sink_ready(&g->c);
        break;
    case 4:
        input(g, r);
        break;
    case 5:
        drive_write(g->dev, VIRTIO_MMIO_CONFIG + (what >> 3) * 4u, what);
        break;
    case 6:
        reload(g, r);
        break;
    default:
        if ((what & 0x80) != 0)
            begin(g, features);
        else
            vconsole_set_size(&g->c, what, bytes_get_u16(r));
        break;
    }
    assert(g->c.virtio.queues[VCONSOLE_QUEUE_RX].q.inflight == 0);
    assert(g->c.virtio.queues[VCONSOLE_QUEUE_TX].q.inflight == 0);
    assert(!g->c.tx_stalled || g->is_full);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    const struct vconsole_host end = {.write = sink_write, .opaque = g};
    const struct virtio_host host = {.mem = &g->mem, .irq = {.fd = -1}};
    struct bytes_reader r;
    uint64_t features = VIRTIO_F_VERSION_1;
    uint8_t wish;

    if (g->mem.host == NULL && gmem_init(&g->mem, RAM, NULL) < 0)
        abort();
    if (vconsole_init(&g->c, "hvc0", &end, &host, NULL) < 0)
        abort();
    g->dev = &g->c.virtio.base;
    bytes_reader_init(&r, data, size);
    wish = bytes_get_u8(&r);
    if ((wish & 1) != 0)
        features |= VIRTIO_F_INDIRECT_DESC;
    if ((wish & 2) != 0)
        features |= VIRTIO_F_EVENT_IDX;
    if ((wish & 4) != 0)
        features |= VCONSOLE_F_SIZE | VCONSOLE_F_EMERG_WRITE;
    g->room = (size_t)wish << 4;
    begin(g, features);
    while (bytes_left(&r) > 0)
        step(g, &r, features);
    g->dev->ops->reset(g->dev);
    vconsole_fini(&g->c);
    return 0;
}
