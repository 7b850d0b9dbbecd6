/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/cgroup_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

int cgroup_file_write(int dir, const char *file, const char *text)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(dir, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    size_t len = strlen(text);
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = write(fd, text, len);
    if (n < 0)
        return -errno;
    return (size_t)n == len ? 0 : -EIO;
}

ssize_t cgroup_file_read(int dir, const char *file, char *buf, size_t size)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(dir, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = fd_read_full(fd, buf, size);
    if (n < 0)
        return n;
    if ((size_t)n >= size)
        return -EFBIG;
    buf[n] = '\0';
    return n;
}

int cgroup_text_number(const char *text, uint64_t *ret_value)
{
    const char *p = text;
    uint64_t value = UINT64_MAX;

    if (strncmp(text, "max", 3) == 0)
        p += 3;
    else
        p = num_take_digits(text, &value);
    if (p == NULL || (*p != '\n' && *p != '\0'))
        return -EINVAL;
    *ret_value = value;
    return 0;
}

int cgroup_text_key(const char *text, const char *key, uint64_t *ret_value)
{
    size_t len = strlen(key);
    const char *line = text;

    while (line != NULL) {
        if (strncmp(line, key, len) == 0 && line[len] == ' ')
            return cgroup_text_number(line + len + 1, ret_value);
        line = strchr(line, '\n');
        if (line != NULL)
            line++;
    }
    return -ENOENT;
}

int cgroup_file_number(
    int dir, const char *file, const char *key, uint64_t *ret_value)
{
    char text[8192];
    ssize_t n = cgroup_file_read(dir, file, text, sizeof(text));

    if (n < 0)
        return (int)n;
    return key == NULL ? cgroup_text_number(text, ret_value)
                       : cgroup_text_key(text, key, ret_value);
}

ssize_t cgroup_text_pids(const char *text, pid_t *ret_pids, size_t max)
{
    const char *p = text;
    size_t count = 0;

    while (*p != '\0' && count < max) {
        uint64_t pid;

        p = num_take_digits(p, &pid);
        if (p == NULL || pid > INT_MAX || (*p != '\n' && *p != '\0'))
            return -EINVAL;
        ret_pids[count++] = (pid_t)pid;
        if (*p == '\n')
            p++;
    }
    return (ssize_t)count;
}
