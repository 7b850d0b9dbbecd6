/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/proc_sample.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

/* Fields of proc_pid_stat(5), counted from 1. */
#define STAT_STATE  3
#define STAT_MINFLT 10
#define STAT_MAJFLT 12
#define STAT_UTIME  14
#define STAT_STIME  15

static int read_text(pid_t pid, const char *name, char *text, size_t size)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    char path[64];
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    n = fd_read_full(fd, text, size - 1);
    if (n < 0)
        return (int)n;
    text[n] = '\0';
    return 0;
}

bool proc_sample_parse_statm(const char *text, uint64_t *ret_private_bytes)
{
    uint64_t values[3]; /* size, resident, shared: proc_pid_statm(5) */

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        text += strspn(text, " ");
        text = num_take_digits(text, &values[i]);
        if (text == NULL)
            return false;
    }
    if (values[1] < values[2])
        values[1] = values[2];
    return num_mul(values[1] - values[2], NUM_PAGE_SIZE, ret_private_bytes);
}

static bool ticks_to_ns(uint64_t ticks, uint64_t *ret_ns)
{
    long per_s = sysconf(_SC_CLK_TCK);

    return per_s > 0 &&
           num_mul(ticks, CLOCK_NS_PER_S / (uint64_t)per_s, ret_ns);
}

bool proc_sample_parse_stat(const char *text, struct proc_sample *ret_sample)
{
    struct proc_sample sample = {.state = '?'};
    uint64_t ticks = 0;
    /* The second is the program's name, with whatever it likes in it. */
    const char *at = strrchr(text, ')');

    if (at == NULL || at[1] != ' ' || at[2] == '\0')
        return false;
    sample.state = at[2];
    at += 3;
    for (unsigned int field = STAT_STATE + 1; field <= STAT_STIME; field++) {
        uint64_t value;

        at += strspn(at, " ");
        at += at[0] == '-'; /* the terminal's foreground group: no use */
        at = num_take_digits(at, &value);
        if (at == NULL)
            return false;
        if (field == STAT_MINFLT)
            sample.minor_faults = value;
        else if (field == STAT_MAJFLT)
            sample.major_faults = value;
        else if (field == STAT_UTIME)
            ticks = value;
        else if (field == STAT_STIME && !num_add(ticks, value, &ticks))
            return false;
    }
    if (!ticks_to_ns(ticks, &sample.cpu_ns))
        return false;
    *ret_sample = sample;
    return true;
}

int proc_sample_take(pid_t pid, struct proc_sample *ret_sample)
{
    struct proc_sample sample = {0};
    uint64_t private_bytes = 0;
    char text[1024];
    int rc = read_text(pid, "stat", text, sizeof(text));

    if (rc == 0 && !proc_sample_parse_stat(text, &sample))
        rc = -EPROTO;
    if (rc == 0)
        rc = read_text(pid, "statm", text, sizeof(text));
    if (rc == 0 && !proc_sample_parse_statm(text, &private_bytes))
        rc = -EPROTO;
    if (rc < 0)
        return rc;
    sample.private_bytes = private_bytes;
    *ret_sample = sample;
    return 0;
}

static bool find_number(const char *text, const char *key, uint64_t *ret_value)
{
    const char *at = strstr(text, key);

    return at != NULL && num_take_digits(at + strlen(key), ret_value) != NULL;
}

int proc_sample_io(pid_t pid, uint64_t *ret_read, uint64_t *ret_written)
{
    char text[512];
    uint64_t in;
    uint64_t out;
    int rc = read_text(pid, "io", text, sizeof(text));

    if (rc < 0)
        return rc;
    if (!find_number(text, "rchar: ", &in) ||
        !find_number(text, "wchar: ", &out))
        return -EPROTO;
    *ret_read = in;
    *ret_written = out;
    return 0;
}
