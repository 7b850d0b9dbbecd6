/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small parser of JSON with six bugs of memory planted in it, as fuzzgoat has
 * them. Each is in a function of its own, which is the bug's name in a report:
 *
 *   value_next    an empty array's items are read after they were freed
 *   trash_empty   the text of a member that comes twice is freed twice
 *   name_release  a name that begins with @ is freed one byte behind its start
 *   follow        a reference (#name) to no member is NULL
 *   text_copy     \u0800 and above need three bytes, and have room for two
 *   number_read   a number of 32 characters and more is longer than its buffer
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE   __attribute__((noinline))
#define TRASH_MAX  16
#define NUMBER_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind { NOTHING, FALSE, TRUE, NUMBER, STRING, ARRAY, OBJECT };

struct value {
    enum kind kind;
    struct value *parent;
    struct value **items; /* a NULL behind the last one */
    size_t count;
    size_t room;
    size_t next; /* item that a walk comes to */
    char *name;
    char *text;
    double number;
    bool is_open;
};

struct json {
    const uint8_t *at;
    const uint8_t *end;
    struct value *root;
    struct value *in; /* what is open */
    char *name;       /* of the member to come */
    char *trash[TRASH_MAX];
    size_t trash_count;
};

static volatile double sink;

/* ---- letters ------------------------------------------------------------- */

static int peek(struct json *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' ||
                                 *j->at == '\t' || *j->at == '\r'))
        j->at++;
    return j->at < j->end ? *j->at : -1;
}

