/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/artifacts.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/control.h"
#include "vmm/detach.h"
#include "vmm/hw/vcpu_stats.h"
#include "vmm/instance.h"
#include "vmm/run_consoles.h"
#include "vmm/run_help.h"
#include "vmm/run_jail.h"
#include "vmm/run_options.h"
#include "vmm/run_origin.h"
#include "vmm/session.h"

#define STATUS_TIMEOUT 124
#define STATUS_MONITOR 125

/*
 * How long after the guest's start a machine that nobody has named gets its
 * control socket: guests that end within that never pay for one.
 */
#define SERVE_LATER_NS (10 * CLOCK_NS_PER_MS)

/* What an orderly power-off may take before the machine is just dropped. */
#define POWER_OFF_NS (10 * CLOCK_NS_PER_S)

struct run {
    struct run_options options;
    struct timings timings;
    struct instance inst;
    struct run_origin origin;
    struct session session;
    struct control control;
    struct run_jail jail;
    struct control_host control_host; /* --no-boot */
    struct control_load load;         /* what the options then point into */
    struct detach detach;
    struct run_consoles consoles;
    char *kernel_path;
    int agent_fd; /* of an operation that asks for nothing; or -1 */
    struct loop_timer timeout;
    struct loop_timer serve_later;
    struct loop_timer settled;
    bool is_done; /* `status` stands */
    int status;
};

static void finish(struct run *run, int status)
{
    if (run->is_done)
        return;
    run->status = status;
    __atomic_store_n(&run->is_done, true, __ATOMIC_RELEASE);
}

/* One line about why there is no command's status. */
static void complain(struct run *run, const char *text)
{
    if (run->is_done)
        return;
    session_restore_tty(&run->session);
    run_consoles_restore_tty(&run->consoles);
    (void)fprintf(stderr, "spore: run: %s\n", text);
}

/* KVM answers for a vCPU at once while it is out of the guest. */
static void count_emulated(struct run *run, enum timings_phase phase)
{
    struct machine *m = &run->inst.machine;
    uint64_t count;

    if (!run->timings.wants_emulated || m->vcpu_count != 1 ||
        instance_pause(&run->inst, NULL) < 0)
        return;
    if (vcpu_stats_read(&m->vcpus[0], VCPU_STATS_EMULATED, &count) == 0)
        run->timings.emulated[phase] = count;
    /* A machine that was paused can be resumed, or has ended. */
    if (instance_resume(&run->inst, NULL) < 0)
        log_debug("run", "the machine has ended");
}

static void on_exec_started(void *opaque)
{
    struct run *run = opaque;

    timings_mark(&run->timings, TIMINGS_COMMAND);
    count_emulated(run, TIMINGS_COMMAND);
}

static void settle_later(struct run *run)
{
    if (run_origin_wants_record(&run->origin))
        loop_timer_arm(&run->inst.loop, &run->settled,
            clock_now_ns() + RESTORE_MEMORY_SETTLED_NS);
}

/* What it has touched by now is what the next restore will need. */
static void on_settled(void *opaque)
{
    struct run *run = opaque;

    /* Of one that is paused this says nothing yet. */
    if (run->inst.phase == INSTANCE_PAUSED)
        settle_later(run);
    else
        run_origin_record(&run->origin, &run->inst.machine.mem);
}

static void on_exec_done(void *opaque, const struct guest_exec_result *result)
{
    struct run *run = opaque;

    timings_mark(&run->timings, TIMINGS_COMMAND_END);
    count_emulated(run, TIMINGS_COMMAND_END);
    if (result->is_error && result->text[0] != '\0')
        complain(run, result->text);
    finish(run, result->status);
    on_settled(run);
    if (!config_has_writable_file(&run->options.config) ||
        instance_stop(&run->inst, POWER_OFF_NS, 0, NULL) < 0)
        loop_stop(&run->inst.loop);
}

/* Who waits for a detached machine is told of it, and we write to a log. */
static int release(struct run *run, struct err *err)
{
    int rc = detach_release(&run->detach, run->control.id, err);

    if (rc == 0)
        run_jail_released(&run->jail);
    return rc;
}

/* Whether the machine is there for others, and runs nothing of ours. */
static bool is_idle(const struct run_options *o)
{
    return o->command.argv == NULL && (o->detach || o->no_boot || o->stay);
}

