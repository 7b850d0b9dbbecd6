/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/irqchip.h"

#include <assert.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"

static bool is_same_route(const struct kvm_route *a, const struct kvm_route *b)
{
    return a->used == b->used && a->address == b->address && a->data == b->data;
}

static void on_route(
    void *opaque, uint32_t pin, bool masked, uint64_t address, uint32_t data)
{
    struct irqchip *chip = opaque;
    struct kvm_route route = {
        .used = !masked, .address = address, .data = data};

    assert(pin < LAYOUT_GSI_COUNT);
    if (is_same_route(&route, &chip->routes[pin]))
        return;
    chip->routes[pin] = route;
    chip->routes_changed |= chip->fds[pin] >= 0;
}

/* 14 us where measured; a guest programs each pin a handful of times. */
static void on_commit(void *opaque)
{
    struct irqchip *chip = opaque;
    int rc;

    if (!chip->routes_changed)
        return;
    chip->routes_changed = false;
    rc = kvm_vm_set_routes(chip->vm, chip->routes);
    if (rc < 0) {
        chip->route_errors++;
        log_debug("irqchip", "KVM refuses the routes: %d", rc);
    }
}

void irqchip_init(struct irqchip *chip, struct kvm_vm *vm)
{
    *chip = (struct irqchip){.vm = vm};
    for (uint32_t i = 0; i < LAYOUT_GSI_COUNT; i++)
        chip->fds[i] = -1;
    ioapic_init(&chip->ioapic, on_route, on_commit, chip);
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
