/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/doctor_probe.h"
#include "vmm/doctor_text.h"

#define GROUP "kernel"

/* Linux 6.7; older headers lack it. */
#define UFFD_WP_ASYNC UINT64_C(0x8000)

static bool sysctl_number(const char *path, uint64_t *ret_number)
{
    char text[32];

    return doctor_probe_read(path, text, sizeof(text)) &&
           doctor_text_number(text, ret_number);
}

static void add_release(struct doctor_report *report)
{
    struct doctor_line line = {.group = GROUP,
        .name = "release",
        .value = DOCTOR_NO_VALUE,
        .cost = "a process cannot be started inside its control group",
        .cure = "use Linux 5.7 or later"};
    struct utsname name;

    if (uname(&name) < 0)
        return;
    if (doctor_text_release(name.release) < (5u << 16 | 7u))
        line.state = DOCTOR_MISSING;
    doctor_report_add(
        report, &line, "%s %s %s", name.sysname, name.release, name.machine);
}

/* A userfaultfd and how it was had; -errno of the last way tried. */
static int open_userfaultfd(const char **ret_way)
{
    const int flags = O_CLOEXEC | O_NONBLOCK;
    CC_CLEANUP(fd_closep)
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    long fd;

    if (device >= 0) {
        fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
        *ret_way = "/dev/userfaultfd";
        if (fd >= 0)
            return (int)fd;
    }
    fd = syscall(SYS_userfaultfd, flags);
    *ret_way = "system call";
    if (fd < 0) {
        fd = syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
        *ret_way = "user mode only";
    }
    return fd < 0 ? -errno : (int)fd;
}

static void add_fault_features(struct doctor_report *report, uint64_t features)
{
    const uint64_t wanted =
        UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MINOR_SHMEM;
    struct doctor_line line = {.group = GROUP,
        .name = "uffd_features",
        .state = (features & wanted) == wanted ? DOCTOR_OK : DOCTOR_MISSING,
        .value = (int64_t)(features & INT64_MAX),
        .cost = "pages cannot be served in place, or written ones not seen",
        .cure = "use Linux 5.19 or later"};

    doctor_report_add(report, &line, "%s%s%s%s%s",
        (features & UFFD_FEATURE_PAGEFAULT_FLAG_WP) != 0 ? "write-protect "
                                                         : "",
        (features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM) != 0
            ? "write-protect-shared "
            : "",
        (features & UFFD_WP_ASYNC) != 0 ? "write-protect-async " : "",
        (features & UFFD_FEATURE_MINOR_SHMEM) != 0 ? "minor " : "",
        (features & UFFD_FEATURE_MISSING_SHMEM) != 0 ? "missing" : "");
}

static void add_userfaultfd(struct doctor_report *report)
{
    struct doctor_line line = {.group = GROUP,
        .name = "userfaultfd",
        .value = DOCTOR_NO_VALUE,
        .cost = "memory of a restored guest cannot be served page by page "
                "from elsewhere; it is mapped from its file",
        .cure = "give this user /dev/userfaultfd (a udev rule), or sysctl "
                "vm.unprivileged_userfaultfd=1"};
    const char *way = "";
    CC_CLEANUP(fd_closep) int fd = open_userfaultfd(&way);
    struct uffdio_api api = {.api = UFFD_API};
    uint64_t unprivileged = 0;

    (void)sysctl_number("/proc/sys/vm/unprivileged_userfaultfd", &unprivileged);
    if (fd < 0) {
        line.state = DOCTOR_MISSING;
        doctor_report_add(report, &line, "no: %s", strerrordesc_np(-fd));
        return;
    }
    if (strcmp(way, "user mode only") == 0)
        line.state = DOCTOR_MISSING;
    doctor_report_add(report, &line, "%s (unprivileged system call: %s)", way,
        unprivileged != 0 ? "on" : "off");
    if (ioctl(fd, UFFDIO_API, &api) == 0)
        add_fault_features(report, api.features);
}

static void add_io_uring(struct doctor_report *report)
{
    struct doctor_line line = {.group = GROUP,
        .name = "io_uring",
        .value = DOCTOR_NO_VALUE,
        .cost = "disk requests are plain system calls, one after the other"};
    struct io_uring_params params;
    CC_CLEANUP(fd_closep) int fd = -1;
    uint64_t disabled = 0;
    int code;

    memset(&params, 0, sizeof(params));
    fd = (int)syscall(SYS_io_uring_setup, 1, &params);
    code = errno;
    (void)sysctl_number("/proc/sys/kernel/io_uring_disabled", &disabled);
    if (fd >= 0) {
        line.value = params.features;
        doctor_report_add(
            report, &line, "available, features 0x%x", params.features);
        return;
    }
    line.state = DOCTOR_MISSING;
    line.cure = disabled != 0 ? "sysctl kernel.io_uring_disabled=0"
                              : "use Linux 5.6 or later, outside of a "
                                "sandbox that forbids it";
    doctor_report_add(report, &line, "no: %s%s", strerrordesc_np(code),
        disabled != 0 ? " (kernel.io_uring_disabled is set)" : "");
}

