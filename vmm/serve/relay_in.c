/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/relay_in.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vmm/base/num.h"

#define HEAD_ROOM_MIN 1024u

static void break_off(struct relay_in *in, int status, const char *text)
{
    if (in->phase == RELAY_BROKEN)
        return;
    in->phase = RELAY_BROKEN;
    in->status = in->kind == RELAY_REQUEST ? status : 502;
    in->text = text;
}

static int refuse(struct relay_in *in, int status, const char *text)
{
    break_off(in, status, text);
    return -1;
}

/* ---- texts -------------------------------------------------------------- */

/* tchar of RFC 9110, 5.6.2. */
static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_token_char(text[i]))
            return false;
    }
    return len > 0;
}

/* No controls but tabs: RFC 9110, 5.5. */
static bool is_field_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

bool relay_in_is(
    const struct relay_in *in, struct relay_span span, const char *text)
{
    size_t len = relay_span_len(span);

    return len == strlen(text) &&
           strncasecmp(relay_in_at(in, span), text, len) == 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

bool relay_in_lists(const struct relay_in *in, struct relay_span span,
    const char *name, size_t len)
{
    const char *at = relay_in_at(in, span);
    const char *end = at + relay_span_len(span);

    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma == NULL ? end : comma;
        const char *last = stop;

        while (at < last && is_space(*at))
            at++;
        while (last > at && is_space(last[-1]))
            last--;
        if ((size_t)(last - at) == len && strncasecmp(at, name, len) == 0)
            return true;
        at = comma == NULL ? end : comma + 1;
    }
    return false;
}

/* ---- the head, as the parser finds it ----------------------------------- */

/*
 * Puts a piece behind what there is of a span: a piece elsewhere is of a line
 * that was folded, and false.
 */
static bool extend(
    struct relay_in *in, struct relay_span *span, const char *data, size_t len)
{
    uint32_t at = (uint32_t)(data - in->head);

    if (span->end == span->at)
        *span = (struct relay_span){.at = at, .end = at};
    if (span->end != at)
        return false;
    span->end = at + (uint32_t)len;
    return true;
}

static int on_url(http_parser *parser, const char *data, size_t len)
{
    struct relay_in *in = parser->data;

    return extend(in, &in->url, data, len)
               ? 0
               : refuse(in, 400, "malformed request");
}

static int on_reason(http_parser *parser, const char *data, size_t len)
{
    struct relay_in *in = parser->data;

    return extend(in, &in->reason, data, len)
               ? 0
               : refuse(in, 400, "malformed status line");
}

static int on_field(http_parser *parser, const char *data, size_t len)
{
    struct relay_in *in = parser->data;

    if (in->phase != RELAY_HEAD)
        return 0; /* a trailer */
    if (in->in_value || in->field_count == 0) {
        if (in->field_count == RELAY_FIELDS_MAX)
            return refuse(in, 431, "too many header fields");
        in->fields[in->field_count++] = (struct relay_field){{0}, {0}};
    }
    in->in_value = false;
    return extend(in, &in->fields[in->field_count - 1].name, data, len)
               ? 0
               : refuse(in, 400, "malformed header field");
}

static int on_value(http_parser *parser, const char *data, size_t len)
{
    struct relay_in *in = parser->data;

    if (in->phase != RELAY_HEAD || in->field_count == 0)
        return 0;
    in->in_value = true;
    return extend(in, &in->fields[in->field_count - 1].value, data, len)
               ? 0
               : refuse(in, 400, "header field on more than one line");
}

/* ---- the head, once it is whole ----------------------------------------- */

static void trim(const struct relay_in *in, struct relay_span *span)
{
    while (span->at < span->end && is_space(in->head[span->at]))
        span->at++;
    while (span->end > span->at && is_space(in->head[span->end - 1]))
        span->end--;
}

static bool is_number(const struct relay_in *in, struct relay_span span)
{
    const char *text = relay_in_at(in, span);
    size_t len = relay_span_len(span);

    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
    }
    return len > 0;
}

struct seen {
    unsigned int lengths;
    unsigned int encodings;
    unsigned int hosts;
};

