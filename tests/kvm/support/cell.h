/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM of memory and vCPUs and nothing else, for tests of vmm/hw: no loop, no
 * devices but the exit port. What cannot go wrong is asserted.
 */
#ifndef TESTS_KVM_SUPPORT_CELL_H
#define TESTS_KVM_SUPPORT_CELL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/bus.h"
#include "vmm/core/gmem.h"
#include "vmm/hw/cpuid.h"
#include "vmm/hw/dirty.h"
#include "vmm/hw/exitport.h"
#include "vmm/hw/kvm.h"
#include "vmm/hw/vcpu.h"

#define CELL_VCPUS_MAX 4u

/* Where guests leave what is read from outside: MAILBOX in pvh.h. */
#define CELL_MAILBOX UINT64_C(0x40000)

struct cell_options {
    const char *guest;  /* NULL: memory stays empty, registers unset */
    uint32_t vcpus;     /* 0: 1 */
    uint64_t mem_bytes; /* 0: 16 MiB */
    const struct dirty_config *dirty; /* NULL: none */
};

struct cell {
    struct kvm kvm;
    struct kvm_vm vm;
    struct gmem mem;
    struct cpuid cpuid;
    struct bus pio;
    struct bus mmio;
    struct exitport port;
    struct dirty dirty; /* initialised if asked for */
    uint32_t vcpu_count;
    struct vcpu vcpus[CELL_VCPUS_MAX];
    int exit_status; /* of the first write to the exit port; -1: none */
    char stop[256];  /* of a vCPU that could run no further */
};

struct cell *cell_new(const struct cell_options *options);
void cell_free(struct cell *c);

void cell_start(struct cell *c);
void cell_pause(struct cell *c);
void cell_resume(struct cell *c);

uint32_t cell_peek(struct cell *c, uint64_t address);
void cell_poke(struct cell *c, uint64_t address, uint32_t value);

/* Waits until the number is another than `old`; fails if the guest ended. */
void cell_wait_change(struct cell *c, uint64_t address, uint32_t old);

/* Waits until it has moved on by `n` at least. */
void cell_wait_more(struct cell *c, uint64_t address, uint32_t n);

/* Fails with what the guest or KVM said if the guest has ended. */
void cell_assert_alive(struct cell *c);

/* All of RAM, a byte array of mem->size; `ram` of the same size. */
void cell_read_ram(struct cell *c, uint8_t *ram);
void cell_write_ram(struct cell *c, const uint8_t *ram);

#endif
