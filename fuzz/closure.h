/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that a program needs to be run: itself, the dynamic linker and the
 * shared libraries, found as ld.so(8) would find them, by reading them only.
 *
 * Thread rule: one thread. File-controlled: every file that is looked at, and
 * how many there are, which is bounded.
 */
#ifndef FUZZ_CLOSURE_H
#define FUZZ_CLOSURE_H

#include <stdbool.h>
#include <stddef.h>

#include "fuzz/elf_needs.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/words.h"

#define CLOSURE_FILES_MAX 512u
#define CLOSURE_FILE_MAX  (UINT64_C(1) << 30) /* bytes */

#define CLOSURE_MOVED "/target"

struct closure_file {
    char *path;    /* absolute, as the dynamic linker asks for it here */
    char *guest;   /* the same in the guest */
    char *name;    /* that it was asked for by */
    size_t loader; /* index of the file that needs it */
    char *search;  /* folder to be told to the dynamic linker, or NULL */
    struct elf_needs needs;
    struct elf_traits traits;
};

struct closure {
    struct closure_file *files; /* [0] is the program */
    size_t count;
    bool is_static; /* the program has no dynamic linker */
};

struct closure_options {
    const char *library_path; /* as LD_LIBRARY_PATH; NULL: none */
    const char *conf;         /* NULL: /etc/ld.so.conf */
    /* An ELF file that is loaded in front of all, by LD_PRELOAD; NULL: none. */
    const uint8_t *preload;
    size_t preload_size;
    /* Folders, each with a slash behind it, in which the guest has something
     * else: what lies there is in CLOSURE_MOVED in the guest. NULL: none. */
    const char *const *hidden;
};

/*
 * The program's own path is resolved, links and all. -ENOEXEC for a script,
 * with the cure, as in elf_needs.h; -ENOENT for a library that is nowhere.
 */
CC_MUST_CHECK int closure_find(const char *program,
    const struct closure_options *options, struct closure *ret_closure,
    struct err *err);

/* A zeroed one is let be. */
void closure_fini(struct closure *closure);

#endif
