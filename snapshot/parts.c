/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/parts.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keeps each state struct aligned for its widest field. */
#define STATE_ALIGN 16u

static int quiesce_one(struct device *dev, struct err *err)
{
    int rc = 0;

    if (dev->ops->quiesce == NULL)
        return 0;
    device_lock(dev);
    rc = dev->ops->quiesce(dev, err);
    device_unlock(dev);
    return rc;
}

static void resume_one(struct device *dev)
{
    if (dev->ops->resume == NULL)
        return;
    device_lock(dev);
    dev->ops->resume(dev);
    device_unlock(dev);
}

int parts_quiesce(const struct parts *p, struct err *err)
{
    for (uint32_t i = 0; i < p->device_count; i++) {
        int rc = quiesce_one(p->devices[i], err);

        if (rc == 0)
            continue;
        while (i-- > 0)
            resume_one(p->devices[i]);
        return rc;
    }
    return 0;
}

void parts_resume(const struct parts *p)
{
    for (uint32_t i = 0; i < p->device_count; i++)
        resume_one(p->devices[i]);
}

/* Devices without a table have nothing that a snapshot keeps. */
static size_t state_bytes(const struct device *dev)
{
    return dev->ops->state == NULL ? 0 : dev->ops->state->size;
}

void *frozen_device(const struct frozen *f, const struct parts *p, uint32_t i)
{
    size_t at = 0;

    assert(i < p->device_count);
    for (uint32_t k = 0; k < i; k++)
        at += num_align_up(state_bytes(p->devices[k]), STATE_ALIGN);
    assert(at + state_bytes(p->devices[i]) <= f->device_bytes);
    return f->devices + at;
}

int frozen_init(struct frozen *f, const struct parts *p, struct err *err)
{
    *f = (struct frozen){.vcpu_count = p->vcpu_count};
    for (uint32_t i = 0; i < p->device_count; i++)
        f->device_bytes +=
            num_align_up(state_bytes(p->devices[i]), STATE_ALIGN);
    f->devices = calloc(1, f->device_bytes + 1);
    f->vcpus = calloc(p->vcpu_count + (size_t)1, sizeof(f->vcpus[0]));
    if (f->devices == NULL || f->vcpus == NULL) {
        frozen_fini(f);
        return err_sys(err, ENOMEM, "the state of a machine");
    }
    return 0;
}

void frozen_fini(struct frozen *f)
{
    free(f->devices);
    free(f->vcpus);
    *f = (struct frozen){0};
}

int frozen_take(struct frozen *f, const struct parts *p, struct err *err)
{
    int rc = frozen_init(f, p, err);

    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < p->device_count; i++) {
        struct device *dev = p->devices[i];

        device_lock(dev);
        memcpy(frozen_device(f, p, i), dev->state, state_bytes(dev));
        device_unlock(dev);
    }
    for (uint32_t i = 0; i < p->vcpu_count && rc == 0; i++)
        rc = vcpu_state_get(
            &p->vcpus[i], p->msrs, VCPU_STATE_ALL, &f->vcpus[i], err);
    if (rc == 0)
        rc = vm_clock_get(p->vm, &f->clock, err);
    if (rc < 0)
        frozen_fini(f);
    return rc;
}

int frozen_apply_device(
    const struct frozen *f, const struct parts *p, uint32_t i, struct err *err)
{
    struct device *dev = p->devices[i];
    int rc = 0;

    device_lock(dev);
    memcpy(dev->state, frozen_device(f, p, i), state_bytes(dev));
    if (dev->ops->post_load != NULL)
        rc = dev->ops->post_load(dev, err);
    device_unlock(dev);
    return rc < 0 ? err_wrap(err, rc, "state of device %s", dev->id) : 0;
}

static int apply_vcpus(const struct frozen *f, const struct parts *p,
    const struct vm_clock *now, struct err *err)
{
    struct vcpu_state *state = malloc(sizeof(*state));
    int rc = 0;

    if (state == NULL)
        return err_sys(err, ENOMEM, "the state of a vCPU");
    for (uint32_t i = 0; i < p->vcpu_count && rc == 0; i++) {
        *state = f->vcpus[i];
        vcpu_state_rebase_tsc(state, &f->clock, now, &p->vm->kvm->features);
        rc = vcpu_state_set(&p->vcpus[i], state, VCPU_STATE_ALL, err);
    }
    free(state);
    return rc;
}

int frozen_apply(const struct frozen *f, const struct parts *p,
    enum vm_clock_policy policy, struct err *err)
{
    struct vm_clock now;
    int rc = 0;

    assert(f->vcpu_count == p->vcpu_count);
    for (uint32_t i = 0; i < p->device_count && rc == 0; i++)
        rc = frozen_apply_device(f, p, i, err);
    if (rc == 0)
        rc = vm_clock_set(p->vm, &f->clock, policy, &now, err);
    return rc == 0 ? apply_vcpus(f, p, &now, err) : rc;
}

bool frozen_differs(const struct frozen *a, const struct frozen *b,
    const struct parts *p, char *ret_text, size_t size)
{
    for (uint32_t i = 0; i < p->device_count; i++) {
        const struct device *dev = p->devices[i];
        const struct state_field *field =
            dev->ops->state == NULL
                ? NULL
                : state_differs(dev->ops->state, frozen_device(a, p, i),
                      frozen_device(b, p, i));

        if (field == NULL)
            continue;
        (void)snprintf(ret_text, size, "device %s: %s", dev->id, field->name);
        return true;
    }
    for (uint32_t i = 0; i < p->vcpu_count; i++) {
        uint32_t parts = vcpu_state_diff(&a->vcpus[i], &b->vcpus[i]);

        if (parts == 0)
            continue;
        (void)snprintf(ret_text, size, "vCPU %u: %s", i,
            vcpu_state_part_name(parts & ~(parts - 1)));
        return true;
    }
    return false;
}
