/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/maps.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"

/* What is left of one line. */
struct line {
    const char *at;
    const char *end;
};

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_number(struct line *line, unsigned int base, uint64_t *ret)
{
    uint64_t value = 0;
    const char *first = line->at;

    for (; line->at < line->end; line->at++) {
        int d = digit(*line->at);

        if (d < 0 || (unsigned int)d >= base)
            break;
        if (value > (UINT64_MAX - (unsigned int)d) / base)
            return false;
        value = value * base + (unsigned int)d;
    }
    if (line->at == first)
        return false;
    *ret = value;
    return true;
}

static bool take_char(struct line *line, char c)
{
    if (line->at == line->end || *line->at != c)
        return false;
    line->at++;
    return true;
}

static bool take_perms(struct line *line, char ret_perms[5])
{
    static const char *const legal[4] = {"r-", "w-", "x-", "ps"};

    if (line->end - line->at < 4)
        return false;
    for (unsigned int i = 0; i < 4; i++) {
        if (strchr(legal[i], line->at[i]) == NULL || line->at[i] == '\0')
            return false;
        ret_perms[i] = line->at[i];
    }
    ret_perms[4] = '\0';
    line->at += 4;
    return true;
}

/* A kernel's are whole pages, and readers go by pages. */
static bool is_whole_pages(const struct maps_range *r)
{
    return r->end > r->start && r->start % NUM_PAGE_SIZE == 0 &&
           r->end % NUM_PAGE_SIZE == 0 && r->offset % NUM_PAGE_SIZE == 0;
}

/* start-end perms offset major:minor inode   name */
static bool parse_line(struct line line, struct maps_range *ret_range)
{
    struct maps_range r = {0};
    uint64_t ignored;

    if (!take_number(&line, 16, &r.start) || !take_char(&line, '-') ||
        !take_number(&line, 16, &r.end) || !take_char(&line, ' ') ||
        !take_perms(&line, r.perms) || !take_char(&line, ' ') ||
        !take_number(&line, 16, &r.offset) || !take_char(&line, ' ') ||
        !take_number(&line, 16, &ignored) || !take_char(&line, ':') ||
        !take_number(&line, 16, &ignored) || !take_char(&line, ' ') ||
        !take_number(&line, 10, &ignored) || !is_whole_pages(&r))
        return false;
    while (line.at < line.end && *line.at == ' ')
        line.at++;
    if (memchr(line.at, '\0', (size_t)(line.end - line.at)) != NULL)
        return false;
    r.name = strndup(line.at, (size_t)(line.end - line.at));
    *ret_range = r;
    return true;
}

static int add(struct maps *maps, const struct maps_range *range)
{
    struct maps_range *grown;

    if ((maps->count & (maps->count - 1)) == 0) {
        size_t room = maps->count == 0 ? 1 : maps->count * 2;

        grown = reallocarray(maps->ranges, room, sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        maps->ranges = grown;
    }
    maps->ranges[maps->count++] = *range;
    return 0;
}

static int parse(
    const char *text, size_t size, struct maps *maps, struct err *err)
{
    const char *end = text + size;
    unsigned int number = 1;

    for (const char *at = text; at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct line line = {at, newline != NULL ? newline : end};
        struct maps_range range;

        at = newline != NULL ? newline + 1 : end;
        if (maps->count == MAPS_RANGE_MAX)
            return err_set(
                err, E2BIG, "maps: more than %u ranges", MAPS_RANGE_MAX);
        if (!parse_line(line, &range))
            return err_set(err, EINVAL,
                "maps: line %u is not in the format of proc(5)", number);
        if (range.name == NULL)
            return err_sys(err, ENOMEM, "maps");
        if (maps->count > 0 &&
            maps->ranges[maps->count - 1].end > range.start) {
            free(range.name);
            return err_set(err, EINVAL,
                "maps: line %u begins before the one above it ends", number);
        }
        if (add(maps, &range) < 0) {
            free(range.name);
            return err_sys(err, ENOMEM, "maps");
        }
    }
    return 0;
}

int maps_parse(
    const char *text, size_t size, struct maps *ret_maps, struct err *err)
{
    struct maps maps = {0};
    int rc;

    if (size > MAPS_TEXT_MAX)
        return err_set(err, E2BIG, "maps: %zu bytes, the most are %zu", size,
            MAPS_TEXT_MAX);
    rc = parse(text, size, &maps, err);
    if (rc < 0) {
        maps_fini(&maps);
        return rc;
    }
    *ret_maps = maps;
    return 0;
}

void maps_fini(struct maps *maps)
{
    for (size_t i = 0; i < maps->count; i++)
        free(maps->ranges[i].name);
    free(maps->ranges);
    *maps = (struct maps){0};
}

const struct maps_range *maps_find(const struct maps *maps, uint64_t address)
{
    size_t low = 0;
    size_t high = maps->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (maps->ranges[mid].end <= address)
            low = mid + 1;
        else
            high = mid;
    }
    return low < maps->count && maps->ranges[low].start <= address
               ? &maps->ranges[low]
               : NULL;
}
