/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mmds_http.h"

#include <assert.h>
#include <errno.h>
#include <http_parser.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vmm/base/num.h"
#include "vmm/mmds_text.h"

#define TOKEN_PATH "/latest/api/token"

#define NO_TOKEN                                                               \
    "No MMDS token provided. Use `X-metadata-token` or "                       \
    "`X-aws-ec2-metadata-token` header to specify the session token."
#define NO_TTL                                                                 \
    "Token time to live value not found. Use `X-metadata-token-ttl-seconds` "  \
    "or `X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's " \
    "lifetime."
#define BAD_TYPE "Cannot retrieve value. The value has an unsupported type."

_Static_assert(MMDS_PATH_MAX >= MMDS_REQUEST_MAX, "any path can be looked for");

/* A part of the request. */
struct span {
    const char *data; /* NULL: it is not there */
    size_t len;
};

struct request {
    http_parser parser;
    struct span uri;
    struct span name; /* of the header that is being read */
    struct span token;
    struct span ttl;
    struct span ttl_name;  /* as the guest has written it */
    struct span forwarded; /* the name of that header */
    struct span accept;
    bool is_whole;
};

static bool is_word(struct span s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.data, word, s.len) == 0;
}

/* The request lies in one piece, and so does each part of it. */
static int on_url(http_parser *parser, const char *data, size_t len)
{
    struct request *r = parser->data;

    r->uri = (struct span){data, len};
    return 0;
}

static int on_field(http_parser *parser, const char *data, size_t len)
{
    struct request *r = parser->data;

    r->name = (struct span){data, len};
    if (is_word(r->name, "x-forwarded-for"))
        r->forwarded = r->name;
    return 0;
}

static int on_value(http_parser *parser, const char *data, size_t len)
{
    struct request *r = parser->data;
    struct span value = {data, len};

    while (value.len > 0 && (value.data[value.len - 1] == ' ' ||
                                value.data[value.len - 1] == '\t'))
        value.len--;
    if (is_word(r->name, "x-metadata-token") ||
        is_word(r->name, "x-aws-ec2-metadata-token")) {
        r->token = value;
    } else if (is_word(r->name, "x-metadata-token-ttl-seconds") ||
               is_word(r->name, "x-aws-ec2-metadata-token-ttl-seconds")) {
        r->ttl = value;
        r->ttl_name = r->name;
    } else if (is_word(r->name, "accept")) {
        r->accept = value;
    }
    return 0;
}

static int on_complete(http_parser *parser)
{
    struct request *r = parser->data;

    r->is_whole = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_message_complete = on_complete,
};

/* ---- replies ------------------------------------------------------------- */

/* What a reply is made of. */
struct reply {
    int status;
    const char *body;
    size_t len;
    bool is_json;
    bool allows;      /* the header that says what may be asked */
    struct span name; /* of a header of its own, or NULL */
    uint32_t value;   /* of that */
};

/* Takes nothing over. */
static int write_reply(const struct request *r, const struct reply *reply,
    struct mmds_reply *ret_reply)
{
    struct mmds_reply out = {
        .is_last = !r->is_whole || http_should_keep_alive(&r->parser) == 0};
    bool is_old =
        r->is_whole && r->parser.http_minor == 0 && r->parser.http_major == 1;
    char own[128] = "";
    char head[512];
    int n;

    if (reply->name.data != NULL)
        (void)snprintf(own, sizeof(own), "%.*s: %u\r\n",
            (int)num_min(reply->name.len, 64), reply->name.data, reply->value);
    n = snprintf(head, sizeof(head),
        "HTTP/1.%d %d \r\nServer: Firecracker API\r\nConnection: %s\r\n%s%s"
        "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n",
        is_old ? 0 : 1, reply->status, out.is_last ? "close" : "keep-alive",
        reply->allows ? "Allow: GET, PUT\r\n" : "", own,
        reply->is_json ? "application/json" : "text/plain", reply->len);
    assert(n > 0 && (size_t)n < sizeof(head));
    out.len = (size_t)n + reply->len;
    out.data = malloc(out.len);
    if (out.data == NULL)
        return -ENOMEM;
    memcpy(out.data, head, (size_t)n);
    memcpy(out.data + n, reply->body, reply->len);
    *ret_reply = out;
    return 1;
}

CC_PRINTF(4, 5)
static int reply_text(const struct request *r, int status,
    struct mmds_reply *ret_reply, const char *fmt, ...)
{
    char text[MMDS_REQUEST_MAX + 128];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    assert(n >= 0);
    return write_reply(r,
        &(struct reply){.status = status,
            .body = text,
            .len = num_min((size_t)n, sizeof(text) - 1),
            .allows = status == 405},
        ret_reply);
}

/* ---- GET ----------------------------------------------------------------- */

static int get_value(struct mmds *mmds, const struct request *r,
    struct span path, struct mmds_reply *ret_reply)
{
    bool is_json = !mmds->imds_compat && is_word(r->accept, "application/json");
    json_t *value = NULL;
    char *text = NULL;
    size_t len = 0;
    int rc;

    if (mmds->data != NULL)
        value = mmds_text_find(mmds->data, path.data, path.len);
    if (value == NULL)
        return reply_text(r, 404, ret_reply, "Resource not found: %.*s.",
            (int)path.len, path.data);
    rc = is_json ? mmds_text_json(value, &text, &len)
                 : mmds_text_imds(value, &text, &len);
    if (rc == -EOPNOTSUPP)
        return reply_text(r, 501, ret_reply, BAD_TYPE);
    if (rc < 0)
        return rc;
    rc = write_reply(r,
        &(struct reply){
            .status = 200, .body = text, .len = len, .is_json = is_json},
        ret_reply);
    free(text);
    return rc;
}

