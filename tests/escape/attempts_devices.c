/* SPDX-License-Identifier: Apache-2.0 */
/* What can be had out of descriptors that the monitor has open. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/userfaultfd.h>
#include <scsi/sg.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

static int try_tiocsti(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->tty, TIOCSTI, "\n");
}

/* Where TIOCSTI is refused the numbers of the other half reach it. */
static int try_tiocsti_high(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->tty, (1UL << 32) | TIOCSTI, "\n");
}

/* Subcode 2 is to paste into the console: 6 tells of the shift keys. */
static int try_tioclinux(struct escape *e)
{
    e->page[0] = 6;
    return ESCAPE_CALL(e, SYS_ioctl, e->tty, TIOCLINUX, e->page);
}

static int try_tiocsetd(struct escape *e)
{
    int discipline = 0;

    return ESCAPE_CALL(e, SYS_ioctl, e->tty, TIOCSETD, &discipline);
}

static int try_tiocspgrp(struct escape *e)
{
    pid_t group = e->number > 0 ? (pid_t)e->number : 1;

    return ESCAPE_CALL(e, SYS_ioctl, e->tty, TIOCSPGRP, &group);
}

static int note_group(struct escape *e)
{
    e->number = getpgrp();
    return 0;
}

static int try_tiocnotty(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->tty, TIOCNOTTY, 0L);
}

static int try_tioccons(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->tty, TIOCCONS, 0L);
}

static int need_tap(struct escape *e)
{
    return e->tap < 0 ? -EPERM : 0;
}

static int try_tunsetiff(struct escape *e)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};

    return ESCAPE_CALL(e, SYS_ioctl, e->tap, TUNSETIFF, &request);
}

/* One that is no interface yet. */
static int open_tun(struct escape *e)
{
    e->fds[0] = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    return e->fds[0] < 0 ? -errno : 0;
}

static int try_tunsetiff_new(struct escape *e)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};

    return ESCAPE_CALL(e, SYS_ioctl, e->fds[0], TUNSETIFF, &request);
}

static int try_tunsetowner(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->tap, TUNSETOWNER, 65534L);
}

static int try_tunsetsndbuf(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->tap, TUNSETSNDBUF, e->page);
}

static int prepare_sndbuf(struct escape *e)
{
    e->page[3] = 1;
    return need_tap(e);
}

static int try_siocgifname(struct escape *e)
{
    struct ifreq request = {.ifr_ifindex = 1};

    return ESCAPE_CALL(e, SYS_ioctl, e->socket, SIOCGIFNAME, &request);
}

static int open_block(struct escape *e)
{
    e->fds[0] = open("/dev/loop0", O_RDONLY | O_CLOEXEC);
    return e->fds[0] < 0 ? -errno : 0;
}

static int try_blkraget(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->fds[0], BLKRAGET, e->page);
}

static int try_blkflsbuf(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->fds[0], BLKFLSBUF, 0L);
}

/* No SCSI disk is behind it. */
static int try_sg_io(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->fds[0], SG_IO, e->page);
}

static int try_setflags(struct escape *e)
{
    int flags = FS_NODUMP_FL;

    return ESCAPE_CALL(e, SYS_ioctl, e->disk, FS_IOC_SETFLAGS, &flags);
}

static int try_fsgetxattr(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->disk, FS_IOC_FSGETXATTR, e->page);
}

/* The memory file's file system cannot be frozen, the host's could. */
static int try_fifreeze(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->ram, FIFREEZE, 0L);
}

static int try_fibmap(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->disk, FIBMAP, e->page);
}

static int try_ficlone(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->disk, FICLONE, (long)e->disk);
}

static int try_fionclex(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->disk, FIONCLEX, 0L);
}

static int try_fioasync(struct escape *e)
{
    int on = 1;

    return ESCAPE_CALL(e, SYS_ioctl, e->socket, FIOASYNC, &on);
}

