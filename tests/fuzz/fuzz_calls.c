/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile agent: any call with any argument, page tables that it writes as
 * it likes, and the file that is kept of it. Each record is 18 bytes: what,
 * which, and two numbers; an input that begins with a brace is root.json.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/calls.h"
#include "fuzz/entry_pages.h"
#include "fuzz/warm.h"
#include "vmm/base/num.h"

#define RAM_BYTES   (UINT64_C(1) << 20)
#define RECORD      18u
#define RECORDS_MAX 64u
#define TEXT_MAX    8192u

#define TABLE_AT 0x1000u /* four of them: from here to all of RAM */
#define LEVELS   4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint64_t numbers[] = {0, 1, 4, 5, 6, 7, 8, 9, 10, 12, 13, 16, 17,
    18, 20, 29, 30, 32, 33, 34, 35, 36, 37, 38, 39, FUZZ_ABI_HELLO,
    FUZZ_ABI_ROOT, FUZZ_ABI_REPORT, FUZZ_ABI_DONE, FUZZ_ABI_LEVEL};

struct bench {
    struct gmem mem;
    struct guest_view view;
    struct fuzz_agent agent;
    struct calls calls;
    char dir[64];
    int share_fd;
    int dump_fd;
};

static void require(int holds)
{
    if (!holds)
        abort();
}

static void poke(struct bench *b, uint64_t at, uint64_t value)
{
    (void)!gmem_write(&b->mem, gpa(at), &value, sizeof(value));
}

/* Identity, one page table: all of RAM is present, and more that is not RAM. */
static void map_all(struct bench *b)
{
    for (uint32_t i = 0; i + 1 < LEVELS; i++)
        poke(b, TABLE_AT + i * NUM_PAGE_SIZE,
            (TABLE_AT + (i + 1) * NUM_PAGE_SIZE) | 7);
    for (uint64_t i = 0; i < 512; i++)
        poke(b, TABLE_AT + 3 * NUM_PAGE_SIZE + i * 8, i * NUM_PAGE_SIZE | 7);
}

static void begin(struct bench *b)
{
    struct calls_config config = {.print_fd = -1, .text_max = TEXT_MAX};
    struct err err;
    int fd;

    *b = (struct bench){.share_fd = -1};
    require(gmem_init(&b->mem, RAM_BYTES, &err) == 0);
    (void)strcpy(b->dir, "/tmp/fuzz_calls.XXXXXX");
    require(mkdtemp(b->dir) != NULL);
    b->share_fd = open(b->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    require(b->share_fd >= 0 && mkdirat(b->share_fd, "d", 0700) == 0);
    b->dump_fd = openat(b->share_fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fd = openat(b->share_fd, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    require(b->dump_fd >= 0 && fd >= 0 && ftruncate(fd, 5000) == 0);
    (void)close(fd);
    config.share_fd = b->share_fd;
    config.dump_fd = b->dump_fd;
    require(calls_init(&b->calls, &config, &err) == 0);
    b->view = (struct guest_view){.mem = &b->mem,
        .regs = {
            .cr0 = 0x80000001, .cr3 = TABLE_AT, .cr4 = 0x20, .efer = 0x500}};
    map_all(b);
}

static void empty(int fd)
{
    DIR *dir = fdopendir(dup(fd));
    struct dirent *e;

    require(dir != NULL);
    while ((e = readdir(dir)) != NULL)
        (void)unlinkat(fd, e->d_name, 0);
    (void)closedir(dir);
}

static void end(struct bench *b)
{
    fuzz_agent_fini(&b->agent);
    calls_fini(&b->calls);
    empty(b->dump_fd);
    (void)close(b->dump_fd);
    (void)unlinkat(b->share_fd, "d", AT_REMOVEDIR);
    (void)unlinkat(b->share_fd, "f", 0);
    (void)unlinkat(b->share_fd, AGENT_FILE, 0);
    (void)close(b->share_fd);
    (void)rmdir(b->dir);
    gmem_fini(&b->mem);
}

/* Pages that runs are made of are RAM, whatever the agent said. */
static void check_agent(struct bench *b)
{
    static const uint8_t input[100] = "input";
    uint32_t *pages;
    uint32_t count;

    require(fuzz_agent_kept_pages(&b->agent, &pages, &count) == 0);
    for (uint32_t i = 0; i < count; i++)
        require(pages[i] < gmem_page_count(&b->mem));
    free(pages);
    require(b->agent.space_count <= AGENT_SPACES_MAX &&
            b->agent.kept_count <= AGENT_KEPT_MAX);
    fuzz_agent_put_input(&b->agent, &b->mem, input, sizeof(input));
}

static void serve(struct bench *b, uint64_t number, uint64_t arg)
{
    struct fuzz_result result = {0};
    uint64_t rax;
    enum calls_outcome outcome =
        calls_serve(&b->calls, &b->agent, &b->view, number, arg, &result, &rax);

    require(outcome <= CALLS_END && result.verdict < FUZZ_VERDICTS);
    require(b->calls.text_len <= TEXT_MAX &&
            b->calls.text[b->calls.text_len] == '\0');
    check_agent(b);
}

static void walk(struct bench *b, uint64_t at)
{
    struct warm_list before = {0};
    struct warm_list after = {0};
    struct warm_list more = {0};
    uint32_t pages[ENTRY_PAGES_MAX];
    char text[100];

    require(warm_take(&before, &b->view) == 0);
    (void)!warm_set_used(&b->view);
    require(warm_take(&after, &b->view) == 0);
    require(warm_add_new(&more, &before, &after) == 0);
    require(before.count <= WARM_PAGES_MAX);
    require(entry_pages_find(&b->view, at, pages) <= ENTRY_PAGES_MAX);
    require(guest_view_string(&b->view, at, text, sizeof(text)) < sizeof(text));
    warm_fini(&before);
    warm_fini(&after);
    warm_fini(&more);
}

static void take(struct bench *b, const uint8_t *record, bool *has_walked)
{
    uint64_t x;
    uint64_t y;

    memcpy(&x, record + 2, sizeof(x));
    memcpy(&y, record + 10, sizeof(y));
    switch (record[0] % 8) {
    case 0:
        poke(b, x % RAM_BYTES, y);
        break;
    case 1:
        calls_begin(&b->calls);
        break;
    case 2:
        b->view.regs.cr3 = x;
        b->view.regs.cr4 = y & 0x1000;
        break;
    case 3:
        serve(b, x, y);
        break;
    case 4:
        /* A million pages a time: once is enough. */
        if (!*has_walked)
            walk(b, x);
        *has_walked = true;
        break;
    default:
        serve(b, numbers[record[1] % ARRAY_SIZE(numbers)], x);
        break;
    }
}

static void load(struct bench *b, const uint8_t *data, size_t size)
{
    int fd = openat(b->share_fd, AGENT_FILE,
        O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct err err;

    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    (void)close(fd);
    if (fuzz_agent_load(&b->agent, b->dir, &b->view, &err) == 0)
        check_agent(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool has_walked = false;
    struct bench b;

    begin(&b);
    if (size > 0 && data[0] == '{') {
        load(&b, data, size);
    } else {
        for (size_t i = 0; i < RECORDS_MAX && size >= RECORD; i++) {
            take(&b, data, &has_walked);
            data += RECORD;
            size -= RECORD;
        }
    }
    end(&b);
    return 0;
}
