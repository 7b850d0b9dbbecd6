/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/pvpanic.h"

#include <errno.h>

static const struct state_field pvpanic_fields[] = {
    STATE_SCALAR(struct pvpanic_state, reported, 1),
};

static const struct state_desc pvpanic_desc =
    STATE_DESC(struct pvpanic_state, "pvpanic", 1, pvpanic_fields);

static struct pvpanic *from_device(struct device *dev)
{
    return container_of(dev, struct pvpanic, dev);
}

static void pvpanic_access(struct device *dev, struct bus_access *access)
{
    struct pvpanic *pvpanic = from_device(dev);
    unsigned int fresh;

    if (!access->is_write) {
        access->value = PVPANIC_EVENTS;
        return;
    }
    fresh = (unsigned int)access->value & PVPANIC_EVENTS &
            ~(unsigned int)pvpanic->state.reported;
    pvpanic->state.reported |= (uint8_t)fresh;
    for (unsigned int bit = 1; bit <= PVPANIC_EVENTS; bit <<= 1) {
        if ((fresh & bit) != 0 && pvpanic->event != NULL)
            pvpanic->event(pvpanic->opaque, (uint8_t)bit);
    }
}

static void pvpanic_reset(struct device *dev)
{
    from_device(dev)->state = (struct pvpanic_state){0};
}

static int pvpanic_post_load(struct device *dev, struct err *err)
{
    if ((from_device(dev)->state.reported & ~PVPANIC_EVENTS) != 0) {
        pvpanic_reset(dev);
        return err_set(err, EINVAL, "pvpanic: state has unknown events");
    }
    return 0;
}

static const struct device_ops pvpanic_ops = {
    .state = &pvpanic_desc,
    .access = pvpanic_access,
    .reset = pvpanic_reset,
    .post_load = pvpanic_post_load,
};

void pvpanic_init(struct pvpanic *pvpanic,
    void (*event)(void *opaque, uint8_t event), void *opaque)
{
    *pvpanic = (struct pvpanic){.event = event, .opaque = opaque};
    device_init(&pvpanic->dev, &pvpanic_ops, "pvpanic", &pvpanic->state);
    pvpanic_reset(&pvpanic->dev);
}