static int try_flock(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_flock, e->disk, LOCK_EX | LOCK_NB);
}

static int try_setown(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fcntl, e->socket, F_SETOWN, (long)e->victim);
}

static int try_setsig(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fcntl, e->socket, F_SETSIG, (long)SIGKILL);
}

static int try_o_async(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_fcntl, e->socket, F_SETFL, (long)(O_RDWR | O_ASYNC));
}

static int try_lease(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fcntl, e->fds[0], F_SETLEASE, (long)F_RDLCK);
}

static int open_for_lease(struct escape *e)
{
    e->fds[0] = open(e->path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    return e->fds[0] < 0 ? -errno : 0;
}

static int try_notify(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_fcntl, e->fds[0], F_NOTIFY, (long)(DN_CREATE | DN_MULTISHOT));
}

static int open_folder(struct escape *e)
{
    e->fds[0] = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return e->fds[0] < 0 ? -errno : 0;
}

static int try_seal(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fcntl, e->ram, F_ADD_SEALS, (long)F_SEAL_GROW);
}

static int try_pipe_size(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_fcntl, e->fds[1], F_SETPIPE_SZ, 1L << 17);
}

static int make_pipe(struct escape *e)
{
    return pipe2(e->fds, O_CLOEXEC) < 0 ? -errno : 0;
}

/* Bytes in it, too. */
static int fill_pipe(struct escape *e)
{
    int rc = make_pipe(e);

    if (rc < 0)
        return rc;
    return write(e->fds[1], e->page, 64) == 64 ? 0 : -errno;
}

static int try_pipe(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_pipe2, e->page, O_CLOEXEC);
}

static int try_splice(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_splice, e->disk, NULL, e->fds[1], NULL, 64L, SPLICE_F_NONBLOCK);
}

static int try_vmsplice(struct escape *e)
{
    struct iovec iov = {.iov_base = e->page, .iov_len = 64};

    return ESCAPE_CALL(e, SYS_vmsplice, e->fds[1], &iov, 1L, 0);
}

static int make_pipes(struct escape *e)
{
    int other[2];
    int rc = fill_pipe(e);

    if (rc < 0)
        return rc;
    if (pipe2(other, O_CLOEXEC) < 0)
        return -errno;
    e->fds[2] = other[1];
    return 0;
}

static int try_tee(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_tee, e->fds[0], e->fds[2], 64L, SPLICE_F_NONBLOCK);
}

static int try_sendfile(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_sendfile, e->ram, e->disk, NULL, 64L);
}

static int try_copy_range(struct escape *e)
{
    loff_t from = 0;
    loff_t to = ESCAPE_PAGE;

    return ESCAPE_CALL(
        e, SYS_copy_file_range, e->disk, &from, e->disk, &to, 64L, 0);
}

static int prepare_uffd(struct escape *e)
{
    e->fds[0] = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    return e->fds[0] < 0 ? -errno : 0;
}

static int try_uffd_new(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ioctl, e->fds[0], _IO(0xAA, 0x00), O_CLOEXEC);
}

static int try_dup(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_dup2, e->disk, STDIN_FILENO);
}

