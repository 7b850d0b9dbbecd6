/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that go back with their machine: random rounds of writes, pushes,
 * pops and resets through the device, against copies of the model.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/support/disk_rig.h"
#include "vmm/base/num.h"
#include "vmm/machine_drive_reset.h"

#define OVERLAY "overlay.drive_reset"
#define ROUNDS  1000u
#define LEVELS  12u

/* The parts of a machine that are asked for its disks. */
struct fixture {
    struct disk_rig *rig;
    struct config config;
    struct machine machine;
    struct reset_disk disks[RESET_DISKS_MAX];
    uint32_t count;
    uint8_t *models[LEVELS];
    unsigned int level_count;
};

static enum blk_overlay_kind kinds[] = {BLK_OVERLAY_MEMORY, BLK_OVERLAY_FILE};

static int set_up(void **state)
{
    const enum blk_overlay_kind *kind = *state;
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;

    assert_non_null(f);
    (void)unlink(OVERLAY);
    f->rig = disk_rig_new(*kind == BLK_OVERLAY_FILE);
    f->rig->options = (struct machine_drive_options){
        .has_overlay = true, .overlay = *kind, .overlay_path = OVERLAY};
    disk_rig_open(f->rig);
    f->config.drive_count = 1;
    f->config.drives[0] = f->rig->config;
    f->machine.config = &f->config;
    f->machine.drives[0] = f->rig->drive;
    if (machine_drive_reset_disks(&f->machine, f->disks, &f->count, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(f->count, 1);
    for (unsigned int i = 0; i < LEVELS; i++) {
        f->models[i] = malloc(DISK_RIG_BYTES);
        assert_non_null(f->models[i]);
    }
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    disk_rig_free(f->rig);
    for (unsigned int i = 0; i < LEVELS; i++)
        free(f->models[i]);
    (void)unlink(OVERLAY);
    free(f);
    return 0;
}

static void push(struct fixture *f)
{
    struct err err;

    if (f->disks[0].ops->push(f->disks[0].opaque, &err) < 0)
        fail_msg("%s", err.text);
    memcpy(f->models[f->level_count++], f->rig->model, DISK_RIG_BYTES);
}

static void pop(struct fixture *f)
{
    f->disks[0].ops->pop(f->disks[0].opaque);
    f->level_count--;
}

static void reset(struct fixture *f)
{
    struct err err;

    if (f->disks[0].ops->reset(f->disks[0].opaque, &err) < 0)
        fail_msg("%s", err.text);
    memcpy(f->rig->model, f->models[f->level_count - 1], DISK_RIG_BYTES);
}

static void test_random_rounds(void **state)
{
    struct fixture *f = *state;

    disk_rig_round(f->rig);
    push(f);
    for (unsigned int i = 0; i < ROUNDS; i++) {
        unsigned int requests =
            (unsigned int)disk_rig_next(f->rig, DISK_RIG_BATCH + 1);

        for (unsigned int k = 0; k < requests; k++)
            disk_rig_add_random(f->rig, k);
        if (requests > 0)
            disk_rig_run(f->rig, requests);
        switch (disk_rig_next(f->rig, 4)) {
        case 0:
            if (f->level_count < LEVELS)
                push(f);
            break;
        case 1:
            while (f->level_count > 1 && disk_rig_next(f->rig, 2) == 0)
                pop(f);
            reset(f);
            break;
        default:
            reset(f);
            break;
        }
        disk_rig_check(f->rig);
    }
}

static void test_another_disk_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err;

    push(f);
    assert_int_equal(
        machine_drive_replace(f->rig->drive, f->rig->path, -1, &err), -EBUSY);
    assert_non_null(strstr(err.text, "spore push"));
}

static void test_files_cannot_go_back(void **state)
{
    struct fixture *f = *state;
    struct disk_rig *plain = disk_rig_new(false);
    struct err err;

    disk_rig_open(plain);
    f->config.drives[1] = plain->config;
    f->config.drive_count = 2;
    f->machine.drives[1] = plain->drive;
    assert_int_equal(
        machine_drive_reset_disks(&f->machine, f->disks, &f->count, &err),
        -ENOTSUP);
    assert_non_null(strstr(err.text, "overlay"));
    f->config.drives[1].is_read_only = true;
    assert_int_equal(
        machine_drive_reset_disks(&f->machine, f->disks, &f->count, &err), 0);
    assert_int_equal(f->count, 1);
    f->config.pmem_count = 1;
    f->config.pmems[0] = (struct config_pmem){
        .id = (char *)(uintptr_t) "p", .path = plain->path};
    assert_int_equal(
        machine_drive_reset_disks(&f->machine, f->disks, &f->count, &err),
        -ENOTSUP);
    assert_non_null(strstr(err.text, "pmem p"));
    disk_rig_free(plain);
}

#define T(name, k)                                                             \
    cmocka_unit_test_prestate_setup_teardown(name, set_up, tear_down, &kinds[k])

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_random_rounds, 0),
        T(test_random_rounds, 1),
        T(test_another_disk_is_refused, 0),
        T(test_files_cannot_go_back, 0),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
