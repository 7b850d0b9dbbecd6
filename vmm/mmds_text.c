/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mmds_text.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/json_reader.h"
#include "vmm/base/cc.h"
#include "vmm/base/num.h"

/* ---- a text that grows --------------------------------------------------- */

struct text {
    char *data;
    size_t len;
    size_t size;
    bool failed; /* no memory; what is put then is lost */
};

static void put(struct text *t, const char *data, size_t len)
{
    size_t size = t->size == 0 ? 256 : t->size;
    char *grown;

    while (!t->failed && size < t->len + len + 1)
        size *= 2;
    if (!t->failed && size > t->size) {
        grown = realloc(t->data, size);
        t->failed = grown == NULL;
        if (grown != NULL) {
            t->data = grown;
            t->size = size;
        }
    }
    if (t->failed)
        return;
    memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = '\0';
}

static void put_text(struct text *t, const char *text)
{
    put(t, text, strlen(text));
}

static int finish(struct text *t, char **ret_text, size_t *ret_len)
{
    put(t, "", 0);
    if (t->failed) {
        free(t->data);
        return -ENOMEM;
    }
    *ret_text = t->data;
    *ret_len = t->len;
    return 0;
}

/* ---- JSON ---------------------------------------------------------------- */

static void put_escape(struct text *t, unsigned char c)
{
    static const char letters[] = "\b\f\n\r\t\"\\";
    static const char escaped[] = "bfnrt\"\\";
    const char *at = strchr(letters, c);
    char code[8];

    if (c != '\0' && at != NULL)
        (void)snprintf(code, sizeof(code), "\\%c", escaped[at - letters]);
    else
        (void)snprintf(code, sizeof(code), "\\u%04x", c);
    put_text(t, code);
}

static void put_string(struct text *t, const char *data, size_t len)
{
    size_t from = 0;

    put(t, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        put(t, data + from, i - from);
        put_escape(t, c);
        from = i + 1;
    }
    put(t, data + from, len - from);
    put(t, "\"", 1);
}

