/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/files.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/fd.h"

#define FILES_VERSION 1
#define HEX_MAX       128u

static void entry_fini(struct files_entry *entry)
{
    free(entry->guest);
    free(entry->host);
    free(entry->build_id);
}

static int parse_entry(
    json_t *value, size_t index, struct files_entry *ret_entry, struct err *err)
{
    struct files_entry entry = {0};
    const char *guest;
    const char *host;
    const char *id = NULL;
    json_error_t why;

    if (json_unpack_ex(value, &why, JSON_STRICT, "{s:s, s:s, s?s}", "guest",
            &guest, "host", &host, "build_id", &id) < 0)
        return err_set(
            err, EINVAL, FILES_NAME ": files[%zu]: %s", index, why.text);
    if (*guest != '/' || *host != '/')
        return err_set(err, EINVAL,
            FILES_NAME ": files[%zu]: a path does not begin with /", index);
    if (id != NULL &&
        (id[strspn(id, "0123456789abcdef")] != '\0' || strlen(id) > HEX_MAX))
        return err_set(err, EINVAL,
            FILES_NAME ": files[%zu].build_id is not in hex digits", index);
    entry.guest = strdup(guest);
    entry.host = strdup(host);
    entry.build_id = id != NULL ? strdup(id) : NULL;
    if (entry.guest == NULL || entry.host == NULL ||
        (id != NULL && entry.build_id == NULL)) {
        entry_fini(&entry);
        return err_sys(err, ENOMEM, FILES_NAME);
    }
    *ret_entry = entry;
    return 0;
}

static int parse_entries(json_t *list, struct files *files, struct err *err)
{
    size_t count = json_array_size(list);

    if (!json_is_array(list))
        return err_set(err, EINVAL, FILES_NAME ": files is no array");
    if (count > FILES_MAX)
        return err_set(
            err, EINVAL, FILES_NAME ": more than %u files", FILES_MAX);
    files->entries = calloc(count + 1, sizeof(*files->entries));
    if (files->entries == NULL)
        return err_sys(err, ENOMEM, FILES_NAME);
    for (; files->count < count; files->count++) {
        int rc = parse_entry(json_array_get(list, files->count), files->count,
            &files->entries[files->count], err);

        if (rc < 0)
            return rc;
    }
    return 0;
}

int files_parse(
    const char *text, size_t size, struct files *ret_files, struct err *err)
{
    struct files files = {0};
    json_error_t why;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    json_t *list;
    int version;
    int rc;

    if (root == NULL)
        return err_set(err, EINVAL, FILES_NAME ":%d: %s", why.line, why.text);
    if (json_unpack_ex(root, &why, JSON_STRICT, "{s:i, s:o}", "version",
            &version, "files", &list) < 0)
        rc = err_set(err, EINVAL, FILES_NAME ": %s", why.text);
    else if (version != FILES_VERSION)
        rc =
            err_set(err, EINVAL, FILES_NAME ": version %d, this spore knows %d",
                version, FILES_VERSION);
    else
        rc = parse_entries(list, &files, err);
    json_decref(root);
    if (rc < 0) {
        files_fini(&files);
        return rc;
    }
    *ret_files = files;
    return 0;
}

int files_read(const char *dir, struct files *ret_files, struct err *err)
{
    char *path = NULL;
    uint8_t *text = NULL;
    size_t size;
    int rc;

    if (asprintf(&path, "%s/" FILES_NAME, dir) < 0)
        return err_sys(err, ENOMEM, FILES_NAME);
    rc = fd_read_file(path, FILES_SIZE_MAX, &text, &size, err);
    if (rc == 0)
        rc = files_parse((const char *)text, size, ret_files, err);
    free(text);
    free(path);
    return rc;
}

void files_fini(struct files *files)
{
    for (size_t i = 0; i < files->count; i++)
        entry_fini(&files->entries[i]);
    free(files->entries);
    *files = (struct files){0};
}

const struct files_entry *files_find(
    const struct files *files, const char *guest)
{
    for (size_t i = 0; i < files->count; i++) {
        if (strcmp(files->entries[i].guest, guest) == 0)
            return &files->entries[i];
    }
    return NULL;
}

char *files_to_json(const struct files *files)
{
    json_t *list = json_array();
    json_t *root = NULL;
    char *text = NULL;

    for (size_t i = 0; list != NULL && i < files->count; i++) {
        const struct files_entry *e = &files->entries[i];

        if (json_array_append_new(
                list, json_pack("{s:s, s:s, s:s*}", "guest", e->guest, "host",
                          e->host, "build_id", e->build_id)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    root = json_pack("{s:i, s:o}", "version", FILES_VERSION, "files", list);
    if (root != NULL)
        text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    return text;
}
