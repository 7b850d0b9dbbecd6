/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `spore top`.
 */
#ifndef VMM_SERVE_TOP_CMD_H
#define VMM_SERVE_TOP_CMD_H

int cmd_top(int argc, char **argv);

#endif
