/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a machine, all but RAM, as sections of a snapshot's `state`:
 *
 *   clock                    struct vm_clock
 *   vcpu.<n>                 vcpu_state_encode
 *   device.<n>.<table>       state_save of device n's table
 *
 * Thread rule: pure functions. File-controlled: everything that is loaded;
 * its form is checked here, what it means by devices (post_load) and KVM.
 */
#ifndef SNAPSHOT_FROZEN_FILE_H
#define SNAPSHOT_FROZEN_FILE_H

#include "snapshot/parts.h"
#include "snapshot/state_file.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

CC_MUST_CHECK int frozen_store(const struct frozen *f, const struct parts *p,
    struct state_writer *w, struct err *err);

/*
 * Fills a fresh *ret_frozen for the parts of a machine that was built from
 * the same description. Takes the sections that it knows; an error names the
 * one that is missing or wrong.
 */
CC_MUST_CHECK int frozen_load(struct state_file *file, const struct parts *p,
    struct frozen *ret_frozen, struct err *err);

#endif
