/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM's cgroup costs: making and removing it, having a process in it by
 * each of the ways there are, and making a KVM VM inside beside outside. Works
 * below /spore-bench, with root's rights. Argument: the number of rounds, 200.
 */
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/stats.h"
#include "jail/cgroup.h"
#include "vmm/base/clock.h"
#include "vmm/base/num.h"
#include "vmm/hw/kvm.h"

#define ROUNDS_MAX 10000u

enum figure {
    FIGURE_OPEN,
    FIGURE_JOIN,
    FIGURE_ADD,
    FIGURE_REMOVE,
    FIGURE_FORK,
    FIGURE_FORK_INTO,
    FIGURE_VM_OUTSIDE,
    FIGURE_VM_INSIDE,
    FIGURE_ADD_WITH_VM,
    FIGURES,
};

static const char *const names[FIGURES] = {"open", "join_by_itself",
    "add_by_pid", "remove", "fork", "fork_into_v2", "vm_outside", "vm_inside",
    "add_with_vm_by_pid"};

enum way { WAY_OUTSIDE, WAY_JOIN, WAY_ADD, WAY_ADD_LATE };

/* Written by the child, which is gone before it is read. */
struct shared {
    uint64_t join_ns;
    uint64_t vm_ns;
};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "bench_cgroup: %s\n", what);
    exit(1);
}

static void must_err(int rc, const struct err *err)
{
    must(rc == 0, err->text);
}

static struct cgroup *open_one(struct stats *stats)
{
    struct cgroup_config config = {.parent = "/spore-bench",
        .name = "vm",
        .memory_max = 256 * NUM_MIB,
        .pids_max = 64,
        .cpu_quota_us = 100000,
        .cpu_period_us = 100000};
    uint64_t start = clock_now_ns();
    struct cgroup *cgroup = NULL;
    struct err err;

    must_err(cgroup_open(&config, &cgroup, &err), &err);
    stats_add(stats, (double)(clock_now_ns() - start) / 1e3);
    return cgroup;
}

static void make_vm(struct shared *shared)
{
    uint64_t start;
    struct kvm kvm;
    struct kvm_vm vm;
    struct err err;

    must_err(kvm_open(&kvm, &err), &err);
    start = clock_now_ns();
    must_err(kvm_vm_init(&vm, &kvm, &err), &err);
    shared->vm_ns = clock_now_ns() - start;
}

/* The child: says on `ready` that it stands, and ends when `go` is closed. */
static void be_monitor(const struct cgroup *cgroup, enum way way,
    struct shared *shared, int ready, int go)
{
    uint64_t start = clock_now_ns();
    struct err err;
    char byte = 0;

    if (way == WAY_JOIN) {
        must_err(cgroup_join(cgroup, false, &err), &err);
        shared->join_ns = clock_now_ns() - start;
    }
    if (way != WAY_ADD)
        make_vm(shared);
    must(write(ready, &byte, 1) == 1, "pipe");
    must(read(go, &byte, 1) == 1, "pipe");
    if (way == WAY_ADD)
        make_vm(shared);
    _exit(0);
}

/*
 * Who moves others has all forks of the host wait for a grace period, unless
 * somebody did so a moment ago, which must not be the round before.
 */
static void pause_a_while(void)
{
    struct timespec gap = {.tv_nsec = 50000000};

    (void)nanosleep(&gap, NULL);
}

static void run_one(struct stats *stats, enum way way, struct shared *shared)
{
    struct cgroup *cgroup = open_one(&stats[FIGURE_OPEN]);
    uint64_t start;
    struct err err;
    int ready[2];
    int go[2];
    char byte = 0;
    pid_t pid;

    pause_a_while();
    must(pipe(ready) == 0 && pipe(go) == 0, "pipe");
    start = clock_now_ns();
    pid = fork();
    must(pid >= 0, "fork");
    if (pid == 0)
        be_monitor(cgroup, way, shared, ready[1], go[0]);
    stats_add(&stats[FIGURE_FORK], (double)(clock_now_ns() - start) / 1e3);
    must(read(ready[0], &byte, 1) == 1, "the child failed");
    if (way == WAY_ADD || way == WAY_ADD_LATE) {
        start = clock_now_ns();
        must_err(cgroup_add(cgroup, pid, &err), &err);
        stats_add(&stats[way == WAY_ADD ? FIGURE_ADD : FIGURE_ADD_WITH_VM],
            (double)(clock_now_ns() - start) / 1e3);
    }
    must(write(go[1], &byte, 1) == 1, "pipe");
    must(waitpid(pid, NULL, 0) == pid, "wait");
    if (way == WAY_JOIN)
        stats_add(&stats[FIGURE_JOIN], (double)shared->join_ns / 1e3);
    if (way == WAY_OUTSIDE)
        stats_add(&stats[FIGURE_VM_OUTSIDE], (double)shared->vm_ns / 1e3);
    if (way == WAY_JOIN || way == WAY_ADD)
        stats_add(&stats[FIGURE_VM_INSIDE], (double)shared->vm_ns / 1e3);
    for (size_t i = 0; i < 2; i++) {
        (void)close(ready[i]);
        (void)close(go[i]);
    }
    start = clock_now_ns();
    must_err(cgroup_remove(cgroup, &err), &err);
    stats_add(&stats[FIGURE_REMOVE], (double)(clock_now_ns() - start) / 1e3);
}

static void fork_into(struct stats *stats)
{
    struct cgroup *cgroup = open_one(&stats[FIGURE_OPEN]);
    struct clone_args args = {.exit_signal = SIGCHLD};
    uint64_t start = clock_now_ns();
    struct err err;
    long pid;

    if (cgroup_clone_fd(cgroup) >= 0) {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = (unsigned int)cgroup_clone_fd(cgroup);
        pid = syscall(SYS_clone3, &args, sizeof(args));
        must(pid >= 0, "clone3");
        if (pid == 0)
            _exit(0);
        stats_add(
            &stats[FIGURE_FORK_INTO], (double)(clock_now_ns() - start) / 1e3);
        must(waitpid((pid_t)pid, NULL, 0) == (pid_t)pid, "wait");
    }
    must_err(cgroup_remove(cgroup, &err), &err);
}

int main(int argc, char **argv)
{
    static struct stats stats[FIGURES];
    struct shared *shared = mmap(NULL, NUM_PAGE_SIZE, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 200;

    must(shared != MAP_FAILED, "memory");
    must(rounds > 0 && rounds <= ROUNDS_MAX, "rounds: 1 to 10000");
    for (unsigned long i = 0; i < rounds; i++) {
        run_one(stats, WAY_OUTSIDE, shared);
        run_one(stats, WAY_JOIN, shared);
        run_one(stats, WAY_ADD, shared);
        run_one(stats, WAY_ADD_LATE, shared);
        fork_into(stats);
    }
    (void)fputs("{\"bench\": \"cgroup\"", stdout);
    for (size_t i = 0; i < FIGURES; i++) {
        (void)fputs(", ", stdout);
        stats_print(&stats[i], names[i], "us", stdout);
        stats_free(&stats[i]);
    }
    (void)fputs("}\n", stdout);
    return 0;
}
