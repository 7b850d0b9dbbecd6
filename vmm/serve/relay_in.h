/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP message (RFC 9110, 9112) as it comes in, from a client or from the
 * server in a guest: parsed, checked, and its body taken out of its framing.
 *
 * What two servers could read in two ways is refused, not repaired: a length
 * beside chunks, lengths that differ, more than one Host, folded lines, names
 * that are no tokens. What is left is written anew by relay_out.h, so that no
 * byte of the framing is the sender's.
 *
 * Owns the head's bytes, at most head_max of them; of the body nothing is
 * kept. Thread rule: one thread, no I/O. Not trusted: every byte.
 */
#ifndef VMM_SERVE_RELAY_IN_H
#define VMM_SERVE_RELAY_IN_H

#include <http_parser.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"

#define RELAY_FIELDS_MAX 100u
#define RELAY_HEAD_MAX   65536u /* what head_max may be at most */

enum relay_kind {
    RELAY_REQUEST,
    RELAY_RESPONSE,
    RELAY_RESPONSE_TO_HEAD, /* which has no body, whatever it says */
};

enum relay_phase {
    RELAY_HEAD,
    RELAY_BODY,
    RELAY_WHOLE,
    RELAY_BROKEN, /* see status and text */
};

/* A part of the head; ends are offsets. */
struct relay_span {
    uint32_t at;
    uint32_t end;
};

struct relay_field {
    struct relay_span name;
    struct relay_span value; /* no white space around it */
};

struct relay_in {
    http_parser parser;
    enum relay_kind kind;
    enum relay_phase phase;
    size_t head_max;

    /* RELAY_BROKEN: of a request, what to answer; of a response, 502. */
    int status;
    const char *text;

    /* Once the phase is beyond RELAY_HEAD. */
    char *head;
    size_t head_len;
    size_t head_room;
    struct relay_span url;    /* of a request */
    struct relay_span reason; /* of a response; may be empty */
    struct relay_field fields[RELAY_FIELDS_MAX];
    uint32_t field_count;
    bool is_chunked;
    bool has_length;
    uint64_t length;  /* if has_length; of a response to HEAD, what it says */
    bool is_1_0;      /* HTTP/1.0 */
    bool keeps_alive; /* another message may follow */
    bool has_host;    /* of a request */
    bool wants_go_on; /* of a request: a 100 before the body */
    bool until_end;   /* of a response: the body ends with the connection */
    bool is_interim;  /* of a response: 1xx, another one follows */

    /* Of the last call of relay_in_feed. */
    char *body;
    size_t body_len;

    /* Its own. */
    bool in_value;
    bool skips_body;
};

/* All of `in` is set anew; `head_max` is up to RELAY_HEAD_MAX. */
void relay_in_init(struct relay_in *in, enum relay_kind kind, size_t head_max);
void relay_in_fini(struct relay_in *in);

/* For the next message of a connection; `kind` may be another. */
void relay_in_next(struct relay_in *in, enum relay_kind kind);

/*
 * Takes some of `data` and says how much: up to the end of the head, or of the
 * message, or all of it. Bytes of the body that are in it are moved together
 * within `data` and are in->body. Not for one that is whole or broken.
 */
CC_MUST_CHECK size_t relay_in_feed(struct relay_in *in, char *data, size_t len);

/* The connection is at its end: a message becomes whole by it, or broken. */
void relay_in_end(struct relay_in *in);

static inline const char *relay_in_at(
    const struct relay_in *in, struct relay_span span)
{
    return in->head + span.at;
}

static inline size_t relay_span_len(struct relay_span span)
{
    return span.end - span.at;
}

/* Whether the span is `text`, in lower case; the span's case does not count. */
bool relay_in_is(
    const struct relay_in *in, struct relay_span span, const char *text);

/* Whether the list of tokens `span` has `name` (of `len` bytes) in it. */
bool relay_in_lists(const struct relay_in *in, struct relay_span span,
    const char *name, size_t len);

#endif
