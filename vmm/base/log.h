/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Levelled one-line log on standard error, "spore: <level>: <module>: text".
 *
 * Thread rule: any thread, each line is one write(2). The level and the target
 * are the program's only mutable globals. Lines that a guest can cause go
 * through log_limited, so that it cannot flood the log.
 */
#ifndef VMM_BASE_LOG_H
#define VMM_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"

enum log_level { LOG_OFF = -1, LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Lines above `level` are dropped; the start value is LOG_WARN. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

void log_line(enum log_level level, const char *module, const char *fmt, ...)
    CC_PRINTF(3, 4);

/*
 * Lines go to a file instead, each as "TIME [ID:THREAD:LEVEL:ORIGIN] text",
 * which is how Firecracker's are. `target` is borrowed until the next call;
 * NULL: standard error again.
 */
struct log_target {
    int fd; /* -1: standard error */
    const char *id;
    bool show_level;
    bool show_origin; /* the module */
    const char *only; /* the module that lines are of; NULL: any */
};
void log_set_target(const struct log_target *target);

/*
 * For lines that somebody who is not trusted can cause, one struct for each
 * place: LOG_RATE_BURST at once, then one in LOG_RATE_REFILL_NS, which is less
 * than a megabyte a day of the longest lines. All zero is a fresh one. The
 * lock of whoever owns it guards it.
 */
#define LOG_RATE_BURST     10u
#define LOG_RATE_REFILL_NS UINT64_C(60000000000)
struct log_rate {
    uint64_t since_ns;   /* when a line was last given back */
    uint32_t used;       /* lines that are out, up to LOG_RATE_BURST */
    uint32_t dropped;    /* lines refused since the last one allowed */
    uint32_t suppressed; /* what `dropped` was when a line was last allowed */
};

/*
 * True if a line may be printed now; counts it either way. rate->suppressed
 * is then the number of lines that were dropped since the one before.
 */
CC_MUST_CHECK bool log_rate_allow(struct log_rate *rate);

/*
 * log_line within `rate`; in front of the first line behind a gap comes one
 * that says how many were left out. The arguments are not looked at when it
 * is.
 */
#define log_limited(rate, level, module, ...)                                  \
    do {                                                                       \
        if (log_rate_allow(rate)) {                                            \
            if ((rate)->suppressed > 0)                                        \
                log_line(level, module,                                        \
                    "%u lines like this one left out:", (rate)->suppressed);   \
            log_line(level, module, __VA_ARGS__);                              \
        }                                                                      \
    } while (0)

#define log_err(module, ...)   log_line(LOG_ERR, module, __VA_ARGS__)
#define log_warn(module, ...)  log_line(LOG_WARN, module, __VA_ARGS__)
#define log_info(module, ...)  log_line(LOG_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_line(LOG_DEBUG, module, __VA_ARGS__)

#endif
