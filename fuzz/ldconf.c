/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/ldconf.h"

#include <glob.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/fd.h"

#define INCLUDE "include"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static size_t skip_spaces(const char *text, size_t size)
{
    size_t n = 0;

    while (n < size && is_space(text[n]))
        n++;
    return n;
}

/* Up to a space, or to the end. */
static size_t word_size(const char *text, size_t size)
{
    size_t n = 0;

    while (n < size && !is_space(text[n]) && text[n] != ',')
        n++;
    return n;
}

static void take_includes(const char *text, size_t size, struct words *includes)
{
    for (;;) {
        size_t n = skip_spaces(text, size);

        text += n;
        size -= n;
        n = word_size(text, size);
        if (n == 0 || includes->count >= LDCONF_FILES_MAX)
            return;
        words_add_bytes(includes, text, n);
        text += n;
        size -= n;
    }
}

static void take_line(
    const char *text, size_t size, struct words *dirs, struct words *includes)
{
    const char *comment = memchr(text, '#', size);
    size_t n;

    if (comment != NULL)
        size = (size_t)(comment - text);
    n = skip_spaces(text, size);
    text += n;
    size -= n;
    n = word_size(text, size);
    if (n == strlen(INCLUDE) && memcmp(text, INCLUDE, n) == 0)
        take_includes(text + n, size - n, includes);
    else if (n > 0 && text[0] == '/' && dirs->count < LDCONF_DIRS_MAX)
        words_add_bytes(dirs, text, n);
}

void ldconf_take(
    const char *text, size_t size, struct words *dirs, struct words *includes)
{
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t len = end == NULL ? size : (size_t)(end - text);

        take_line(text, len, dirs, includes);
        len += end == NULL ? 0 : 1;
        text += len;
        size -= len;
    }
}

/* A pattern is relative to the file that it is in. */
static void expand(const char *file, const char *pattern, struct words *files)
{
    const char *slash = strrchr(file, '/');
    struct words full = {0};
    glob_t found;

    if (pattern[0] == '/' || slash == NULL)
        words_add(&full, pattern);
    else
        words_addf(&full, "%.*s/%s", (int)(slash - file), file, pattern);
    if (!full.failed && glob(full.list[0], 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            if (files->count < LDCONF_FILES_MAX &&
                !words_has(files, found.gl_pathv[i]))
                words_add(files, found.gl_pathv[i]);
        }
        globfree(&found);
    }
    words_fini(&full);
}

void ldconf_read(const char *path, struct words *dirs)
{
    struct words files = {0};

    words_add(&files, path);
    for (size_t i = 0; i < files.count; i++) {
        struct words includes = {0};
        uint8_t *data = NULL;
        size_t size = 0;

        if (fd_read_file(files.list[i], LDCONF_FILE_MAX, &data, &size, NULL) <
            0)
            continue;
        ldconf_take((const char *)data, size, dirs, &includes);
        free(data);
        for (size_t k = 0; k < includes.count; k++)
            expand(files.list[i], includes.list[k], &files);
        words_fini(&includes);
    }
    words_fini(&files);
}