/* Who started a machine that stays is told that it is there. */
static int announce(const struct run *run, struct err *err)
{
    char line[RUNDIR_ID_SIZE + 1];
    int n = snprintf(line, sizeof(line), "%s\n", run->control.id);
    int rc = fd_write_full(STDOUT_FILENO, line, (size_t)n);

    return rc < 0 ? err_sys(err, rc, "standard output") : 0;
}

/* The agent is up: a command starts over the connection that says so. */
static void on_agent(void *opaque, int fd)
{
    struct run *run = opaque;
    struct err err;
    int rc = release(run, &err);

    if (rc == 0 && run->options.stay)
        rc = announce(run, &err);
    if (rc == 0 && is_idle(&run->options)) {
        /* What it has been told is on its way yet: closed, it might be lost. */
        (void)shutdown(fd, SHUT_WR);
        fd_closep(&run->agent_fd);
        run->agent_fd = fd;
        return;
    }
    if (rc < 0)
        (void)close(fd);
    else
        rc = session_start(&run->session, fd, &run->options.command, &err);
    if (rc < 0) {
        complain(run, err.text);
        finish(run, STATUS_MONITOR);
        loop_stop(&run->inst.loop);
    }
}

/* What a machine's end means without an agent's word for it. */
static void on_machine_end(void *opaque, const struct machine_end *end)
{
    struct run *run = opaque;
    bool expected = !run->options.config.has_agent || run->options.no_boot;

    if (!run->is_done) {
        switch (end->kind) {
        case MACHINE_EXITED:
            finish(run, end->status);
            break;
        case MACHINE_POWERED_OFF:
        case MACHINE_RESET:
            if (expected) {
                finish(run, 0);
                break;
            }
            if (run->inst.is_stopping) {
                finish(run, 128 + SIGTERM);
                break;
            }
            complain(run, run->inst.has_agent
                              ? "the guest ended before the command did"
                              : "the guest ended before its agent was ready");
            run_consoles_show_tail(&run->options, &run->inst);
            break;
        case MACHINE_KILLED:
            finish(run, 128 + SIGKILL);
            break;
        case MACHINE_PANICKED:
        case MACHINE_FAULTED:
        default:
            complain(run, end->text);
            run_consoles_show_tail(&run->options, &run->inst);
            break;
        }
        finish(run, STATUS_MONITOR);
    }
    loop_stop(&run->inst.loop);
}

static void on_timeout(void *opaque)
{
    struct run *run = opaque;
    char text[96];

    (void)snprintf(text, sizeof(text), "timed out after %.3g s",
        (double)run->options.timeout_ns / (double)CLOCK_NS_PER_S);
    complain(run, text);
    if (!run->inst.has_agent && instance_pause(&run->inst, NULL) == 0) {
        const struct machine *m = &run->inst.machine;

        for (uint32_t i = 0; i < m->vcpu_count; i++)
            (void)fprintf(stderr, "spore: run: vCPU %u was at rip 0x%llx\n", i,
                (unsigned long long)vcpu_get_rip(&m->vcpus[i]));
        run_consoles_show_tail(&run->options, &run->inst);
    }
    finish(run, STATUS_TIMEOUT);
    loop_stop(&run->inst.loop);
}

static void on_escape(void *opaque)
{
    struct run *run = opaque;

    finish(run, 128 + SIGINT);
    loop_stop(&run->inst.loop);
}

static void on_signal(void *opaque, int signal)
{
    struct run *run = opaque;

    finish(run, 128 + signal);
    loop_stop(&run->inst.loop);
}

/*
 * On a thread of its own, while others wait for memory that will never come
 * (page_client.h): says so, leaves nothing behind, and ends the process. That
 * of a command which has ended already keeps its status.
 */
static void on_memory_lost(void *opaque, const char *text)
{
    struct run *run = opaque;

    if (__atomic_load_n(&run->is_done, __ATOMIC_ACQUIRE)) {
        run_jail_abandon(&run->jail);
        _exit(run->status);
    }
    session_restore_tty(&run->session);
    run_consoles_restore_tty(&run->consoles);
    /* Not stderr: whoever has its lock may be one of those that wait. */
    (void)dprintf(STDERR_FILENO, "spore: run: %s\n", text);
    run_jail_abandon(&run->jail);
    _exit(STATUS_MONITOR);
}

