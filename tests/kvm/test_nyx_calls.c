/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent of Nyx, call by call, through the executor: up to its root and from
 * there, as it boots and as it comes out of the snapshot. The agent is a bare
 * guest (tests/guests/nyx.c), which looks at the answers itself.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/executor.h"
#include "tests/kvm/support/bare.h"
#include "tests/unit/support/skip.h"
#include "vmm/base/num.h"

#define TIMEOUT_US UINT64_C(2000000)
#define SEED_BYTES 5000u

static struct fuzz_result run(struct executor *ex, const char *input)
{
    struct fuzz_result result;
    struct err err;

    if (executor_run(ex, input, strlen(input), TIMEOUT_US, &result, &err) < 0)
        fail_msg("%s", err.text);
    return result;
}

static void expect(struct executor *ex, const char *input,
    enum fuzz_verdict verdict, const char *text)
{
    struct fuzz_result result = run(ex, input);
    size_t size;
    const char *said = executor_text(ex, &size);

    if (result.verdict != verdict || strcmp(said, text) != 0)
        fail_msg("'%s': verdict %d, '%s'", input, result.verdict, said);
    assert_int_equal(size, strlen(text));
}

static void check_runs(struct executor *ex)
{
    struct fuzz_result result;

    assert_int_equal(executor_map_size(ex), 100);
    assert_int_equal(executor_input_max(ex), (1u << 20) - 4);
    expect(ex, "r", FUZZ_OK, "");
    assert_int_equal(executor_map(ex)[0], 1);
    assert_int_equal(executor_map(ex)[99], 2);
    expect(ex, "s", FUZZ_OK, "");
    expect(ex, "n", FUZZ_OK, "");
    expect(ex, "t", FUZZ_OK, "");
    result = run(ex, "p");
    assert_int_equal(result.verdict, FUZZ_CRASH);
    assert_int_equal(result.signal, 11);
    assert_int_equal(result.rip, 0x1234);
    expect(ex, "p", FUZZ_CRASH, "signal 11 at 0x1234\n");
    expect(ex, "b", FUZZ_CRASH, "signal 11 at 0x1234\n");
    expect(ex, "g", FUZZ_CRASH, "a program of the guest has crashed\n");
    expect(ex, "f", FUZZ_CRASH, "the guest's kernel panicked\n");
    expect(ex, "k", FUZZ_SANITIZER, "");
    expect(ex, "e", FUZZ_CRASH, "what it says");
    expect(ex, "a", FUZZ_ABORT, "why it cannot\n");
    expect(ex, "u", FUZZ_ABORT, "the agent makes an unknown call, 0xabc\n");
    expect(ex, "h", FUZZ_ABORT, "call 36 belongs in front of the root\n");
}

/* What persists counts on, and nothing else does. */
static void check_counts(struct executor *ex)
{
    expect(ex, "c1", FUZZ_CRASH, "o=1 k=1 l=1");
    expect(ex, "c22", FUZZ_CRASH, "o=1 k=2 l=2");
    expect(ex, "r", FUZZ_OK, "");
    expect(ex, "c333", FUZZ_CRASH, "o=1 k=4 l=3");
}

/* AFL++ writes to the rest of the word that the map ends in. */
static void check_end_of_map(struct executor *ex)
{
    size_t size = executor_map_size(ex);

    assert_int_not_equal(size % 64, 0);
    memset(executor_map(ex), 1, num_align_up(size, 64));
    expect(ex, "r", FUZZ_OK, "");
    for (; size % 64 != 0; size++)
        assert_int_equal(executor_map(ex)[size], 0);
}

static void check_hang(struct executor *ex)
{
    struct fuzz_result result;
    struct err err;

    assert_int_equal(executor_run(ex, "l", 1, 20000, &result, &err), 0);
    assert_int_equal(result.verdict, FUZZ_HANG);
    expect(ex, "r", FUZZ_OK, "");
}

static void check_file(int dir_fd, const char *name, off_t size)
{
    struct stat st;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        fail_msg("no '%s'", name);
    assert_int_equal(st.st_size, size);
}

