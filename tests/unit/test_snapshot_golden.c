/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of version 1 of the format, as they were written then: they load,
 * for ever. tests/golden/snapshot-v1 is a store; it was made by
 *
 *     test_snapshot_golden make FOLDER
 *
 * and snapshot-v1-disks, whose machine has a disk, by make-disks. They are not
 * to be made again: a change of the format gets a folder of its own beside
 * them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/snap.h"
#include "snapshot/verify.h"
#include "tests/unit/support/snapshot_rig.h"
#include "vmm/base/num.h"

#define PAGES    UINT64_C(8)
#define BYTES    (PAGES * NUM_PAGE_SIZE)
#define CLUSTERS UINT64_C(12)

static const struct working_set_run hot_runs[] = {{1, 2}, {5, 1}};
static const struct working_set hot = {
    .runs = (struct working_set_run *)(uintptr_t)hot_runs,
    .run_count = ARRAY_SIZE(hot_runs),
    .pages = PAGES};

/* What the memory was at the full snapshot, and at its child. */
static void fill(struct snapshot_rig *rig, bool is_child)
{
    for (uint64_t i = 0; i < PAGES; i++)
        snapshot_rig_fill(rig, i, i % 3 == 0 ? 0 : 7 + i);
    if (!is_child)
        return;
    snapshot_rig_fill(rig, 3, 77);
    snapshot_rig_fill(rig, 4, 0);
}

/* And the disk: below, zeroes and data in all orders. */
static void fill_disk(uint64_t seeds[CLUSTERS], bool is_child)
{
    for (uint64_t i = 0; i < CLUSTERS; i++)
        seeds[i] = i % 4 == 0 ? SNAPSHOT_RIG_BELOW : i % 4 == 1 ? 0 : 100 + i;
    if (!is_child)
        return;
    seeds[0] = 0;
    seeds[1] = 201;
    seeds[2] = 0;
    seeds[8] = 208;
}

static int make(const char *folder, bool has_disk)
{
    struct snapshot_rig rig;
    struct snapshot_id full;
    struct snapshot_id child;
    struct snap snap;
    struct err err = {.text = "memory"};
    uint8_t *before = malloc(BYTES);
    int rc = before == NULL ? -ENOMEM : 0;

    snapshot_rig_init(&rig, folder, PAGES);
    fill(&rig, false);
    if (has_disk) {
        snapshot_rig_add_disk(&rig, CLUSTERS);
        fill_disk(rig.disk, false);
    }
    if (rc == 0) {
        memcpy(before, rig.ram, BYTES);
        rc = snapshot_rig_save(&rig, "full", NULL, NULL, &full, &err);
    }
    fill(&rig, true);
    if (has_disk)
        fill_disk(rig.disk, true);
    if (rc == 0)
        rc = snapshot_rig_save(&rig, "child", &full, before, &child, &err);
    if (rc == 0)
        rc = snap_open(&rig.store, &child, &snap, &err);
    if (rc == 0) {
        rc = working_set_store(snap.dir_fd, &hot, &err);
        snap_close(&snap);
    }
    if (rc < 0)
        (void)fprintf(stderr, "%s\n", err.text);
    free(before);
    snapshot_rig_close(&rig);
    return rc < 0 ? 1 : 0;
}

static const char *golden(void)
{
    const char *path = getenv("SPORE_GOLDEN");

    if (path == NULL)
        skip();
    return path;
}

static struct snap must_open(const char *folder, const char *name)
{
    struct snapshot_id id;
    struct store store;
    struct snap snap = {.dir_fd = -1};
    char path[512];
    struct err err;

    (void)snprintf(path, sizeof(path), "%s/%s", golden(), folder);
    if (store_open(&store, path, false, &err) < 0 ||
        store_find(&store, name, &id, &err) < 0 ||
        snap_open(&store, &id, &snap, &err) < 0)
        fail_msg("%s", err.text);
    store_close(&store);
    return snap;
}

static void assert_memory(const struct snap *snap, bool is_child)
{
    struct snapshot_rig rig;
    struct page_hashes hashes;
    uint8_t *loaded;
    struct err err;

    assert_int_equal(snap->index.pages, PAGES);
    snapshot_rig_init(&rig, NULL, PAGES);
    fill(&rig, is_child);
    loaded = snapshot_rig_load(snap);
    assert_memory_equal(loaded, rig.ram, BYTES);
    free(loaded);
    snapshot_rig_fini(&rig);
    assert_int_equal(snap_read_hashes(snap, &hashes, &err), 0);
    if (verify_pages(&snap->index, snap->image_fds, &hashes, NULL, &err) < 0)
        fail_msg("%s", err.text);
    page_hashes_fini(&hashes);
}

