/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/jailer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/fds.h"
#include "jail/jailer_files.h"
#include "jail/privs.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define MISC_TEXT_MAX ((size_t)64 << 10)
#define OWN_ARGS      8u
#define NUMBER_SIZE   24u

struct jailer {
    const struct jailer_options *options;
    uint64_t start_us;
    uint64_t cpu_us; /* of processes before this one */
    int uffd_minor;
    int program;
    char program_path[PATH_MAX];
    const char *name; /* of the program, within its path */
    char pid_name[NAME_MAX + 8];
    char folder[PATH_MAX + 2 * NAME_MAX]; /* in errors */
    int root;
};

static int open_program(struct jailer *j, struct err *err)
{
    const char *given = j->options->exec_file;
    struct stat st;

    if (realpath(given, j->program_path) == NULL)
        return err_sys(err, errno, "Failed to canonicalize path %.256s", given);
    j->program = open(j->program_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (j->program < 0)
        return err_sys(err, errno, "Failed to open %.256s", j->program_path);
    if (fstat(j->program, &st) < 0)
        return err_sys(err, errno, "Cannot get metadata for a file: %.256s",
            j->program_path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%.256s is not a file", j->program_path);
    j->name = strrchr(j->program_path, '/') + 1;
    (void)snprintf(j->pid_name, sizeof(j->pid_name), "%s.pid", j->name);
    return 0;
}

static int open_root(struct jailer *j, struct err *err)
{
    const char *given = j->options->base;
    char base[PATH_MAX];
    char path[2 * NAME_MAX];
    CC_CLEANUP(fd_closep) int fd = -1;

    if (realpath(given, base) == NULL)
        return err_sys(err, errno, "Failed to canonicalize path %.256s", given);
    fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOTDIR)
        return err_set(err, ENOTDIR, "%.256s is not a directory", base);
    if (fd < 0)
        return err_sys(err, errno, "Failed to open directory %.256s", base);
    (void)snprintf(path, sizeof(path), "%s/%s/root", j->name, j->options->id);
    (void)snprintf(j->folder, sizeof(j->folder), "%s/%s", base, path);
    return jailer_open_folder(fd, path, j->folder, &j->root, err);
}

static int join_network(const char *path, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "Failed to open file %.256s", path);
    if (setns(fd, CLONE_NEWNET) < 0)
        return err_sys(err, errno, "Failed to join network namespace: netns");
    return 0;
}

/* With nothing to set, a group of version 2 that is there is entered as it is.
 */
static int enter_parent_cgroup(const char *parent, struct err *err)
{
    int rc = cgroup_enter_v2(parent, err);

    if (rc == -ENOENT)
        return 0;
    return rc < 0 ? err_wrap(err, rc,
                        "Failed to move process to cgroup (%.128s)", parent)
                  : 0;
}

static int enter_cgroup(const struct jailer *j, struct err *err)
{
    const struct jailer_options *o = j->options;
    struct cgroup_config config = o->cgroup;
    struct cgroup *cgroup = NULL;
    char parent[PATH_MAX];
    int rc;

    (void)snprintf(parent, sizeof(parent), "/%s",
        o->parent_cgroup != NULL ? o->parent_cgroup : j->name);
    if (config.pair_count == 0)
        return o->cgroup_version == 2 ? enter_parent_cgroup(parent, err) : 0;
    config.parent = parent;
    config.name = o->id;
    config.only_needed = true;
    rc = cgroup_open(&config, &cgroup, err);
    if (rc < 0)
        return rc;
    if (cgroup_uses_version(cgroup, 3 - o->cgroup_version))
        (void)fprintf(stderr,
            "spore-jailer: warning: cgroup version %u was asked for, and this "
            "host has it in version %u: taken\n",
            o->cgroup_version, 3 - o->cgroup_version);
    rc = cgroup_join(cgroup, true, err);
    if (rc < 0)
        (void)cgroup_remove(cgroup, NULL);
    else
        cgroup_leave(cgroup); /* it stays, as this process becomes the VM's */
    return rc;
}

