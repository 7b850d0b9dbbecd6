/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command of one connection: its process, its streams, its input window.
 * Owns the descriptors and the process until it is reaped. One thread; never
 * blocks. Output of the command and input of the host are bytes that pass
 * through; everything else was checked by request.c.
 *
 * Descriptors are watched edge-triggered and once: *_ready flags remember what
 * epoll said, until a call says that nothing is left.
 */
#ifndef GUEST_AGENT_EXEC_H
#define GUEST_AGENT_EXEC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "guest/agent/frame.h"
#include "guest/agent/request.h"
#include "guest/agent/spawn.h"

struct exec_stream {
    int fd;     /* -1: at its end */
    bool ready; /* to be read */
    bool hup;   /* an end of file is to come: read on to it */
};

struct exec {
    pid_t pid; /* of a process not yet reaped; else 0 */
    uint32_t flags;
    bool exited;
    int status; /* of wait */
    struct rusage usage;
    struct exec_stream out[2]; /* [0] is the terminal's master with TTY */

    int in_fd; /* -1: none, or closed; with TTY a copy of out[0].fd */
    bool in_ready;
    bool in_eof;    /* the host has no more */
    bool in_closed; /* the command takes no more */
    bool in_closed_told;
    uint32_t in_veofs; /* typed into the terminal after the end */
    uint32_t in_ack;   /* consumed and not yet told */
    size_t in_start;
    size_t in_len;
    uint8_t in_buf[AGENT_STDIN_WINDOW];
};

/*
 * A host that interprets guest kernels runs programs on the bare processor,
 * AVX and all, but the guest's kernel cannot execute xsave there and switches
 * tasks with fxsave: upper halves of vector registers leak from one process
 * into another (seen as crashes in memcpy'd data). This keeps glibc off them.
 */
#define EXEC_NO_AVX_NAME "GLIBC_TUNABLES"
#define EXEC_NO_AVX_VALUE                                                      \
    "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,"                \
    "-AVX_Fast_Unaligned_Load"

/* What all commands of an agent share; filled in by agent.c. */
struct exec_context {
    int epoll_fd;
    int null_fd; /* -1 until the first command */
    bool no_avx; /* add EXEC_NO_AVX to the environment */
    uid_t uid;   /* the agent's own */
    gid_t gid;
    /* Pointers for execve and defaults they may point to, one command's at
     * a time. */
    char *strings[AGENT_EXEC_STRINGS_MAX + 16];
    char defaults[1024];
    struct user user;
};

/* No process, no descriptors. in_buf is not touched. */
void exec_init(struct exec *e);

/*
 * Starts the command of a request and watches its streams as those of
 * session slot. 0, or -errno and *ret_failure with e as after exec_init.
 */
int exec_start(struct exec *e, struct exec_context *ctx, uint32_t slot,
    const struct request_exec *request, struct spawn_failure *ret_failure);

/* Input. -EPROTO past the window, after the end or without STDIN. */
int exec_stdin(struct exec *e, const uint8_t *bytes, size_t n);
int exec_stdin_eof(struct exec *e);

/* -EPROTO without TTY. */
int exec_winsize(struct exec *e, const struct request_winsize *w);

/* Nothing once the process was reaped. */
void exec_signal(struct exec *e, const struct request_signal *s);

/*
 * Moves what can be moved: input to the command, output to frames.
 * True if something was.
 */
bool exec_pump(struct exec *e, struct frame_out *out);

/* The process has ended and was reaped with this result. */
void exec_reaped(struct exec *e, int status, const struct rusage *usage);

/* True when the process has ended and its output is all in frames. */
bool exec_is_finished(const struct exec *e);

/* Appends EXIT; false if there is no room. */
bool exec_put_exit(const struct exec *e, struct frame_out *out);

/* Closes all descriptors. The process, if any, goes on. */
void exec_close(struct exec *e);

#endif
