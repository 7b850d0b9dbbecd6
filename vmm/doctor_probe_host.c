/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/artifacts.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/doctor_probe.h"
#include "vmm/doctor_text.h"

#define GROUP       "host"
#define FILES       "files"
#define MOUNTS_MAX  (UINT64_C(4) << 20)
#define OPEN_FILES  1024u
#define LOCKED_MIN  (8 * NUM_MIB)
#define MEMORY_MIN  (256 * NUM_MIB)
#define THP_DIR     "/sys/kernel/mm/transparent_hugepage/"
#define HUGE_2M_DIR "/sys/kernel/mm/hugepages/hugepages-2048kB/"

bool doctor_probe_read(const char *path, char *ret_text, size_t size)
{
    CC_CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = fd_read_full(fd, ret_text, size - 1);
    if (n <= 0)
        return false;
    ret_text[n] = '\0';
    return true;
}

static void add_processor(struct doctor_report *report)
{
    struct doctor_line line = {.group = GROUP, .name = "cpu"};
    char cpuinfo[8192];
    char model[128];
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    if (!doctor_probe_read("/proc/cpuinfo", cpuinfo, sizeof(cpuinfo)) ||
        !doctor_text_field(cpuinfo, "model name", model, sizeof(model)))
        (void)snprintf(model, sizeof(model), "unknown model");
    line.value = online;
    doctor_report_add(report, &line, "%ld x %s", online, model);
}

static void add_memory(struct doctor_report *report)
{
    struct doctor_line line = {.group = GROUP,
        .name = "memory",
        .cost = "guests are killed when the host runs out of memory",
        .cure = "end other programs"};
    char meminfo[4096];
    uint64_t total;
    uint64_t available;

    if (!doctor_probe_read("/proc/meminfo", meminfo, sizeof(meminfo)) ||
        !doctor_text_meminfo(meminfo, "MemTotal", &total) ||
        !doctor_text_meminfo(meminfo, "MemAvailable", &available))
        return;
    line.state = available < MEMORY_MIN ? DOCTOR_SLOW : DOCTOR_OK;
    line.value = (int64_t)num_min(available, INT64_MAX);
    doctor_report_add(report, &line,
        "%" PRIu64 " MiB, %" PRIu64 " MiB available", total / NUM_MIB,
        available / NUM_MIB);
}

/* A setting that is one of several; "unknown" if the file is not there. */
static void read_choice(const char *path, char *ret_value, size_t size)
{
    char text[128];

    if (!doctor_probe_read(path, text, sizeof(text)) ||
        !doctor_text_choice(text, ret_value, size))
        (void)snprintf(ret_value, size, "unknown");
}

static void add_huge_pages(struct doctor_report *report)
{
    struct doctor_line line = {.group = GROUP,
        .name = "huge_pages",
        .value = DOCTOR_NO_VALUE,
        .cost = "guest memory stays in pages of 4 KiB: more page faults",
        .cure = "echo within_size > " THP_DIR "shmem_enabled"};
    char text[128];
    char anonymous[32];
    char shared[32];
    uint64_t reserved;

    read_choice(THP_DIR "enabled", anonymous, sizeof(anonymous));
    read_choice(THP_DIR "shmem_enabled", shared, sizeof(shared));
    if (!doctor_probe_read(HUGE_2M_DIR "free_hugepages", text, sizeof(text)) ||
        !doctor_text_number(text, &reserved))
        reserved = 0;
    /* Guest memory is a file in memory that nobody has advised. */
    if (strcmp(shared, "never") == 0 || strcmp(shared, "deny") == 0 ||
        strcmp(shared, "advise") == 0 || strcmp(shared, "unknown") == 0)
        line.state = DOCTOR_SLOW;
    doctor_report_add(report, &line,
        "transparent: %s, shared memory: %s; %" PRIu64
        " reserved pages of 2 MiB free",
        anonymous, shared, reserved);
}

