/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/afl_shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

static int open_posix(
    const char *name, void **ret_at, uint64_t *ret_size, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = shm_open(name, O_RDWR | O_CLOEXEC, 0);
    struct stat st;
    void *at;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "AFL++'s shared memory '%.64s'", name);
    if (st.st_size == 0)
        return err_set(
            err, EINVAL, "AFL++'s shared memory '%.64s' is empty", name);
    at = mmap(
        NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return err_sys(err, errno, "AFL++'s shared memory '%.64s'", name);
    *ret_at = at;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int open_sysv(
    const char *text, void **ret_at, uint64_t *ret_size, struct err *err)
{
    struct shmid_ds ds;
    uint64_t id;
    const char *end = num_take_digits(text, &id);
    void *at;

    if (end == NULL || *end != '\0' || id > INT32_MAX)
        return err_set(
            err, EINVAL, "'%.64s' is no shared memory of AFL++'s", text);
    if (shmctl((int)id, IPC_STAT, &ds) < 0)
        return err_sys(err, errno, "AFL++'s shared memory %.64s", text);
    at = shmat((int)id, NULL, 0);
    /* It is how the function says that it failed. */
    if ((intptr_t)at == -1)
        return err_sys(err, errno, "AFL++'s shared memory %.64s", text);
    *ret_at = at;
    *ret_size = ds.shm_segsz;
    return 0;
}

int afl_shm_open(const char *variable, struct afl_shm *ret_shm, struct err *err)
{
    const char *text = getenv(variable);
    uint64_t size = 0;
    void *at = NULL;
    int rc = 0;

    if (text != NULL)
        rc = text[0] == '/' ? open_posix(text, &at, &size, err)
                            : open_sysv(text, &at, &size, err);
    if (rc < 0)
        return err_wrap(err, rc, "%s", variable);
    *ret_shm =
        (struct afl_shm){.at = at, .size = num_align_up(size, NUM_PAGE_SIZE)};
    return 0;
}