static void put_leaf(struct text *t, const json_t *value)
{
    char number[64];

    if (json_is_string(value)) {
        put_string(t, json_string_value(value), json_string_length(value));
        return;
    }
    if (json_is_integer(value))
        (void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
            json_integer_value(value));
    else if (json_is_real(value))
        json_reader_format_real(json_real_value(value), number, sizeof(number));
    else
        (void)snprintf(number, sizeof(number), "%s",
            json_is_null(value)   ? "null"
            : json_is_true(value) ? "true"
                                  : "false");
    put_text(t, number);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Keys in order, as many as the object has; NULL without memory. */
static const char **sort_keys(json_t *object)
{
    size_t count = json_object_size(object);
    const char **keys = calloc(count + 1, sizeof(keys[0]));
    const char *key;
    json_t *value;
    size_t n = 0;

    if (keys == NULL)
        return NULL;
    json_object_foreach(object, key, value) keys[n++] = key;
    assert(n == count);
    qsort(keys, count, sizeof(keys[0]), compare_keys);
    return keys;
}

/* An object or a list that is being written. */
struct level {
    json_t *value;
    const char **keys; /* NULL: a list */
    size_t count;
    size_t at;
};

/* False for what has no members, which is written then. */
static bool open_level(struct text *t, json_t *value, struct level *ret_level)
{
    bool is_list = json_is_array(value);
    struct level l = {.value = value,
        .count = is_list ? json_array_size(value) : json_object_size(value)};

    if (!is_list && !json_is_object(value)) {
        put_leaf(t, value);
        return false;
    }
    if (l.count == 0) {
        put_text(t, is_list ? "[]" : "{}");
        return false;
    }
    if (!is_list) {
        l.keys = sort_keys(value);
        t->failed |= l.keys == NULL;
        if (l.keys == NULL)
            return false;
    }
    put_text(t, is_list ? "[" : "{");
    *ret_level = l;
    return true;
}

static json_t *next_member(struct text *t, struct level *l)
{
    const char *key;

    if (l->at > 0)
        put(t, ",", 1);
    if (l->keys == NULL)
        return json_array_get(l->value, l->at++);
    key = l->keys[l->at++];
    put_string(t, key, strlen(key));
    put(t, ":", 1);
    return json_object_get(l->value, key);
}

int mmds_text_json(json_t *value, char **ret_text, size_t *ret_len)
{
    /* A patch may put an object into an object of that depth. */
    struct level stack[JSON_READER_DEPTH_MAX + 1];
    struct text t = {.data = NULL};
    size_t depth = open_level(&t, value, &stack[0]) ? 1 : 0;

    while (depth > 0) {
        struct level *l = &stack[depth - 1];

        if (l->at == l->count || t.failed) {
            put(&t, l->keys == NULL ? "]" : "}", 1);
            free(l->keys);
            depth--;
            continue;
        }
        assert(depth < ARRAY_SIZE(stack));
        if (open_level(&t, next_member(&t, l), &stack[depth]))
            depth++;
    }
    return finish(&t, ret_text, ret_len);
}

/* ---- lists of the metadata service --------------------------------------- */

int mmds_text_imds(json_t *value, char **ret_text, size_t *ret_len)
{
    struct text t = {.data = NULL};
    const char **keys;

    if (json_is_string(value)) {
        put(&t, json_string_value(value), json_string_length(value));
        return finish(&t, ret_text, ret_len);
    }
    if (!json_is_object(value))
        return -EOPNOTSUPP;
    keys = sort_keys(value);
    if (keys == NULL)
        return -ENOMEM;
    for (size_t i = 0; keys[i] != NULL; i++) {
        put(&t, "\n", i == 0 ? 0 : 1);
        put_text(&t, keys[i]);
        if (json_is_object(json_object_get(value, keys[i])))
            put(&t, "/", 1);
    }
    free(keys);
    return finish(&t, ret_text, ret_len);
}

/* ---- paths --------------------------------------------------------------- */

/* "0" or a number without zeros in front. */
static bool parse_index(const char *text, size_t *ret_index)
{
    size_t len = strspn(text, "0123456789");

    if (len == 0 || len > 9 || text[len] != '\0' || (text[0] == '0' && len > 1))
        return false;
    *ret_index = strtoul(text, NULL, 10);
    return true;
}

static json_t *find_member(json_t *value, const char *key)
{
    size_t i;

    if (json_is_object(value))
        return json_object_get(value, key);
    if (json_is_array(value) && parse_index(key, &i))
        return json_array_get(value, i);
    return NULL;
}

/* One component, with ~1 for a slash and ~0 for a tilde. */
static void unescape(const char *from, size_t len, char *to)
{
    for (size_t i = 0; i < len; i++) {
        bool is_code = from[i] == '~' && i + 1 < len &&
                       (from[i + 1] == '0' || from[i + 1] == '1');

        *to++ = (char)(!is_code ? from[i] : from[i + 1] == '0' ? '~' : '/');
        i += is_code;
    }
    *to = '\0';
}

json_t *mmds_text_find(json_t *root, const char *path, size_t len)
{
    char key[MMDS_PATH_MAX + 1];
    json_t *value = root;
    size_t at = 0;

    if (len == 0 || len > MMDS_PATH_MAX || path[0] != '/' ||
        memchr(path, '\0', len) != NULL)
        return NULL;
    while (value != NULL && at < len) {
        const char *end;
        size_t n;

        if (path[at] == '/') {
            at++;
            continue;
        }
        end = memchr(path + at, '/', len - at);
        n = end == NULL ? len - at : (size_t)(end - path) - at;
        unescape(path + at, n, key);
        value = find_member(value, key);
        at += n;
    }
    return value;
}
