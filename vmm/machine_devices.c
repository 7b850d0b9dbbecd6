/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine_devices.h"

#include <assert.h>
#include <errno.h>

#include "vmm/hw/acpi.h"
#include "vmm/hw/mptable.h"
#include "vmm/machine_virtio.h"

/* By the byte that the agent writes to the timeline port. */
static void on_timeline(void *opaque, uint8_t phase)
{
    static const enum timings_phase phases[] = {
        TIMINGS_INIT, TIMINGS_ROOT, TIMINGS_READY};
    struct machine *m = opaque;
    struct timings *t = m->host.timings;
    uint64_t count;

    if (phase < 1 || phase > ARRAY_SIZE(phases))
        return;
    timings_mark(t, phases[phase - 1]);
    if (vcpu_stats_read(&m->emulated, &count) == 0)
        t->emulated[phases[phase - 1]] = count;
}

static void enlist(struct machine *m, struct device *dev)
{
    assert(m->device_count < MACHINE_DEVICES_MAX);
    m->devices[m->device_count++] = dev;
}

/* Ranges are constants of the layout: an overlap is our own mistake. */
static void map_pio(
    struct machine *m, uint64_t port, uint64_t ports, struct device *dev)
{
    int rc = bus_add(&m->pio, port, ports, dev);

    assert(rc == 0);
    (void)rc;
    enlist(m, dev);
}

void machine_devices_map_mmio(
    struct machine *m, uint64_t address, uint64_t len, struct device *dev)
{
    int rc = bus_add(&m->mmio, address, len, dev);

    assert(rc == 0);
    (void)rc;
    enlist(m, dev);
}

static int add_serial(struct machine *m, struct err *err)
{
    struct serial_host host = console_host(m->host.console);
    struct irq_line line;
    int rc = irqchip_line(&m->irqchip, LAYOUT_GSI_SERIAL, &line, err);

    if (rc < 0)
        return rc;
    serial_init(&m->serial, &host, line);
    map_pio(m, LAYOUT_PORT_SERIAL, SERIAL_PORTS, &m->serial.dev);
    return console_attach(m->host.console, &m->serial, err);
}

static int add_platform(
    struct machine *m, const struct machine_events *events, struct err *err)
{
    struct irq_line line;
    int rc;

    irqchip_init(&m->irqchip, &m->vm);
    machine_devices_map_mmio(
        m, LAYOUT_IOAPIC, IOAPIC_MMIO_SIZE, &m->irqchip.ioapic.dev);
    rc = add_serial(m, err);
    if (rc < 0)
        return rc;
    i8042_init(&m->i8042, events->reset, events->opaque);
    map_pio(m, LAYOUT_PORT_I8042, I8042_PORTS, &m->i8042.dev);
    rtc_init(&m->rtc, NULL, NULL);
    map_pio(m, LAYOUT_PORT_RTC, RTC_PORTS, &m->rtc.dev);
    pvpanic_init(&m->pvpanic, events->panic, events->opaque);
    map_pio(m, LAYOUT_PORT_PVPANIC, PVPANIC_PORTS, &m->pvpanic.dev);
    acpi_pm_init(&m->acpi_pm, events->power_off, events->opaque);
    map_pio(m, LAYOUT_PORT_SLEEP, ACPI_PM_PORTS, &m->acpi_pm.dev);
    rc = irqchip_line(&m->irqchip, LAYOUT_GSI_VMGENID, &line, err);
    if (rc < 0)
        return rc;
    vmgenid_init(&m->vmgenid, &m->mem, line);
    enlist(m, &m->vmgenid.dev);
    return irqchip_line(
        &m->irqchip, LAYOUT_GSI_SHUTDOWN, &m->power_button, err);
}

static void add_ports(struct machine *m, const struct machine_events *events)
{
    if (m->config->has_exit_port) {
        exitport_init(&m->exitport, events->exit, events->opaque);
        map_pio(m, LAYOUT_PORT_EXIT, EXITPORT_PORTS, &m->exitport.dev);
    }
    exitport_init(&m->timeline, on_timeline, m);
    m->timeline.dev.id = "timeline";
    map_pio(m, LAYOUT_PORT_TIMELINE, EXITPORT_PORTS, &m->timeline.dev);
}

int machine_devices_init(
    struct machine *m, const struct machine_events *events, struct err *err)
{
    int rc = add_platform(m, events, err);

    if (rc < 0)
        return rc;
    add_ports(m, events);
    return machine_virtio_init(m, events, err);
}

void machine_devices_fini(struct machine *m)
{
    machine_virtio_fini(m);
    if (m->host.console != NULL)
        console_fini(m->host.console);
    m->device_count = 0;
}

static int describe_acpi(struct machine *m, gpa_t *ret_rsdp, struct err *err)
{
    struct acpi_virtio windows[LAYOUT_VIRTIO_MAX];
    struct acpi_config config = {.vcpu_count = m->config->vcpus,
        .virtio = windows,
        .virtio_count = m->virtio_count,
        .serial = true,
        .rtc = true,
        .pvpanic = true,
        .vmgenid = true,
        .power_button = true};

    for (uint32_t i = 0; i < m->virtio_count; i++)
        windows[i] = (struct acpi_virtio){
            .base = LAYOUT_VIRTIO + i * LAYOUT_VIRTIO_STRIDE,
            .gsi = LAYOUT_GSI_VIRTIO + i};
    return acpi_build(&m->mem, &config, ret_rsdp, err);
}

static int describe_cmdline(
    struct machine *m, struct cmdline *line, struct err *err)
{
    struct mptable_config config = {.vcpu_count = m->config->vcpus,
        .gsis = UINT64_C(1) << LAYOUT_GSI_SERIAL};
    int rc = cmdline_append(line, "acpi=off", err);

    for (uint32_t i = 0; rc == 0 && i < m->virtio_count; i++) {
        config.gsis |= UINT64_C(1) << (LAYOUT_GSI_VIRTIO + i);
        rc = cmdline_append_virtio(line,
            LAYOUT_VIRTIO + i * LAYOUT_VIRTIO_STRIDE, LAYOUT_GSI_VIRTIO + i, i,
            err);
    }
    return rc < 0 ? rc : mptable_build(&m->mem, &config, err);
}

int machine_devices_describe(
    struct machine *m, struct cmdline *line, gpa_t *ret_rsdp, struct err *err)
{
    switch (m->config->discovery) {
    case CONFIG_DISCOVERY_CMDLINE:
        *ret_rsdp = gpa(0);
        return describe_cmdline(m, line, err);
    case CONFIG_DISCOVERY_ACPI:
    default:
        return describe_acpi(m, ret_rsdp, err);
    }
}
