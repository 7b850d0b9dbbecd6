/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A target: the directory that `spore fuzz pack` makes, or a share directory
 * of Nyx.
 *
 *     target.json   what it is (see docs/fuzzing.md)
 *     config.ron    for afl-fuzz -X, which wants to see one
 *     root.img      file system with the program, its libraries and the agent
 *     snapshots/    a store with the snapshot "root"
 *
 * Thread rule: one thread. File-controlled: target.json and the directory;
 * paths in it are relative to the directory and stay in it, but for `kernel`.
 */
#ifndef FUZZ_TARGET_H
#define FUZZ_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define FUZZ_TARGET_ROOT  "root"      /* the snapshot's name */
#define FUZZ_TARGET_STORE "snapshots" /* in the directory, as the next */
#define FUZZ_TARGET_IMAGE "root.img"
#define FUZZ_TARGET_JSON  "target.json"

#define FUZZ_TARGET_VERSION  1u
#define FUZZ_TARGET_JSON_MAX (1u << 20) /* bytes */

/* In the program's arguments: where the input's file is named. */
#define FUZZ_TARGET_FILE_MARK "@@"

/* Words in argv, and in env, as the agent has it. */
#define FUZZ_TARGET_WORDS_MAX 1024u

/* Of mem_bytes, which is whole MiB. */
#define FUZZ_TARGET_MEM_MIN         (UINT64_C(32) << 20)
#define FUZZ_TARGET_MEM_MAX         (UINT64_C(64) << 30)
#define FUZZ_TARGET_MEM_DEFAULT     (UINT64_C(256) << 20)
#define FUZZ_TARGET_NYX_MEM_DEFAULT (UINT64_C(512) << 20)

#define FUZZ_TARGET_BOOT_MS_DEFAULT UINT64_C(120000)
/* Its script is run by a shell: 3 minutes where measured, on a busy host. */
#define FUZZ_TARGET_NYX_BOOT_MS UINT64_C(600000)
#define FUZZ_TARGET_BOOT_MS_MAX UINT64_C(3600000)

/* How the program gets its input. */
enum fuzz_target_input {
    FUZZ_TARGET_STDIN,
    FUZZ_TARGET_FILE,   /* its name is the argument @@ */
    FUZZ_TARGET_MEMORY, /* AFL++'s shared test case: the program asks for it */
    FUZZ_TARGET_SOCKET, /* as what arrives at a socket that it listens on */
};

struct fuzz_target {
    char *dir;       /* as given; opened again by name */
    char *kernel;    /* path of a vmlinux; NULL: the one that spore has */
    char **argv;     /* of the program, in the guest; NULL-terminated; empty
                        for one of Nyx */
    char **env;      /* more of its environment: NAME=VALUE; NULL-terminated */
    char *boot_args; /* more of the kernel's command line; "" if none */
    enum fuzz_target_input input;
    uint64_t mem_bytes;
    uint64_t boot_timeout_ms; /* to the root */
    bool is_nyx;              /* a share directory of Nyx */
    bool asan;                /* the program has AddressSanitizer */
    bool levels;              /* inputs are messages, and runs begin behind
                                 what they share of them (fuzz/levels.h) */
};

/* -ENOENT if there is neither target.json nor config.ron; -EINVAL, naming the
 * member, for what is not understood. */
CC_MUST_CHECK int fuzz_target_open(
    const char *dir, struct fuzz_target *ret_target, struct err *err);

/* A zeroed one is let be. */
void fuzz_target_fini(struct fuzz_target *target);

/*
 * What the members mean together: 0, or -EINVAL or -ERANGE with the name of
 * the one that is wrong. Not for targets of Nyx.
 */
CC_MUST_CHECK int fuzz_target_check(
    const struct fuzz_target *target, struct err *err);

/* Whether an argument behind the program has @@ in it. */
bool fuzz_target_has_file(char *const *argv);

/* target.json to a target without a directory, and back; the caller frees. */
CC_MUST_CHECK int fuzz_target_decode(const char *text, size_t size,
    struct fuzz_target *ret_target, struct err *err);
CC_MUST_CHECK int fuzz_target_encode(
    const struct fuzz_target *target, char **ret_text, struct err *err);

/* "stdin" and so on; -EINVAL for what is none of them. */
const char *fuzz_target_input_name(enum fuzz_target_input input);
CC_MUST_CHECK int fuzz_target_input_parse(
    const char *text, enum fuzz_target_input *ret_input);

/* Writes target.json and config.ron, replacing what is there. */
CC_MUST_CHECK int fuzz_target_write(
    const struct fuzz_target *target, struct err *err);

#endif
