/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/iov.h"

#include <assert.h>

#include "vmm/base/num.h"

struct iov_cursor iov_readable(const struct queue_chain *chain)
{
    return (struct iov_cursor){
        .slice = queue_chain_readable(chain), .left = chain->readable_bytes};
}

struct iov_cursor iov_writable(const struct queue_chain *chain)
{
    return (struct iov_cursor){
        .slice = queue_chain_writable(chain), .left = chain->writable_bytes};
}

/* Bytes up to `len` that lie in the current slice. */
static uint64_t here(const struct iov_cursor *c, uint64_t len)
{
    return num_min(len, c->slice->len - c->offset);
}

/* Passes over `n` bytes of the current slice. */
static void step(struct iov_cursor *c, uint64_t n)
{
    c->offset += n;
    c->left -= n;
    if (c->offset == c->slice->len) {
        c->slice++;
        c->offset = 0;
    }
}

bool iov_read(struct iov_cursor *c, void *dst, size_t len)
{
    uint8_t *to = dst;

    if (len > c->left)
        return false;
    while (len > 0) {
        uint64_t n = here(c, len);

        gslice_read(c->slice, c->offset, to, n);
        step(c, n);
        to += n;
        len -= n;
    }
    return true;
}

bool iov_write(struct iov_cursor *c, const void *src, size_t len)
{
    const uint8_t *from = src;

    if (len > c->left)
        return false;
    while (len > 0) {
        uint64_t n = here(c, len);

        gslice_write(c->slice, c->offset, from, n);
        step(c, n);
        from += n;
        len -= n;
    }
    return true;
}

bool iov_zero(struct iov_cursor *c, uint64_t len)
{
    static const uint8_t zeroes[NUM_PAGE_SIZE];

    if (len > c->left)
        return false;
    while (len > 0) {
        uint64_t n = num_min(here(c, len), sizeof(zeroes));

        gslice_write(c->slice, c->offset, zeroes, n);
        step(c, n);
        len -= n;
    }
    return true;
}

bool iov_skip(struct iov_cursor *c, uint64_t len)
{
    if (len > c->left)
        return false;
    while (len > 0) {
        uint64_t n = here(c, len);

        step(c, n);
        len -= n;
    }
    return true;
}

unsigned int iov_take(struct iov_cursor *c, uint64_t len, struct iovec *iov,
    unsigned int max, uint64_t *ret_bytes)
{
    unsigned int count = 0;
    uint64_t bytes = 0;

    len = num_min(len, c->left);
    while (bytes < len && count < max) {
        uint64_t n = here(c, len - bytes);

        iov[count] = gslice_iovec(c->slice);
        iov[count].iov_base = (uint8_t *)iov[count].iov_base + c->offset;
        iov[count].iov_len = n;
        step(c, n);
        bytes += n;
        count++;
    }
    *ret_bytes = bytes;
    return count;
}

void iov_mark_dirty(struct iov_cursor *c, uint64_t len)
{
    assert(len <= c->left);
    while (len > 0) {
        uint64_t n = here(c, len);

        gslice_mark_dirty(c->slice, c->offset, n);
        step(c, n);
        len -= n;
    }
}

unsigned int iov_join(struct iovec *iov, unsigned int count)
{
    unsigned int last = 0;

    if (count == 0)
        return 0;
    for (unsigned int i = 1; i < count; i++) {
        const uint8_t *end = (const uint8_t *)iov[last].iov_base;

        if (iov[i].iov_base == end + iov[last].iov_len)
            iov[last].iov_len += iov[i].iov_len;
        else
            iov[++last] = iov[i];
    }
    return last + 1;
}
