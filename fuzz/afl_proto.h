/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target's side of AFL++'s fork server protocol: two pipes, 198 to read
 * from and 199 to write to.
 *
 * There are two ways to say hello. The old one is understood by every AFL++,
 * by those from 4.20c on with a warning; the new one only by these.
 *
 * Thread rule: one thread.
 */
#ifndef FUZZ_AFL_PROTO_H
#define FUZZ_AFL_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define AFL_PROTO_MAP_MAX  (8u << 20)
#define AFL_PROTO_DICT_MAX 0xffffffu

struct afl_proto {
    int in_fd;
    int out_fd;
    bool is_new;
};

struct afl_offer {
    uint32_t map_size;    /* exact; 2 to AFL_PROTO_MAP_MAX */
    bool wants_shm_input; /* test cases in shared memory */
    bool has_cmp;         /* writes comparisons as AFL++ 4 has them */
    const uint8_t *dict;  /* records of a byte of length and bytes */
    size_t dict_size;     /* 0: none to offer */
};

/* false: nobody is there that speaks it. */
bool afl_proto_is_there(void);

struct afl_proto afl_proto_std(bool is_new);

/* 0; -EPROTO, -EPIPE if the other side is not as expected. */
CC_MUST_CHECK int afl_proto_hello(const struct afl_proto *proto,
    const struct afl_offer *offer, struct err *err);

/*
 * Waits for the next test case: 1, and whether the process of the last one had
 * to be killed; 0 when there are no more.
 */
CC_MUST_CHECK int afl_proto_next(
    const struct afl_proto *proto, bool *ret_was_killed, struct err *err);

/* Who runs it, and what it came to, as wait(2) has it. */
CC_MUST_CHECK int afl_proto_begin(
    const struct afl_proto *proto, int32_t pid, struct err *err);
CC_MUST_CHECK int afl_proto_end(
    const struct afl_proto *proto, int32_t status, struct err *err);

#endif
