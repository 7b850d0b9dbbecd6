/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/runner.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/fuzz/abi.h"
#include "snapshot/ram.h"
#include "snapshot/verify.h"
#include "vmm/artifacts.h"
#include "vmm/base/clock.h"
#include "vmm/hw/vcpu_sync.h"
#include "vmm/machine_restore.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/*
 * No devices but the console's, and no randomness that a CPU may trust. Time is
 * counted by ticks, which short runs have none of: to a clock that went on when
 * the guest was put back each tick is the first since the root was saved, and
 * the kernel makes up for every second of that: a day's are half a minute where
 * it is interpreted.
 */
#define BOOT_ARGS                                                              \
    "console=ttyS0 quiet reboot=k panic=-1 8250.nr_uarts=1 rdinit=/init "      \
    "random.trust_cpu=off random.trust_bootloader=off norandmaps "             \
    "clocksource=jiffies "

/*
 * What Nyx's agents know by: the last 16 bytes are of a host without processor
 * trace.
 */
#define NYX_BRAND "spore                           NYX vCPU (NO-PT)"

/* ---- ticks --------------------------------------------------------------- */

/*
 * The guest comes out as KVM sees the signal. If it was about to go in, it
 * must not: the flag is what KVM looks at then.
 */
static void on_tick(int sig, siginfo_t *info, void *context)
{
    struct kvm_run *run = info->si_value.sival_ptr;

    (void)sig;
    (void)context;
    if (info->si_code == SI_TIMER)
        __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_RELAXED);
}

static int start_ticks(struct runner *r, struct err *err)
{
    struct sigaction action = {
        .sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
        .sigev_signo = RUNNER_SIGNAL,
        .sigev_value = {.sival_ptr = r->machine.vcpus[0].run}};
    struct itimerspec every = {.it_interval = {.tv_nsec = (long)RUNNER_TICK_NS},
        .it_value = {.tv_nsec = (long)RUNNER_TICK_NS}};
    sigset_t set;

    event.sigev_notify_thread_id = gettid();
    (void)sigemptyset(&set);
    (void)sigaddset(&set, RUNNER_SIGNAL);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    if (sigaction(RUNNER_SIGNAL, &action, NULL) < 0 ||
        timer_create(CLOCK_MONOTONIC, &event, &r->timer) < 0)
        return err_sys(err, errno, "the executor's timer");
    r->has_timer = true;
    if (timer_settime(r->timer, 0, &every, NULL) < 0)
        return err_sys(err, errno, "the executor's timer");
    return 0;
}

/* ---- making one ---------------------------------------------------------- */

/* What ends a machine is looked at after each exit instead. */
static void on_end(void *opaque, const struct machine_end *end)
{
    (void)opaque;
    (void)end;
}

static int prepare(struct runner **ret_runner, int print_fd, struct err *err)
{
    struct runner *r = calloc(1, sizeof(*r));
    int rc;

    if (r == NULL)
        return err_sys(err, ENOMEM, "an executor");
    config_init(&r->config);
    r->kvm.fd = -1;
    rc = kvm_open(&r->kvm, err);
    if (rc < 0) {
        config_fini(&r->config);
        free(r);
        return rc;
    }
    rc = loop_init(&r->loop, err);
    if (rc < 0) {
        kvm_close(&r->kvm);
        config_fini(&r->config);
        free(r);
        return rc;
    }
    console_init(&r->console, &r->loop, print_fd, -1);
    *ret_runner = r;
    return 0;
}

void runner_free(struct runner *r)
{
    if (r == NULL)
        return;
    if (r->has_timer)
        (void)timer_delete(r->timer);
    if (r->root != NULL)
        ram_unmap_view(r->root, gmem_page_count(&r->machine.mem));
    machine_fini(&r->machine);
    if (r->is_restored) {
        snap_close(&r->snap);
        store_close(&r->store);
    }
    console_fini(&r->console);
    loop_fini(&r->loop);
    kvm_close(&r->kvm);
    config_fini(&r->config);
    free(r->kernel_path);
    free(r);
}

