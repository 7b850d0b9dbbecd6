/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of `spore run --help`, in parts of at most 4095 characters, which
 * is what a compiler must accept. Thread rule: constants.
 */
#ifndef VMM_RUN_HELP_H
#define VMM_RUN_HELP_H

/* To be printed one behind the other; NULL at the end. */
extern const char *const run_help[];

#endif
