/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore save, push, reset, restore and clone: machines that run, frozen, put
 * back and multiplied.
 */
#ifndef VMM_SAVE_CMD_H
#define VMM_SAVE_CMD_H

/* The command line from its own word on; the exit status. */
int cmd_save(int argc, char **argv);
int cmd_push(int argc, char **argv);
int cmd_reset(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_clone(int argc, char **argv);

#endif
