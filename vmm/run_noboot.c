/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --no-boot: the machine comes over the control socket, described, or out of a
 * snapshot.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "vmm/run_state.h"

/* A machine that cannot be made, or is half made, is the end of the process. */
static int give_up(struct run *run, int rc, const struct err *err)
{
    if (rc >= 0)
        return rc;
    run_complain(run, err->text);
    run_finish(run, RUN_STATUS_MONITOR);
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

    if (rc == 0 && run->options.is_firecracker &&
        run->options.config.kernel == NULL)
        rc = err_set(
            err, EINVAL, "Cannot start microvm without kernel configuration.");
    if (rc == 0)
        rc = run_find_artifacts(run, err);
    if (rc == 0)
        rc = run_consoles_open_virtio(
            &run->consoles, &run->options, &run->inst, err);
    if (rc < 0)
        return rc;
    return give_up(run, run_launch(run, false, err), err);
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
    rc = run_open_origin(run, err);
    if (rc == 0)
        rc = run_consoles_open_virtio(
            &run->consoles, &run->options, &run->inst, err);
    if (rc < 0) {
        /* What is refused has changed nothing. */
        run_origin_close(&run->origin);
        run_origin_release(&run->origin);
        config_fini(&o->config);
        *o = before;
        /* But to the contract's clients, who count on the process's end. */
        return o->is_firecracker ? give_up(run, rc, err) : rc;
    }
    config_fini(&before.config);
    rc = run_launch(run, !run->load.resumes, err);
    if (rc == 0 && o->config.has_agent)
        rc = run_call_agent(run, err);
    return give_up(run, rc, err);
}

static void on_quit(void *opaque)
{
    struct run *run = opaque;

    run_finish(run, 128 + SIGKILL);
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
int run_wait_for_machine(struct run *run, struct err *err)
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
    rc = run_serve(run, err);
    return rc < 0 ? rc : run_release(run, err);
}