static int on_watcher(void *opaque, struct err *err)
{
    struct run *run = opaque;

    return run_jail_confine_watcher(&run->jail, err);
}

static int open_origin(struct run *run, struct err *err)
{
    const struct page_client_host lost = {
        .on_lost = on_memory_lost, .begin = on_watcher, .opaque = run};

    return run_origin_open(&run->origin, &run->options, &lost, err);
}

/* Kernel and root file system, where the user named none. */
static int find_artifacts(struct run *run, struct err *err)
{
    struct run_options *o = &run->options;
    struct config_drive drive = config_drive_default();
    char id[] = "rootfs";
    int rc;

    if (o->from != NULL)
        return open_origin(run, err);
    /* A boot that was refused before has found it already. */
    if (o->config.kernel == NULL && run->kernel_path == NULL) {
        rc = artifacts_find(ARTIFACT_KERNEL, &run->kernel_path, err);
        if (rc < 0)
            return rc;
    }
    if (o->no_root || config_has_root(&o->config) || !o->config.has_agent)
        return 0;
    rc = artifacts_find(ARTIFACT_ROOTFS, &drive.path, err);
    if (rc < 0)
        return rc;
    drive.id = id;
    drive.is_root = true;
    drive.is_read_only = true;
    rc = config_add_drive(&o->config, &drive, err);
    free(drive.path);
    return rc;
}

static bool is_named(const struct run_options *o)
{
    return o->id != NULL || o->api_sock != NULL || o->detach || o->no_boot ||
           o->stay;
}

static int serve(struct run *run, struct err *err)
{
    int fd;
    int rc = run_jail_listen(&run->jail, &fd, err);

    if (rc < 0)
        return rc;
    rc = control_serve(
        &run->control, &run->inst, run->jail.place.id, run->jail.pid, fd, err);
    if (rc < 0)
        (void)close(fd);
    return rc;
}

/* That there is no place for a socket is no reason to end a run. */
static void on_serve_later(void *opaque)
{
    struct run *run = opaque;
    struct err err;

    if (serve(run, &err) < 0)
        log_info("run", "no control socket: %s", err.text);
}

static int prepare(struct run *run, struct err *err)
{
    const struct instance_host host = {
        .on_agent = on_agent, .on_end = on_machine_end, .opaque = run};
    int rc = run->options.no_boot ? 0 : find_artifacts(run, err);

    run_consoles_limit(&run->consoles, &run->options);
    run->session.output_limit = &run->consoles.log;
    if (rc == 0)
        rc = instance_init(&run->inst, &host, &run->timings, err);
    if (rc == 0)
        rc = session_watch_signals(&run->session, &run->inst.loop, err);
    if (rc == 0)
        rc = run_consoles_open(
            &run->consoles, &run->options, &run->inst, on_escape, run, err);
    if (rc == 0 && !run->options.no_boot)
        rc = run_consoles_open_virtio(
            &run->consoles, &run->options, &run->inst, err);
    return rc;
}

/* In a machine that was restored the agent is up, and waits to be called. */
static int call_agent(struct run *run, struct err *err)
{
    int fd;
    int rc = instance_call_agent(&run->inst, &fd, err);

    if (rc == 0)
        on_agent(run, fd);
    return rc;
}

/* Builds the machine, which is booted or has its origin open, and starts it. */
static int launch(struct run *run, bool is_paused, struct err *err)
{
    int rc;

    run->inst.tracking = run->options.tracking;
    run->inst.outside = run_jail_outside(&run->jail);
    rc = instance_build(&run->inst, &run->options.config, run->kernel_path,
        run->origin.is_open ? &run->origin.origin : NULL, err);
    if (rc == 0 && run->origin.is_open)
        rc = run_origin_use(&run->origin, &run->options, err);
    run_origin_close(&run->origin);
    control_prepare(&run->control);
    if (rc == 0)
        rc = run_jail_enter(&run->jail, &run->inst.machine, &run->origin, err);
    if (rc == 0)
        rc = is_paused ? instance_start_paused(&run->inst, err)
                       : instance_start(&run->inst, err);
    if (rc < 0)
        return rc;
    run_origin_prefetch(&run->origin, &run->inst.machine.mem);
    settle_later(run);
    return 0;
}

/* ---- --no-boot ----------------------------------------------------------- */

