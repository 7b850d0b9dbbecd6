/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the options of `spore run --from`, or the body of /snapshot/load, change
 * of a snapshot's machine: what is behind its devices on this host, and
 * nothing that the guest has seen.
 *
 * Thread rule: one thread. Both the snapshot's description and the options
 * have passed config_check; errors name the option.
 */
#ifndef VMM_RUN_OVERRIDE_H
#define VMM_RUN_OVERRIDE_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/run_options.h"

/*
 * Changes `config`, the snapshot's, by what `options` say: files behind drives
 * and persistent memories, networks and their addresses, the size of the
 * balloon, the socket of the vsock device (which is dropped unless it is given
 * or options->keeps_vsock). -EINVAL for an option that contradicts the
 * snapshot, or if a device was behind a descriptor and is given nothing else.
 */
CC_MUST_CHECK int run_override(
    struct config *config, const struct run_options *options, struct err *err);

#endif
