/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config_reader.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int config_reader_fail(struct config_reader *r, int code, const char *fmt, ...)
{
    char text[sizeof(r->err->text)];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (r->path_len == 0)
        return err_set(r->err, code, "%s", text);
    return err_set(r->err, code, "%s: %s", r->path, text);
}

int config_reader_must_be(struct config_reader *r, const char *what)
{
    return config_reader_fail(r, EINVAL, "must be %s", what);
}

int config_reader_missing(struct config_reader *r, const char *key)
{
    return err_set(r->err, EINVAL, "%s%s%s: missing", r->path,
        r->path_len == 0 ? "" : ".", key);
}

static int unsupported(struct config_reader *r)
{
    return config_reader_fail(r, ENOTSUP, "not supported yet");
}

/* Known keys and indices only, so that the room is enough. */
static void enter(struct config_reader *r, const char *dot, const char *name)
{
    int n = snprintf(r->path + r->path_len, sizeof(r->path) - r->path_len,
        "%s%s", r->path_len == 0 ? "" : dot, name);

    assert(n > 0 && (size_t)n < sizeof(r->path) - r->path_len);
    r->path_len += (size_t)n;
}

static void leave(struct config_reader *r, size_t len)
{
    r->path_len = len;
    r->path[len] = '\0';
}

int config_reader_object(struct config_reader *r, const json_t *value,
    const struct config_key *keys, size_t key_count)
{
    /* jansson iterates over objects that may be changed only. */
    json_t *members = (json_t *)(uintptr_t)value;
    size_t len = r->path_len;
    const char *name;
    json_t *member;

    if (!json_is_object(value))
        return config_reader_must_be(r, "an object");
    json_object_foreach(members, name, member)
    {
        const struct config_key *key = NULL;
        int rc;

        for (size_t i = 0; i < key_count && key == NULL; i++) {
            if (strcmp(keys[i].name, name) == 0)
                key = &keys[i];
        }
        if (key == NULL)
            return err_set(r->err, EINVAL, "%s%s%.64s: unknown key", r->path,
                len == 0 ? "" : ".", name);
        if (json_is_null(member))
            continue;
        enter(r, ".", name);
        rc = key->read(r, member);
        if (rc < 0)
            return rc;
        leave(r, len);
    }
    return 0;
}

int config_reader_list(struct config_reader *r, const json_t *value,
    int (*read)(struct config_reader *, const json_t *))
{
    size_t len = r->path_len;

    if (!json_is_array(value))
        return config_reader_must_be(r, "a list");
    for (size_t i = 0; i < json_array_size(value); i++) {
        char index[32];
        int rc;

        (void)snprintf(index, sizeof(index), "[%zu]", i);
        enter(r, "", index);
        rc = read(r, json_array_get(value, i));
        if (rc < 0)
            return rc;
        leave(r, len);
    }
    return 0;
}

int config_reader_string(
    struct config_reader *r, const json_t *value, char **ret_text)
{
    char *text;

    if (!json_is_string(value))
        return config_reader_must_be(r, "a string");
    text = strdup(json_string_value(value));
    if (text == NULL)
        return err_sys(r->err, ENOMEM, "%s", r->path);
    free(*ret_text);
    *ret_text = text;
    return 0;
}

int config_reader_bool(
    struct config_reader *r, const json_t *value, bool *ret_flag)
{
    if (!json_is_boolean(value))
        return config_reader_must_be(r, "true or false");
    *ret_flag = json_is_true(value);
    return 0;
}

int config_reader_number(struct config_reader *r, const json_t *value,
    uint64_t min, uint64_t max, uint64_t *ret_number)
{
    json_int_t number;

    if (!json_is_integer(value))
        return config_reader_must_be(r, "a whole number");
    number = json_integer_value(value);
    if (number < 0 || (uint64_t)number < min || (uint64_t)number > max)
        return config_reader_fail(r, ERANGE, "%lld is not within %llu to %llu",
            (long long)number, (unsigned long long)min,
            (unsigned long long)max);
    *ret_number = (uint64_t)number;
    return 0;
}

int config_reader_choice(struct config_reader *r, const json_t *value,
    const char *const *choices, unsigned int count, unsigned int *ret_index)
{
    char text[128];
    size_t len = 0;

    for (unsigned int i = 0; json_is_string(value) && i < count; i++) {
        if (strcmp(json_string_value(value), choices[i]) == 0) {
            *ret_index = i;
            return 0;
        }
    }
    for (unsigned int i = 0; i < count; i++) {
        const char *between = i == 0 ? "" : i + 1 == count ? " or " : ", ";
        int n = snprintf(
            text + len, sizeof(text) - len, "%s\"%s\"", between, choices[i]);

        assert(n > 0 && (size_t)n < sizeof(text) - len);
        len += (size_t)n;
    }
    return config_reader_must_be(r, text);
}

int config_reader_no_flag(struct config_reader *r, const json_t *value)
{
    bool flag = false;
    int rc = config_reader_bool(r, value, &flag);

    if (rc < 0)
        return rc;
    return flag ? unsupported(r) : 0;
}

int config_reader_no_choice(struct config_reader *r, const json_t *value)
{
    if (!json_is_string(value))
        return config_reader_must_be(r, "a string");
    return strcmp(json_string_value(value), "None") == 0 ? 0 : unsupported(r);
}

int config_reader_no_string(struct config_reader *r, const json_t *value)
{
    return json_is_string(value) ? unsupported(r)
                                 : config_reader_must_be(r, "a string");
}

int config_reader_no_settings(struct config_reader *r, const json_t *value)
{
    if (!json_is_object(value))
        return config_reader_must_be(r, "an object");
    return json_object_size(value) == 0 ? 0 : unsupported(r);
}

int config_reader_no_device(struct config_reader *r, const json_t *value)
{
    return json_is_object(value) ? unsupported(r)
                                 : config_reader_must_be(r, "an object");
}
