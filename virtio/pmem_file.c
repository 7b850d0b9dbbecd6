/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/pmem_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/fd.h"

static int open_file(struct pmem_file *f, struct err *err)
{
    struct stat st;
    int rc;

    if (f->fd < 0) {
        f->fd = open(f->path, (f->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC |
                                  O_NONBLOCK | O_NOCTTY);
        if (f->fd < 0)
            return err_sys(err, errno, "%s", f->path);
    }
    if (fstat(f->fd, &st) < 0)
        return err_sys(err, errno, "%s", f->path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL,
            "%s: persistent memory must be a regular file", f->path);
    if (st.st_size == 0)
        return err_set(err, EINVAL, "%s: an empty file", f->path);
    if ((uint64_t)st.st_size > PMEM_FILE_SIZE_MAX)
        return err_set(err, EINVAL,
            "%s: persistent memory has at most %llu GiB", f->path,
            (unsigned long long)(PMEM_FILE_SIZE_MAX / NUM_GIB));
    rc = fd_lock(f->fd, !f->read_only);
    if (rc == -EAGAIN)
        return err_set(err, EBUSY, "%s: in use by another process%s", f->path,
            f->read_only ? " that writes to it" : "");
    if (rc < 0)
        return err_sys(err, rc, "%s: cannot lock", f->path);
    f->file_size = (uint64_t)st.st_size;
    f->size = num_align_up(f->file_size, PMEM_FILE_ALIGN);
    return 0;
}

/*
 * Address space of f->size bytes that is aligned as the guest's addresses are,
 * so that KVM can map large pages where the page cache has them.
 */
static uint8_t *reserve(const struct pmem_file *f, int prot)
{
    uint64_t len = f->size + PMEM_FILE_ALIGN;
    void *p = mmap(
        NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint64_t before;

    if (p == MAP_FAILED)
        return NULL;
    before = num_align_up((uintptr_t)p, PMEM_FILE_ALIGN) - (uintptr_t)p;
    if (before > 0)
        (void)munmap(p, before);
    if (before < PMEM_FILE_ALIGN)
        (void)munmap((uint8_t *)p + before + f->size, PMEM_FILE_ALIGN - before);
    return (uint8_t *)p + before;
}

static int map_file(struct pmem_file *f, struct err *err)
{
    int prot = PROT_READ | (f->read_only ? 0 : PROT_WRITE);
    uint8_t *at = reserve(f, prot);
    void *p;

    if (at != NULL) {
        f->host = (uint64_t)(uintptr_t)at;
        p = mmap(at, f->file_size, prot, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
            f->fd, 0);
        if (p != MAP_FAILED) {
            /* A core dump of the monitor must not hold a tenant's data. */
            (void)madvise(at, f->size, MADV_DONTDUMP);
            return 0;
        }
    }
    return err_sys(err, errno, "%s: cannot map %llu MiB", f->path,
        (unsigned long long)(f->size / NUM_MIB));
}

int pmem_file_open(struct pmem_file *f, const struct pmem_file_config *config,
    const char **ret_warning, struct err *err)
{
    int rc;

    *f = (struct pmem_file){
        .path = config->path, .fd = config->fd, .read_only = config->read_only};
    rc = open_file(f, err);
    if (rc == 0)
        rc = map_file(f, err);
    if (rc < 0) {
        pmem_file_close(f);
        return rc;
    }
    *ret_warning = f->size != f->file_size && !f->read_only
                       ? "size is not a multiple of 2 MiB: what the guest "
                         "writes beyond its end is lost"
                       : NULL;
    return 0;
}

void pmem_file_close(struct pmem_file *f)
{
    if (f->host != 0)
        (void)munmap((void *)(uintptr_t)f->host, f->size);
    f->host = 0;
    /* The ring lets go of a removed file when it pleases; the lock must not. */
    if (f->path != NULL && f->fd >= 0)
        fd_unlock(f->fd);
    if (f->path != NULL)
        fd_closep(&f->fd);
}

/*
 * Another mapping at the same place: KVM is told of it by the kernel's
 * notifiers, as of any other change of address space.
 */
static int make_private(struct pmem_file *f)
{
    void *at = (void *)(uintptr_t)f->host;

    if (f->is_private)
        return 0;
    if (mmap(at, f->file_size, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, f->fd, 0) == MAP_FAILED)
        return -errno;
    (void)madvise(at, f->size, MADV_DONTDUMP);
    f->is_private = true;
    return 0;
}

int pmem_file_poke(
    struct pmem_file *f, uint64_t offset, uint8_t byte, uint8_t *ret_old)
{
    struct iovec there = {(void *)(uintptr_t)(f->host + offset), 1};
    struct iovec here = {ret_old, 1};
    int rc;

    assert(f->read_only && offset < f->file_size);
    rc = make_private(f);
    if (rc < 0)
        return rc;
    /* Through the kernel, which answers EFAULT where we would get SIGBUS. */
    if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != 1)
        return -EFAULT;
    here.iov_base = &byte;
    return process_vm_writev(getpid(), &here, 1, &there, 1, 0) == 1 ? 0
                                                                    : -EFAULT;
}

bool pmem_file_is_cut(const struct pmem_file *f)
{
    struct stat st;

    return fstat(f->fd, &st) == 0 && (uint64_t)st.st_size < f->file_size;
}

int pmem_file_explain(const struct pmem_file *f, struct err *err)
{
    struct stat st;

    if (fstat(f->fd, &st) == 0 && (uint64_t)st.st_size < f->file_size)
        return err_set(err, EIO,
            "%s: cut from %llu to %llu bytes while the guest had it mapped: "
            "replace such a file by renaming a new one over it",
            f->path, (unsigned long long)f->file_size,
            (unsigned long long)st.st_size);
    return err_set(err, EIO,
        "%s: the host could not read or write it for the guest: see the "
        "host's kernel log for the disk's errors, and look for free space",
        f->path);
}
