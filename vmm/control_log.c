/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a machine's log and its metrics go: /logger and /metrics.
 */
#include "vmm/control_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vmm/base/fd.h"
#include "vmm/config.h"
#include "vmm/control.h"
#include "vmm/control_api.h"

static const struct {
    const char *name;
    enum log_level level;
} levels[] = {
    {"off", LOG_OFF},
    {"trace", LOG_DEBUG},
    {"debug", LOG_DEBUG},
    {"info", LOG_INFO},
    {"warn", LOG_WARN},
    {"warning", LOG_WARN},
    {"error", LOG_ERR},
};

bool control_log_level(const char *name, enum log_level *ret_level)
{
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        if (strcasecmp(name, levels[i].name) == 0) {
            *ret_level = levels[i].level;
            return true;
        }
    }
    return false;
}

static bool is_level(const char *name)
{
    enum log_level level;

    return control_log_level(name, &level);
}

const struct schema_field control_logger_fields[] = {
    {.name = "log_path", .type = SCHEMA_STRING, .name_of = SCHEMA_PATH},
    {.name = "level",
        .type = SCHEMA_CUSTOM,
        .name_of = "Invalid LevelFilter",
        .is_good = is_level},
    {.name = "show_level", .type = SCHEMA_BOOL},
    {.name = "show_log_origin", .type = SCHEMA_BOOL},
    {.name = "module", .type = SCHEMA_STRING},
    SCHEMA_END("LoggerConfig"),
};

const struct schema_field control_metrics_fields[] = {
    {.name = "metrics_path",
        .type = SCHEMA_STRING,
        .name_of = SCHEMA_PATH,
        .required = true},
    {.name = "emit_id", .type = SCHEMA_BOOL, .not_null = true},
    {.name = "properties", .type = SCHEMA_STRINGS},
    {.name = NULL, .name_of = "MetricsConfig", .is_open = true},
};

void control_log_init(struct control_log *log)
{
    *log = (struct control_log){.target = {.fd = -1}};
}

void control_log_fini(struct control_log *log)
{
    if (log->is_set)
        log_set_target(NULL);
    log->is_set = false;
    fd_closep(&log->target.fd);
    free(log->only);
    log->only = NULL;
}

int control_log_open(struct control_log *log, const char *id,
    const json_t *settings, struct err *err)
{
    const char *path = schema_string(settings, "log_path");
    const char *level = schema_string(settings, "level");
    const char *only = schema_string(settings, "module");
    struct log_target *t = &log->target;
    enum log_level n = LOG_INFO;
    int fd = -1;
    int rc = 0;

    if (only != NULL)
        rc = config_set_string(&log->only, only, err);
    if (rc < 0)
        return rc;
    /* A pipe that nobody reads yet must not hold us up. */
    if (path != NULL)
        fd = open(path,
            O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY,
            0600);
    if (path != NULL && fd < 0)
        return err_set(err, errno,
            "Logger error: Failed to open target file: %s (os error %d)",
            strerrordesc_np(errno), errno);
    /* Nobody writes a line while it changes hands: there is one thread yet. */
    if (fd >= 0) {
        fd_closep(&t->fd);
        t->fd = fd;
    }
    t->id = id;
    t->only = log->only;
    t->show_level = schema_bool(settings, "show_level", t->show_level);
    t->show_origin = schema_bool(settings, "show_log_origin", t->show_origin);
    if (level != NULL)
        (void)control_log_level(level, &n);
    log_set_level(n);
    log->is_set = true;
    log_set_target(t);
    return 0;
}

int control_logger_put(void *opaque, struct router_call *call)
{
    struct control *c = opaque;

    return control_log_open(&c->log, c->id, call->body, &call->err);
}

int control_metrics_open(
    struct control *c, const json_t *settings, struct err *err)
{
    int rc = metrics_open(&c->metrics, schema_string(settings, "metrics_path"),
        schema_bool(settings, "emit_id", false),
        json_object_get(settings, "properties"), err);

    return rc < 0 ? err_wrap(err, rc, "Metrics error") : 0;
}

int control_metrics_put(void *opaque, struct router_call *call)
{
    return control_metrics_open(opaque, call->body, &call->err);
}
