/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run_jail.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/config_paths.h"
#include "vmm/keeper.h"

/* Beside those of the configuration. */
#define KEEP_OTHERS 3u

static bool has_keeper(const struct run_jail *rj)
{
    return rj->cell.link_fd >= 0;
}

/* Who we are: waited for when it is needed, and has long been said by then. */
static int hear_keeper(struct run_jail *rj, struct err *err)
{
    if (rj->is_greeted || !has_keeper(rj))
        return 0;
    rj->is_greeted = true;
    return keeper_hello(rj->cell.link_fd, &rj->pid, err);
}

static int join_switch(
    void *opaque, const char *where, int *ret_fd, struct err *err)
{
    struct run_jail *rj = opaque;
    int rc = hear_keeper(rj, err);

    return rc < 0 ? rc
                  : keeper_join_switch(rj->cell.link_fd, where, ret_fd, err);
}

static int connect_out(void *opaque, uint32_t port)
{
    const struct run_jail *rj = opaque;

    return keeper_connect(rj->cell.link_fd, port);
}

static int confine(void *opaque, enum jail_role role, struct err *err)
{
    struct run_jail *rj = opaque;

    return jail_gate_confine(&rj->gate, role, err);
}

static int record(void *opaque, const struct bitmap *touched, struct err *err)
{
    const struct run_jail *rj = opaque;

    return keeper_record(rj->cell.link_fd, touched, err);
}

int run_jail_confine_watcher(struct run_jail *rj, struct err *err)
{
    /* It restores the terminal when all is lost. */
    return jail_confine(&rj->jail, JAIL_ROLE_MAIN, err);
}

void run_jail_init(struct run_jail *rj, const struct run_options *options)
{
    /*
     * In a thread's own arena free(3) would look up how the host commits
     * memory, by a path.
     */
    (void)mallopt(M_ARENA_MAX, 1);
    *rj = (struct run_jail){.jail = JAIL_NONE,
        .cell = CELL_NONE,
        .options = options,
        .outside = {.join_switch = join_switch,
            .connect = connect_out,
            .confine = confine,
            .opaque = rj},
        .pid = getpid()};
    jail_gate_init(&rj->gate, &rj->jail);
    place_init(&rj->place);
}

const struct outside *run_jail_outside(const struct run_jail *rj)
{
    return has_keeper(rj) ? &rj->outside : NULL;
}

/* ---- two processes ------------------------------------------------------- */

static int run_keeper(struct run_jail *rj, struct detach *detach)
{
    const struct run_options *o = rj->options;
    const struct keeper_config config = {.place = &rj->place,
        .id = o->id,
        .api_sock = o->api_sock,
        .detach = detach,
        .cgroup = rj->cgroup,
        .command = "run"};

    /* Its end says that the monitor has not told the starter anything. */
    fd_closep(&detach->starter_fd);
    return keeper_run(&rj->cell, &config);
}

/* Where taps are looked for and passt runs; the jail's own is made later. */
static int enter_netns(const char *path, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        return err_sys(err, errno, "--netns %s", path);
    return 0;
}

static int open_cgroup(struct run_jail *rj, struct err *err)
{
    struct cgroup_config config = rj->options->jail.cgroup;
    char name[32];

    if (!rj->options->jail.has_cgroup)
        return 0;
    (void)snprintf(name, sizeof(name), "spore-%d", (int)getpid());
    config.name = rj->options->id != NULL ? rj->options->id : name;
    return cgroup_open(&config, &rj->cgroup, err);
}

/* In the monitor: all that it was born with and does not need goes. */
static int begin(
    struct run_jail *rj, const struct detach *detach, struct err *err)
{
    const struct run_options *o = rj->options;
    int keep[CONFIG_PATHS_FDS_MAX + KEEP_OTHERS];
    size_t count = config_paths_fds(&o->config, keep);
    int rc = 0;

    keep[count++] = rj->cell.link_fd;
    keep[count++] = detach->starter_fd;
    keep[count++] = detach->log_fd;
    if (rj->cgroup != NULL && cgroup_needs_join(rj->cgroup))
        rc = cgroup_join(rj->cgroup, false, err);
    if (rc == 0 && o->jail.netns != NULL)
        rc = enter_netns(o->jail.netns, err);
    rundir_close(&rj->place.dir);
    return rc < 0 ? rc
                  : jail_begin(
                        &rj->jail, &o->jail.jail, &rj->cell, keep, count, err);
}

