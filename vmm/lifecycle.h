/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore pause, resume, stop and kill: the phases of machines that run; config
 * and metrics: what they say of themselves.
 */
#ifndef VMM_LIFECYCLE_H
#define VMM_LIFECYCLE_H

/* The command line from its own word on; the exit status. */
int cmd_pause(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_kill(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_metrics(int argc, char **argv);

#endif