static int build(struct runner *r, const struct machine_origin *origin,
    const struct image_source *initrd, const char *cpu_brand, struct err *err)
{
    struct machine_host host = {.kvm = &r->kvm,
        .loop = &r->loop,
        .console = &r->console,
        .timings = &r->timings,
        .kernel_path = r->kernel_path,
        .origin = origin,
        .cpu_brand = cpu_brand,
        .tracking = MACHINE_TRACK,
        .on_end = on_end,
        .opaque = r};
    int rc = config_check(&r->config, err);

    if (initrd != NULL)
        host.initrd = *initrd;
    if (rc == 0)
        rc = machine_init(&r->machine, &r->config, &host, err);
    if (rc == 0)
        rc = machine_prepare_parts(&r->machine, err);
    if (rc < 0)
        return rc;
    if (!vcpu_sync_supported(&r->machine.vcpus[0]))
        return err_set(err, ENOTSUP,
            "this KVM has no KVM_CAP_SYNC_REGS, which fuzzing needs");
    vcpu_sync_enable(&r->machine.vcpus[0], true);
    return start_ticks(r, err);
}

static char *join_path(const char *dir, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static int describe(
    struct runner *r, const struct fuzz_target *target, struct err *err)
{
    struct config_pmem root = {.is_read_only = true};
    char *args = NULL;
    int rc = 0;

    r->config.has_agent = false;
    r->config.discovery = CONFIG_DISCOVERY_CMDLINE;
    r->config.vcpus = 1;
    r->config.mem_bytes = target->mem_bytes;
    if (target->kernel != NULL)
        rc = config_set_string(&r->config.kernel, target->kernel, err);
    else
        rc = artifacts_find(ARTIFACT_KERNEL, &r->kernel_path, err);
    if (rc < 0)
        return rc;
    root.path = join_path(target->dir, FUZZ_TARGET_IMAGE);
    root.id = strdup("root");
    if (asprintf(&args, "%s%s", BOOT_ARGS, target->boot_args) < 0)
        args = NULL;
    if (root.path == NULL || root.id == NULL || args == NULL)
        rc = err_sys(err, ENOMEM, "a machine's description");
    if (rc == 0)
        rc = config_set_string(&r->config.boot_args, args, err);
    if (rc == 0 && !target->is_nyx)
        rc = config_add_pmem(&r->config, &root, err);
    config_pmem_fini(&root);
    free(args);
    return rc;
}

int runner_boot(const struct fuzz_target *target,
    const struct image_source *initrd, int print_fd, struct runner **ret_runner,
    struct err *err)
{
    struct runner *r;
    int rc = prepare(&r, print_fd, err);

    if (rc < 0)
        return rc;
    rc = describe(r, target, err);
    if (rc == 0)
        rc = build(r, NULL, initrd, target->is_nyx ? NYX_BRAND : NULL, err);
    if (rc < 0) {
        runner_free(r);
        return rc;
    }
    *ret_runner = r;
    return 0;
}

static int open_snapshot(
    struct runner *r, const struct fuzz_target *target, struct err *err)
{
    char *path = join_path(target->dir, FUZZ_TARGET_STORE);
    struct snapshot_id id;
    int rc;

    if (path == NULL)
        return err_sys(err, ENOMEM, "a path");
    rc = store_open(&r->store, path, false, err);
    free(path);
    if (rc < 0)
        return rc;
    rc = store_find(&r->store, FUZZ_TARGET_ROOT, &id, err);
    if (rc == 0)
        rc = snap_open(&r->store, &id, &r->snap, err);
    if (rc < 0) {
        store_close(&r->store);
        return rc;
    }
    r->is_restored = true;
    return verify_is_trusted(&r->snap) ? 0 : verify_snap(&r->snap, NULL, err);
}

/* The target may have been moved since it was saved. */
static int set_paths(
    struct runner *r, const struct fuzz_target *target, struct err *err)
{
    char *path;
    int rc;

    if (r->config.vcpus != 1 || r->config.drive_count != 0 ||
        r->config.net_count != 0 || r->config.pmem_count > 1)
        return err_set(err, EINVAL,
            "the snapshot in '%s' is not one of a fuzzing target: pack it "
            "again",
            target->dir);
    if (r->config.pmem_count == 0)
        return 0;
    path = join_path(target->dir, FUZZ_TARGET_IMAGE);
    if (path == NULL)
        return err_sys(err, ENOMEM, "a path");
    rc = config_set_string(&r->config.pmems[0].path, path, err);
    free(path);
    return rc;
}

static int restore(
    struct runner *r, const struct fuzz_target *target, struct err *err)
{
    struct machine_origin origin = {.snap = &r->snap, .clock = VM_CLOCK_FREEZE};
    struct parts parts;
    int rc = open_snapshot(r, target, err);

    if (rc == 0)
        rc = machine_restore_config(&r->snap, &r->config, err);
    if (rc == 0)
        rc = set_paths(r, target, err);
    if (rc == 0)
        rc = build(r, &origin, NULL, NULL, err);
    if (rc == 0)
        rc = ram_map_view(&r->snap.index, r->snap.image_fds, &r->root, err);
    if (rc < 0)
        return rc;
    parts = machine_parts(&r->machine);
    parts_resume(&parts);
    return 0;
}

int runner_restore(const struct fuzz_target *target, int print_fd,
    struct runner **ret_runner, struct err *err)
{
    struct runner *r;
    int rc = prepare(&r, print_fd, err);

    if (rc < 0)
        return rc;
    rc = restore(r, target, err);
    if (rc < 0) {
        runner_free(r);
        return err_wrap(err, rc, "the root of '%s'", target->dir);
    }
    *ret_runner = r;
    return 0;
}

/* ---- running ------------------------------------------------------------- */

const struct kvm_regs *runner_regs(const struct runner *r)
{
    return &r->machine.vcpus[0].run->s.regs.regs;
}

const struct kvm_sregs *runner_sregs(const struct runner *r)
{
    return &r->machine.vcpus[0].run->s.regs.sregs;
}

void runner_answer(struct runner *r, uint64_t value)
{
    struct kvm_run *run = r->machine.vcpus[0].run;

    run->s.regs.regs.rax = value;
    run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
}

struct guest_view runner_view(struct runner *r)
{
    const struct kvm_sregs *sregs = runner_sregs(r);

    return (struct guest_view){.mem = &r->machine.mem,
        .pmems = r->machine.pmems,
        .pmem_count = r->config.pmem_count,
        .regs = {.cr0 = sregs->cr0,
            .cr3 = sregs->cr3,
            .cr4 = sregs->cr4,
            .efer = sregs->efer}};
}

static bool is_call(const struct kvm_run *run)
{
    return run->exit_reason == KVM_EXIT_IO && run->io.port == FUZZ_ABI_PORT &&
           run->io.direction == KVM_EXIT_IO_OUT &&
           (run->s.regs.regs.rax & UINT32_MAX) == FUZZ_ABI_MAGIC;
}

/* A tick: whether the run may go on. */
static bool go_on(struct runner *r, uint64_t from_ns, uint64_t deadline_ns,
    enum runner_stop *ret_stop, struct err *err)
{
    struct vcpu *vcpu = &r->machine.vcpus[0];
    uint64_t now = clock_now_ns();

    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
    if (now >= deadline_ns ||
        (r->cancel != NULL &&
            __atomic_load_n(r->cancel, __ATOMIC_RELAXED) != 0)) {
        *ret_stop = RUNNER_TIME_UP;
        return false;
    }
    if (!r->is_held || now - from_ns < RUNNER_TICK_NS)
        return true;
    r->is_held = false;
    *ret_stop = RUNNER_FAILED;
    return vcpu_timer_arm(vcpu, &r->held, err) == 0;
}

enum runner_stop runner_go(struct runner *r, uint64_t deadline_ns,
    const char **ret_text, struct err *err)
{
    static const char *const unknown = "the guest has ended";
    struct vcpu *vcpu = &r->machine.vcpus[0];
    uint64_t from_ns = clock_now_ns();
    enum runner_stop why;
    struct vcpu_stop stop = {.text = ""};

    *ret_text = unknown;
    for (;;) {
        switch (vcpu_step(vcpu, &stop)) {
        case VCPU_STEP_EXIT:
            if (is_call(vcpu->run))
                return RUNNER_CALLED;
            if (r->machine.has_ended) {
                *ret_text = r->machine.end.text;
                return RUNNER_ENDED;
            }
            break;
        case VCPU_STEP_INTERRUPTED:
            if (!go_on(r, from_ns, deadline_ns, &why, err))
                return why;
            break;
        case VCPU_STEP_STOPPED:
        default:
            if (stop.kind == VCPU_STOP_OTHER &&
                vcpu->run->exit_reason == KVM_EXIT_DEBUG)
                return RUNNER_DEBUG;
            if (stop.kind == VCPU_STOP_HOST) {
                (void)err_set(err, EIO, "%s", stop.text);
                return RUNNER_FAILED;
            }
            (void)snprintf(r->machine.end.text, sizeof(r->machine.end.text),
                "%s", stop.text);
            *ret_text = r->machine.end.text;
            return RUNNER_ENDED;
        }
    }
}
