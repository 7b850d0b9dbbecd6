/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/pio.h"
#include "vmm/base/fd.h"
#include "vmm/hw/layout.h"
#include "vmm/hw/vmgenid.h"

struct fixture {
    struct gmem mem;
    struct vmgenid gen;
    int irq_fd;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL || gmem_init(&f->mem, GMEM_SIZE_MIN, NULL) < 0)
        return -1;
    f->irq_fd = fd_eventfd();
    vmgenid_init(&f->gen, &f->mem, (struct irq_line){.fd = f->irq_fd});
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fd_closep(&f->irq_fd);
    gmem_fini(&f->mem);
    free(f);
    return 0;
}

static void expect_in_memory(const struct fixture *f, const uint8_t *id)
{
    uint8_t got[VMGENID_SIZE];

    assert_int_equal(
        gmem_read(&f->mem, gpa(LAYOUT_VMGENID), got, sizeof(got)), 0);
    assert_memory_equal(got, id, sizeof(got));
}

static void test_init_touches_nothing(void **state)
{
    static const uint8_t zero[VMGENID_SIZE];
    const struct fixture *f = *state;

    expect_in_memory(f, zero);
    assert_int_equal(bitmap_count(&f->mem.dirty), 0);
    assert_int_equal(fd_eventfd_drain(f->irq_fd), 0);
}

static void test_bump_is_seen_by_the_guest(void **state)
{
    static const uint8_t zero[VMGENID_SIZE];
    struct fixture *f = *state;

    assert_int_equal(vmgenid_bump(&f->gen, NULL), 0);
    assert_memory_not_equal(f->gen.state.id, zero, VMGENID_SIZE);
    expect_in_memory(f, f->gen.state.id);
    assert_int_equal(fd_eventfd_drain(f->irq_fd), 1);
    /* That one page and no other. */
    assert_int_equal(bitmap_count(&f->mem.dirty), 1);
    assert_true(bitmap_test(&f->mem.dirty, LAYOUT_VMGENID / 4096));
}

static void test_no_id_comes_twice(void **state)
{
    uint8_t ids[50][VMGENID_SIZE];
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        assert_int_equal(vmgenid_bump(&f->gen, NULL), 0);
        memcpy(ids[i], f->gen.state.id, VMGENID_SIZE);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(ids[i], ids[j], VMGENID_SIZE);
    }
    assert_int_equal(fd_eventfd_drain(f->irq_fd), ARRAY_SIZE(ids));
}

static void test_bump_overwrites_what_the_guest_wrote(void **state)
{
    uint8_t junk[VMGENID_SIZE];
    struct fixture *f = *state;

    memset(junk, 0x5a, sizeof(junk));
    assert_int_equal(
        gmem_write(&f->mem, gpa(LAYOUT_VMGENID), junk, sizeof(junk)), 0);
    assert_int_equal(vmgenid_bump(&f->gen, NULL), 0);
    expect_in_memory(f, f->gen.state.id);
    assert_memory_not_equal(f->gen.state.id, junk, VMGENID_SIZE);
}

static void test_missing_memory_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct vmgenid_state before;
    struct gmem none = {.fd = -1};
    struct err err;

    assert_int_equal(vmgenid_bump(&f->gen, NULL), 0);
    (void)fd_eventfd_drain(f->irq_fd);
    before = f->gen.state;
    f->gen.mem = &none;
    assert_int_equal(vmgenid_bump(&f->gen, &err), -EFAULT);
    assert_non_null(strstr(err.text, "0x9f000"));
    assert_memory_equal(before.id, f->gen.state.id, VMGENID_SIZE);
    assert_int_equal(fd_eventfd_drain(f->irq_fd), 0);
}

static void test_line_that_goes_nowhere(void **state)
{
    struct fixture *f = *state;

    f->gen.irq.fd = -1;
    assert_int_equal(vmgenid_bump(&f->gen, NULL), 0);
    expect_in_memory(f, f->gen.state.id);
    assert_int_equal(fd_eventfd_drain(f->irq_fd), 0);
}

static void test_save_and_load(void **state)
{
    struct fixture *f = *state;
    struct vmgenid other;

    assert_int_equal(vmgenid_bump(&f->gen, NULL), 0);
    vmgenid_init(&other, &f->mem, (struct irq_line){.fd = -1});
    assert_int_equal(pio_transfer(&f->gen.dev, &other.dev), 0);
    assert_memory_equal(other.state.id, f->gen.state.id, VMGENID_SIZE);
    assert_int_equal(vmgenid_bump(&other, NULL), 0);
    assert_memory_not_equal(other.state.id, f->gen.state.id, VMGENID_SIZE);
}

#define GENID_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GENID_TEST(test_init_touches_nothing),
        GENID_TEST(test_bump_is_seen_by_the_guest),
        GENID_TEST(test_no_id_comes_twice),
        GENID_TEST(test_bump_overwrites_what_the_guest_wrote),
        GENID_TEST(test_missing_memory_is_an_error),
        GENID_TEST(test_line_that_goes_nowhere),
        GENID_TEST(test_save_and_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
