/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a machine's log and its metrics go: /logger, /metrics, and what says
 * the same in a configuration file or on a command line.
 *
 * Owns the log's file while it is the process's log. Thread rule: the loop's
 * thread, while there is no other yet.
 */
#ifndef VMM_CONTROL_LOG_H
#define VMM_CONTROL_LOG_H

#include <jansson.h>
#include <stdbool.h>

#include "vmm/api/router.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"

struct control;

struct control_log {
    struct log_target target;
    char *only;
    bool is_set;
};

extern const struct schema_field control_logger_fields[];
extern const struct schema_field control_metrics_fields[];

void control_log_init(struct control_log *log);
void control_log_fini(struct control_log *log);

/* False if there is no such level, in whatever case. */
bool control_log_level(const char *name, enum log_level *ret_level);

/* `settings` have passed control_logger_fields; `id` is borrowed. */
CC_MUST_CHECK int control_log_open(struct control_log *log, const char *id,
    const json_t *settings, struct err *err);

/* `settings` have passed control_metrics_fields. */
CC_MUST_CHECK int control_metrics_open(
    struct control *control, const json_t *settings, struct err *err);

/* Handlers; `opaque` is a struct control. */
int control_logger_put(void *opaque, struct router_call *call);
int control_metrics_put(void *opaque, struct router_call *call);

#endif
