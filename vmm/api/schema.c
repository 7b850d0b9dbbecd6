/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/schema.h"

#include <stdio.h>
#include <string.h>

/* Where a complaint is said to have been noticed. */
struct place {
    unsigned int line;
    unsigned int column;
};

struct check {
    const char *body;
    size_t len;
    char *text;
};

/* The place of the character before `end`, counted from 1. */
static struct place place_of(const struct check *c, const char *end)
{
    struct place place = {.line = 1};

    for (const char *p = c->body; p < end; p++) {
        place.column++;
        if (*p == '\n')
            place = (struct place){.line = place.line + 1};
    }
    return place;
}

/* Behind the first "word" of the body, or at its end. */
static struct place find_word(const struct check *c, const char *word)
{
    size_t len = strlen(word);
    const char *end = c->body + c->len;

    for (const char *p = c->body; p + len + 2 <= end; p++) {
        if (p[0] == '"' && memcmp(p + 1, word, len) == 0 && p[len + 1] == '"')
            return place_of(c, p + len + 2);
    }
    return place_of(c, end);
}

/* Behind the last bracket, where an object is known to lack something. */
static struct place find_end(const struct check *c)
{
    const char *end = c->body + c->len;

    while (end > c->body && end[-1] != '}')
        end--;
    return place_of(c, end);
}

CC_PRINTF(3, 4)
static bool complain(
    const struct check *c, struct place place, const char *fmt, ...)
{
    va_list args;
    char what[384];

    va_start(args, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    (void)snprintf(c->text, SCHEMA_TEXT_MAX, "%s at line %u column %u", what,
        place.line, place.column);
    return false;
}

/* Adds "`word`" to a list of which `i` words of `n` are there. */
static void add_word(
    char *list, size_t size, const char *word, size_t i, size_t n)
{
    size_t have = strlen(list);
    const char *before = i == 0 ? "" : n == 2 ? " or " : ", ";

    (void)snprintf(list + have, size - have, "%s`%s`", before, word);
}

static bool unknown_field(
    const struct check *c, const char *key, const struct schema_field *fields)
{
    char list[256] = "";
    size_t n = 0;

    while (fields[n].name != NULL)
        n++;
    for (size_t i = 0; i < n; i++)
        add_word(list, sizeof(list), fields[i].name, i, n);
    return complain(c, find_word(c, key),
        "unknown field `%.64s`, expected %s%s", key, n > 2 ? "one of " : "",
        n == 0 ? "nothing" : list);
}

static bool check_variant(
    const struct check *c, const char *value, const char *const *variants)
{
    char list[256] = "";
    size_t n = 0;

    for (; variants[n] != NULL; n++) {
        if (strcmp(variants[n], value) == 0)
            return true;
    }
    for (size_t i = 0; i < n; i++)
        add_word(list, sizeof(list), variants[i], i, n);
    return complain(c, find_word(c, value),
        "unknown variant `%.64s`, expected %s%s", value, n > 2 ? "one of " : "",
        list);
}

/* What serde calls the value that is there. */
static void describe(const json_t *value, char *buf, size_t size)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        (void)snprintf(buf, size, "string \"%.64s\"", json_string_value(value));
        break;
    case JSON_INTEGER:
        (void)snprintf(buf, size, "integer `%" JSON_INTEGER_FORMAT "`",
            json_integer_value(value));
        break;
    case JSON_REAL:
        (void)snprintf(
            buf, size, "floating point `%g`", json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        (void)snprintf(
            buf, size, "boolean `%s`", json_is_true(value) ? "true" : "false");
        break;
    case JSON_ARRAY:
        (void)snprintf(buf, size, "sequence");
        break;
    case JSON_OBJECT:
        (void)snprintf(buf, size, "map");
        break;
    case JSON_NULL:
    default:
        (void)snprintf(buf, size, "null");
        break;
    }
}

static bool check_type(const struct check *c, const char *name,
    const json_t *value, bool fits, const char *expected)
{
    char found[96];

    if (fits)
        return true;
    describe(value, found, sizeof(found));
    return complain(c, find_word(c, name), "invalid type: %s, expected %s",
        found, expected);
}

static bool check_uint(const struct check *c, const struct schema_field *field,
    const json_t *value)
{
    json_int_t number;

    if (!check_type(c, field->name, value, json_is_integer(value),
            "an unsigned integer"))
        return false;
    number = json_integer_value(value);
    if (number >= 0 && (uint64_t)number <= field->max)
        return true;
    return complain(c, find_word(c, field->name),
        "invalid value: integer `%" JSON_INTEGER_FORMAT "`, expected 0 to %llu",
        number, (unsigned long long)field->max);
}

