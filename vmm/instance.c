/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/instance.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/generation.h"
#include "vmm/machine_drive_reset.h"

/* Of a machine's RAM that resets copy back without being told. */
#define HOT_PAGES_MAX 4096u

enum event { EVENT_START, EVENT_PAUSE, EVENT_RESUME, EVENT_END, EVENTS };

/* What an event makes of a phase; the phase itself: nothing is to be done. */
static const struct {
    bool allowed;
    enum instance_phase next;
} transitions[EVENTS][INSTANCE_PHASES] = {
    [EVENT_START] = {[INSTANCE_NEW] = {true, INSTANCE_RUNNING}},
    [EVENT_PAUSE] = {[INSTANCE_RUNNING] = {true, INSTANCE_PAUSED},
        [INSTANCE_PAUSED] = {true, INSTANCE_PAUSED}},
    [EVENT_RESUME] = {[INSTANCE_PAUSED] = {true, INSTANCE_RUNNING},
        [INSTANCE_RUNNING] = {true, INSTANCE_RUNNING}},
    [EVENT_END] = {[INSTANCE_RUNNING] = {true, INSTANCE_STOPPED},
        [INSTANCE_PAUSED] = {true, INSTANCE_STOPPED}},
};

const char *instance_phase_name(enum instance_phase phase)
{
    static const char *const names[] = {
        [INSTANCE_NEW] = "Not started",
        [INSTANCE_RUNNING] = "Running",
        [INSTANCE_PAUSED] = "Paused",
        [INSTANCE_STOPPED] = "Stopped",
    };

    assert(phase < INSTANCE_PHASES);
    return names[phase];
}

/* 1: the phase is to change to *ret_next; 0: it is that already. */
static int consult(const struct instance *inst, enum event event,
    enum instance_phase *ret_next, struct err *err)
{
    static const char *const verbs[] = {
        [EVENT_START] = "started",
        [EVENT_PAUSE] = "paused",
        [EVENT_RESUME] = "resumed",
        [EVENT_END] = "ended",
    };

    if (!transitions[event][inst->phase].allowed)
        return err_set(err, EBUSY, "a machine that is '%s' cannot be %s",
            instance_phase_name(inst->phase), verbs[event]);
    *ret_next = transitions[event][inst->phase].next;
    return *ret_next != inst->phase;
}

static void on_machine_end(void *opaque, const struct machine_end *end)
{
    struct instance *inst = opaque;
    enum instance_phase next;
    int rc = consult(inst, EVENT_END, &next, NULL);

    /* A machine ends once, and only one that was started. */
    assert(rc == 1);
    (void)rc;
    inst->phase = next;
    loop_timer_disarm(&inst->loop, &inst->stop_timer);
    inst->host.on_end(inst->host.opaque, end);
}

