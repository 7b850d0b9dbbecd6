/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/doctor_report.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define JSON_VERSION  1
#define WIDTH         80
#define INDENT        28
#define VERDICT_BYTES 512

static const char *state_name(enum doctor_state state)
{
    static const char *const names[] = {"ok", "slow", "missing"};

    return names[state];
}

/* Cuts a UTF-8 sequence that the buffer was too short for. */
static void trim_cut_sequence(char *text, size_t size)
{
    size_t len = strlen(text);

    if (len + 1 < size)
        return;
    while (len > 0 && ((unsigned char)text[len - 1] & 0xc0) == 0x80)
        text[--len] = '\0';
    if (len > 0 && (unsigned char)text[len - 1] >= 0xc0)
        text[len - 1] = '\0';
}

void doctor_report_add(struct doctor_report *report,
    const struct doctor_line *line, const char *fmt, ...)
{
    struct doctor_line *added = &report->lines[report->count];
    va_list ap;

    assert(report->count < DOCTOR_LINES_MAX);
    *added = *line;
    if (added->state == DOCTOR_OK) {
        added->cost = NULL;
        added->cure = NULL;
    }
    va_start(ap, fmt);
    (void)vsnprintf(added->found, sizeof(added->found), fmt, ap);
    va_end(ap);
    for (char *p = added->found; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
    trim_cut_sequence(added->found, sizeof(added->found));
    report->count++;
}

const struct doctor_line *doctor_report_find(
    const struct doctor_report *report, const char *group, const char *name)
{
    for (uint32_t i = 0; i < report->count; i++) {
        const struct doctor_line *line = &report->lines[i];

        if (strcmp(line->group, group) == 0 && strcmp(line->name, name) == 0)
            return line;
    }
    return NULL;
}

static const struct doctor_line *first_obstacle(
    const struct doctor_report *report)
{
    for (uint32_t i = 0; i < report->count; i++) {
        const struct doctor_line *line = &report->lines[i];

        if (line->is_needed && line->state == DOCTOR_MISSING)
            return line;
    }
    return NULL;
}

bool doctor_report_can_run(const struct doctor_report *report)
{
    return first_obstacle(report) == NULL;
}

static const struct doctor_line *first_slow(const struct doctor_report *report)
{
    for (uint32_t i = 0; i < report->count; i++) {
        if (report->lines[i].state == DOCTOR_SLOW && report->lines[i].is_needed)
            return &report->lines[i];
    }
    return NULL;
}

void doctor_report_verdict(
    const struct doctor_report *report, char *ret_text, size_t size)
{
    const struct doctor_line *obstacle = first_obstacle(report);
    const struct doctor_line *slow = first_slow(report);
    const struct doctor_line *kernel =
        doctor_report_find(report, "files", "guest_kernel");
    const char *after = "";

    if (obstacle != NULL) {
        (void)snprintf(
            ret_text, size, "spore can run here: no: %s", obstacle->found);
        return;
    }
    if (kernel != NULL && kernel->state == DOCTOR_MISSING)
        after = "; no guest kernel is installed yet";
    if (slow != NULL)
        (void)snprintf(ret_text, size, "spore can run here: yes, slowly: %s%s",
            slow->found, after);
    else
        (void)snprintf(ret_text, size, "spore can run here: yes%s", after);
}

/* Writes words from column INDENT on, wrapped at the width of a terminal. */
static void print_wrapped(FILE *out, const char *text, int column)
{
    const char *p = text;

    while (*p != '\0') {
        int len = (int)strcspn(p, " ");

        if (column + 1 + len > WIDTH && column > INDENT) {
            (void)fprintf(out, "\n%*s", INDENT, "");
            column = INDENT;
        }
        if (column > INDENT) {
            (void)fputc(' ', out);
            column++;
        }
        (void)fprintf(out, "%.*s", len, p);
        column += len;
        p += len;
        p += strspn(p, " ");
    }
    (void)fputc('\n', out);
}

static void print_line(const struct doctor_line *line, FILE *out)
{
    (void)fprintf(out, "  %-7s %-17s ", state_name(line->state), line->name);
    print_wrapped(out, line->found, INDENT);
    if (line->cost != NULL) {
        (void)fprintf(out, "%*scosts:", INDENT, "");
        print_wrapped(out, line->cost, INDENT + 6);
    }
    if (line->cure != NULL) {
        (void)fprintf(out, "%*sdo:", INDENT, "");
        print_wrapped(out, line->cure, INDENT + 3);
    }
}

void doctor_report_print(const struct doctor_report *report, FILE *out)
{
    char verdict[VERDICT_BYTES];
    const char *group = "";

    doctor_report_verdict(report, verdict, sizeof(verdict));
    (void)fprintf(out, "%s\n", verdict);
    for (uint32_t i = 0; i < report->count; i++) {
        const struct doctor_line *line = &report->lines[i];

        if (strcmp(group, line->group) != 0)
            (void)fprintf(out, "\n%s\n", line->group);
        group = line->group;
        print_line(line, out);
    }
}

/* A JSON string of what may not be UTF-8: then only its ASCII is kept. */
static json_t *text_to_json(const char *text)
{
    json_t *json = json_string(text);
    char *ascii;

    if (json != NULL)
        return json;
    ascii = strdup(text);
    if (ascii == NULL)
        return NULL;
    for (char *p = ascii; *p != '\0'; p++) {
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    }
    json = json_string(ascii);
    free(ascii);
    return json;
}

static json_t *line_to_json(const struct doctor_line *line)
{
    json_t *value = line->value == DOCTOR_NO_VALUE
                        ? json_null()
                        : json_integer((json_int_t)line->value);

    return json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:s?, s:s?}", "group",
        line->group, "name", line->name, "state", state_name(line->state),
        "needed", (int)line->is_needed, "value", value, "found",
        text_to_json(line->found), "cost", line->cost, "cure", line->cure);
}

int doctor_report_print_json(const struct doctor_report *report, FILE *out)
{
    char verdict[VERDICT_BYTES];
    json_t *lines = json_array();
    json_t *root = NULL;
    int rc = -ENOMEM;

    doctor_report_verdict(report, verdict, sizeof(verdict));
    for (uint32_t i = 0; lines != NULL && i < report->count; i++) {
        if (json_array_append_new(lines, line_to_json(&report->lines[i])) < 0) {
            json_decref(lines);
            lines = NULL;
        }
    }
    root = json_pack("{s:i, s:b, s:b, s:o, s:o}", "version", JSON_VERSION,
        "can_run", (int)doctor_report_can_run(report), "is_slow",
        (int)(first_slow(report) != NULL), "verdict", text_to_json(verdict),
        "checks", lines);
    if (root != NULL) {
        rc = json_dumpf(root, out, JSON_INDENT(2)) < 0 ? -EIO : 0;
        (void)fputc('\n', out);
    }
    json_decref(root);
    return rc;
}
