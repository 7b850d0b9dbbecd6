/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves the calls of a guest's agent (guest/fuzz/abi.h).
 *
 * Owns the text that the guest reports and the file that it is being sent.
 * Thread rule: that of the executor, the guest stopped at its call.
 * Guest-controlled: numbers, arguments, and all they point at.
 */
#ifndef FUZZ_CALLS_H
#define FUZZ_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/fuzz_agent.h"
#include "fuzz/guest_view.h"
#include "fuzz/result.h"
#include "vmm/base/cc.h"

struct calls_config {
    int print_fd;      /* -1: what is printed is part of the text only */
    int share_fd;      /* a folder that files are sent from; -1: none */
    int dump_fd;       /* a folder that they are put into; -1: none */
    uint32_t map_size; /* what agents are told that ask for one */
    uint32_t worker;
    bool stops_at_report; /* as executor_options has it */
    size_t text_max;
};

enum calls_report {
    CALLS_NO_REPORT,
    CALLS_AT_REPORT, /* the run has ended where one begins */
    CALLS_READ_ON,   /* and gone on from there */
};

struct calls {
    struct calls_config config;
    char *text;
    size_t text_len; /* a NUL is behind it */
    bool is_fuzzing; /* the root lies behind it: no more configuration */
    bool reports;    /* REPORT was called in this run */
    enum calls_report report;
    bool has_host_config; /* the guest has asked for it */
    bool has_agent_config;
    bool has_acquire;      /* the root is at NEXT_PAYLOAD: ACQUIRE is to come */
    bool stops_at_acquire; /* which is then told as a root, also in a run */
    int stream_fd;         /* -1: none is being sent */
    char stream[256];      /* its name */
    uint64_t level;  /* of the last LEVEL; 0 for Nyx's, which tells none */
    uint64_t dumped; /* bytes of files that the guest had written */
    uint32_t dumps;  /* of them, and the number of the next unnamed one */
};

enum calls_outcome {
    CALLS_GO_ON, /* *ret_rax is the answer */
    CALLS_ROOT,  /* the root is here, behind the call */
    CALLS_LEVEL, /* one may be pushed here; c->level is its argument */
    CALLS_END,   /* the run has ended: the result says how */
    CALLS_DEBUG, /* no call: the vCPU is being debugged (fuzz/debugger.h) */
};

CC_MUST_CHECK int calls_init(
    struct calls *c, const struct calls_config *config, struct err *err);
void calls_fini(struct calls *c);

/* Before a run: no text. */
void calls_begin(struct calls *c);

/* Adds to the text, as far as there is room. */
void calls_add_text(struct calls *c, const char *text, size_t len);

/*
 * `number` with argument `arg`. What the agent asks for and cannot have ends
 * the run as FUZZ_ABORT, with words in the text.
 */
enum calls_outcome calls_serve(struct calls *c, struct fuzz_agent *agent,
    const struct guest_view *view, uint64_t number, uint64_t arg,
    struct fuzz_result *result, uint64_t *ret_rax);

#endif