static void add_landlock(struct doctor_report *report)
{
    long abi = syscall(
        SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct doctor_line line = {.group = GROUP,
        .name = "landlock",
        .state = abi > 0 ? DOCTOR_OK : DOCTOR_MISSING,
        .value = abi > 0 ? abi : 0,
        .cost = "namespaces alone keep a monitor from other files",
        .cure = "use Linux 5.13 or later with landlock in the lsm= list"};

    if (abi > 0)
        doctor_report_add(report, &line, "ABI %ld", abi);
    else
        doctor_report_add(report, &line, "no");
}

static bool has_seccomp_action(uint32_t action)
{
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

static void add_seccomp(struct doctor_report *report)
{
    bool has_kill = has_seccomp_action(SECCOMP_RET_KILL_PROCESS);
    bool has_notify = has_seccomp_action(SECCOMP_RET_USER_NOTIF);
    struct doctor_line line = {.group = GROUP,
        .name = "seccomp",
        .state = has_kill ? DOCTOR_OK : DOCTOR_MISSING,
        .value = DOCTOR_NO_VALUE,
        .cost = "a monitor that a guest took over has every system call",
        .cure = "use Linux 4.14 or later with CONFIG_SECCOMP_FILTER"};

    doctor_report_add(report, &line, "%s%s", has_kill ? "filters" : "no",
        has_notify ? ", user notification" : "");
}

enum userns_step {
    USERNS_DONE,
    USERNS_CREATE,
    USERNS_MAP,
    USERNS_INNER,
    USERNS_UNKNOWN,
};

static int write_text(const char *path, const char *text)
{
    CC_CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 ? -errno : fd_write_full(fd, text, strlen(text));
}

/* The child: makes the namespaces of a jail, says which step failed, ends. */
CC_NORETURN static void try_namespaces(uid_t uid)
{
    char map[64];

    if (unshare(CLONE_NEWUSER) < 0)
        _exit(USERNS_CREATE);
    (void)snprintf(map, sizeof(map), "0 %u 1", uid);
    if (write_text("/proc/self/uid_map", map) < 0)
        _exit(USERNS_MAP);
    if (unshare(CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWNET |
                CLONE_NEWCGROUP) < 0)
        _exit(USERNS_INNER);
    _exit(USERNS_DONE);
}

static enum userns_step run_namespace_trial(void)
{
    uid_t uid = geteuid();
    pid_t pid = fork();
    int status = 0;
    pid_t got;

    if (pid == 0)
        try_namespaces(uid);
    if (pid < 0)
        return USERNS_UNKNOWN;
    do {
        got = waitpid(pid, &status, 0);
    } while (got < 0 && errno == EINTR);
    if (got != pid || !WIFEXITED(status) ||
        WEXITSTATUS(status) >= USERNS_UNKNOWN)
        return USERNS_UNKNOWN;
    return (enum userns_step)WEXITSTATUS(status);
}

static void add_namespaces(struct doctor_report *report)
{
    static const char *const found[] = {
        [USERNS_DONE] = "user, pid, ipc, uts, cgroup and network namespaces",
        [USERNS_CREATE] = "no: a user namespace cannot be made",
        [USERNS_MAP] = "no: users cannot be mapped in a user namespace",
        [USERNS_INNER] = "no: a user namespace gives no capabilities",
        [USERNS_UNKNOWN] = "no: the process that tried it was stopped",
    };
    enum userns_step step = run_namespace_trial();
    struct doctor_line line = {.group = GROUP,
        .name = "namespaces",
        .state = step == USERNS_DONE ? DOCTOR_OK : DOCTOR_MISSING,
        .value = DOCTOR_NO_VALUE,
        .cost = "monitors are not jailed in namespaces of their own",
        .cure = "sysctl user.max_user_namespaces, "
                "kernel.unprivileged_userns_clone=1 or "
                "kernel.apparmor_restrict_unprivileged_userns=0"};

    doctor_report_add(report, &line, "%s", found[step]);
}

void doctor_probe_kernel(struct doctor_report *report)
{
    add_release(report);
    add_userfaultfd(report);
    add_io_uring(report);
    add_landlock(report);
    add_seccomp(report);
    add_namespaces(report);
}
