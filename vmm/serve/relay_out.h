/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP messages written anew: the head of one that came in, without what was
 * for its own connection only (RFC 9110, 7.6.1), with framing of ours; its
 * body; and answers of the server itself.
 *
 * Thread rule: one thread, no I/O. What is written has been checked by
 * relay_in.h.
 */
#ifndef VMM_SERVE_RELAY_OUT_H
#define VMM_SERVE_RELAY_OUT_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/serve/relay_in.h"
#include "vmm/serve/serve_buf.h"

/*
 * The request's head for a server that gets this one and no other: with
 * "Connection: close". Its body follows in chunks if it has no length.
 */
void relay_out_request(const struct relay_in *request, struct serve_buf *out);

/* How the body of a response is sent on. */
enum relay_framing {
    RELAY_NO_BODY,
    RELAY_LENGTH,
    RELAY_CHUNKS,
    RELAY_UNTIL_END, /* the client's connection ends with it */
};

/*
 * The framing that a response has for the client of `request`. With
 * RELAY_UNTIL_END the connection cannot be kept.
 */
enum relay_framing relay_out_framing(
    const struct relay_in *response, const struct relay_in *request);

/* The response's head; or that of an interim one, which has no framing. */
void relay_out_response(const struct relay_in *response,
    const struct relay_in *request, bool keeps_alive, struct serve_buf *out);

/* Bytes of a body, and its end. */
void relay_out_body(
    struct serve_buf *out, const char *data, size_t len, bool in_chunks);
void relay_out_end(struct serve_buf *out, bool in_chunks);

/* An answer of the server's own; `retry_s`: when to come again, 0: unsaid. */
void relay_out_answer(struct serve_buf *out, int status, const char *text,
    bool is_head, bool keeps_alive, unsigned int retry_s);

/* "Not Found" and so on. */
const char *relay_out_reason(int status);

#endif
