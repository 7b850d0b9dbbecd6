/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The paths in a description that another process is to find: absolute, and
 * without what only this one has.
 *
 * Thread rule: any thread; the working folder must not change meanwhile.
 */
#ifndef VMM_CONFIG_PATHS_H
#define VMM_CONFIG_PATHS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"

/*
 * Makes the paths of drives, overlays, persistent memory and sockets absolute,
 * and gives files that were handed down as descriptors (FD_PATH) their path,
 * if they have one. Nothing is opened.
 */
CC_MUST_CHECK int config_paths_settle(struct config *config, struct err *err);

/*
 * Whether it is the path of a descriptor: after config_paths_settle, of one
 * that has no other.
 */
bool config_paths_is_descriptor(const char *path);

/* The descriptor that `path` (or NULL) names by its number; -1: none. */
int config_paths_fd(const char *path);

/* Room for all that config_paths_fds finds. */
#define CONFIG_PATHS_FDS_MAX                                                   \
    (2 + 2 * CONFIG_DRIVES_MAX + CONFIG_PMEMS_MAX + CONFIG_NETS_MAX)

/*
 * The descriptors that a description names and this process was handed down:
 * their count, some perhaps -1.
 */
size_t config_paths_fds(const struct config *config, int *ret_fds);

#endif
