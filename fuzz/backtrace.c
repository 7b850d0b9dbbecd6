/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/backtrace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "vmm/base/num.h"

#define FRAME_TEXT 1024u

/* ---- frames -------------------------------------------------------------- */

static char *copy(const char *text)
{
    return text != NULL ? strdup(text) : NULL;
}

/* The places of an address, one frame each; fewer when there is no room. */
static void add_places(struct backtrace *bt, const char *module,
    uint64_t offset, uint64_t address, const struct debug_file_place *places,
    size_t count)
{
    for (size_t i = 0; i < num_max(count, 1) && bt->count < BACKTRACE_MAX;
         i++) {
        struct backtrace_frame frame = {
            .address = address,
            .module = copy(module),
            .offset = offset,
            .is_inlined = i + 1 < count,
        };

        if (i < count) {
            frame.function = copy(places[i].function);
            frame.source = copy(places[i].source);
            frame.line = places[i].line;
        }
        bt->frames[bt->count++] = frame;
    }
}

static void frame_fini(struct backtrace_frame *frame)
{
    free(frame->module);
    free(frame->function);
    free(frame->source);
    *frame = (struct backtrace_frame){0};
}

void backtrace_fini(struct backtrace *backtrace)
{
    for (size_t i = 0; i < backtrace->count; i++)
        frame_fini(&backtrace->frames[i]);
    backtrace->count = 0;
}

/* Leaves out the first `count` frames. */
static void drop(struct backtrace *bt, size_t count)
{
    for (size_t i = 0; i < count; i++)
        frame_fini(&bt->frames[i]);
    bt->count -= count;
    memmove(bt->frames, bt->frames + count, bt->count * sizeof(*bt->frames));
}

/* ---- from registers ------------------------------------------------------ */

void backtrace_unwind(struct symbols *symbols,
    const struct unwind_memory *memory, const struct unwind_frame *start,
    uint64_t crash, struct unwind_frame *crash_frame,
    struct backtrace *ret_backtrace)
{
    struct unwind_frame frame = *start;

    ret_backtrace->count = 0;
    do {
        struct debug_file_place places[DEBUG_FILE_PLACES];
        uint64_t pc = frame.regs[UNWIND_RIP] - (frame.is_call ? 1 : 0);
        size_t count = symbols_find(symbols, pc, places);
        uint64_t offset = 0;
        const char *module = symbols_module(symbols, pc, &offset);

        if (crash != 0 && frame.regs[UNWIND_RIP] == crash) {
            drop(ret_backtrace, ret_backtrace->count);
            if (crash_frame != NULL)
                *crash_frame = frame;
        }
        add_places(ret_backtrace, module, offset, frame.regs[UNWIND_RIP],
            places, count);
    } while (ret_backtrace->count < BACKTRACE_MAX &&
             unwind_step(symbols, memory, &frame));
}

/* ---- from text ----------------------------------------------------------- */

static char *skip_spaces(char *at)
{
    return at + strspn(at, " \t");
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "0x" and up to 16 digits; what is behind them, or NULL. */
static char *take_hex(char *at, uint64_t *ret_number)
{
    uint64_t value = 0;
    unsigned int count;

    if (at[0] != '0' || at[1] != 'x')
        return NULL;
    at += 2;
    for (count = 0; count < 16 && hex_digit(at[count]) >= 0; count++)
        value = value << 4 | (unsigned int)hex_digit(at[count]);
    if (count == 0)
        return NULL;
    *ret_number = value;
    return at + count;
}

/*
 * What stands in the last brackets that hold "+0x": the module and an offset.
 * The text before them is cut there.
 */
static const char *split_module(char *text, uint64_t *ret_offset)
{
    char *plus = strstr(text, "+0x");
    char *open = plus;

    if (plus == NULL || take_hex(plus + 1, ret_offset) == NULL)
        return NULL;
    while (open > text && *open != '(')
        open--;
    if (*open != '(' || open + 1 == plus)
        return NULL;
    *plus = '\0';
    *open = '\0';
    return open + 1;
}

/* Cuts the spaces at the end. */
static void trim(char *text)
{
    size_t size = strlen(text);

    while (size > 0 && strchr(" \t\r", text[size - 1]) != NULL)
        text[--size] = '\0';
}

/* "f(int, char*) /a/b.c:12:3" into its two parts. */
static void split_source(char *text, struct debug_file_place *ret_place)
{
    char *name = strrchr(text, ' ');
    const char *colon;
    uint64_t line;

    if (name == NULL || name[1] != '/')
        return;
    colon = strchr(name, ':');
    if (colon != NULL && num_take_digits(colon + 1, &line) != NULL &&
        line <= UINT32_MAX) {
        name[colon - name] = '\0';
        ret_place->line = (uint32_t)line;
    }
    *name = '\0';
    ret_place->source = name + 1;
}

/* Behind "#N 0x..."; `text` is cut into pieces. */
static void parse_place(
    struct backtrace *bt, struct symbols *symbols, uint64_t address, char *text)
{
    struct debug_file_place places[DEBUG_FILE_PLACES] = {0};
    uint64_t offset = 0;
    const char *module = split_module(text, &offset);
    struct debug_file *file = NULL;
    size_t count = 0;

    trim(text);
    if (strncmp(text, "in ", 3) == 0 && text[3] != '\0') {
        places[0].function = text + 3;
        split_source(text + 3, &places[0]);
        count = 1;
    }
    if (symbols != NULL && module != NULL)
        file = symbols_file_named(symbols, module);
    if (file != NULL && places[0].source == NULL) {
        struct debug_file_place found[DEBUG_FILE_PLACES];
        size_t found_count = debug_file_find(file, offset, found);

        if (found_count > 0) {
            memcpy(places, found, found_count * sizeof(*found));
            count = found_count;
        }
    }
    add_places(bt, module, offset, address, places, count);
}

/* Whether the line is a frame; its number, address and the rest. */
static bool parse_frame(
    char *line, uint64_t *ret_number, uint64_t *ret_address, char **ret_rest)
{
    char *at = skip_spaces(line);
    const char *behind;

    if (*at != '#')
        return false;
    behind = num_take_digits(at + 1, ret_number);
    if (behind == NULL)
        return false;
    at = take_hex(skip_spaces(at + (behind - at)), ret_address);
    if (at == NULL)
        return false;
    *ret_rest = skip_spaces(at);
    return true;
}

void backtrace_parse(const char *text, size_t size, struct symbols *symbols,
    struct backtrace *ret_backtrace)
{
    const char *end = text + size;
    uint64_t expected = 0;

    ret_backtrace->count = 0;
    while (text < end && ret_backtrace->count < BACKTRACE_MAX) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t length = (size_t)((newline != NULL ? newline : end) - text);
        char line[FRAME_TEXT];
        uint64_t number;
        uint64_t address;
        char *rest;

        memcpy(line, text, num_min(length, sizeof(line) - 1));
        line[num_min(length, sizeof(line) - 1)] = '\0';
        text += length + 1;
        if (parse_frame(line, &number, &address, &rest)) {
            if (number != expected && expected > 0)
                break;
            if (number == expected) {
                parse_place(ret_backtrace, symbols, address, rest);
                expected++;
            }
        } else if (expected > 0) {
            break;
        }
    }
}

