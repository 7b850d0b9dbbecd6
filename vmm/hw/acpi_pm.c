/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/acpi_pm.h"

#include <errno.h>

#define SLP_TYP_SHIFT 2
#define SLP_TYP_BITS  0x1cu
#define SLP_EN        0x20u
#define WAK_STS       0x80u

static const struct state_field acpi_pm_fields[] = {
    STATE_SCALAR(struct acpi_pm_state, control, 1),
    STATE_SCALAR(struct acpi_pm_state, status, 1),
};

static const struct state_desc acpi_pm_desc =
    STATE_DESC(struct acpi_pm_state, "acpi-pm", 1, acpi_pm_fields);

static struct acpi_pm *from_device(struct device *dev)
{
    return container_of(dev, struct acpi_pm, dev);
}

static void write_control(struct acpi_pm *pm, uint8_t value)
{
    pm->state.control = value & SLP_TYP_BITS;
    if ((value & SLP_EN) == 0)
        return;
    if (pm->state.control >> SLP_TYP_SHIFT != ACPI_PM_S5)
        pm->state.status |= WAK_STS;
    else if (pm->power_off != NULL)
        pm->power_off(pm->opaque);
}

static void acpi_pm_access(struct device *dev, struct bus_access *access)
{
    struct acpi_pm *pm = from_device(dev);
    uint8_t byte = (uint8_t)access->value;

    /* Both registers are byte-wide by the FADT that points here. */
    if (access->len != 1)
        return;
    if (!access->is_write)
        access->value = access->offset == ACPI_PM_CONTROL ? pm->state.control
                                                          : pm->state.status;
    else if (access->offset == ACPI_PM_CONTROL)
        write_control(pm, byte);
    else
        pm->state.status &= (uint8_t) ~(byte & WAK_STS); /* 1 to clear */
}

static void acpi_pm_reset(struct device *dev)
{
    from_device(dev)->state = (struct acpi_pm_state){0};
}

static int acpi_pm_post_load(struct device *dev, struct err *err)
{
    const struct acpi_pm_state *st = &from_device(dev)->state;

    if ((st->control & ~SLP_TYP_BITS) != 0 || (st->status & ~WAK_STS) != 0) {
        acpi_pm_reset(dev);
        return err_set(err, EINVAL, "acpi-pm: state has reserved bits set");
    }
    return 0;
}

static const struct device_ops acpi_pm_ops = {
    .state = &acpi_pm_desc,
    .access = acpi_pm_access,
    .reset = acpi_pm_reset,
    .post_load = acpi_pm_post_load,
};

void acpi_pm_init(
    struct acpi_pm *pm, void (*power_off)(void *opaque), void *opaque)
{
    *pm = (struct acpi_pm){.power_off = power_off, .opaque = opaque};
    device_init(&pm->dev, &acpi_pm_ops, "acpi-pm", &pm->state);
    acpi_pm_reset(&pm->dev);
}