static bool word(struct json *j, const char *text)
{
    size_t len = strlen(text);

    if ((size_t)(j->end - j->at) < len || memcmp(j->at, text, len) != 0)
        return false;
    j->at += len;
    return true;
}

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four digits, or -1. */
static long unit(const uint8_t *at, const uint8_t *end)
{
    long value = 0;

    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex(at[i]);

        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* ---- strings and numbers ------------------------------------------------- */

/* Bytes between the quotes once escapes are gone; -1: it has no end, or an
 * escape is wrong. */
static long text_measure(
    const uint8_t *at, const uint8_t *end, const uint8_t **ret_quote)
{
    long len = 0;

    for (; at < end && *at != '"'; at++) {
        if (*at != '\\') {
            len++;
            continue;
        }
        at++;
        if (at < end && *at == 'u') {
            if (unit(at + 1, end) < 0)
                return -1;
            at += 4;
            len += 2;
        } else if (at < end && strchr("\"\\/bfnrt", *at) != NULL && *at != 0) {
            len++;
        } else {
            return -1;
        }
    }
    *ret_quote = at;
    return at < end ? len : -1;
}

static NOINLINE void text_copy(
    char *to, const uint8_t *at, const uint8_t *quote)
{
    for (; at < quote; at++) {
        long code;

        if (*at != '\\') {
            *to++ = (char)*at;
            continue;
        }
        at++;
        if (*at != 'u') {
            *to++ = (char)*at;
            continue;
        }
        code = unit(at + 1, quote);
        at += 4;
        if (code < 0x80) {
            *to++ = (char)code;
        } else if (code < 0x800) {
            *to++ = (char)(0xc0 | code >> 6);
            *to++ = (char)(0x80 | (code & 0x3f));
        } else {
            *to++ = (char)(0xe0 | code >> 12);
            *to++ = (char)(0x80 | (code >> 6 & 0x3f));
            *to++ = (char)(0x80 | (code & 0x3f));
        }
    }
    *to = '\0';
}

static char *string_read(struct json *j)
{
    const uint8_t *quote;
    long len = text_measure(j->at + 1, j->end, &quote);
    char *text = len < 0 ? NULL : malloc((size_t)len + 1);

    if (text == NULL)
        return NULL;
    text_copy(text, j->at + 1, quote);
    j->at = quote + 1;
    return text;
}

static NOINLINE bool number_read(struct json *j, double *ret_number)
{
    char text[NUMBER_MAX];
    char *end;
    size_t len = 0;

    while (j->at < j->end && *j->at != 0 &&
           strchr("+-.0123456789Ee", *j->at) != NULL)
        text[len++] = (char)*j->at++;
    text[len] = '\0';
    *ret_number = strtod(text, &end);
    return len > 0 && end == text + len;
}

/* ---- values -------------------------------------------------------------- */

static NOINLINE struct value *find(const struct value *object, const char *name)
{
    for (size_t i = 0; i < object->count; i++) {
        struct value *item = object->items[i];

        if (item->name != NULL && strcmp(item->name, name) == 0)
            return item;
    }
    return NULL;
}

static NOINLINE void name_release(struct value *v)
{
    free(v->name);
}

static void value_release(struct value *v)
{
    /* An empty one that was closed has given its items back. */
    if (v->count > 0 || v->is_open)
        free(v->items);
    name_release(v);
    free(v->text);
    free(v);
}

static bool append(struct value *to, struct value *v)
{
    if (to->count + 1 >= to->room) {
        size_t room = to->room * 2;
        struct value **items =
            realloc(to->items, room * sizeof(struct value *));

        if (items == NULL)
            return false;
        to->items = items;
        to->room = room;
    }
    to->items[to->count++] = v;
    to->items[to->count] = NULL;
    v->parent = to;
    return true;
}

/* What a member was before it came again may still be referred to. */
static void trash_add(struct json *j, const struct value *before)
{
    if (before->kind == STRING && j->trash_count < TRASH_MAX)
        j->trash[j->trash_count++] = before->text;
}

static NOINLINE void trash_empty(struct json *j)
{
    while (j->trash_count > 0)
        free(j->trash[--j->trash_count]);
}

/* A new value in what is open, NULL if there is no place for one. */
static struct value *value_add(struct json *j, enum kind kind)
{
    struct value *v = calloc(1, sizeof(*v));

    if (v == NULL)
        return NULL;
    v->kind = kind;
    if (j->in == NULL) {
        j->root = v;
        return v;
    }
    if (j->in->kind == OBJECT) {
        struct value *before = find(j->in, j->name);

        if (before != NULL)
            trash_add(j, before);
        v->name = j->name[0] == '@' ? j->name + 1 : j->name;
        j->name = NULL;
    }
    if (!append(j->in, v)) {
        value_release(v);
        return NULL;
    }
    return v;
}

static bool open_value(struct json *j, enum kind kind)
{
    struct value *v = value_add(j, kind);

    if (v == NULL)
        return false;
    v->room = 4;
    v->items = calloc(v->room, sizeof(struct value *));
    v->is_open = true;
    j->in = v;
    j->at++;
    return v->items != NULL;
}

static void close_value(struct json *j)
{
    struct value *v = j->in;

    if (v->count == 0 && v->kind == ARRAY) {
        free(v->items);
        v->is_open = false;
    }
    j->in = v->parent;
    j->at++;
}

/* ---- the grammar --------------------------------------------------------- */

static bool name_read(struct json *j)
{
    if (peek(j) != '"')
        return false;
    j->name = string_read(j);
    if (j->name == NULL || peek(j) != ':')
        return false;
    j->at++;
    return true;
}

static bool plain_read(struct json *j)
{
    struct value *v = NULL;

    switch (peek(j)) {
    case '"':
        v = value_add(j, STRING);
        if (v == NULL)
            return false;
        v->text = string_read(j);
        return v->text != NULL;
    case 'n':
        return word(j, "null") && value_add(j, NOTHING) != NULL;
    case 't':
        return word(j, "true") && value_add(j, TRUE) != NULL;
    case 'f':
        return word(j, "false") && value_add(j, FALSE) != NULL;
    default:
        v = value_add(j, NUMBER);
        return v != NULL && number_read(j, &v->number);
    }
}

/* Behind a value: ends what it ends, and passes the comma over. */
static bool close_values(struct json *j)
{
    while (j->in != NULL) {
        int c = peek(j);

        if (c == ',') {
            j->at++;
            return true;
        }
        if (c != (j->in->kind == OBJECT ? '}' : ']'))
            return false;
        close_value(j);
    }
    return true;
}

static bool parse(struct json *j)
{
    do {
        int c;

        if (j->in != NULL && j->in->kind == OBJECT && !name_read(j))
            return false;
        c = peek(j);
        if (c == '{' || c == '[') {
            if (!open_value(j, c == '{' ? OBJECT : ARRAY))
                return false;
            c = peek(j);
            if (c != (j->in->kind == OBJECT ? '}' : ']'))
                continue;
            close_value(j);
        } else if (!plain_read(j)) {
            return false;
        }
        if (!close_values(j))
            return false;
    } while (j->in != NULL);
    return peek(j) < 0;
}

/* ---- what is done with it ------------------------------------------------ */

static NOINLINE void follow(const struct json *j, const struct value *from)
{
    const struct value *to = find(j->root, from->text + 1);

    sink += to->number;
}

static NOINLINE struct value *value_next(struct value *v)
{
    struct value *item = v->items[v->next];

    if (item != NULL)
        v->next++;
    return item;
}

static void walk(const struct json *j)
{
    struct value *v = j->root;

    while (v != NULL) {
        struct value *item = NULL;

        if (v->kind == ARRAY || v->kind == OBJECT)
            item = value_next(v);
        else if (v->kind == STRING && v->text[0] == '#' &&
                 j->root->kind == OBJECT)
            follow(j, v);
        else
            sink += v->number;
        if (item == NULL)
            v->next = 0;
        v = item != NULL ? item : v->parent;
    }
}

static void release(struct json *j)
{
    struct value *v = j->root;

    while (v != NULL) {
        struct value *parent = v->parent;

        if (v->next < v->count) {
            v = v->items[v->next++];
            continue;
        }
        value_release(v);
        v = parent;
    }
    free(j->name);
    trash_empty(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json j = {.at = data, .end = data + size};

    if (parse(&j))
        walk(&j);
    release(&j);
    return 0;
}
