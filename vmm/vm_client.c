/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm_client.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "vmm/base/fd.h"
#include "vmm/place.h"
#include "vmm/rundir.h"

/* A monitor answers in microseconds; one that is stopped does not at all. */
#define TIMEOUT_MS 10000u

int vm_client_connect(
    const char *id, uint32_t timeout_ms, int *ret_fd, struct err *err)
{
    const struct timeval timeout = {.tv_sec = timeout_ms / 1000,
        .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    CC_CLEANUP(fd_closep) int fd = -1;
    struct sockaddr_un addr;
    struct rundir dir;
    int rc = rundir_find(&dir, id, err);

    if (rc < 0)
        return rc;
    addr = rundir_address(&dir, PLACE_SOCKET);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        rc = err_sys(err, errno, "cannot create a Unix socket");
    } else {
        (void)setsockopt(
            fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
        (void)setsockopt(
            fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
        if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
            rc = errno == ENOENT || errno == ECONNREFUSED
                     ? err_set(err, errno,
                           "machine %s has no control socket (yet)", id)
                     : err_sys(err, errno, "control socket of %s", id);
    }
    rundir_close(&dir);
    if (rc == 0)
        *ret_fd = fd_steal(&fd);
    return rc;
}

int vm_client_call(const char *id, enum http_verb verb, const char *path,
    const char *body, struct http_reply *ret_reply, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct http_reply reply = {0};
    int rc = vm_client_connect(id, TIMEOUT_MS, &fd, err);

    if (rc == 0)
        rc = http_client_request(fd, verb, path, body, &reply, err);
    if (rc < 0)
        return rc;
    rc = http_reply_check(&reply, err);
    if (rc < 0 || ret_reply == NULL)
        http_reply_fini(&reply);
    else
        *ret_reply = reply;
    return rc;
}

int vm_client_connect_agent(const char *id, int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    char path[64];
    int rc = vm_client_connect(id, 0, &fd, err);

    (void)snprintf(path, sizeof(path), "/spore/vsock/%u", AGENT_PORT);
    if (rc == 0)
        rc = http_client_upgrade(fd, path, "vsock", err);
    if (rc == -ECONNREFUSED)
        return err_set(err, -rc,
            "the agent in machine %s does not listen: it is starting or "
            "ending, or is not there",
            id);
    if (rc == 0)
        rc = fd_set_nonblocking(fd, true);
    if (rc == 0)
        *ret_fd = fd_steal(&fd);
    return rc;
}
