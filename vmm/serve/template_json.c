/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/template_json.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1

/* ---- reading ------------------------------------------------------------- */

static int bad(struct err *err, const char *key)
{
    return err_set(
        err, EBADMSG, "template.json: \"%s\" is not what it must be", key);
}

static int read_string(
    const json_t *json, const char *key, char **ret_text, struct err *err)
{
    const json_t *value = json_object_get(json, key);

    if (value == NULL || json_is_null(value))
        return 0;
    if (!json_is_string(value))
        return bad(err, key);
    *ret_text = strdup(json_string_value(value));
    return *ret_text == NULL ? err_sys(err, ENOMEM, "template") : 0;
}

static int read_words(
    const json_t *json, const char *key, char ***ret_words, struct err *err)
{
    const json_t *value = json_object_get(json, key);
    size_t count = json_array_size(value);

    if ((value != NULL && !json_is_array(value)) || count > TEMPLATE_ARGS_MAX)
        return bad(err, key);
    *ret_words = calloc(count + 1, sizeof(**ret_words));
    if (*ret_words == NULL)
        return err_sys(err, ENOMEM, "template");
    for (size_t i = 0; i < count; i++) {
        const char *word = json_string_value(json_array_get(value, i));

        if (word == NULL)
            return bad(err, key);
        (*ret_words)[i] = strdup(word);
        if ((*ret_words)[i] == NULL)
            return err_sys(err, ENOMEM, "template");
    }
    return 0;
}

static int read_number(const json_t *json, const char *key, uint64_t max,
    uint64_t *ret_number, struct err *err)
{
    const json_t *value = json_object_get(json, key);

    *ret_number = 0;
    if (value == NULL)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > max)
        return bad(err, key);
    *ret_number = (uint64_t)json_integer_value(value);
    return 0;
}

static int read_env(const json_t *json, char ***ret_env, struct err *err)
{
    int rc = read_words(json, "env", ret_env, err);

    for (size_t i = 0; rc == 0 && (*ret_env)[i] != NULL; i++) {
        const char *equals = strchr((*ret_env)[i], '=');

        if (equals == NULL || equals == (*ret_env)[i])
            rc = bad(err, "env");
    }
    return rc;
}

static int read_all(const json_t *json, struct template *t, struct err *err)
{
    uint64_t version;
    uint64_t port = 0;
    uint64_t vsock_port = 0;
    int rc = read_number(json, "version", VERSION, &version, err);

    if (rc < 0 || version != VERSION)
        return err_set(err, EBADMSG,
            "template.json: of a version that is not known here: build the "
            "template again");
    rc = read_number(json, "made", INT64_MAX, &t->made_s, err);
    if (rc == 0)
        rc = read_number(json, "port", UINT16_MAX, &port, err);
    if (rc == 0)
        rc = read_number(json, "vsock_port", UINT32_MAX, &vsock_port, err);
    if (rc == 0)
        rc = read_string(json, "source", &t->source, err);
    if (rc == 0)
        rc = read_string(json, "cwd", &t->cwd, err);
    if (rc == 0)
        rc = read_string(json, "user", &t->user, err);
    if (rc == 0)
        rc = read_words(json, "argv", &t->argv, err);
    if (rc == 0)
        rc = read_env(json, &t->env, err);
    t->tcp_port = (uint16_t)port;
    t->vsock_port = (uint32_t)vsock_port;
    return rc;
}

int template_json_read(const char *text, size_t size,
    struct template *ret_template, struct err *err)
{
    struct template t = {0};
    json_error_t where;
    json_t *json;
    int rc;

    if (size > TEMPLATE_JSON_MAX)
        return err_set(err, EBADMSG, "template.json: too long");
    json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(json)) {
        json_decref(json);
        return err_set(err, EBADMSG, "template.json: no JSON object");
    }
    rc = read_all(json, &t, err);
    json_decref(json);
    if (rc < 0)
        template_fini(&t);
    else
        *ret_template = t;
    return rc;
}

/* ---- writing ------------------------------------------------------------- */

/* *failed stands if a string is not UTF-8. */
static json_t *make_words(char *const *words, bool *failed)
{
    json_t *list = json_array();

    for (size_t i = 0; words != NULL && words[i] != NULL; i++) {
        if (json_array_append_new(list, json_string(words[i])) < 0)
            *failed = true;
    }
    return list;
}

int template_json_write(
    const struct template *t, char **ret_json, struct err *err)
{
    bool failed = false;
    json_t *argv = make_words(t->argv, &failed);
    json_t *env = make_words(t->env, &failed);
    json_t *json = json_pack("{s:i, s:I, s:s*, s:o, s:o, s:s*, s:s*, s:s}",
        "version", VERSION, "made", (json_int_t)t->made_s, "source", t->source,
        "argv", argv, "env", env, "cwd", t->cwd, "user", t->user, "spore",
        SPORE_VERSION);

    if (json != NULL && t->tcp_port != 0)
        (void)json_object_set_new(json, "port", json_integer(t->tcp_port));
    if (json != NULL && t->vsock_port != 0)
        (void)json_object_set_new(
            json, "vsock_port", json_integer(t->vsock_port));
    *ret_json =
        json == NULL || failed ? NULL : json_dumps(json, JSON_INDENT(2));
    json_decref(json);
    if (*ret_json == NULL)
        return err_set(err, EILSEQ,
            "a word of the template's command, environment, user, folder or "
            "source is not UTF-8");
    return 0;
}
