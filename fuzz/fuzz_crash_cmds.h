/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done with crashes and corpora: spore fuzz triage, min, gdb and cov.
 */
#ifndef FUZZ_FUZZ_CRASH_CMDS_H
#define FUZZ_FUZZ_CRASH_CMDS_H

/* The command line from its own word on; the exit status. */
int fuzz_triage_cmd(int argc, char **argv);
int fuzz_min_cmd(int argc, char **argv);
int fuzz_gdb_cmd(int argc, char **argv);
int fuzz_cov_cmd(int argc, char **argv);

/* Milliseconds that a run may take, and what is taken without the option. */
#define FUZZ_CRASH_TIMEOUT_MS     5000u
#define FUZZ_CRASH_TIMEOUT_MS_MAX 3600000u

#endif