/* All but what an object holds. */
static bool check_scalar(const struct check *c,
    const struct schema_field *field, const json_t *value)
{
    switch (field->type) {
    case SCHEMA_STRING:
        return check_type(
            c, field->name, value, json_is_string(value), "a string");
    case SCHEMA_BOOL:
        return check_type(
            c, field->name, value, json_is_boolean(value), "a boolean");
    case SCHEMA_UINT:
        return check_uint(c, field, value);
    case SCHEMA_ENUM:
        return check_type(
                   c, field->name, value, json_is_string(value), "a string") &&
               check_variant(c, json_string_value(value), field->variants);
    case SCHEMA_LIST:
        return check_type(
            c, field->name, value, json_is_array(value), "a sequence");
    case SCHEMA_OBJECT:
    default:
        return check_type(
            c, field->name, value, json_is_object(value), "an object");
    }
}

static const struct schema_field *find_field(
    const struct schema_field *fields, const char *name)
{
    for (; fields->name != NULL; fields++) {
        if (strcmp(fields->name, name) == 0)
            return fields;
    }
    return NULL;
}

/* One object, the objects and lists in it not looked into. */
static bool check_object(const struct check *c, json_t *object,
    const struct schema_field *fields, bool is_open)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        const struct schema_field *field = find_field(fields, key);

        if (field == NULL && is_open)
            continue;
        if (field == NULL)
            return unknown_field(c, key, fields);
        if (!json_is_null(value) && !check_scalar(c, field, value))
            return false;
    }
    for (; fields->name != NULL; fields++) {
        value = json_object_get(object, fields->name);
        if (fields->required && (value == NULL || json_is_null(value)))
            return complain(c, find_end(c), "missing field `%s`", fields->name);
    }
    return true;
}

static bool check_list(
    const struct check *c, const json_t *list, const struct schema_field *field)
{
    size_t i;
    json_t *element;

    json_array_foreach(list, i, element)
    {
        if (!check_type(
                c, field->name, element, json_is_object(element), "an object"))
            return false;
        if (field->object != NULL &&
            !check_object(c, element, field->object, field->is_open))
            return false;
    }
    return true;
}

/* The contract nests rate limiters and their buckets: three levels. */
#define LEVELS 4

static bool check_tree(
    const struct check *c, json_t *root, const struct schema_field *fields)
{
    struct {
        json_t *object;
        const struct schema_field *fields;
        size_t next; /* of `fields`, to be looked into */
    } stack[LEVELS] = {{.object = root, .fields = fields}};
    size_t depth = 1;

    if (!check_object(c, root, fields, false))
        return false;
    while (depth > 0) {
        const struct schema_field *field =
            &stack[depth - 1].fields[stack[depth - 1].next];
        json_t *inner;

        if (field->name == NULL) {
            depth--;
            continue;
        }
        stack[depth - 1].next++;
        inner = json_object_get(stack[depth - 1].object, field->name);
        if (field->type == SCHEMA_LIST && !check_list(c, inner, field))
            return false;
        if (field->object == NULL || !json_is_object(inner) || depth == LEVELS)
            continue;
        if (!check_object(c, inner, field->object, field->is_open))
            return false;
        stack[depth].object = inner;
        stack[depth].fields = field->object;
        stack[depth].next = 0;
        depth++;
    }
    return true;
}

/* jansson recurses into what is nested: refuse too much of it beforehand. */
static bool is_shallow(const char *body, size_t len)
{
    unsigned int depth = 0;

    for (size_t i = 0; i < len; i++) {
        if (body[i] == '{' || body[i] == '[')
            depth++;
        else if ((body[i] == '}' || body[i] == ']') && depth > 0)
            depth--;
        if (depth > SCHEMA_DEPTH_MAX)
            return false;
    }
    return true;
}

json_t *schema_parse(const char *body, size_t len,
    const struct schema_field *fields, char ret_text[SCHEMA_TEXT_MAX])
{
    struct check c = {.body = body, .len = len, .text = ret_text};
    struct place place;
    json_error_t error;
    json_t *json;
    char found[96];

    if (!is_shallow(body, len)) {
        (void)complain(
            &c, place_of(&c, body + len), "recursion limit exceeded");
        return NULL;
    }
    json = json_loadb(body, len, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL) {
        place = (struct place){.line = (unsigned int)error.line,
            .column = (unsigned int)error.column};
        (void)complain(&c, place, "%.128s", error.text);
        return NULL;
    }
    if (!json_is_object(json)) {
        describe(json, found, sizeof(found));
        (void)complain(&c, place_of(&c, body + len),
            "invalid type: %s, expected an object", found);
        json_decref(json);
        return NULL;
    }
    if (fields != NULL && !check_tree(&c, json, fields)) {
        json_decref(json);
        return NULL;
    }
    return json;
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
