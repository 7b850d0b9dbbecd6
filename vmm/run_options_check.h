/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of `spore run` that are well by themselves and not together. Part of
 * run_options. Thread rule: none.
 */
#ifndef VMM_RUN_OPTIONS_CHECK_H
#define VMM_RUN_OPTIONS_CHECK_H

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/run_options.h"

/* Also sets what follows from --detach. -EINVAL names the options. */
CC_MUST_CHECK int run_options_check(struct run_options *o, struct err *err);

#endif
