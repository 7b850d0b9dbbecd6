/* SPDX-License-Identifier: Apache-2.0 */
/* More rights for the process, a weaker filter, and ways around one. */
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

/* Ordinary users change to what they are. */
static int try_setuid(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_setuid, e->number);
}

static int note_uid(struct escape *e)
{
    e->number = getuid();
    return 0;
}

static int try_setresuid(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_setresuid, -1, -1, -1);
}

static int try_setresgid(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_setresgid, -1, -1, -1);
}

static int try_setgroups(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_setgroups, 0, NULL);
}

static int try_capset(struct escape *e)
{
    struct __user_cap_header_struct header = {
        .version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}, {0}};

    return ESCAPE_CALL(e, SYS_capset, &header, data);
}

static int try_dumpable(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_prctl, PR_SET_DUMPABLE, 1L, 0L, 0L, 0L);
}

static int try_ptracer(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_prctl, PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0L, 0L, 0L);
}

static int try_prctl_mm(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_prctl, PR_SET_MM, PR_SET_MM_MAP_SIZE, e->page, 0L, 0L);
}

static int try_new_privs(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_prctl, PR_SET_NO_NEW_PRIVS, 0L, 0L, 0L, 0L);
}

static int try_unset_seccomp(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_DISABLED, 0L, 0L, 0L);
}

static int try_ambient(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0L, 0L, 0L);
}

static int try_securebits(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_prctl, PR_SET_SECUREBITS, 0L, 0L, 0L, 0L);
}

static int try_deathsig(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_prctl, PR_SET_PDEATHSIG, 0L, 0L, 0L, 0L);
}

static int try_subreaper(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_prctl, PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L);
}

static int try_prctl_tsc(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_prctl, PR_SET_TSC, PR_TSC_ENABLE, 0L, 0L, 0L);
}

static int try_dispatch(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH,
        PR_SYS_DISPATCH_OFF, 0L, 0L, 0L);
}

static int try_speculation(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_prctl, PR_SET_SPECULATION_CTRL,
        PR_SPEC_STORE_BYPASS, PR_SPEC_ENABLE, 0L, 0L);
}

/* A filter of its own, whose listener could answer for what is forbidden. */
static int try_seccomp_listener(struct escape *e)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};

    return ESCAPE_CALL(e, SYS_seccomp, SECCOMP_SET_MODE_FILTER,
        SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static int forbid_new_privs(struct escape *e)
{
    (void)e;
    return prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) < 0 ? -errno : 0;
}

static void on_sigsys(int number)
{
    (void)number;
}

/* The kill is to be one that no handler sees. */
static int catch_sigsys(struct escape *e)
{
    (void)e;
    return signal(SIGSYS, on_sigsys) == SIG_ERR ? -errno : 0;
}

static int try_after_sigsys(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static int try_arch_prctl(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_arch_prctl, ARCH_SET_GS, 0L);
}

/* getpid: 20 of the 32-bit calls, which is writev of the 64-bit ones. */
static int try_int80(struct escape *e)
{
    long rc = 20;

    escape_mark(e, SYS_getpid);
    __asm__ volatile("int $0x80"
                     : "+a"(rc)
                     :
                     : "r8", "r9", "r10", "r11", "memory");
    return (int)rc;
}

/* execve: 11 of the 32-bit calls, which is munmap of the 64-bit ones. */
static int try_int80_allowed(struct escape *e)
{
    long rc = 11;

    escape_mark(e, SYS_execve);
    __asm__ volatile("int $0x80"
                     : "+a"(rc)
                     : "b"(0L), "c"(0L), "d"(0L)
                     : "r8", "r9", "r10", "r11", "memory");
    return (int)rc;
}

static int try_x32(struct escape *e)
{
    return ESCAPE_CALL(e, 0x40000000L + SYS_getpid, 0);
}

/* A number that no kernel has: newer calls than the policy are forbidden. */
static int try_no_call(struct escape *e)
{
    return ESCAPE_CALL(e, 0x3fffL, 0);
}

static int try_modify_ldt(struct escape *e)
{
    struct user_desc desc = {.entry_number = 0, .limit = 0xfff, .seg_32bit = 1};

    return ESCAPE_CALL(e, SYS_modify_ldt, 1, &desc, sizeof(desc));
}

