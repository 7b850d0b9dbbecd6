/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_irqchip [-n RUNS]
 *
 * What an interrupt controller costs a short-lived VM: the in-kernel one with
 * its PIT against the split one, with and without eight irqfds and eight
 * ioeventfds, the VM closed at once or 40 ms later. Prints JSON, in us.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench/stats.h"
#include "vmm/base/cc.h"
#include "vmm/base/clock.h"

#define RAM_BYTES (128u << 20)
#define LINES     8u
#define GSIS      24u

struct shape {
    const char *name;
    bool split;
    bool irqfds;
    bool ioeventfds;
    long settle_ms; /* between set-up and close */
};

static const struct shape shapes[] = {
    {"in_kernel", false, false, false, 0},
    {"in_kernel_settled", false, false, false, 40},
    {"split", true, false, false, 0},
    {"split_irqfd", true, true, false, 0},
    {"split_irqfd_ioeventfd", true, true, true, 0},
    {"split_irqfd_ioeventfd_settled", true, true, true, 40},
};

struct result {
    struct stats create_us; /* VM, memory, controller, one vCPU */
    struct stats bind_us;   /* irqfds and ioeventfds */
    struct stats close_us;
};

/* The ioctls of a bench either work or end it. */
static int must(int rc, const char *what)
{
    if (rc < 0) {
        perror(what);
        exit(1);
    }
    return rc;
}

static void add_controller(int vm, bool split)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {GSIS}};
    struct kvm_pit_config pit = {0};

    if (split) {
        (void)must(ioctl(vm, KVM_ENABLE_CAP, &cap), "split irqchip");
        return;
    }
    (void)must(ioctl(vm, KVM_CREATE_IRQCHIP, 0L), "irqchip");
    (void)must(ioctl(vm, KVM_CREATE_PIT2, &pit), "PIT");
}

static void add_lines(int vm, const struct shape *shape, int fds[2 * LINES])
{
    for (uint32_t i = 0; i < 2 * LINES; i++)
        fds[i] = must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
    for (uint32_t i = 0; shape->irqfds && i < LINES; i++) {
        struct kvm_irqfd irqfd = {.fd = (uint32_t)fds[i], .gsi = 16 + i};

        (void)must(ioctl(vm, KVM_IRQFD, &irqfd), "irqfd");
    }
    for (uint32_t i = 0; shape->ioeventfds && i < LINES; i++) {
        struct kvm_ioeventfd io = {.fd = fds[LINES + i],
            .addr = 0xc0000050u + 0x1000u * i,
            .len = 4,
            .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};

        (void)must(ioctl(vm, KVM_IOEVENTFD, &io), "ioeventfd");
    }
}

static void run_once(int kvm, const struct shape *shape, struct result *r)
{
    struct timespec settle = {.tv_nsec = shape->settle_ms * 1000000};
    struct kvm_userspace_memory_region slot = {.memory_size = RAM_BYTES};
    uint64_t start = clock_now_ns();
    uint64_t at;
    int fds[2 * LINES];
    int vcpu;
    int vm = must(ioctl(kvm, KVM_CREATE_VM, 0L), "VM");
    void *ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (ram == MAP_FAILED)
        (void)must(-1, "mmap");
    slot.userspace_addr = (uint64_t)(uintptr_t)ram;
    (void)must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "memory");
    add_controller(vm, shape->split);
    vcpu = must(ioctl(vm, KVM_CREATE_VCPU, 0L), "vCPU");
    at = clock_now_ns();
    stats_add(&r->create_us, (double)(at - start) / 1e3);
    add_lines(vm, shape, fds);
    stats_add(&r->bind_us, (double)(clock_now_ns() - at) / 1e3);
    (void)nanosleep(&settle, NULL);
    at = clock_now_ns();
    (void)close(vcpu);
    for (uint32_t i = 0; i < 2 * LINES; i++)
        (void)close(fds[i]);
    (void)close(vm);
    stats_add(&r->close_us, (double)(clock_now_ns() - at) / 1e3);
    (void)munmap(ram, RAM_BYTES);
}

int main(int argc, char **argv)
{
    struct timespec gap = {.tv_nsec = 20000000};
    int runs = argc == 3 && strcmp(argv[1], "-n") == 0 ? atoi(argv[2]) : 100;
    int kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");

    (void)fputs("{\"bench\": \"irqchip\"", stdout);
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        struct result r = {0};

        for (int n = 0; n < runs; n++) {
            run_once(kvm, &shapes[i], &r);
            (void)nanosleep(&gap, NULL);
        }
        (void)printf(", \"%s\": {", shapes[i].name);
        stats_print(&r.create_us, "create", "us", stdout);
        (void)fputs(", ", stdout);
        stats_print(&r.bind_us, "bind", "us", stdout);
        (void)fputs(", ", stdout);
        stats_print(&r.close_us, "close", "us", stdout);
        (void)fputs("}", stdout);
        stats_free(&r.create_us);
        stats_free(&r.bind_us);
        stats_free(&r.close_us);
    }
    (void)fputs("}\n", stdout);
    (void)close(kvm);
    return 0;
}
