/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/artifacts.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/control_api.h"
#include "vmm/run_help.h"
#include "vmm/run_state.h"
#include "vmm/timings_svg.h"

/*
 * How long after the guest's start a machine that nobody has named gets its
 * control socket: guests that end within that never pay for one.
 */
#define SERVE_LATER_NS (10 * CLOCK_NS_PER_MS)
/* Slow boots, of kernels that are interpreted, take half as long. */
#define PATIENCE_NS (60 * CLOCK_NS_PER_S)

int run_open_origin(struct run *run, struct err *err)
{
    const struct page_client_host lost = {
        .on_lost = run_on_memory_lost, .begin = run_on_watcher, .opaque = run};

    return run_origin_open(&run->origin, &run->options, &lost, err);
}

/* Kernel and root file system, where the user named none. */
int run_find_artifacts(struct run *run, struct err *err)
{
    struct run_options *o = &run->options;
    struct config_drive drive = config_drive_default();
    char id[] = "rootfs";
    int rc;

    if (o->from != NULL)
        return run_open_origin(run, err);
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

int run_serve(struct run *run, struct err *err)
{
    int fd;
    int rc = run_jail_listen(&run->jail, &fd, err);

    if (rc < 0)
        return rc;
    rc = control_serve(&run->control, &run->inst,
        run->options.api_id != NULL ? run->options.api_id : run->jail.place.id,
        run->jail.pid, fd, err);
    if (rc < 0)
        (void)close(fd);
    return rc;
}

/* That there is no place for a socket is no reason to end a run. */
static void on_serve_later(void *opaque)
{
    struct run *run = opaque;
    struct err err;

    if (run_serve(run, &err) < 0)
        log_info("run", "no control socket: %s", err.text);
}

static int prepare(struct run *run, struct err *err)
{
    const struct instance_host host = {
        .on_agent = run_on_agent, .on_end = run_on_machine_end, .opaque = run};
    int rc = run->options.no_boot ? 0 : run_find_artifacts(run, err);

    run_consoles_limit(&run->consoles, &run->options);
    run->session.output_limit = &run->consoles.log;
    if (rc == 0)
        rc = instance_init(&run->inst, &host, &run->timings, err);
    /* There is no file to be opened when the run ends, in its jail. */
    if (rc == 0 && run->options.timings_file != NULL)
        rc = run_consoles_open_file(
            run->options.timings_file, &run->timings_fd, err);
    if (rc == 0)
        rc = session_watch_signals(&run->session, &run->inst.loop, err);
    if (rc == 0)
        rc = run_consoles_open(
            &run->consoles, &run->options, &run->inst, run_on_escape, run, err);
    if (rc == 0 && !run->options.no_boot)
        rc = run_consoles_open_virtio(
            &run->consoles, &run->options, &run->inst, err);
    return rc;
}

/* In a machine that was restored the agent is up, and waits to be called. */
int run_call_agent(struct run *run, struct err *err)
{
    int fd;
    int rc = instance_call_agent(&run->inst, &fd, err);

    if (rc == 0)
        run_on_agent(run, fd);
    return rc;
}

/* Builds the machine, which is booted or has its origin open, and starts it. */
int run_launch(struct run *run, bool is_paused, struct err *err)
{
    int rc;

    run->inst.tracking = run->options.tracking;
    run->inst.outside = run_jail_outside(&run->jail);
    run->inst.filters_vcpus = run->options.filters_vcpus;
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
    run_settle_later(run);
    return 0;
}

/* ---- all together -------------------------------------------------------- */

/* Log and metrics, where the configuration file has said where they go. */
static int open_settings(struct run *run, struct err *err)
{
    struct run_options *o = &run->options;
    struct control *c = &run->control;
    int rc = 0;

    c->has_smt = o->settings.has_smt;
    c->tracks = o->settings.tracks;
    c->body_max = o->body_max;
    c->metrics.start_us = o->start_us;
    c->metrics.start_cpu_us = o->start_cpu_us;
    if (o->settings.tracks && o->tracking == MACHINE_TRACK_LATER)
        o->tracking = MACHINE_TRACK;
    if (o->settings.mmds_limit != 0)
        run->inst.mmds.limit = o->settings.mmds_limit;
    if (o->settings.metadata != NULL)
        rc = mmds_put(&run->inst.mmds, o->settings.metadata, err);
    if (rc < 0)
        return err_wrap(err, rc, "Populating MMDS from file failed");
    /* Who has no socket is known by no name but this. */
    if (o->settings.logger != NULL)
        rc = control_log_open(&c->log, o->api_id != NULL ? o->api_id : "run",
            o->settings.logger, err);
    if (o->is_firecracker)
        log_info("run", "Running Firecracker v%s", CONTROL_API_VERSION);
    if (rc == 0 && o->settings.metrics != NULL)
        rc = control_metrics_open(c, o->settings.metrics, err);
    if (rc == 0)
        metrics_start(&c->metrics, &run->inst, o->api_id);
    return rc;
}

static int start(struct run *run, struct err *err)
{
    int rc = prepare(run, err);

    if (rc < 0)
        return rc;
    run->timings.wants_emulated = run->options.timings != RUN_TIMINGS_OFF;
    if (run->options.timeout_ns != 0)
        loop_timer_arm(&run->inst.loop, &run->timeout,
            run->timings.at_ns[TIMINGS_MAIN] + run->options.timeout_ns);
    rc = open_settings(run, err);
    if (rc < 0)
        return rc;
    if (run->options.no_boot)
        return run_wait_for_machine(run, err);
    rc = run_launch(run, false, err);
    if (rc < 0)
        return rc;
    if (is_named(&run->options))
        rc = run_serve(run, err);
    else if (!run->options.no_api)
        loop_timer_arm(&run->inst.loop, &run->serve_later,
            clock_now_ns() + SERVE_LATER_NS);
    if (run->options.from == NULL && run->options.config.has_agent)
        loop_timer_arm(
            &run->inst.loop, &run->patience, clock_now_ns() + PATIENCE_NS);
    if (rc == 0 && run->options.from != NULL && run->options.config.has_agent)
        rc = run_call_agent(run, err);
    else if (rc == 0 && !run->options.config.has_agent)
        rc = run_release(run, err);
    return rc;
}

static void tear_down(struct run *run)
{
    run_origin_close(&run->origin);
    run_origin_settle(&run->origin, &run->inst.machine.mem);
    run_jail_give_up(&run->jail);
    if (metrics_write(&run->control.metrics, NULL) < 0)
        log_warn("run", "the last line of metrics is lost");
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

/* The picture is called by what was run. */
static void print_picture(struct run *run, FILE *out)
{
    const char *const *argv = run->options.command.argv;
    char title[256] = "spore run";
    size_t len = strlen(title);

    for (size_t i = 0; argv != NULL && argv[i] != NULL; i++) {
        int more = snprintf(title + len, sizeof(title) - len, "%s%s",
            i == 0 ? " -- " : " ", argv[i]);

        len += (size_t)more;
        if (len >= sizeof(title))
            break;
    }
    timings_print_svg(&run->timings, title, out);
}

/*
 * Written at once: stdio would ask what kind of file it has, which the jail
 * does not allow.
 */
static void draw_timings(struct run *run)
{
    int fd = run->timings_fd >= 0 ? run->timings_fd : STDERR_FILENO;
    char *text = NULL;
    size_t len = 0;
    FILE *out;
    int rc = -ENOMEM;

    /* What could not be made has been complained about. */
    if (run->options.timings_file != NULL && run->timings_fd < 0)
        return;
    out = open_memstream(&text, &len);
    if (out != NULL) {
        print_picture(run, out);
        rc = fclose(out) == 0 ? fd_write_full(fd, text, len) : -ENOMEM;
    }
    if (rc < 0)
        log_warn("run", "the picture of the boot timeline is lost: %s",
            strerrordesc_np(-rc));
    free(text);
    fd_closep(&run->timings_fd);
}

static void print_timings(struct run *run)
{
    timings_mark(&run->timings, TIMINGS_EXIT);
    if (run->options.timings == RUN_TIMINGS_SVG)
        draw_timings(run);
    else if (run->options.timings == RUN_TIMINGS_JSON)
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
        run_complain(run, err.text);
        run_finish(run, RUN_STATUS_MONITOR);
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
        run_complain(run, err.text);
        run_finish(run, RUN_STATUS_MONITOR);
        run_jail_leave(&run->jail);
    } else if (rc == 0) {
        run_guest(run);
    }
}

static void init(struct run *run)
{
    const struct session_host host = {.on_started = run_on_exec_started,
        .on_done = run_on_exec_done,
        .on_signal = run_on_signal,
        .opaque = run};

    run->inst = (struct instance)INSTANCE_NONE;
    run->origin = (struct run_origin)RUN_ORIGIN_NONE;
    run->consoles = (struct run_consoles)RUN_CONSOLES_NONE;
    run->agent_fd = -1;
    run->timings_fd = -1;
    run->timeout = (struct loop_timer){.fire = run_on_timeout, .opaque = run};
    run->patience = (struct loop_timer){.fire = run_on_patience, .opaque = run};
    run->serve_later =
        (struct loop_timer){.fire = on_serve_later, .opaque = run};
    run->settled = (struct loop_timer){.fire = run_on_settled, .opaque = run};
    session_init(&run->session, &host);
    control_init(&run->control);
    run_jail_init(&run->jail, &run->options);
    detach_init(&run->detach);
}

int run_main(int argc, char **argv,
    int (*parse)(
        struct run_options *options, int argc, char **argv, struct err *err))
{
    struct run *run = calloc(1, sizeof(*run));
    struct err err;
    int status;

    if (run == NULL) {
        (void)fputs("spore: run: out of memory\n", stderr);
        return RUN_STATUS_MONITOR;
    }
    timings_mark(&run->timings, TIMINGS_MAIN);
    timings_mark_at(&run->timings, TIMINGS_PROCESS,
        run->timings.at_ns[TIMINGS_MAIN] - clock_process_cpu_ns());
    init(run);
    if (parse(&run->options, argc, argv, &err) < 0) {
        run_complain(run, err.text);
        run_finish(run, RUN_STATUS_MONITOR);
    } else if (run->options.help) {
        for (size_t i = 0; run_help[i] != NULL; i++)
            (void)fputs(run_help[i], stdout);
        run_finish(run, 0);
    } else {
        run_somewhere(run);
    }
    status = run->status;
    run_options_fini(&run->options);
    free(run);
    return status;
}

int cmd_run(int argc, char **argv)
{
    return run_main(argc, argv, run_options_parse);
}
