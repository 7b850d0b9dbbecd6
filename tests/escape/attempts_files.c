/* SPDX-License-Identifier: Apache-2.0 */
/* The host's files by their names. */
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

#define HOST_FILE "/etc/passwd"

/* The jail's limit of open files. */
#define FDS_SEARCHED 2048

static int try_open(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_open, HOST_FILE, O_RDONLY);
}

static int try_openat(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_openat, AT_FDCWD, HOST_FILE, O_RDONLY);
}

static int try_openat2(struct escape *e)
{
    struct open_how how = {.flags = O_RDONLY};

    return ESCAPE_CALL(e, SYS_openat2, AT_FDCWD, HOST_FILE, &how, sizeof(how));
}

static int try_o_path(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY);
}

static int try_open_proc(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_openat, AT_FDCWD, "/proc/self/environ", O_RDONLY);
}

static int try_open_sys(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_openat, AT_FDCWD, "/sys/kernel/mm/ksm/run", O_RDONLY);
}

static int try_open_kmsg(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_openat, AT_FDCWD, "/dev/kmsg", O_RDONLY | O_NONBLOCK);
}

/* The folder stays open behind the jail: the way out of a chroot. */
static int leave_folder(struct escape *e)
{
    e->fds[0] = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return e->fds[0] < 0 ? -errno : 0;
}

static int try_open_above(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_openat, e->fds[0], "../../etc/passwd", O_RDONLY);
}

static int try_list_folder(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_getdents64, e->fds[0], e->page, ESCAPE_PAGE);
}

static int try_fchdir(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fchdir, e->fds[0]);
}

/* A descriptor for reading becomes one for writing. */
static int leave_read_only(struct escape *e)
{
    int fd = open(e->path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return -errno;
    e->fds[0] = fd;
    (void)snprintf(e->path, sizeof(e->path), "/proc/self/fd/%d", fd);
    return 0;
}

static int try_open_again(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_openat, AT_FDCWD, e->path, O_RDWR);
}

/* One that the monitor was started with: the jail is to close it. */
static int try_read_leak(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_read, e->leak, e->page, 64);
}

static int try_creat(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_creat, e->path, 0600);
}

static int try_tmpfile(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_openat, AT_FDCWD, e->dir, O_TMPFILE | O_RDWR, 0600);
}

static int try_mkdir(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_mkdirat, AT_FDCWD, e->path, 0700);
}

static int try_symlink(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_symlinkat, "/", AT_FDCWD, e->path);
}

static int try_mknod_fifo(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_mknodat, AT_FDCWD, e->path, S_IFIFO | 0600, 0);
}

/* The memory device: 1, 1. */
static int try_mknod_device(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_mknodat, AT_FDCWD, e->path, S_IFCHR | 0600, 0x101);
}

/* A file of the host at `path`. */
static int make_file(struct escape *e)
{
    int fd = open(e->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return -errno;
    (void)close(fd);
    return 0;
}

/* The second name of that. */
static const char *other_name(const struct escape *e)
{
    return strrchr(e->path, '/') + 1;
}

static int make_file_and_folder(struct escape *e)
{
    int rc = make_file(e);

    return rc < 0 ? rc : leave_folder(e);
}

static int try_link(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_linkat, e->fds[0], other_name(e), e->fds[0], "second", 0);
}

static int try_rename(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_renameat2, e->fds[0], other_name(e), e->fds[0], "second", 0);
}

static int try_unlink(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_unlinkat, AT_FDCWD, e->path, 0);
}

static int try_truncate(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_truncate, e->path, 0L);
}

static int try_chmod(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fchmodat, AT_FDCWD, e->path, 04755);
}

static int try_fchmod(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fchmod, e->disk, 0777);
}

static int try_chown(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_fchownat, AT_FDCWD, e->path, getuid(), getgid(), 0);
}

static int try_fchown(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fchown, e->disk, -1, -1);
}

static int try_utimens(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_utimensat, AT_FDCWD, e->path, NULL, 0);
}

static int try_setxattr(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fsetxattr, e->disk, "user.spore", "x", 1L, 0);
}

static int try_stat(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_newfstatat, AT_FDCWD, HOST_FILE, e->page, 0);
}

/* The flag that tells fstat(3) from stat(3) allows a path, too. */
static int try_stat_flag(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_newfstatat, AT_FDCWD, HOST_FILE, e->page, AT_EMPTY_PATH);
}

static int try_stat_above(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_newfstatat, e->fds[0], "../../etc/passwd",
        e->page, AT_EMPTY_PATH);
}

/* Whatever is open, also what the jail itself has left. */
static int try_stat_any(struct escape *e)
{
    for (int fd = 0; fd < FDS_SEARCHED; fd++) {
        if (ESCAPE_CALL(e, SYS_newfstatat, fd, "etc/passwd", e->page,
                AT_EMPTY_PATH) == 0 ||
            ESCAPE_CALL(e, SYS_newfstatat, fd, "../../etc/passwd", e->page,
                AT_EMPTY_PATH) == 0)
            return 0;
    }
    return -ENOENT;
}

