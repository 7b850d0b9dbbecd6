/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Templates that `spore run` makes for itself: the first run of a combination
 * of kernel, root file system and size boots, later ones start from there.
 *
 * Only runs that a boot and a clone cannot be told apart by: no file is
 * written to, nothing of the host stands behind the machine, and nobody looks
 * at how it boots. `--cold`, or SPORE_COLD=1, boots in any case.
 *
 * Thread rule: one thread.
 */
#ifndef VMM_SERVE_RUN_AUTO_H
#define VMM_SERVE_RUN_AUTO_H

#include <stdbool.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/run_options.h"
#include "vmm/serve/template.h"

#define RUN_AUTO_ENV "SPORE_COLD"

/* Templates of this kind that are kept; of more, the oldest go. */
#define RUN_AUTO_MAX 8u

bool run_auto_fits(const struct run_options *options);

/*
 * The template for such a run, made if there is none and there is no hurry
 * (--timeout): -ENOENT then.
 */
CC_MUST_CHECK int run_auto_open(const struct run_options *options,
    struct template *ret_template, struct err *err);

#endif
