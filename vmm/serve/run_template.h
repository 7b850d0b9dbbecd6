/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore run TEMPLATE -- COMMAND`: the command in a clone that was made ahead.
 * This process has neither machine nor jail: only the command's streams.
 *
 * Thread rule: one thread, the process's.
 */
#ifndef VMM_SERVE_RUN_TEMPLATE_H
#define VMM_SERVE_RUN_TEMPLATE_H

/* `spore run`, of a template or not. */
int cmd_run_any(int argc, char **argv);

#endif
