/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A save that is killed before each of its system calls, or in which each of
 * them fails with ENOSPC or EIO. Afterwards the snapshots of before load whole,
 * the new one loads whole or is not there, a save that reported success has
 * one, and nothing is left once the store was cleaned.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/snap.h"
#include "snapshot/verify.h"
#include "tests/unit/support/skip.h"
#include "tests/unit/support/snapshot_rig.h"
#include "vmm/base/cc.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

#define PAGES    UINT64_C(200)
#define BYTES    (PAGES * NUM_PAGE_SIZE)
#define CLUSTERS UINT64_C(60)
/* A saver under a sanitizer takes ten times as long. */
#ifdef __SANITIZE_ADDRESS__
#define STRIDE 7u
#else
#define STRIDE 1u
#endif
#define STATUS_TRACE 78 /* of a saver that may not be traced */

enum fault { FAULT_NONE, FAULT_KILL, FAULT_ENOSPC, FAULT_EIO };

struct run {
    struct snapshot_rig rig;
    struct snapshot_id old;
    struct snapshot_id child;
    uint8_t *old_ram;
    uint8_t *child_ram;
    uint64_t old_disk[CLUSTERS];
    uint64_t child_disk[CLUSTERS];
};

static const char *const fault_names[] = {
    [FAULT_NONE] = "none",
    [FAULT_KILL] = "SIGKILL",
    [FAULT_ENOSPC] = "ENOSPC",
    [FAULT_EIO] = "EIO",
};

static void saver(struct run *run)
{
    struct snapshot_id id;
    struct err err;

    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(STATUS_TRACE);
    (void)raise(SIGSTOP);
    _exit(snapshot_rig_save(
              &run->rig, "new", &run->child, run->child_ram, &id, &err) == 0
              ? 0
              : 1);
}

/* On to the next entry to or exit from a system call; false at the end. */
static bool step(pid_t pid, int *ret_status)
{
    if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0)
        assert(errno == ESRCH);
    assert(waitpid(pid, ret_status, 0) == pid);
    return WIFSTOPPED(*ret_status);
}

/* A sanitizer's own allocator does not survive these. */
static bool is_allocation(uint64_t number)
{
#ifdef __SANITIZE_ADDRESS__
    return number == SYS_mmap || number == SYS_munmap || number == SYS_mremap ||
           number == SYS_madvise || number == SYS_mprotect || number == SYS_brk;
#else
    (void)number;
    return false;
#endif
}

static bool may_fail(uint64_t number)
{
    return number != SYS_exit_group && number != SYS_exit &&
           !is_allocation(number);
}

/* Makes the call at whose entry the saver stands return -code. */
static void fail_call(pid_t pid, int code)
{
    struct user_regs_struct regs;
    int status;

    assert(ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0);
    if (!may_fail(regs.orig_rax))
        return;
    /* A close that reports an error has closed the descriptor. */
    if (regs.orig_rax != SYS_close) {
        regs.orig_rax = ~0ull;
        assert(ptrace(PTRACE_SETREGS, pid, NULL, &regs) == 0);
    }
    assert(step(pid, &status));
    assert(ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0);
    regs.rax = 0ull - (unsigned int)code;
    assert(ptrace(PTRACE_SETREGS, pid, NULL, &regs) == 0);
}

/*
 * Runs a saver up to its system call number `at` (from 1), and what `fault`
 * says there. Its status; *ret_calls is the number of calls that it began
 * while it was watched.
 */
static int run_saver(
    struct run *run, enum fault fault, uint64_t at, uint64_t *ret_calls)
{
    uint64_t calls = 0;
    pid_t pid = fork();
    int status;

