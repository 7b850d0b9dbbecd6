/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/machine_restore.h"

void guest_must(int rc, const struct err *err)
{
    if (rc >= 0)
        return;
    (void)fprintf(stderr, "%s: %s\n", program_invocation_short_name, err->text);
    exit(1);
}

static void on_end(void *opaque, const struct machine_end *end)
{
    (void)opaque;
    (void)fprintf(stderr, "the guest has ended: %s\n", end->text);
    exit(1);
}

static struct guest *prepare(int out_fd)
{
    struct guest *g = calloc(1, sizeof(*g));
    struct err err = {.text = "out of memory"};

    guest_must(g == NULL ? -ENOMEM : 0, &err);
    config_init(&g->config);
    guest_must(kvm_open(&g->kvm, &err), &err);
    guest_must(loop_init(&g->loop, &err), &err);
    console_init(&g->console, &g->loop, out_fd, -1);
    return g;
}

static void build(struct guest *g, const struct machine_origin *origin,
    bool is_shell, enum machine_tracking tracking)
{
    const struct machine_host host = {.kvm = &g->kvm,
        .loop = &g->loop,
        .console = &g->console,
        .timings = &g->timings,
        .origin = origin,
        .is_shell = is_shell,
        .tracking = tracking,
        .on_end = on_end,
        .opaque = g};
    struct err err;

    guest_must(config_check(&g->config, &err), &err);
    g->built_ns = clock_now_ns();
    guest_must(machine_init(&g->machine, &g->config, &host, &err), &err);
}

struct guest *guest_new(
    const char *path, uint64_t mem_bytes, enum machine_tracking tracking)
{
    struct guest *g = prepare(-1);

    g->config.has_agent = false;
    g->config.has_exit_port = true;
    g->config.kernel = strdup(path);
    g->config.boot_args = strdup("");
    g->config.mem_bytes = mem_bytes;
    g->config.vcpus = 1;
    build(g, NULL, false, tracking);
    return g;
}

struct guest *guest_restore(struct snap *snap, int out_fd)
{
    const struct machine_origin origin = {
        .snap = snap, .clock = VM_CLOCK_FOLLOW};
    struct guest *g = prepare(out_fd);
    struct err err;

    guest_must(machine_restore_config(snap, &g->config, &err), &err);
    build(g, &origin, false, MACHINE_TRACK_LATER);
    return g;
}

struct guest *guest_shell(struct snap *snap, bool is_mapped)
{
    const struct machine_origin origin = {.snap = snap};
    struct guest *g = prepare(-1);
    struct err err;

    guest_must(machine_restore_config(snap, &g->config, &err), &err);
    build(g, is_mapped ? &origin : NULL, true, MACHINE_TRACK_LATER);
    return g;
}

void guest_fill(struct guest *g, struct snap *snap)
{
    const struct machine_origin origin = {
        .snap = snap, .clock = VM_CLOCK_FOLLOW};
    struct err err;

    guest_must(machine_fill(&g->machine, &origin, &err), &err);
}

void guest_free(struct guest *g)
{
    machine_fini(&g->machine);
    console_fini(&g->console);
    loop_fini(&g->loop);
    kvm_close(&g->kvm);
    config_fini(&g->config);
    free(g);
}

static void poke(struct guest *g, uint64_t offset, uint32_t value)
{
    const struct err err = {.text = "the mailbox is not RAM"};

    guest_must(gmem_write(&g->machine.mem, gpa(GUEST_MAILBOX + offset), &value,
                   sizeof(value)),
        &err);
}

void guest_set_ring(struct guest *g, uint32_t ring)
{
    poke(g, 0, ring);
    poke(g, 4, GUEST_FIRST_PAGE);
}

void guest_set_pages(struct guest *g, uint32_t count)
{
    poke(g, 8, count);
}

void guest_run_to(struct guest *g, uint16_t port)
{
    struct vcpu *vcpu = &g->machine.vcpus[0];
    struct vcpu_stop stop;
    struct err err;

    for (;;) {
        switch (vcpu_step(vcpu, &stop)) {
        case VCPU_STEP_EXIT:
            if (vcpu->run->exit_reason == KVM_EXIT_IO &&
                vcpu->run->io.port == port)
                return;
            break;
        case VCPU_STEP_INTERRUPTED:
            break;
        case VCPU_STEP_STOPPED:
        default:
            guest_must(err_set(&err, EIO, "%s", stop.text), &err);
        }
    }
}
