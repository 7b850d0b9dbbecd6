/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/lib_request.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/base/bytes.h"

#define STREAM_FLAGS ((uint32_t)(LIB_STDIN | LIB_STDOUT | LIB_STDERR))
#define EXEC_FLAGS   (STREAM_FLAGS | (uint32_t)(LIB_CWD | LIB_USER))

/* What each op may have; descriptors of EXEC are those of its flags. */
static const struct {
    uint32_t flags;
    size_t fds;
    bool has_timeout;
    bool has_strings;
} ops[LIB_OPS] = {
    [LIB_OPEN] = {.flags = LIB_RENEW, .has_strings = true},
    [LIB_CLONE] = {.fds = 1, .has_timeout = true},
    [LIB_EXEC] = {.flags = EXEC_FLAGS,
        .has_timeout = true,
        .has_strings = true},
    [LIB_STREAM] = {.fds = 1},
    [LIB_RESET] = {.has_timeout = true},
    [LIB_CANCEL] = {0},
};

static int malformed(struct err *err)
{
    return err_set(err, EPROTO,
        "what libspore has sent is not of this version's protocol");
}

static size_t count_fds(const struct lib_request *r)
{
    return ops[r->op].fds + (size_t)__builtin_popcount(r->flags & STREAM_FLAGS);
}

/* Whether a field that only one op has is unused by the others. */
static bool has_plain_rest(const struct lib_request *r)
{
    if (r->zero != 0 || (r->op != LIB_STREAM && r->port != 0) ||
        (!ops[r->op].has_timeout && r->timeout_ms != 0))
        return false;
    if (r->op != LIB_OPEN && (r->max != 0 || r->ready != 0))
        return false;
    if (!ops[r->op].has_strings && r->argc != 0)
        return false;
    return r->op == LIB_EXEC || r->envc == 0;
}

static const char *next_string(struct bytes_reader *r)
{
    const char *text = (const char *)r->data + r->pos;
    size_t left = bytes_left(r);
    const char *end = left == 0 ? NULL : memchr(text, '\0', left);

    if (end == NULL) {
        r->failed = true;
        return NULL;
    }
    bytes_skip(r, (uint64_t)(end - text) + 1);
    return text;
}

static void next_strings(
    struct bytes_reader *r, uint32_t count, const char **ret_list)
{
    for (uint32_t i = 0; i < count; i++)
        ret_list[i] = next_string(r);
    ret_list[count] = NULL;
}

static int check_env(const struct lib_call *c, struct err *err)
{
    for (uint32_t i = 0; i < c->envc; i++) {
        if (strchr(c->env[i], '=') == NULL || c->env[i][0] == '=')
            return err_set(
                err, EINVAL, "'%.64s' is no variable: NAME=VALUE", c->env[i]);
    }
    return 0;
}

static int check_open(const struct lib_call *c, struct err *err)
{
    if (c->max == 0 || c->max > LIB_CLONES_MAX)
        return err_set(err, EINVAL, "there may be 1 to %u clones, not %u",
            LIB_CLONES_MAX, c->max);
    if (c->ready > c->max)
        return err_set(err, EINVAL,
            "no more than all %u clones can be ready ahead, not %u", c->max,
            c->ready);
    return 0;
}

static int take_strings(
    struct bytes_reader *r, struct lib_call *c, struct err *err)
{
    if (c->op == LIB_OPEN)
        c->name = next_string(r);
    next_strings(r, c->argc, c->argv);
    next_strings(r, c->envc, c->env);
    if ((c->flags & LIB_CWD) != 0)
        c->cwd = next_string(r);
    if ((c->flags & LIB_USER) != 0)
        c->user = next_string(r);
    if (r->failed || bytes_left(r) != 0)
        return malformed(err);
    if (c->op == LIB_OPEN)
        return check_open(c, err);
    return check_env(c, err);
}

int lib_request_parse(const uint8_t *packet, size_t size, size_t fd_count,
    struct lib_call *ret_call, struct err *err)
{
    struct lib_request r;
    struct bytes_reader reader;

    bytes_reader_init(&reader, packet, size);
    bytes_get(&reader, &r, sizeof(r));
    if (reader.failed || r.version != LIB_WIRE_VERSION || r.op >= LIB_OPS ||
        (r.flags & ~ops[r.op].flags) != 0 || !has_plain_rest(&r) ||
        fd_count != count_fds(&r) || r.argc > LIB_ARGS_MAX ||
        r.envc > LIB_ARGS_MAX)
        return malformed(err);
    ret_call->op = r.op;
    ret_call->flags = r.flags;
    ret_call->timeout_ms = r.timeout_ms;
    ret_call->port = r.port;
    ret_call->max = r.max;
    ret_call->ready = r.ready;
    ret_call->name = NULL;
    ret_call->cwd = NULL;
    ret_call->user = NULL;
    ret_call->argc = r.argc;
    ret_call->envc = r.envc;
    return take_strings(&reader, ret_call, err);
}
