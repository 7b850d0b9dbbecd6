/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/timings_svg.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"

/* Pixels. */
#define LABEL_WIDTH  180
#define PLOT_WIDTH   560
#define NUMBER_WIDTH 170
#define WIDTH        (LABEL_WIDTH + PLOT_WIDTH + NUMBER_WIDTH)
#define HEAD_HEIGHT  78
#define ROW_HEIGHT   22
#define BAR_HEIGHT   14
#define AXIS_HEIGHT  34
#define PANEL_GAP    30

#define TITLE_MAX 90

/* Below this share of the whole, the monitor's part has a panel of its own. */
#define ENLARGE_BELOW 0.1

enum whose { MONITOR, KERNEL, AGENT, COMMAND, WHOSE_COUNT };

static const struct {
    const char *text;
    const char *color;
} owners[WHOSE_COUNT] = {
    [MONITOR] = {"monitor", "#4c78a8"},
    [KERNEL] = {"guest kernel", "#f58518"},
    [AGENT] = {"agent", "#54a24b"},
    [COMMAND] = {"command", "#b279a2"},
};

/* Who is at work until a phase is reached. */
static const enum whose whose[TIMINGS_COUNT] = {
    [TIMINGS_INIT] = KERNEL,
    [TIMINGS_ROOT] = AGENT,
    [TIMINGS_READY] = AGENT,
    [TIMINGS_COMMAND] = AGENT,
    [TIMINGS_COMMAND_END] = COMMAND,
    [TIMINGS_EXIT] = MONITOR,
};

/* Phases up to `last`, on an axis from the start of the first to their end. */
struct panel {
    const struct timings *t;
    FILE *out;
    enum timings_phase last;
    int y;
    uint64_t from_ns;
    uint64_t to_ns;
};

/* Text for XML: escaped, cut, and without what no document may contain. */
static void put_text(FILE *out, const char *text)
{
    for (size_t i = 0; text[i] != '\0' && i < TITLE_MAX; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '&')
            (void)fputs("&amp;", out);
        else if (c == '<')
            (void)fputs("&lt;", out);
        else if (c == '>')
            (void)fputs("&gt;", out);
        else
            (void)fputc(c < 0x20 || c > 0x7e ? '?' : c, out);
    }
}

/* A time for people, in the unit that suits it. */
static void put_time(FILE *out, uint64_t ns)
{
    if (ns >= 10 * UINT64_C(1000000000))
        (void)fprintf(out, "%.1f s", (double)ns / 1e9);
    else if (ns >= UINT64_C(1000000000))
        (void)fprintf(out, "%.2f s", (double)ns / 1e9);
    else
        (void)fprintf(out, "%.3g ms", (double)ns / 1e6);
}

/* The next mark after the one at `from`, past those that were not reached. */
static enum timings_phase next_reached(
    const struct timings *t, enum timings_phase from)
{
    do {
        from++;
    } while (from < TIMINGS_COUNT && t->at_ns[from] == 0);
    return from;
}

static struct panel panel_make(
    const struct timings *t, FILE *out, enum timings_phase last, int y)
{
    struct panel p = {
        .t = t, .out = out, .last = last, .y = y, .from_ns = UINT64_MAX};

    /* A guest can report its phases out of order. */
    for (size_t i = 0; i <= last; i++) {
        if (t->at_ns[i] == 0)
            continue;
        if (t->at_ns[i] < p.from_ns)
            p.from_ns = t->at_ns[i];
        if (t->at_ns[i] > p.to_ns)
            p.to_ns = t->at_ns[i];
    }
    return p;
}

static int panel_rows(const struct panel *p)
{
    int rows = 0;

    for (size_t i = 0; i <= p->last; i++)
        rows += p->t->at_ns[i] != 0;
    /* The first one only begins. */
    return rows > 0 ? rows - 1 : 0;
}

static double panel_x(const struct panel *p, uint64_t at_ns)
{
    if (p->to_ns <= p->from_ns)
        return LABEL_WIDTH;
    return LABEL_WIDTH + (double)(at_ns - p->from_ns) * PLOT_WIDTH /
                             (double)(p->to_ns - p->from_ns);
}

/* 1, 2 or 5 times a power of ten: five to twelve of them in the whole. */
static uint64_t tick_step(uint64_t whole_ns)
{
    static const unsigned int factors[] = {1, 2, 5};
    uint64_t power = 1;

    for (;;) {
        for (size_t i = 0; i < ARRAY_SIZE(factors); i++) {
            if (whole_ns / (power * factors[i]) <= 12)
                return power * factors[i];
        }
        power *= 10;
    }
}