static void add_overcommit(struct doctor_report *report)
{
    static const char *const modes[] = {"heuristic", "always", "strict"};
    struct doctor_line line = {.group = GROUP,
        .name = "overcommit",
        .cost = "the whole memory of every guest counts as used",
        .cure = "sysctl vm.overcommit_memory=0"};
    char text[32];
    uint64_t mode;

    if (!doctor_probe_read(
            "/proc/sys/vm/overcommit_memory", text, sizeof(text)) ||
        !doctor_text_number(text, &mode) || mode >= ARRAY_SIZE(modes))
        return;
    line.value = (int64_t)mode;
    line.state = mode == 2 ? DOCTOR_SLOW : DOCTOR_OK;
    doctor_report_add(report, &line, "%s", modes[mode]);
}

static void add_limit(struct doctor_report *report, struct doctor_line *line,
    __rlimit_resource_t resource, uint64_t least)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) < 0)
        return;
    line->group = GROUP;
    line->value = DOCTOR_NO_VALUE;
    if (limit.rlim_cur == RLIM_INFINITY) {
        doctor_report_add(report, line, "unlimited");
        return;
    }
    line->state = limit.rlim_cur < least ? DOCTOR_SLOW : DOCTOR_OK;
    line->value = (int64_t)num_min(limit.rlim_cur, INT64_MAX);
    doctor_report_add(report, line, "%llu", (unsigned long long)limit.rlim_cur);
}

static void add_limits(struct doctor_report *report)
{
    struct doctor_line files = {.name = "open_files",
        .cost = "fewer guests and drives at a time",
        .cure = "ulimit -n 4096"};
    struct doctor_line locked = {.name = "locked_bytes",
        .cost = "before Linux 5.12 io_uring may get no room for its rings",
        .cure = "raise memlock in /etc/security/limits.conf"};

    add_limit(report, &files, RLIMIT_NOFILE, OPEN_FILES);
    add_limit(report, &locked, RLIMIT_MEMLOCK, LOCKED_MIN);
}

/* Whether this user may make groups below the directory. */
static bool is_delegated(const char *dir)
{
    static const char *const files[] = {
        "", "/cgroup.procs", "/cgroup.subtree_control"};

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        char *path = NULL;
        bool writable;

        if (asprintf(&path, "%s%s", dir, files[i]) < 0)
            return false;
        writable = access(path, W_OK) == 0;
        free(path);
        if (!writable)
            return false;
    }
    return true;
}

/* Our own group in the v2 hierarchy and the controllers it has. */
static void look_at_v2(const struct doctor_cgroups *cgroups,
    char *ret_controllers, size_t size, bool *ret_delegated)
{
    char text[4096];
    char own[2048];
    char *dir = NULL;
    char *path = NULL;

    if (!doctor_probe_read("/proc/self/cgroup", text, sizeof(text)) ||
        !doctor_text_own_cgroup(text, own, sizeof(own)))
        return;
    if (asprintf(&dir, "%s%s", cgroups->v2_dir, own) < 0)
        return;
    *ret_delegated = is_delegated(dir);
    if (asprintf(&path, "%s/cgroup.controllers", dir) >= 0) {
        if (!doctor_probe_read(path, ret_controllers, size))
            ret_controllers[0] = '\0';
        ret_controllers[strcspn(ret_controllers, "\n")] = '\0';
        free(path);
    }
    free(dir);
}

static bool has_all(const char *controllers)
{
    return doctor_text_has_word(controllers, "cpu") &&
           doctor_text_has_word(controllers, "memory") &&
           doctor_text_has_word(controllers, "pids");
}

static void add_cgroups(struct doctor_report *report)
{
    struct doctor_line line = {.group = GROUP,
        .name = "cgroups",
        .value = DOCTOR_NO_VALUE,
        .cost = "guests get no CPU, memory and process limits of their own"};
    struct doctor_cgroups cgroups = {0};
    char controllers[128] = "";
    bool delegated = false;
    bool complete;
    uint8_t *mounts = NULL;
    size_t size;

    if (fd_read_file("/proc/self/mounts", MOUNTS_MAX, &mounts, &size, NULL) ==
        0) {
        doctor_text_cgroups((const char *)mounts, &cgroups);
        free(mounts);
    }
    if (cgroups.has_v2)
        look_at_v2(&cgroups, controllers, sizeof(controllers), &delegated);
    complete = has_all(controllers);
    /* Version 1 is used as well, but its folders are root's. */
    line.state =
        (complete && delegated) || (geteuid() == 0 && has_all(cgroups.v1))
            ? DOCTOR_OK
            : DOCTOR_MISSING;
    if (!complete)
        line.cure = cgroups.has_v1 ? "boot with cgroup_no_v1=all, so that the "
                                     "controllers are in the v2 hierarchy"
                                   : "mount cgroup2 and delegate cpu, memory "
                                     "and pids to this user";
    else
        line.cure = "start spore in a delegated group: systemd-run --user "
                    "--scope -p Delegate=yes spore ...";
    doctor_report_add(report, &line, "v2: %s%s%s%s%s",
        cgroups.has_v2 ? "" : "not mounted",
        !cgroups.has_v2          ? ""
        : controllers[0] == '\0' ? "no controllers"
                                 : controllers,
        cgroups.has_v2
            ? (delegated ? ", writable" : ", not delegated to this user")
            : "",
        cgroups.has_v1 ? "; v1: " : "", cgroups.v1);
}

