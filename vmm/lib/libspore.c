/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/spore.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/cc.h"
#include "vmm/lib/exec_streams.h"
#include "vmm/lib/launch.h"
#include "vmm/lib/wire.h"

#ifndef SPORE_PROGRAM
#define SPORE_PROGRAM "/usr/local/bin/spore"
#endif

#define CLONES_DEFAULT 64u

struct spore_template {
    int fd; /* to the process that has the machines */
};

struct spore_clone {
    int channel;
    atomic_bool is_killed;
};

/* ---- errors ---------------------------------------------------------------
 */

CC_PRINTF(3, 4)
static int fail(struct spore_error *error, int code, const char *format, ...)
{
    va_list args;

    if (error != NULL) {
        va_start(args, format);
        (void)vsnprintf(error->text, sizeof(error->text), format, args);
        va_end(args);
    }
    return code;
}

static int fail_sys(struct spore_error *error, int code, const char *what)
{
    return fail(error, code, "%s: %s", what, strerrordesc_np(-code));
}

/* ---- structs of callers of other versions ---------------------------------
 */

/* What the first version had of each, and more than any will have. */
#define OPTIONS_LEAST                                                          \
    (offsetof(struct spore_template_options, reserved) + sizeof(uint32_t))
#define EXEC_LEAST (offsetof(struct spore_exec, opaque) + sizeof(void *))
#define STRUCT_MAX 4096u

/*
 * Copies what is known of a struct that says that it has `size` bytes; what is
 * not known of a newer one has to be zero.
 */
static int take_struct(
    void *to, size_t known, const void *from, size_t size, size_t least)
{
    const unsigned char *bytes = from;

    if (size < least || size > STRUCT_MAX)
        return -EINVAL;
    for (size_t i = known; i < size; i++) {
        if (bytes[i] != 0)
            return -EINVAL;
    }
    memcpy(to, from, size < known ? size : known);
    return 0;
}

/* ---- requests and replies -------------------------------------------------
 */

/* A request with its strings, put together in one packet. */
struct packet {
    struct lib_request request;
    size_t size; /* of the strings */
    bool is_too_big;
    char strings[LIB_PACKET_MAX - sizeof(struct lib_request)];
};

static struct packet *packet_new(enum lib_op op)
{
    struct packet *p = malloc(sizeof(*p));

    if (p == NULL)
        return NULL;
    p->request =
        (struct lib_request){.version = LIB_WIRE_VERSION, .op = (uint32_t)op};
    p->size = 0;
    p->is_too_big = false;
    return p;
}

static void packet_add(struct packet *p, const char *text)
{
    size_t size = strlen(text) + 1;

    if (p->is_too_big || size > sizeof(p->strings) - p->size) {
        p->is_too_big = true;
        return;
    }
    memcpy(p->strings + p->size, text, size);
    p->size += size;
}

/* The count of the words; NULL is none. */
static uint32_t packet_add_all(struct packet *p, const char *const *words)
{
    uint32_t count = 0;

    for (; words != NULL && words[count] != NULL && !p->is_too_big; count++) {
        if (count == LIB_ARGS_MAX)
            p->is_too_big = true;
        else
            packet_add(p, words[count]);
    }
    return count;
}

/* Frees it. */
static int packet_send(
    struct packet *p, int fd, const int *fds, size_t fd_count)
{
    const struct iovec parts[] = {
        {.iov_base = &p->request, .iov_len = sizeof(p->request)},
        {.iov_base = p->strings, .iov_len = p->size},
    };
    int rc = p->is_too_big ? -E2BIG
                           : lib_wire_send(fd, parts, ARRAY_SIZE(parts), fds,
                                 fd_count, 1);

    free(p);
    return rc;
}

static int request_send(
    const struct lib_request *request, int fd, const int *passed_fd)
{
    struct iovec part = {.iov_len = sizeof(*request)};

    /* Only read from, whatever the type of the field says. */
    memcpy(&part.iov_base, &request, sizeof(request));
    return lib_wire_send(fd, &part, 1, passed_fd, passed_fd == NULL ? 0 : 1, 1);
}

/* 1 when it is there, 0 when it is not yet, -EPIPE when there will be none. */
static int take_reply(
    int fd, struct lib_reply *ret_reply, struct spore_error *error)
{
    int fds[LIB_FDS_MAX];
    size_t fd_count = 0;
    size_t size = 0;
    int rc = lib_wire_receive(
        fd, ret_reply, sizeof(*ret_reply), &size, fds, &fd_count);

    for (size_t i = 0; rc == 1 && i < fd_count; i++)
        (void)close(fds[i]);
    if (rc == -EAGAIN)
        return 0;
    if (rc == 1 && size == sizeof(*ret_reply) &&
        ret_reply->version == LIB_WIRE_VERSION) {
        ret_reply->text[sizeof(ret_reply->text) - 1] = '\0';
        return 1;
    }
    if (rc == 1 || rc == -EBADMSG)
        return fail(error, -EPROTO,
            "the program of libspore is of another version than the library");
    return fail(error, -EPIPE, "the process that has the machines has ended");
}