static int try_statx(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_statx, AT_FDCWD, HOST_FILE, 0, STATX_BASIC_STATS, e->page);
}

static int try_access(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_faccessat, AT_FDCWD, HOST_FILE, R_OK);
}

static int try_readlink(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_readlinkat, AT_FDCWD, "/proc/self/exe", e->page, ESCAPE_PAGE);
}

static int try_statfs(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_statfs, "/", e->page);
}

static int try_chdir(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_chdir, "/");
}

static int try_getcwd(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_getcwd, e->page, ESCAPE_PAGE);
}

/* The handle of a file is good for it wherever the process is locked in. */
static int prepare_handle(struct escape *e)
{
    struct file_handle *handle = (struct file_handle *)(void *)e->page;
    int mount;

    handle->handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(AT_FDCWD, e->dir, handle, &mount, 0) < 0)
        return -errno;
    return leave_folder(e);
}

static int try_name_to_handle(struct escape *e)
{
    int mount;

    return ESCAPE_CALL(
        e, SYS_name_to_handle_at, AT_FDCWD, e->dir, e->page, &mount, 0);
}

static int try_open_handle(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_open_by_handle_at, e->fds[0], e->page, O_RDONLY);
}

static int try_inotify(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_inotify_init1, IN_CLOEXEC);
}

static int prepare_inotify(struct escape *e)
{
    e->fds[0] = inotify_init1(IN_CLOEXEC);
    return e->fds[0] < 0 ? -errno : 0;
}

static int try_inotify_watch(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_inotify_add_watch, e->fds[0], "/etc", IN_ACCESS);
}

static int try_fanotify(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_fanotify_init, FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY);
}

