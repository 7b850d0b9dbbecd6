/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/determinism.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"

/* ---- clock -----------------------------------------------------------------
 */

#define NS_PER_S    INT64_C(1000000000)
#define NS_PER_LOOK 1000
#define CLOCKS      12 /* CLOCK_TAI is 11 */

static struct {
    struct timespec base[CLOCKS];
    bool known[CLOCKS];
    int64_t passed_ns;
} held;

void clock_hold(void)
{
    for (clockid_t id = 0; id < CLOCKS; id++)
        held.known[id] = REAL(clock_gettime)(id, &held.base[id]) == 0;
}

static bool clock_is_held(void)
{
    return preload_in_run() && !preload.real_clock;
}

static struct timespec look(clockid_t id)
{
    struct timespec now = held.base[id];

    held.passed_ns += NS_PER_LOOK;
    now.tv_sec += held.passed_ns / NS_PER_S;
    now.tv_nsec += held.passed_ns % NS_PER_S;
    if (now.tv_nsec >= NS_PER_S) {
        now.tv_sec++;
        now.tv_nsec -= NS_PER_S;
    }
    return now;
}

REAL_EXPORT int clock_gettime(clockid_t id, struct timespec *ret_now)
{
    if (!clock_is_held() || id < 0 || id >= CLOCKS || !held.known[id])
        return REAL(clock_gettime)(id, ret_now);
    *ret_now = look(id);
    return 0;
}

REAL_EXPORT int gettimeofday(
    struct timeval *restrict ret_now, void *restrict zone)
{
    struct timespec now;

    if (!clock_is_held())
        return REAL(gettimeofday)(ret_now, zone);
    now = look(CLOCK_REALTIME);
    ret_now->tv_sec = now.tv_sec;
    ret_now->tv_usec = now.tv_nsec / 1000;
    return 0;
}

REAL_EXPORT time_t time(time_t *ret_now)
{
    time_t now;

    if (!clock_is_held())
        return REAL(time)(ret_now);
    now = look(CLOCK_REALTIME).tv_sec;
    if (ret_now != NULL)
        *ret_now = now;
    return now;
}

REAL_EXPORT clock_t clock(void)
{
    struct timespec now;

    if (!clock_is_held())
        return REAL(clock)();
    now = look(CLOCK_PROCESS_CPUTIME_ID);
    return now.tv_sec * CLOCKS_PER_SEC + now.tv_nsec / 1000;
}

/* ---- sleep -----------------------------------------------------------------
 */

static void pass(time_t seconds, int64_t ns)
{
    int64_t total;

    if (!__builtin_mul_overflow((int64_t)seconds, NS_PER_S, &total) &&
        !__builtin_add_overflow(total, ns, &total) && total > 0 &&
        held.passed_ns < INT64_MAX - total - NS_PER_LOOK * NS_PER_S)
        held.passed_ns += total;
}

REAL_EXPORT int nanosleep(const struct timespec *length, struct timespec *left)
{
    if (!clock_is_held())
        return REAL(nanosleep)(length, left);
    pass(length->tv_sec, length->tv_nsec);
    return 0;
}

REAL_EXPORT int clock_nanosleep(clockid_t id, int flags,
    const struct timespec *length, struct timespec *left)
{
    struct timespec now;

    if (!clock_is_held() || id < 0 || id >= CLOCKS || !held.known[id])
        return REAL(clock_nanosleep)(id, flags, length, left);
    if ((flags & TIMER_ABSTIME) == 0) {
        pass(length->tv_sec, length->tv_nsec);
        return 0;
    }
    now = look(id);
    pass(length->tv_sec - now.tv_sec, length->tv_nsec - now.tv_nsec);
    return 0;
}

REAL_EXPORT unsigned int sleep(unsigned int seconds)
{
    if (!clock_is_held())
        return REAL(sleep)(seconds);
    pass(seconds, 0);
    return 0;
}

REAL_EXPORT int usleep(useconds_t us)
{
    if (!clock_is_held())
        return REAL(usleep)(us);
    pass(0, (int64_t)us * 1000);
    return 0;
}

/* ---- random numbers --------------------------------------------------------
 */

#define FDS_MAX 1024

static uint64_t random_state;
static uint64_t random_fds[FDS_MAX / 64];

#define SPARES       4
#define SPARE_FD_MIN 960