static int make_private(int fd, const char *path)
{
    struct mount_attr attr = {.propagation = MS_PRIVATE};

    return (int)syscall(SYS_mount_setattr, fd, path,
        path[0] == '\0' ? AT_EMPTY_PATH | AT_RECURSIVE : 0, &attr,
        sizeof(attr));
}

/*
 * The folder becomes the root of a mount namespace with nothing else in it.
 * That costs what the kernel takes to copy the host's mounts and to drop the
 * copies: no propagation is changed but that of the host's root and of the
 * folder, which is copied (that makes it a mount) before, with what the caller
 * has mounted in it.
 */
static int enter_root(const struct jailer *j, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int tree = (int)syscall(SYS_open_tree, j->root, "",
        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);

    if (tree < 0)
        return err_sys(
            err, errno, "Failed to bind mount the jail root directory");
    if (unshare(CLONE_NEWNS) < 0)
        return err_sys(
            err, errno, "Failed to unshare into new mount namespace");
    if (make_private(tree, "") < 0 || make_private(AT_FDCWD, "/") < 0)
        return err_sys(
            err, errno, "Failed to change the propagation type to private");
    if (syscall(SYS_move_mount, tree, "", AT_FDCWD, "/",
            MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_sys(
            err, errno, "Failed to bind mount the jail root directory");
    if (fchdir(tree) < 0)
        return err_sys(err, errno, "Failed to chdir into chroot directory");
    /* The kernel's first root cannot be exchanged: then it is covered. */
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        if (umount2(".", MNT_DETACH) < 0)
            return err_sys(err, errno, "Failed to unmount the old jail root");
    } else if (errno != EINVAL) {
        return err_sys(err, errno, "Failed to pivot root");
    }
    if (chroot(".") < 0 || chdir("/") < 0)
        return err_sys(err, errno, "Failed to chdir into chroot directory");
    return 0;
}

static int furnish(struct jailer *j, struct err *err)
{
    const struct jailer_options *o = j->options;
    CC_CLEANUP(fd_closep)
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool has_random = false;
    struct statvfs vfs;
    int rc;

    if (root < 0)
        return err_sys(err, errno, "Failed to open directory /");
    if (fstatvfs(root, &vfs) == 0 && (vfs.f_flag & ST_NODEV) != 0)
        (void)fprintf(stderr,
            "spore-jailer: warning: %.256s is mounted nodev, so that the "
            "program cannot open its devices\n",
            j->folder);
    rc = jailer_make_folders(root, o->uid, o->gid, err);
    if (rc == 0)
        rc = jailer_make_devices(
            root, o->uid, o->gid, j->uffd_minor, &has_random, err);
    if (rc == 0 && !has_random)
        (void)fprintf(stderr,
            "spore-jailer: warning: cannot create /dev/urandom in the jail\n");
    if (rc < 0)
        return rc;
    fd_closep(&j->root);
    j->root = fd_steal(&root);
    return 0;
}

static uint64_t cpu_us(void)
{
    return clock_process_cpu_ns() / 1000;
}

static int execute(struct jailer *j, struct err *err)
{
    const struct jailer_options *o = j->options;
    char *const none[] = {NULL};
    char path[NAME_MAX + 2];
    char start[NUMBER_SIZE];
    char cpu[NUMBER_SIZE];
    char parent_cpu[NUMBER_SIZE];
    char id[] = "--id";
    char start_name[] = "--start-time-us";
    char cpu_name[] = "--start-time-cpu-us";
    char parent_name[] = "--parent-cpu-time-us";
    char own_id[CGROUP_FILE_MAX + 1];
    char **argv = calloc(o->extra_count + OWN_ARGS + 2, sizeof(*argv));
    size_t n = 0;
    int rc;

    if (argv == NULL)
        return err_sys(err, ENOMEM, "Failed to exec into %.64s", j->name);
    (void)snprintf(path, sizeof(path), "/%s", j->name);
    (void)snprintf(own_id, sizeof(own_id), "%s", o->id);
    (void)snprintf(
        start, sizeof(start), "%llu", (unsigned long long)j->start_us);
    (void)snprintf(cpu, sizeof(cpu), "%llu", (unsigned long long)cpu_us());
    (void)snprintf(
        parent_cpu, sizeof(parent_cpu), "%llu", (unsigned long long)j->cpu_us);
    argv[n++] = path;
    argv[n++] = id;
    argv[n++] = own_id;
    argv[n++] = start_name;
    argv[n++] = start;
    argv[n++] = cpu_name;
    argv[n++] = cpu;
    argv[n++] = parent_name;
    argv[n++] = parent_cpu;
    for (size_t i = 0; i < o->extra_count; i++)
        argv[n++] = o->extra[i];
    rc = privs_set_ids(o->uid, o->gid, err);
    /* Whoever asks for root gets what root has, as there. */
    if (rc == 0 && o->uid != 0)
        rc = privs_drop(err);
    if (rc == 0) {
        (void)execve(path, argv, none);
        rc = errno == ENOENT
                 ? err_set(err, ENOENT,
                       "Failed to exec into %.64s: its dynamic linker is not "
                       "in the "
                       "jail, so link it statically",
                       j->name)
                 : err_sys(err, errno, "Failed to exec into %.64s", j->name);
    }
    free(argv);
    return rc;
}

/*
 * What a child has to say about its failure; empty if it has started the
 * program, which closes the pipe.
 */
static int hear(int fd, struct err *err)
{
    char text[sizeof(err->text)];
    ssize_t n = fd_read_full(fd, text, sizeof(text) - 1);

    if (n <= 0)
        return (int)n;
    text[n] = '\0';
    return err_set(err, ECHILD, "%s", text);
}

/* The end of a child that did not become the program. */
CC_NORETURN static void give_up(int say, int rc, const struct err *err)
{
    if (rc < 0)
        (void)!write(say, err->text, strlen(err->text));
    _exit(rc < 0 ? 1 : 0);
}

/*
 * Forks: 0 in the child, which has *say to report by, and 1 in the parent,
 * when the child's program has started or it or its children have failed.
 */
static int fork_and_hear(int *say, struct err *err)
{
    CC_CLEANUP(fd_closep) int listen_fd = -1;
    int ends[2];
    pid_t pid;
    int rc;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(err, errno, "Failed to daemonize");
    listen_fd = ends[0];
    pid = fork();
    if (pid == 0) {
        fd_closep(say);
        *say = ends[1];
        return 0;
    }
    (void)close(ends[1]);
    if (pid < 0)
        return err_sys(err, errno, "Failed to daemonize");
    rc = hear(listen_fd, err);
    return rc < 0 ? rc : 1;
}

/* In the child of a child of this process, in a session of its own. */
static int daemonize(struct jailer *j, int null_fd, int *say, struct err *err)
{
    pid_t pid;
    int rc = fork_and_hear(say, err);

    if (rc != 0)
        return rc;
    if (setsid() < 0)
        return err_sys(err, errno, "Failed to daemonize: setsid");
    j->cpu_us += cpu_us();
    /* Who leads no session can get no terminal. */
    pid = fork();
    if (pid < 0)
        return err_sys(err, errno, "Failed to daemonize");
    if (pid > 0)
        _exit(0);
    j->cpu_us += cpu_us();
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (dup2(null_fd, fd) < 0)
            return err_sys(err, errno, "Failed to duplicate fd");
    }
    return 0;
}

