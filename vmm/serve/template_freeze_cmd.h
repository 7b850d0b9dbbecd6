/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore template freeze`: a machine that runs as a template.
 *
 * Thread rule: one thread. The command line is the user's and is checked.
 */
#ifndef VMM_SERVE_TEMPLATE_FREEZE_CMD_H
#define VMM_SERVE_TEMPLATE_FREEZE_CMD_H

int template_freeze_cmd(int argc, char **argv);

#endif
