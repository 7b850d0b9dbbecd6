/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a snapshot says of a machine but its memory: of what it is made, on
 * which host, with which processor, and its state.
 *
 * What has to be looked up by a path is noted when the machine is made: later
 * it may run where no path leads anywhere. Thread rule: as the machine.
 */
#ifndef VMM_MACHINE_DESCRIBE_H
#define VMM_MACHINE_DESCRIBE_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/disks.h"
#include "snapshot/parts.h"
#include "snapshot/state_file.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"

#define MACHINE_SECTION         "machine"
#define MACHINE_SECTION_VERSION 1u
#define CPUID_SECTION           "cpuid"
#define HOST_SECTION            "host" /* optional: where it was saved */
#define HOST_SECTION_VERSION    1u
#define HOST_ID_BYTES           16u /* of the host's boot */

struct machine;

struct machine_description {
    struct config config; /* as config_paths_settle leaves it */
    struct err err;
    int rc; /* 0, or why there is none, as `err` says */
    bool is_noted;
    uint8_t host_id[HOST_ID_BYTES]; /* of this boot of the host, or zeros */
};

/* A failure shows when the machine is to be saved. */
void machine_describe_init(
    struct machine_description *d, const struct config *config);
void machine_describe_fini(struct machine_description *d);

/*
 * Adds all sections: the frozen state, the records of disks, and the
 * machine's own.
 */
CC_MUST_CHECK int machine_describe_store(struct machine *m,
    const struct frozen *frozen, const struct disks *disks,
    struct state_writer *state, struct err *err);

/* This boot of this host, or zeros if it does not say. */
void machine_host_id(uint8_t ret_id[HOST_ID_BYTES]);

#endif
