/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "guest/fuzz/call.h"
#include "guest/fuzz/pages.h"

#define DEBUGFS_PATH "/sys/kernel/debug"
#define KCOV_PATH    DEBUGFS_PATH "/kcov"

/* <linux/kcov.h>, which is not there for every C library. */
#define KCOV_INIT_TRACE _IOR('c', 1, unsigned long)
#define KCOV_ENABLE     _IO('c', 100)
#define KCOV_TRACE_PC   0ul

/* Places that one run can reach; what comes after them is not seen. */
#define COVER_WORDS (UINT64_C(1) << 16)

/* 2^64 by the golden ratio: neighbours end up far from one another. */
#define SPREAD UINT64_C(0x9e3779b97f4a7c15)

struct kernel {
    struct pages_input input;
    uint8_t *map;
    size_t map_size;
    uint64_t *cover; /* how many, then the places */
    int device_fd;
};

void kernel_count_edges(
    const uint64_t *pcs, size_t count, uint8_t *map, size_t map_size)
{
    uint64_t from = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t place = (pcs[i] * SPREAD) >> 32;
        uint8_t *edge = &map[(place ^ from) & (map_size - 1)];

        *edge = *edge == UINT8_MAX ? UINT8_MAX : (uint8_t)(*edge + 1);
        /* There and back are two edges, and one place twice is one. */
        from = place >> 1;
    }
}

static int open_cover(struct kernel *k)
{
    void *cover;
    int fd;

    (void)mount("debugfs", DEBUGFS_PATH, "debugfs",
        MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    fd = open(KCOV_PATH, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (ioctl(fd, KCOV_INIT_TRACE, COVER_WORDS) != 0)
        return -errno;
    cover = mmap(NULL, COVER_WORDS * sizeof(uint64_t), PROT_READ | PROT_WRITE,
        MAP_SHARED, fd, 0);
    if (cover == MAP_FAILED)
        return -errno;
    k->cover = cover;
    return ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC) != 0 ? -errno : 0;
}

static int prepare(
    struct kernel *k, const struct conf *conf, const char **ret_step)
{
    int error;

    *ret_step = "the map of a kernel has a power of two of bytes, from 4096";
    k->map_size = conf->map_size != 0 ? conf->map_size : KERNEL_MAP_BYTES;
    if (k->map_size < PAGES_SIZE || (k->map_size & (k->map_size - 1)) != 0)
        return -EINVAL;
    *ret_step = "no memory for map and input";
    error = pages_make_input(&k->input);
    if (error == 0)
        error = pages_make(k->map_size, &k->map);
    if (error != 0)
        return error;
    *ret_step = "cannot open the device that is fuzzed";
    k->device_fd = open(conf->device, O_RDWR | O_CLOEXEC);
    if (k->device_fd < 0 && (errno == EACCES || errno == EINVAL))
        k->device_fd = open(conf->device, O_WRONLY | O_CLOEXEC);
    if (k->device_fd < 0)
        return -errno;
    *ret_step = "no coverage of the kernel (" KCOV_PATH
                "): it must be built with CONFIG_KCOV";
    return open_cover(k);
}

int kernel_run(const struct conf *conf, const char **ret_step)
{
    static struct kernel kernel;
    struct kernel *k = &kernel;
    uint64_t count;
    int error = prepare(k, conf, ret_step);

    if (error != 0)
        return error;
    pages_say_hello(&k->input, k->map, k->map_size);
    k->cover[0] = 0;
    while (call(FUZZ_ABI_ROOT, 0) != 0)
        continue;
    /* What the driver thinks of the input is none of our business. */
    (void)!write(k->device_fd, k->input.bytes, pages_input_size(&k->input));
    count = k->cover[0];
    if (count > COVER_WORDS - 1)
        count = COVER_WORDS - 1;
    kernel_count_edges(k->cover + 1, (size_t)count, k->map, k->map_size);
    (void)call(FUZZ_ABI_DONE, 0);
    *ret_step = "the run was not ended";
    return -EPROTO;
}