static const struct escape_attempt attempts[] = {
    {.name = "open of an absolute path",
        .gain = "reads the host's files",
        .call = SYS_open,
        .go = try_open,
        .behind = -ENOENT},
    {.name = "openat of an absolute path",
        .gain = "reads the host's files",
        .call = SYS_openat,
        .go = try_openat,
        .behind = -ENOENT},
    {.name = "openat2 of an absolute path",
        .gain = "reads the host's files",
        .call = SYS_openat2,
        .go = try_openat2,
        .behind = -ENOENT},
    {.name = "openat O_PATH of the root",
        .gain = "a folder to start other calls from",
        .call = SYS_openat,
        .go = try_o_path},
    {.name = "openat of /proc/self/environ",
        .gain = "reads /proc",
        .call = SYS_openat,
        .go = try_open_proc,
        .behind = -ENOENT},
    {.name = "openat in /sys",
        .gain = "reads and sets the kernel's parameters",
        .call = SYS_openat,
        .go = try_open_sys,
        .behind = -ENOENT,
        .lacks = {{.error = -ENOENT, .why = "this kernel has no KSM"}}},
    {.name = "openat of a device node",
        .gain = "opens devices of the host",
        .call = SYS_openat,
        .go = try_open_kmsg,
        .behind = -ENOENT,
        .lacks = {ESCAPE_ROOT_ONLY,
            {.error = -ENOENT, .user = true, .why = "its /dev has few nodes"},
            {.error = -EACCES, .user = true, .why = "only root may"}}},
    {.name = "openat of .. from a folder left open",
        .gain = "leaves the empty root",
        .call = SYS_openat,
        .go = try_open_above,
        .behind = -EBADF,
        .prepare = leave_folder},
    {.name = "getdents64 of a folder left open",
        .gain = "lists the host's files",
        .call = SYS_getdents64,
        .go = try_list_folder,
        .behind = -EBADF,
        .prepare = leave_folder},
    {.name = "fchdir to a folder left open",
        .gain = "leaves the empty root",
        .call = SYS_fchdir,
        .go = try_fchdir,
        .behind = -EBADF,
        .prepare = leave_folder},
    {.name = "openat through /proc/self/fd",
        .gain = "writes to a file that was opened for reading",
        .call = SYS_openat,
        .go = try_open_again,
        .behind = -ENOENT,
        .prepare = leave_read_only},
    {.name = "read of a descriptor that was inherited and not named",
        .gain = "files that others left open",
        .call = SYS_read,
        .go = try_read_leak,
        .inside = ESCAPE_EVERY_ROLE_BUT_FUZZ(-EBADF)},
    {.name = "creat",
        .gain = "makes files on the host",
        .call = SYS_creat,
        .go = try_creat,
        .behind = -ENOENT},
    {.name = "openat O_TMPFILE",
        .gain = "fills the host's disks",
        .call = SYS_openat,
        .go = try_tmpfile,
        .behind = -ENOENT},
    {.name = "mkdirat",
        .gain = "makes folders on the host",
        .call = SYS_mkdirat,
        .go = try_mkdir,
        .behind = -ENOENT},
    {.name = "symlinkat",
        .gain = "leads other programs astray",
        .call = SYS_symlinkat,
        .go = try_symlink,
        .behind = -ENOENT},
    {.name = "linkat",
        .gain = "keeps files that are removed",
        .call = SYS_linkat,
        .go = try_link,
        .behind = -EBADF,
        .prepare = make_file_and_folder},
    {.name = "mknodat of a pipe",
        .gain = "stops programs that open it",
        .call = SYS_mknodat,
        .go = try_mknod_fifo,
        .behind = -ENOENT},
    {.name = "mknodat of a device",
        .gain = "the host's memory and disks",
        .call = SYS_mknodat,
        .go = try_mknod_device,
        .behind = -ENOENT,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "renameat2",
        .gain = "replaces the host's files",
        .call = SYS_renameat2,
        .go = try_rename,
        .behind = -EBADF,
        .prepare = make_file_and_folder},
    {.name = "unlinkat",
        .gain = "removes the host's files",
        .call = SYS_unlinkat,
        .go = try_unlink,
        .behind = -ENOENT,
        .prepare = make_file},
    {.name = "truncate",
        .gain = "empties the host's files",
        .call = SYS_truncate,
        .go = try_truncate,
        .behind = -ENOENT,
        .prepare = make_file},
    {.name = "fchmodat to set-user-id",
        .gain = "leaves a way to become the file's owner",
        .call = SYS_fchmodat,
        .go = try_chmod,
        .behind = -ENOENT,
        .prepare = make_file},
    {.name = "fchmod of a disk",
        .gain = "lets others at the guest's disk",
        .call = SYS_fchmod,
        .go = try_fchmod},
    {.name = "fchownat",
        .gain = "gives files away",
        .call = SYS_fchownat,
        .go = try_chown,
        .behind = -ENOENT,
        .prepare = make_file},
    {.name = "fchown of a disk",
        .gain = "gives a disk away",
        .call = SYS_fchown,
        .go = try_fchown},
    {.name = "utimensat",
        .gain = "hides what it changed",
        .call = SYS_utimensat,
        .go = try_utimens,
        .behind = -ENOENT,
        .prepare = make_file},
    {.name = "fsetxattr of a disk",
        .gain = "sets what the host reads of the file",
        .call = SYS_fsetxattr,
        .go = try_setxattr,
        .lacks = {{.error = -EOPNOTSUPP,
            .why = "this file system has no attributes"}}},
    {.name = "newfstatat",
        .gain = "learns what the host has",
        .call = SYS_newfstatat,
        .go = try_stat,
        .behind = -ENOENT},
    {.name = "newfstatat with AT_EMPTY_PATH and a path",
        .gain = "learns what the host has, past the filter",
        .call = SYS_newfstatat,
        .go = try_stat_flag,
        .inside = {-ENOENT, -ENOENT, -ENOENT, -ENOENT, ESCAPE_KILLED}},
    {.name = "newfstatat with AT_EMPTY_PATH, from a folder left open",
        .gain = "learns what the host has, past the empty root",
        .call = SYS_newfstatat,
        .go = try_stat_above,
        .prepare = leave_folder,
        .inside = {-EBADF, -EBADF, -EBADF, -EBADF, ESCAPE_KILLED}},
    {.name = "newfstatat with AT_EMPTY_PATH, from any descriptor",
        .gain = "learns what the host has, past the empty root",
        .call = SYS_newfstatat,
        .go = try_stat_any,
        .prepare = leave_folder,
        .inside = {-ENOENT, -ENOENT, -ENOENT, -ENOENT, ESCAPE_KILLED}},
    {.name = "statx",
        .gain = "learns what the host has",
        .call = SYS_statx,
        .go = try_statx,
        .behind = -ENOENT},
    {.name = "faccessat",
        .gain = "learns what the host has",
        .call = SYS_faccessat,
        .go = try_access,
        .behind = -ENOENT},
    {.name = "readlinkat of /proc/self/exe",
        .gain = "learns where the host keeps its programs",
        .call = SYS_readlinkat,
        .go = try_readlink,
        .behind = -ENOENT},
    {.name = "statfs",
        .gain = "learns of the host's disks",
        .call = SYS_statfs,
        .go = try_statfs},
    {.name = "chdir",
        .gain = "relative paths to begin elsewhere",
        .call = SYS_chdir,
        .go = try_chdir},
    {.name = "getcwd",
        .gain = "learns where it is",
        .call = SYS_getcwd,
        .go = try_getcwd},
    {.name = "name_to_handle_at",
        .gain = "handles that need no path",
        .call = SYS_name_to_handle_at,
        .go = try_name_to_handle,
        .behind = -ENOENT,
        .prepare = prepare_handle},
    {.name = "open_by_handle_at",
        .gain = "opens any file of a file system, whatever the root",
        .call = SYS_open_by_handle_at,
        .go = try_open_handle,
        .behind = -EBADF,
        .prepare = prepare_handle,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "inotify_init1",
        .gain = "watches what others do with files",
        .call = SYS_inotify_init1,
        .go = try_inotify},
    {.name = "inotify_add_watch",
        .gain = "watches what others do with files",
        .call = SYS_inotify_add_watch,
        .go = try_inotify_watch,
        .behind = -ENOENT,
        .prepare = prepare_inotify},
    {.name = "fanotify_init",
        .gain = "stops whoever opens a file",
        .call = SYS_fanotify_init,
        .go = try_fanotify,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
};

const struct escape_list escape_files = {attempts, ARRAY_SIZE(attempts)};
