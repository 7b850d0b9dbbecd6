/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that led to a crash, from registers and memory or from what a
 * sanitizer printed, and a hash by which crashes are grouped.
 *
 * Owns the names of its frames. Thread rule: one thread. Guest-controlled:
 * everything that it is made of.
 */
#ifndef FUZZ_BACKTRACE_H
#define FUZZ_BACKTRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "fuzz/symbols.h"
#include "fuzz/unwind.h"
#include "vmm/base/cc.h"

#define BACKTRACE_MAX 128u

/* Frames that the hash takes. */
#define BACKTRACE_HASHED 5u

struct backtrace_frame {
    uint64_t address; /* 0: unknown */
    char *module;     /* path in the guest; NULL: unknown, as the next two */
    char *function;
    char *source;
    uint64_t offset; /* the address in the module's file */
    uint32_t line;   /* 0: unknown */
    bool is_inlined; /* into the next frame */
};

struct backtrace {
    struct backtrace_frame frames[BACKTRACE_MAX]; /* the innermost first */
    size_t count;
};

/*
 * Of a stopped process. If a frame is at `crash`, where a signal came, those
 * inside of it (the handler's) are left out, and *crash_frame becomes it if
 * that is not NULL; 0: all are wanted.
 */
void backtrace_unwind(struct symbols *symbols,
    const struct unwind_memory *memory, const struct unwind_frame *start,
    uint64_t crash, struct unwind_frame *crash_frame,
    struct backtrace *ret_backtrace);

/*
 * Of the first stack in a sanitizer's report; names that it lacks come from
 * `symbols`, if there are any (NULL is fine). No frame: it has none.
 */
void backtrace_parse(const char *text, size_t size, struct symbols *symbols,
    struct backtrace *ret_backtrace);

void backtrace_fini(struct backtrace *backtrace);

/*
 * Over what the crash is and the uppermost frames: function names, and of the
 * first its line. Without what reports the crash (abort, a sanitizer's own
 * functions), without repetitions and without addresses, so that it stays the
 * same from build to build and under ASLR. Frames without a name are known by
 * module and offset. `kind` sets apart what must not be one group.
 */
uint64_t backtrace_hash(const struct backtrace *backtrace, const char *kind);

/* The frame that the crash is told by: the first one that the hash takes. */
const struct backtrace_frame *backtrace_top(const struct backtrace *backtrace);

/* One line: "#0 0x... in f file:line"; cut if longer. */
void backtrace_frame_text(const struct backtrace_frame *frame, size_t number,
    char *ret_text, size_t size);

void backtrace_print(const struct backtrace *backtrace, FILE *out);

#endif
