/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/control_api.h"

void control_init(struct control *control)
{
    *control = (struct control){.dir = {.fd = -1}, .save_fd = -1};
}

void control_fini(struct control *control)
{
    fd_closep(&control->save_fd);
    if (control->api_sock != NULL)
        (void)unlink(control->api_sock);
    free(control->api_sock);
    control->api_sock = NULL;
    rundir_remove(&control->dir, control->id);
    /* A client that waits for the end finds nothing left of the machine. */
    http_server_fini(&control->server);
}

void control_abandon(const struct control *control)
{
    struct rundir dir = control->dir;

    if (control->api_sock != NULL)
        (void)unlink(control->api_sock);
    rundir_remove(&dir, control->id);
}

int control_claim(struct control *control, const char *id, struct err *err)
{
    int rc = 0;

    assert(control->dir.fd < 0);
    if (id == NULL)
        rc = rundir_make_id(control->id, err);
    else
        (void)stpncpy(control->id, id, RUNDIR_ID_MAX);
    return rc < 0 ? rc : rundir_claim(&control->dir, control->id, err);
}

/* A socket at a path of the user's, and a link to it in the folder. */
static int listen_elsewhere(
    struct control *control, const char *path, int *ret_fd, struct err *err)
{
    struct sockaddr_un addr;
    char *full;
    int rc = fd_unix_address("--api-sock", path, &addr, err);

    if (rc == 0)
        rc = fd_listen_unix(&addr, path, ret_fd, err);
    if (rc < 0)
        return rc;
    full = realpath(path, NULL);
    if (full == NULL || symlinkat(full, control->dir.fd, CONTROL_SOCKET) < 0) {
        rc = err_sys(err, errno, "cannot link to %s", path);
        (void)unlink(path);
        free(full);
        fd_closep(ret_fd);
        return rc;
    }
    control->api_sock = full;
    return 0;
}

int control_serve(struct control *control, struct instance *inst,
    const char *api_sock, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct sockaddr_un addr;
    int rc;

    assert(control->dir.fd >= 0 && control->inst == NULL);
    if (api_sock != NULL) {
        rc = listen_elsewhere(control, api_sock, &fd, err);
    } else {
        addr = rundir_address(&control->dir, CONTROL_SOCKET);
        rc = fd_listen_unix(&addr, control->dir.path, &fd, err);
    }
    if (rc < 0)
        return rc;
    control->inst = inst;
    control->router = control_api_router(control);
    rc = http_server_init(&control->server, &inst->loop, fd, router_handle,
        &control->router, err);
    if (rc == 0)
        (void)fd_steal(&fd);
    return rc;
}
