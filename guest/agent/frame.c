/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/frame.h"

#include <errno.h>
#include <string.h>

#define HEADER sizeof(struct agent_frame)

void frame_in_init(struct frame_in *in)
{
    in->start = 0;
    in->end = 0;
}

void frame_out_init(struct frame_out *out)
{
    out->start = 0;
    out->end = 0;
}

uint8_t *frame_in_space(struct frame_in *in, size_t *ret_room)
{
    if (in->start == in->end) {
        in->start = 0;
        in->end = 0;
    } else if (in->start > 0) {
        memmove(in->buf, in->buf + in->start, in->end - in->start);
        in->end -= in->start;
        in->start = 0;
    }
    *ret_room = sizeof(in->buf) - in->end;
    return in->buf + in->end;
}

void frame_in_commit(struct frame_in *in, size_t n)
{
    assert(n <= sizeof(in->buf) - in->end);
    in->end += n;
}

int frame_in_next(struct frame_in *in, struct frame_view *ret_frame)
{
    size_t have = in->end - in->start;
    struct agent_frame header;
    uint32_t length;

    if (have < HEADER)
        return 0;
    memcpy(&header, in->buf + in->start, HEADER);
    length = agent_le32_get(header.length);
    if (length > AGENT_PAYLOAD_MAX || agent_le16_get(header.flags) != 0)
        return -EPROTO;
    if (have - HEADER < length)
        return 0;
    ret_frame->type = agent_le16_get(header.type);
    ret_frame->payload = in->buf + in->start + HEADER;
    ret_frame->length = length;
    in->start += HEADER + length;
    return 1;
}

size_t frame_out_room(const struct frame_out *out)
{
    size_t used = out->end + HEADER + FRAME_OUT_RESERVE;
    size_t room;

    if (used >= sizeof(out->buf))
        return 0;
    room = sizeof(out->buf) - used;
    return room < AGENT_PAYLOAD_MAX ? room : AGENT_PAYLOAD_MAX;
}

uint8_t *frame_out_space(struct frame_out *out)
{
    assert(frame_out_room(out) > 0);
    return out->buf + out->end + HEADER;
}

static void put_header(struct frame_out *out, uint16_t type, size_t length)
{
    struct agent_frame header = {
        .length = agent_le32_put((uint32_t)length),
        .type = agent_le16_put(type),
    };

    memcpy(out->buf + out->end, &header, HEADER);
}

void frame_out_commit(struct frame_out *out, uint16_t type, size_t n)
{
    assert(n <= frame_out_room(out));
    put_header(out, type, n);
    out->end += HEADER + n;
}

bool frame_out_put(struct frame_out *out, uint16_t type, const void *head,
    size_t head_len, const void *body, size_t body_len)
{
    size_t room = sizeof(out->buf) - out->end;

    if (head_len > AGENT_PAYLOAD_MAX ||
        body_len > AGENT_PAYLOAD_MAX - head_len ||
        room < HEADER + head_len + body_len)
        return false;
    put_header(out, type, head_len + body_len);
    out->end += HEADER;
    if (head_len > 0)
        memcpy(out->buf + out->end, head, head_len);
    out->end += head_len;
    if (body_len > 0)
        memcpy(out->buf + out->end, body, body_len);
    out->end += body_len;
    return true;
}

uint8_t *frame_out_raw_space(struct frame_out *out, size_t *ret_room)
{
    size_t have = out->end - out->start;

    if (out->start > 0) {
        memmove(out->buf, out->buf + out->start, have);
        out->start = 0;
        out->end = have;
    }
    *ret_room = sizeof(out->buf) - out->end;
    return out->buf + out->end;
}

void frame_out_raw_commit(struct frame_out *out, size_t n)
{
    assert(n <= sizeof(out->buf) - out->end);
    out->end += n;
}

void frame_out_sent(struct frame_out *out, size_t n)
{
    assert(n <= frame_out_pending(out));
    out->start += n;
    if (out->start == out->end) {
        out->start = 0;
        out->end = 0;
    }
}