static int check_field(
    struct relay_in *in, struct relay_field *f, struct seen *seen)
{
    trim(in, &f->value);
    if (!is_token(relay_in_at(in, f->name), relay_span_len(f->name)))
        return refuse(in, 400, "malformed name of a header field");
    if (!is_field_text(relay_in_at(in, f->value), relay_span_len(f->value)))
        return refuse(in, 400, "malformed value of a header field");
    if (relay_in_is(in, f->name, "content-length")) {
        seen->lengths++;
        if (!is_number(in, f->value))
            return refuse(in, 400, "malformed Content-Length");
    } else if (relay_in_is(in, f->name, "transfer-encoding")) {
        seen->encodings++;
        if (!relay_in_is(in, f->value, "chunked"))
            return refuse(in, 501, "a Transfer-Encoding but chunked");
    } else if (relay_in_is(in, f->name, "host")) {
        seen->hosts++;
    } else if (in->kind == RELAY_REQUEST &&
               relay_in_is(in, f->name, "expect")) {
        if (!relay_in_is(in, f->value, "100-continue"))
            return refuse(in, 417, "an expectation that is not known");
        in->wants_go_on = !in->is_1_0;
    }
    return 0;
}

static int check_request(struct relay_in *in, const struct seen *seen)
{
    size_t len = relay_span_len(in->url);

    if (in->parser.method == HTTP_CONNECT)
        return refuse(in, 501, "CONNECT is not served");
    if (len == 0 || !is_field_text(relay_in_at(in, in->url), len) ||
        memchr(relay_in_at(in, in->url), ' ', len) != NULL ||
        memchr(relay_in_at(in, in->url), '\t', len) != NULL)
        return refuse(in, 400, "malformed request target");
    if (seen->hosts > 1 || (seen->hosts == 0 && !in->is_1_0))
        return refuse(in, 400, "no Host, or more than one");
    in->has_host = seen->hosts == 1;
    if (in->is_1_0 && in->is_chunked)
        return refuse(in, 400, "chunks in HTTP/1.0");
    return 0;
}

static int check_response(struct relay_in *in)
{
    unsigned int code = in->parser.status_code;

    if (code < 100 || code > 599)
        return refuse(in, 502, "a status that is none");
    if (code == 101)
        return refuse(in, 502, "another protocol, that nobody asked for");
    in->is_interim = code < 200;
    if (code < 200 || code == 204)
        in->has_length = in->is_chunked = false;
    in->skips_body = in->kind == RELAY_RESPONSE_TO_HEAD || code < 200 ||
                     code == 204 || code == 304;
    in->until_end = !in->skips_body && !in->has_length && !in->is_chunked;
    if (!is_field_text(relay_in_at(in, in->reason), relay_span_len(in->reason)))
        return refuse(in, 502, "malformed status line");
    return 0;
}

static int check_head(struct relay_in *in)
{
    struct seen seen = {0};
    int rc = 0;

    if (in->parser.http_major != 1)
        return refuse(in, 505, "a version but HTTP/1");
    in->is_1_0 = in->parser.http_minor == 0;
    for (uint32_t i = 0; rc == 0 && i < in->field_count; i++)
        rc = check_field(in, &in->fields[i], &seen);
    if (rc < 0)
        return rc;
    if (seen.lengths > 1 || seen.encodings > 1 ||
        (seen.lengths > 0 && seen.encodings > 0))
        return refuse(in, 400, "a body of more than one length");
    in->is_chunked = (in->parser.flags & F_CHUNKED) != 0;
    in->has_length = (in->parser.flags & F_CONTENTLENGTH) != 0;
    /* Where our reading and the parser's differ there is no telling. */
    if (in->is_chunked != (seen.encodings > 0) ||
        in->has_length != (seen.lengths > 0))
        return refuse(in, 400, "malformed length of a body");
    in->length = in->has_length ? in->parser.content_length : 0;
    return in->kind == RELAY_REQUEST ? check_request(in, &seen)
                                     : check_response(in);
}

static int on_headers(http_parser *parser)
{
    struct relay_in *in = parser->data;

    if (check_head(in) < 0)
        return -1;
    in->phase = RELAY_BODY;
    in->keeps_alive = http_should_keep_alive(parser) != 0;
    /* An Upgrade is not passed on: the message is one like others. */
    parser->upgrade = 0;
    http_parser_pause(parser, 1);
    return in->skips_body ? 1 : 0;
}