static void add_device(struct doctor_report *report, const char *name,
    const char *path, const char *cost, const char *cure)
{
    struct doctor_line line = {.group = GROUP,
        .name = name,
        .value = DOCTOR_NO_VALUE,
        .cost = cost,
        .cure = cure};

    /* To open it might make the kernel load its module. */
    if (access(path, R_OK | W_OK) == 0) {
        doctor_report_add(report, &line, "%s, open to this user", path);
        return;
    }
    line.state = DOCTOR_MISSING;
    doctor_report_add(report, &line, "%s: %s", path, strerrordesc_np(errno));
}

void doctor_probe_host(struct doctor_report *report)
{
    add_processor(report);
    add_memory(report);
    add_huge_pages(report);
    add_overcommit(report);
    add_limits(report);
    add_cgroups(report);
    add_device(report, "tun", "/dev/net/tun", "no TAP devices for guests",
        "modprobe tun, and let this user open the device");
    add_device(report, "vhost_net", "/dev/vhost-net",
        "network packets pass through a thread of the monitor", NULL);
    add_device(report, "vhost_vsock", "/dev/vhost-vsock",
        "nothing: spore serves vsock itself", NULL);
}

/* Whether an executable of that name is in the search path. */
static bool find_program(const char *name, char *ret_path, size_t size)
{
    const char *dirs = getenv("PATH");

    while (dirs != NULL && *dirs != '\0') {
        int len = (int)num_min(strcspn(dirs, ":"), 4096);
        int n = snprintf(ret_path, size, "%.*s/%s", len, dirs, name);

        if (len > 0 && n > 0 && (size_t)n < size && access(ret_path, X_OK) == 0)
            return true;
        dirs += strcspn(dirs, ":");
        dirs += *dirs == ':';
    }
    return false;
}

static void add_program(struct doctor_report *report, const char *name,
    const char *program, const char *cost, const char *cure)
{
    char path[256];
    bool has_it = find_program(program, path, sizeof(path));
    struct doctor_line line = {.group = FILES,
        .name = name,
        .state = has_it ? DOCTOR_OK : DOCTOR_MISSING,
        .value = DOCTOR_NO_VALUE,
        .cost = cost,
        .cure = cure};

    doctor_report_add(
        report, &line, "%s", has_it ? path : "not in the search path");
}

static void add_artifact(struct doctor_report *report, const char *name,
    enum artifact which, const char *cost)
{
    struct doctor_line line = {
        .group = FILES, .name = name, .value = DOCTOR_NO_VALUE, .cost = cost};
    char *path = NULL;
    struct err err;

    if (artifacts_find(which, &path, &err) < 0) {
        line.state = DOCTOR_MISSING;
        doctor_report_add(report, &line, "%s", err.text);
        return;
    }
    doctor_report_add(report, &line, "%s", path);
    free(path);
}

void doctor_probe_files(struct doctor_report *report)
{
    add_artifact(report, "guest_kernel", ARTIFACT_KERNEL,
        "a kernel must be named for every guest");
    add_artifact(report, "guest_rootfs", ARTIFACT_ROOTFS,
        "a root file system must be named for every guest");
    add_program(report, "passt", "passt",
        "no network for guests without privileges",
        "install the passt package");
    add_program(report, "afl", "afl-fuzz",
        "AFL++ cannot drive the fuzzing of guests",
        "install the afl++ package");
}
