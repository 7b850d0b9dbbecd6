/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/dirfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/id.h"
#include "vmm/base/fd.h"

int dirfile_open(int dir_fd, const char *name, uint64_t *ret_size, int *ret_fd)
{
    /* A FIFO must not make us wait for its other end. */
    int fd = openat(dir_fd, name,
        O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    int rc = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        rc = -errno;
    else if (!S_ISREG(st.st_mode))
        rc = -EINVAL;
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    *ret_size = (uint64_t)st.st_size;
    *ret_fd = fd;
    return 0;
}

int dirfile_read(int dir_fd, const char *name, size_t max, uint8_t **ret_data,
    size_t *ret_size, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    uint64_t size;
    uint8_t *data;
    ssize_t n;
    int rc = dirfile_open(dir_fd, name, &size, &fd);

    if (rc == -EINVAL)
        return err_set(err, EINVAL, "%s: not a regular file", name);
    if (rc < 0)
        return err_sys(err, rc, "%s", name);
    if (size > max)
        return err_set(err, EFBIG, "%s: larger than %zu bytes", name, max);
    data = malloc(size + 1);
    if (data == NULL)
        return err_sys(err, ENOMEM, "%s", name);
    n = fd_read_full(fd, data, size);
    if (n != (ssize_t)size) {
        free(data);
        return n < 0 ? err_sys(err, (int)n, "%s", name)
                     : err_set(err, ENODATA, "%s: cut short", name);
    }
    *ret_data = data;
    *ret_size = size;
    return 0;
}

int dirfile_replace(int dir_fd, const char *name, const void *data, size_t size,
    struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    char text[SNAPSHOT_ID_TEXT_SIZE];
    char tmp[sizeof(text) + 1];
    struct snapshot_id id;
    int rc = snapshot_id_random(&id, err);

    if (rc < 0)
        return rc;
    snapshot_id_to_text(&id, text);
    (void)snprintf(tmp, sizeof(tmp), ".%s", text);
    fd = openat(dir_fd, tmp,
        O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, errno, "%s", name);
    rc = fd_write_full(fd, data, size);
    if (rc == 0 && renameat(dir_fd, tmp, dir_fd, name) < 0)
        rc = -errno;
    if (rc < 0) {
        (void)unlinkat(dir_fd, tmp, 0);
        return err_sys(err, rc, "%s", name);
    }
    return 0;
}
