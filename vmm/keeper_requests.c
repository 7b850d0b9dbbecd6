/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/keeper_requests.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "snapshot/prefetch.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/netswitch_join.h"

/* RAM of more pages than a page number holds is no machine's. */
#define PAGES_MAX (UINT64_C(1) << 32)

void keeper_requests_init(
    struct keeper_requests *k, const struct keeper_config *config)
{
    *k = (struct keeper_requests){
        .config = config, .record_fd = -1, .set_fd = -1};
}

/* All that the machine has in the file system goes. */
static void leave(struct keeper_requests *k)
{
    /* First: whoever waits for the end of it waits for the folder. */
    if (k->owns_vsock_path)
        (void)unlink(k->vsock_path);
    k->owns_vsock_path = false;
    if (k->config->place != NULL)
        place_fini(k->config->place);
}

void keeper_requests_fini(struct keeper_requests *k)
{
    leave(k);
    fd_closep(&k->record_fd);
    fd_closep(&k->set_fd);
}

static int serve(struct keeper_requests *k, int *ret_fd, struct err *err)
{
    struct place *place = k->config->place;
    int rc = 0;

    if (place == NULL)
        return err_set(err, EPERM, "there is no place for a control socket");
    if (k->is_serving)
        return err_set(err, EALREADY, "there is a control socket");
    if (place->dir.fd < 0)
        rc = place_claim(place, k->config->id, err);
    if (rc == 0)
        rc = place_listen(place, k->config->api_sock, ret_fd, err);
    k->is_serving = rc == 0;
    return rc;
}

static int settle(struct keeper_requests *k,
    const struct keeper_request *request, int *passed_fd, struct err *err)
{
    if (request->pages > PAGES_MAX)
        return err_set(err, EINVAL, "no machine has so much memory");
    memcpy(k->vsock_path, request->path, sizeof(k->vsock_path));
    k->owns_vsock_path = (request->flags & KEEPER_OWNS_VSOCK) != 0;
    k->record_adds = (request->flags & KEEPER_RECORD_ADDS) != 0;
    k->pages = request->pages;
    k->record_fd = fd_steal(passed_fd);
    k->is_settled = true;
    return 0;
}

static int connect_port(const struct keeper_requests *k, uint32_t port,
    int *ret_fd, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CC_CLEANUP(fd_closep) int fd = -1;
    int n = snprintf(
        addr.sun_path, sizeof(addr.sun_path), "%s_%u", k->vsock_path, port);

    if (k->vsock_path[0] == '\0')
        return err_set(err, ECONNREFUSED, "the machine has no vsock socket");
    if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
        return err_set(err, ENAMETOOLONG, "the path is too long");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, errno, "no socket");
    /* Never in progress: a full queue of the listener is -EAGAIN. */
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        return err_sys(err, errno, "nobody listens");
    *ret_fd = fd_steal(&fd);
    return 0;
}

static size_t set_size(const struct keeper_requests *k)
{
    return num_div_up(k->pages, 64) * sizeof(uint64_t);
}

/* Memory as large as the set, which can become no larger. */
static int begin_record(struct keeper_requests *k, int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;

    if (k->record_fd < 0 || k->set_fd >= 0)
        return err_set(err, EEXIST, "there is no set to record");
    fd = memfd_create("working-set", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)set_size(k)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return err_sys(err, errno, "no memory for a working set");
    k->set_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (k->set_fd < 0)
        return err_sys(err, errno, "working set");
    *ret_fd = fd_steal(&fd);
    return 0;
}

/* Any bits are a set: it is a hint, and costs a bad one its use. */
static int end_record(struct keeper_requests *k, struct err *err)
{
    CC_CLEANUP(fd_closep) int set_fd = fd_steal(&k->set_fd);
    CC_CLEANUP(fd_closep) int dir_fd = -1;
    struct bitmap touched;
    ssize_t n;
    int rc;

    if (set_fd < 0)
        return err_set(err, EINVAL, "there is no set to record");
    dir_fd = fd_steal(&k->record_fd);
    if (bitmap_init(&touched, k->pages) < 0)
        return err_sys(err, ENOMEM, "working set");
    n = fd_pread_full(set_fd, touched.words, set_size(k), 0);
    rc = n != (ssize_t)set_size(k) ? err_set(err, EIO, "working set") : 0;
    /* Bits behind the last page are nobody's. */
    if (rc == 0 && k->pages % 64 != 0)
        touched.words[k->pages / 64] &= (UINT64_C(1) << (k->pages % 64)) - 1;
    if (rc == 0)
        rc = prefetch_record(dir_fd, &touched, k->record_adds, err);
    bitmap_fini(&touched);
    return rc;
}

static int check_phase(
    const struct keeper_requests *k, enum keeper_op op, struct err *err)
{
    const bool is_early = op == KEEPER_JOIN_SWITCH || op == KEEPER_SETTLE;

    if (is_early && k->is_settled)
        return err_set(err, EPERM, "the machine is in its jail already");
    if (!is_early && !k->is_settled &&
        (op == KEEPER_CONNECT || op == KEEPER_RECORD_BEGIN ||
            op == KEEPER_RECORD_END))
        return err_set(err, EPERM, "the machine is not made yet");
    return 0;
}

/* `request` is a copy; its path was checked to end. */
static int carry_out(struct keeper_requests *k,
    const struct keeper_request *request, int *passed_fd, int *ret_fd,
    struct err *err)
{
    enum keeper_op op =
        request->op < KEEPER_OPS ? (enum keeper_op)request->op : KEEPER_OPS;
    int rc = check_phase(k, op, err);

    if (rc < 0)
        return rc;
    switch (op) {
    case KEEPER_SERVE:
        return serve(k, ret_fd, err);
    case KEEPER_JOIN_SWITCH:
        return netswitch_join(request->path, ret_fd, err);
    case KEEPER_SETTLE:
        return settle(k, request, passed_fd, err);
    case KEEPER_CONNECT:
        return connect_port(k, request->port, ret_fd, err);
    case KEEPER_RECORD_BEGIN:
        return begin_record(k, ret_fd, err);
    case KEEPER_RECORD_END:
        return end_record(k, err);
    case KEEPER_RELEASED:
        if (k->config->detach == NULL)
            return err_set(err, EPERM, "nobody waits to be told");
        fd_closep(&k->config->detach->starter_fd);
        return detach_use_log(k->config->detach, err);
    case KEEPER_LEAVE:
        leave(k);
        return 0;
    case KEEPER_HELLO:
    case KEEPER_OPS:
    default:
        return err_set(err, ENOSYS, "there is no such request");
    }
}

int keeper_requests_answer(struct keeper_requests *k, int link_fd)
{
    struct keeper_request request = {0};
    struct keeper_reply reply = {0};
    CC_CLEANUP(fd_closep) int passed_fd = -1;
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc = keeper_receive(link_fd, &request, sizeof(request), &passed_fd);

    if (rc == -EBADMSG)
        rc = err_set(&reply.err, EBADMSG, "that is no request");
    else if (rc <= 0)
        return 0;
    else if (memchr(request.path, '\0', sizeof(request.path)) == NULL)
        rc = err_set(&reply.err, EBADMSG, "that is no path");
    else
        rc = carry_out(k, &request, &passed_fd, &fd, &reply.err);
    /* Not waited for: the guest is about to run. */
    if (request.op == KEEPER_SETTLE)
        return 1;
    reply.rc = rc;
    if (k->config->place != NULL)
        memcpy(reply.id, k->config->place->id, sizeof(reply.id));
    return keeper_send(link_fd, &reply, sizeof(reply), fd) == 0;
}
