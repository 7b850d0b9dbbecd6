/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/exitport.h"

static const struct state_field exitport_fields[] = {
    STATE_SCALAR(struct exitport_state, status, 1),
};

static const struct state_desc exitport_desc =
    STATE_DESC(struct exitport_state, "exitport", 1, exitport_fields);

static struct exitport *from_device(struct device *dev)
{
    return container_of(dev, struct exitport, dev);
}

static void exitport_access(struct device *dev, struct bus_access *access)
{
    struct exitport *port = from_device(dev);

    if (access->offset != 0)
        return;
    if (!access->is_write) {
        access->value = port->state.status;
        return;
    }
    port->state.status = (uint8_t)access->value;
    if (port->end != NULL)
        port->end(port->opaque, port->state.status);
}

static void exitport_reset(struct device *dev)
{
    from_device(dev)->state = (struct exitport_state){0};
}

static const struct device_ops exitport_ops = {
    .state = &exitport_desc,
    .access = exitport_access,
    .reset = exitport_reset,
};

void exitport_init(struct exitport *port,
    void (*end)(void *opaque, uint8_t status), void *opaque)
{
    *port = (struct exitport){.end = end, .opaque = opaque};
    device_init(&port->dev, &exitport_ops, "exitport", &port->state);
    exitport_reset(&port->dev);
}
