/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/oci_json.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int bad(struct err *err, const char *what)
{
    return err_set(err, EBADMSG, "damaged: %s", what);
}

static int load(const char *text, size_t size, const char *what,
    json_t **ret_json, struct err *err)
{
    *ret_json = size > OCI_JSON_MAX
                    ? NULL
                    : json_loadb(text, size, JSON_DISABLE_EOF_CHECK, NULL);
    return *ret_json == NULL
               ? err_set(err, EBADMSG, "damaged: its %s is no JSON", what)
               : 0;
}

static const char *get_string(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

static bool get_digest(const json_t *json, char ret_hex[DIGEST_HEX_SIZE])
{
    const char *text = get_string(json, "digest");

    return text != NULL && digest_parse(text, ret_hex);
}

static char *blob_name(const char *hex)
{
    char *name;

    return asprintf(&name, "blobs/sha256/%s", hex) < 0 ? NULL : name;
}

/* ---- the index ----------------------------------------------------------- */

static bool is_index_type(const char *type)
{
    return strcmp(type, "application/vnd.oci.image.index.v1+json") == 0 ||
           strcmp(type,
               "application/vnd.docker.distribution.manifest.list.v2+json") ==
               0;
}

/* An entry that does not say what it is for may be for us. */
static bool suits(const json_t *entry)
{
    const json_t *platform = json_object_get(entry, "platform");
    const char *machine = get_string(platform, "architecture");
    const char *os = get_string(platform, "os");

    return (machine == NULL || strcmp(machine, "amd64") == 0) &&
           (os == NULL || strcmp(os, "linux") == 0);
}

static int pick(const json_t *json, struct oci_ref *ret_ref, struct err *err)
{
    const json_t *list = json_object_get(json, "manifests");
    size_t count = json_array_size(list);

    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(list, i);
        const char *type = get_string(entry, "mediaType");
        struct oci_ref ref = {0};

        if (!suits(entry))
            continue;
        if (!get_digest(entry, ref.hex))
            return bad(err, "an entry of its index has no sha256 digest");
        ref.is_index = type != NULL && is_index_type(type);
        *ret_ref = ref;
        return 0;
    }
    if (!json_is_array(list))
        return bad(err, "its index has no manifests");
    return err_set(err, ENOENT, "has no image for linux on amd64");
}

int oci_json_read_index(
    const char *text, size_t size, struct oci_ref *ret_ref, struct err *err)
{
    json_t *json;
    int rc = load(text, size, "index", &json, err);

    if (rc < 0)
        return rc;
    rc = pick(json, ret_ref, err);
    json_decref(json);
    return rc;
}

/* ---- the manifest -------------------------------------------------------- */

void oci_manifest_fini(struct oci_manifest *m)
{
    for (size_t i = 0; i < m->layer_count; i++)
        free(m->layers[i].name);
    free(m->layers);
    free(m->config);
    *m = (struct oci_manifest){0};
}

static int make_layers(
    const json_t *list, struct oci_manifest *m, struct err *err)
{
    size_t count = json_array_size(list);

    if (!json_is_array(list) || count > OCI_LAYERS_MAX)
        return bad(err, "its manifest has no layers, or too many");
    m->layers = calloc(count + 1, sizeof(*m->layers));
    if (m->layers == NULL)
        return err_sys(err, ENOMEM, "manifest");
    m->layer_count = count;
    return 0;
}

static int read_manifest(
    const json_t *json, struct oci_manifest *m, struct err *err)
{
    const json_t *list = json_object_get(json, "layers");
    int rc = make_layers(list, m, err);

    if (rc < 0)
        return rc;
    if (!get_digest(json_object_get(json, "config"), m->config_hex))
        return bad(err, "its manifest names no configuration");
    m->config = blob_name(m->config_hex);
    for (size_t i = 0; i < m->layer_count; i++) {
        if (!get_digest(json_array_get(list, i), m->layers[i].hex))
            return bad(err, "a layer has no sha256 digest");
        m->layers[i].name = blob_name(m->layers[i].hex);
        if (m->layers[i].name == NULL)
            return err_sys(err, ENOMEM, "manifest");
    }
    return m->config == NULL ? err_sys(err, ENOMEM, "manifest") : 0;
}

