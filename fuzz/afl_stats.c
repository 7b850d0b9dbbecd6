/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/afl_stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define COLUMNS_MAX 32u
#define HEADER_MAX  1024u
#define TAIL_MAX    4096u
#define DIGITS_MAX  20u

struct field {
    const char *text;
    size_t size;
};

/* The fields of a line, without the spaces around them. */
static size_t split(
    const char *line, size_t size, struct field fields[COLUMNS_MAX])
{
    size_t count = 0;

    while (size > 0 && count < COLUMNS_MAX) {
        const char *comma = memchr(line, ',', size);
        size_t len = comma == NULL ? size : (size_t)(comma - line);
        struct field *f = &fields[count++];

        *f = (struct field){.text = line, .size = len};
        while (f->size > 0 && (*f->text == ' ' || *f->text == '#')) {
            f->text++;
            f->size--;
        }
        while (f->size > 0 &&
               (f->text[f->size - 1] == ' ' || f->text[f->size - 1] == '\r'))
            f->size--;
        len += comma == NULL ? 0 : 1;
        line += len;
        size -= len;
    }
    return count;
}

static bool is_name(const struct field *f, const char *name)
{
    return f->size == strlen(name) && memcmp(f->text, name, f->size) == 0;
}

static int take_number(const struct field *f, uint64_t *ret_number)
{
    char text[DIGITS_MAX + 1];
    const char *end;

    if (f->size == 0 || f->size > DIGITS_MAX)
        return -EINVAL;
    memcpy(text, f->text, f->size);
    text[f->size] = '\0';
    end = num_take_digits(text, ret_number);
    return end == NULL || *end != '\0' ? -EINVAL : 0;
}

/* The last line that has its end; NULL: none. */
static const char *last_line(const char *tail, size_t size, size_t *ret_size)
{
    const char *end = memrchr(tail, '\n', size);
    const char *before;

    if (end == NULL)
        return NULL;
    before = memrchr(tail, '\n', (size_t)(end - tail));
    before = before == NULL ? tail : before + 1;
    *ret_size = (size_t)(end - before);
    return *ret_size == 0 || *before == '#' ? NULL : before;
}

int afl_stats_parse(const char *header, size_t header_size, const char *tail,
    size_t tail_size, struct afl_stats *ret_stats)
{
    struct afl_stats stats = {0};
    const struct {
        const char *name;
        uint64_t *to;
    } wanted[] = {
        {"relative_time", &stats.seconds},
        {"total_execs", &stats.execs},
        {"corpus_count", &stats.corpus},
        {"saved_crashes", &stats.crashes},
        {"saved_hangs", &stats.hangs},
        {"edges_found", &stats.edges},
    };
    struct field names[COLUMNS_MAX];
    struct field values[COLUMNS_MAX];
    const char *header_end = memchr(header, '\n', header_size);
    const char *line;
    size_t line_size = 0;
    size_t name_count;
    size_t count;

    if (header_end == NULL || *header != '#')
        return -EINVAL;
    line = last_line(tail, tail_size, &line_size);
    if (line == NULL)
        return -ENODATA;
    name_count = split(header, (size_t)(header_end - header), names);
    count = split(line, line_size, values);
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
        size_t k = 0;

        while (k < name_count && !is_name(&names[k], wanted[i].name))
            k++;
        if (k >= name_count || k >= count ||
            take_number(&values[k], wanted[i].to) < 0)
            return -EINVAL;
    }
    *ret_stats = stats;
    return 0;
}

int afl_stats_read(const char *path, struct afl_stats *ret_stats)
{
    CC_CLEANUP(fd_closep)
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    char header[HEADER_MAX];
    char tail[TAIL_MAX];
    struct stat st;
    ssize_t header_size;
    ssize_t tail_size;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    header_size = fd_pread_full(fd, header, sizeof(header), 0);
    if (header_size < 0)
        return (int)header_size;
    tail_size = fd_pread_full(fd, tail, sizeof(tail),
        st.st_size > (off_t)sizeof(tail) ? (uint64_t)st.st_size - sizeof(tail)
                                         : 0);
    if (tail_size < 0)
        return (int)tail_size;
    if (header_size == 0)
        return -ENODATA;
    return afl_stats_parse(
        header, (size_t)header_size, tail, (size_t)tail_size, ret_stats);
}
