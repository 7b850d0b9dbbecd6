/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/relay_out.h"

#include <inttypes.h>
#include <string.h>

/* Fields that are for one connection, or that are written anew. */
static const char *const hop_fields[] = {
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
};

/* Named by the sender as for this connection only. */
static bool is_listed(const struct relay_in *in, struct relay_span name)
{
    const char *text = relay_in_at(in, name);
    size_t len = relay_span_len(name);

    /* What the next one cannot do without is no such field. */
    if (relay_in_is(in, name, "host"))
        return false;
    for (uint32_t i = 0; i < in->field_count; i++) {
        const struct relay_field *f = &in->fields[i];

        if (relay_in_is(in, f->name, "connection") &&
            relay_in_lists(in, f->value, text, len))
            return true;
    }
    return false;
}

static bool is_passed_on(const struct relay_in *in, struct relay_span name)
{
    for (size_t i = 0; i < ARRAY_SIZE(hop_fields); i++) {
        if (relay_in_is(in, name, hop_fields[i]))
            return false;
    }
    if (in->kind == RELAY_REQUEST && relay_in_is(in, name, "expect"))
        return false;
    return !is_listed(in, name);
}

static void put_span(
    struct serve_buf *out, const struct relay_in *in, struct relay_span span)
{
    serve_buf_put(out, relay_in_at(in, span), relay_span_len(span));
}

static void put_fields(struct serve_buf *out, const struct relay_in *in)
{
    for (uint32_t i = 0; i < in->field_count; i++) {
        const struct relay_field *f = &in->fields[i];

        if (!is_passed_on(in, f->name))
            continue;
        put_span(out, in, f->name);
        serve_buf_text(out, ": ");
        put_span(out, in, f->value);
        serve_buf_text(out, "\r\n");
    }
}

static void put_length(struct serve_buf *out, uint64_t length)
{
    serve_buf_format(out, "Content-Length: %" PRIu64 "\r\n", length);
}

void relay_out_request(const struct relay_in *request, struct serve_buf *out)
{
    serve_buf_text(
        out, http_method_str((enum http_method)request->parser.method));
    serve_buf_text(out, " ");
    put_span(out, request, request->url);
    serve_buf_text(out, " HTTP/1.1\r\n");
    /* HTTP/1.0 knows none, HTTP/1.1 wants one. */
    if (!request->has_host)
        serve_buf_text(out, "Host: localhost\r\n");
    put_fields(out, request);
    if (request->has_length)
        put_length(out, request->length);
    else if (request->is_chunked)
        serve_buf_text(out, "Transfer-Encoding: chunked\r\n");
    serve_buf_text(out, "Connection: close\r\n\r\n");
}

enum relay_framing relay_out_framing(
    const struct relay_in *response, const struct relay_in *request)
{
    if (response->skips_body)
        return RELAY_NO_BODY;
    if (response->has_length)
        return RELAY_LENGTH;
    return request->is_1_0 ? RELAY_UNTIL_END : RELAY_CHUNKS;
}

static void put_framing(struct serve_buf *out, const struct relay_in *response,
    const struct relay_in *request)
{
    enum relay_framing framing = relay_out_framing(response, request);

    /* One without a body says, to a HEAD, what it would have been. */
    if (response->has_length)
        put_length(out, response->length);
    else if (framing == RELAY_CHUNKS ||
             (response->kind == RELAY_RESPONSE_TO_HEAD &&
                 response->is_chunked && !request->is_1_0))
        serve_buf_text(out, "Transfer-Encoding: chunked\r\n");
}

static void put_connection(
    struct serve_buf *out, const struct relay_in *request, bool keeps_alive)
{
    if (!keeps_alive)
        serve_buf_text(out, "Connection: close\r\n");
    else if (request->is_1_0)
        serve_buf_text(out, "Connection: keep-alive\r\n");
}

void relay_out_response(const struct relay_in *response,
    const struct relay_in *request, bool keeps_alive, struct serve_buf *out)
{
    serve_buf_format(out, "HTTP/1.1 %03u ", response->parser.status_code);
    put_span(out, response, response->reason);
    serve_buf_text(out, "\r\n");
    put_fields(out, response);
    if (!response->is_interim) {
        put_framing(out, response, request);
        put_connection(out, request, keeps_alive);
    }
    serve_buf_text(out, "\r\n");
}

void relay_out_body(
    struct serve_buf *out, const char *data, size_t len, bool in_chunks)
{
    if (len == 0)
        return;
    if (in_chunks)
        serve_buf_format(out, "%zx\r\n", len);
    serve_buf_put(out, data, len);
    if (in_chunks)
        serve_buf_text(out, "\r\n");
}

void relay_out_end(struct serve_buf *out, bool in_chunks)
{
    if (in_chunks)
        serve_buf_text(out, "0\r\n\r\n");
}

const char *relay_out_reason(int status)
{
    switch (status) {
#define REASON(number, name, text)                                             \
    case number:                                                               \
        return #text;
        HTTP_STATUS_MAP(REASON)
#undef REASON
    default:
        return "Error";
    }
}

void relay_out_answer(struct serve_buf *out, int status, const char *text,
    bool is_head, bool keeps_alive, unsigned int retry_s)
{
    serve_buf_format(out,
        "HTTP/1.1 %d %s\r\nServer: spore\r\n"
        "Content-Type: text/plain\r\n",
        status, relay_out_reason(status));
    if (retry_s > 0)
        serve_buf_format(out, "Retry-After: %u\r\n", retry_s);
    serve_buf_text(out,
        keeps_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n");
    put_length(out, strlen(text) + 1);
    serve_buf_text(out, "\r\n");
    if (!is_head) {
        serve_buf_text(out, text);
        serve_buf_text(out, "\n");
    }
}
