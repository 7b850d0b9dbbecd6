/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/manifest.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "snapshot/page_index.h"

#define NUMBER_MAX                                                             \
    ((json_int_t)1 << 53) /* what any JSON reader keeps exact                  \
                           */

static void json_freep(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}

/* ---- writing ---- */

static json_t *id_or_null(const struct snapshot_id *id)
{
    char text[SNAPSHOT_ID_TEXT_SIZE];

    if (snapshot_id_is_zero(id))
        return json_null();
    snapshot_id_to_text(id, text);
    return json_string(text);
}

static json_t *text_or_null(const char *text)
{
    /* What is not UTF-8, as file names may be, is not worth a failed save. */
    json_t *json = text[0] == '\0' ? json_null() : json_string(text);

    return json == NULL ? json_null() : json;
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

int manifest_encode(const struct manifest *m, char **ret_text, struct err *err)
{
    CC_CLEANUP(json_freep)
    json_t *root = json_pack(
        "{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "format", MANIFEST_VERSION, "id", id_or_null(&m->id), "parent",
        id_or_null(&m->parent), "name", text_or_null(m->name), "created",
        number(m->created), "monitor", text_or_null(m->monitor), "kernel",
        text_or_null(m->kernel), "vcpus", number(m->vcpus), "pages",
        number(m->pages), "data_pages", number(m->data_pages), "own_pages",
        number(m->own_pages), "state_bytes", number(m->state_bytes));
    char *body = NULL;
    int n = -1;

    if (root != NULL)
        body = json_dumps(root, JSON_INDENT(2));
    if (body != NULL)
        n = asprintf(ret_text, "%s\n", body);
    free(body);
    return n < 0 ? err_sys(err, ENOMEM, "%s", MANIFEST_FILE_NAME) : 0;
}

/* ---- reading ---- */

static int bad_key(struct err *err, const char *key)
{
    return err_set(
        err, EBADMSG, "%s: %s: not what it must be", MANIFEST_FILE_NAME, key);
}

static int get_number(const json_t *root, const char *key, uint64_t max,
    uint64_t *ret_value, struct err *err)
{
    const json_t *json = json_object_get(root, key);
    json_int_t value = json_integer_value(json);

    if (!json_is_integer(json) || value < 0 || value > NUMBER_MAX ||
        (uint64_t)value > max)
        return bad_key(err, key);
    *ret_value = (uint64_t)value;
    return 0;
}

/* A string of at most `size` - 1 bytes, none of them a control character. */
static int get_text(const json_t *root, const char *key, char *text,
    size_t size, struct err *err)
{
    const json_t *json = json_object_get(root, key);
    const char *value = json_string_value(json);
    size_t len = json_string_length(json);

    text[0] = '\0';
    if (json_is_null(json))
        return 0;
    if (value == NULL || len == 0 || len >= size)
        return bad_key(err, key);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
            return bad_key(err, key);
    }
    memcpy(text, value, len + 1);
    return 0;
}

static int get_id(const json_t *root, const char *key, bool may_be_null,
    struct snapshot_id *ret_id, struct err *err)
{
    const json_t *json = json_object_get(root, key);
    const char *value = json_string_value(json);

    *ret_id = (struct snapshot_id){0};
    if (json_is_null(json) && may_be_null)
        return 0;
    if (value == NULL || json_string_length(json) != SNAPSHOT_ID_DIGITS ||
        !snapshot_id_from_text(value, ret_id) || snapshot_id_is_zero(ret_id))
        return bad_key(err, key);
    return 0;
}

static int get_numbers(const json_t *root, struct manifest *m, struct err *err)
{
    const struct {
        const char *key;
        uint64_t *value;
        uint64_t max;
    } numbers[] = {
        {"created", &m->created, (uint64_t)NUMBER_MAX - 1},
        {"pages", &m->pages, PAGE_INDEX_PAGES_MAX},
        {"data_pages", &m->data_pages, PAGE_INDEX_PAGES_MAX},
        {"own_pages", &m->own_pages, PAGE_INDEX_PAGES_MAX},
        {"state_bytes", &m->state_bytes, (uint64_t)NUMBER_MAX - 1},
    };
    uint64_t vcpus = 0;
    int rc = get_number(root, "vcpus", UINT32_MAX, &vcpus, err);

    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(numbers); i++)
        rc = get_number(
            root, numbers[i].key, numbers[i].max, numbers[i].value, err);
    m->vcpus = (uint32_t)vcpus;
    if (rc == 0 && (m->data_pages > m->pages || m->own_pages > m->data_pages))
        rc = bad_key(err, "data_pages");
    return rc;
}

static int decode(const json_t *root, struct manifest *m, struct err *err)
{
    uint64_t format;
    int rc = get_number(root, "format", UINT32_MAX, &format, err);

    if (rc < 0)
        return rc;
    if (format == 0 || format > MANIFEST_VERSION)
        return err_set(err, ENOTSUP,
            "%s: format %llu; this version of spore reads up to %d",
            MANIFEST_FILE_NAME, (unsigned long long)format, MANIFEST_VERSION);
    rc = get_id(root, "id", false, &m->id, err);
    if (rc == 0)
        rc = get_id(root, "parent", true, &m->parent, err);
    if (rc == 0)
        rc = get_text(root, "name", m->name, sizeof(m->name), err);
    if (rc == 0 && m->name[0] != '\0' && snapshot_name_check(m->name, NULL) < 0)
        rc = bad_key(err, "name");
    if (rc == 0)
        rc = get_text(root, "monitor", m->monitor, sizeof(m->monitor), err);
    if (rc == 0)
        rc = get_text(root, "kernel", m->kernel, sizeof(m->kernel), err);
    if (rc == 0)
        rc = get_numbers(root, m, err);
    return rc;
}

int manifest_decode(const char *text, size_t size,
    struct manifest *ret_manifest, struct err *err)
{
    CC_CLEANUP(json_freep) json_t *root = NULL;
    struct manifest manifest = {0};
    json_error_t error;
    int rc;

    if (size > MANIFEST_SIZE_MAX)
        return err_set(err, EBADMSG, "%s: too large", MANIFEST_FILE_NAME);
    root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        return err_set(err, EBADMSG, "%s: line %d: %s", MANIFEST_FILE_NAME,
            error.line, error.text);
    if (!json_is_object(root))
        return err_set(err, EBADMSG, "%s: not an object", MANIFEST_FILE_NAME);
    rc = decode(root, &manifest, err);
    if (rc == 0)
        *ret_manifest = manifest;
    return rc;
}
