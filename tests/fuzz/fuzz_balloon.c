/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The balloon with lists of pages that are mostly RAM, its own rings seldom
 * among them, hints and reports of any shape, statistics, and a host that
 * cannot give pages back. What every device must stand is played and checked
 * by fuzz_guest: here among it that no page is given back but those that the
 * driver named.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "virtio/balloon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIRST_PFN (FUZZ_WRITABLE >> BALLOON_PFN_SHIFT)
#define PFNS      ((FUZZ_RAM - FUZZ_WRITABLE) >> BALLOON_PFN_SHIFT)

/* Of a list; what is behind it at FUZZ_TEXT is a command id. */
#define WORDS_MAX 63u
#define COMMAND   (WORDS_MAX * 4)

struct rig {
    struct fuzz_guest guest;
    struct balloon b;
};

/* A list of four-byte words: pages, statistics or a command id. */
static uint32_t put_list(struct rig *g, struct bytes_reader *r)
{
    le32 words[WORDS_MAX];
    uint8_t n = (uint8_t)(bytes_get_u8(r) % (WORDS_MAX + 1));
    uint16_t first = bytes_get_u16(r);
    uint8_t step = bytes_get_u8(r);
    uint32_t base = (uint32_t)FIRST_PFN;

    if (step >= 0xf0)
        base = 0;
    g->guest.wild = g->guest.wild || base == 0;
    for (uint32_t i = 0; i < WORDS_MAX; i++)
        words[i] = le32_put(base + (uint32_t)((first + i * (step % 7)) %
                                              (PFNS + (step > 200))));
    fuzz_guest_put(&g->guest, 0, words, sizeof(words));
    /* Seldom an odd number of bytes. */
    return n * 4u + (step == 255);
}

static void put_command(struct rig *g, uint8_t how, unsigned int queue)
{
    const uint32_t cmd = how < 0x80 ? g->b.state.host_cmd : how & 3u;
    const le32 wire = le32_put(cmd);

    fuzz_guest_put(&g->guest, COMMAND, &wire, sizeof(wire));
    /* As a page, it is any. */
    g->guest.wild = g->guest.wild || queue <= 1;
}

static void request(struct rig *g, struct bytes_reader *r, unsigned int queue)
{
    struct drive_buffer bufs[3];
    uint8_t shape = bytes_get_u8(r);
    uint16_t n = 0;

    if ((shape & 3) == 1) {
        put_command(g, bytes_get_u8(r), queue);
        bufs[n++] = (struct drive_buffer){FUZZ_TEXT + COMMAND, 4, false};
    } else if ((shape & 3) != 3) {
        bufs[n++] = (struct drive_buffer){FUZZ_TEXT, put_list(g, r), false};
        if ((shape & 0xf0) == 0x10)
            bufs[n++] = (struct drive_buffer){FUZZ_TEXT, 32, false};
    }
    if ((shape & 4) != 0)
        bufs[n++] = fuzz_guest_buffer(r, true, 0x20000);
    if (n == 0 || (n < 3 && (shape & 8) != 0))
        bufs[n++] = (struct drive_buffer){FUZZ_WRITABLE, 0x3000, true};
    fuzz_guest_add(&g->guest, queue, bufs, n, (shape & 0x20) != 0);
}

static void ask(struct rig *g, uint8_t what, struct bytes_reader *r)
{
    struct balloon *b = &g->b;

    switch (what >> 4) {
    case 0:
        (void)balloon_poll_stats(b);
        break;
    case 1:
    case 2:
        if (balloon_start_hinting(b, what >> 4 == 1, NULL) == 0)
            fuzz_require(b->state.host_cmd >= BALLOON_CMD_FIRST);
        break;
    case 3:
        balloon_stop_hinting(b);
        fuzz_require(b->state.host_cmd < BALLOON_CMD_FIRST);
        break;
    case 4:
        if (balloon_set_target(b, bytes_get_u16(r), NULL) == 0)
            fuzz_require(b->state.target <= FUZZ_RAM / NUM_PAGE_SIZE);
        break;
    case 5:
        if (balloon_set_interval(b, bytes_get_u16(r), NULL) == 0)
            fuzz_require(b->interval_ms > 0);
        break;
    case 6:
        if (b->state.last_cmd >= BALLOON_CMD_FIRST)
            b->state.last_cmd = UINT32_MAX;
        if (b->state.host_cmd >= BALLOON_CMD_FIRST)
            b->state.host_cmd = UINT32_MAX;
        break;
    default:
        drive_write(g->guest.dev, VIRTIO_MMIO_CONFIG + (what >> 6) * 4u,
            bytes_get_u16(r));
        break;
    }
}

static void step(struct rig *g, struct bytes_reader *r)
{
    uint8_t what = bytes_get_u8(r);
    uint64_t failed = g->b.stats.failed;

    if (what % 16 < 9) {
        request(g, r, what % g->guest.queue_count);
        if ((what & 0x80) == 0)
            fuzz_guest_kick(&g->guest, what % g->guest.queue_count);
    } else if (what % 16 < 12) {
        ask(g, what, r);
    } else {
        fuzz_guest_step(&g->guest, r);
    }
    fuzz_guest_check(&g->guest, true);
    /* Only calls that were made to fail do: one at a time. */
    fuzz_require(g->b.stats.failed <= failed + 1);
    fuzz_require(g->b.state.target <= FUZZ_RAM / NUM_PAGE_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct rig *g = &rig;
    struct balloon_config config = {.id = "balloon",
        .deflate_on_oom = true,
        .page_hinting = true,
        .page_reporting = true};
    struct virtio_host host;
    struct bytes_reader r;
    uint8_t wish;
    uint8_t offer;

    bytes_reader_init(&r, data, size);
    host = fuzz_guest_prepare(&g->guest, bytes_get_u8(&r));
    wish = bytes_get_u8(&r);
    offer = bytes_get_u8(&r);
    config.stats_interval_ms = (offer & 0x80) != 0 ? 0 : 100;
    config.target = offer;
    if (balloon_init(&g->b, &config, &host, NULL) == 0) {
        fuzz_guest_start(&g->guest, &g->b.virtio, BALLOON_ROLES, wish,
            (uint64_t)(uint8_t)~offer & 0x2e);
        while (bytes_left(&r) > 0)
            step(g, &r);
        fuzz_guest_finish(&g->guest, data, size);
        balloon_fini(&g->b);
    }
    fuzz_guest_end(&g->guest);
    return 0;
}