/* ---- the hash ------------------------------------------------------------ */

/* Functions that say that something is wrong, or that carry the signal. */
static bool is_reporter(const char *function)
{
    static const char *const beginnings[] = {"__asan", "__interceptor_",
        "___interceptor_", "__sanitizer", "__ubsan", "__msan", "__hwasan",
        "__lsan", "__assert_", "__libc_message", "__fortify_fail", "__chk_fail",
        "__stack_chk_fail", "__pthread_kill", "__interception",
        "malloc_printerr", "__GI_abort", "__GI_raise"};
    static const char *const names[] = {"abort", "raise", "gsignal",
        "pthread_kill", "__assert", "__restore_rt", "kill", "__fortify_fail",
        "_Exit"};

    for (size_t i = 0; i < ARRAY_SIZE(beginnings); i++) {
        if (strncmp(function, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(function, names[i]) == 0)
            return true;
    }
    return false;
}

static size_t top_index(const struct backtrace *bt)
{
    size_t i = 0;

    while (i < bt->count && bt->frames[i].function != NULL &&
           is_reporter(bt->frames[i].function))
        i++;
    return i < bt->count ? i : 0;
}

const struct backtrace_frame *backtrace_top(const struct backtrace *backtrace)
{
    return backtrace->count > 0 ? &backtrace->frames[top_index(backtrace)]
                                : NULL;
}

static bool is_same(
    const struct backtrace_frame *a, const struct backtrace_frame *b)
{
    if (a->function != NULL && b->function != NULL)
        return strcmp(a->function, b->function) == 0;
    return a->function == NULL && b->function == NULL && a->module != NULL &&
           b->module != NULL && strcmp(a->module, b->module) == 0 &&
           a->offset == b->offset;
}

/* Each piece is hashed with what came before as its seed. */
static void hash_text(uint64_t *hash, const char *text)
{
    *hash = XXH64(text, strlen(text) + 1, *hash);
}

static void hash_frame(
    uint64_t *hash, const struct backtrace_frame *frame, bool with_line)
{
    char number[32];

    if (frame->function != NULL) {
        hash_text(hash, frame->function);
    } else if (frame->module != NULL) {
        (void)snprintf(number, sizeof(number), "+%" PRIx64, frame->offset);
        hash_text(hash, frame->module);
        hash_text(hash, number);
    } else {
        hash_text(hash, "?");
    }
    if (with_line && frame->line != 0) {
        (void)snprintf(number, sizeof(number), ":%" PRIu32, frame->line);
        hash_text(hash, number);
    }
}

uint64_t backtrace_hash(const struct backtrace *backtrace, const char *kind)
{
    const struct backtrace_frame *before = NULL;
    unsigned int taken = 0;
    uint64_t hash = 0;

    hash_text(&hash, kind);
    for (size_t i = top_index(backtrace);
         i < backtrace->count && taken < BACKTRACE_HASHED; i++) {
        const struct backtrace_frame *frame = &backtrace->frames[i];

        /* However deep a recursion was, it is one. */
        if (before != NULL && is_same(before, frame))
            continue;
        hash_frame(&hash, frame, before == NULL);
        before = frame;
        taken++;
    }
    return hash;
}

/* ---- for people ---------------------------------------------------------- */

void backtrace_frame_text(const struct backtrace_frame *frame, size_t number,
    char *ret_text, size_t size)
{
    char place[256] = "";

    if (frame->source != NULL)
        (void)snprintf(
            place, sizeof(place), " %s:%" PRIu32, frame->source, frame->line);
    else if (frame->module != NULL)
        (void)snprintf(place, sizeof(place), " (%s+0x%" PRIx64 ")",
            frame->module, frame->offset);
    (void)snprintf(ret_text, size, "#%zu 0x%012" PRIx64 " in %s%s%s", number,
        frame->address, frame->function != NULL ? frame->function : "??", place,
        frame->is_inlined ? " (inlined)" : "");
}

void backtrace_print(const struct backtrace *backtrace, FILE *out)
{
    for (size_t i = 0; i < backtrace->count; i++) {
        char text[FRAME_TEXT];

        backtrace_frame_text(&backtrace->frames[i], i, text, sizeof(text));
        (void)fprintf(out, "%s\n", text);
    }
}
