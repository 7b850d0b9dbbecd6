/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entropy device with chains of any shape, a limit or none, and a host
 * that is short of random bytes. What every device must stand is played and
 * checked by fuzz_guest; here, that no more is counted as written than fits.
 */
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/support/fuzz_guest.h"
#include "virtio/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BUFS 5u

static void request(struct fuzz_guest *g, struct bytes_reader *r)
{
    struct drive_buffer bufs[BUFS];
    uint8_t shape = bytes_get_u8(r);
    uint16_t n = (uint16_t)(1 + shape % BUFS);

    for (uint16_t i = 0; i < n; i++)
        bufs[i] =
            fuzz_guest_buffer(r, shape < 0xf0 || (shape >> i & 1) != 0, 4096);
    fuzz_guest_add(g, 0, bufs, n, (shape & 0x40) != 0);
}

static void check_used(struct fuzz_guest *g)
{
    uint32_t id;
    uint32_t len;

    while (!g->wild && drive_get_used(&g->queues[0], &id, &len))
        fuzz_require(id < FUZZ_QUEUE_SIZE && len <= RNG_CHAIN_BYTES);
}

static void set_rate(struct rng *rng, uint8_t what)
{
    const struct rate_config rate = {
        .bytes = {.size = what * UINT64_C(64), .refill_ms = 100},
        .ops = {.size = what % 4, .refill_ms = 10}};

    fuzz_require(rng_set_rate(rng, &rate, NULL) == 0);
}

static void step(struct fuzz_guest *g, struct rng *rng, struct bytes_reader *r)
{
    uint8_t what = bytes_get_u8(r);

    if (what < 0x80)
        request(g, r);
    else if (what < 0xf0)
        fuzz_guest_step(g, r);
    else
        set_rate(rng, bytes_get_u8(r));
    if ((what & 1) == 0)
        fuzz_guest_kick(g, 0);
    fuzz_guest_check(g, true);
    check_used(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz_guest guest;
    static struct rng rng;
    struct fuzz_guest *g = &guest;
    struct rng_config config = {.id = "rng"};
    struct virtio_host host;
    struct bytes_reader r;
    uint8_t limit;

    bytes_reader_init(&r, data, size);
    host = fuzz_guest_prepare(g, bytes_get_u8(&r));
    limit = bytes_get_u8(&r);
    if (limit >= 0x80)
        config.rate.bytes = (struct rate_bucket_config){
            .size = limit * UINT64_C(16), .refill_ms = 50, .burst = limit};
    if (rng_init(&rng, &config, &host, NULL) == 0) {
        fuzz_guest_start(g, &rng.virtio, 1, bytes_get_u8(&r), 0);
        g->eager = g->has_loop ? 0 : 1;
        while (bytes_left(&r) > 0)
            step(g, &rng, &r);
        fuzz_guest_finish(g, data, size);
        rng_fini(&rng);
    }
    fuzz_guest_end(g);
    return 0;
}
