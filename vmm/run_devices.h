/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices on the command line of `spore run`: --disk, --rootfs, --pmem,
 * --net and --balloon with what stands behind their commas.
 *
 * Thread rule: one thread. The text is the user's and is checked; errors
 * begin with the option and quote it.
 */
#ifndef VMM_RUN_DEVICES_H
#define VMM_RUN_DEVICES_H

#include <stdbool.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"

/*
 * FILE[,ro][,pmem][,overlay[=FILE]][,max-growth=SIZE][,queues=N][,rate=BYTES]
 * [,iops=N][,id=NAME].
 * Words are taken from the end, so that a file name may have commas in it;
 * pmem is for a root only. fd=N in the place of FILE is a descriptor that the
 * process was started with.
 */
CC_MUST_CHECK int run_devices_add_drive(
    struct config *config, const char *text, bool is_root, struct err *err);

/* FILE[,ro][,id=NAME] of --pmem, taken as above. */
CC_MUST_CHECK int run_devices_add_pmem(
    struct config *config, const char *text, struct err *err);

/*
 * user|tap=NAME|fd=N|stream=PATH|switch=NAME, and behind it, each with a comma:
 * id=, mac=, mtu=, ip=ADDRESS/BITS, gw=, rx=, tx=, rx-ops=, tx-ops=; tcp= and
 * udp= for user.
 */
CC_MUST_CHECK int run_devices_add_net(
    struct config *config, const char *text, struct err *err);

/* MIB[,oom][,stats=SECONDS][,report][,hint] */
CC_MUST_CHECK int run_devices_set_balloon(
    struct config *config, const char *text, struct err *err);

/*
 * "4096", "64K", "10M", "1G": that many bytes, at least `min` and at most
 * INT64_MAX.
 */
CC_MUST_CHECK int run_devices_parse_bytes(
    const char *text, uint64_t min, uint64_t *ret_bytes, struct err *err);

#endif