static struct {
    int fd; /* 0: none */
    bool is_lent;
} spares[SPARES];

void random_init(void)
{
    /* Not zero, whatever the seed. */
    random_state = preload.seed * 2 + 0x9e3779b97f4a7c15u * 2 + 1;
}

/* xorshift64* (Vigna). */
static uint64_t random_next(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1du;
}

void random_fill(void *bytes, size_t n)
{
    uint8_t *to = bytes;

    while (n > 0) {
        uint64_t value = random_next();
        size_t part = n < sizeof(value) ? n : sizeof(value);

        memcpy(to, &value, part);
        to += part;
        n -= part;
    }
}

bool random_is_path(const char *path)
{
    return path != NULL && (strcmp(path, "/dev/urandom") == 0 ||
                               strcmp(path, "/dev/random") == 0);
}

/*
 * Descriptors that are open at the root, high up where no program looks for
 * its next one: to open and to close one of them is no business of the
 * kernel's.
 */
void random_prepare(void)
{
    for (unsigned int i = 0; i < SPARES; i++) {
        int fd = REAL(openat)(AT_FDCWD, "/dev/urandom", O_RDONLY | O_CLOEXEC);

        if (fd < 0)
            break;
        spares[i].fd = fcntl(fd, F_DUPFD_CLOEXEC, SPARE_FD_MIN);
        (void)REAL(close)(fd);
        random_remember(spares[i].fd);
    }
}

int random_open(void)
{
    for (unsigned int i = 0; preload_in_run() && i < SPARES; i++) {
        if (spares[i].fd <= 0 || spares[i].is_lent)
            continue;
        spares[i].is_lent = true;
        return spares[i].fd;
    }
    return -1;
}

bool random_close(int fd)
{
    for (unsigned int i = 0; preload_in_run() && i < SPARES; i++) {
        if (spares[i].fd != fd || !spares[i].is_lent)
            continue;
        spares[i].is_lent = false;
        return true;
    }
    return false;
}

void random_remember(int fd)
{
    if (fd >= 0 && fd < FDS_MAX)
        random_fds[fd / 64] |= UINT64_C(1) << fd % 64;
}

bool random_is(int fd)
{
    return fd >= 0 && fd < FDS_MAX && (random_fds[fd / 64] >> fd % 64 & 1) != 0;
}

void random_forget(int fd)
{
    if (fd >= 0 && fd < FDS_MAX)
        random_fds[fd / 64] &= ~(UINT64_C(1) << fd % 64);
}

REAL_EXPORT ssize_t getrandom(void *bytes, size_t n, unsigned int flags)
{
    if (!preload.active)
        return REAL(getrandom)(bytes, n, flags);
    random_fill(bytes, n);
    return (ssize_t)n;
}

REAL_EXPORT int getentropy(void *bytes, size_t n)
{
    if (!preload.active)
        return REAL(getentropy)(bytes, n);
    if (n > 256) {
        errno = EIO;
        return -1;
    }
    random_fill(bytes, n);
    return 0;
}

/* libc's are as new as 2.36, and may be missing: without them there is the
 * kernel's generator only, which getrandom stands for. */
uint32_t arc4random(void);
uint32_t arc4random_uniform(uint32_t bound);
void arc4random_buf(void *bytes, size_t n);

static void random_bytes(void *bytes, size_t n)
{
    if (preload.active)
        random_fill(bytes, n);
    else
        (void)!REAL(getrandom)(bytes, n, 0);
}

REAL_EXPORT void arc4random_buf(void *bytes, size_t n)
{
    random_bytes(bytes, n);
}

REAL_EXPORT uint32_t arc4random(void)
{
    uint32_t value = 0;

    random_bytes(&value, sizeof(value));
    return value;
}

REAL_EXPORT uint32_t arc4random_uniform(uint32_t bound)
{
    return bound > 1 ? arc4random() % bound : 0;
}

/* ---- the process -----------------------------------------------------------
 */

static pid_t own_pid;

void process_hold(void)
{
    own_pid = (pid_t)syscall(SYS_getpid);
}

/* Every root is one process, and children ask for themselves. */
REAL_EXPORT pid_t getpid(void)
{
    return preload_in_run() && own_pid != 0 ? own_pid
                                            : (pid_t)syscall(SYS_getpid);
}
