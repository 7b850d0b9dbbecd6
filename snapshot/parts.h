/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine as the snapshot engine sees it: RAM, a VM, vCPUs, devices. And
 * all of its state but RAM, held in memory.
 *
 * Thread rule: the thread that owns the machine, every vCPU paused or not yet
 * started; device locks are taken here. What is applied from a file is
 * hostile: each device checks its own part.
 */
#ifndef SNAPSHOT_PARTS_H
#define SNAPSHOT_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/core/device.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/dirty.h"
#include "vmm/hw/kvm.h"
#include "vmm/hw/vcpu.h"
#include "vmm/hw/vcpu_state.h"
#include "vmm/hw/vm_clock.h"

/* Borrowed. The order of devices is that of the machine's table. */
struct parts {
    struct gmem *mem;
    struct kvm_vm *vm;
    struct dirty *dirty; /* NULL: nothing is tracked */
    struct vcpu *vcpus;
    uint32_t vcpu_count;
    const struct vcpu_msrs *msrs; /* of this host */
    struct device *const *devices;
    uint32_t device_count;
};

/* All but RAM, at one moment. */
struct frozen {
    uint8_t *devices; /* their state structs, as frozen_device finds them */
    size_t device_bytes;
    struct vcpu_state *vcpus;
    uint32_t vcpu_count;
    struct vm_clock clock;
};

/*
 * Returns with no request of any device in flight; none starts until
 * parts_resume. On failure everything is resumed.
 */
CC_MUST_CHECK int parts_quiesce(const struct parts *p, struct err *err);
void parts_resume(const struct parts *p);

/* Takes the state of quiesced parts. */
CC_MUST_CHECK int frozen_take(
    struct frozen *f, const struct parts *p, struct err *err);

/* Room for the state of `p`, all zero: to be filled from a snapshot. */
CC_MUST_CHECK int frozen_init(
    struct frozen *f, const struct parts *p, struct err *err);

/* A zeroed one is let be. */
void frozen_fini(struct frozen *f);

/* The state struct of device `i` of the parts that `f` was made for. */
void *frozen_device(const struct frozen *f, const struct parts *p, uint32_t i);

/*
 * Gives one device its state; it stays quiesced. RAM is there already, since
 * devices look at their rings. -EINVAL and the like say what was refused.
 */
CC_MUST_CHECK int frozen_apply_device(
    const struct frozen *f, const struct parts *p, uint32_t i, struct err *err);

/*
 * Gives quiesced parts the whole state, vCPUs and clock included; the devices
 * stay quiesced. After an error the machine can only be thrown away.
 */
CC_MUST_CHECK int frozen_apply(const struct frozen *f, const struct parts *p,
    enum vm_clock_policy policy, struct err *err);

/*
 * What differs between two states of the same parts, for people and tests:
 * false if nothing does. What goes on by itself (the clocks) does not count.
 */
bool frozen_differs(const struct frozen *a, const struct frozen *b,
    const struct parts *p, char *ret_text, size_t size);

#endif