int oci_json_read_manifest(const char *text, size_t size,
    struct oci_manifest *ret_manifest, struct err *err)
{
    struct oci_manifest m = {0};
    json_t *json;
    int rc = load(text, size, "manifest", &json, err);

    if (rc < 0)
        return rc;
    rc = read_manifest(json, &m, err);
    json_decref(json);
    if (rc < 0)
        oci_manifest_fini(&m);
    else
        *ret_manifest = m;
    return rc;
}

/* A blob of docker's, whose name may be its digest. */
static int take_name(const json_t *value, char **ret_name,
    char ret_hex[DIGEST_HEX_SIZE], struct err *err)
{
    static const char blobs[] = "blobs/sha256/";
    const char *name = json_string_value(value);
    char hex[DIGEST_HEX_SIZE];
    size_t size;

    if (name == NULL || name[0] == '\0' || strlen(name) > OCI_NAME_MAX)
        return bad(err, "its manifest.json names no files");
    *ret_name = strdup(name);
    if (*ret_name == NULL)
        return err_sys(err, ENOMEM, "manifest");
    if (strncmp(name, blobs, sizeof(blobs) - 1) == 0)
        name += sizeof(blobs) - 1;
    /* HEX, HEX.json (a configuration) or HEX.tar, which are what they say. */
    size = strcspn(name, "./");
    if (size != sizeof(hex) - 1 || strchr(name, '/') != NULL)
        return 0;
    memcpy(hex, name, size);
    hex[size] = '\0';
    if (digest_is_hex(hex) && strcmp(name + size, ".tar") != 0)
        memcpy(ret_hex, hex, sizeof(hex));
    return 0;
}

static int read_docker(
    const json_t *all, struct oci_manifest *m, struct err *err)
{
    const json_t *json = json_array_get(all, 0);
    const json_t *list = json_object_get(json, "Layers");
    int rc;

    if (json_array_size(all) > 1)
        return err_set(err, EINVAL,
            "has %zu images: save the one that is wanted by itself",
            json_array_size(all));
    rc = make_layers(list, m, err);
    if (rc == 0)
        rc = take_name(
            json_object_get(json, "Config"), &m->config, m->config_hex, err);
    for (size_t i = 0; rc == 0 && i < m->layer_count; i++)
        rc = take_name(
            json_array_get(list, i), &m->layers[i].name, m->layers[i].hex, err);
    return rc;
}

int oci_json_read_docker(const char *text, size_t size,
    struct oci_manifest *ret_manifest, struct err *err)
{
    struct oci_manifest m = {0};
    json_t *json;
    int rc = load(text, size, "manifest.json", &json, err);

    if (rc < 0)
        return rc;
    rc = read_docker(json, &m, err);
    json_decref(json);
    if (rc < 0)
        oci_manifest_fini(&m);
    else
        *ret_manifest = m;
    return rc;
}

/* ---- the configuration --------------------------------------------------- */

void oci_config_fini(struct oci_config *c)
{
    rootfs_command_fini(&c->command);
    free(c->diff_ids);
    *c = (struct oci_config){0};
}

/* Appends a list's strings; a key that is not there, or null, has none. */
static int take_words(const json_t *json, const char *key, char **words,
    size_t *count, struct err *err)
{
    const json_t *list = json_object_get(json, key);

    if (list == NULL || json_is_null(list))
        return 0;
    if (!json_is_array(list) || json_array_size(list) > OCI_ARGS_MAX)
        return err_set(
            err, EBADMSG, "damaged: its %s is no list, or too long", key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));

        if (word == NULL ||
            strlen(word) != json_string_length(json_array_get(list, i)))
            return err_set(err, EBADMSG, "damaged: its %s", key);
        words[*count] = strdup(word);
        if (words[*count] == NULL)
            return err_sys(err, ENOMEM, "command");
        (*count)++;
    }
    return 0;
}

static int take_argv(
    const json_t *json, struct rootfs_command *command, struct err *err)
{
    size_t count = 0;
    int rc;

    command->argv = calloc(2 * OCI_ARGS_MAX + 1, sizeof(*command->argv));
    if (command->argv == NULL)
        return err_sys(err, ENOMEM, "command");
    rc = take_words(json, "Entrypoint", command->argv, &count, err);
    if (rc == 0)
        rc = take_words(json, "Cmd", command->argv, &count, err);
    if (rc == 0 && count > OCI_ARGS_MAX)
        rc = bad(err, "its command has too many words");
    return rc;
}

