/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mmds.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/api/json_reader.h"
#include "vmm/base/clock.h"
#include "vmm/mmds_text.h"

#define TOO_LARGE "The MMDS patch request doesn't fit."

void mmds_init(struct mmds *mmds)
{
    *mmds = (struct mmds){.limit = MMDS_LIMIT_DEFAULT};
}

void mmds_fini(struct mmds *mmds)
{
    json_decref(mmds->data);
    free(mmds->tokens);
    *mmds = (struct mmds){.data = NULL};
}

static int check_size(const struct mmds *mmds, json_t *data, struct err *err)
{
    char *text;
    size_t len;
    int rc = mmds_text_json(data, &text, &len);

    if (rc < 0)
        return err_sys(err, rc, "metadata");
    free(text);
    return len > mmds->limit ? err_set(err, E2BIG, TOO_LARGE) : 0;
}

int mmds_put(struct mmds *mmds, json_t *data, struct err *err)
{
    int rc = check_size(mmds, data, err);

    if (rc < 0)
        return rc;
    json_incref(data);
    json_decref(mmds->data);
    mmds->data = data;
    return 0;
}

/* ---- patches ------------------------------------------------------------- */

struct merge {
    json_t *to;
    json_t *from;
    void *at; /* the next member of `from`; NULL: its end */
};

/*
 * Merges one member and says which object is to be gone into: NULL for none.
 * False without memory.
 */
static bool merge_member(
    json_t *to, const char *key, json_t *value, json_t **ret_into)
{
    json_t *old;

    *ret_into = NULL;
    if (json_is_null(value)) {
        (void)json_object_del(to, key);
        return true;
    }
    if (!json_is_object(value))
        return json_object_set_new(to, key, json_deep_copy(value)) == 0;
    old = json_object_get(to, key);
    if (!json_is_object(old)) {
        old = json_object();
        if (json_object_set_new(to, key, old) < 0)
            return false;
    }
    *ret_into = old;
    return true;
}

/* Into the object `to`, which is nobody else's. */
static bool merge(json_t *to, json_t *from)
{
    struct merge stack[JSON_READER_DEPTH_MAX + 1];
    size_t depth = 1;

    stack[0] = (struct merge){to, from, json_object_iter(from)};
    while (depth > 0) {
        struct merge *m = &stack[depth - 1];
        json_t *value;
        json_t *into;

        if (m->at == NULL) {
            depth--;
            continue;
        }
        value = json_object_iter_value(m->at);
        if (!merge_member(m->to, json_object_iter_key(m->at), value, &into))
            return false;
        m->at = json_object_iter_next(m->from, m->at);
        if (into == NULL)
            continue;
        assert(depth < ARRAY_SIZE(stack));
        stack[depth++] = (struct merge){into, value, json_object_iter(value)};
    }
    return true;
}

int mmds_patch(struct mmds *mmds, const json_t *patch, struct err *err)
{
    /* jansson iterates over objects that may be changed only. */
    json_t *from = (json_t *)(uintptr_t)patch;
    json_t *copy;
    int rc;

    if (mmds->data == NULL)
        return err_set(err, ENODATA, "The MMDS data store is not initialized.");
    if (!json_is_object(patch))
        return mmds_put(mmds, from, err);
    copy =
        json_is_object(mmds->data) ? json_deep_copy(mmds->data) : json_object();
    if (copy == NULL || !merge(copy, from))
        rc = err_sys(err, ENOMEM, "metadata");
    else
        rc = mmds_put(mmds, copy, err);
    json_decref(copy);
    return rc;
}

/* ---- tokens -------------------------------------------------------------- */

static void write_hex(const uint8_t *data, size_t len, char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        *text++ = digits[data[i] >> 4];
        *text++ = digits[data[i] & 15];
    }
    *text = '\0';
}

int mmds_make_token(struct mmds *mmds, uint64_t now_ns, uint32_t ttl_s,
    char ret_token[MMDS_TOKEN_CHARS + 1])
{
    struct mmds_token token = {.ends_ns = now_ns + ttl_s * CLOCK_NS_PER_S};
    struct mmds_token *place;

    if (ttl_s < MMDS_TTL_MIN || ttl_s > MMDS_TTL_MAX)
        return -ERANGE;
    if (mmds->tokens == NULL)
        mmds->tokens = calloc(MMDS_TOKENS_MAX, sizeof(mmds->tokens[0]));
    if (mmds->tokens == NULL)
        return -ENOMEM;
    if (getrandom(token.secret, sizeof(token.secret), GRND_NONBLOCK) !=
        (ssize_t)sizeof(token.secret))
        return -EIO;
    place = &mmds->tokens[0];
    for (size_t i = 1; i < MMDS_TOKENS_MAX; i++) {
        if (mmds->tokens[i].ends_ns < place->ends_ns)
            place = &mmds->tokens[i];
    }
    *place = token;
    write_hex(token.secret, sizeof(token.secret), ret_token);
    return 0;
}

bool mmds_has_token(
    const struct mmds *mmds, uint64_t now_ns, const char *token, size_t len)
{
    char text[MMDS_TOKEN_CHARS + 1];
    bool has = false;

    if (mmds->tokens == NULL || len != MMDS_TOKEN_CHARS)
        return false;
    for (size_t i = 0; i < MMDS_TOKENS_MAX; i++) {
        const struct mmds_token *t = &mmds->tokens[i];
        unsigned int differs = t->ends_ns <= now_ns;

        write_hex(t->secret, sizeof(t->secret), text);
        for (size_t k = 0; k < MMDS_TOKEN_CHARS; k++)
            differs |= (unsigned char)text[k] ^ (unsigned char)token[k];
        has |= differs == 0;
    }
    return has;
}
