/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/bytes.h"

#include <string.h>

#include "vmm/base/num.h"

void bytes_reader_init(struct bytes_reader *r, const void *data, size_t size)
{
    *r = (struct bytes_reader){.data = data, .size = size};
}

bool bytes_reader_sub(const struct bytes_reader *r, uint64_t offset,
    uint64_t len, struct bytes_reader *ret_sub)
{
    if (!num_range_within(offset, len, r->size))
        return false;
    bytes_reader_init(ret_sub, len == 0 ? NULL : r->data + offset, len);
    return true;
}

void bytes_seek(struct bytes_reader *r, uint64_t offset)
{
    if (offset > r->size)
        r->failed = true;
    else
        r->pos = offset;
}

const uint8_t *bytes_take(struct bytes_reader *r, uint64_t len)
{
    static const uint8_t nothing[1];
    const uint8_t *p;

    if (r->failed || len > r->size - r->pos) {
        r->failed = true;
        return NULL;
    }
    /* An empty reader may have no data at all. */
    p = r->data == NULL ? nothing : r->data + r->pos;
    r->pos += len;
    return p;
}

void bytes_skip(struct bytes_reader *r, uint64_t len)
{
    (void)bytes_take(r, len);
}

void bytes_get(struct bytes_reader *r, void *dst, size_t len)
{
    const uint8_t *p = bytes_take(r, len);

    if (p == NULL)
        memset(dst, 0, len);
    else
        memcpy(dst, p, len);
}

uint8_t bytes_get_u8(struct bytes_reader *r)
{
    uint8_t v;

    bytes_get(r, &v, sizeof(v));
    return v;
}

uint16_t bytes_get_u16(struct bytes_reader *r)
{
    uint16_t v;

    bytes_get(r, &v, sizeof(v));
    return v;
}

uint32_t bytes_get_u32(struct bytes_reader *r)
{
    uint32_t v;

    bytes_get(r, &v, sizeof(v));
    return v;
}

uint64_t bytes_get_u64(struct bytes_reader *r)
{
    uint64_t v;

    bytes_get(r, &v, sizeof(v));
    return v;
}

void bytes_writer_init(struct bytes_writer *w, void *data, size_t size)
{
    *w = (struct bytes_writer){.data = data, .size = size};
}

void bytes_put(struct bytes_writer *w, const void *src, size_t len)
{
    if (w->failed || len > w->size - w->pos) {
        w->failed = true;
        return;
    }
    if (len != 0)
        memcpy(w->data + w->pos, src, len);
    w->pos += len;
}

void bytes_put_zero(struct bytes_writer *w, size_t len)
{
    if (w->failed || len > w->size - w->pos) {
        w->failed = true;
        return;
    }
    if (len != 0)
        memset(w->data + w->pos, 0, len);
    w->pos += len;
}

void bytes_put_u8(struct bytes_writer *w, uint8_t v)
{
    bytes_put(w, &v, sizeof(v));
}

void bytes_put_u16(struct bytes_writer *w, uint16_t v)
{
    bytes_put(w, &v, sizeof(v));
}

void bytes_put_u32(struct bytes_writer *w, uint32_t v)
{
    bytes_put(w, &v, sizeof(v));
}

void bytes_put_u64(struct bytes_writer *w, uint64_t v)
{
    bytes_put(w, &v, sizeof(v));
}
