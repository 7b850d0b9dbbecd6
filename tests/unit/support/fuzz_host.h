/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays the executor for a program with the preload library in it, without a
 * machine: the program is a child under ptrace, its `out` instructions are
 * caught as the faults that they are, and answered. A run cannot be undone
 * here, so that a program has one; what a run has done to the kernel is
 * counted.
 *
 * Owns the child, which is killed with fuzz_host_fini at the latest. Thread
 * rule: one thread, which has no other children.
 */
#ifndef TESTS_UNIT_SUPPORT_FUZZ_HOST_H
#define TESTS_UNIT_SUPPORT_FUZZ_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/fuzz/abi.h"

#define FUZZ_HOST_ARGS_MAX 8u
#define FUZZ_HOST_TEXT_MAX (1u << 20)

struct fuzz_host_config {
    const char *words;                    /* SPORE_FUZZ; names.h */
    const char *args[FUZZ_HOST_ARGS_MAX]; /* NULL-terminated */
    const char *env[FUZZ_HOST_ARGS_MAX];  /* more: NAME=VALUE */
    const void *input;
    size_t input_size;
    uint32_t warm; /* pages to ask for, once */
};

/* How a program ended. */
enum fuzz_host_end {
    FUZZ_HOST_DONE,      /* DONE */
    FUZZ_HOST_PANIC,     /* PANIC */
    FUZZ_HOST_SANITIZER, /* KASAN */
    FUZZ_HOST_ABORT,     /* USER_ABORT */
    FUZZ_HOST_EXITED,    /* without a call */
};

struct fuzz_host_result {
    enum fuzz_host_end end;
    int status;      /* of DONE, or of the process */
    uint32_t signal; /* of PANIC */
    uint64_t rip;
    uint32_t hellos;
    uint32_t roots;
    uint32_t levels;
    uint32_t calls_to_report; /* system calls before the first REPORT */
    bool reports;
    uint64_t level_at;
    uint32_t system_calls; /* behind the root */
    uint64_t system_call;  /* number of the last one */
    uint32_t edges;        /* bytes of the map that are not zero at the end */
    uint32_t comparisons;  /* bytes of the other map's headers, the same */
    uint64_t map_sum;      /* of its bytes in their order */
    struct fuzz_abi_hello hello;
    size_t dictionary_size; /* of DUMP_FILE */
    size_t text_len;
    char text[FUZZ_HOST_TEXT_MAX + 1];
};

/* Runs the program to the end of its first run. */
void fuzz_host_run(
    const struct fuzz_host_config *config, struct fuzz_host_result *ret_result);

#endif
