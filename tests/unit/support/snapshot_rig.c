/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/snapshot_rig.h"

#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "snapshot/dedupe.h"
#include "snapshot/page_writer.h"
#include "snapshot/save.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

static int remove_entry(
    const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void snapshot_rig_remove_tree(const char *path)
{
    assert(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

void snapshot_rig_init(
    struct snapshot_rig *rig, const char *path, uint64_t pages)
{
    const char *tmp = getenv("TMPDIR");
    struct err err;

    *rig = (struct snapshot_rig){.pages = pages, .mem_fd = -1};
    if (path == NULL) {
        (void)snprintf(rig->path, sizeof(rig->path), "%s/spore-store.XXXXXX",
            tmp == NULL || strlen(tmp) > 40 ? "/tmp" : tmp);
        assert(mkdtemp(rig->path) != NULL);
    } else {
        (void)snprintf(rig->path, sizeof(rig->path), "%s", path);
    }
    assert(store_open(&rig->store, rig->path, true, &err) == 0);
    rig->mem_fd = memfd_create("ram", MFD_CLOEXEC);
    assert(rig->mem_fd >= 0);
    assert(ftruncate(rig->mem_fd, (off_t)(pages * NUM_PAGE_SIZE)) == 0);
    rig->ram = mmap(NULL, pages * NUM_PAGE_SIZE, PROT_READ | PROT_WRITE,
        MAP_SHARED, rig->mem_fd, 0);
    assert(rig->ram != MAP_FAILED);
}

void snapshot_rig_close(struct snapshot_rig *rig)
{
    free(rig->disk);
    free(rig->disk_saved);
    (void)munmap(rig->ram, rig->pages * NUM_PAGE_SIZE);
    fd_closep(&rig->mem_fd);
    store_close(&rig->store);
}

void snapshot_rig_fini(struct snapshot_rig *rig)
{
    snapshot_rig_close(rig);
    snapshot_rig_remove_tree(rig->path);
}

static void make_bytes(uint8_t *bytes, uint64_t seed)
{
    uint64_t x = seed;

    for (size_t i = 0; i < NUM_PAGE_SIZE; i += sizeof(x)) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(bytes + i, &x, sizeof(x));
    }
}

void snapshot_rig_fill(struct snapshot_rig *rig, uint64_t page, uint64_t seed)
{
    assert(page < rig->pages);
    make_bytes(rig->ram + page * NUM_PAGE_SIZE, seed);
}

void snapshot_rig_add_disk(struct snapshot_rig *rig, uint64_t clusters)
{
    rig->clusters = clusters;
    rig->disk = calloc(clusters, sizeof(*rig->disk));
    rig->disk_saved = calloc(clusters, sizeof(*rig->disk));
    assert(rig->disk != NULL && rig->disk_saved != NULL);
    for (uint64_t i = 0; i < clusters; i++)
        rig->disk[i] = SNAPSHOT_RIG_BELOW;
}

static bool extent_is(const struct snap_disk *disk,
    const struct page_extent *extent, const uint64_t *seeds)
{
    uint8_t want[NUM_PAGE_SIZE];
    uint8_t got[NUM_PAGE_SIZE];

    for (uint64_t i = 0; i < extent->count; i++) {
        uint64_t seed = seeds[extent->page + i];

        if (extent->kind != PAGE_DATA) {
            if (seed != (extent->kind == PAGE_ZERO ? 0 : SNAPSHOT_RIG_BELOW))
                return false;
            continue;
        }
        make_bytes(want, seed);
        if (fd_pread_full(disk->image_fds[extent->file], got, sizeof(got),
                (extent->file_page + i) * NUM_PAGE_SIZE) != sizeof(got) ||
            memcmp(got, want, sizeof(got)) != 0)
            return false;
    }
    return true;
}

bool snapshot_rig_disk_is(
    const struct snap *snap, const uint64_t *seeds, uint64_t clusters)
{
    const struct snap_disk *disk = snap_find_disk(snap, 0);

    if (disk == NULL || disk->map.pages != clusters)
        return false;
    for (size_t i = 0; i < disk->map.extent_count; i++) {
        if (!extent_is(disk, &disk->map.extents[i], seeds))
            return false;
    }
    return true;
}

struct parts {
    struct page_index_builder builder;
    struct page_hashes hashes;
    struct page_index index;
    struct dedupe dedupe;
    struct snap parent;
    struct state_writer state;
    struct save save;
    struct page_writer image;
    int image_fd;
};

static int put_pages(struct snapshot_rig *rig, struct parts *p,
    const uint8_t *before, struct err *err)
{
    int rc = 0;

    if (before == NULL)
        return page_writer_put_ram(
            &p->image, rig->mem_fd, rig->ram, 0, rig->pages, err);
    for (uint64_t i = 0; rc == 0 && i < rig->pages; i++) {
        const uint8_t *page = rig->ram + i * NUM_PAGE_SIZE;

        if (memcmp(page, before + i * NUM_PAGE_SIZE, NUM_PAGE_SIZE) != 0)
            rc = page_writer_put(&p->image, i, page, 1, err);
    }
    return rc;
}

/* The parent's index and hashes, which what is put goes over. */
static int take_parent(struct snapshot_rig *rig, struct parts *p,
    const struct snapshot_id *parent, struct err *err)
{
    int rc = snap_open(&rig->store, parent, &p->parent, err);

    if (rc == 0)
        rc = page_index_builder_add_index(&p->builder, &p->parent.index, err);
    if (rc == 0)
        rc = snap_read_hashes(&p->parent, &p->hashes, err);
    return rc;
}

static int put_cluster(struct snapshot_rig *rig, struct page_writer *image,
    uint64_t cluster, struct err *err)
{
    uint8_t bytes[NUM_PAGE_SIZE];

    if (rig->disk[cluster] == SNAPSHOT_RIG_BELOW) {
        page_index_builder_set_below(image->index, cluster, 1);
        return 0;
    }
    make_bytes(bytes, rig->disk[cluster]);
    return page_writer_put(image, cluster, bytes, 1, err);
}

/* What a disk is written with; of `parent` what did not change is its. */
struct disk_parts {
    struct page_index_builder map;
    struct page_hashes hashes;
    struct page_index index;
    struct page_writer image;
    int image_fd;
};

static int begin_disk(struct snapshot_rig *rig, struct parts *p,
    struct disk_parts *d, const struct snap_disk *before, struct err *err)
{
    struct page_image own = {.type = PAGE_IMAGE_DISK, .pages = rig->clusters};
    int rc = snapshot_id_random(&own.id, err);

    if (rc == 0)
        rc = page_index_builder_init(&d->map, rig->clusters, &own, err);
    if (rc == 0 && before != NULL)
        rc = page_index_builder_add_index(&d->map, &before->map, err);
    if (rc == 0)
        rc = before == NULL
                 ? page_hashes_init(&d->hashes, rig->clusters)
                 : snap_read_disk_hashes(&p->parent, before, &d->hashes, err);
    if (rc == 0)
        rc = save_create_image(&p->save, &own, &d->image_fd, err);
    if (rc == 0)
        page_writer_init(&d->image, d->image_fd, &p->save, &d->map, &d->hashes,
            rig->dedupe == 0 ? NULL : &p->dedupe);
    return rc;
}

static int write_disk(struct snapshot_rig *rig, struct parts *p,
    const struct snapshot_id *parent, struct err *err)
{
    const struct snap_disk *before =
        parent == NULL ? NULL : snap_find_disk(&p->parent, 0);
    struct disk_parts d = {.image_fd = -1};
    int rc;

    if (rig->clusters == 0)
        return 0;
    rc = begin_disk(rig, p, &d, before, err);
    for (uint64_t i = 0; rc == 0 && i < rig->clusters; i++) {
        if (before == NULL || rig->disk[i] != rig->disk_saved[i])
            rc = put_cluster(rig, &d.image, i, err);
    }
    if (rc == 0)
        rc = page_index_builder_finish(&d.map, &d.index, err);
    if (rc == 0 && before != NULL)
        rc = save_link_images(&p->save, &p->parent, &d.index, err);
    if (rc == 0)
        rc = save_write_disk(&p->save, 0, &d.index, &d.hashes, err);
    page_index_builder_fini(&d.map);
    page_index_fini(&d.index);
    page_hashes_fini(&d.hashes);
    fd_closep(&d.image_fd);
    return rc;
}

static int write_memory(struct snapshot_rig *rig, struct parts *p,
    const struct snapshot_id *parent, const uint8_t *before, struct err *err)
{
    const struct page_image own = {
        .type = PAGE_IMAGE_MEM, .id = p->save.id, .pages = rig->pages};
    int rc = page_index_builder_init(&p->builder, rig->pages, &own, err);

    if (rc == 0 && parent != NULL)
        rc = take_parent(rig, p, parent, err);
    else if (rc == 0)
        rc = page_hashes_init(&p->hashes, rig->pages);
    if (rc == 0 && rig->dedupe != 0)
        rc = dedupe_init(&p->dedupe, &rig->store, NUM_MIB, rig->dedupe, err);
    if (rc == 0)
        rc = save_create_image(&p->save, &own, &p->image_fd, err);
    if (rc < 0)
        return rc;
    page_writer_init(&p->image, p->image_fd, &p->save, &p->builder, &p->hashes,
        rig->dedupe == 0 ? NULL : &p->dedupe);
    rc = put_pages(rig, p, before, err);
    if (rc == 0)
        rc = page_index_builder_finish(&p->builder, &p->index, err);
    if (rc == 0 && parent != NULL)
        rc = save_link_images(&p->save, &p->parent, &p->index, err);
    if (rc == 0)
        rc = write_disk(rig, p, parent, err);
    if (rc == 0)
        rc = save_write_memory(&p->save, &p->index, &p->hashes, err);
    return rc;
}

static int write_disks(
    const struct snapshot_rig *rig, struct parts *p, struct err *err)
{
    char path[] = "/images/base.img";
    const struct disks disks = {.count = 1,
        .records[0] = {.kind = DISK_OVERLAY,
            .bytes = rig->clusters * NUM_PAGE_SIZE,
            .mtime_s = 1700000000,
            .mtime_ns = 123456789,
            .path = path}};

    return rig->clusters == 0 ? 0 : disks_store(&disks, &p->state, err);
}

static int write_rest(struct snapshot_rig *rig, struct parts *p,
    const char *name, const struct snapshot_id *parent, struct err *err)
{
    struct manifest manifest = {.id = p->save.id,
        .created = 1700000000,
        .monitor = "spore test",
        .kernel = "/boot/vmlinux",
        .vcpus = 1,
        .pages = rig->pages,
        .data_pages = page_index_data_pages(&p->index),
        .own_pages = page_index_file_pages(&p->index, 0),
        .state_bytes = 5};
    int rc;

    if (parent != NULL)
        manifest.parent = *parent;
    if (name != NULL)
        (void)snprintf(manifest.name, sizeof(manifest.name), "%s", name);
    rc = save_write_manifest(&p->save, &manifest, err);
    state_writer_init(&p->state, &p->save.id);
    if (rc == 0)
        rc = state_writer_add(
            &p->state, "machine", 1, STATE_SECTION_REQUIRED, "{}", 2, err);
    if (rc == 0)
        rc = state_writer_add(&p->state, "hint", 3, 0, "abc", 3, err);
    if (rc == 0)
        rc = write_disks(rig, p, err);
    if (rc == 0)
        rc = save_commit(&p->save, &p->state, err);
    return rc;
}

int snapshot_rig_save(struct snapshot_rig *rig, const char *name,
    const struct snapshot_id *parent, const uint8_t *before,
    struct snapshot_id *ret_id, struct err *err)
{
    struct parts p = {.image_fd = -1, .parent = {.dir_fd = -1}};
    int rc = save_begin(&p.save, &rig->store, name, rig->sync, err);

    if (rc == 0) {
        rc = write_memory(rig, &p, parent, before, err);
        if (rc == 0)
            rc = write_rest(rig, &p, name, parent, err);
        if (rc == 0) {
            *ret_id = p.save.id;
            if (rig->clusters > 0)
                memcpy(rig->disk_saved, rig->disk,
                    rig->clusters * sizeof(*rig->disk));
        }
        save_abort(&p.save);
    }
    state_writer_fini(&p.state);
    page_index_builder_fini(&p.builder);
    page_index_fini(&p.index);
    page_hashes_fini(&p.hashes);
    dedupe_fini(&p.dedupe);
    snap_close(&p.parent);
    fd_closep(&p.image_fd);
    return rc;
}

uint8_t *snapshot_rig_load(const struct snap *snap)
{
    uint8_t *ram = calloc(snap->index.pages, NUM_PAGE_SIZE);

    assert(ram != NULL);
    for (size_t i = 0; i < snap->index.extent_count; i++) {
        const struct page_extent *extent = &snap->index.extents[i];
        size_t len = extent->count * NUM_PAGE_SIZE;

        if (extent->kind == PAGE_DATA)
            assert(fd_pread_full(snap->image_fds[extent->file],
                       ram + extent->page * NUM_PAGE_SIZE, len,
                       extent->file_page * NUM_PAGE_SIZE) == (ssize_t)len);
    }
    return ram;
}
