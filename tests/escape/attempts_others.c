/* SPDX-License-Identifier: Apache-2.0 */
/* Other processes: the keeper, and one of the same user. */
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

#define IOPRIO_BEST_EFFORT ((2 << 13) | 7)

static int try_attach(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ptrace, PTRACE_ATTACH, (long)e->victim, 0L, 0L);
}

static int try_seize(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ptrace, PTRACE_SEIZE, (long)e->victim, 0L, 0L);
}

static int try_traceme(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ptrace, PTRACE_TRACEME, 0L, 0L, 0L);
}

/* The victim is a copy of the driver, as this process is: same addresses. */
static int try_read_memory(struct escape *e)
{
    struct iovec here = {.iov_base = e->page, .iov_len = 64};
    struct iovec there = {.iov_base = e->report, .iov_len = 64};

    return ESCAPE_CALL(
        e, SYS_process_vm_readv, (long)e->victim, &here, 1L, &there, 1L, 0L);
}

static int try_write_memory(struct escape *e)
{
    struct iovec here = {.iov_base = e->page, .iov_len = 64};
    struct iovec there = {
        .iov_base = (uint8_t *)e->report + sizeof(*e->report), .iov_len = 64};

    return ESCAPE_CALL(
        e, SYS_process_vm_writev, (long)e->victim, &here, 1L, &there, 1L, 0L);
}

static int try_pidfd_open(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_pidfd_open, e->keeper, 0);
}

static int try_pidfd_getfd(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_pidfd_getfd, e->victim_fd, STDOUT_FILENO, 0);
}

static int try_pidfd_signal(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_pidfd_send_signal, e->victim_fd, SIGKILL, NULL, 0);
}

static int try_pidfd_term(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_pidfd_send_signal, e->victim_fd, SIGTERM, NULL, 0);
}

/* SO_PEERPIDFD of the socket to the keeper, which is to be none for kill. */
static int try_peer_pidfd(struct escape *e)
{
    int fd;
    socklen_t len = sizeof(fd);
    int rc =
        ESCAPE_CALL(e, SYS_getsockopt, e->socket, SOL_SOCKET, 77, &fd, &len);

    if (rc < 0)
        return rc;
    /* The keeper of an attempt without a jail is the driver itself. */
    return ESCAPE_CALL(e, SYS_pidfd_send_signal, fd, SIGURG, NULL, 0);
}

static int try_tgkill_abort(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_tgkill, e->victim, e->victim, SIGABRT);
}

static int try_tgkill_kick(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_tgkill, e->victim, e->victim, SIGRTMIN);
}

static int try_madvise(struct escape *e)
{
    struct iovec there = {.iov_base = e->report, .iov_len = ESCAPE_PAGE};

    return ESCAPE_CALL(
        e, SYS_process_madvise, e->victim_fd, &there, 1L, MADV_COLD, 0);
}

/* It is not dying. */
static int try_mrelease(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_process_mrelease, e->victim_fd, 0);
}

static int try_waitid(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_waitid, P_ALL, 0, e->page, WEXITED | WNOHANG, NULL);
}

static int try_kill(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_kill, e->victim, SIGKILL);
}

/* SIGURG, which is ignored where it is not asked for. */
static int try_kill_keeper(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_kill, e->keeper, SIGURG);
}

static int try_kill_init(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_kill, 1, 0);
}

static int try_tkill(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_tkill, e->victim, SIGKILL);
}

static int try_tgkill(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_tgkill, e->victim, e->victim, SIGKILL);
}

static int try_sigqueue(struct escape *e)
{
    siginfo_t info = {.si_signo = SIGKILL, .si_code = SI_QUEUE};

    return ESCAPE_CALL(e, SYS_rt_sigqueueinfo, e->victim, SIGKILL, &info);
}

static int try_tgsigqueue(struct escape *e)
{
    siginfo_t info = {.si_signo = SIGKILL, .si_code = SI_QUEUE};

    return ESCAPE_CALL(
        e, SYS_rt_tgsigqueueinfo, e->victim, e->victim, SIGKILL, &info);
}

static int try_kcmp(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_kcmp, e->victim, e->victim, KCMP_VM, 0L, 0L);
}