/* A machine that cannot be made, or is half made, is the end of the process. */
static int give_up(struct run *run, int rc, const struct err *err)
{
    if (rc >= 0)
        return rc;
    complain(run, err->text);
    finish(run, STATUS_MONITOR);
    loop_stop(&run->inst.loop);
    return rc;
}

/* What comes behind a request that has ended the process already. */
static int check_going_on(const struct run *run, struct err *err)
{
    return run->is_done ? err_set(err, EBUSY, "the machine has failed") : 0;
}

static int on_boot(void *opaque, struct err *err)
{
    struct run *run = opaque;
    int rc = check_going_on(run, err);

    if (rc == 0)
        rc = find_artifacts(run, err);
    if (rc == 0)
        rc = run_consoles_open_virtio(
            &run->consoles, &run->options, &run->inst, err);
    if (rc < 0)
        return rc;
    return give_up(run, launch(run, false, err), err);
}

/* The options become those of `spore run --from`. */
static void take_load(struct run *run, struct control_load *load)
{
    struct run_options *o = &run->options;

    control_load_fini(&run->load);
    run->load = *load;
    *load = (struct control_load){0};
    config_fini(&o->config);
    o->config = run->load.config;
    run->load.config = (struct config){0};
    o->given |= run->load.given;
    o->from = run->load.name;
    o->store = run->load.store;
    if (run->load.tracks && o->tracking == MACHINE_TRACK_LATER)
        o->tracking = MACHINE_TRACK;
    o->freeze = run->load.freezes;
    o->verify = run->load.verify;
    o->page_server = run->load.page_server;
    o->allow_changed_disks = run->load.allows_changed_disks;
    o->allow_duplicate = run->load.allows_duplicate;
    o->keeps_vsock = run->load.keeps_vsock;
}

static int on_load(void *opaque, struct control_load *load, struct err *err)
{
    struct run *run = opaque;
    struct run_options *o = &run->options;
    struct run_options before = *o;
    int rc = check_going_on(run, err);

    if (rc < 0)
        return rc;
    if ((o->given & ~(uint32_t)RUN_GIVEN_VCONSOLE) != 0)
        return err_set(err, EBUSY,
            "Loading a microVM snapshot not allowed after configuring "
            "boot-specific resources.");
    rc = config_copy(&o->config, &before.config, err);
    if (rc < 0)
        return rc;
    take_load(run, load);
    rc = open_origin(run, err);
    if (rc == 0)
        rc = run_consoles_open_virtio(
            &run->consoles, &run->options, &run->inst, err);
    if (rc < 0) {
        /* What is refused has changed nothing. */
        run_origin_close(&run->origin);
        run_origin_release(&run->origin);
        config_fini(&o->config);
        *o = before;
        return rc;
    }
    config_fini(&before.config);
    rc = launch(run, !run->load.resumes, err);
    if (rc == 0 && o->config.has_agent)
        rc = call_agent(run, err);
    return give_up(run, rc, err);
}

static void on_quit(void *opaque)
{
    struct run *run = opaque;

    finish(run, 128 + SIGKILL);
    loop_stop(&run->inst.loop);
}

static int on_set_serial(void *opaque, const char *path, struct err *err)
{
    struct run *run = opaque;
    int rc = check_going_on(run, err);

    return rc < 0 ? rc
                  : run_consoles_redirect(
                        &run->consoles, &run->options, &run->inst, path, err);
}

/* The socket is there, and what comes over it makes the machine. */
static int wait_for_machine(struct run *run, struct err *err)
{
    int rc;

    run->control_host = (struct control_host){.boot = on_boot,
        .load = on_load,
        .quit = on_quit,
        .set_serial = on_set_serial,
        .options = &run->options,
        .opaque = run};
    run->control.host = &run->control_host;
    run->inst.config = &run->options.config;
    rc = serve(run, err);
    return rc < 0 ? rc : release(run, err);
}

/* ---- all together -------------------------------------------------------- */

