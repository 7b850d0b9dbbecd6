/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kvm/support/cell.h"

#include <stdarg.h>
#include <setjmp.h>

#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/hw/boot.h"

#define MEM_DEFAULT (16 * NUM_MIB)

/* Far beyond what any guest takes: a hang is to end as a failure. */
#define HANG_NS (60 * CLOCK_NS_PER_S)

static void on_exit_port(void *opaque, uint8_t status)
{
    struct cell *c = opaque;
    int none = -1;

    (void)__atomic_compare_exchange_n(&c->exit_status, &none, (int)status,
        false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

static void on_stop(void *opaque, const struct vcpu_stop *stop)
{
    struct cell *c = opaque;

    (void)snprintf(c->stop, sizeof(c->stop), "%s", stop->text);
    on_exit_port(c, UINT8_MAX);
}

static void load(struct cell *c, const char *guest, struct boot_entry *entry)
{
    const char *folder = getenv("SPORE_GUESTS");
    struct boot_config boot = {.kernel = {.kind = IMAGE_PATH}};
    char path[512];
    struct err err;

    if (folder == NULL)
        fail_msg("SPORE_GUESTS is not set");
    (void)snprintf(path, sizeof(path), "%s/%s.elf", folder, guest);
    boot.kernel.name = path;
    if (boot_load(&c->mem, &boot, entry, &err) < 0)
        fail_msg("%s", err.text);
}

static void add_vcpus(struct cell *c, uint32_t count, bool has_dirty)
{
    struct err err;

    for (uint32_t i = 0; i < count; i++) {
        struct vcpu_config config = {.id = i,
            .vcpus = count,
            .pio = &c->pio,
            .mmio = &c->mmio,
            .dirty = has_dirty ? &c->dirty : NULL,
            .on_stop = on_stop,
            .opaque = c};

        if (vcpu_init(&c->vcpus[i], &c->vm, &c->cpuid, &config, &err) < 0)
            fail_msg("%s", err.text);
        c->vcpu_count = i + 1;
    }
}

struct cell *cell_new(const struct cell_options *options)
{
    struct cell *c = calloc(1, sizeof(*c));
    uint64_t bytes = options->mem_bytes == 0 ? MEM_DEFAULT : options->mem_bytes;
    uint32_t vcpus = options->vcpus == 0 ? 1 : options->vcpus;
    struct boot_entry entry;
    struct err err;

    assert_non_null(c);
    assert_true(vcpus <= CELL_VCPUS_MAX);
    c->exit_status = -1;
    bus_init(&c->pio);
    bus_init(&c->mmio);
    exitport_init(&c->port, on_exit_port, c);
    assert_int_equal(
        bus_add(&c->pio, LAYOUT_PORT_EXIT, EXITPORT_PORTS, &c->port.dev), 0);
    if (kvm_open(&c->kvm, &err) < 0 || gmem_init(&c->mem, bytes, &err) < 0 ||
        kvm_vm_init(&c->vm, &c->kvm, &err) < 0 ||
        cpuid_init(&c->cpuid, &c->kvm, &err) < 0)
        fail_msg("%s", err.text);
    if (options->dirty != NULL &&
        dirty_init(&c->dirty, &c->vm, &c->mem, options->dirty, &err) < 0)
        fail_msg("%s", err.text);
    if (kvm_vm_add_memory(&c->vm, &c->mem, &err) < 0 ||
        kvm_vm_add_irqchip(&c->vm, &err) < 0)
        fail_msg("%s", err.text);
    if (options->guest != NULL)
        load(c, options->guest, &entry);
    add_vcpus(c, vcpus, options->dirty != NULL);
    if (options->guest != NULL &&
        vcpu_set_boot_state(&c->vcpus[0], &entry, &err) < 0)
        fail_msg("%s", err.text);
    return c;
}

void cell_free(struct cell *c)
{
    for (uint32_t i = 0; i < c->vcpu_count; i++)
        vcpu_request(&c->vcpus[i], VCPU_QUIT);
    for (uint32_t i = 0; i < c->vcpu_count; i++)
        vcpu_fini(&c->vcpus[i]);
    dirty_fini(&c->dirty);
    kvm_vm_fini(&c->vm);
    cpuid_fini(&c->cpuid);
    gmem_fini(&c->mem);
    kvm_close(&c->kvm);
    free(c);
}

void cell_start(struct cell *c)
{
    struct err err;

    if (vcpu_install_kick(&err) < 0)
        fail_msg("%s", err.text);
    for (uint32_t i = 0; i < c->vcpu_count; i++) {
        if (vcpu_start(&c->vcpus[i], &err) < 0)
            fail_msg("%s", err.text);
    }
}

static void request(struct cell *c, enum vcpu_request what)
{
    for (uint32_t i = 0; i < c->vcpu_count; i++)
        vcpu_request(&c->vcpus[i], what);
    for (uint32_t i = 0; i < c->vcpu_count; i++)
        vcpu_wait(&c->vcpus[i]);
}

void cell_pause(struct cell *c)
{
    request(c, VCPU_PAUSE);
}

void cell_resume(struct cell *c)
{
    request(c, VCPU_RUN);
}

uint32_t cell_peek(struct cell *c, uint64_t address)
{
    uint32_t value = 0;

    assert_int_equal(
        gmem_read(&c->mem, gpa(address), &value, sizeof(value)), 0);
    return value;
}

void cell_poke(struct cell *c, uint64_t address, uint32_t value)
{
    assert_int_equal(
        gmem_write(&c->mem, gpa(address), &value, sizeof(value)), 0);
}

void cell_assert_alive(struct cell *c)
{
    int status = __atomic_load_n(&c->exit_status, __ATOMIC_ACQUIRE);

    if (status == -1)
        return;
    fail_msg("the guest ended with %d %s", status, c->stop);
}

void cell_wait_change(struct cell *c, uint64_t address, uint32_t old)
{
    uint64_t deadline = clock_now_ns() + HANG_NS;

    while (cell_peek(c, address) == old) {
        cell_assert_alive(c);
        if (clock_now_ns() > deadline)
            fail_msg("0x%llx stays %u", (unsigned long long)address, old);
        (void)sched_yield();
    }
}

void cell_wait_more(struct cell *c, uint64_t address, uint32_t n)
{
    uint32_t from = cell_peek(c, address);
    uint32_t at = from;

    while (at - from < n) {
        cell_wait_change(c, address, at);
        at = cell_peek(c, address);
    }
}

void cell_read_ram(struct cell *c, uint8_t *ram)
{
    for (unsigned int i = 0; i < c->mem.region_count; i++)
        assert_int_equal(
            gmem_read(&c->mem, c->mem.regions[i].start,
                ram + c->mem.regions[i].offset, c->mem.regions[i].size),
            0);
}

void cell_write_ram(struct cell *c, const uint8_t *ram)
{
    for (unsigned int i = 0; i < c->mem.region_count; i++)
        assert_int_equal(
            gmem_write(&c->mem, c->mem.regions[i].start,
                ram + c->mem.regions[i].offset, c->mem.regions[i].size),
            0);
}
