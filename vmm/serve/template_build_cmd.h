/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore template build: its options.
 */
#ifndef VMM_SERVE_TEMPLATE_BUILD_CMD_H
#define VMM_SERVE_TEMPLATE_BUILD_CMD_H

/* The command line from "build" on; the exit status. */
int template_build_cmd(int argc, char **argv);

#endif
