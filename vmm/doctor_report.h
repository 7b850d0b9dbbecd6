/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The findings of `spore doctor` and how they are written.
 *
 * Thread rule: one thread. Texts may come from files of the host: control
 * characters in them are replaced, long ones are cut.
 */
#ifndef VMM_DOCTOR_REPORT_H
#define VMM_DOCTOR_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vmm/base/cc.h"

#define DOCTOR_LINES_MAX 64u
#define DOCTOR_NO_VALUE  (-1)

enum doctor_state { DOCTOR_OK, DOCTOR_SLOW, DOCTOR_MISSING };

/*
 * One finding. `group` and `name` are fixed words, the identity of the line
 * in the JSON form, where they stay the same from version to version.
 */
struct doctor_line {
    const char *group;
    const char *name;
    enum doctor_state state;
    bool is_needed;   /* no guest runs while this is missing */
    int64_t value;    /* the number in `found`, or DOCTOR_NO_VALUE */
    const char *cost; /* what it costs the user; NULL: nothing */
    const char *cure; /* what to do about it; NULL: nothing to do */
    char found[224];
};

struct doctor_report {
    uint32_t count;
    struct doctor_line lines[DOCTOR_LINES_MAX];
};

/*
 * Adds a finding that says `fmt`. `line` is a template whose `found` is not
 * looked at; cost and cure of a line that is ok are dropped. Lines beyond
 * DOCTOR_LINES_MAX are our bug.
 */
void doctor_report_add(struct doctor_report *report,
    const struct doctor_line *line, const char *fmt, ...) CC_PRINTF(3, 4);

/* NULL if there is no such line. */
const struct doctor_line *doctor_report_find(
    const struct doctor_report *report, const char *group, const char *name);

/* Guests can run: nothing that is needed is missing. */
bool doctor_report_can_run(const struct doctor_report *report);

/* Writes the verdict, one line of `size` bytes at most with its NUL. */
void doctor_report_verdict(
    const struct doctor_report *report, char *ret_text, size_t size);

/* For people: the verdict, then a table. */
void doctor_report_print(const struct doctor_report *report, FILE *out);

/* One JSON object, as spore-doctor(1) describes: 0 or -errno. */
CC_MUST_CHECK int doctor_report_print_json(
    const struct doctor_report *report, FILE *out);

#endif