static int wait_reply(
    int fd, struct lib_reply *ret_reply, struct spore_error *error)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    int rc;

    do {
        if (poll(&wanted, 1, -1) < 0 && errno != EINTR)
            return fail_sys(error, -errno, "cannot wait for an answer");
        rc = take_reply(fd, ret_reply, error);
    } while (rc == 0);
    if (rc < 0)
        return rc;
    if (ret_reply->rc < 0)
        return fail(error, ret_reply->rc, "%s", ret_reply->text);
    return 0;
}

/* ---- a template -----------------------------------------------------------
 */

static int start_program(const char *program, int fd, struct spore_error *error)
{
    static const char *const argv[] = {"spore", LIB_WIRE_COMMAND, NULL};
    int rc;

    if (program == NULL || program[0] == '\0')
        program = secure_getenv("SPORE");
    if (program == NULL || program[0] == '\0')
        program = SPORE_PROGRAM;
    rc = launch_start(program, argv, fd);
    return rc < 0 ? fail(error, rc,
                        "cannot start %s: %s: name spore in the options, or in "
                        "SPORE in the environment",
                        program, strerrordesc_np(-rc))
                  : 0;
}

static int ask_to_open(const char *name,
    const struct spore_template_options *options, int fd,
    struct spore_error *error)
{
    struct packet *p = packet_new(LIB_OPEN);
    struct lib_reply reply;
    int rc;

    if (p == NULL)
        return fail_sys(error, -ENOMEM, "a template");
    p->request.flags =
        (options->flags & SPORE_TEMPLATE_RENEW) != 0 ? LIB_RENEW : 0;
    p->request.max =
        options->max_clones == 0 ? CLONES_DEFAULT : options->max_clones;
    p->request.ready = options->ready;
    packet_add(p, name);
    p->request.argc = packet_add_all(p, options->run_options);
    rc = packet_send(p, fd, NULL, 0);
    /* A process that has ended may have said why. */
    if (rc == -E2BIG)
        return fail(error, rc, "the template's options are too long");
    if (rc < 0 && rc != -EPIPE && rc != -ECONNRESET)
        return fail_sys(error, rc, "the template's options");
    return wait_reply(fd, &reply, error);
}

int spore_template_open(const char *name,
    const struct spore_template_options *options,
    struct spore_template **ret_template, struct spore_error *error)
{
    struct spore_template_options known = SPORE_TEMPLATE_OPTIONS_INIT;
    struct spore_template *t;
    int fds[2];
    int rc;

    if (name == NULL || ret_template == NULL)
        return fail(error, -EINVAL, "a template has no name");
    if (options != NULL && take_struct(&known, sizeof(known), options,
                               options->size, OPTIONS_LEAST) < 0)
        return fail(error, -EINVAL,
            "the template's options are of no version that is known");
    if ((known.flags & ~(uint32_t)SPORE_TEMPLATE_RENEW) != 0 ||
        known.reserved != 0)
        return fail(
            error, -EINVAL, "the template's options have unknown flags");
    t = calloc(1, sizeof(*t));
    if (t == NULL)
        return fail_sys(error, -ENOMEM, "a template");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        rc = fail_sys(error, -errno, "a template");
        free(t);
        return rc;
    }
    t->fd = fds[0];
    rc = start_program(known.program, fds[1], error);
    (void)close(fds[1]);
    if (rc == 0)
        rc = ask_to_open(name, &known, t->fd, error);
    if (rc < 0) {
        spore_template_close(t);
        return rc;
    }
    *ret_template = t;
    return 0;
}

void spore_template_close(struct spore_template *t)
{
    if (t == NULL)
        return;
    (void)close(t->fd);
    free(t);
}

/* ---- a clone --------------------------------------------------------------
 */

int spore_clone_open(struct spore_template *t, uint32_t timeout_ms,
    struct spore_clone **ret_clone, struct spore_error *error)
{
    const struct lib_request request = {
        .version = LIB_WIRE_VERSION, .op = LIB_CLONE, .timeout_ms = timeout_ms};
    struct spore_clone *clone = calloc(1, sizeof(*clone));
    struct lib_reply reply;
    int fds[2];
    int rc;

    if (clone == NULL)
        return fail_sys(error, -ENOMEM, "a clone");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        rc = fail_sys(error, -errno, "a clone");
        free(clone);
        return rc;
    }
    clone->channel = fds[0];
    atomic_init(&clone->is_killed, false);
    rc = request_send(&request, t->fd, &fds[1]);
    (void)close(fds[1]);
    rc = rc < 0 ? fail(error, -EPIPE,
                      "the process that has the machines has ended")
                : wait_reply(clone->channel, &reply, error);
    if (rc < 0) {
        spore_clone_close(clone);
        return rc;
    }
    *ret_clone = clone;
    return 0;
}

void spore_clone_close(struct spore_clone *clone)
{
    if (clone == NULL)
        return;
    (void)close(clone->channel);
    free(clone);
}

void spore_clone_kill(struct spore_clone *clone)
{
    atomic_store(&clone->is_killed, true);
    (void)shutdown(clone->channel, SHUT_RDWR);
}

