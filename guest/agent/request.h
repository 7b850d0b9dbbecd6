/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payloads of the frames that a host sends, taken apart and checked. Pure
 * functions over bytes, any thread. All input is the peer's; what a function
 * returns satisfies every rule of docs/agent-protocol.md that can be checked
 * without the file system. Strings point into the payload.
 *
 * Every function returns 0, or -EPROTO with its output untouched.
 */
#ifndef GUEST_AGENT_REQUEST_H
#define GUEST_AGENT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/agent/frame.h"

struct request_exec {
    uint32_t flags; /* AGENT_EXEC_*; no combination that is not allowed */
    uint32_t uid;
    uint32_t gid;
    uint16_t rows;
    uint16_t cols;
    size_t argc; /* 1.. ; argc + envc <= AGENT_EXEC_STRINGS_MAX */
    size_t envc;
    const char *user;    /* not empty exactly with USER_NAME */
    const char *cwd;     /* empty or absolute */
    const char *strings; /* argc + envc strings, one after the other */
};

struct request_copy {
    uint32_t flags;   /* AGENT_COPY_* */
    const char *path; /* absolute, at most AGENT_PATH_MAX bytes */
};

struct request_entry {
    enum agent_entry_type type;
    bool closing;
    uint32_t mode; /* 0..07777 */
    uint32_t uid;
    uint32_t gid;
    int64_t mtime_s;
    uint32_t mtime_ns;
    const char *name;   /* "." or relative and without ".." */
    const char *target; /* of a symbolic link, not empty; else NULL */
};

struct request_data {
    uint64_t offset; /* offset + length fits an off_t */
    const uint8_t *bytes;
    size_t length; /* 1.. */
};

struct request_file_end {
    uint64_t size; /* fits an off_t */
    int error;     /* 0 or an errno */
};

struct request_time {
    int64_t sec;
    uint32_t nsec;
};

struct request_generation {
    uint8_t id[AGENT_GENERATION_ID]; /* not all zero */
    bool has_time;
    struct request_time time;
    uint8_t seed[AGENT_GENERATION_SEED];
};

struct request_power {
    uint32_t flags;
    uint32_t grace_ms;
};

struct request_forward {
    uint16_t port; /* 1.. */
};

struct request_signal {
    int signal; /* 1..64 */
    uint32_t flags;
};

struct request_winsize {
    uint16_t rows;
    uint16_t cols;
};

int request_exec(const struct frame_view *frame, struct request_exec *ret);
int request_copy(const struct frame_view *frame, struct request_copy *ret);
int request_entry(const struct frame_view *frame, struct request_entry *ret);
int request_data(const struct frame_view *frame, struct request_data *ret);
int request_file_end(
    const struct frame_view *frame, struct request_file_end *ret);
int request_copy_end(const struct frame_view *frame);
int request_time(const struct frame_view *frame, struct request_time *ret);
int request_generation(
    const struct frame_view *frame, struct request_generation *ret);
int request_power(const struct frame_view *frame, struct request_power *ret);
int request_forward(
    const struct frame_view *frame, struct request_forward *ret);
int request_signal(const struct frame_view *frame, struct request_signal *ret);
int request_winsize(
    const struct frame_view *frame, struct request_winsize *ret);

/* SYNC, FREEZE, THAW: the path to dst (AGENT_PATH_MAX + 1 bytes); "" if none */
int request_path(const struct frame_view *frame, char *dst);

/* True for a name that ENTRY may carry. */
bool request_name_is_valid(const char *name);

#endif
