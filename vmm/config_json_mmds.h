/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service's section of a machine description in JSON; see
 * config_reader.h.
 */
#ifndef VMM_CONFIG_JSON_MMDS_H
#define VMM_CONFIG_JSON_MMDS_H

#include <jansson.h>

#include "vmm/base/cc.h"
#include "vmm/config_reader.h"

CC_MUST_CHECK int config_json_read_mmds(
    struct config_reader *r, const json_t *value);

/* When all was read: what the section names may come behind it. */
CC_MUST_CHECK int config_json_settle_mmds(struct config_reader *r);

#endif
