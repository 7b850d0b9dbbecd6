/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/working_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/dirfile.h"
#include "snapshot/hash.h"
#include "snapshot/page_index.h"
#include "vmm/base/bytes.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

#define MAGIC       "SPOREWKS"
#define MAGIC_SIZE  8u
#define HEADER_SIZE 24u
#define RUN_SIZE    8u

void working_set_fini(struct working_set *set)
{
    free(set->runs);
    *set = (struct working_set){0};
}

int working_set_from_bitmap(const struct bitmap *touched, uint64_t gap_max,
    struct working_set *ret_set, struct err *err)
{
    struct working_set set = {.pages = touched->bits};
    size_t room = 0;
    size_t first;
    size_t count;

    if (touched->bits > PAGE_INDEX_PAGES_MAX)
        return err_sys(err, E2BIG, "%s", WORKING_SET_FILE_NAME);
    for (size_t from = 0; bitmap_next_run(touched, from, &first, &count);
         from = first + count) {
        struct working_set_run *last =
            set.run_count == 0 ? NULL : &set.runs[set.run_count - 1];

        if (last != NULL && first - (last->page + last->count) < gap_max) {
            last->count = (uint32_t)(first + count - last->page);
            continue;
        }
        /* A hint: what does not fit in is left out. */
        if (set.run_count == WORKING_SET_RUNS_MAX)
            break;
        if (set.run_count == room) {
            struct working_set_run *bigger;

            room = room == 0 ? 64 : room * 2;
            bigger = reallocarray(set.runs, room, sizeof(*bigger));
            if (bigger == NULL) {
                working_set_fini(&set);
                return err_sys(err, ENOMEM, "%s", WORKING_SET_FILE_NAME);
            }
            set.runs = bigger;
        }
        set.runs[set.run_count++] = (struct working_set_run){
            .page = (uint32_t)first, .count = (uint32_t)count};
    }
    *ret_set = set;
    return 0;
}

int working_set_encode(const struct working_set *set, uint8_t **ret_data,
    size_t *ret_size, struct err *err)
{
    size_t size =
        HEADER_SIZE + set->run_count * RUN_SIZE + sizeof(struct hash128);
    uint8_t *data = malloc(size);
    struct bytes_writer w;
    struct hash128 hash;

    if (data == NULL)
        return err_sys(err, ENOMEM, "%s", WORKING_SET_FILE_NAME);
    bytes_writer_init(&w, data, size);
    bytes_put(&w, MAGIC, MAGIC_SIZE);
    bytes_put_u32(&w, WORKING_SET_VERSION);
    bytes_put_u32(&w, (uint32_t)set->run_count);
    bytes_put_u64(&w, set->pages);
    for (size_t i = 0; i < set->run_count; i++) {
        bytes_put_u32(&w, set->runs[i].page);
        bytes_put_u32(&w, set->runs[i].count);
    }
    hash = hash_bytes(data, w.pos);
    bytes_put(&w, hash.b, sizeof(hash.b));
    *ret_data = data;
    *ret_size = size;
    return 0;
}

static int damaged(struct err *err, const char *what)
{
    return err_set(
        err, EBADMSG, "%s: damaged: %s", WORKING_SET_FILE_NAME, what);
}

static int read_runs(
    struct working_set *set, struct bytes_reader *r, struct err *err)
{
    uint64_t end = 0;

    set->runs = reallocarray(NULL, set->run_count + 1, sizeof(*set->runs));
    if (set->runs == NULL)
        return err_sys(err, ENOMEM, "%s", WORKING_SET_FILE_NAME);
    for (size_t i = 0; i < set->run_count; i++) {
        struct working_set_run *run = &set->runs[i];

        run->page = bytes_get_u32(r);
        run->count = bytes_get_u32(r);
        if (run->count == 0 || (i > 0 && run->page <= end) ||
            !num_range_within(run->page, run->count, set->pages))
            return damaged(err, "a run of pages");
        end = (uint64_t)run->page + run->count;
    }
    return 0;
}

static int decode(struct working_set *set, const uint8_t *data, size_t size,
    uint64_t pages, struct err *err)
{
    uint8_t magic[MAGIC_SIZE];
    struct bytes_reader r;
    struct hash128 hash;
    uint32_t version;
    uint32_t count;
    uint64_t of_pages;

    bytes_reader_init(&r, data, size);
    bytes_get(&r, magic, sizeof(magic));
    version = bytes_get_u32(&r);
    count = bytes_get_u32(&r);
    of_pages = bytes_get_u64(&r);
    if (r.failed || memcmp(magic, MAGIC, MAGIC_SIZE) != 0 ||
        bytes_left(&r) < sizeof(hash))
        return damaged(err, "not a working set");
    hash = hash_bytes(data, size - sizeof(hash));
    if (memcmp(hash.b, data + size - sizeof(hash), sizeof(hash.b)) != 0)
        return damaged(err, "its checksum does not fit");
    if (version == 0 || version > WORKING_SET_VERSION)
        return err_set(err, ENOTSUP,
            "%s: format %u; this version of spore reads up to %u",
            WORKING_SET_FILE_NAME, version, WORKING_SET_VERSION);
    if (count > WORKING_SET_RUNS_MAX || of_pages != pages ||
        pages > PAGE_INDEX_PAGES_MAX ||
        bytes_left(&r) != (uint64_t)count * RUN_SIZE + sizeof(hash))
        return damaged(err, "the header");
    set->run_count = count;
    set->pages = pages;
    return read_runs(set, &r, err);
}

int working_set_decode(const void *data, size_t size, uint64_t pages,
    struct working_set *ret_set, struct err *err)
{
    struct working_set set = {0};
    int rc = decode(&set, data, size, pages, err);

    if (rc < 0) {
        working_set_fini(&set);
        return rc;
    }
    *ret_set = set;
    return 0;
}

int working_set_load(int dir_fd, uint64_t pages, struct working_set *ret_set)
{
    struct err err;
    uint8_t *data;
    size_t size;
    int rc = dirfile_read(dir_fd, WORKING_SET_FILE_NAME, WORKING_SET_SIZE_MAX,
        &data, &size, &err);

    if (rc == -ENOENT)
        return rc;
    if (rc == 0) {
        rc = working_set_decode(data, size, pages, ret_set, &err);
        free(data);
    }
    if (rc < 0) {
        log_warn("snapshot", "%s: not used", err.text);
        return -ENOENT;
    }
    return 0;
}

int working_set_store(
    int dir_fd, const struct working_set *set, struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = working_set_encode(set, &data, &size, err);

    if (rc < 0)
        return rc;
    rc = dirfile_replace(dir_fd, WORKING_SET_FILE_NAME, data, size, err);
    free(data);
    return rc;
}
