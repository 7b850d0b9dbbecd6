/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request as it comes in, piece by piece: http_parser's callbacks and what
 * they keep. For the server only.
 *
 * Owns the body. Thread rule: the loop's thread. Not trusted: every byte given
 * to http_message_parse; bounded are path, body and the values that are kept.
 */
#ifndef VMM_API_HTTP_MESSAGE_H
#define VMM_API_HTTP_MESSAGE_H

#include <http_parser.h>
#include <stdbool.h>
#include <stddef.h>

#include "vmm/api/http_server.h"

/* Bytes of a header's name or value; what is longer is cut off. */
#define HTTP_VALUE_MAX 31u

/* The headers whose values are of interest. */
enum http_header {
    HTTP_HEADER_OTHER,
    HTTP_HEADER_EXPECT,
    HTTP_HEADER_UPGRADE,
    HTTP_HEADER_COUNT,
};

struct http_message {
    http_parser parser;
    size_t body_max;

    /* After http_message_parse. */
    bool is_whole;      /* it ended with the request's last byte */
    bool wants_go_on;   /* the client waits for a 100 before its body */
    bool out_of_memory; /* for the body; there is no going on */
    bool keep_alive;    /* of a whole one: another may follow */
    int refusal;        /* status to refuse the request with, or 0 */
    char refusal_text[160];

    /* Its own. */
    enum http_header header; /* whose value comes next */
    bool in_value;
    char name[HTTP_VALUE_MAX + 1];
    size_t name_len;
    char values[HTTP_HEADER_COUNT][HTTP_VALUE_MAX + 1];
    char path[HTTP_SERVER_PATH_MAX + 1];
    size_t path_len;
    char *body;
    size_t body_len;
    size_t body_room;
};

/* The struct stays where it is. */
void http_message_init(struct http_message *m, size_t body_max);
void http_message_fini(struct http_message *m);

/*
 * Takes bytes up to the end of a request: how many. Once there is a refusal
 * or no memory it is not to be called again.
 */
size_t http_message_parse(struct http_message *m, const char *data, size_t len);

/*
 * A whole request, good until http_message_clear: NULL, or what is wrong with
 * it, a constant text.
 */
const char *http_message_get(
    struct http_message *m, struct http_request *ret_request);

/* Done with it; the next may come. */
void http_message_clear(struct http_message *m);

#endif
