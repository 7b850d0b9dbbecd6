/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Process 1 of a guest whose target is a share directory of Nyx: does what
 * Nyx's own loader does, with busybox as the shell, and runs the script that
 * the directory has for hosts without processor trace.
 *
 * One thread. The script and all it fetches are the target's own.
 */
#ifndef GUEST_FUZZ_SHARE_H
#define GUEST_FUZZ_SHARE_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the initrd is one for that: it has a shell. */
bool share_is_here(void);

/*
 * Runs the script; comes back only if that ends, or cannot begin, without a
 * root: with a sentence about it in `text`.
 */
void share_run(bool no_avx, char *text, size_t size);

#endif
