/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the directory of a target out of a program: its image, target.json and
 * config.ron, and, after a boot, the snapshot that runs begin from.
 *
 * Thread rule: one thread. File-controlled: the program and its libraries
 * (closure.h), the files that go into the image, the inputs.
 */
#ifndef FUZZ_PACK_H
#define FUZZ_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/closure.h"
#include "fuzz/inputs.h"
#include "fuzz/target.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/words.h"

/* What only the guest is told. */
struct pack_conf {
    const char *cwd;   /* folder that the program starts in */
    uint16_t port;     /* that it listens on, for input "socket" */
    bool frames;       /* inputs are packets, each with its length in front */
    bool levels;       /* and the agent says how far in them it is */
    struct words more; /* records KEY=VALUE for the agent, which checks them */
};

struct pack {
    const char *program; /* with is_device, what is fuzzed is the kernel: the
                            device in the guest that inputs are written to */
    bool is_device;
    const char *out;    /* the directory, which is not there yet */
    char *const *args;  /* of the program; NULL-terminated */
    struct words env;   /* NAME=VALUE */
    struct words files; /* HOST:GUEST */
    const char *kernel; /* NULL: spore's own, which no device goes with */
    const char *boot_args;
    uint64_t mem_bytes;
    uint64_t boot_timeout_ms;
    bool has_input; /* `input` was given, else it is found out */
    enum fuzz_target_input input;
    struct pack_conf conf;
    struct inputs seeds; /* that the root is made warm with */
    bool no_boot;
    bool is_verbose; /* what the guest prints goes to standard error */
};

/* What was found out, in the order of when. */
struct pack_result {
    struct elf_traits traits; /* of the program, as amended by its libraries */
    enum fuzz_target_input input;
    size_t file_count; /* in the closure */
    bool is_static;
    size_t map_size; /* 0: no map, or not booted */
};

/*
 * All of it, in `dir`, an empty directory. Lines about what will not work go
 * to `warn`.
 */
CC_MUST_CHECK int pack_make(const struct pack *pack, const char *dir,
    void (*warn)(const char *text), struct pack_result *ret_result,
    struct err *err);

/*
 * /spore/fuzz.conf, as the guest's init reads it: records `key=value`, a NUL
 * behind each: arg and env any number of times, in order, then input, cwd,
 * asan, port, frames, and what else was given; with is_device, device instead
 * of arg. The caller frees *ret_data.
 */
CC_MUST_CHECK int pack_encode_conf(const struct fuzz_target *target,
    const struct pack_conf *conf, bool is_device, char **ret_data,
    size_t *ret_size, struct err *err);

#endif