static int answer_get(struct mmds *mmds, const struct request *r,
    struct span path, uint64_t now_ns, struct mmds_reply *ret_reply)
{
    bool is_known = r->token.data != NULL &&
                    mmds_has_token(mmds, now_ns, r->token.data, r->token.len);

    mmds->no_tokens += r->token.data == NULL;
    mmds->invalid_tokens += r->token.data != NULL && !is_known;
    if (mmds->is_v2 && !is_known)
        return reply_text(r, 401, ret_reply, "%s",
            r->token.data == NULL ? NO_TOKEN : "MMDS token not valid.");
    return get_value(mmds, r, path, ret_reply);
}

/* ---- PUT ----------------------------------------------------------------- */

/* The same path but for slashes that follow each other. */
static bool is_path(struct span path, const char *want)
{
    size_t at = 0;

    for (size_t i = 0; i < path.len; i++) {
        if (path.data[i] == '/' && i > 0 && path.data[i - 1] == '/')
            continue;
        if (want[at] == '\0' || path.data[i] != want[at])
            return false;
        at++;
    }
    return want[at] == '\0';
}

static bool parse_u32(struct span s, uint32_t *ret_value)
{
    uint64_t value = 0;
    size_t i = s.len > 1 && s.data[0] == '+' ? 1 : 0;

    if (s.len == i)
        return false;
    for (; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(s.data[i] - '0');
        if (value > UINT32_MAX)
            return false;
    }
    *ret_value = (uint32_t)value;
    return true;
}

static int answer_put(struct mmds *mmds, const struct request *r,
    struct span path, uint64_t now_ns, struct mmds_reply *ret_reply)
{
    char token[MMDS_TOKEN_CHARS + 1];
    uint32_t ttl;
    int rc;

    if (r->forwarded.data != NULL)
        return reply_text(r, 400, ret_reply,
            "Invalid header. Reason: Unsupported header name. Key: %.*s",
            (int)r->forwarded.len, r->forwarded.data);
    if (!is_path(path, TOKEN_PATH))
        return reply_text(r, 404, ret_reply, "Resource not found: %.*s.",
            (int)path.len, path.data);
    if (r->ttl.data == NULL)
        return reply_text(r, 400, ret_reply, NO_TTL);
    if (!parse_u32(r->ttl, &ttl))
        return reply_text(r, 400, ret_reply,
            "Invalid header. Reason: Invalid value. Key:%.*s; Value:%.*s",
            (int)r->ttl_name.len, r->ttl_name.data, (int)r->ttl.len,
            r->ttl.data);
    rc = mmds_make_token(mmds, now_ns, ttl, token);
    if (rc == -ERANGE)
        return reply_text(r, 400, ret_reply,
            "Invalid time to live value provided for token: %u. Please "
            "provide a value between %u and %u.",
            ttl, MMDS_TTL_MIN, MMDS_TTL_MAX);
    if (rc == -EIO)
        return reply_text(r, 400, ret_reply, "Failed to generate a key");
    if (rc < 0)
        return rc;
    return write_reply(r,
        &(struct reply){.status = 200,
            .body = token,
            .len = MMDS_TOKEN_CHARS,
            .name = r->ttl_name,
            .value = ttl},
        ret_reply);
}

/* ---- requests ------------------------------------------------------------ */

/* The path of "/path" and of "http://host/path"; nothing if there is none. */
static struct span get_path(struct span uri)
{
    static const char scheme[] = "http://";
    size_t skip = sizeof(scheme) - 1;
    const char *slash;

    if (uri.len >= 1 && uri.data[0] == '/')
        return uri;
    if (uri.len < skip || strncasecmp(uri.data, scheme, skip) != 0)
        return (struct span){.data = ""};
    slash = memchr(uri.data + skip, '/', uri.len - skip);
    if (slash == NULL)
        return (struct span){.data = ""};
    return (struct span){slash, uri.len - (size_t)(slash - uri.data)};
}

static int answer(struct mmds *mmds, const struct request *r, uint64_t now_ns,
    struct mmds_reply *ret_reply)
{
    struct span path = get_path(r->uri);

    if (path.len == 0)
        return reply_text(r, 400, ret_reply, "Invalid URI.");
    switch (r->parser.method) {
    case HTTP_GET:
        return answer_get(mmds, r, path, now_ns, ret_reply);
    case HTTP_PUT:
        return answer_put(mmds, r, path, now_ns, ret_reply);
    default:
        return reply_text(r, 405, ret_reply, "Not allowed HTTP method.");
    }
}

int mmds_http_answer(struct mmds *mmds, const char *data, size_t len,
    uint64_t now_ns, size_t *ret_used, struct mmds_reply *ret_reply)
{
    struct request r = {.is_whole = false};
    enum http_errno code;
    size_t used;
    int rc;

    assert(len <= MMDS_REQUEST_MAX);
    http_parser_init(&r.parser, HTTP_REQUEST);
    r.parser.data = &r;
    used = http_parser_execute(&r.parser, &settings, data, len);
    code = HTTP_PARSER_ERRNO(&r.parser);
    if (!r.is_whole && code == HPE_OK && !r.parser.upgrade &&
        len < MMDS_REQUEST_MAX)
        return 0;
    if (r.is_whole)
        rc = answer(mmds, &r, now_ns, ret_reply);
    else
        rc = reply_text(&r, 400, ret_reply, "%s",
            code == HPE_OK ? "The request is too long."
                           : http_errno_description(code));
    if (rc < 0)
        return rc;
    *ret_used = r.is_whole ? used : len;
    return 1;
}
