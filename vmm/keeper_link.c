/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's side of its keeper (keeper.h). */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/keeper.h"
#include "vmm/keeper_wire.h"

static int receive(
    int link_fd, struct keeper_reply *reply, int *ret_fd, struct err *err)
{
    int rc = keeper_receive(link_fd, reply, sizeof(*reply), ret_fd);

    if (rc == 0)
        rc = -EPIPE;
    return rc < 0 ? err_sys(err, rc, "the keeper does not answer") : 0;
}

/* Of a failure *ret_fd is -1. */
static int ask(int link_fd, const struct keeper_request *request, int passed_fd,
    struct keeper_reply *reply, int *ret_fd, struct err *err)
{
    int rc = keeper_send(link_fd, request, sizeof(*request), passed_fd);

    *ret_fd = -1;
    if (rc < 0)
        return err_sys(err, rc, "the keeper does not listen");
    rc = receive(link_fd, reply, ret_fd, err);
    if (rc < 0)
        return rc;
    if (reply->rc < 0) {
        fd_closep(ret_fd);
        if (err != NULL)
            *err = reply->err;
    }
    return reply->rc;
}

/* A request that is answered by yes or no. */
static int tell(int link_fd, const struct keeper_request *request,
    int passed_fd, struct err *err)
{
    struct keeper_reply reply;
    int fd;
    int rc = ask(link_fd, request, passed_fd, &reply, &fd, err);

    fd_closep(&fd);
    return rc;
}

int keeper_hello(int link_fd, pid_t *ret_pid, struct err *err)
{
    struct keeper_reply reply;
    int fd = -1;
    int rc = receive(link_fd, &reply, &fd, err);

    fd_closep(&fd);
    if (rc == 0)
        *ret_pid = (pid_t)reply.pid;
    return rc;
}

int keeper_serve(
    int link_fd, int *ret_fd, char ret_id[RUNDIR_ID_SIZE], struct err *err)
{
    const struct keeper_request request = {.op = KEEPER_SERVE};
    struct keeper_reply reply;
    int rc = ask(link_fd, &request, -1, &reply, ret_fd, err);

    if (rc < 0)
        return rc;
    if (*ret_fd < 0)
        return err_set(err, EPROTO, "the keeper gave no socket");
    memcpy(ret_id, reply.id, RUNDIR_ID_SIZE);
    return 0;
}

static int put_path(
    struct keeper_request *request, const char *path, struct err *err)
{
    if (strlen(path) >= sizeof(request->path))
        return err_set(err, ENAMETOOLONG, "%s: the path is too long", path);
    (void)stpcpy(request->path, path);
    return 0;
}

int keeper_join_switch(
    int link_fd, const char *target, int *ret_fd, struct err *err)
{
    struct keeper_request request = {.op = KEEPER_JOIN_SWITCH};
    struct keeper_reply reply;
    int rc = put_path(&request, target, err);

    if (rc == 0)
        rc = ask(link_fd, &request, -1, &reply, ret_fd, err);
    if (rc == 0 && *ret_fd < 0)
        rc = err_set(err, EPROTO, "the keeper gave no place on the switch");
    return rc;
}

int keeper_settle(
    int link_fd, const struct keeper_settlement *settlement, struct err *err)
{
    struct keeper_request request = {.op = KEEPER_SETTLE,
        .flags = (settlement->owns_vsock_path ? KEEPER_OWNS_VSOCK : 0) |
                 (settlement->record_adds ? KEEPER_RECORD_ADDS : 0),
        .pages = settlement->pages};
    int rc = settlement->vsock_path == NULL
                 ? 0
                 : put_path(&request, settlement->vsock_path, err);

    if (rc == 0)
        rc = keeper_send(
            link_fd, &request, sizeof(request), settlement->record_fd);
    return rc < 0 ? err_sys(err, rc, "the keeper does not listen") : 0;
}

int keeper_connect(int link_fd, uint32_t port)
{
    const struct keeper_request request = {.op = KEEPER_CONNECT, .port = port};
    struct keeper_reply reply;
    int fd;
    int rc = ask(link_fd, &request, -1, &reply, &fd, NULL);

    if (rc < 0)
        return rc;
    return fd < 0 ? -EPROTO : fd;
}

int keeper_record(int link_fd, const struct bitmap *touched, struct err *err)
{
    struct keeper_request request = {.op = KEEPER_RECORD_BEGIN};
    const size_t size =
        num_div_up(touched->bits, 64) * sizeof(touched->words[0]);
    CC_CLEANUP(fd_closep) int fd = -1;
    struct keeper_reply reply;
    int rc = ask(link_fd, &request, -1, &reply, &fd, err);

    if (rc == 0)
        rc = fd_write_full(fd, touched->words, size);
    if (rc < 0)
        return err_wrap(err, rc, "the keeper records no working set");
    request.op = KEEPER_RECORD_END;
    return tell(link_fd, &request, -1, err);
}

void keeper_released(int link_fd)
{
    const struct keeper_request request = {.op = KEEPER_RELEASED};

    /* One that is gone has nothing to say, to a log or elsewhere. */
    (void)!tell(link_fd, &request, -1, NULL);
}

void keeper_leave(int link_fd)
{
    const struct keeper_request request = {.op = KEEPER_LEAVE};

    (void)!tell(link_fd, &request, -1, NULL);
}
