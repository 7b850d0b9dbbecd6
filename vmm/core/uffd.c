/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/core/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* Since Linux 6.1; not in older headers. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xaa, 0x00)
#endif

#define DEVICE "/dev/userfaultfd"
#define FLAGS  (O_CLOEXEC | O_NONBLOCK)

/* A descriptor, or -errno of the way that got furthest. */
static int open_any(void)
{
    CC_CLEANUP(fd_closep) int device = open(DEVICE, O_RDWR | O_CLOEXEC);
    long fd;

    if (device >= 0) {
        fd = ioctl(device, USERFAULTFD_IOC_NEW, FLAGS);
        if (fd >= 0)
            return (int)fd;
    }
    fd = syscall(SYS_userfaultfd, FLAGS);
    return fd < 0 ? -errno : (int)fd;
}

int uffd_open(int *ret_fd, struct err *err)
{
    struct uffdio_api api = {.api = UFFD_API};
    CC_CLEANUP(fd_closep) int fd = open_any();

    if (fd == -EPERM)
        return err_set(err, EPERM,
            "memory from a page server needs a userfaultfd that serves KVM: "
            "give this user " DEVICE " (a udev rule), run as root, or sysctl "
            "vm.unprivileged_userfaultfd=1");
    if (fd == -ENOSYS)
        return err_set(err, ENOSYS,
            "memory from a page server needs userfaultfd, which this kernel "
            "does not have (CONFIG_USERFAULTFD)");
    if (fd < 0)
        return err_sys(err, fd, "cannot create a userfaultfd");
    if (ioctl(fd, UFFDIO_API, &api) < 0)
        return err_sys(err, errno, "userfaultfd");
    *ret_fd = fd_steal(&fd);
    return 0;
}

/*
 * Others do not know the request; one that does looks at nothing but the form
 * of the range, in which nobody waits.
 */
bool uffd_is_one(int fd)
{
    struct uffdio_range lowest = {
        .start = NUM_PAGE_SIZE * 16, .len = NUM_PAGE_SIZE};

    return ioctl(fd, UFFDIO_WAKE, &lowest) == 0;
}

int uffd_register(int fd, void *host, size_t len)
{
    struct uffdio_register r = {
        .range = {.start = (uint64_t)(uintptr_t)host, .len = len},
        .mode = UFFDIO_REGISTER_MODE_MISSING};
    const uint64_t needed =
        UINT64_C(1) << _UFFDIO_COPY | UINT64_C(1) << _UFFDIO_ZEROPAGE;

    if (ioctl(fd, UFFDIO_REGISTER, &r) < 0)
        return -errno;
    return (r.ioctls & needed) == needed ? 0 : -ENOTSUP;
}

int uffd_copy(int fd, uint64_t address, const void *pages, size_t len)
{
    struct uffdio_copy c = {
        .dst = address, .src = (uint64_t)(uintptr_t)pages, .len = len};

    return ioctl(fd, UFFDIO_COPY, &c) < 0 ? -errno : 0;
}

int uffd_zero(int fd, uint64_t address, size_t len)
{
    struct uffdio_zeropage z = {.range = {.start = address, .len = len}};

    return ioctl(fd, UFFDIO_ZEROPAGE, &z) < 0 ? -errno : 0;
}

void uffd_wake(int fd, uint64_t address, size_t len)
{
    struct uffdio_range range = {.start = address, .len = len};

    (void)ioctl(fd, UFFDIO_WAKE, &range);
}
