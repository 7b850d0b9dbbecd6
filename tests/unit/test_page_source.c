/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages that a page server hands out, one at a time, from images that are
 * damaged: what is handed out is what was saved, always.
 *
 *     test_page_source [COUNT]     mutations to try
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshot/page_source.h"
#include "snapshot/page_writer.h"
#include "tests/unit/support/snapshot_rig.h"
#include "vmm/base/cc.h"
#include "vmm/base/num.h"

#define PAGES         UINT64_C(64)
#define COUNT_DEFAULT 20000u

struct run {
    struct snapshot_rig rig;
    struct snap snap; /* of a child: its pages are in two files */
    struct page_source source;
    int fds[2]; /* its image files, for writing */
    uint64_t seed;
    uint64_t failures;
};

static uint64_t pick(struct run *run, uint64_t below)
{
    run->seed ^= run->seed << 13;
    run->seed ^= run->seed >> 7;
    run->seed ^= run->seed << 17;
    return run->seed % below;
}

static const uint8_t *saved(const struct run *run, uint64_t page)
{
    return run->rig.ram + page * NUM_PAGE_SIZE;
}

/* What is handed out for the page: true if it is what was saved. */
static bool is_right(struct run *run, uint64_t page, int *ret_rc)
{
    uint8_t bytes[NUM_PAGE_SIZE];
    enum page_kind kind = PAGE_DATA;
    struct err err = {.text = ""};

    memset(bytes, 0x5a, sizeof(bytes));
    *ret_rc = page_source_get(&run->source, page, bytes, &kind, &err);
    if (*ret_rc < 0) {
        /* It names the page, and lets out nothing of it. */
        char name[32];

        (void)snprintf(
            name, sizeof(name), "page %llu ", (unsigned long long)page);
        assert(*ret_rc == -EBADMSG && strstr(err.text, name) != NULL);
        return bytes[0] == 0x5a && bytes[NUM_PAGE_SIZE - 1] == 0x5a;
    }
    if (kind == PAGE_ZERO)
        return page_writer_page_is_zero(saved(run, page));
    return memcmp(bytes, saved(run, page), NUM_PAGE_SIZE) == 0;
}

/* Every page, of which only `bad` (PAGES: none) may and must be refused. */
static void check_all(struct run *run, uint64_t bad)
{
    for (uint64_t page = 0; page < PAGES; page++) {
        int rc;

        if (is_right(run, page, &rc) && (rc < 0) == (page == bad))
            continue;
        run->failures++;
        (void)printf("FAILED: page %llu with page %llu damaged: %d\n",
            (unsigned long long)page, (unsigned long long)bad, rc);
    }
}

static void save_chain(struct run *run)
{
    uint8_t *before = malloc(PAGES * NUM_PAGE_SIZE);
    struct snapshot_id parent;
    struct snapshot_id child;
    struct err err;

    assert(before != NULL);
    for (uint64_t page = 0; page < PAGES; page++)
        snapshot_rig_fill(&run->rig, page, page % 4 == 3 ? 0 : 1000 + page);
    assert(
        snapshot_rig_save(&run->rig, "parent", NULL, NULL, &parent, &err) == 0);
    memcpy(before, run->rig.ram, PAGES * NUM_PAGE_SIZE);
    for (uint64_t page = 0; page < PAGES; page += 5)
        snapshot_rig_fill(&run->rig, page, page % 2 == 0 ? 0 : 2000 + page);
    assert(snapshot_rig_save(
               &run->rig, "child", &parent, before, &child, &err) == 0);
    free(before);
    assert(snap_open(&run->rig.store, &child, &run->snap, &err) == 0);
    assert(page_source_init(&run->source, &run->snap, &err) == 0);
    assert(run->snap.index.file_count == ARRAY_SIZE(run->fds));
    for (uint32_t i = 0; i < run->snap.index.file_count; i++) {
        char name[SNAPSHOT_FILE_MAX + 1];

        page_image_name(&run->snap.index.files[i], name);
        run->fds[i] = openat(run->snap.dir_fd, name, O_RDWR | O_CLOEXEC);
        assert(run->fds[i] >= 0);
    }
}

/* Damages a page in its file in one of several ways. */
static void damage(struct run *run, const uint8_t *was, uint8_t *now)
{
    uint64_t from = pick(run, NUM_PAGE_SIZE);
    uint64_t count = 1 + pick(run, NUM_PAGE_SIZE - from);

    memcpy(now, was, NUM_PAGE_SIZE);
    switch (pick(run, 4)) {
    case 0: /* a bit */
        now[from] ^= (uint8_t)(1u << pick(run, 8));
        break;
    case 1: /* a write that never arrived, or half */
        memset(now + from, 0, count);
        break;
    case 2: /* another page's bytes */
        memcpy(now, saved(run, pick(run, PAGES)), NUM_PAGE_SIZE);
        break;
    default:
        for (uint64_t i = from; i < from + count; i++)
            now[i] = (uint8_t)pick(run, 256);
        break;
    }
}

static bool mutate_one(struct run *run)
{
    uint64_t page = pick(run, PAGES);
    const struct page_extent *e = page_index_find(&run->snap.index, page);
    uint8_t now[NUM_PAGE_SIZE];
    off_t at;
    int rc;
    int fd;

    if (e->kind == PAGE_ZERO)
        return false;
    damage(run, saved(run, page), now);
    if (memcmp(now, saved(run, page), sizeof(now)) == 0)
        return false;
    fd = run->fds[e->file];
    at = (off_t)((e->file_page + (page - e->page)) * NUM_PAGE_SIZE);
    assert(pwrite(fd, now, sizeof(now), at) == (ssize_t)sizeof(now));
    if (!is_right(run, page, &rc) || rc == 0) {
        run->failures++;
        (void)printf("ACCEPTED: page %llu\n", (unsigned long long)page);
    }
    if (pick(run, 100) == 0)
        check_all(run, page);
    assert(
        pwrite(fd, saved(run, page), sizeof(now), at) == (ssize_t)sizeof(now));
    return true;
}

/* A file that is cut short while it is served from. */
static void cut_files(struct run *run)
{
    for (size_t i = 0; i < ARRAY_SIZE(run->fds); i++) {
        uint64_t first = page_index_file_pages(&run->snap.index, (uint32_t)i);

        assert(first > 0);
        assert(ftruncate(run->fds[i], 100) == 0);
        for (uint64_t page = 0; page < PAGES; page++) {
            const struct page_extent *e =
                page_index_find(&run->snap.index, page);
            int rc;

            if (!is_right(run, page, &rc) ||
                (e->kind == PAGE_DATA && e->file == i && rc == 0)) {
                run->failures++;
                (void)printf("ACCEPTED: page %llu of a file that was cut\n",
                    (unsigned long long)page);
            }
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t want = argc > 1 ? strtoull(argv[1], NULL, 10) : COUNT_DEFAULT;
    static struct run run = {.seed = 88172645463325252u};
    uint64_t tried = 0;

    snapshot_rig_init(&run.rig, NULL, PAGES);
    save_chain(&run);
    check_all(&run, PAGES);
    while (tried < want)
        tried += mutate_one(&run);
    check_all(&run, PAGES);
    cut_files(&run);
    (void)printf("%llu mutations, %llu failures\n", (unsigned long long)tried,
        (unsigned long long)run.failures);
    for (size_t i = 0; i < ARRAY_SIZE(run.fds); i++)
        (void)close(run.fds[i]);
    page_source_fini(&run.source);
    snap_close(&run.snap);
    snapshot_rig_fini(&run.rig);
    return run.failures == 0 ? 0 : 1;
}