/* The guest connects to one of our ports: the agent says that it is ready. */
static int on_accept(void *opaque, uint32_t guest_port, uint32_t host_port)
{
    struct instance *inst = opaque;
    int fds[2];

    if (host_port != AGENT_PORT_READY || guest_port != AGENT_PORT_READY ||
        inst->has_agent)
        return VSOCK_NOT_MINE;
    if (socketpair(
            AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -errno;
    timings_mark(inst->timings, TIMINGS_READY);
    inst->has_agent = true;
    if (inst->host.on_agent != NULL)
        inst->host.on_agent(inst->host.opaque, fds[0]);
    else
        (void)close(fds[0]);
    return fds[1];
}

static void on_stop_late(void *opaque)
{
    struct instance *inst = opaque;

    log_warn("machine", "the guest did not power off in time: what it had not "
                        "synced to its drives is lost");
    instance_kill(inst);
}

int instance_init(struct instance *inst, const struct instance_host *host,
    struct timings *timings, struct err *err)
{
    int rc;

    *inst = (struct instance)INSTANCE_NONE;
    inst->host = *host;
    inst->timings = timings;
    saver_init(&inst->saver);
    inst->stop_timer =
        (struct loop_timer){.fire = on_stop_late, .opaque = inst};
    rc = kvm_open(&inst->kvm, err);
    if (rc == 0)
        rc = loop_init(&inst->loop, err);
    return rc;
}

void instance_close(struct instance *inst)
{
    saver_fini(&inst->saver);
    if (inst->reset != NULL)
        reset_fini(inst->reset);
    free(inst->reset);
    inst->reset = NULL;
    machine_fini(&inst->machine);
    console_fini(&inst->console);
    console_fini(&inst->vconsole);
    fd_closep(&inst->power_off_fd);
    inst->phase = INSTANCE_STOPPED;
}

void instance_fini(struct instance *inst)
{
    instance_close(inst);
    loop_fini(&inst->loop);
    kvm_close(&inst->kvm);
    mmds_fini(&inst->mmds);
}

int instance_build(struct instance *inst, const struct config *config,
    const char *kernel_path, const struct machine_origin *origin,
    struct err *err)
{
    struct machine_host host = {.kvm = &inst->kvm,
        .origin = origin,
        .tracking = inst->tracking,
        .loop = &inst->loop,
        .console = &inst->console,
        .timings = inst->timings,
        .outside = inst->outside,
        .filters_vcpus = inst->filters_vcpus,
        .mmds = &inst->mmds,
        .kernel_path = kernel_path,
        .on_end = on_machine_end,
        .accept = on_accept,
        .opaque = inst};

    assert(inst->config == NULL || inst->config == config);
    inst->config = config;
    inst->mmds.address = config->mmds.address;
    inst->mmds.is_v2 = config->mmds.is_v2;
    inst->mmds.imds_compat = config->mmds.imds_compat;
    inst->has_agent = origin != NULL && config->has_agent;
    inst->has_own_clock = origin != NULL && origin->clock == VM_CLOCK_FREEZE;
    if (inst->vconsole.loop != NULL)
        host.vconsole = &inst->vconsole;
    return machine_init(&inst->machine, config, &host, err);
}

/*
 * vCPU threads are made before this one is held to its role, so that they are
 * held to theirs alone; each waits for the other before the guest runs.
 */
static int start_machine(struct instance *inst, struct err *err)
{
    const struct outside *outside = inst->outside;
    int rc = machine_start(&inst->machine, err);

    if (rc == 0 && outside != NULL)
        rc = outside->confine(outside->opaque, JAIL_ROLE_MAIN, err);
    return rc;
}

int instance_start(struct instance *inst, struct err *err)
{
    enum instance_phase next;
    int rc = consult(inst, EVENT_START, &next, err);

    if (rc <= 0)
        return rc;
    inst->phase = next;
    inst->started_ns = clock_now_ns();
    return start_machine(inst, err);
}

int instance_start_paused(struct instance *inst, struct err *err)
{
    enum instance_phase next;
    int rc = consult(inst, EVENT_START, &next, err);

    if (rc <= 0)
        return rc;
    inst->phase = INSTANCE_PAUSED;
    inst->started_ns = clock_now_ns();
    /* Asked of vCPUs that have no thread yet, and waited for afterwards. */
    machine_pause(&inst->machine);
    rc = start_machine(inst, err);
    if (rc == 0)
        machine_pause(&inst->machine);
    return rc;
}

int instance_pause(struct instance *inst, struct err *err)
{
    enum instance_phase next;
    int rc = consult(inst, EVENT_PAUSE, &next, err);

    if (rc <= 0)
        return rc;
    machine_pause(&inst->machine);
    inst->phase = next;
    return 0;
}

int instance_resume(struct instance *inst, struct err *err)
{
    enum instance_phase next;
    int rc = consult(inst, EVENT_RESUME, &next, err);

    if (rc <= 0)
        return rc;
    inst->phase = next;
    machine_resume(&inst->machine);
    return 0;
}

static int make_root(struct instance *inst, struct err *err)
{
    struct machine *m = &inst->machine;
    struct reset_config config = {.vcpu_parts = RESET_VCPU_PARTS_ALL,
        .clock = VM_CLOCK_FOLLOW,
        .hot_max = HOT_PAGES_MAX};
    struct reset_disk disks[RESET_DISKS_MAX];
    struct reset *reset;
    int rc = machine_drive_reset_disks(m, disks, &config.disk_count, err);

    if (rc == 0)
        rc = machine_prepare_parts(m, err);
    if (rc == 0 && !m->dirty.is_on)
        rc = dirty_start(&m->dirty, err);
    if (rc < 0)
        return rc;
    reset = malloc(sizeof(*reset));
    if (reset == NULL)
        return err_sys(err, ENOMEM, "a root for resets");
    config.parts = machine_parts(m);
    config.disks = disks;
    rc = reset_init(reset, &config, err);
    if (rc < 0) {
        free(reset);
        return rc;
    }
    inst->reset = reset;
    return 0;
}

/* Resets take what was written from the tracker, and so do saves. */
static int begin_levels(const struct instance *inst, struct err *err)
{
    if (inst->phase != INSTANCE_RUNNING && inst->phase != INSTANCE_PAUSED)
        return err_set(err, EBUSY, "a machine that is '%s' cannot be reset",
            instance_phase_name(inst->phase));
    if (inst->saver.inst != NULL)
        return err_set(err, EBUSY, "a save is going on: try again later");
    if (inst->is_broken)
        return err_set(err, EBUSY, "the machine is ending: a reset has failed");
    return 0;
}

int instance_push(struct instance *inst, uint32_t *ret_level, struct err *err)
{
    int rc = begin_levels(inst, err);

    if (rc < 0)
        return rc;
    if (inst->phase == INSTANCE_RUNNING)
        machine_pause(&inst->machine);
    rc = inst->reset == NULL ? make_root(inst, err)
                             : reset_push(inst->reset, err);
    if (rc == 0)
        *ret_level = reset_level(inst->reset);
    if (inst->phase == INSTANCE_RUNNING)
        machine_resume(&inst->machine);
    return rc;
}

int instance_reset(struct instance *inst, uint32_t level, struct err *err)
{
    int rc = begin_levels(inst, err);

    if (rc < 0)
        return rc;
    if (inst->reset == NULL || level > reset_level(inst->reset))
        return err_set(err, EINVAL,
            "there is no level %u to go back to: see spore push", level);
    if (inst->phase == INSTANCE_RUNNING)
        machine_pause(&inst->machine);
    rc = reset_to_level(inst->reset, level, err);
    if (rc < 0) {
        /* Neither what it was nor what it should be; its end comes round. */
        inst->is_broken = true;
        machine_kill(&inst->machine);
        return rc;
    }
    reset_resume(inst->reset);
    if (inst->phase == INSTANCE_RUNNING)
        machine_resume(&inst->machine);
    return 0;
}

int64_t instance_level(const struct instance *inst)
{
    return inst->reset == NULL ? -1 : (int64_t)reset_level(inst->reset);
}

void instance_kill(struct instance *inst)
{
    enum instance_phase next;

    /* The phase follows when the machine's end comes round. */
    if (consult(inst, EVENT_END, &next, NULL) > 0)
        machine_kill(&inst->machine);
}

int instance_power_button(struct instance *inst, struct err *err)
{
    enum instance_phase next;
    int rc = consult(inst, EVENT_END, &next, err);

    if (rc <= 0)
        return rc;
    machine_power_button(&inst->machine);
    return 0;
}

int instance_connect(struct instance *inst, uint32_t port, int fd,
    const struct vsock_caller *caller, struct err *err)
{
    struct vsock *vsock = inst->machine.vsock;
    int rc;

    if (vsock == NULL)
        return err_set(err, ENODEV,
            "the machine has no vsock device, and so no agent: it was started "
            "with a console of its own");
    device_lock(&vsock->virtio.base);
    rc = vsock_connect(vsock, port, fd, caller);
    device_unlock(&vsock->virtio.base);
    if (rc == -ENOTCONN)
        return err_set(
            err, -rc, "the guest's vsock driver is not up: try again later");
    if (rc < 0)
        return err_sys(err, rc, "cannot connect to port %u of the guest", port);
    return 0;
}

/* A connection to the agent on which `size` bytes have been sent already. */
static int call_agent(struct instance *inst, const void *bytes, size_t size,
    int *ret_fd, struct err *err)
{
    int fds[2];
    int rc;

    if (socketpair(
            AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return err_sys(err, errno, "cannot connect to the agent");
    rc = fd_write_full(fds[0], bytes, size);
    if (rc < 0)
        rc = err_sys(err, rc, "cannot connect to the agent");
    else
        rc = instance_connect(inst, AGENT_PORT, fds[1], NULL, err);
    if (rc < 0) {
        (void)close(fds[0]);
        (void)close(fds[1]);
        return rc;
    }
    *ret_fd = fds[0];
    return 0;
}

static int ask_agent(struct instance *inst, uint32_t grace_ms, struct err *err)
{
    const struct {
        struct agent_frame head;
        struct agent_power body;
    } frame = {.head = {.length = agent_le32_put(sizeof(struct agent_power)),
                   .type = agent_le16_put(AGENT_POWEROFF)},
        .body = {.grace_ms = agent_le32_put(grace_ms)}};

    fd_closep(&inst->power_off_fd);
    return call_agent(inst, &frame, sizeof(frame), &inst->power_off_fd, err);
}

int instance_call_agent(struct instance *inst, int *ret_fd, struct err *err)
{
    struct generation_frame frame;
    int rc = generation_make(
        &frame, inst->machine.vmgenid.state.id, !inst->has_own_clock, err);

    static_assert(AGENT_GENERATION_ID == VMGENID_SIZE, "the same id");
    if (rc == 0)
        rc = call_agent(inst, &frame, sizeof(frame), ret_fd, err);
    explicit_bzero(&frame, sizeof(frame));
    return rc;
}

int instance_stop(struct instance *inst, uint64_t timeout_ns, uint32_t grace_ms,
    struct err *err)
{
    int rc = instance_resume(inst, err);

    if (rc < 0)
        return rc;
    inst->is_stopping = true;
    if (!inst->has_agent || ask_agent(inst, grace_ms, err) < 0)
        rc = instance_power_button(inst, err);
    loop_timer_arm(&inst->loop, &inst->stop_timer, clock_now_ns() + timeout_ns);
    return rc;
}
