/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent says to people and to the monitor's boot timeline. One
 * thread; no state.
 */
#ifndef GUEST_AGENT_REPORT_H
#define GUEST_AGENT_REPORT_H

#include <stdint.h>

/* What a timeline port is written. */
enum report_phase {
    REPORT_PHASE_START = 1,
    REPORT_PHASE_ROOT = 2,
    REPORT_PHASE_READY = 3,
    REPORT_PHASE_SETTLED = 4,
};

/*
 * One line to /dev/kmsg and /dev/console, or to standard error if those are
 * not there. No newline in text.
 */
void report_line(const char *text);

/* The same with "text: reason" of a negative errno. */
void report_error(const char *text, int error);

/* Makes an I/O port writable to this process. 0 or -errno. */
int report_open_port(uint16_t port);

/* Writes a phase to such a port; nothing with port 0. */
void report_phase(uint16_t port, enum report_phase phase);

#endif
