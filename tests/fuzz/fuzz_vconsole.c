/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console with a sink that takes as much as it likes, input, and chains of
 * any shape. What every device must stand is played and checked by fuzz_guest;
 * here, that the sink is not called between its refusal and
 * vconsole_sink_ready, and that what it took is what is counted.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "virtio/vconsole.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BUFS 4u

struct rig {
    struct fuzz_guest guest;
    struct vconsole c;
    size_t room;    /* bytes that the sink takes before it is full */
    bool is_full;   /* it has refused some */
    bool emergency; /* which are written to a full sink, too */
    bool told_room;
    uint64_t taken;
};

static size_t sink_write(void *opaque, const uint8_t *data, size_t len)
{
    struct rig *g = opaque;
    size_t n = (size_t)num_min(len, g->room);
    volatile uint8_t last = data[len - 1];

    (void)last;
    fuzz_require(len > 0 && (g->emergency || !g->is_full));
    g->room -= n;
    g->taken += n;
    g->is_full = g->is_full || (n < len && !g->emergency);
    return n;
}

static void sink_room(void *opaque)
{
    struct rig *g = opaque;

    g->told_room = true;
}

static void request(struct rig *g, struct bytes_reader *r, unsigned int queue)
{
    struct drive_buffer bufs[BUFS];
    uint8_t shape = bytes_get_u8(r);
    uint16_t n = (uint16_t)(1 + shape % BUFS);
    bool writable = (queue == VCONSOLE_QUEUE_RX) != (shape >= 0xf0);

    for (uint16_t i = 0; i < n; i++)
        bufs[i] = fuzz_guest_buffer(
            r, writable, (shape & 0x60) == 0x60 ? 0x20000 : 300);
    fuzz_guest_add(&g->guest, queue, bufs, n, (shape & 0x10) != 0);
}

static void input(struct rig *g, struct bytes_reader *r)
{
    static const uint8_t text[4096];
    size_t len = bytes_get_u8(r) * 16u;
    size_t n = vconsole_receive(&g->c, text, len);

    fuzz_require(n <= len);
    fuzz_require(g->c.rx_refused == (n < len));
}

static void emergency(struct rig *g, uint8_t what)
{
    g->emergency = true;
    drive_write(g->guest.dev, VIRTIO_MMIO_CONFIG + (what >> 5) % 4 * 4u, what);
    g->emergency = false;
}

static void step(struct rig *g, struct bytes_reader *r)
{
    uint8_t what = bytes_get_u8(r);

    switch (what % 8) {
    case 0:
    case 1:
        request(g, r, what % 2);
        if ((what & 0x80) == 0)
            fuzz_guest_kick(&g->guest, what % 2);
        break;
    case 2:
        g->room += (size_t)bytes_get_u8(r) << (what >> 4);
        g->is_full = false;
        vconsole_sink_ready(&g->c);
        break;
    case 3:
        input(g, r);
        break;
    case 4:
        emergency(g, what);
        break;
    case 5:
        vconsole_set_size(&g->c, what, bytes_get_u16(r));
        break;
    default:
        /* A driver that starts over is written out again: the sink knows. */
        g->emergency = true;
        fuzz_guest_step(&g->guest, r);
        g->emergency = false;
        g->is_full = g->c.tx_stalled;
        break;
    }
    fuzz_guest_check(&g->guest, true);
    fuzz_require(!g->c.tx_stalled || g->is_full);
    fuzz_require(g->taken == g->c.stats.tx_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    struct vconsole_host end = {
        .write = sink_write, .room = sink_room, .opaque = g};
    struct virtio_host host;
    struct bytes_reader r;
    uint8_t wish;

    bytes_reader_init(&r, data, size);
    host = fuzz_guest_prepare(&g->guest, bytes_get_u8(&r));
    wish = bytes_get_u8(&r);
    g->room = (size_t)wish << 4;
    g->is_full = false;
    g->told_room = false;
    g->taken = 0;
    if (vconsole_init(&g->c, "hvc0", &end, &host, NULL) == 0) {
        fuzz_guest_start(&g->guest, &g->c.virtio, VCONSOLE_QUEUES, wish,
            (wish & 0x10) != 0 ? VCONSOLE_F_SIZE | VCONSOLE_F_EMERG_WRITE : 0);
        while (bytes_left(&r) > 0)
            step(g, &r);
        fuzz_guest_finish(&g->guest, data, size);
        vconsole_fini(&g->c);
    }
    fuzz_guest_end(&g->guest);
    return 0;
}