static int try_prlimit(struct escape *e)
{
    struct rlimit limit = {.rlim_cur = 0, .rlim_max = RLIM_INFINITY};

    limit.rlim_max = (rlim_t)e->number;
    return ESCAPE_CALL(
        e, SYS_prlimit64, e->victim, RLIMIT_NOFILE, &limit, NULL);
}

static int read_limit(struct escape *e)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    e->number = (long)limit.rlim_max;
    return 0;
}

static int try_priority(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_setpriority, PRIO_PROCESS, e->victim, 19);
}

static int try_affinity(struct escape *e)
{
    memset(e->page, 0xff, 128);
    return ESCAPE_CALL(e, SYS_sched_setaffinity, e->victim, 128L, e->page);
}

static int try_scheduler(struct escape *e)
{
    struct sched_param param = {.sched_priority = 0};

    return ESCAPE_CALL(
        e, SYS_sched_setscheduler, e->victim, SCHED_IDLE, &param);
}

/* The kernel's struct sched_attr, of its first version. */
struct sched_request {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t times[3];
};

static int try_sched_attr(struct escape *e)
{
    struct sched_request request = {
        .size = sizeof(request), .policy = SCHED_IDLE};

    return ESCAPE_CALL(e, SYS_sched_setattr, e->victim, &request, 0);
}

static int try_ioprio(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_ioprio_set, 1, (long)e->victim, (long)IOPRIO_BEST_EFFORT);
}

static int try_move_pages(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_move_pages, (long)e->victim, 0L, NULL, NULL, NULL, 0);
}

static int try_robust_list(struct escape *e)
{
    void *head;
    size_t size;

    return ESCAPE_CALL(e, SYS_get_robust_list, (long)e->victim, &head, &size);
}

static int try_getpgid(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_getpgid, e->victim);
}