/*
 * The program is the first process of a PID namespace, and begins when its
 * number, as seen from outside, is in the file.
 */
static int execute_in_pid_ns(struct jailer *j, int *say, struct err *err)
{
    CC_CLEANUP(fd_closep) int go_write = -1;
    CC_CLEANUP(fd_closep) int heard = -1;
    int go[2];
    int ends[2];
    char byte = 0;
    pid_t pid;
    int rc;

    if (pipe2(go, O_CLOEXEC) < 0)
        return err_sys(err, errno, "Failed cloning into a new child process");
    go_write = go[1];
    if (pipe2(ends, O_CLOEXEC) < 0 || unshare(CLONE_NEWPID) < 0)
        return err_sys(err, errno, "Failed cloning into a new child process");
    heard = ends[0];
    pid = fork();
    if (pid == 0) {
        fd_closep(&go_write);
        fd_closep(say);
        *say = ends[1];
        if (read(go[0], &byte, 1) != 1)
            _exit(1);
        return execute(j, err);
    }
    (void)close(go[0]);
    (void)close(ends[1]);
    if (pid < 0)
        return err_sys(err, errno, "Failed cloning into a new child process");
    rc = jailer_write_pid(j->root, j->pid_name, pid, err);
    if (rc < 0)
        return rc;
    if (write(go_write, &byte, 1) != 1)
        return err_sys(err, errno, "Failed cloning into a new child process");
    rc = hear(heard, err);
    return rc < 0 ? rc : 1;
}

