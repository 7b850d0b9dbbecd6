/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/rootfs_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* Between two looks at whether somebody wants to stop. */
#define CHUNK (64 * NUM_MIB)

/* The run of data at or behind `at`; none: *ret_end is `at`. */
static int find_data(int fd, off_t at, off_t *ret_from, off_t *ret_end)
{
    off_t from = lseek(fd, at, SEEK_DATA);
    off_t end;

    if (from < 0 && errno == ENXIO) {
        *ret_from = at;
        *ret_end = at;
        return 0;
    }
    end = from < 0 ? -1 : lseek(fd, from, SEEK_HOLE);
    if (end < 0)
        return -errno;
    *ret_from = from;
    *ret_end = end;
    return 0;
}

static int copy_run(int from_fd, int fd, off_t from, off_t end,
    const struct interrupt *interrupt, struct err *err)
{
    if (lseek(fd, from, SEEK_SET) < 0)
        return err_sys(err, errno, "cannot make the image");
    while (from < end) {
        size_t n = num_min((uint64_t)(end - from), CHUNK);
        ssize_t done = sendfile(fd, from_fd, &from, n);
        int rc = interrupt_check(interrupt, err);

        if (done < 0)
            return err_sys(err, errno, "cannot copy the image");
        if (done == 0)
            return err_set(err, EIO, "the image was cut short meanwhile");
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int copy(int from_fd, int fd, off_t size,
    const struct interrupt *interrupt, struct err *err)
{
    off_t at = 0;
    int rc = 0;

    if (ioctl(fd, FICLONE, from_fd) == 0)
        return 0;
    if (ftruncate(fd, size) < 0)
        return err_sys(err, errno, "cannot make the image");
    while (rc == 0 && at < size) {
        off_t from = 0;
        off_t end = 0;

        rc = find_data(from_fd, at, &from, &end);
        if (rc < 0)
            return err_sys(err, rc, "cannot read the image");
        if (end == at)
            break;
        rc = copy_run(from_fd, fd, from, end, interrupt, err);
        at = end;
    }
    return rc;
}

int rootfs_copy(int from_fd, const char *path,
    const struct interrupt *interrupt, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    struct stat st;
    int rc;

    if (fd < 0)
        return err_sys(err, errno, "%s", path);
    if (fstat(from_fd, &st) < 0)
        return err_sys(err, errno, "cannot read the image");
    rc = copy(from_fd, fd, st.st_size, interrupt, err);
    if (rc == 0 && fsync(fd) < 0)
        rc = err_sys(err, errno, "%s", path);
    return rc;
}
