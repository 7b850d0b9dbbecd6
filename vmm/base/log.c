/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"

static atomic_int log_level = LOG_WARN;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void log_line(enum log_level level, const char *module, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char line[512];
    va_list ap;
    int n;
    size_t len;

    if (!log_enabled(level))
        return;
    n = snprintf(line, sizeof(line), "spore: %s: %s: ", names[level], module);
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
    if (write(STDERR_FILENO, line, len) < 0)
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
