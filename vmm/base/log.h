/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Levelled one-line log on standard error, "spore: <level>: <module>: text".
 *
 * Thread rule: any thread, each line is one write(2). The level is the
 * program's only mutable global. Lines that a guest can cause go through a
 * struct log_rate, so that it cannot flood the log.
 */
#ifndef VMM_BASE_LOG_H
#define VMM_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Lines above `level` are dropped; the start value is LOG_WARN. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

void log_line(enum log_level level, const char *module, const char *fmt, ...)
    CC_PRINTF(3, 4);

/* At most `LOG_RATE_BURST` lines a second from one place. */
#define LOG_RATE_BURST 10
struct log_rate {
    uint64_t window_ns;  /* start of the current second */
    uint32_t count;      /* lines asked for in it */
    uint32_t dropped;    /* lines refused since the last one allowed */
    uint32_t suppressed; /* what `dropped` was when a line was last allowed */
};

/*
 * True if a line may be printed now; counts it either way. rate->suppressed
 * is then the number of lines that were dropped since the one before.
 */
bool log_rate_allow(struct log_rate *rate);

#define log_err(module, ...)   log_line(LOG_ERR, module, __VA_ARGS__)
#define log_warn(module, ...)  log_line(LOG_WARN, module, __VA_ARGS__)
#define log_info(module, ...)  log_line(LOG_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_line(LOG_DEBUG, module, __VA_ARGS__)

#endif
