/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/afl_rod.h"

#include <errno.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "jail/cell.h"
#include "vmm/base/num.h"

#define LOOK_NS 100000000L

struct afl_rod_page {
    uint32_t count; /* of rods so far; a futex */
    int32_t pid;
};

/*
 * Signals are as processes are born with them, and nothing is open. AFL++ ends
 * all of us at once, so that the parent may be gone before the tie to it.
 */
static void strip(pid_t parent)
{
    for (int i = 1; i < NSIG; i++)
        (void)signal(i, SIG_DFL);
    if (cell_tie(NULL) < 0 || getppid() != parent)
        _exit(EXIT_FAILURE);
    (void)syscall(SYS_close_range, 0, ~0u, 0);
}

static CC_NORETURN void be_rod(pid_t parent)
{
    strip(parent);
    for (;;)
        (void)pause();
}

static CC_NORETURN void watch(
    struct afl_rod_page *page, const struct worker *worker, pid_t parent)
{
    pid_t self = getpid();

    strip(parent);
    for (;;) {
        pid_t pid = fork();

        if (pid == 0)
            be_rod(self);
        if (pid < 0)
            _exit(EXIT_FAILURE);
        __atomic_store_n(&page->pid, pid, __ATOMIC_RELAXED);
        (void)__atomic_add_fetch(&page->count, 1, __ATOMIC_RELEASE);
        (void)syscall(SYS_futex, &page->count, FUTEX_WAKE, 1, NULL, NULL, 0);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        worker_cancel(worker);
    }
}

int afl_rod_start(
    struct afl_rod *rod, const struct worker *worker, struct err *err)
{
    struct afl_rod_page *page = mmap(NULL, NUM_PAGE_SIZE,
        PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t self = getpid();
    pid_t pid;

    if (page == MAP_FAILED)
        return err_sys(err, errno, "cannot share memory");
    pid = fork();
    if (pid == 0)
        watch(page, worker, self);
    if (pid < 0) {
        int rc = err_sys(err, errno, "cannot start a process");

        (void)munmap(page, NUM_PAGE_SIZE);
        return rc;
    }
    *rod = (struct afl_rod){.page = page, .watcher = pid};
    return afl_rod_wait(rod, 0, err);
}

void afl_rod_stop(struct afl_rod *rod)
{
    if (rod->page == NULL)
        return;
    (void)kill(rod->watcher, SIGKILL);
    (void)waitpid(rod->watcher, NULL, 0);
    (void)munmap(rod->page, NUM_PAGE_SIZE);
    *rod = (struct afl_rod){0};
}

pid_t afl_rod_pid(const struct afl_rod *rod, uint32_t *ret_count)
{
    *ret_count = __atomic_load_n(&rod->page->count, __ATOMIC_ACQUIRE);
    return __atomic_load_n(&rod->page->pid, __ATOMIC_RELAXED);
}

int afl_rod_wait(const struct afl_rod *rod, uint32_t count, struct err *err)
{
    const struct timespec slice = {.tv_nsec = LOOK_NS};

    while (__atomic_load_n(&rod->page->count, __ATOMIC_ACQUIRE) == count) {
        (void)syscall(
            SYS_futex, &rod->page->count, FUTEX_WAIT, count, &slice, NULL, 0);
        if (waitpid(rod->watcher, NULL, WNOHANG) != 0)
            return err_set(err, ESHUTDOWN,
                "the process is gone that AFL++ kills for a test case that "
                "takes too long");
    }
    return 0;
}