int run_jail_split(struct run_jail *rj, struct detach *detach, int *ret_status,
    struct err *err)
{
    const struct run_options *o = rj->options;
    struct cell_options cell = {.cgroup_fd = -1};
    bool is_named = o->id != NULL || o->api_sock != NULL || o->detach ||
                    o->no_boot || o->stay;
    int rc = 0;

    if (o->is_firecracker)
        return 0;

    /* An id that is taken is to be known before anything is built. */
    if (is_named)
        rc = place_claim(&rj->place, o->id, err);
    if (rc == 0)
        rc = detach_log(detach, &rj->place.dir, o->log_file, err);
    if (rc < 0)
        return rc;
    if (o->jail.jail.level == JAIL_OFF) {
        (void)fputs("spore: run: no jail (--jail=off): what takes the monitor "
                    "over has all that this user has\n",
            stderr);
        return 0;
    }
    rc = open_cgroup(rj, err);
    if (rc < 0)
        return rc;
    cell.strict = o->jail.jail.level == JAIL_STRICT;
    if (rj->cgroup != NULL)
        cell.cgroup_fd = cgroup_clone_fd(rj->cgroup);
    rc = cell_fork(&rj->cell, &cell, err);
    if (rc < 0 && rj->cgroup != NULL)
        (void)cgroup_remove(rj->cgroup, NULL);
    if (rc == 1)
        *ret_status = run_keeper(rj, detach);
    return rc == 0 ? begin(rj, detach, err) : rc;
}

/* ---- the monitor --------------------------------------------------------- */

int run_jail_enter(struct run_jail *rj, const struct machine *machine,
    struct run_origin *origin, struct err *err)
{
    const struct vsock_uds *uds = machine->vsock_uds;
    struct keeper_settlement settlement = {.record_fd = origin->record_fd,
        .record_adds = origin->record_adds,
        .pages = gmem_page_count(&machine->mem)};
    int rc;

    if (!has_keeper(rj))
        return 0;
    if (uds != NULL) {
        settlement.vsock_path = uds->path;
        settlement.owns_vsock_path = uds->bound;
    }
    if (machine->uring != NULL)
        uring_open(machine->uring);
    rc = hear_keeper(rj, err);
    if (rc == 0)
        rc = keeper_settle(rj->cell.link_fd, &settlement, err);
    if (rc == 0)
        rc = run_origin_hand_over(origin, record, rj, err);
    if (rc < 0)
        return rc;
    /* The jail is entered by one thread for all that come. */
    page_client_unwatch(&origin->memory.client);
    rc = jail_enter(&rj->jail, rj->pid, err);
    /* It has limits of its own now. */
    if (rc == 0 && machine->vsock != NULL)
        vsock_count_fds(machine->vsock);
    return rc < 0 ? rc : page_client_watch(&origin->memory.client, err);
}

int run_jail_listen(struct run_jail *rj, int *ret_fd, struct err *err)
{
    const struct run_options *o = rj->options;
    int rc = hear_keeper(rj, err);

    if (rc < 0)
        return rc;
    if (o->is_firecracker)
        return place_listen_alone(&rj->place, o->api_sock, ret_fd, err);
    if (has_keeper(rj))
        return keeper_serve(rj->cell.link_fd, ret_fd, rj->place.id, err);
    if (rj->place.dir.fd < 0)
        rc = place_claim(&rj->place, o->id, err);
    return rc < 0 ? rc : place_listen(&rj->place, o->api_sock, ret_fd, err);
}

void run_jail_released(struct run_jail *rj)
{
    if (has_keeper(rj))
        keeper_released(rj->cell.link_fd);
}

void run_jail_leave(struct run_jail *rj)
{
    if (has_keeper(rj))
        keeper_leave(rj->cell.link_fd);
    else
        place_fini(&rj->place);
}

void run_jail_abandon(const struct run_jail *rj)
{
    /* A keeper sees that its monitor has ended. */
    if (!has_keeper(rj))
        place_abandon(&rj->place);
}

void run_jail_give_up(struct run_jail *rj)
{
    jail_gate_give_up(&rj->gate);
}

void run_jail_fini(struct run_jail *rj)
{
    jail_abandon(&rj->jail);
    rundir_close(&rj->place.dir);
    fd_closep(&rj->cell.link_fd);
}