static int remove_one(
    const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void make_file(const char *dir, const char *name, unsigned int size)
{
    char path[128];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "we");
    assert_non_null(f);
    for (unsigned int i = 0; i < size; i++)
        (void)fputc('s', f);
    assert_int_equal(fclose(f), 0);
}

struct share {
    char dir[40];
    char kernel[512];
    char args[1];
    char *none[1];
    struct fuzz_target target;
};

static const struct executor_options options = {.print_fd = -1};

static struct executor *boot(struct share *s, bool looks)
{
    struct executor *ex;
    struct err err;

    (void)strcpy(s->dir, "/tmp/test_nyx_calls.XXXXXX");
    (void)snprintf(
        s->kernel, sizeof(s->kernel), "%s/nyx.elf", getenv("SPORE_GUESTS"));
    s->target = (struct fuzz_target){.dir = s->dir,
        .kernel = s->kernel,
        .argv = s->none,
        .env = s->none,
        .boot_args = s->args,
        .input = FUZZ_TARGET_MEMORY,
        .mem_bytes = FUZZ_TARGET_MEM_MIN,
        .boot_timeout_ms = 20000,
        .is_nyx = true};
    assert_non_null(mkdtemp(s->dir));
    make_file(s->dir, "seed", SEED_BYTES);
    if (looks)
        make_file(s->dir, "looks", 1);
    if (executor_boot(&s->target, &options, &ex, &err) < 0)
        fail_msg("%s", err.text);
    return ex;
}

/* Its root stays at NEXT_PAYLOAD, and what it prints behind that is seen. */
static void an_agent_that_looks_keeps_its_root(void **state)
{
    struct share s = {.dir = ""};
    struct executor *ex = boot(&s, true);

    (void)state;
    expect(ex, "r", FUZZ_OK, "it acquires\n");
    expect(ex, "e", FUZZ_CRASH, "it acquires\nwhat it says");
    executor_free(ex);
    (void)nftw(s.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void boots_runs_and_comes_back(void **state)
{
    struct share s = {.dir = ""};
    struct executor *ex = boot(&s, false);
    const struct executor_options hasty = {
        .print_fd = -1, .stops_at_report = true};
    const char *dir = s.dir;
    struct err err;
    size_t size;
    int dir_fd;

    (void)state;
    if (executor_save(ex, &err) < 0)
        fail_msg("%s", err.text);
    dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    check_file(dir_fd, "dump/maps.txt", 20);
    check_file(dir_fd, "dump/one.000002.txt", 3);
    check_file(dir_fd, "dump/one.000003.txt", 4);
    (void)close(dir_fd);
    check_counts(ex);
    check_runs(ex);
    check_hang(ex);
    check_end_of_map(ex);
    executor_free(ex);

    if (executor_open(&s.target, &options, &ex, &err) < 0)
        fail_msg("%s", err.text);
    check_counts(ex);
    check_runs(ex);
    check_hang(ex);
    executor_free(ex);

    if (executor_open(&s.target, &hasty, &ex, &err) < 0)
        fail_msg("%s", err.text);
    expect(ex, "b", FUZZ_SANITIZER, "");
    expect(ex, "p", FUZZ_CRASH, "signal 11 at 0x1234\n");
    expect(ex, "b", FUZZ_SANITIZER, "");
    for (int i = 0; i < 2; i++) {
        if (executor_read_on(ex, 1000000, &err) < 0)
            fail_msg("%s", err.text);
        assert_string_equal(executor_text(ex, &size), "signal 11 at 0x1234\n");
    }
    expect(ex, "b", FUZZ_SANITIZER, "");
    expect(ex, "r", FUZZ_OK, "");
    assert_int_equal(executor_read_on(ex, 1000000, &err), 0);
    assert_string_equal(executor_text(ex, &size), "");
    executor_free(ex);
    (void)nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boots_runs_and_comes_back),
        cmocka_unit_test(an_agent_that_looks_keeps_its_root),
    };
    int rc = bare_need_kvm();

    if (rc != 0)
        return rc;
    if (access("/bin/busybox", R_OK) < 0)
        return skip_all("busybox-static is not installed");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
