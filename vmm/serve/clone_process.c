/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/clone_process.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/fds.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/config_paths.h"
#include "vmm/instance.h"
#include "vmm/jail_gate.h"
#include "vmm/keeper_wire.h"
#include "vmm/netswitch_join.h"
#include "vmm/serve/clone_wire.h"
#include "vmm/serve/pool.h"

/* Beside the snapshot's files and namespaces: both sockets and the root. */
#define KEEP_OTHERS 3u

struct process {
    const struct clone_process *setup;
    struct timings timings;
    struct instance inst;
    struct jail jail;
    struct jail_gate gate;
    struct outside outside;
    struct loop_source control;
};

/*
 * The compiler is not told that this does not return: the address sanitizer
 * would ask the kernel for a signal stack first, which the jail does not allow.
 */
static void leave(int status)
{
    (void)syscall(SYS_exit_group, status);
}

/* ---- what it says -------------------------------------------------------- */

static void say(const struct process *p, const struct clone_message *message)
{
    /*
     * Who does not read what it has asked for need not be waited for. One that
     * is gone is noticed by its end of the socket.
     */
    (void)!keeper_send(p->setup->control_fd, message, sizeof(*message), -1);
}

static void say_generation(const struct process *p, enum clone_event event)
{
    struct clone_message message = {.event = event};

    memcpy(message.id, p->inst.machine.vmgenid.state.id, sizeof(message.id));
    say(p, &message);
}

static void say_end(
    const struct process *p, enum clone_end end, const char *text)
{
    struct clone_message message = {.event = CLONE_ENDED, .cookie = end};

    (void)snprintf(message.text, sizeof(message.text), "%s", text);
    say(p, &message);
}

static void on_closed(void *opaque, uint32_t cookie)
{
    const struct process *p = opaque;
    const struct clone_message message = {
        .event = CLONE_CLOSED, .cookie = cookie};

    say(p, &message);
}

/* What was written to disks is gone with it in any case. */
static void on_machine_end(void *opaque, const struct machine_end *end)
{
    const struct process *p = opaque;

    switch (end->kind) {
    case MACHINE_POWERED_OFF:
    case MACHINE_RESET:
        say_end(p, CLONE_POWERED_OFF, "the guest has powered off");
        break;
    case MACHINE_EXITED:
        say_end(p, CLONE_POWERED_OFF, "the guest has ended");
        break;
    case MACHINE_KILLED:
    case MACHINE_PANICKED:
    case MACHINE_FAULTED:
    default:
        say_end(p, CLONE_FAILED, end->text);
        break;
    }
    leave(EXIT_SUCCESS);
}

/* ---- what it is told ----------------------------------------------------- */

static int start(struct process *p, struct err *err)
{
    struct clone_message message = {.event = CLONE_STARTED};
    int rc;

    if (p->inst.phase == INSTANCE_RUNNING)
        return 0;
    message.ns = clock_now_ns();
    rc = instance_resume(&p->inst, err);
    if (rc == 0)
        say(p, &message);
    return rc;
}

/* A connection that cannot be made is one that was refused. */
static int connect_in(struct process *p, const struct clone_request *request,
    int fd, struct err *err)
{
    const struct vsock_caller caller = {
        .closed = on_closed, .opaque = p, .cookie = request->cookie};
    struct err why;

    if (fd < 0)
        return err_set(err, EPROTO, "a connection without a descriptor");
    if (instance_connect(&p->inst, request->port, fd, &caller, &why) < 0) {
        log_info("clone", "%s", why.text);
        (void)close(fd);
        on_closed(p, request->cookie);
    }
    return start(p, err);
}

static int reset(struct process *p, struct err *err)
{
    struct vmgenid *generation = &p->inst.machine.vmgenid;
    int rc = instance_pause(&p->inst, err);

    if (rc == 0)
        rc = instance_reset(&p->inst, 0, err);
    if (rc == 0 && config_has_generation(p->inst.config)) {
        device_lock(&generation->dev);
        rc = vmgenid_bump(generation, err);
        device_unlock(&generation->dev);
    }
    if (rc == 0)
        say_generation(p, CLONE_WAS_RESET);
    return rc;
}

static int obey(struct process *p, const struct clone_request *request, int fd,
    struct err *err)
{
    switch (request->op) {
    case CLONE_CONNECT:
        return connect_in(p, request, fd, err);
    case CLONE_RESET:
        return reset(p, err);
    default:
        return err_set(err, EPROTO, "unknown request %u", request->op);
    }
}

static void on_control(void *opaque, uint32_t events)
{
    struct process *p = opaque;
    struct clone_request request;
    struct err err;
    int fd = -1;
    int rc = keeper_receive(p->control.fd, &request, sizeof(request), &fd);

    (void)events;
    if (rc == -EAGAIN)
        return;
    /* Nobody has it any more. */
    if (rc <= 0)
        leave(EXIT_SUCCESS);
    if (obey(p, &request, fd, &err) < 0) {
        say_end(p, CLONE_FAILED, err.text);
        leave(EXIT_FAILURE);
    }
}

/* ---- how it comes to be -------------------------------------------------- */

static int confine(void *opaque, enum jail_role role, struct err *err)
{
    struct process *p = opaque;

    return jail_gate_confine(&p->gate, role, err);
}

/* It is not in its jail yet. */
static int join_switch(
    void *opaque, const char *where, int *ret_fd, struct err *err)
{
    (void)opaque;
    return netswitch_join(where, ret_fd, err);
}

/* A clone has no name on the host that ports could be below. */
static int connect_out(void *opaque, uint32_t port)
{
    (void)opaque;
    (void)port;
    return -ECONNREFUSED;
}