static int take_env(
    const json_t *json, struct rootfs_command *command, struct err *err)
{
    size_t count = 0;
    size_t kept = 0;
    int rc;

    command->env = calloc(OCI_ARGS_MAX + 1, sizeof(*command->env));
    if (command->env == NULL)
        return err_sys(err, ENOMEM, "environment");
    rc = take_words(json, "Env", command->env, &count, err);
    /* A name without a value is none that a command could be given. */
    for (size_t i = 0; i < count; i++) {
        char *word = command->env[i];

        command->env[i] = NULL;
        if (word[0] != '=' && strchr(word, '=') != NULL)
            command->env[kept++] = word;
        else
            free(word);
    }
    return rc;
}

/* USER or UID, with a group behind a colon that only numbers need. */
static int take_user(const char *text, char **ret_user, struct err *err)
{
    size_t size = strcspn(text, ":");

    if (text[0] == '\0')
        return 0;
    if (size == 0 || strlen(text) > 256)
        return bad(err, "its User");
    if (text[0] >= '0' && text[0] <= '9' && text[size] == ':' &&
        text[size + 1] >= '0' && text[size + 1] <= '9')
        size = strlen(text);
    *ret_user = strndup(text, size);
    return *ret_user == NULL ? err_sys(err, ENOMEM, "user") : 0;
}

static int take_cwd(const char *text, char **ret_cwd, struct err *err)
{
    if (text[0] == '\0')
        return 0;
    if (text[0] != '/' || strlen(text) > 4095)
        return bad(err, "its WorkingDir");
    *ret_cwd = strdup(text);
    return *ret_cwd == NULL ? err_sys(err, ENOMEM, "folder") : 0;
}

static int take_command(
    const json_t *json, struct rootfs_command *command, struct err *err)
{
    const char *user = get_string(json, "User");
    const char *cwd = get_string(json, "WorkingDir");
    int rc = take_argv(json, command, err);

    if (rc == 0)
        rc = take_env(json, command, err);
    if (rc == 0 && user != NULL)
        rc = take_user(user, &command->user, err);
    if (rc == 0 && cwd != NULL)
        rc = take_cwd(cwd, &command->cwd, err);
    return rc;
}

static int take_diff_ids(
    const json_t *list, struct oci_config *c, struct err *err)
{
    size_t count = json_array_size(list);

    if (!json_is_array(list) || count > OCI_LAYERS_MAX)
        return bad(err, "its configuration has no diff_ids, or too many");
    c->diff_ids = calloc(count + 1, sizeof(*c->diff_ids));
    if (c->diff_ids == NULL)
        return err_sys(err, ENOMEM, "configuration");
    c->diff_id_count = count;
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));

        if (text == NULL || !digest_parse(text, c->diff_ids[i]))
            return bad(err, "one of its diff_ids is no sha256 digest");
    }
    return 0;
}

static int read_config(
    const json_t *json, struct oci_config *c, struct err *err)
{
    const char *machine = get_string(json, "architecture");
    const char *os = get_string(json, "os");
    int rc;

    if (machine == NULL || os == NULL)
        return bad(err, "its configuration does not say what it is for");
    if (strcmp(machine, "amd64") != 0 || strcmp(os, "linux") != 0)
        return err_set(err, ENOTSUP,
            "is for %.32s on %.32s: an image for linux on amd64 is needed", os,
            machine);
    rc = take_diff_ids(
        json_object_get(json_object_get(json, "rootfs"), "diff_ids"), c, err);
    return rc < 0 ? rc
                  : take_command(
                        json_object_get(json, "config"), &c->command, err);
}

int oci_json_read_config(const char *text, size_t size,
    struct oci_config *ret_config, struct err *err)
{
    struct oci_config c = {0};
    json_t *json;
    int rc = load(text, size, "configuration", &json, err);

    if (rc < 0)
        return rc;
    rc = read_config(json, &c, err);
    json_decref(json);
    if (rc < 0)
        oci_config_fini(&c);
    else
        *ret_config = c;
    return rc;
}
