/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be changed in a machine while its guest runs: the balloon, and the
 * limits of its interfaces.
 *
 * Thread rule: the loop's thread, with no device's lock held. Ids and numbers
 * are the caller's caller's: they are checked, and an error says what there is
 * instead. What a guest says in statistics is a claim of the guest.
 */
#ifndef VMM_MACHINE_LIVE_H
#define VMM_MACHINE_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/balloon.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/rate.h"
#include "vmm/machine.h"

/* All functions of the balloon: -ENODEV if the machine has none. */

/* Has the guest hold so many MiB; -EINVAL for more than it has memory. */
CC_MUST_CHECK int machine_balloon_set(
    struct machine *m, uint64_t target_mib, struct err *err);

struct machine_balloon_info {
    uint64_t target_pages; /* of 4 KiB */
    uint64_t actual_pages; /* says the guest */
    bool has_stats;        /* statistics were asked for in the description */
    uint64_t interval_s;   /* between them */
    uint32_t host_cmd;     /* of free page hinting: what we asked for last */
    uint32_t guest_cmd;    /* what the guest's last hints belonged to */
    struct balloon_guest_stats guest;
};

CC_MUST_CHECK int machine_balloon_info(const struct machine *m,
    struct machine_balloon_info *ret_info, struct err *err);

/*
 * Other time between statistics, 1 to 65535. -EOPNOTSUPP where the guest was
 * not offered them, since it cannot be told later.
 */
CC_MUST_CHECK int machine_balloon_set_interval(
    struct machine *m, uint64_t interval_s, struct err *err);

/* As balloon_start_hinting and balloon_stop_hinting. */
CC_MUST_CHECK int machine_balloon_start_hinting(
    struct machine *m, bool ack_stop, struct err *err);
CC_MUST_CHECK int machine_balloon_stop_hinting(
    struct machine *m, struct err *err);

/*
 * Other limits to and from the guest; a bucket that a change does not have
 * goes on as it is. -ENODEV for an unknown interface. Both or none.
 */
CC_MUST_CHECK int machine_net_limits(struct machine *m, const char *iface_id,
    const struct rate_change *rx, const struct rate_change *tx,
    struct err *err);

/* The interface with this id, or NULL. */
struct machine_net *machine_net_find(
    const struct machine *m, const char *iface_id);

/* The drive with this id, or NULL: for machine_drive.h's functions. */
struct machine_drive *machine_drive_find(
    const struct machine *m, const char *drive_id);

#endif
