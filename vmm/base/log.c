/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"

static atomic_int log_level = LOG_WARN;
static const struct log_target *_Atomic log_target;

void log_set_target(const struct log_target *target)
{
    /* Which reads a file, and lines come, and end, when none can be opened. */
    if (target != NULL)
        tzset();
    atomic_store_explicit(&log_target, target, memory_order_release);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

/* What stands in front of a line for a file. */
static int format_head(const struct log_target *t, enum log_level level,
    const char *module, char *buf, size_t size)
{
    static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG"};
    char thread[17] = "";
    struct timespec now = {0};
    struct tm tm = {0};

    (void)clock_gettime(CLOCK_REALTIME, &now);
    /* Not strftime(3), which looks for the zone's file each time. */
    (void)localtime_r(&now.tv_sec, &tm);
    (void)prctl(PR_GET_NAME, thread);
    return snprintf(buf, size,
        "%04d-%02d-%02dT%02d:%02d:%02d.%09ld [%s:%s%s%s%s%s] ",
        tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
        tm.tm_sec, now.tv_nsec, t->id, thread, t->show_level ? ":" : "",
        t->show_level ? names[level] : "", t->show_origin ? ":" : "",
        t->show_origin ? module : "");
}

void log_line(enum log_level level, const char *module, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    const struct log_target *target =
        atomic_load_explicit(&log_target, memory_order_acquire);
    char line[512];
    va_list ap;
    int n;
    size_t len;

    if (!log_enabled(level) ||
        (target != NULL && target->only != NULL &&
            strncmp(module, target->only, strlen(target->only)) != 0))
        return;
    n = target == NULL || target->fd < 0
            ? snprintf(
                  line, sizeof(line), "spore: %s: %s: ", names[level], module)
            : format_head(target, level, module, line, sizeof(line));
    len = n < 0 ? 0 : (size_t)n;
    if (len > sizeof(line) / 2)
        len = sizeof(line) / 2;
    va_start(ap, fmt);
    (void)vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
    va_end(ap);
    for (char *p = line; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
    len = strlen(line);
    line[len++] = '\n';
    /* Nothing can be done about a standard error that takes no more. */
    if (write(target == NULL || target->fd < 0 ? STDERR_FILENO : target->fd,
            line, len) < 0)
        return;
}

/* Gives back what the time since has earned. */
static void refill(struct log_rate *rate, uint64_t now_ns)
{
    uint64_t earned;

    if (rate->used == 0 || now_ns < rate->since_ns) {
        rate->since_ns = now_ns;
        return;
    }
    earned = (now_ns - rate->since_ns) / LOG_RATE_REFILL_NS;
    if (earned >= rate->used) {
        rate->used = 0;
        rate->since_ns = now_ns;
        return;
    }
    rate->used -= (uint32_t)earned;
    rate->since_ns += earned * LOG_RATE_REFILL_NS;
}

bool log_rate_allow(struct log_rate *rate)
{
    refill(rate, clock_now_ns());
    if (rate->used >= LOG_RATE_BURST) {
        if (rate->dropped < UINT32_MAX)
            rate->dropped++;
        return false;
    }
    rate->used++;
    rate->suppressed = rate->dropped;
    rate->dropped = 0;
    return true;
}
