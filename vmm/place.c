/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/place.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"

void place_init(struct place *place)
{
    *place = (struct place){.dir = {.fd = -1}};
}

void place_fini(struct place *place)
{
    if (place->api_sock != NULL)
        (void)unlink(place->api_sock);
    free(place->api_sock);
    place->api_sock = NULL;
    rundir_remove(&place->dir, place->id);
}

void place_abandon(const struct place *place)
{
    struct rundir dir = place->dir;

    if (place->api_sock != NULL)
        (void)unlink(place->api_sock);
    rundir_remove(&dir, place->id);
}

int place_claim(struct place *place, const char *id, struct err *err)
{
    int rc = 0;

    assert(place->dir.fd < 0);
    if (id == NULL)
        rc = rundir_make_id(place->id, err);
    else
        (void)stpncpy(place->id, id, RUNDIR_ID_MAX);
    return rc < 0 ? rc : rundir_claim(&place->dir, place->id, err);
}

/* A socket at a path of the user's, and a link to it in the folder. */
static int listen_elsewhere(
    struct place *place, const char *path, int *ret_fd, struct err *err)
{
    struct sockaddr_un addr;
    char *full;
    int rc = fd_unix_address("--api-sock", path, &addr, err);

    if (rc == 0)
        rc = fd_listen_unix(&addr, path, ret_fd, err);
    if (rc < 0)
        return rc;
    full = realpath(path, NULL);
    if (full == NULL || symlinkat(full, place->dir.fd, PLACE_SOCKET) < 0) {
        rc = err_sys(err, errno, "cannot link to %s", path);
        (void)unlink(path);
        free(full);
        fd_closep(ret_fd);
        return rc;
    }
    place->api_sock = full;
    return 0;
}

int place_listen_alone(
    struct place *place, const char *api_sock, int *ret_fd, struct err *err)
{
    struct sockaddr_un addr;
    int rc = fd_unix_address("--api-sock", api_sock, &addr, err);

    if (rc == 0)
        rc = fd_listen_unix(&addr, api_sock, ret_fd, err);
    if (rc < 0)
        return err_wrap(err, rc,
            "Failed to open the API socket at: %s. Check that it is not "
            "already used.",
            api_sock);
    /* Wherever we are when it is to be removed. */
    place->api_sock = realpath(api_sock, NULL);
    return 0;
}

int place_listen(
    struct place *place, const char *api_sock, int *ret_fd, struct err *err)
{
    struct sockaddr_un addr;

    assert(place->dir.fd >= 0);
    if (api_sock != NULL)
        return listen_elsewhere(place, api_sock, ret_fd, err);
    addr = rundir_address(&place->dir, PLACE_SOCKET);
    return fd_listen_unix(&addr, place->dir.path, ret_fd, err);
}