/* The zygote's handlers and terminal. */
static void leave_zygote(void)
{
    CC_CLEANUP(fd_closep) int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t none;

    (void)prctl(PR_SET_NAME, "spore-clone", 0, 0, 0);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    /* In a thread's own arena free(3) would look up a path. */
    (void)mallopt(M_ARENA_MAX, 1);
    if (fd < 0)
        return;
    (void)dup2(fd, STDIN_FILENO);
    (void)dup2(fd, STDOUT_FILENO);
}

static int hear_zygote(const struct process *p, pid_t *ret_pid, struct err *err)
{
    struct clone_greeting greeting;

    if (recv(p->setup->cell->link_fd, &greeting, sizeof(greeting), 0) !=
        (ssize_t)sizeof(greeting))
        return err_set(err, ESHUTDOWN, "the zygote has gone");
    *ret_pid = greeting.pid;
    fd_closep(&p->setup->cell->link_fd);
    return 0;
}

static size_t snapshot_fds(const struct snap *snap, int *fds, size_t room)
{
    size_t count = 0;

    for (uint32_t i = 0; i < snap->index.file_count && count < room; i++)
        fds[count++] = snap->image_fds[i];
    for (uint32_t d = 0; d < snap->disk_count; d++) {
        const struct snap_disk *disk = &snap->disks[d];

        for (uint32_t i = 0; i < disk->map.file_count && count < room; i++)
            fds[count++] = disk->image_fds[i];
    }
    return count;
}

static size_t snapshot_fd_count(const struct snap *snap)
{
    size_t count = snap->index.file_count;

    for (uint32_t d = 0; d < snap->disk_count; d++)
        count += snap->disks[d].map.file_count;
    return count;
}

/* All that was inherited and is not needed goes, with or without a jail. */
static int begin(struct process *p, struct err *err)
{
    const struct clone_process *s = p->setup;
    const struct jail_config *config = &s->options->jail.jail;
    size_t snapshot = snapshot_fd_count(&s->origin->snap);
    size_t room = snapshot + CONFIG_PATHS_FDS_MAX + SPACES_KINDS + KEEP_OTHERS;
    int *keep = calloc(room, sizeof(*keep));
    size_t count;
    int rc = 0;

    if (keep == NULL)
        return err_sys(err, ENOMEM, "a clone");
    count = snapshot_fds(&s->origin->snap, keep, snapshot);
    count += config_paths_fds(&s->options->config, keep + count);
    if (config->spaces != NULL) {
        for (unsigned int i = 0; i < SPACES_KINDS; i++)
            keep[count++] = config->spaces->fds[i];
        keep[count++] = config->spaces->root_fd;
    }
    keep[count++] = s->control_fd;
    keep[count++] = s->cell->link_fd;
    if (s->cgroup != NULL && cgroup_needs_join(s->cgroup))
        rc = cgroup_join(s->cgroup, false, err);
    /* The fds of folders that jail_begin closes are closed by number only. */
    s->origin->snap.dir_fd = -1;
    s->origin->store.dir_fd = -1;
    if (rc == 0)
        rc = config->level == JAIL_OFF
                 ? fds_close_others(keep, count, -1, err)
                 : jail_begin(&p->jail, config, s->cell, keep, count, err);
    free(keep);
    return rc;
}

static int build(struct process *p, struct err *err)
{
    const struct instance_host host = {.on_end = on_machine_end, .opaque = p};
    const struct clone_process *s = p->setup;
    int rc = instance_init(&p->inst, &host, &p->timings, err);

    if (rc < 0)
        return rc;
    console_init(&p->inst.console, &p->inst.loop, -1, -1);
    p->inst.tracking = s->with_resets ? MACHINE_TRACK : s->options->tracking;
    p->inst.outside = &p->outside;
    rc = instance_build(
        &p->inst, &s->options->config, NULL, &s->origin->origin, err);
    if (rc < 0)
        return rc;
    run_origin_close(s->origin);
    if (p->inst.machine.uring != NULL)
        uring_open(p->inst.machine.uring);
    p->control.fd = s->control_fd;
    rc = loop_add(&p->inst.loop, &p->control, EPOLLIN);
    return rc < 0 ? err_sys(err, rc, "cannot watch a clone's socket") : 0;
}

static int enter(struct process *p, pid_t pid, struct err *err)
{
    int rc = jail_enter(&p->jail, pid, err);

    /* It has limits of its own now. */
    if (rc == 0 && p->inst.machine.vsock != NULL)
        vsock_count_fds(p->inst.machine.vsock);
    return rc;
}

static int make_ready(struct process *p, struct err *err)
{
    uint32_t level;
    pid_t pid;
    int rc = hear_zygote(p, &pid, err);

    if (rc == 0)
        rc = begin(p, err);
    if (rc == 0)
        rc = build(p, err);
    if (rc == 0)
        rc = enter(p, pid, err);
    if (rc == 0)
        rc = instance_start_paused(&p->inst, err);
    if (rc == 0 && p->setup->with_resets)
        rc = instance_push(&p->inst, &level, err);
    return rc;
}

void clone_process_run(const struct clone_process *setup)
{
    struct process p = {.setup = setup,
        .inst = INSTANCE_NONE,
        .jail = JAIL_NONE,
        .outside = {.join_switch = join_switch,
            .connect = connect_out,
            .confine = confine},
        .control = {.fd = -1, .handle = on_control}};
    struct err err;

    p.outside.opaque = &p;
    p.control.opaque = &p;
    jail_gate_init(&p.gate, &p.jail);
    leave_zygote();
    if (make_ready(&p, &err) < 0) {
        say_end(&p, CLONE_FAILED, err.text);
        leave(EXIT_FAILURE);
    }
    say_generation(&p, CLONE_READY);
    (void)!loop_run(&p.inst.loop);
    leave(EXIT_FAILURE);
}
