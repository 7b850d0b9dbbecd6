/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which handles libnyx.so has given out.
 *
 * The one thing in spore that is global to a process, beside the level of the
 * log: nyx_new is told a path or a configuration in the same argument, and
 * AFL++ shuts a runner down again that it has shut down before. Only by
 * knowing what there is can either be told without looking at what a stranger's
 * pointer points to.
 *
 * Thread rule: any thread; a lock is held for the look only.
 */
#ifndef FUZZ_NYX_HANDLES_H
#define FUZZ_NYX_HANDLES_H

#include <stdbool.h>

enum nyx_handle_kind { NYX_HANDLE_CONFIG, NYX_HANDLE_RUNNER };

/* First member of what a handle points to. */
struct nyx_handle {
    enum nyx_handle_kind kind;
    struct nyx_handle *next;
};

void nyx_handles_add(struct nyx_handle *handle);

/* Whether `pointer` is a handle of this kind. */
bool nyx_handles_has(const void *pointer, enum nyx_handle_kind kind);

/* As nyx_handles_has, and from now on it is none. */
bool nyx_handles_take(const void *pointer, enum nyx_handle_kind kind);

#endif