/* ---- the body ----------------------------------------------------------- */

static int on_body(http_parser *parser, const char *data, size_t len)
{
    struct relay_in *in = parser->data;

    memmove(in->body + in->body_len, data, len);
    in->body_len += len;
    return 0;
}

static int on_complete(http_parser *parser)
{
    struct relay_in *in = parser->data;

    in->phase = RELAY_WHOLE;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_status = on_reason,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_headers,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

static void check_error(struct relay_in *in)
{
    enum http_errno error = HTTP_PARSER_ERRNO(&in->parser);

    if (error == HPE_PAUSED)
        http_parser_pause(&in->parser, 0);
    else if (error == HPE_HEADER_OVERFLOW)
        break_off(in, 431, "header fields are too long");
    else if (error == HPE_INVALID_METHOD)
        break_off(in, 501, "a method that is not known");
    else if (error != HPE_OK)
        break_off(in, 400, "malformed message");
}

static bool make_head_room(struct relay_in *in, size_t len)
{
    size_t room = in->head_room == 0 ? HEAD_ROOM_MIN : in->head_room;
    char *head;

    while (room < in->head_len + len)
        room *= 2;
    if (room == in->head_room)
        return true;
    head = realloc(in->head, room);
    if (head == NULL) {
        break_off(in, 503, "out of memory");
        return false;
    }
    in->head = head;
    in->head_room = room;
    return true;
}

/* Some of the head, parsed where it is kept. */
static size_t feed_head(struct relay_in *in, const char *data, size_t len)
{
    size_t take = num_min(len, in->head_max - in->head_len);
    size_t n;

    if (take == 0) {
        break_off(in, 431, "header fields are too long");
        return 0;
    }
    if (!make_head_room(in, take))
        return 0;
    memcpy(in->head + in->head_len, data, take);
    n = http_parser_execute(
        &in->parser, &settings, in->head + in->head_len, take);
    assert(n <= take);
    in->head_len += n;
    check_error(in);
    return n;
}

size_t relay_in_feed(struct relay_in *in, char *data, size_t len)
{
    size_t n;

    assert(in->phase == RELAY_HEAD || in->phase == RELAY_BODY);
    in->body = data;
    in->body_len = 0;
    if (len == 0)
        return 0;
    if (in->phase == RELAY_HEAD)
        return feed_head(in, data, len);
    n = http_parser_execute(&in->parser, &settings, data, len);
    assert(n <= len && in->body_len <= n);
    check_error(in);
    return n;
}

void relay_in_end(struct relay_in *in)
{
    if (in->phase != RELAY_BODY && in->phase != RELAY_HEAD)
        return;
    in->body_len = 0;
    if (in->phase == RELAY_BODY && in->until_end)
        in->phase = RELAY_WHOLE;
    else
        break_off(in, 400, "the connection ended within a message");
}

void relay_in_next(struct relay_in *in, enum relay_kind kind)
{
    char *head = in->head;
    size_t room = in->head_room;
    size_t head_max = in->head_max;

    relay_in_init(in, kind, head_max);
    in->head = head;
    in->head_room = room;
}

void relay_in_init(struct relay_in *in, enum relay_kind kind, size_t head_max)
{
    assert(head_max > 0 && head_max <= RELAY_HEAD_MAX);
    in->kind = kind;
    in->phase = RELAY_HEAD;
    in->head_max = head_max;
    in->status = 0;
    in->text = NULL;
    in->head = NULL;
    in->head_len = 0;
    in->head_room = 0;
    in->url = (struct relay_span){0};
    in->reason = (struct relay_span){0};
    in->field_count = 0;
    in->is_chunked = false;
    in->has_length = false;
    in->length = 0;
    in->is_1_0 = false;
    in->keeps_alive = false;
    in->has_host = false;
    in->wants_go_on = false;
    in->until_end = false;
    in->is_interim = false;
    in->body = NULL;
    in->body_len = 0;
    in->in_value = false;
    in->skips_body = false;
    http_parser_init(
        &in->parser, kind == RELAY_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE);
    in->parser.data = in;
}

void relay_in_fini(struct relay_in *in)
{
    free(in->head);
    in->head = NULL;
    in->head_room = 0;
}