/* 1 in a process that is done, where the program has started. */
static int start(struct jailer *j, int null_fd, int *say, struct err *err)
{
    int rc = 0;

    if (j->options->daemonize)
        rc = daemonize(j, null_fd, say, err);
    if (rc != 0)
        return rc;
    if (j->options->new_pid_ns)
        return execute_in_pid_ns(j, say, err);
    rc = jailer_write_pid(j->root, j->pid_name, getpid(), err);
    return rc < 0 ? rc : execute(j, err);
}

static int find_uffd(void)
{
    uint8_t *text = NULL;
    size_t size = 0;
    int minor = -ENOENT;

    if (fd_read_file("/proc/misc", MISC_TEXT_MAX, &text, &size, NULL) == 0)
        minor = jailer_find_misc((const char *)text, "userfaultfd");
    free(text);
    return minor;
}

static int prepare(struct jailer *j, int *ret_null, struct err *err)
{
    const struct jailer_options *o = j->options;
    int rc = open_program(j, err);

    if (rc == 0)
        rc = open_root(j, err);
    if (rc == 0)
        rc = jailer_copy_program(j->program, j->program_path, j->root,
            j->folder, j->name, o->uid, o->gid, err);
    if (rc == 0 && o->netns != NULL)
        rc = join_network(o->netns, err);
    if (rc == 0)
        rc = rlimits_apply(&o->limits, 0, err);
    if (rc == 0)
        rc = enter_cgroup(j, err);
    if (rc < 0)
        return rc;
    j->uffd_minor = find_uffd();
    if (o->daemonize) {
        *ret_null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (*ret_null < 0)
            return err_sys(err, errno, "Failed to open /dev/null");
    }
    rc = enter_root(j, err);
    if (rc == 0)
        rc = furnish(j, err);
    return rc;
}

int jailer_run(const struct jailer_options *options, struct err *err)
{
    struct jailer j = {.options = options,
        .start_us = clock_now_ns() / 1000,
        .program = -1,
        .root = -1};
    CC_CLEANUP(fd_closep) int null_fd = -1;
    int say = -1;
    int rc;

    if (geteuid() != 0)
        return err_set(err, EPERM,
            "spore-jailer must be started by root: it makes devices and "
            "becomes another user");
    rc = fds_close_others(NULL, 0, -1, err);
    if (rc == 0)
        rc = prepare(&j, &null_fd, err);
    j.cpu_us = cpu_us();
    if (rc == 0)
        rc = start(&j, null_fd, &say, err);
    if (say >= 0)
        give_up(say, rc, err);
    fd_closep(&j.program);
    fd_closep(&j.root);
    return rc < 0 ? rc : 0;
}