static const struct escape_attempt attempts[] = {
    {.name = "ioctl TIOCSTI on the terminal",
        .gain = "types commands into the user's shell",
        .call = SYS_ioctl,
        .go = try_tiocsti,
        .lacks = {{.error = -EIO, .why = "this kernel does without TIOCSTI"}}},
    {.name = "ioctl TIOCSTI with bits that the kernel drops",
        .gain = "types commands, past a filter that compares 64 bits",
        .call = SYS_ioctl,
        .go = try_tiocsti_high,
        .lacks = {{.error = -EIO, .why = "this kernel does without TIOCSTI"}}},
    {.name = "ioctl TIOCLINUX on the terminal",
        .gain = "pastes into the user's console",
        .call = SYS_ioctl,
        .go = try_tioclinux,
        .outside = -ENOTTY},
    {.name = "ioctl TIOCSETD on the terminal",
        .gain = "line disciplines of the kernel",
        .call = SYS_ioctl,
        .go = try_tiocsetd},
    {.name = "ioctl TIOCSPGRP on the terminal",
        .gain = "takes the terminal from the shell",
        .call = SYS_ioctl,
        .go = try_tiocspgrp,
        .prepare = note_group},
    {.name = "ioctl TIOCNOTTY on the terminal",
        .gain = "hangs up what runs on it",
        .call = SYS_ioctl,
        .go = try_tiocnotty},
    {.name = "ioctl TIOCCONS on the terminal",
        .gain = "what the host's console is told",
        .call = SYS_ioctl,
        .go = try_tioccons,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "ioctl TUNSETIFF on the tap",
        .gain = "another interface of the host",
        .call = SYS_ioctl,
        .go = try_tunsetiff,
        .prepare = need_tap,
        .outside = -EEXIST,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "ioctl TUNSETIFF on a fresh /dev/net/tun",
        .gain = "interfaces on the host's network",
        .call = SYS_ioctl,
        .go = try_tunsetiff_new,
        .prepare = open_tun,
        .lacks = {ESCAPE_ROOT_ONLY,
            {.error = -ENOENT, .user = true, .why = "its /dev has few nodes"},
            {.error = -EACCES, .user = true, .why = "only root may"}}},
    {.name = "ioctl TUNSETOWNER on the tap",
        .gain = "gives the interface to others",
        .call = SYS_ioctl,
        .go = try_tunsetowner,
        .prepare = need_tap,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "ioctl TUNSETSNDBUF on the tap",
        .gain = "the host's memory",
        .call = SYS_ioctl,
        .go = try_tunsetsndbuf,
        .prepare = prepare_sndbuf,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "ioctl SIOCGIFNAME on a socket",
        .gain = "learns of the host's network",
        .call = SYS_ioctl,
        .go = try_siocgifname},
    {.name = "ioctl BLKRAGET on a block device",
        .gain = "ioctls of the host's disks",
        .call = SYS_ioctl,
        .go = try_blkraget,
        .prepare = open_block,
        .lacks = {{.error = -EACCES, .user = true, .why = "only root may"},
            {.error = -ENOENT, .why = "there is no /dev/loop0"}}},
    {.name = "ioctl BLKFLSBUF on a block device",
        .gain = "has the host's disks wait for it",
        .call = SYS_ioctl,
        .go = try_blkflsbuf,
        .prepare = open_block,
        .lacks = {{.error = -EACCES, .user = true, .why = "only root may"},
            {.error = -ENOENT, .why = "there is no /dev/loop0"}}},
    {.name = "ioctl SG_IO on a block device that is no disk",
        .gain = "commands to the disk's firmware",
        .call = SYS_ioctl,
        .go = try_sg_io,
        .prepare = open_block,
        .outside = -EINVAL,
        .lacks = {{.error = -EACCES, .user = true, .why = "only root may"},
            {.error = -ENOENT, .why = "there is no /dev/loop0"}}},
    {.name = "ioctl FS_IOC_SETFLAGS on a disk",
        .gain = "files that the host cannot remove",
        .call = SYS_ioctl,
        .go = try_setflags,
        .lacks = {{.error = -ENOTTY, .why = "this file system has no flags"},
            {.error = -EOPNOTSUPP,
                .why = "this file system has no such flag"}}},
    {.name = "ioctl FS_IOC_FSGETXATTR on a disk",
        .gain = "ioctls of the host's file systems",
        .call = SYS_ioctl,
        .go = try_fsgetxattr,
        .lacks = {{.error = -ENOTTY, .why = "this file system has none"}}},
    {.name = "ioctl FIFREEZE of what cannot be frozen",
        .gain = "stops all that write to the host's disk",
        .call = SYS_ioctl,
        .go = try_fifreeze,
        .behind = -EPERM,
        .outside = -EOPNOTSUPP,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "ioctl FIBMAP on a disk",
        .gain = "where on the host's disk it is",
        .call = SYS_ioctl,
        .go = try_fibmap,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY,
            {.error = -EINVAL, .why = "this file system has no blocks"}}},
    {.name = "ioctl FICLONE of a disk onto itself",
        .gain = "ioctls of the host's file systems",
        .call = SYS_ioctl,
        .go = try_ficlone,
        .behind = -EOPNOTSUPP,
        .lacks = {{.error = -EOPNOTSUPP,
            .why = "this file system shares no blocks"}}},
    {.name = "ioctl FIONCLEX",
        .gain = "descriptors that outlive an execve",
        .call = SYS_ioctl,
        .go = try_fionclex},
    {.name = "ioctl FIOASYNC",
        .gain = "signals by input",
        .call = SYS_ioctl,
        .go = try_fioasync},
    {.name = "flock of a disk",
        .gain = "keeps others from the disk",
        .call = SYS_flock,
        .go = try_flock},
    {.name = "fcntl F_SETOWN to a process outside",
        .gain = "signals processes outside by input",
        .call = SYS_fcntl,
        .go = try_setown,
        .behind = -ESRCH},
    {.name = "fcntl F_SETSIG",
        .gain = "any signal by input",
        .call = SYS_fcntl,
        .go = try_setsig},
    {.name = "fcntl F_SETFL with O_ASYNC",
        .gain = "signals by input",
        .call = SYS_fcntl,
        .go = try_o_async},
    {.name = "fcntl F_SETLEASE",
        .gain = "stops whoever opens the file",
        .call = SYS_fcntl,
        .go = try_lease,
        .prepare = open_for_lease},
    {.name = "fcntl F_NOTIFY of a folder left open",
        .gain = "watches what others do with files",
        .call = SYS_fcntl,
        .go = try_notify,
        .behind = -EBADF,
        .prepare = open_folder},
    {.name = "fcntl F_ADD_SEALS",
        .gain = "stops those who share the memory",
        .call = SYS_fcntl,
        .go = try_seal},
    {.name = "fcntl F_SETPIPE_SZ",
        .gain = "memory that nobody counts",
        .call = SYS_fcntl,
        .go = try_pipe_size,
        .prepare = make_pipe},
    {.name = "pipe2",
        .gain = "descriptors and memory of the kernel",
        .call = SYS_pipe2,
        .go = try_pipe},
    {.name = "splice from a disk",
        .gain = "pages of files, by reference",
        .call = SYS_splice,
        .go = try_splice,
        .prepare = make_pipe},
    {.name = "vmsplice",
        .gain = "pages by reference",
        .call = SYS_vmsplice,
        .go = try_vmsplice,
        .prepare = make_pipe},
    {.name = "tee",
        .gain = "pages by reference",
        .call = SYS_tee,
        .go = try_tee,
        .prepare = make_pipes},
    {.name = "sendfile",
        .gain = "pages of files, by reference",
        .call = SYS_sendfile,
        .go = try_sendfile},
    {.name = "copy_file_range",
        .gain = "parts of file systems that it has no need of",
        .call = SYS_copy_file_range,
        .go = try_copy_range},
    {.name = "ioctl USERFAULTFD_IOC_NEW on /dev/userfaultfd",
        .gain = "stops the kernel in the middle of a copy",
        .call = SYS_ioctl,
        .go = try_uffd_new,
        .prepare = prepare_uffd,
        .lacks = {{.error = -EACCES, .user = true, .why = "only root may"},
            {.error = -ENOENT, .why = "there is no /dev/userfaultfd"}}},
    {.name = "dup2 over standard input",
        .gain = "descriptors in place of those of others",
        .call = SYS_dup2,
        .go = try_dup},
};

const struct escape_list escape_devices = {attempts, ARRAY_SIZE(attempts)};