static const struct escape_attempt attempts[] = {
    {.name = "ptrace PTRACE_ATTACH",
        .gain = "becomes another process",
        .call = SYS_ptrace,
        .go = try_attach,
        .behind = -ESRCH},
    {.name = "ptrace PTRACE_SEIZE",
        .gain = "becomes another process",
        .call = SYS_ptrace,
        .go = try_seize,
        .behind = -ESRCH},
    {.name = "ptrace PTRACE_TRACEME",
        .gain = "has another answer for its calls",
        .call = SYS_ptrace,
        .go = try_traceme},
    {.name = "process_vm_readv",
        .gain = "the secrets of other processes",
        .call = SYS_process_vm_readv,
        .go = try_read_memory,
        .behind = -ESRCH},
    {.name = "process_vm_writev",
        .gain = "becomes another process",
        .call = SYS_process_vm_writev,
        .go = try_write_memory,
        .behind = -ESRCH},
    {.name = "pidfd_open of the keeper",
        .gain = "a handle of a process",
        .call = SYS_pidfd_open,
        .go = try_pidfd_open,
        .behind = -ESRCH},
    {.name = "pidfd_getfd with a pidfd left open",
        .gain = "the descriptors of other processes",
        .call = SYS_pidfd_getfd,
        .go = try_pidfd_getfd,
        .behind = -EPERM},
    {.name = "pidfd_send_signal SIGKILL with a pidfd left open",
        .gain = "ends processes outside",
        .call = SYS_pidfd_send_signal,
        .go = try_pidfd_signal,
        .inside = {[JAIL_ROLE_MAIN] = -EINVAL}},
    {.name = "pidfd_send_signal SIGTERM with a pidfd left open",
        .gain = "signals to processes outside",
        .call = SYS_pidfd_send_signal,
        .go = try_pidfd_term,
        .behind = -EINVAL},
    {.name = "pidfd_send_signal to the keeper, found by SO_PEERPIDFD",
        .gain = "signals to its keeper",
        .call = SYS_pidfd_send_signal,
        .first = SYS_getsockopt,
        .go = try_peer_pidfd,
        .behind = -EINVAL},
    {.name = "process_madvise with a pidfd left open",
        .gain = "has other processes wait for their memory",
        .call = SYS_process_madvise,
        .go = try_madvise,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "process_mrelease of what is not dying",
        .gain = "the memory of other processes",
        .call = SYS_process_mrelease,
        .go = try_mrelease,
        .outside = -EINVAL},
    {.name = "waitid without a child",
        .gain = "learns of other processes",
        .call = SYS_waitid,
        .go = try_waitid,
        .outside = -ECHILD},
    {.name = "kill of a process outside",
        .gain = "ends other processes",
        .call = SYS_kill,
        .go = try_kill,
        .behind = -ESRCH},
    {.name = "kill of the keeper",
        .gain = "ends its keeper",
        .call = SYS_kill,
        .go = try_kill_keeper,
        .behind = -ESRCH},
    {.name = "kill of process 1",
        .gain = "signals to the host's services",
        .call = SYS_kill,
        .go = try_kill_init,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "tkill of a process outside",
        .gain = "ends other processes",
        .call = SYS_tkill,
        .go = try_tkill,
        .behind = -ESRCH},
    {.name = "tgkill of a process outside",
        .gain = "ends other processes",
        .call = SYS_tgkill,
        .go = try_tgkill,
        .behind = -ESRCH},
    {.name = "tgkill SIGABRT of a process outside",
        .gain = "ends other processes, by a signal that is allowed",
        .call = SYS_tgkill,
        .go = try_tgkill_abort,
        .inside = {[JAIL_ROLE_MAIN] = -ESRCH,
            [JAIL_ROLE_VCPU] = -ESRCH,
            [JAIL_ROLE_WORKER] = -ESRCH,
            [JAIL_ROLE_FUZZ] = -ESRCH}},
    {.name = "tgkill SIGRTMIN of a process outside",
        .gain = "ends other processes, by a signal that is allowed",
        .call = SYS_tgkill,
        .go = try_tgkill_kick,
        .inside = {[JAIL_ROLE_MAIN] = -ESRCH, [JAIL_ROLE_VCPU] = -ESRCH}},
    {.name = "rt_sigqueueinfo",
        .gain = "signals with data",
        .call = SYS_rt_sigqueueinfo,
        .go = try_sigqueue,
        .behind = -ESRCH},
    {.name = "rt_tgsigqueueinfo",
        .gain = "signals with data",
        .call = SYS_rt_tgsigqueueinfo,
        .go = try_tgsigqueue,
        .behind = -ESRCH},
    {.name = "kcmp",
        .gain = "learns of other processes",
        .call = SYS_kcmp,
        .go = try_kcmp,
        .behind = -ESRCH},
    {.name = "prlimit64 of a process outside",
        .gain = "takes descriptors from others",
        .call = SYS_prlimit64,
        .go = try_prlimit,
        .behind = -ESRCH,
        .prepare = read_limit},
    {.name = "setpriority of a process outside",
        .gain = "slows others down",
        .call = SYS_setpriority,
        .go = try_priority,
        .behind = -ESRCH},
    {.name = "sched_setaffinity of a process outside",
        .gain = "slows others down",
        .call = SYS_sched_setaffinity,
        .go = try_affinity,
        .behind = -ESRCH},
    {.name = "sched_setscheduler of a process outside",
        .gain = "slows others down",
        .call = SYS_sched_setscheduler,
        .go = try_scheduler,
        .behind = -ESRCH},
    {.name = "sched_setattr of a process outside",
        .gain = "slows others down",
        .call = SYS_sched_setattr,
        .go = try_sched_attr,
        .behind = -ESRCH},
    {.name = "ioprio_set of a process outside",
        .gain = "slows others down",
        .call = SYS_ioprio_set,
        .go = try_ioprio,
        .behind = -ESRCH},
    {.name = "move_pages of a process outside",
        .gain = "learns of the memory of others",
        .call = SYS_move_pages,
        .go = try_move_pages,
        .behind = -ESRCH},
    {.name = "get_robust_list of a process outside",
        .gain = "learns of the memory of others",
        .call = SYS_get_robust_list,
        .go = try_robust_list,
        .behind = -ESRCH},
    {.name = "getpgid of a process outside",
        .gain = "learns of other processes",
        .call = SYS_getpgid,
        .go = try_getpgid,
        .behind = -ESRCH},
};

const struct escape_list escape_others = {attempts, ARRAY_SIZE(attempts)};
