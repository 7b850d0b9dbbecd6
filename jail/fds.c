/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/fds.h"

#include <errno.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/log.h"

static int compare(const void *a, const void *b)
{
    int x = *(const int *)a;
    int y = *(const int *)b;

    return x < y ? -1 : x > y;
}

static int close_range_of(unsigned int first, unsigned int last)
{
    if (first > last)
        return 0;
    return syscall(SYS_close_range, first, last, 0) < 0 ? -errno : 0;
}

/* 1, 0, or -1 for no descriptor. */
static int is_folder(int fd)
{
    struct stat st;

    /* The C library's fstat has the kernel look for a path. */
    if (syscall(SYS_fstat, fd, &st) < 0)
        return -1;
    return S_ISDIR(st.st_mode) ? 1 : 0;
}

int fds_close_others(
    const int *keep, size_t keep_count, int folder, struct err *err)
{
    int *sorted = malloc((keep_count + 1) * sizeof(sorted[0]));
    unsigned int next = STDERR_FILENO + 1;
    int rc = 0;

    if (sorted == NULL)
        return err_sys(err, ENOMEM, "descriptors to keep");
    if (keep_count > 0)
        memcpy(sorted, keep, keep_count * sizeof(sorted[0]));
    qsort(sorted, keep_count, sizeof(sorted[0]), compare);
    for (size_t i = 0; i < keep_count && rc == 0; i++) {
        if (sorted[i] < (int)next ||
            (sorted[i] != folder && is_folder(sorted[i]) > 0))
            continue;
        rc = close_range_of(next, (unsigned int)sorted[i] - 1);
        next = (unsigned int)sorted[i] + 1;
    }
    if (rc == 0)
        rc = close_range_of(next, ~0u);
    free(sorted);
    return rc < 0 ? err_sys(err, rc, "cannot close descriptors") : 0;
}

int fds_close_folders(int keep)
{
    int count = 0;
    int gap = 0;

    for (int fd = STDERR_FILENO + 1; gap <= FDS_GAP_MAX; fd++) {
        int kind = fd == keep ? 0 : is_folder(fd);

        gap = kind < 0 ? gap + 1 : 0;
        if (kind <= 0)
            continue;
        log_debug("jail", "descriptor %d was a folder's", fd);
        (void)close(fd);
        count++;
    }
    return count;
}
