/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounds of what an agent can have its executor keep and write. The calls
 * themselves are in tests/kvm/test_nyx_calls.c, hostile ones in
 * tests/fuzz/fuzz_calls.c.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/calls.h"
#include "vmm/base/num.h"

#define RAM_BYTES  (UINT64_C(1) << 20)
#define TABLE_AT   UINT64_C(0x1000) /* four tables: all of RAM, as it lies */
#define STRUCT_AT  UINT64_C(0x8000)
#define NAME_AT    UINT64_C(0x9000)
#define DATA_AT    UINT64_C(0x10000)
#define TEXT_MAX   100u
#define FILES_MAX  4096u
#define BYTES_MAX  (64u << 20)
#define BYTES_ONCE (RAM_BYTES - DATA_AT)

struct bench {
    struct gmem mem;
    struct guest_view view;
    struct fuzz_agent agent;
    struct calls calls;
    struct fuzz_result result;
    char dir[40];
    int dir_fd;
};

static void poke(struct bench *b, uint64_t at, const void *bytes, size_t size)
{
    assert_int_equal(gmem_write(&b->mem, gpa(at), bytes, size), 0);
}

static void poke_u64(struct bench *b, uint64_t at, uint64_t value)
{
    poke(b, at, &value, sizeof(value));
}