    assert(pid >= 0);
    if (pid == 0)
        saver(run);
    assert(waitpid(pid, &status, 0) == pid);
    if (!WIFSTOPPED(status))
        return status;
    while (step(pid, &status)) {
        calls++;
        if (fault != FAULT_NONE && calls == at) {
            if (fault == FAULT_KILL)
                (void)kill(pid, SIGKILL);
            else
                fail_call(pid, fault == FAULT_ENOSPC ? ENOSPC : EIO);
            (void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
            assert(waitpid(pid, &status, 0) == pid);
            break;
        }
        if (!step(pid, &status))
            break;
    }
    *ret_calls = calls;
    return status;
}

/* Whether the snapshot loads whole; it must hold all this if it does. */
static bool loads(const struct run *run, const struct snapshot_id *id,
    const uint8_t *ram, const uint64_t *disk)
{
    struct snap snap;
    struct err err;
    uint8_t *loaded;

    if (snap_open(&run->rig.store, id, &snap, &err) < 0)
        return false;
    if (verify_snap(&snap, NULL, &err) < 0) {
        snap_close(&snap);
        return false;
    }
    loaded = snapshot_rig_load(&snap);
    assert(memcmp(loaded, ram, BYTES) == 0);
    free(loaded);
    assert(snapshot_rig_disk_is(&snap, disk, CLUSTERS));
    snap_close(&snap);
    return true;
}

static size_t count_files(const struct run *run)
{
    struct dirent **entries;
    int n = scandir(run->rig.path, &entries, NULL, alphasort);

    assert(n >= 0);
    for (int i = 0; i < n; i++)
        free(entries[i]);
    free(entries);
    return (size_t)n;
}

/* What must hold whatever happened; then back to where it began. */
static void check_store(struct run *run, bool succeeded, size_t files)
{
    struct store_entry *entries;
    struct snapshot_id named;
    bool has_new = false;
    size_t count;
    struct err err;

    assert(loads(run, &run->old, run->old_ram, run->old_disk));
    assert(loads(run, &run->child, run->child_ram, run->child_disk));
    assert(store_clean(&run->rig.store, &err) >= 0);
    assert(store_list(&run->rig.store, &entries, &count, &err) == 0);
    assert(count <= 3);
    for (size_t i = 0; i < count; i++) {
        if (snapshot_id_equal(&entries[i].id, &run->old) ||
            snapshot_id_equal(&entries[i].id, &run->child))
            continue;
        has_new = loads(run, &entries[i].id, run->rig.ram, run->rig.disk);
        if (has_new)
            assert(store_find(&run->rig.store, "new", &named, &err) == 0 &&
                   snapshot_id_equal(&named, &entries[i].id));
        assert(store_remove(&run->rig.store, &entries[i].id, &err) == 0);
    }
    free(entries);
    assert(has_new || !succeeded);
    assert(store_find(&run->rig.store, "new", &named, &err) == -ENOENT);
    assert(count_files(run) == files);
}

static uint8_t *copy_ram(const struct snapshot_rig *rig)
{
    uint8_t *copy = malloc(BYTES);

    assert(copy != NULL);
    memcpy(copy, rig->ram, BYTES);
    return copy;
}

static void fill_disk(struct run *run, uint64_t seed, uint64_t step)
{
    for (uint64_t i = 0; i < CLUSTERS; i += step)
        run->rig.disk[i] = i % 7 == 0 ? 0 : seed + i;
}

static void prepare(struct run *run)
{
    struct snapshot_rig *rig = &run->rig;
    char path[] = "/dev/shm/spore-store.XXXXXX";
    struct err err;

    /* In memory, where there is such a place: hundreds of fsyncs. */
    snapshot_rig_init(rig, mkdtemp(path), PAGES);
    for (uint64_t i = 0; i < 150; i++)
        snapshot_rig_fill(rig, i, i % 10 == 0 ? 0 : i + 1);
    snapshot_rig_add_disk(rig, CLUSTERS);
    fill_disk(run, 5000, 2);
    assert(snapshot_rig_save(rig, "old", NULL, NULL, &run->old, &err) == 0);
    run->old_ram = copy_ram(rig);
    memcpy(run->old_disk, rig->disk, sizeof(run->old_disk));
    for (uint64_t i = 0; i < PAGES; i += 13)
        snapshot_rig_fill(rig, i, 1000 + i);
    fill_disk(run, 6000, 5);
    assert(snapshot_rig_save(
               rig, "child", &run->old, run->old_ram, &run->child, &err) == 0);
    run->child_ram = copy_ram(rig);
    memcpy(run->child_disk, rig->disk, sizeof(run->child_disk));
    fill_disk(run, 7000, 9);
    for (uint64_t i = 0; i < PAGES; i += 17)
        snapshot_rig_fill(rig, i, i % 4 == 0 ? 0 : 2000 + i);
    /* Pages of the first one, in another place: shared. */
    for (uint64_t i = 170; i < 178; i++)
        snapshot_rig_fill(rig, i, i - 70 + 2);
    rig->sync = true;
    rig->dedupe = 4;
}

int main(void)
{
    uint64_t failed = 0;
    uint64_t tried = 0;
    uint64_t calls = 0;
    uint64_t ignored;
    struct run run;
    size_t files;
    int status;

    log_set_level(LOG_ERR);
    prepare(&run);
    files = count_files(&run);
    status = run_saver(&run, FAULT_NONE, 0, &calls);
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_TRACE) {
        snapshot_rig_fini(&run.rig);
        return skip_all("this process may not trace its children");
    }
    assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check_store(&run, true, files);
    for (uint64_t at = 1; at <= calls; at += STRIDE) {
        for (int fault = FAULT_KILL; fault <= FAULT_EIO; fault++) {
            bool succeeded;

            status = run_saver(&run, (enum fault)fault, at, &ignored);
            succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            /* Killed at its exit it may have been the faster one. */
            if (fault != FAULT_KILL && !WIFEXITED(status)) {
                (void)printf("%s at call %llu: status %#x\n",
                    fault_names[fault], (unsigned long long)at,
                    (unsigned int)status);
                return 1;
            }
            check_store(&run, succeeded, files);
            failed += succeeded ? 0 : 1;
            tried++;
        }
    }
    (void)printf("%llu system calls, %llu faults: %llu saves failed, nothing "
                 "lost\n",
        (unsigned long long)calls, (unsigned long long)tried,
        (unsigned long long)failed);
    free(run.old_ram);
    free(run.child_ram);
    snapshot_rig_fini(&run.rig);
    return 0;
}
