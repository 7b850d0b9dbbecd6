/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/hash.h"

#include <assert.h>
#include <errno.h>
#include <xxhash.h>

#include "vmm/base/num.h"

_Static_assert(
    sizeof(XXH128_canonical_t) == sizeof(struct hash128), "canonical form");

static struct hash128 to_canonical(XXH128_hash_t hash)
{
    XXH128_canonical_t canonical;
    struct hash128 result;

    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(result.b, canonical.digest, sizeof(result.b));
    return result;
}

struct hash128 hash_bytes(const void *data, size_t size)
{
    return to_canonical(XXH3_128bits(data, size));
}

void hash_pages(const void *data, size_t count, struct hash128 *ret_hashes)
{
    const uint8_t *page = data;

    for (size_t i = 0; i < count; i++)
        ret_hashes[i] = hash_bytes(page + i * NUM_PAGE_SIZE, NUM_PAGE_SIZE);
}

void hash_to_text(const struct hash128 *hash, char ret_text[HASH_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < sizeof(hash->b); i++) {
        ret_text[2 * i] = digits[hash->b[i] >> 4];
        ret_text[2 * i + 1] = digits[hash->b[i] & 15];
    }
    ret_text[HASH_TEXT_SIZE - 1] = '\0';
}

int hash_stream_init(struct hash_stream *stream)
{
    XXH3_state_t *state = XXH3_createState();

    if (state == NULL)
        return -ENOMEM;
    (void)XXH3_128bits_reset(state);
    stream->state = state;
    return 0;
}

void hash_stream_fini(struct hash_stream *stream)
{
    (void)XXH3_freeState(stream->state);
    stream->state = NULL;
}

void hash_stream_add(struct hash_stream *stream, const void *data, size_t size)
{
    if (size != 0)
        (void)XXH3_128bits_update(stream->state, data, size);
}

struct hash128 hash_stream_end(const struct hash_stream *stream)
{
    return to_canonical(XXH3_128bits_digest(stream->state));
}
