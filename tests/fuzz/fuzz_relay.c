/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP messages on their way through the server: a request of a client, and a
 * response of a server in a guest. Whatever they are, in whatever pieces they
 * come, they are refused, or what is written of them is read back as the one
 * message that it was: nothing is left over for a second one.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/num.h"
#include "vmm/serve/relay_out.h"

#define HEAD_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

struct result {
    struct relay_in in;
    struct serve_buf body;
    size_t used; /* bytes */
};

/* Feeds one message, `step` bytes at a time; its body is what came of it. */
static void feed(
    struct result *r, const uint8_t *data, size_t len, size_t step, bool ends)
{
    r->used = 0;
    while (r->in.phase < RELAY_WHOLE && r->used < len) {
        size_t n = num_min(step, len - r->used);
        size_t at = 0;
        /* Of its own, so that a sanitizer sees where it ends. */
        char *piece = malloc(n);

        require(piece != NULL);
        memcpy(piece, data + r->used, n);
        while (r->in.phase < RELAY_WHOLE && at < n) {
            at += relay_in_feed(&r->in, piece + at, n - at);
            require(at <= n && r->in.body_len <= n);
            serve_buf_put(&r->body, r->in.body, r->in.body_len);
        }
        r->used += at;
        free(piece);
    }
    if (ends && r->in.phase < RELAY_WHOLE)
        relay_in_end(&r->in);
    require(r->in.head_len <= HEAD_MAX);
    require(r->in.phase != RELAY_BROKEN ||
            (r->in.status >= 400 && r->in.status <= 599 && r->in.text != NULL));
}

static void fini(struct result *r)
{
    relay_in_fini(&r->in);
    serve_buf_fini(&r->body);
}

static bool is_same_body(const struct result *a, const struct result *b)
{
    size_t len = serve_buf_len(&a->body);

    return len == serve_buf_len(&b->body) &&
           (len == 0 || memcmp(serve_buf_at(&a->body), serve_buf_at(&b->body),
                            len) == 0);
}

/* The same again, in one piece: it must come to the same. */
static void compare(
    const struct result *r, const uint8_t *data, size_t len, bool ends)
{
    struct result other = {0};

    relay_in_init(&other.in, r->in.kind, HEAD_MAX);
    feed(&other, data, len, len, ends);
    require(other.in.phase == r->in.phase);
    if (r->in.phase == RELAY_WHOLE)
        require(is_same_body(r, &other) && r->used == other.used);
    fini(&other);
}

/* What was written must be one message of its kind, and the same. */
static void read_back(const struct result *r, const struct serve_buf *out,
    enum relay_kind kind, bool until_end)
{
    struct result back = {0};

    /* Ours come on top: the next one may be of another bound. */
    if (r->in.field_count > RELAY_FIELDS_MAX - 3)
        return;
    relay_in_init(&back.in, kind, RELAY_HEAD_MAX);
    feed(&back, (const uint8_t *)serve_buf_at(out), serve_buf_len(out), 64,
        until_end);
    require(back.in.phase == RELAY_WHOLE);
    require(back.used == serve_buf_len(out));
    require(is_same_body(r, &back));
    if (kind == RELAY_REQUEST) {
        require(back.in.parser.method == r->in.parser.method);
        require(!back.in.keeps_alive && back.in.has_host);
        require(relay_span_len(back.in.url) == relay_span_len(r->in.url));
    } else {
        require(back.in.parser.status_code == r->in.parser.status_code);
    }
    fini(&back);
}

static void do_request(
    struct result *r, const uint8_t *data, size_t len, size_t step)
{
    struct serve_buf out = {0};

    relay_in_init(&r->in, RELAY_REQUEST, HEAD_MAX);
    feed(r, data, len, step, false);
    compare(r, data, len, false);
    if (r->in.phase == RELAY_WHOLE) {
        relay_out_request(&r->in, &out);
        relay_out_body(&out, serve_buf_at(&r->body), serve_buf_len(&r->body),
            r->in.is_chunked);
        relay_out_end(&out, r->in.is_chunked);
        read_back(r, &out, RELAY_REQUEST, false);
    }
    serve_buf_fini(&out);
}

static void do_response(
    const struct result *request, const uint8_t *data, size_t len, size_t step)
{
    struct result r = {0};
    struct serve_buf out = {0};
    enum relay_kind kind = request->in.parser.method == HTTP_HEAD
                               ? RELAY_RESPONSE_TO_HEAD
                               : RELAY_RESPONSE;
    enum relay_framing framing;

    relay_in_init(&r.in, kind, HEAD_MAX);
    feed(&r, data, len, step, true);
    compare(&r, data, len, true);
    if (r.in.phase == RELAY_WHOLE) {
        framing = relay_out_framing(&r.in, &request->in);
        relay_out_response(
            &r.in, &request->in, framing != RELAY_UNTIL_END, &out);
        relay_out_body(&out, serve_buf_at(&r.body), serve_buf_len(&r.body),
            framing == RELAY_CHUNKS);
        relay_out_end(&out, framing == RELAY_CHUNKS);
        read_back(&r, &out, kind, framing == RELAY_UNTIL_END);
    }
    serve_buf_fini(&out);
    fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char get[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    struct result request = {0};
    struct bytes_reader reader;
    size_t request_len;
    size_t step;

    bytes_reader_init(&reader, data, size);
    step = bytes_get_u8(&reader) + 1u;
    request_len = num_min(bytes_get_u16(&reader), bytes_left(&reader));
    data += reader.pos;
    size -= reader.pos;
    do_request(&request, data, request_len, step);
    if (request.in.phase != RELAY_WHOLE) {
        fini(&request);
        request = (struct result){0};
        do_request(&request, (const uint8_t *)get, sizeof(get) - 1, step);
    }
    do_response(&request, data + request_len, size - request_len, step);
    fini(&request);
    return 0;
}
