/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tools that a share directory of Nyx has for its script: hget, hget_bulk,
 * hcat, habort, hpush. Those of the directory look for a processor by Nyx's
 * name, which not every host can give its guests, so init takes their place
 * under each name that it is fetched by.
 *
 * One thread. What the script says is passed on as it is.
 */
#ifndef GUEST_FUZZ_TOOLS_H
#define GUEST_FUZZ_TOOLS_H

#include <stdbool.h>

/* Whether `path` names a tool, with or without _no_pt behind it. */
bool tools_is_name(const char *path);

/* The tool that argv[0] names: its exit status. */
int tools_run(int argc, char **argv);

/*
 * Fetches a file of the share directory, or puts a tool in its place: 0 or
 * -errno, -ENOENT if the executor has none of that name.
 */
int tools_get(const char *name, const char *to);

#endif
