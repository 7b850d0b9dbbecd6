/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/http_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vmm/base/num.h"

static void reject(struct http_message *m, int status, const char *text)
{
    if (m->refusal != 0)
        return;
    m->refusal = status;
    (void)snprintf(m->refusal_text, sizeof(m->refusal_text), "%s", text);
}

static int on_begin(http_parser *parser)
{
    struct http_message *m = parser->data;

    m->path_len = 0;
    m->body_len = 0;
    m->name_len = 0;
    m->in_value = false;
    m->header = HTTP_HEADER_OTHER;
    memset(m->values, 0, sizeof(m->values));
    return 0;
}

static int on_url(http_parser *parser, const char *data, size_t len)
{
    struct http_message *m = parser->data;

    if (len > HTTP_SERVER_PATH_MAX - m->path_len) {
        reject(m, 400, "Invalid URI: it is too long");
        return -1;
    }
    memcpy(m->path + m->path_len, data, len);
    m->path_len += len;
    return 0;
}

/* Appends as much as fits to a text of HTTP_VALUE_MAX bytes. */
static void append(char *text, const char *data, size_t len)
{
    size_t have = strlen(text);
    size_t n = num_min(len, HTTP_VALUE_MAX - have);

    memcpy(text + have, data, n);
    text[have + n] = '\0';
}

static int on_field(http_parser *parser, const char *data, size_t len)
{
    struct http_message *m = parser->data;

    if (m->in_value || m->name_len == 0)
        m->name[0] = '\0';
    m->in_value = false;
    append(m->name, data, len);
    m->name_len = strlen(m->name);
    return 0;
}

static int on_value(http_parser *parser, const char *data, size_t len)
{
    struct http_message *m = parser->data;

    if (!m->in_value) {
        m->in_value = true;
        m->header = strcasecmp(m->name, "expect") == 0    ? HTTP_HEADER_EXPECT
                    : strcasecmp(m->name, "upgrade") == 0 ? HTTP_HEADER_UPGRADE
                                                          : HTTP_HEADER_OTHER;
        m->values[m->header][0] = '\0';
    }
    append(m->values[m->header], data, len);
    return 0;
}

static void reject_length(struct http_message *m, uint64_t length)
{
    char text[128];

    (void)snprintf(text, sizeof(text),
        "Request payload with size %llu is larger than the limit of %zu "
        "allowed "
        "by server.",
        (unsigned long long)length, m->body_max);
    reject(m, 413, text);
}

static int on_headers(http_parser *parser)
{
    struct http_message *m = parser->data;
    bool has_length = (parser->flags & F_CONTENTLENGTH) != 0;

    if (has_length && parser->content_length > m->body_max) {
        reject_length(m, parser->content_length);
        return -1;
    }
    /*
     * Who asks for another protocol and has a body, or for one that is not
     * ours, is served as if it had not asked.
     */
    if (strcasecmp(m->values[HTTP_HEADER_UPGRADE], "vsock") != 0)
        parser->upgrade = 0;
    if (strcasecmp(m->values[HTTP_HEADER_EXPECT], "100-continue") == 0 &&
        ((has_length && parser->content_length > 0) ||
            (parser->flags & F_CHUNKED) != 0))
        m->wants_go_on = true;
    return 0;
}

static int on_body(http_parser *parser, const char *data, size_t len)
{
    struct http_message *m = parser->data;
    size_t room = m->body_room;
    char *body;

    if (len > m->body_max - m->body_len) {
        reject_length(m, m->body_len + len);
        return -1;
    }
    while (room < m->body_len + len + 1)
        room = room == 0 ? 512 : 2 * room;
    if (room > m->body_room) {
        body = realloc(m->body, room);
        if (body == NULL) {
            m->out_of_memory = true;
            return -1;
        }
        m->body = body;
        m->body_room = room;
    }
    memcpy(m->body + m->body_len, data, len);
    m->body_len += len;
    m->body[m->body_len] = '\0';
    return 0;
}

static int on_complete(http_parser *parser)
{
    struct http_message *m = parser->data;

    m->is_whole = true;
    m->keep_alive = http_should_keep_alive(parser) != 0;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = on_begin,
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_headers,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

static bool get_verb(unsigned int method, enum http_verb *ret_verb)
{
    switch (method) {
    case HTTP_GET:
        *ret_verb = HTTP_VERB_GET;
        return true;
    case HTTP_PUT:
        *ret_verb = HTTP_VERB_PUT;
        return true;
    case HTTP_PATCH:
        *ret_verb = HTTP_VERB_PATCH;
        return true;
    case HTTP_DELETE:
        *ret_verb = HTTP_VERB_DELETE;
        return true;
    default:
        return false;
    }
}

/* The path of "/path" and of "http://host/path"; NULL if there is none. */
static const char *get_path(struct http_message *m)
{
    static const char scheme[] = "http://";

    m->path[m->path_len] = '\0';
    if (strncasecmp(m->path, scheme, sizeof(scheme) - 1) == 0)
        return strchr(m->path + sizeof(scheme) - 1, '/');
    return m->path[0] == '/' ? m->path : NULL;
}

void http_message_init(struct http_message *m, size_t body_max)
{
    *m = (struct http_message){.body_max = body_max};
    http_parser_init(&m->parser, HTTP_REQUEST);
    m->parser.data = m;
}

void http_message_fini(struct http_message *m)
{
    free(m->body);
    m->body = NULL;
}

size_t http_message_parse(struct http_message *m, const char *data, size_t len)
{
    size_t n;

    m->is_whole = false;
    m->wants_go_on = false;
    n = http_parser_execute(&m->parser, &settings, data, len);
    if (m->is_whole)
        http_parser_pause(&m->parser, 0);
    else if (HTTP_PARSER_ERRNO(&m->parser) != HPE_OK)
        /* Unless a callback has said why. */
        reject(m, 400, http_errno_description(HTTP_PARSER_ERRNO(&m->parser)));
    return n;
}

const char *http_message_get(
    struct http_message *m, struct http_request *ret_request)
{
    struct http_request request = {.path = get_path(m),
        .body = m->body_len == 0 ? "" : m->body,
        .body_len = m->body_len,
        .upgrade = m->parser.upgrade ? m->values[HTTP_HEADER_UPGRADE] : NULL};

    if (!get_verb(m->parser.method, &request.verb))
        return "Invalid HTTP Method.";
    if (request.path == NULL)
        return "Invalid URI.";
    *ret_request = request;
    return NULL;
}

void http_message_clear(struct http_message *m)
{
    free(m->body);
    m->body = NULL;
    m->body_room = 0;
    m->body_len = 0;
}
