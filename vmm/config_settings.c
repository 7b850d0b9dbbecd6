/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config_settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/schema.h"
#include "vmm/base/fd.h"
#include "vmm/control_log.h"

static void json_freep(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}

/* Moves a section out of the file, if it has one. */
static int take_section(json_t *root, const char *key,
    const struct schema_field *fields, json_t **ret_section, struct err *err)
{
    json_t *section = json_object_get(root, key);
    char text[SCHEMA_TEXT_MAX];
    char *json;
    json_t *checked;

    if (section == NULL || json_is_null(section))
        return 0;
    json = json_dumps(section, JSON_COMPACT | JSON_ENCODE_ANY);
    if (json == NULL)
        return err_sys(err, ENOMEM, "%s", key);
    checked = schema_parse(json, strlen(json), fields, text);
    free(json);
    if (checked == NULL)
        return err_set(err, EINVAL, "%s: %.200s", key, text);
    json_decref(*ret_section);
    *ret_section = checked;
    (void)json_object_del(root, key);
    return 0;
}

/* A flag of the machine's section, which the description has no place for. */
static void take_flag(json_t *machine, const char *key, bool *ret_flag)
{
    const json_t *value = json_object_get(machine, key);

    if (!json_is_boolean(value))
        return;
    *ret_flag = json_is_true(value);
    (void)json_object_del(machine, key);
}

static int take(struct config_settings *s, json_t *root, struct err *err)
{
    json_t *machine = json_object_get(root, "machine-config");
    int rc =
        take_section(root, "logger", control_logger_fields, &s->logger, err);

    if (rc == 0)
        rc = take_section(
            root, "metrics", control_metrics_fields, &s->metrics, err);
    take_flag(machine, "smt", &s->has_smt);
    take_flag(machine, "track_dirty_pages", &s->tracks);
    return rc;
}

int config_settings_load(struct config_settings *settings,
    struct config *config, const char *path, struct err *err)
{
    CC_CLEANUP(json_freep) json_t *root = NULL;
    uint8_t *data = NULL;
    size_t size = 0;
    char *rest = NULL;
    int rc = fd_read_file(path, CONFIG_FILE_MAX, &data, &size, err);

    if (rc < 0)
        return rc;
    root = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    /* What is no object is complained of by who knows where it is. */
    if (!json_is_object(root)) {
        rc = config_load_json(config, (const char *)data, size, path, err);
        free(data);
        return rc;
    }
    free(data);
    rc = take(settings, root, err);
    if (rc < 0)
        return err_wrap(err, rc, "%s", path);
    rest = json_dumps(root, JSON_COMPACT);
    if (rest == NULL)
        return err_sys(err, ENOMEM, "%s", path);
    rc = config_load_json(config, rest, strlen(rest), path, err);
    free(rest);
    return rc;
}

void config_settings_fini(struct config_settings *settings)
{
    json_decref(settings->logger);
    json_decref(settings->metrics);
    json_decref(settings->metadata);
    *settings = (struct config_settings){.logger = NULL};
}
