/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine: guest memory, interrupt controller, devices, vCPUs and the guest
 * loaded into them, built from one description.
 *
 * Owns all parts. The device table is explicit and in one order, which is the
 * order of sections in a snapshot.
 *
 * Thread rule: the owner's thread, which also runs the loop; vCPU threads
 * reach it only through the devices' callbacks, which end the machine. The
 * first end wins, stops every vCPU, and is told to the owner once, on the
 * loop.
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/balloon.h"
#include "virtio/rng.h"
#include "virtio/vconsole.h"
#include "snapshot/id.h"
#include "snapshot/parts.h"
#include "virtio/vsock.h"
#include "virtio/vsock_uds.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/console.h"
#include "vmm/core/bus.h"
#include "vmm/core/gmem.h"
#include "vmm/core/loop.h"
#include "vmm/core/uring.h"
#include "vmm/hw/acpi_pm.h"
#include "vmm/hw/cpuid.h"
#include "vmm/hw/dirty.h"
#include "vmm/hw/exitport.h"
#include "vmm/hw/i8042.h"
#include "vmm/hw/image.h"
#include "vmm/hw/irqchip.h"
#include "vmm/hw/kvm.h"
#include "vmm/hw/pvpanic.h"
#include "vmm/hw/rtc.h"
#include "vmm/hw/serial.h"
#include "vmm/hw/vcpu.h"
#include "vmm/hw/vcpu_stats.h"
#include "vmm/hw/vmgenid.h"
#include "vmm/machine_describe.h"
#include "vmm/machine_drive.h"
#include "vmm/machine_net.h"
#include "vmm/machine_pmem.h"
#include "vmm/mmds.h"
#include "vmm/outside.h"
#include "vmm/timings.h"

#define MACHINE_DEVICES_MAX                                                    \
    (16u + CONFIG_DRIVES_MAX + CONFIG_PMEMS_MAX + CONFIG_NETS_MAX)

enum machine_end_kind {
    MACHINE_POWERED_OFF, /* ACPI S5 */
    MACHINE_RESET,       /* the guest pulsed the reset line */
    MACHINE_PANICKED,    /* the guest's kernel said so through pvpanic */
    MACHINE_EXITED,      /* exit port: see status */
    MACHINE_FAULTED,     /* a vCPU can run no further: see text */
    MACHINE_KILLED,      /* machine_kill */
};

struct machine_end {
    enum machine_end_kind kind;
    uint8_t status; /* MACHINE_EXITED */
    char text[256]; /* one line for people */
};

struct machine_origin;

/* How writes to RAM are followed, for diffs and resets. */
enum machine_tracking {
    MACHINE_TRACK_LATER, /* from the first save of a running machine on */
    MACHINE_TRACK,       /* from the start */
    MACHINE_TRACK_RING,  /* with this method and no other */
    MACHINE_TRACK_BITMAP,
};

/* What the owner of a machine gives it; borrowed. */
struct machine_host {
    const struct kvm *kvm;
    struct loop *loop;
    struct console *console;
    struct console *vconsole; /* of the virtio console, or NULL: dropped */
    struct timings *timings;
    const char *kernel_path; /* where config.kernel is NULL */
    /* Of a machine that boots, behind that of its configuration. */
    struct image_source initrd;          /* `name` NULL: none */
    const struct machine_origin *origin; /* NULL: the machine boots */
    const char *cpu_brand; /* cpuid_set_brand for one that boots, or NULL */
    /*
     * It has no guest before machine_fill (vmm/machine_restore.h); the memory
     * is that of `origin` already if there is one.
     */
    bool is_shell;
    enum machine_tracking tracking;
    const struct outside *outside; /* NULL: there is no jail */
    bool filters_vcpus; /* but vCPUs are held to their system calls */
    struct mmds *mmds;  /* what its guest may ask for; NULL: nothing */
    void (*on_end)(void *opaque, const struct machine_end *end);
    /* Guest connections to the monitor's own ports; NULL: none. */
    vsock_accept_fn *accept;
    void *opaque;
};

struct machine {
    struct machine_host host;
    const struct config *config; /* borrowed */
    struct gmem mem;
    struct kvm_vm vm;
    struct irqchip irqchip;
    struct bus pio;
    struct bus mmio;

    struct serial serial;
    struct i8042 i8042;
    struct rtc rtc;
    struct pvpanic pvpanic;
    struct acpi_pm acpi_pm;
    struct vmgenid vmgenid;
    struct exitport exitport;
    struct exitport timeline;
    struct machine_drive *drives[CONFIG_DRIVES_MAX];
    struct machine_pmem *pmems[CONFIG_PMEMS_MAX];
    struct vsock *vsock;
    struct vsock_uds *vsock_uds; /* NULL: no socket on the host */
    struct machine_net *nets[CONFIG_NETS_MAX];
    struct rng *rng; /* NULL, as the next two, if not asked for */
    struct balloon *balloon;
    struct vconsole *vconsole;
    struct uring *uring; /* of all files; NULL until one wants it */
    uint32_t virtio_count;
    struct irq_line power_button;

    struct device *devices[MACHINE_DEVICES_MAX];
    uint32_t device_count;

    struct dirty dirty;
    /*
     * Pages written since the snapshot `base`, as far as harvested; no bits
     * and a zero base before the first save of a machine that booted.
     */
    struct bitmap changed;
    struct snapshot_id base;
    struct vcpu_msrs *msrs; /* of this host; made when first needed */
    struct machine_description description; /* vmm/machine_describe.h */

    struct cpuid cpuid;
    struct vcpu *vcpus;
    uint32_t vcpu_count; /* made so far */
    /* Of one that is timed (timings.h) and has but one vCPU. */
    struct vcpu_stats emulated;

    pthread_mutex_t end_lock; /* protects the next two */
    bool has_ended;
    struct machine_end end;
    struct loop_call end_call;
    bool is_restored;          /* devices wait for machine_start */
    struct snapshot_id mapped; /* a shell's memory; zero: none */
};

/*
 * Builds the machine and loads the guest, or what its origin has; no vCPU
 * runs yet. `config` has
 * passed config_check and, like what `host` names, outlives the machine.
 */
CC_MUST_CHECK int machine_init(struct machine *m, const struct config *config,
    const struct machine_host *host, struct err *err);

/* Stops the vCPUs and frees all; fine on a zeroed or half-made machine. */
void machine_fini(struct machine *m);

CC_MUST_CHECK int machine_start(struct machine *m, struct err *err);

/*
 * Returns when no vCPU is in the guest, its I/O instructions completed. A
 * machine that has ended stays so.
 */
void machine_pause(struct machine *m);
void machine_resume(struct machine *m);

/* Ends the machine at once, whatever the guest is doing. */
void machine_kill(struct machine *m);

/*
 * For an owner that has put a machine which ended back to where it had not,
 * and steps its vCPUs itself: *on_end is not called for that end.
 */
void machine_revive(struct machine *m);

/* The machine as the snapshot engine sees it; good while it exists. */
struct parts machine_parts(struct machine *m);

/*
 * What parts need besides for state to be taken: the host's list of
 * registers, some 30 system calls on a vCPU the first time. No vCPU runs.
 */
CC_MUST_CHECK int machine_prepare_parts(struct machine *m, struct err *err);

/* Presses the power button: an orderly end, if the guest listens. */
void machine_power_button(struct machine *m);

#endif
