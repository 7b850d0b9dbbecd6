/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a configuration file says that is not about the machine: its logger and
 * its metrics, and of the machine's section what is the monitor's to do. With
 * them, what is as little about the machine and comes by options.
 *
 * Owns the sections it has taken. Thread rule: one thread. The file is
 * hostile: sections are checked against the fields that the control socket
 * takes.
 */
#ifndef VMM_CONFIG_SETTINGS_H
#define VMM_CONFIG_SETTINGS_H

#include <jansson.h>
#include <stdbool.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"

struct config_settings {
    json_t *logger;    /* control_logger_fields; or NULL */
    json_t *metrics;   /* control_metrics_fields; or NULL */
    json_t *metadata;  /* any JSON, of the metadata service; or NULL */
    size_t mmds_limit; /* bytes of that at most; 0: the usual */
    bool has_smt;      /* guests see no siblings, whatever it says */
    bool tracks;       /* writes are followed from the start */
};

/*
 * config_load_file, with the settings taken out beforehand. On failure both
 * are still valid, with unspecified content.
 */
CC_MUST_CHECK int config_settings_load(struct config_settings *settings,
    struct config *config, const char *path, struct err *err);

void config_settings_fini(struct config_settings *settings);

#endif
