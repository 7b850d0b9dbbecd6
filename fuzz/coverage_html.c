/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/coverage.h"
#include "vmm/base/fd.h"

#define SOURCE_MAX ((size_t)16 << 20)

static const char head[] =
    "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>%s</title>\n"
    "<style>body{font:14px sans-serif;margin:2em}table{border-collapse:"
    "collapse}"
    "td,th{padding:2px 12px;text-align:left}pre{line-height:1.35}"
    "pre b{font-weight:normal;color:#888}"
    ".y{background:#d6f5d6;display:block}.n{background:#f9d6d6;display:block}"
    ".o{display:block}</style></head><body>\n<h1>%s</h1>\n";

static const char tail[] = "</body></html>\n";

/* Bytes that mean something in HTML are written out. */
static void print_escaped(const char *text, size_t size, FILE *out)
{
    for (size_t i = 0; i < size; i++) {
        switch (text[i]) {
        case '<':
            (void)fputs("&lt;", out);
            break;
        case '>':
            (void)fputs("&gt;", out);
            break;
        case '&':
            (void)fputs("&amp;", out);
            break;
        case '"':
            (void)fputs("&quot;", out);
            break;
        default:
            (void)fputc(text[i], out);
            break;
        }
    }
}

static char *escaped(const char *text)
{
    char *result = NULL;
    size_t size;
    FILE *out = open_memstream(&result, &size);

    if (out == NULL)
        return NULL;
    print_escaped(text, strlen(text), out);
    (void)fclose(out);
    return result;
}

static FILE *open_page(
    const char *dir, const char *name, const char *title, struct err *err)
{
    char *clean = escaped(title);
    char *path = NULL;
    FILE *out = NULL;

    if (clean != NULL && asprintf(&path, "%s/%s", dir, name) >= 0)
        out = fopen(path, "we");
    if (out == NULL)
        (void)err_sys(err, path == NULL ? ENOMEM : errno, "%s/%s", dir, name);
    else
        (void)fprintf(out, head, clean, clean); // NOLINT
    free(path);
    free(clean);
    return out;
}

static int close_page(FILE *out, const char *name, struct err *err)
{
    bool failed;

    (void)fputs(tail, out);
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed)
        return err_set(err, EIO, "%s: cannot be written", name);
    return 0;
}

/* Each line of the source in the colour of what is known of it. */
static void print_source(const char *text, size_t size,
    const struct coverage_line *lines, size_t count, FILE *out)
{
    const char *end = text + size;
    unsigned int number = 1;
    size_t i = 0;

    (void)fputs("<pre>", out);
    for (; text < end; number++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t length = (size_t)((newline != NULL ? newline : end) - text);
        char what = 'o';

        while (i < count && lines[i].line < number)
            i++;
        if (i < count && lines[i].line == number)
            what = lines[i].is_hit ? 'y' : 'n';
        (void)fprintf(out, "<span class=\"%c\"><b>%6u </b>", what, number);
        print_escaped(text, length, out);
        (void)fputs("</span>", out);
        text += length + 1;
    }
    (void)fputs("</pre>\n", out);
}

static int write_source(const char *dir, const char *page, const char *name,
    const struct coverage_line *lines, size_t count, struct err *err)
{
    FILE *out = open_page(dir, page, name, err);
    uint8_t *text = NULL;
    size_t size;

    if (out == NULL)
        return -EIO;
    if (fd_read_file(name, SOURCE_MAX, &text, &size, NULL) == 0)
        print_source((const char *)text, size, lines, count, out);
    else
        (void)fputs("<p>The source cannot be read here.</p>\n", out);
    free(text);
    return close_page(out, page, err);
}

static int write_pages(const struct coverage *c,
    const struct coverage_line *lines, size_t count, const char *dir,
    FILE *index, struct err *err)
{
    for (size_t i = 0; i < count;) {
        size_t first = i;
        size_t hit = 0;
        const char *name = c->names[lines[i].source];
        char page[32];
        int rc;

        for (; i < count && lines[i].source == lines[first].source; i++)
            hit += lines[i].is_hit ? 1 : 0;
        (void)snprintf(page, sizeof(page), "%u.html", lines[first].source);
        (void)fprintf(index, "<tr><td><a href=\"%s\">", page);
        print_escaped(name, strlen(name), index);
        (void)fprintf(index,
            "</a></td><td>%.1f %%</td><td>%zu / %zu</td></tr>\n",
            100.0 * (double)hit / (double)(i - first), hit, i - first);
        rc = write_source(dir, page, name, lines + first, i - first, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int coverage_write_html(
    const struct coverage *c, const char *dir, struct err *err)
{
    size_t count;
    struct coverage_line *lines = coverage_lines(c, &count);
    FILE *index;
    int rc;
    int close_rc;

    if (lines == NULL && c->count > 0)
        return err_sys(err, ENOMEM, "coverage");
    index = open_page(dir, "index.html", "Line coverage", err);
    if (index == NULL) {
        free(lines);
        return -EIO;
    }
    (void)fputs(
        "<table><tr><th>source</th><th>lines</th><th></th></tr>\n", index);
    rc = write_pages(c, lines, count, dir, index, err);
    free(lines);
    (void)fputs("</table>\n", index);
    close_rc = close_page(index, "index.html", rc < 0 ? NULL : err);
    return rc < 0 ? rc : close_rc;
}
