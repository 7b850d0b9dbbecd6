/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two buffers of a connection: bytes received and not yet taken as frames,
 * and frames made and not yet sent. No I/O here. One thread. The content of
 * frame_in is the peer's; its length word is checked before it is used.
 */
#ifndef GUEST_AGENT_FRAME_H
#define GUEST_AGENT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/agent/proto.h"

struct frame_in {
    size_t start; /* of what is not yet taken */
    size_t end;
    uint8_t buf[AGENT_FRAME_MAX];
};

struct frame_view {
    uint16_t type; /* as sent, perhaps no known one */
    const uint8_t *payload;
    size_t length; /* 0..AGENT_PAYLOAD_MAX */
};

/*
 * Room kept free of stream data, so that an acknowledgement, ERROR or EXIT
 * always finds its place behind it.
 */
#define FRAME_OUT_RESERVE 1024u

struct frame_out {
    size_t start; /* of what is not yet sent */
    size_t end;
    uint8_t buf[AGENT_FRAME_MAX + FRAME_OUT_RESERVE];
};

/* Both buffers empty. Their bytes are not touched. */
void frame_in_init(struct frame_in *in);
void frame_out_init(struct frame_out *out);

/*
 * Where to receive to, and in *ret_room how many bytes fit: at least 1 as
 * long as frames are taken whenever frame_in_next finds one. Moves what is
 * there to the front, so an earlier frame_view ends.
 */
uint8_t *frame_in_space(struct frame_in *in, size_t *ret_room);

/* n bytes were received there. */
void frame_in_commit(struct frame_in *in, size_t n);

/*
 * Takes the next whole frame. 1 and *ret_frame, valid until the next
 * frame_in_space; 0 if there is none yet; -EPROTO for a header that says
 * more than AGENT_PAYLOAD_MAX or has flags.
 */
int frame_in_next(struct frame_in *in, struct frame_view *ret_frame);

/* Bytes not yet sent. */
static inline size_t frame_out_pending(const struct frame_out *out)
{
    return out->end - out->start;
}

/*
 * Payload bytes that a frame of stream data may have now; 0 when the buffer
 * is full.
 */
size_t frame_out_room(const struct frame_out *out);

/*
 * Where the payload of the next frame goes. The caller writes at most
 * frame_out_room() bytes there and then calls frame_out_commit(), or not.
 */
uint8_t *frame_out_space(struct frame_out *out);

/* Makes the n bytes at frame_out_space() a frame. n <= frame_out_room(). */
void frame_out_commit(struct frame_out *out, uint16_t type, size_t n);

/*
 * Appends a frame whose payload is head then body (body may be NULL with a
 * length of 0). May use the reserve. False, and nothing appended, if there is
 * no room.
 */
bool frame_out_put(struct frame_out *out, uint16_t type, const void *head,
    size_t head_len, const void *body, size_t body_len);

/*
 * The same for bytes that are no frame: how many fit is in *ret_room, perhaps
 * none. What is there is moved to the front.
 */
uint8_t *frame_out_raw_space(struct frame_out *out, size_t *ret_room);
void frame_out_raw_commit(struct frame_out *out, size_t n);

/* n of the pending bytes were sent. */
void frame_out_sent(struct frame_out *out, size_t n);

#endif