/* What befell a call of a clone that somebody has killed is that. */
static int finish(struct spore_clone *clone, int rc, struct spore_error *error)
{
    return rc < 0 && atomic_load(&clone->is_killed)
               ? fail(error, -ECANCELED, "the clone was killed")
               : rc;
}

static int call(struct spore_clone *clone, const struct lib_request *request,
    const int *passed_fd, struct spore_error *error)
{
    struct lib_reply reply;
    int rc = request_send(request, clone->channel, passed_fd);

    rc = rc < 0 ? fail_sys(error, rc, "a clone")
                : wait_reply(clone->channel, &reply, error);
    return finish(clone, rc, error);
}

int spore_clone_reset(
    struct spore_clone *clone, uint32_t timeout_ms, struct spore_error *error)
{
    const struct lib_request request = {
        .version = LIB_WIRE_VERSION, .op = LIB_RESET, .timeout_ms = timeout_ms};

    return call(clone, &request, NULL, error);
}

int spore_clone_connect(struct spore_clone *clone, uint32_t port, int *ret_fd,
    struct spore_error *error)
{
    const struct lib_request request = {
        .version = LIB_WIRE_VERSION, .op = LIB_STREAM, .port = port};
    int fds[2];
    int rc;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return fail_sys(error, -errno, "a connection");
    rc = call(clone, &request, &fds[1], error);
    (void)close(fds[1]);
    if (rc < 0)
        (void)close(fds[0]);
    else
        *ret_fd = fds[0];
    return rc;
}

/* ---- a command ------------------------------------------------------------
 */

static int send_command(struct spore_clone *clone, const struct spore_exec *c,
    const struct exec_streams *streams, struct spore_error *error)
{
    struct packet *p = packet_new(LIB_EXEC);
    int fds[LIB_FDS_MAX];
    size_t fd_count = 0;
    int rc;

    if (p == NULL)
        return fail_sys(error, -ENOMEM, "a command");
    p->request.timeout_ms = c->timeout_ms;
    for (size_t i = 0; i < LIB_FDS_MAX; i++) {
        if (streams->theirs[i] < 0)
            continue;
        p->request.flags |= (uint32_t)LIB_STDIN << i;
        fds[fd_count++] = streams->theirs[i];
    }
    p->request.argc = packet_add_all(p, c->argv);
    p->request.envc = packet_add_all(p, c->env);
    if (c->cwd != NULL) {
        p->request.flags |= LIB_CWD;
        packet_add(p, c->cwd);
    }
    if (c->user != NULL) {
        p->request.flags |= LIB_USER;
        packet_add(p, c->user);
    }
    rc = packet_send(p, clone->channel, fds, fd_count);
    if (rc == -E2BIG)
        return fail(error, rc,
            "the command's arguments and environment are more than %u bytes, "
            "or %u words",
            LIB_PACKET_MAX, LIB_ARGS_MAX);
    return rc < 0 ? fail_sys(error, rc, "a command") : 0;
}

/* Until it has ended, whatever its streams do. */
static int attend(struct spore_clone *clone, struct exec_streams *streams,
    struct lib_reply *ret_reply, struct spore_error *error)
{
    static const struct lib_request cancel = {
        .version = LIB_WIRE_VERSION, .op = LIB_CANCEL};
    bool is_cancelled = false;
    int rc = 0;

    while (rc == 0) {
        rc = exec_streams_wait(streams, clone->channel);
        if (rc < 0) {
            /* Its answer must not be taken for that of a later call. */
            (void)shutdown(clone->channel, SHUT_RDWR);
            return fail_sys(error, rc, "cannot wait for a command");
        }
        rc = take_reply(clone->channel, ret_reply, error);
        /* It was whole when the answer was sent. */
        exec_streams_move(streams);
        if (streams->was_refused && !is_cancelled && rc == 0) {
            is_cancelled = true;
            (void)!request_send(&cancel, clone->channel, NULL);
        }
    }
    if (rc < 0)
        return rc;
    if (streams->was_refused)
        return fail(error, -ECANCELED, "the command's output was refused");
    if (ret_reply->rc < 0)
        return fail(error, ret_reply->rc, "%s", ret_reply->text);
    return 0;
}

int spore_clone_exec(struct spore_clone *clone,
    const struct spore_exec *command, int *ret_status,
    struct spore_error *error)
{
    struct spore_exec known = SPORE_EXEC_INIT;
    struct exec_streams streams;
    struct lib_reply reply;
    int rc;

    if (take_struct(&known, sizeof(known), command, command->size, EXEC_LEAST) <
        0)
        return fail(
            error, -EINVAL, "the command is of no version that is known");
    rc = exec_streams_open(&streams, &known);
    if (rc < 0)
        return fail_sys(error, rc, "a command's streams");
    rc = send_command(clone, &known, &streams, error);
    exec_streams_close_theirs(&streams);
    if (rc == 0)
        rc = attend(clone, &streams, &reply, error);
    exec_streams_close(&streams);
    if (rc == 0 && ret_status != NULL)
        *ret_status = reply.status;
    return finish(clone, rc, error);
}

const char *spore_version(void)
{
    return SPORE_VERSION;
}
