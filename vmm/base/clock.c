/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/clock.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/cc.h"
#include "vmm/base/fd.h"

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    int rc = clock_gettime(id, &ts);

    assert(rc == 0);
    (void)rc;
    return (uint64_t)ts.tv_sec * CLOCK_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_realtime_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

/* proc(5), /proc/pid/stat field 22: start time since boot in clock ticks. */
uint64_t clock_process_start_ns(void)
{
    char buf[1024];
    CC_CLEANUP(fd_closep) int fd =
        open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    uint64_t now = clock_now_ns();
    uint64_t boot_to_mono = read_clock(CLOCK_BOOTTIME) - now;
    uint64_t ticks;
    long hz = sysconf(_SC_CLK_TCK);
    const char *p;
    ssize_t n;

    if (fd < 0 || hz <= 0)
        return now;
    n = read(fd, buf, sizeof(buf) - 1);
    if (n <= 0)
        return now;
    buf[n] = '\0';
    /* The second field is the program's name and may hold anything. */
    p = strrchr(buf, ')');
    for (int field = 2; p != NULL && field < 22; field++) {
        p = strchr(p, ' ');
        if (p != NULL)
            p++;
    }
    if (p == NULL)
        return now;
    ticks = strtoull(p, NULL, 10);
    ticks = ticks * (CLOCK_NS_PER_S / (uint64_t)hz);
    return ticks > boot_to_mono && ticks - boot_to_mono < now
               ? ticks - boot_to_mono
               : now;
}