static int start(struct run *run, struct err *err)
{
    int rc = prepare(run, err);

    if (rc < 0)
        return rc;
    run->timings.wants_emulated = run->options.timings != RUN_TIMINGS_OFF;
    if (run->options.timeout_ns != 0)
        loop_timer_arm(&run->inst.loop, &run->timeout,
            run->timings.at_ns[TIMINGS_MAIN] + run->options.timeout_ns);
    if (run->options.no_boot)
        return wait_for_machine(run, err);
    rc = launch(run, false, err);
    if (rc < 0)
        return rc;
    if (is_named(&run->options))
        rc = serve(run, err);
    else if (!run->options.no_api)
        loop_timer_arm(&run->inst.loop, &run->serve_later,
            clock_now_ns() + SERVE_LATER_NS);
    if (rc == 0 && run->options.from != NULL && run->options.config.has_agent)
        rc = call_agent(run, err);
    else if (rc == 0 && !run->options.config.has_agent)
        rc = release(run, err);
    return rc;
}

static void tear_down(struct run *run)
{
    run_origin_close(&run->origin);
    run_origin_settle(&run->origin, &run->inst.machine.mem);
    run_jail_give_up(&run->jail);
    instance_close(&run->inst);
    run_origin_release(&run->origin);
    /* A client that waits for the end finds nothing left of the machine. */
    run_jail_leave(&run->jail);
    control_fini(&run->control);
    session_fini(&run->session);
    run_consoles_restore_tty(&run->consoles);
    instance_fini(&run->inst);
    run_consoles_close(&run->consoles);
    fd_closep(&run->agent_fd);
    free(run->kernel_path);
    control_load_fini(&run->load);
    run_jail_fini(&run->jail);
}

static void print_timings(struct run *run)
{
    timings_mark(&run->timings, TIMINGS_EXIT);
    if (run->options.timings == RUN_TIMINGS_JSON)
        timings_print_json(&run->timings, stderr);
    else
        timings_print(&run->timings, stderr);
}

static void run_guest(struct run *run)
{
    struct err err;
    int rc = start(run, &err);

    if (rc == 0) {
        rc = loop_run(&run->inst.loop);
        if (rc < 0)
            rc = err_sys(&err, rc, "the event loop failed");
    }
    if (rc < 0) {
        complain(run, err.text);
        finish(run, STATUS_MONITOR);
    }
    tear_down(run);
    if (run->options.timings != RUN_TIMINGS_OFF)
        print_timings(run);
}

/* Here, or in a process of its own of which ours only tells the id. */
static void run_somewhere(struct run *run)
{
    struct err err;
    int rc = 0;

    if (run->options.detach)
        rc = detach_fork(&run->detach, &run->status, &err);
    if (rc == 0)
        rc = run_jail_split(&run->jail, &run->detach, &run->status, &err);
    if (rc < 0) {
        complain(run, err.text);
        finish(run, STATUS_MONITOR);
        run_jail_leave(&run->jail);
    } else if (rc == 0) {
        run_guest(run);
    }
}

static void init(struct run *run)
{
    const struct session_host host = {.on_started = on_exec_started,
        .on_done = on_exec_done,
        .on_signal = on_signal,
        .opaque = run};

    run->inst = (struct instance)INSTANCE_NONE;
    run->origin = (struct run_origin)RUN_ORIGIN_NONE;
    run->consoles = (struct run_consoles)RUN_CONSOLES_NONE;
    run->agent_fd = -1;
    run->timeout = (struct loop_timer){.fire = on_timeout, .opaque = run};
    run->serve_later =
        (struct loop_timer){.fire = on_serve_later, .opaque = run};
    run->settled = (struct loop_timer){.fire = on_settled, .opaque = run};
    session_init(&run->session, &host);
    control_init(&run->control);
    run_jail_init(&run->jail, &run->options);
    detach_init(&run->detach);
}

int cmd_run(int argc, char **argv)
{
    struct run *run = calloc(1, sizeof(*run));
    struct err err;
    int status;

    if (run == NULL) {
        (void)fputs("spore: run: out of memory\n", stderr);
        return STATUS_MONITOR;
    }
    timings_mark(&run->timings, TIMINGS_MAIN);
    timings_mark_at(&run->timings, TIMINGS_PROCESS,
        run->timings.at_ns[TIMINGS_MAIN] - clock_process_cpu_ns());
    init(run);
    if (run_options_parse(&run->options, argc, argv, &err) < 0) {
        complain(run, err.text);
        finish(run, STATUS_MONITOR);
    } else if (run->options.help) {
        for (size_t i = 0; run_help[i] != NULL; i++)
            (void)fputs(run_help[i], stdout);
        finish(run, 0);
    } else {
        run_somewhere(run);
    }
    status = run->status;
    run_options_fini(&run->options);
    free(run);
    return status;
}