static void assert_state(struct snap *snap)
{
    const struct state_section *section;
    struct err err;

    assert_int_equal(snap->state.section_count, 2);
    assert_int_equal(
        state_file_require(&snap->state, "machine", 1, &section, &err), 0);
    assert_int_equal(section->size, 2);
    assert_memory_equal(section->data, "{}", 2);
    assert_int_equal(section->flags, STATE_SECTION_REQUIRED);
    assert_int_equal(state_file_check_all_taken(&snap->state, &err), 0);
    section = state_file_find(&snap->state, "hint");
    assert_non_null(section);
    assert_int_equal(section->version, 3);
    assert_int_equal(section->flags, 0);
    assert_memory_equal(section->data, "abc", 3);
}

static void test_full(void **state)
{
    struct snap snap = must_open("snapshot-v1", "full");
    struct manifest manifest;
    struct err err;

    (void)state;
    assert_int_equal(snap.index.file_count, 1);
    assert_memory(&snap, false);
    assert_state(&snap);
    assert_int_equal(snap_read_manifest(&snap, &manifest, &err), 0);
    assert_true(snapshot_id_is_zero(&manifest.parent));
    assert_string_equal(manifest.name, "full");
    assert_string_equal(manifest.monitor, "spore test");
    assert_string_equal(manifest.kernel, "/boot/vmlinux");
    assert_int_equal(manifest.created, 1700000000);
    assert_int_equal(manifest.data_pages, 5);
    assert_int_equal(manifest.own_pages, 5);
    snap_close(&snap);
}

static void test_child(void **state)
{
    struct snap snap = must_open("snapshot-v1", "child");
    struct snap parent = must_open("snapshot-v1", "full");
    struct working_set set;
    struct manifest manifest;
    struct err err;

    (void)state;
    assert_int_equal(snap.index.file_count, 2);
    assert_memory(&snap, true);
    assert_state(&snap);
    assert_int_equal(snap_read_manifest(&snap, &manifest, &err), 0);
    assert_true(snapshot_id_equal(&manifest.parent, &parent.id));
    assert_int_equal(manifest.own_pages, 1);
    assert_int_equal(snap_read_working_set(&snap, &set), 0);
    assert_int_equal(set.run_count, 2);
    assert_int_equal(set.runs[1].page, 5);
    working_set_fini(&set);
    snap_close(&parent);
    snap_close(&snap);
}

static void check_disk(const char *name, bool is_child)
{
    struct snap snap = must_open("snapshot-v1-disks", name);
    uint64_t seeds[CLUSTERS];
    struct page_hashes hashes;
    struct disks disks;
    struct err err;

    fill_disk(seeds, is_child);
    assert_memory(&snap, is_child);
    assert_int_equal(snap.disk_count, 1);
    assert_int_equal(snap.disks[0].drive, 0);
    assert_int_equal(snap.disks[0].map.file_count, is_child ? 2 : 1);
    assert_true(snapshot_rig_disk_is(&snap, seeds, CLUSTERS));
    assert_int_equal(
        snap_read_disk_hashes(&snap, &snap.disks[0], &hashes, &err), 0);
    if (verify_pages(&snap.disks[0].map, snap.disks[0].image_fds, &hashes, NULL,
            &err) < 0)
        fail_msg("%s", err.text);
    page_hashes_fini(&hashes);
    assert_int_equal(
        disks_decode(state_file_find(&snap.state, DISKS_SECTION), &disks, &err),
        0);
    assert_int_equal(disks.count, 1);
    assert_int_equal(disks.records[0].kind, DISK_OVERLAY);
    assert_int_equal(disks.records[0].bytes, CLUSTERS * NUM_PAGE_SIZE);
    assert_int_equal(disks.records[0].mtime_s, 1700000000);
    assert_int_equal(disks.records[0].mtime_ns, 123456789);
    assert_string_equal(disks.records[0].path, "/images/base.img");
    disks_fini(&disks);
    /* Whoever does not know of disks does not take it for a machine of none. */
    assert_int_equal(state_file_find(&snap.state, DISKS_SECTION)->flags,
        STATE_SECTION_REQUIRED);
    snap_close(&snap);
}

static void test_disks(void **state)
{
    (void)state;
    check_disk("full", false);
    check_disk("child", true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_child),
        cmocka_unit_test(test_disks),
    };

    if (argc == 3 && strcmp(argv[1], "make") == 0)
        return make(argv[2], false);
    if (argc == 3 && strcmp(argv[1], "make-disks") == 0)
        return make(argv[2], true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