static int setup(void **state)
{
    struct calls_config config = {
        .print_fd = -1, .share_fd = -1, .text_max = TEXT_MAX};
    struct bench *b = calloc(1, sizeof(*b));
    struct err err;

    assert_non_null(b);
    assert_int_equal(gmem_init(&b->mem, RAM_BYTES, &err), 0);
    (void)strcpy(b->dir, "/tmp/test_fuzz_calls.XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->dir_fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    config.dump_fd = b->dir_fd;
    assert_int_equal(calls_init(&b->calls, &config, &err), 0);
    b->view = (struct guest_view){.mem = &b->mem,
        .regs = {
            .cr0 = 0x80000001, .cr3 = TABLE_AT, .cr4 = 0x20, .efer = 0x500}};
    for (uint64_t i = 0; i < 3; i++)
        poke_u64(b, TABLE_AT + i * NUM_PAGE_SIZE,
            (TABLE_AT + (i + 1) * NUM_PAGE_SIZE) | 7);
    for (uint64_t i = 0; i < 512; i++)
        poke_u64(b, TABLE_AT + 3 * NUM_PAGE_SIZE + i * sizeof(i),
            i * NUM_PAGE_SIZE | 7);
    *state = b;
    return 0;
}

/* The number of files, which are removed. */
static uint32_t sweep(struct bench *b)
{
    DIR *dir = opendir(b->dir);
    struct dirent *e;
    uint32_t count = 0;

    assert_non_null(dir);
    while ((e = readdir(dir)) != NULL)
        count += unlinkat(b->dir_fd, e->d_name, 0) == 0;
    (void)closedir(dir);
    return count;
}

static int teardown(void **state)
{
    struct bench *b = *state;

    (void)sweep(b);
    (void)close(b->dir_fd);
    (void)rmdir(b->dir);
    calls_fini(&b->calls);
    fuzz_agent_fini(&b->agent);
    gmem_fini(&b->mem);
    free(b);
    return 0;
}

static enum calls_outcome serve(
    struct bench *b, uint64_t number, uint64_t arg, uint64_t *ret_rax)
{
    return calls_serve(
        &b->calls, &b->agent, &b->view, number, arg, &b->result, ret_rax);
}

static uint64_t dump(
    struct bench *b, const char *name, uint64_t bytes, bool append)
{
    const struct fuzz_abi_dump_file file = {.file_name_str_ptr = NAME_AT,
        .data_ptr = DATA_AT,
        .bytes = bytes,
        .append = append};
    uint64_t rax;

    poke(b, NAME_AT, name, strlen(name) + 1);
    poke(b, STRUCT_AT, &file, sizeof(file));
    assert_int_equal(
        serve(b, FUZZ_ABI_DUMP_FILE, STRUCT_AT, &rax), CALLS_GO_ON);
    return rax;
}

static void files_are_bounded(void **state)
{
    struct bench *b = *state;

    for (uint32_t i = 0; i < FILES_MAX; i++)
        assert_int_equal(dump(b, "", 1, false), 0);
    assert_int_equal(dump(b, "", 1, false), UINT64_MAX);
    assert_int_equal(dump(b, "named", 1, false), UINT64_MAX);
    assert_int_equal(sweep(b), FILES_MAX);
}

static void bytes_of_files_are_bounded(void **state)
{
    struct bench *b = *state;
    uint64_t total = 0;

    while (dump(b, "big", BYTES_ONCE, true) == 0)
        total += BYTES_ONCE;
    assert_in_range(total, BYTES_MAX - BYTES_ONCE, BYTES_MAX);
    assert_int_equal(dump(b, "huge", UINT64_MAX, false), UINT64_MAX);
    assert_int_equal(sweep(b), 1);
}

static void files_stay_in_their_folder(void **state)
{
    struct bench *b = *state;

    assert_int_equal(dump(b, "/etc/../../name", 1, false), 0);
    assert_int_equal(dump(b, "a/..", 1, false), UINT64_MAX);
    assert_int_equal(dump(b, "a/", 1, false), UINT64_MAX);
    assert_int_equal(symlinkat("/dev/null", b->dir_fd, "link"), 0);
    assert_int_equal(dump(b, "link", 1, false), UINT64_MAX);
    assert_int_equal(unlinkat(b->dir_fd, "name", 0), 0);
}

static void pages_that_persist_are_bounded(void **state)
{
    struct bench *b = *state;
    uint64_t rax;

    for (uint64_t i = 0; i < AGENT_KEPT_MAX; i++)
        assert_int_equal(
            serve(b, FUZZ_ABI_PERSIST_PAGE, DATA_AT + i * NUM_PAGE_SIZE, &rax),
            CALLS_GO_ON);
    /* The same again is no more. */
    assert_int_equal(
        serve(b, FUZZ_ABI_PERSIST_PAGE, DATA_AT + 5, &rax), CALLS_GO_ON);
    assert_int_equal(serve(b, FUZZ_ABI_PERSIST_PAGE,
                         DATA_AT + AGENT_KEPT_MAX * NUM_PAGE_SIZE, &rax),
        CALLS_END);
    assert_int_equal(b->result.verdict, FUZZ_ABORT);
}

static void text_is_bounded(void **state)
{
    struct bench *b = *state;
    uint64_t rax;

    poke(b, DATA_AT, "0123456789", 11);
    for (uint32_t i = 0; i < 20; i++)
        (void)serve(b, FUZZ_ABI_PRINTF, DATA_AT, &rax);
    assert_int_equal(b->calls.text_len, TEXT_MAX);
    assert_int_equal(strlen(b->calls.text), TEXT_MAX);
}

/* What belongs in front of the root, and what must have come before. */
static void order_is_kept(void **state)
{
    struct bench *b = *state;
    uint64_t rax;

    assert_int_equal(serve(b, FUZZ_ABI_ACQUIRE, 0, &rax), CALLS_GO_ON);
    assert_int_equal(serve(b, FUZZ_ABI_RELEASE, 0, &rax), CALLS_GO_ON);
    assert_int_equal(serve(b, FUZZ_ABI_NEXT_PAYLOAD, 0, &rax), CALLS_END);
    assert_int_equal(serve(b, FUZZ_ABI_GET_PAYLOAD, DATA_AT, &rax), CALLS_END);
    assert_int_equal(b->result.verdict, FUZZ_ABORT);
    assert_int_equal(serve(b, FUZZ_ABI_PANIC, 0, &rax), CALLS_END);
    assert_int_equal(b->result.verdict, FUZZ_ABORT);
    calls_begin(&b->calls);
    assert_int_equal(serve(b, FUZZ_ABI_ACQUIRE, 0, &rax), CALLS_GO_ON);
    assert_int_equal(
        serve(b, FUZZ_ABI_GET_HOST_CONFIG, DATA_AT, &rax), CALLS_END);
    assert_int_equal(b->result.verdict, FUZZ_ABORT);
    assert_int_equal(serve(b, FUZZ_ABI_PANIC, 0, &rax), CALLS_END);
    assert_int_equal(b->result.verdict, FUZZ_CRASH);
    assert_int_equal(serve(b, FUZZ_ABI_RELEASE, 1, &rax), CALLS_END);
    assert_int_equal(b->result.verdict, FUZZ_OK);
}

static int load_with(
    struct bench *b, const char *timer, const char *map, const char *input_size)
{
    char text[512];
    struct err err;
    int n = snprintf(text, sizeof(text),
        "{\"cr0\": 2147483649, \"cr3\": 4096, \"cr4\": 32, \"efer\": 1280, "
        "\"timer-count\": %s, \"map\": %s, \"cmp-map\": [0, 0], \"input\": "
        "[65536, 4096], "
        "\"input-size\": %s, \"spaces\": [], \"kept\": []}",
        timer, map, input_size);
    int fd = openat(
        b->dir_fd, AGENT_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0 && n > 0 && (size_t)n < sizeof(text));
    assert_int_equal(write(fd, text, (size_t)n), n);
    (void)close(fd);
    fuzz_agent_fini(&b->agent);
    return fuzz_agent_load(&b->agent, b->dir, &b->view, &err);
}

static int load(struct bench *b, const char *map, const char *input_size)
{
    return load_with(b, "0", map, input_size);
}

/* A file is trusted no more than a guest: areas that would not fit. */
static void file_is_checked(void **state)
{
    static const uint8_t input[8] = "input";
    struct bench *b = *state;

    assert_int_equal(load(b, "[131072, 9000]", "[36864, 4]"), 0);
    assert_int_equal(b->agent.map.count, 3);
    fuzz_agent_put_input(&b->agent, &b->mem, input, sizeof(input));
    assert_int_equal(load(b, "[133120, 4096]", "[36864, 4]"), -EINVAL);
    assert_int_equal(load(b, "[131072, 9000]", "[36864, 1]"), -EINVAL);
    assert_int_equal(load(b, "[131072, 9000]", "[0, 0]"), -EINVAL);
    assert_int_equal(load(b, "[131072, 9000]", "[36864, 5]"), -EINVAL);
    assert_int_equal(load(b, "[1048576, 4096]", "[36864, 4]"), -EFAULT);
    assert_int_equal(
        load_with(b, "4294967295", "[131072, 9000]", "[36864, 4]"), 0);
    assert_true(b->agent.counter == UINT32_MAX);
    assert_int_equal(
        load_with(b, "4294967296", "[131072, 9000]", "[36864, 4]"), -EINVAL);
    assert_int_equal(
        load_with(b, "-1", "[131072, 9000]", "[36864, 4]"), -EINVAL);
    assert_int_equal(
        load_with(b, "true", "[131072, 9000]", "[36864, 4]"), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(
            bytes_of_files_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(
            files_stay_in_their_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(
            pages_that_persist_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(text_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(order_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(file_is_checked, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
