/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/coverage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void coverage_fini(struct coverage *c)
{
    for (size_t i = 0; i < c->name_count; i++)
        free(c->names[i]);
    free(c->names);
    free(c->rows);
    *c = (struct coverage){0};
}

/* ---- rows ---------------------------------------------------------------- */

struct adding {
    struct coverage *c;
    uint64_t bias;
    const char *source; /* the last one, and its index */
    uint32_t index;
};

/* Line tables name the same source many times in a row. */
static int find_source(struct adding *a, const char *source)
{
    struct coverage *c = a->c;
    char **names;

    if (a->source == source)
        return 0;
    for (size_t i = 0; i < c->name_count; i++) {
        if (strcmp(c->names[i], source) == 0) {
            a->source = source;
            a->index = (uint32_t)i;
            return 0;
        }
    }
    names = reallocarray(c->names, c->name_count + 1, sizeof(*names));
    if (names == NULL)
        return -ENOMEM;
    c->names = names;
    names[c->name_count] = strdup(source);
    if (names[c->name_count] == NULL)
        return -ENOMEM;
    a->source = source;
    a->index = (uint32_t)c->name_count++;
    return 0;
}

static int add_row(void *opaque, const struct debug_file_line *line)
{
    struct adding *a = opaque;
    struct coverage *c = a->c;

    if (!line->is_stmt)
        return 0;
    if (c->count == COVERAGE_ROWS_MAX)
        return -E2BIG;
    if (find_source(a, line->source) < 0)
        return -ENOMEM;
    if (c->count == c->room) {
        size_t room = c->room == 0 ? 1024 : 2 * c->room;
        struct coverage_row *rows = reallocarray(c->rows, room, sizeof(*rows));

        if (rows == NULL)
            return -ENOMEM;
        c->rows = rows;
        c->room = room;
    }
    c->rows[c->count++] =
        (struct coverage_row){.address = line->address + a->bias,
            .source = a->index,
            .line = line->line};
    return 0;
}

static int order_rows(const void *a, const void *b)
{
    const struct coverage_row *x = a;
    const struct coverage_row *y = b;

    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    if (x->source != y->source)
        return x->source < y->source ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

int coverage_add(
    struct coverage *c, struct debug_file *file, uint64_t bias, struct err *err)
{
    struct adding a = {.c = c, .bias = bias};
    size_t before = c->count;
    int rc = debug_file_lines(file, add_row, &a);

    if (rc < 0)
        return err_sys(err, rc, "line tables");
    if (c->count == before)
        return err_set(
            err, ENODATA, "no line numbers: build the program with -g");
    qsort(c->rows, c->count, sizeof(*c->rows), order_rows);
    return 0;
}

uint64_t *coverage_addresses(const struct coverage *c, size_t *ret_count)
{
    uint64_t *list = calloc(c->count, sizeof(*list));
    size_t count = 0;

    for (size_t i = 0; list != NULL && i < c->count; i++) {
        if (count == 0 || list[count - 1] != c->rows[i].address)
            list[count++] = c->rows[i].address;
    }
    *ret_count = count;
    return list;
}

void coverage_hit(struct coverage *c, uint64_t address)
{
    size_t low = 0;
    size_t high = c->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (c->rows[mid].address < address)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < c->count && c->rows[low].address == address; low++)
        c->rows[low].is_hit = true;
}

/* ---- lines --------------------------------------------------------------- */

static int order_lines(const void *a, const void *b)
{
    const struct coverage_line *x = a;
    const struct coverage_line *y = b;

    if (x->source != y->source)
        return x->source < y->source ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

struct coverage_line *coverage_lines(
    const struct coverage *c, size_t *ret_count)
{
    struct coverage_line *list = calloc(c->count, sizeof(*list));
    size_t count = 0;

    *ret_count = 0;
    if (list == NULL)
        return NULL;
    for (size_t i = 0; i < c->count; i++)
        list[i] = (struct coverage_line){.source = c->rows[i].source,
            .line = c->rows[i].line,
            .is_hit = c->rows[i].is_hit};
    if (c->count > 0)
        qsort(list, c->count, sizeof(*list), order_lines);
    for (size_t i = 0; i < c->count; i++) {
        if (count > 0 && order_lines(&list[count - 1], &list[i]) == 0)
            list[count - 1].is_hit |= list[i].is_hit;
        else
            list[count++] = list[i];
    }
    *ret_count = count;
    return list;
}

int coverage_count(const struct coverage *c, size_t *ret_lines, size_t *ret_hit,
    struct err *err)
{
    size_t count;
    size_t hit = 0;
    struct coverage_line *lines = coverage_lines(c, &count);

    if (lines == NULL && c->count > 0)
        return err_sys(err, ENOMEM, "coverage");
    for (size_t i = 0; i < count; i++)
        hit += lines[i].is_hit ? 1 : 0;
    free(lines);
    *ret_lines = count;
    *ret_hit = hit;
    return 0;
}

/* ---- lcov ---------------------------------------------------------------- */

static void print_lcov(const struct coverage *c,
    const struct coverage_line *lines, size_t count, FILE *out)
{
    for (size_t i = 0; i < count;) {
        size_t first = i;
        size_t hit = 0;

        (void)fprintf(out, "TN:\nSF:%s\n", c->names[lines[i].source]);
        for (; i < count && lines[i].source == lines[first].source; i++) {
            (void)fprintf(
                out, "DA:%u,%d\n", lines[i].line, lines[i].is_hit ? 1 : 0);
            hit += lines[i].is_hit ? 1 : 0;
        }
        (void)fprintf(out, "LF:%zu\nLH:%zu\nend_of_record\n", i - first, hit);
    }
}

int coverage_write_lcov(
    const struct coverage *c, const char *path, struct err *err)
{
    size_t count;
    struct coverage_line *lines = coverage_lines(c, &count);
    FILE *out = fopen(path, "we");
    bool failed;

    if (out == NULL || (lines == NULL && c->count > 0)) {
        int code = out == NULL ? errno : ENOMEM;

        free(lines);
        if (out != NULL)
            (void)fclose(out);
        return err_sys(err, code, "%s", path);
    }
    print_lcov(c, lines, count, out);
    free(lines);
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed)
        return err_set(err, EIO, "%s: cannot be written", path);
    return 0;
}
