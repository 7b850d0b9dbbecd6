/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/warm.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/fuzz/abi.h"
#include "guest/fuzz/call.h"
#include "guest/fuzz/preload/real.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE      4096u
#define STACK_MAX (1u << 20)

/*
 * A sanitizer maps terabytes, and uses little of each of its tables; but the
 * one of stacks, 4 to 8 MiB of its data, it uses all over: each new way to an
 * allocation is a page of its own. What these leave out comes by the executor's
 * list, if it is needed.
 */
#define READ_MAX        (16u << 20)
#define READ_TOTAL_MAX  (32u << 20)
#define WRITE_MAX       (16u << 20)
#define WRITE_TOTAL_MAX (20u << 20)

static uint64_t list[FUZZ_ABI_WARM_MAX] __attribute__((aligned(PAGE)));

uint64_t *warm_list(void)
{
    real_mlock(list, sizeof(list));
    return list;
}

/* ---- what is mapped --------------------------------------------------------
 */

struct mapping {
    uintptr_t start;
    uintptr_t end;
    bool writable;
    bool readable;
};

static const char *take_hex(const char *at, uintptr_t *ret_value)
{
    uintptr_t value = 0;

    for (;; at++) {
        if (*at >= '0' && *at <= '9')
            value = value << 4 | (uintptr_t)(*at - '0');
        else if (*at >= 'a' && *at <= 'f')
            value = value << 4 | (uintptr_t)(*at - 'a' + 10);
        else
            break;
    }
    *ret_value = value;
    return at;
}

/* start-end perms offset dev inode path */
static bool take_line(const char *line, struct mapping *ret_m)
{
    const char *at = take_hex(line, &ret_m->start);

    if (*at != '-')
        return false;
    at = take_hex(at + 1, &ret_m->end);
    if (*at != ' ' || strlen(at) < 5)
        return false;
    ret_m->readable = at[1] == 'r';
    ret_m->writable = at[2] == 'w';
    return strstr(at, "[v") == NULL; /* vvar, vdso, vsyscall */
}

struct budget {
    size_t read;
    size_t write;
};

static void warm_mapping(const struct mapping *m, struct budget *left)
{
    size_t size = m->end - m->start;
    size_t max = m->writable ? WRITE_MAX : READ_MAX;
    size_t *part = m->writable ? &left->write : &left->read;

    if (!m->readable || size > max || size > *part)
        return;
    *part -= size;
    (void)madvise((void *)m->start, size, // NOLINT
        m->writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

/* Deepest first: the kernel makes the mapping longer once. */
static void warm_stack(void)
{
    volatile char *here = __builtin_frame_address(0);

    here[-(ptrdiff_t)STACK_MAX] = 0;
}

static void warm_lines(char *lines, struct budget *left)
{
    struct mapping m;
    char *end;

    for (; (end = strchr(lines, '\n')) != NULL; lines = end + 1) {
        *end = '\0';
        if (take_line(lines, &m))
            warm_mapping(&m, left);
    }
}

/*
 * For whoever names addresses of this process later. All of it has been
 * written to just now, so it is in memory.
 */
static void tell_maps(const char *text, size_t size)
{
    char name[] = "maps";
    struct fuzz_abi_dump_file file = {
        .file_name_str_ptr = (uintptr_t)name,
        .data_ptr = (uintptr_t)text,
        .bytes = size,
    };

    (void)call_at(FUZZ_ABI_DUMP_FILE, &file);
}

void warm_all(void)
{
    static char text[256u << 10];
    struct budget left = {READ_TOTAL_MAX, WRITE_TOTAL_MAX};
    size_t have = 0;
    ssize_t n;
    int fd;

    warm_stack();
    fd = REAL(open)("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    do {
        n = REAL(read)(fd, text + have, sizeof(text) - 1 - have);
        if (n > 0)
            have += (size_t)n;
    } while (n > 0);
    (void)REAL(close)(fd);
    text[have] = '\0';
    tell_maps(text, have);
    warm_lines(text, &left);
}

/* ---- what runs have needed -------------------------------------------------
 */

void warm_pages(uint64_t n)
{
    if (n > FUZZ_ABI_WARM_MAX)
        n = FUZZ_ABI_WARM_MAX;
    for (uint64_t i = 0; i < n; i++) {
        uintptr_t at = list[i] & ~(uintptr_t)(PAGE - 1);

        (void)madvise((void *)at, PAGE, // NOLINT
            (list[i] & 1) != 0 ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
    }
}
