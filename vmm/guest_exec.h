/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One command in a guest: the host's side of the agent protocol's EXEC
 * (docs/agent-protocol.md) over a connected stream socket.
 *
 * Owns the socket, the frame buffers and the watch on standard input; the
 * command's output goes to two descriptors of ours. Nothing blocks the loop:
 * an output that is not taken stops reading from the agent, input is read
 * only as far as the agent's window and the socket take it.
 *
 * Thread rule: the loop's thread; guest_exec_fini not from within a callback.
 * The agent's frames are the guest's word: lengths, types and order are
 * checked, a malformed one ends the command with an error. A signal that kills
 * writers of closed pipes (SIGPIPE) is the caller's to ignore.
 */
#ifndef VMM_GUEST_EXEC_H
#define VMM_GUEST_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/outstream.h"

#define GUEST_EXEC_TEXT_MAX (sizeof(((struct err *)0)->text) - 1)

struct guest_exec_result {
    bool is_error; /* the command was not run to its end: see text */
    int status;    /* as a shell would give it: 0..255, 128 + signal */
    char text[GUEST_EXEC_TEXT_MAX + 1]; /* one line; may be empty */
};

struct guest_exec_config {
    const char *const *argv; /* borrowed until guest_exec_start returns */
    const char *const *env;  /* "NAME=value", NULL-terminated; may be NULL */
    const char *cwd;         /* NULL: the user's home */
    const char *user;        /* a name, or "UID" or "UID:GID"; NULL: root */
    bool tty;
    bool detach;   /* done when it is started, which it then outlives */
    uint16_t rows; /* of the terminal; 0: unknown */
    uint16_t cols;
    int stdin_fd; /* -1: the command gets no input */
    int stdout_fd;
    int stderr_fd;
    struct output_limit *output_limit; /* of both; borrowed, NULL: none */
    void (*on_started)(void *opaque);
    void (*on_done)(void *opaque, const struct guest_exec_result *result);
    void *opaque;
};

enum guest_exec_phase {
    GUEST_EXEC_HELLO,   /* connected, the agent has not spoken yet */
    GUEST_EXEC_WAITING, /* request sent, command not started yet */
    GUEST_EXEC_RUNNING,
    GUEST_EXEC_DRAINING, /* ended; our outputs still have bytes to take */
    GUEST_EXEC_DONE,
};

struct guest_exec {
    struct loop *loop;
    enum guest_exec_phase phase;
    struct loop_source socket; /* owns its fd */
    struct loop_source input;
    bool input_is_file; /* cannot be polled: always ready */
    bool input_ended;
    bool is_detached;
    uint32_t input_window; /* bytes of STDIN that may be outstanding */
    struct outstream out;
    struct outstream err;
    uint8_t *rx; /* one frame, AGENT_FRAME_MAX bytes */
    size_t rx_len;
    uint8_t *tx; /* frames not yet taken by the socket */
    size_t tx_at;
    size_t tx_end;
    struct guest_exec_result result;
    void (*on_started)(void *opaque);
    void (*on_done)(void *opaque, const struct guest_exec_result *result);
    void *opaque;
};

/*
 * Takes over `socket_fd`, sends the request and returns; the rest happens on
 * the loop. `on_done` is called exactly once unless guest_exec_fini comes
 * first. -E2BIG if arguments and environment exceed one frame, -EINVAL for a
 * user that is neither a name nor numbers.
 */
CC_MUST_CHECK int guest_exec_start(struct guest_exec *exec, struct loop *loop,
    int socket_fd, const struct guest_exec_config *config, struct err *err);
void guest_exec_fini(struct guest_exec *exec);

/* Sends a signal to the command's process group; ignored if it has ended. */
void guest_exec_signal(struct guest_exec *exec, int signal);

/* Tells the command its terminal's new size. */
void guest_exec_resize(struct guest_exec *exec, uint16_t rows, uint16_t cols);

#endif