static int try_iopl(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_iopl, 3);
}

static int try_ioperm(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioperm, 0x80L, 1L, 1);
}

static int try_personality(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_personality, (long)READ_IMPLIES_EXEC);
}

static int try_rlimit(struct escape *e)
{
    struct rlimit limit;

    (void)e;
    limit = *(const struct rlimit *)(const void *)e->page;
    return ESCAPE_CALL(e, SYS_setrlimit, RLIMIT_NOFILE, &limit);
}

static int read_rlimit(struct escape *e)
{
    struct rlimit *limit = (struct rlimit *)(void *)e->page;

    return getrlimit(RLIMIT_NOFILE, limit) < 0 ? -errno : 0;
}

static int try_prlimit(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_prlimit64, 0, RLIMIT_NOFILE, e->page, NULL);
}

static int try_realtime(struct escape *e)
{
    struct sched_param param = {.sched_priority = 0};

    return ESCAPE_CALL(e, SYS_sched_setscheduler, 0, SCHED_BATCH, &param);
}

static int try_affinity(struct escape *e)
{
    memset(e->page, 0xff, 128);
    return ESCAPE_CALL(e, SYS_sched_setaffinity, 0, 128L, e->page);
}

static int try_nice(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_setpriority, PRIO_PROCESS, 0, 19);
}

static int try_timer(struct escape *e)
{
    struct sigevent event = {
        .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    int timer;

    return ESCAPE_CALL(e, SYS_timer_create, CLOCK_MONOTONIC, &event, &timer);
}

static int try_itimer(struct escape *e)
{
    struct itimerval never = {{0, 0}, {0, 0}};

    return ESCAPE_CALL(e, SYS_setitimer, ITIMER_REAL, &never, NULL);
}

static int try_setsid(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_setpgid, 0, 0);
}

/* The stand-in leads its session, which may not leave its group. */
static int try_umask(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_umask, 0);
}