static void draw_axis(const struct panel *p)
{
    uint64_t whole = p->to_ns - p->from_ns;
    uint64_t step = tick_step(whole);
    int bottom = p->y + panel_rows(p) * ROW_HEIGHT + 4;

    for (uint64_t at = 0; at <= whole; at += step) {
        double x = panel_x(p, p->from_ns + at);

        (void)fprintf(p->out,
            "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" "
            "y2=\"%d\"/>\n<text class=\"tick\" x=\"%.1f\" y=\"%d\">",
            x, p->y, x, bottom, x, bottom + 16);
        if (at == 0)
            (void)fputc('0', p->out);
        else
            put_time(p->out, at);
        (void)fputs("</text>\n", p->out);
    }
}

static void draw_row(const struct panel *p, int y, enum timings_phase before,
    enum timings_phase phase)
{
    uint64_t from = p->t->at_ns[before];
    uint64_t to = p->t->at_ns[phase];
    double x = panel_x(p, from < to ? from : to);
    double width = panel_x(p, to) - x;

    (void)fprintf(p->out, "<text class=\"label\" x=\"%d\" y=\"%d\">",
        LABEL_WIDTH - 10, y + BAR_HEIGHT - 2);
    put_text(p->out, timings_text(phase));
    (void)fprintf(p->out,
        "</text>\n<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" "
        "fill=\"%s\"/>\n<text class=\"took\" x=\"%.1f\" y=\"%d\">",
        x, y, width < 1 ? 1.0 : width, BAR_HEIGHT, owners[whose[phase]].color,
        x + width + 6, y + BAR_HEIGHT - 2);
    put_time(p->out, from < to ? to - from : 0);
    if (p->t->emulated[phase] != 0)
        (void)fprintf(
            p->out, ", at %.1f M instr.", (double)p->t->emulated[phase] / 1e6);
    (void)fputs("</text>\n", p->out);
}

static void draw_panel(const struct panel *p)
{
    enum timings_phase before = p->t->at_ns[0] != 0
                                    ? TIMINGS_PROCESS
                                    : next_reached(p->t, TIMINGS_PROCESS);
    int y = p->y + 4;

    draw_axis(p);
    while (before < p->last) {
        enum timings_phase phase = next_reached(p->t, before);

        if (phase > p->last)
            break;
        draw_row(p, y, before, phase);
        before = phase;
        y += ROW_HEIGHT;
    }
}

static void draw_head(const char *title, const struct panel *all, FILE *out)
{
    int x = LABEL_WIDTH;

    (void)fputs("<text class=\"title\" x=\"20\" y=\"28\">", out);
    put_text(out, title);
    (void)fputs("</text>\n<text class=\"took\" x=\"20\" y=\"48\">in all ", out);
    put_time(out, all->to_ns - all->from_ns);
    (void)fputs("</text>\n", out);
    for (size_t i = 0; i < WHOSE_COUNT; i++) {
        (void)fprintf(out,
            "<rect x=\"%d\" y=\"38\" width=\"12\" height=\"12\" fill=\"%s\"/>\n"
            "<text class=\"took\" x=\"%d\" y=\"48\">%s</text>\n",
            x, owners[i].color, x + 18, owners[i].text);
        x += 120;
    }
}

void timings_print_svg(const struct timings *t, const char *title, FILE *out)
{
    struct panel all = panel_make(t, out, TIMINGS_EXIT, HEAD_HEIGHT);
    struct panel monitor = panel_make(t, out, TIMINGS_GUEST,
        all.y + panel_rows(&all) * ROW_HEIGHT + AXIS_HEIGHT + PANEL_GAP);
    bool is_empty = all.to_ns <= all.from_ns || all.to_ns == 0;
    bool enlarges = !is_empty && t->at_ns[TIMINGS_GUEST] != 0 &&
                    monitor.to_ns > monitor.from_ns &&
                    (double)(monitor.to_ns - monitor.from_ns) <
                        ENLARGE_BELOW * (double)(all.to_ns - all.from_ns);
    int height = enlarges ? monitor.y + panel_rows(&monitor) * ROW_HEIGHT
                          : all.y + panel_rows(&all) * ROW_HEIGHT;

    height += AXIS_HEIGHT;
    (void)fprintf(out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
        "viewBox=\"0 0 %d %d\">\n"
        "<style>text{font:12px sans-serif;fill:#333}"
        ".title{font-size:16px;font-weight:bold}"
        ".label{text-anchor:end}.tick{text-anchor:middle;fill:#777}"
        ".took{fill:#555}.grid{stroke:#ddd}</style>\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
        WIDTH, height, WIDTH, height);
    if (!is_empty) {
        draw_head(title, &all, out);
        draw_panel(&all);
    }
    if (enlarges) {
        (void)fprintf(out,
            "<text class=\"took\" x=\"%d\" y=\"%d\">up to the first guest "
            "instruction, enlarged</text>\n",
            LABEL_WIDTH, monitor.y - 10);
        draw_panel(&monitor);
    }
    (void)fputs("</svg>\n", out);
}
