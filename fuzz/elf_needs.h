/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an x86-64 ELF file asks of the dynamic linker, and what is built into
 * it that matters for fuzzing.
 *
 * Pure parser over a copy of the file; keeps copies of its strings. Thread
 * rule: none. File-controlled: every byte.
 */
#ifndef FUZZ_ELF_NEEDS_H
#define FUZZ_ELF_NEEDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/words.h"

#define ELF_NEEDS_MAX 256u /* libraries that one file can ask for */

struct elf_needs {
    char *interp;       /* the dynamic linker, NULL: none */
    char *soname;       /* NULL: none */
    char *rpath;        /* as in the file, NULL: none, as the next */
    char *runpath;      /* with it there is no rpath */
    struct words names; /* of libraries, in order */
};

/*
 * -ENOEXEC: no ELF, or not one that can be run or loaded; -ENOTSUP: of another
 * machine, with the cure; -EINVAL: damaged.
 */
CC_MUST_CHECK int elf_needs_read(const uint8_t *data, size_t size,
    const char *name, struct elf_needs *ret_needs, struct err *err);

/* A zeroed one is let be. */
void elf_needs_fini(struct elf_needs *needs);

/* What was built in, by the names that it leaves in the file. */
struct elf_traits {
    bool has_asan;
    bool has_msan;
    bool has_tsan;
    bool has_lsan;
    bool has_afl;        /* AFL++'s runtime, and so a coverage map */
    bool has_persistent; /* __AFL_LOOP */
    bool has_deferred;   /* __AFL_INIT */
    bool has_driver;     /* libAFLDriver */
    bool has_harness;    /* libspore-harness */
    bool has_libfuzzer;  /* a driver of its own, which is no AFL++ */
};

void elf_traits_find(
    const uint8_t *data, size_t size, struct elf_traits *ret_traits);

#endif
