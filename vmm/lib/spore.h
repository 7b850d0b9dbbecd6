/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libspore: clones of a template, for programs. See libspore(3).
 *
 * A template is a machine that was booted, set up and frozen (`spore
 * template`). A clone of it is a machine of its own, there within a
 * millisecond, in a jail of its own. All machines are of a process of spore's
 * that the library starts, and end with it, with their template's handle, and
 * with the caller, however that ends.
 *
 * Functions that can fail return 0 or a negative errno value, and say why in
 * one line for people if `error` is not NULL. They block; signals that the
 * caller handles do not end them, nor is any raised: neither SIGCHLD (the
 * process is nobody's child) nor SIGPIPE. The caller's process is not forked.
 *
 * Thread rule: a template's handle may be used by any thread at any time, and
 * different clones by different threads; of one clone there is one call at a
 * time, except for spore_clone_kill. Handles of a process are not for its
 * forked children; they are close-on-exec. No thread that is in a call may be
 * cancelled.
 *
 * Structs that are passed in begin with their size, as the caller was compiled
 * with: initialise them with their macros. What is added to them later is zero
 * then, which means what it was before.
 *
 * What a guest writes, and when it answers, is the guest's: give deadlines.
 */
#ifndef VMM_LIB_SPORE_H
#define VMM_LIB_SPORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SPORE_API __attribute__((visibility("default")))

struct spore_template;
struct spore_clone;

struct spore_error {
    char text[512]; /* one line, NUL-terminated */
};

/* ---- a template -----------------------------------------------------------
 */

enum spore_template_flag {
    /* spore_clone_reset gives another clone instead of putting this one back:
     * for guests that write to most of their memory. */
    SPORE_TEMPLATE_RENEW = 1u << 0,
};

struct spore_template_options {
    size_t size;
    /* Of spore; NULL: SPORE in the environment, or the one that was installed
     * with the library. Not looked for in PATH. */
    const char *program;
    /* Options of `spore run` for the clones ("--net", "user"...), NULL at the
     * end; or NULL. */
    const char *const *run_options;
    uint32_t max_clones; /* alive at a time; 0: 64. At most 4096 */
    uint32_t ready;      /* of these made ahead, at most max_clones */
    uint32_t flags;      /* enum spore_template_flag */
    uint32_t reserved;   /* 0 */
};

#define SPORE_TEMPLATE_OPTIONS_INIT                                            \
    {                                                                          \
        sizeof(struct spore_template_options), NULL, NULL, 0, 0, 0, 0          \
    }

/*
 * Opens the template `name` of this user; `options` may be NULL. -ENOENT: no
 * such template, or no program.
 */
SPORE_API int spore_template_open(const char *name,
    const struct spore_template_options *options,
    struct spore_template **ret_template, struct spore_error *error);

/* Ends all its clones, whose handles are still to be closed. Fine on NULL. */
SPORE_API void spore_template_close(struct spore_template *t);

/* ---- a clone --------------------------------------------------------------
 */

/*
 * A clone, which stands where its template was frozen until it is given
 * something to do. While max_clones are in use it waits for one: up to
 * `timeout_ms` (-ETIMEDOUT), 0: for ever.
 */
SPORE_API int spore_clone_open(struct spore_template *t, uint32_t timeout_ms,
    struct spore_clone **ret_clone, struct spore_error *error);

/* Ends it, without a wait. Fine on NULL. */
SPORE_API void spore_clone_close(struct spore_clone *clone);

/* A command in the guest, by its agent. */
struct spore_exec {
    size_t size;
    const char *const *argv; /* NULL at the end; NULL: the template's command */
    const char *const *env;  /* NAME=VALUE, beside the template's; or NULL */
    const char *cwd;         /* NULL: the template's, or the user's home */
    const char *user;        /* name, UID or UID:GID; NULL: the template's */

    /* Descriptors, which stay the caller's, or -1. They may be of any kind;
     * those of files and terminals are read and written as they are. */
    int stdin_fd;
    int stdout_fd;
    int stderr_fd;
    uint32_t timeout_ms; /* until it has ended; 0: none */

    /* With stdin_fd -1: what the command reads; nothing by default. */
    const void *input;
    size_t input_size;

    /* Without a descriptor: get the output as it comes, in the calling thread.
     * Anything but 0 ends the command (-ECANCELED). NULL: it is dropped. */
    int (*on_stdout)(void *opaque, const void *data, size_t size);
    int (*on_stderr)(void *opaque, const void *data, size_t size);
    void *opaque;
};

#define SPORE_EXEC_INIT                                                        \
    {                                                                          \
        sizeof(struct spore_exec), NULL, NULL, NULL, NULL, -1, -1, -1, 0,      \
            NULL, 0, NULL, NULL, NULL                                          \
    }

/*
 * Runs it to its end. *ret_status is what a shell would say: 0 to 255, 128 and
 * the signal. -ETIMEDOUT, -ECANCELED: the guest's agent was told to kill it;
 * -ESHUTDOWN: the machine has ended; -EIO: it could not be run, or the guest
 * does not keep to the protocol; -E2BIG: arguments and environment are more
 * than 60 KiB or 1000 words each.
 */
SPORE_API int spore_clone_exec(struct spore_clone *clone,
    const struct spore_exec *command, int *ret_status,
    struct spore_error *error);

/*
 * Connects to a vsock port of the guest: *ret_fd is a stream socket, the
 * caller's, close-on-exec, blocking. A guest that refuses closes it; so does
 * its end, and its reset.
 */
SPORE_API int spore_clone_connect(struct spore_clone *clone, uint32_t port,
    int *ret_fd, struct spore_error *error);

/*
 * Puts the clone back to where it was opened, its connections closed; one that
 * has ended is there again. Without SPORE_TEMPLATE_RENEW this costs what the
 * guest has changed. On failure it may be tried again.
 */
SPORE_API int spore_clone_reset(
    struct spore_clone *clone, uint32_t timeout_ms, struct spore_error *error);

/* From any thread: ends the machine, and whatever call waits for it
 * (-ECANCELED), as all later ones. It is still to be closed. */
SPORE_API void spore_clone_kill(struct spore_clone *clone);

/* "0.1.0" */
SPORE_API const char *spore_version(void);

#ifdef __cplusplus
}
#endif

#endif
