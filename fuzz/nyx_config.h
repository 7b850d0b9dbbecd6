/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a runner of libnyx.so is made of, and the directory that AFL++ wants to
 * find its dictionary in.
 *
 * Thread rule: as fuzz/nyx.h. File-controlled: the dictionary, copied as it is
 * for AFL++ to check, and TARGET_HASH.
 */
#ifndef FUZZ_NYX_CONFIG_H
#define FUZZ_NYX_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "fuzz/nyx_handles.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

/* In the target's directory and in AFL++'s: what the target has dumped. */
#define NYX_DUMP_DIR  "dump"
#define NYX_DICT_NAME "afl_autodict.txt"
#define NYX_DICT_MAX  (16u << 20)

struct nyx_config {
    struct nyx_handle handle;
    char *dir;     /* of the target */
    char *workdir; /* NULL: none */
    int32_t print_fd;
    uint32_t aux_size; /* bytes of the aux buffer */
    uint32_t worker;
};

#define NYX_AUX_SIZE     4096u
#define NYX_AUX_SIZE_MAX (1u << 20)

/* NULL: no memory. */
struct nyx_config *nyx_config_make(const char *dir, const char *workdir);
void nyx_config_destroy(struct nyx_config *config); /* NULL is fine */

/* Makes the directory for AFL++, with the target's dictionary in it. */
CC_MUST_CHECK int nyx_config_prepare(
    const struct nyx_config *config, struct err *err);

#endif
