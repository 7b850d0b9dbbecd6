/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sections of a machine description in JSON that are devices. Each reads
 * the value of its key; see config_reader.h.
 */
#ifndef VMM_CONFIG_JSON_DEVICES_H
#define VMM_CONFIG_JSON_DEVICES_H

#include <jansson.h>

#include "vmm/base/cc.h"
#include "vmm/config_reader.h"

/* The lists of the file take the place of what there was. */
CC_MUST_CHECK int config_json_read_drives(
    struct config_reader *r, const json_t *value);
CC_MUST_CHECK int config_json_read_pmems(
    struct config_reader *r, const json_t *value);
CC_MUST_CHECK int config_json_read_nets(
    struct config_reader *r, const json_t *value);
CC_MUST_CHECK int config_json_read_entropy(
    struct config_reader *r, const json_t *value);
CC_MUST_CHECK int config_json_read_balloon(
    struct config_reader *r, const json_t *value);

/*
 * {"bandwidth": BUCKET, "ops": BUCKET}, each {"size", "refill_time" in ms,
 * "one_time_burst"}; a bucket that is not there keeps its value.
 */
CC_MUST_CHECK int config_json_read_limits(
    struct config_reader *r, const json_t *value, struct rate_config *limits);

#endif
