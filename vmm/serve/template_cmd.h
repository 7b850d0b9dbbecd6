/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore template: build, ls, rm, inspect.
 */
#ifndef VMM_SERVE_TEMPLATE_CMD_H
#define VMM_SERVE_TEMPLATE_CMD_H

/* The command line from its own word on; the exit status. */
int cmd_template(int argc, char **argv);

#endif
