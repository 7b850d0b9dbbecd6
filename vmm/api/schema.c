/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/schema.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The contract nests a limiter's bucket, load its devices: four levels. */
#define FRAMES_MAX 8u

/* Bytes of a client's text in a complaint. */
#define QUOTE_MAX 256u

enum frame_kind {
    FRAME_FIELDS, /* an object with fields */
    FRAME_ORDER,  /* the same as a list */
    FRAME_LIST,
    FRAME_STRINGS,
};

/* An object or a list whose end has not come yet. */
struct frame {
    enum frame_kind kind;
    const struct schema_field *fields; /* FIELDS, ORDER */
    size_t count;                      /* of them */
    uint64_t seen;                     /* bits of `fields` */
    const struct schema_field *field;  /* whose value comes, or of the list */
    bool is_open;
    bool is_first;
    char *key; /* STRINGS: whose value comes */
    json_t *json;
};

struct parse {
    struct json_reader r;
    struct frame frames[FRAMES_MAX];
    size_t depth;
    json_t *root; /* when it is whole */
};

/* ---- complaints ---------------------------------------------------------- */

/*
 * What is said of a member is placed where its object could be left: behind
 * its last bracket, if that comes next.
 */
CC_PRINTF(2, 3)
static bool fail_in_frame(struct parse *p, const char *fmt, ...)
{
    char what[JSON_READER_TEXT_MAX];
    enum frame_kind kind = p->frames[p->depth - 1].kind;
    va_list args;
    bool closed;

    va_start(args, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    closed = kind == FRAME_LIST || kind == FRAME_ORDER
                 ? json_reader_list_end(&p->r)
                 : json_reader_object_end(&p->r);
    (void)closed;
    return json_reader_fail(&p->r, "%s", what);
}

/* Adds "`word`" to a list of which `i` words of `n` are there. */
static void add_word(
    char *list, size_t size, const char *word, size_t i, size_t n)
{
    size_t have = strlen(list);
    const char *before = i == 0 ? "" : n == 2 ? " or " : ", ";

    (void)snprintf(list + have, size - have, "%s`%s`", before, word);
}

/* As much of a client's text as is quoted, in whole characters. */
static int quote_len(const char *text)
{
    size_t n = strnlen(text, QUOTE_MAX);

    while (n == QUOTE_MAX && n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return (int)n;
}

static bool unknown_field(struct parse *p, const char *key)
{
    const struct frame *f = &p->frames[p->depth - 1];
    char list[512] = "";

    for (size_t i = 0; i < f->count; i++)
        add_word(list, sizeof(list), f->fields[i].name, i, f->count);
    return fail_in_frame(p, "unknown field `%.*s`, %s%s%s", quote_len(key), key,
        f->count == 0 ? "there are no fields" : "expected ",
        f->count > 2 ? "one of " : "", list);
}

static bool unknown_variant(
    struct parse *p, const struct schema_field *field, const char *value)
{
    char list[256] = "";
    size_t n = 0;

    while (field->variants[n] != NULL)
        n++;
    for (size_t i = 0; i < n; i++)
        add_word(list, sizeof(list), field->variants[i], i, n);
    return json_reader_fail(&p->r, "unknown variant `%.*s`, expected %s%s",
        quote_len(value), value, n > 2 ? "one of " : "", list);
}

/* A string as Rust shows it in its own notation. */
static void show_string(const char *text, size_t len, char *buf, size_t size)
{
    static const char names[] = "\"\\\n\r\t";
    static const char values[] = "\"\\nrt";
    size_t quoted = (size_t)quote_len(text);
    size_t at = 0;

    if (quoted < len && quoted < QUOTE_MAX)
        quoted = len < QUOTE_MAX ? len : QUOTE_MAX;
    for (size_t i = 0; i < quoted && at + 12 < size; i++) {
        unsigned char c = (unsigned char)text[i];
        const char *name = c == 0 ? NULL : strchr(names, c);

        if (name != NULL)
            at += (size_t)snprintf(
                buf + at, size - at, "\\%c", values[name - names]);
        else if (c == 0)
            at += (size_t)snprintf(buf + at, size - at, "\\0");
        else if (c < 0x20 || c == 0x7f)
            at += (size_t)snprintf(buf + at, size - at, "\\u{%x}", c);
        else
            buf[at++] = (char)c;
    }
    buf[at] = '\0';
}

static bool number_is_bad(struct parse *p, const struct json_number *n,
    const char *what, const char *expected)
{
    char real[48];

    switch (n->kind) {
    case JSON_NUMBER_UINT:
        return json_reader_fail(&p->r,
            "invalid %s: integer `%llu`, expected %s", what,
            (unsigned long long)n->u, expected);
    case JSON_NUMBER_INT:
        return json_reader_fail(&p->r,
            "invalid %s: integer `%lld`, expected %s", what, (long long)n->i,
            expected);
    case JSON_NUMBER_REAL:
    default:
        json_reader_format_real(n->f, real, sizeof(real));
        return json_reader_fail(&p->r,
            "invalid type: floating point `%s`, expected %s", real, expected);
    }
}

/* The value that comes next is of no type that would do. */
static bool invalid_type(struct parse *p, const char *expected)
{
    struct json_reader *r = &p->r;
    int c = json_reader_peek(r);
    char shown[4 * QUOTE_MAX];
    struct json_number number;
    char *text;
    size_t len;

    switch (c) {
    case 'n':
        return json_reader_word(r, "null") &&
               json_reader_fail(r, "invalid type: null, expected %s", expected);
    case 't':
    case 'f':
        return json_reader_word(r, c == 't' ? "true" : "false") &&
               json_reader_fail(r, "invalid type: boolean `%s`, expected %s",
                   c == 't' ? "true" : "false", expected);
    case '"':
        if (!json_reader_string(r, &text, &len))
            return false;
        show_string(text, len, shown, sizeof(shown));
        free(text);
        return json_reader_fail(
            r, "invalid type: string \"%s\", expected %s", shown, expected);
    case '[':
    case '{':
        return json_reader_fail(r, "invalid type: %s, expected %s",
            c == '[' ? "sequence" : "map", expected);
    default:
        if (c != '-' && (c < '0' || c > '9'))
            return json_reader_fail_ahead(
                r, c < 0 ? "EOF while parsing a value" : "expected value");
        return json_reader_number(r, &number) &&
               number_is_bad(p, &number, "type", expected);
    }
}

/* Whether there is a value, and it begins with `first`. */
static bool expect(struct parse *p, int first, const char *expected)
{
    int c = json_reader_peek(&p->r);

    if (c < 0)
        return json_reader_fail_ahead(&p->r, "EOF while parsing a value");
    return c == first || invalid_type(p, expected);
}

/* ---- values -------------------------------------------------------------- */

/* Puts a value in its place; takes it over. */
static bool deliver(struct parse *p, json_t *value)
{
    struct frame *f;
    int rc;

    if (p->depth == 0) {
        p->root = value;
        return value != NULL || json_reader_fail(&p->r, "no memory");
    }
    f = &p->frames[p->depth - 1];
    if (f->kind == FRAME_LIST)
        rc = json_array_append_new(f->json, value);
    else
        rc = json_object_set_new(
            f->json, f->kind == FRAME_STRINGS ? f->key : f->field->name, value);
    free(f->key);
    f->key = NULL;
    return rc == 0 || json_reader_fail(&p->r, "no memory");
}

static bool read_string(struct parse *p, const struct schema_field *field)
{
    bool is_custom = field->type == SCHEMA_CUSTOM;
    char complaint[SCHEMA_TEXT_MAX];
    char *text;
    size_t len;
    bool done;
    const char *expected = field->expected != NULL ? field->expected
                           : is_custom || field->name_of == NULL
                               ? "a string"
                               : field->name_of;

    if (!expect(p, '"', expected) || !json_reader_string(&p->r, &text, &len))
        return false;
    /* Paths and names end at the first NUL, whatever comes behind it. */
    if (memchr(text, '\0', len) != NULL)
        done = fail_in_frame(p, "file name contained an unexpected NUL byte");
    else if (field->check != NULL && !field->check(text, complaint))
        done = fail_in_frame(p, "%s", complaint);
    else if (is_custom && field->is_good != NULL && !field->is_good(text))
        done = fail_in_frame(p, "%s", field->name_of);
    else
        done = deliver(p, json_stringn(text, len));
    free(text);
    return done;
}

static bool read_bool(struct parse *p)
{
    int c = json_reader_peek(&p->r);

    if (c != 't' && c != 'f')
        return expect(p, 't', "a boolean");
    return json_reader_word(&p->r, c == 't' ? "true" : "false") &&
           deliver(p, json_boolean(c == 't'));
}

static void name_uint(const struct schema_field *field, char *buf, size_t size)
{
    const char *name = field->name_of;

    if (name == NULL)
        name = field->max == UINT8_MAX    ? "u8"
               : field->max == UINT16_MAX ? "u16"
               : field->max == UINT32_MAX ? "u32"
               : field->max == UINT64_MAX ? "u64"
                                          : NULL;
    if (name != NULL)
        (void)snprintf(buf, size, "%s", name);
    else
        (void)snprintf(buf, size, "0 to %llu", (unsigned long long)field->max);
}

static bool read_uint(struct parse *p, const struct schema_field *field)
{
    int c = json_reader_peek(&p->r);
    struct json_number n;
    char expected[32];

    name_uint(field, expected, sizeof(expected));
    if (c != '-' && (c < '0' || c > '9'))
        return expect(p, '0', expected);
    if (!json_reader_number(&p->r, &n))
        return false;
    if (n.kind != JSON_NUMBER_UINT || n.u > field->max)
        return number_is_bad(p, &n, "value", expected);
    return deliver(
        p, json_integer(n.u > INT64_MAX ? INT64_MAX : (json_int_t)n.u));
}

/* A variant's name, which may also be the one key of an object. */
static bool read_variant(struct parse *p, const struct schema_field *field)
{
    struct json_reader *r = &p->r;
    bool has_object = json_reader_peek(r) == '{';
    const char *variant = NULL;
    char *text;
    size_t len;

    if (has_object && !json_reader_enter(r))
        return false;
    if (json_reader_peek(r) != '"') {
        int c = json_reader_peek(r);

        return has_object && c >= 0 ? invalid_type(p, "variant identifier")
                                    : json_reader_fail_ahead(
                                          r, c < 0 ? "EOF while parsing a value"
                                                   : "expected value");
    }
    if (!json_reader_string(r, &text, &len))
        return false;
    for (size_t i = 0; field->variants[i] != NULL && variant == NULL; i++) {
        if (strlen(text) == len && strcmp(field->variants[i], text) == 0)
            variant = field->variants[i];
    }
    if (variant == NULL)
        (void)unknown_variant(p, field, text);
    free(text);
    if (variant == NULL)
        return false;
    if (has_object) {
        if (!json_reader_colon(r) || !expect(p, 'n', "unit") ||
            !json_reader_word(r, "null"))
            return false;
        if (json_reader_peek(r) != '}')
            return json_reader_fail(r, "%s",
                json_reader_peek(r) < 0 ? "EOF while parsing an object"
                                        : "expected value");
        r->pos++;
        json_reader_leave(r);
    }
    return deliver(p, json_string(variant));
}

static bool read_any(struct parse *p, size_t flags)
{
    size_t start;
    json_error_t error;
    json_t *json;

    (void)json_reader_peek(&p->r);
    start = p->r.pos;
    if (!json_reader_skip(&p->r))
        return false;
    /* Whatever it makes of it: it is JSON, and not deep. */
    json = json_loadb(p->r.data + start, p->r.pos - start,
        JSON_DECODE_ANY | JSON_ALLOW_NUL | flags, &error);
    if (json == NULL)
        return json_reader_fail(&p->r, "%.128s", error.text);
    return deliver(p, json);
}

/* ---- objects and lists --------------------------------------------------- */

static size_t count_fields(const struct schema_field *fields)
{
    size_t n = 0;

    while (fields[n].name != NULL)
        n++;
    assert(n <= SCHEMA_FIELDS_MAX);
    return n;
}

static bool push(struct parse *p, const struct frame *frame)
{
    json_t *json = frame->kind == FRAME_LIST ? json_array() : json_object();

    /* The tables are ours, and not as deep as this. */
    assert(p->depth < FRAMES_MAX);
    if (json == NULL)
        return json_reader_fail(&p->r, "no memory");
    if (!json_reader_enter(&p->r)) {
        json_decref(json);
        return false;
    }
    p->frames[p->depth] = *frame;
    p->frames[p->depth].is_first = true;
    p->frames[p->depth].json = json;
    p->depth++;
    return true;
}

static bool pop(struct parse *p)
{
    json_t *json = p->frames[--p->depth].json;

    json_reader_leave(&p->r);
    return deliver(p, json);
}

static bool begin_object(
    struct parse *p, const struct schema_field *fields, bool is_open)
{
    size_t count = count_fields(fields);
    const char *name = fields[count].name_of;
    bool is_list = json_reader_peek(&p->r) == '[' && name != NULL;
    char expected[96];
    const struct frame frame = {.kind = is_list ? FRAME_ORDER : FRAME_FIELDS,
        .fields = fields,
        .count = count,
        .is_open = is_open || fields[count].is_open};

    (void)snprintf(expected, sizeof(expected), "%s%s",
        name == NULL ? "" : "struct ", name == NULL ? "an object" : name);
    if (!is_list && !expect(p, '{', expected))
        return false;
    return push(p, &frame);
}

/* A value of the field's type, or the beginning of one. */
static bool begin_value(struct parse *p, const struct schema_field *field)
{
    if (!field->required && !field->not_null && json_reader_peek(&p->r) == 'n')
        return json_reader_word(&p->r, "null");
    switch (field->type) {
    case SCHEMA_STRING:
    case SCHEMA_CUSTOM:
        return read_string(p, field);
    case SCHEMA_BOOL:
        return read_bool(p);
    case SCHEMA_UINT:
        return read_uint(p, field);
    case SCHEMA_ENUM:
        return read_variant(p, field);
    case SCHEMA_LIST:
        return expect(p, '[', "a sequence") &&
               push(p, &(struct frame){.kind = FRAME_LIST, .field = field});
    case SCHEMA_STRINGS:
        return expect(p, '{', "a map") &&
               push(p, &(struct frame){.kind = FRAME_STRINGS});
    case SCHEMA_OBJECT:
        if (field->object != NULL)
            return begin_object(p, field->object, field->is_open);
        return expect(p, '{', "an object") &&
               read_any(p, JSON_REJECT_DUPLICATES);
    case SCHEMA_ANY:
    default:
        return read_any(p, 0);
    }
}

static bool check_missing(struct parse *p)
{
    const struct frame *f = &p->frames[p->depth - 1];

    for (size_t i = 0; i < f->count; i++) {
        if (f->fields[i].required && (f->seen >> i & 1) == 0)
            return fail_in_frame(p, "missing field `%s`", f->fields[i].name);
    }
    return true;
}

/* The field of a key, NULL for one that is let pass. */
static bool find_field(struct parse *p, const char *key, size_t len,
    const struct schema_field **ret_field)
{
    struct frame *f = &p->frames[p->depth - 1];

    *ret_field = NULL;
    for (size_t i = 0; i < f->count; i++) {
        if (strlen(f->fields[i].name) != len ||
            memcmp(f->fields[i].name, key, len) != 0)
            continue;
        if ((f->seen >> i & 1) != 0)
            return fail_in_frame(p, "duplicate field `%s`", f->fields[i].name);
        f->seen |= UINT64_C(1) << i;
        *ret_field = &f->fields[i];
        return true;
    }
    return f->is_open || unknown_field(p, key);
}

static bool step_fields(struct parse *p)
{
    struct frame *f = &p->frames[p->depth - 1];
    bool more;
    char *key;
    size_t len;
    bool known;

    if (!json_reader_has_key(&p->r, f->is_first, &more))
        return false;
    f->is_first = false;
    if (!more)
        return check_missing(p) && json_reader_object_end(&p->r) && pop(p);
    if (!json_reader_string(&p->r, &key, &len))
        return false;
    known = find_field(p, key, len, &f->field);
    free(key);
    if (!known || !json_reader_colon(&p->r))
        return false;
    return f->field == NULL ? json_reader_skip(&p->r)
                            : begin_value(p, f->field);
}

static bool step_order(struct parse *p)
{
    struct frame *f = &p->frames[p->depth - 1];
    size_t next = (size_t)__builtin_popcountll(f->seen);
    bool more = false;

    if (next < f->count && !json_reader_has_element(&p->r, f->is_first, &more))
        return false;
    f->is_first = false;
    /* Those that may be missing at the end are. */
    while (!more && next < f->count && !f->fields[next].required)
        next++;
    if (!more && next < f->count)
        return fail_in_frame(p,
            "invalid length %zu, expected struct %s with %zu element%s", next,
            f->fields[f->count].name_of, f->count, f->count == 1 ? "" : "s");
    if (!more)
        return json_reader_list_end(&p->r) && pop(p);
    f->seen |= UINT64_C(1) << next;
    f->field = &f->fields[next];
    return begin_value(p, f->field);
}

static bool step_list(struct parse *p)
{
    struct frame *f = &p->frames[p->depth - 1];
    const struct schema_field word = {.name = "",
        .type = SCHEMA_STRING,
        .required = true,
        .check = f->field->check};
    bool more;

    if (!json_reader_has_element(&p->r, f->is_first, &more))
        return false;
    f->is_first = false;
    if (!more)
        return json_reader_list_end(&p->r) && pop(p);
    return f->field->object == NULL
               ? begin_value(p, &word)
               : begin_object(p, f->field->object, f->field->is_open);
}

static bool step_strings(struct parse *p)
{
    static const struct schema_field word = {
        .name = "", .type = SCHEMA_STRING, .required = true};
    struct frame *f = &p->frames[p->depth - 1];
    bool more;
    size_t len;

    if (!json_reader_has_key(&p->r, f->is_first, &more))
        return false;
    f->is_first = false;
    if (!more)
        return json_reader_object_end(&p->r) && pop(p);
    return json_reader_string(&p->r, &f->key, &len) &&
           json_reader_colon(&p->r) && begin_value(p, &word);
}

static bool step(struct parse *p)
{
    switch (p->frames[p->depth - 1].kind) {
    case FRAME_FIELDS:
        return step_fields(p);
    case FRAME_ORDER:
        return step_order(p);
    case FRAME_LIST:
        return step_list(p);
    case FRAME_STRINGS:
    default:
        return step_strings(p);
    }
}

json_t *schema_parse(const char *body, size_t len,
    const struct schema_field *fields, char ret_text[SCHEMA_TEXT_MAX])
{
    struct parse p = {.r = {.data = body, .len = len, .text = ret_text}};
    bool good =
        fields == NULL ? read_any(&p, 0) : begin_object(&p, fields, false);

    while (good && p.depth > 0)
        good = step(&p);
    if (good && json_reader_end(&p.r))
        return p.root;
    while (p.depth > 0) {
        p.depth--;
        free(p.frames[p.depth].key);
        json_decref(p.frames[p.depth].json);
    }
    json_decref(p.root);
    return NULL;
}

const char *schema_string(const json_t *body, const char *name)
{
    return json_string_value(json_object_get(body, name));
}

uint64_t schema_uint(const json_t *body, const char *name, uint64_t missing)
{
    const json_t *value = json_object_get(body, name);

    return json_is_integer(value) ? (uint64_t)json_integer_value(value)
                                  : missing;
}

bool schema_bool(const json_t *body, const char *name, bool missing)
{
    const json_t *value = json_object_get(body, name);

    return json_is_boolean(value) ? json_is_true(value) : missing;
}