static const struct escape_attempt attempts[] = {
    {.name = "setuid",
        .gain = "another user",
        .call = SYS_setuid,
        .go = try_setuid,
        .prepare = note_uid},
    {.name = "setresuid",
        .gain = "another user",
        .call = SYS_setresuid,
        .go = try_setresuid},
    {.name = "setresgid",
        .gain = "another group",
        .call = SYS_setresgid,
        .go = try_setresgid},
    {.name = "setgroups",
        .gain = "other groups",
        .call = SYS_setgroups,
        .go = try_setgroups,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "capset",
        .gain = "rights of root",
        .call = SYS_capset,
        .go = try_capset},
    {.name = "prctl PR_SET_DUMPABLE",
        .gain = "lets others of the same user look into it",
        .call = SYS_prctl,
        .go = try_dumpable},
    {.name = "prctl PR_SET_PTRACER",
        .gain = "lets others of the same user look into it",
        .call = SYS_prctl,
        .go = try_ptracer,
        .lacks = {{.error = -EINVAL, .why = "this kernel has no Yama"}}},
    {.name = "prctl PR_SET_MM",
        .gain = "another name and layout than it has",
        .call = SYS_prctl,
        .go = try_prctl_mm},
    {.name = "prctl PR_SET_NO_NEW_PRIVS 0, which no kernel takes",
        .gain = "set-user-id programs",
        .call = SYS_prctl,
        .go = try_new_privs,
        .outside = -EINVAL},
    {.name = "prctl PR_SET_SECCOMP 0, which no kernel takes",
        .gain = "no filter",
        .call = SYS_prctl,
        .go = try_unset_seccomp,
        .outside = -EINVAL},
    {.name = "prctl PR_CAP_AMBIENT",
        .gain = "rights that an execve keeps",
        .call = SYS_prctl,
        .go = try_ambient},
    {.name = "prctl PR_SET_SECUREBITS",
        .gain = "rights that a change of user keeps",
        .call = SYS_prctl,
        .go = try_securebits,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "prctl PR_SET_PDEATHSIG 0",
        .gain = "outlives its keeper",
        .call = SYS_prctl,
        .go = try_deathsig},
    {.name = "prctl PR_SET_CHILD_SUBREAPER",
        .gain = "children of others",
        .call = SYS_prctl,
        .go = try_subreaper},
    {.name = "prctl PR_SET_TSC",
        .gain = "a part of the kernel that it has no need of",
        .call = SYS_prctl,
        .go = try_prctl_tsc},
    {.name = "prctl PR_SET_SYSCALL_USER_DISPATCH",
        .gain = "a part of the kernel that it has no need of",
        .call = SYS_prctl,
        .go = try_dispatch},
    {.name = "prctl PR_SET_SPECULATION_CTRL",
        .gain = "speculation across the guest's border",
        .call = SYS_prctl,
        .go = try_speculation,
        .lacks = {{.error = -ENXIO, .why = "this processor needs none"},
            {.error = -EPERM, .why = "this host sets it for all"},
            {.error = -ENODEV, .why = "this kernel has none"}}},
    {.name = "seccomp with a listener",
        .gain = "a filter that answers for what is forbidden",
        .call = SYS_seccomp,
        .go = try_seccomp_listener,
        .prepare = forbid_new_privs},
    {.name = "openat with a handler of SIGSYS",
        .gain = "outlives what it must not do, and tries the next",
        .call = SYS_openat,
        .go = try_after_sigsys,
        .behind = -ENOENT,
        .prepare = catch_sigsys},
    {.name = "arch_prctl",
        .gain = "segments of its own",
        .call = SYS_arch_prctl,
        .go = try_arch_prctl},
    {.name = "int 0x80: getpid, of the 32-bit calls",
        .gain = "calls that no filter of 64-bit ones sees",
        .call = SYS_getpid,
        .go = try_int80},
    {.name = "int 0x80: execve of nothing, by the number of munmap",
        .gain = "other calls by the numbers of those that are allowed",
        .call = SYS_execve,
        .go = try_int80_allowed,
        .outside = -EFAULT},
    {.name = "getpid by its x32 number",
        .gain = "calls by numbers that a filter does not know",
        .call = 0x40000000L + SYS_getpid,
        .go = try_x32},
    {.name = "a call of no number that the kernel has",
        .gain = "calls that are newer than the policy",
        .call = 0x3fffL,
        .go = try_no_call,
        .outside = -ENOSYS},
    {.name = "modify_ldt",
        .gain = "16-bit and 32-bit code",
        .call = SYS_modify_ldt,
        .go = try_modify_ldt},
    {.name = "iopl",
        .gain = "the host's ports",
        .call = SYS_iopl,
        .go = try_iopl,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "ioperm",
        .gain = "the host's ports",
        .call = SYS_ioperm,
        .go = try_ioperm,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "personality READ_IMPLIES_EXEC",
        .gain = "code in whatever it can read",
        .call = SYS_personality,
        .go = try_personality},
    {.name = "setrlimit",
        .gain = "more than its share",
        .call = SYS_setrlimit,
        .go = try_rlimit,
        .prepare = read_rlimit},
    {.name = "prlimit64",
        .gain = "more than its share",
        .call = SYS_prlimit64,
        .go = try_prlimit,
        .prepare = read_rlimit},
    {.name = "sched_setscheduler",
        .gain = "more than its share of the processors",
        .call = SYS_sched_setscheduler,
        .go = try_realtime},
    {.name = "sched_setaffinity",
        .gain = "the processors of others",
        .call = SYS_sched_setaffinity,
        .go = try_affinity},
    {.name = "setpriority",
        .gain = "more than its share of the processors",
        .call = SYS_setpriority,
        .go = try_nice},
    {.name = "timer_create",
        .gain = "signals, and timers that nobody counts",
        .call = SYS_timer_create,
        .go = try_timer},
    {.name = "setitimer",
        .gain = "signals",
        .call = SYS_setitimer,
        .go = try_itimer},
    {.name = "setpgid of a session's leader",
        .gain = "leaves what its keeper signals",
        .call = SYS_setpgid,
        .go = try_setsid,
        .outside = -EPERM},
    {.name = "umask",
        .gain = "files for all",
        .call = SYS_umask,
        .go = try_umask},
};

const struct escape_list escape_rights = {attempts, ARRAY_SIZE(attempts)};
