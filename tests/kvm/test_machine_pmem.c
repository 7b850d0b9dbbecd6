/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bare guest and a file that is mapped into its memory.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvm/support/bare.h"
#include "vmm/base/fd.h"
#include "vmm/hw/layout.h"

/* As tests/guests/pmem.S has them. */
#define MAGIC UINT64_C(0x1122334455667788)
#define START UINT64_C(0x100000000)

/* Ends within a page, and far from the end of what is mapped. */
#define FILE_BYTES 8300u

struct rig {
    char path[32];
    int fd;
};

static int set_up(void **state)
{
    static const uint64_t magic = MAGIC;
    struct rig *g = calloc(1, sizeof(*g));

    assert_non_null(g);
    (void)snprintf(g->path, sizeof(g->path), "machine_pmem.XXXXXX");
    g->fd = mkostemp(g->path, O_CLOEXEC);
    assert_true(g->fd >= 0);
    assert_int_equal(fd_write_full(g->fd, &magic, sizeof(magic)), 0);
    assert_int_equal(ftruncate(g->fd, FILE_BYTES), 0);
    *state = g;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *g = *state;

    fd_closep(&g->fd);
    (void)unlink(g->path);
    free(g);
    return 0;
}

static uint64_t word_at(struct rig *g, uint64_t offset)
{
    uint64_t word = 0;

    assert_int_equal(
        fd_pread_full(g->fd, &word, sizeof(word), offset), sizeof(word));
    return word;
}

static struct bare *make(struct rig *g, const char *cmdline, bool read_only)
{
    const struct config_pmem pmem = {
        .id = (char[]){"pmem0"}, .path = g->path, .is_read_only = read_only};
    struct bare *b = bare_prepare(
        &(struct bare_options){.guest = "pmem", .cmdline = cmdline});
    struct err err;

    assert_int_equal(config_add_pmem(&b->config, &pmem, &err), 0);
    if (bare_build(b, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(b->machine.pmems[0]->start, START);
    return b;
}

static void run_to_end(struct bare *b)
{
    bare_start(b);
    bare_wait_end(b);
    assert_int_equal(b->end.kind, MACHINE_EXITED);
    assert_int_equal(b->end.status, 0);
}

static uint64_t dropped(const struct bare *b)
{
    return __atomic_load_n(
        &b->machine.pmems[0]->pmem.stats.dropped_writes, __ATOMIC_RELAXED);
}

static void test_read_only(void **state)
{
    struct rig *g = *state;
    struct bare *b = make(g, "how=1", true);

    run_to_end(b);
    assert_true(dropped(b) >= 3);
    bare_free(b);
    assert_int_equal(word_at(g, 0), MAGIC);
    assert_int_equal(word_at(g, 8), 0);
}

static void test_read_only_from_ring_3(void **state)
{
    struct rig *g = *state;
    struct bare *b = make(g, "how=5", true);

    bare_start(b);
    for (uint32_t i = 0; i < 20; i++)
        bare_wait_change(b, BARE_MAILBOX, bare_peek(b, BARE_MAILBOX));
    assert_true(dropped(b) >= 20);
    assert_int_equal(b->ends, 0);
    bare_free(b);
    assert_int_equal(word_at(g, 64), 0);
}

static void test_writable(void **state)
{
    struct rig *g = *state;
    struct bare *b = make(g, "how=2", false);

    run_to_end(b);
    assert_int_equal(dropped(b), 0);
    bare_free(b);
    assert_int_equal(word_at(g, 0), MAGIC);
    assert_int_equal(word_at(g, 4096), ~MAGIC);
    assert_int_equal(lseek(g->fd, 0, SEEK_END), FILE_BYTES);
}

/* What one machine writes the other reads: the file is there once. */
static void test_readers_share_a_file(void **state)
{
    struct rig *g = *state;
    struct bare *a = make(g, "how=1", true);
    struct bare *b = make(g, "how=1", true);

    run_to_end(a);
    run_to_end(b);
    bare_free(a);
    bare_free(b);
}

static void end_by_cutting(struct rig *g, const char *cmdline, bool read_only)
{
    struct bare *b = make(g, cmdline, read_only);

    bare_start(b);
    bare_wait_change(b, BARE_MAILBOX, bare_peek(b, BARE_MAILBOX));
    assert_int_equal(ftruncate(g->fd, 0), 0);
    bare_wait_end(b);
    assert_int_equal(b->end.kind, MACHINE_FAULTED);
    assert_non_null(strstr(b->end.text, g->path));
    assert_non_null(strstr(b->end.text, "cut from 8300 to 0 bytes"));
    assert_null(strchr(b->end.text, '\n'));
    bare_free(b);
}

static void test_cut_file_ends_a_guest_in_ring_0(void **state)
{
    end_by_cutting(*state, "how=3", true);
}

static void test_cut_file_ends_a_guest_in_ring_3(void **state)
{
    end_by_cutting(*state, "how=4", true);
}

static void test_cut_writable_file_ends_a_guest(void **state)
{
    end_by_cutting(*state, "how=5", false);
}

static void test_bad_file_leaves_nothing(void **state)
{
    struct config_pmem pmem = {
        .id = (char[]){"pmem0"}, .path = (char[]){"/nonexistent/file"}};
    unsigned int fds = bare_count_fds();
    struct bare *b = bare_prepare(&(struct bare_options){.guest = "pmem"});
    struct rig *g = *state;
    struct err err;

    assert_int_equal(config_add_pmem(&b->config, &pmem, &err), 0);
    assert_true(bare_build(b, &err) < 0);
    assert_non_null(strstr(err.text, "/nonexistent/file"));
    bare_free(b);
    /* The first one is fine, and another wants to write to it. */
    b = bare_prepare(&(struct bare_options){.guest = "pmem"});
    pmem.path = g->path;
    assert_int_equal(config_add_pmem(&b->config, &pmem, &err), 0);
    pmem.id = (char[]){"pmem1"};
    assert_int_equal(config_add_pmem(&b->config, &pmem, &err), 0);
    assert_int_equal(bare_build(b, &err), -EBUSY);
    bare_free(b);
    assert_int_equal(bare_count_fds(), fds);
}

/* Behind RAM that goes beyond 4 GiB, each on a section of its own. */
static void test_places(void **state)
{
    struct rig *g = *state;
    struct config_pmem pmem = {
        .id = (char[]){"a"}, .path = g->path, .is_read_only = true};
    struct bare *b = bare_prepare(&(struct bare_options){
        .guest = "pmem", .mem_bytes = 3 * NUM_GIB + NUM_MIB});
    struct err err;

    assert_int_equal(config_add_pmem(&b->config, &pmem, &err), 0);
    pmem.id = (char[]){"b"};
    assert_int_equal(config_add_pmem(&b->config, &pmem, &err), 0);
    assert_int_equal(bare_build(b, &err), 0);
    assert_int_equal(b->machine.pmems[0]->start, START + LAYOUT_PMEM_ALIGN);
    assert_int_equal(b->machine.pmems[1]->start, START + 2 * LAYOUT_PMEM_ALIGN);
    bare_free(b);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_read_only),
        T(test_read_only_from_ring_3),
        T(test_writable),
        T(test_readers_share_a_file),
        T(test_cut_file_ends_a_guest_in_ring_0),
        T(test_cut_file_ends_a_guest_in_ring_3),
        T(test_cut_writable_file_ends_a_guest),
        T(test_bad_file_leaves_nothing),
        T(test_places),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
