/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of fuzzing in a guest: programs of tests/fuzztargets are
 * booted to their root and run there, again and again, with the same result.
 *
 * By hand, with one of the programs and its arguments, `runs` rounds of an
 * input and the time of each:
 *
 *     test_fuzz_linux RUNS INPUT WAY PROGRAM [ARGUMENT...]
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fuzz/executor.h"
#include "tests/unit/support/skip.h"
#include "vmm/artifacts.h"
#include "vmm/base/cc.h"

#define PATH_MAX_HERE 4096u
#define RUN_TIMEOUT   (10u * 1000 * 1000) /* us */
#define MEM_BYTES     (UINT64_C(192) << 20)

/* Program, its libraries where it looks for them, and what init needs. */
static const char make_root[] =
    "set -e; cd \"$1\"; prog=$2; preload=$3; shift 3\n"
    "mkdir -p R/proc R/sys R/dev R/tmp R/run R/var/tmp R/spore R/target\n"
    "cp \"$prog\" R/target/prog; cp \"$preload\" R/spore/preload.so\n"
    "for f in $(ldd \"$prog\" | grep -o '/[^ ]*'); do\n"
    "  mkdir -p \"R$(dirname $f)\"; cp -L $f R$f; done\n"
    "printf 'arg=/target/prog\\0' > R/spore/fuzz.conf\n"
    "for r in \"$@\"; do printf '%s\\0' \"$r\" >> R/spore/fuzz.conf; done\n"
    "truncate -s 64M root.img\n"
    "mkfs.ext4 -q -b 4096 -O ^has_journal -d R root.img\n";

struct rig {
    char dir[64];
    struct fuzz_target target;
    struct executor *ex;
};

static void set_up(
    struct rig *r, const char *program, const char *const records[])
{
    const struct executor_options options = {.print_fd = STDERR_FILENO};
    const char *words[16] = {"sh", "-c", make_root, "sh"};
    static char path[PATH_MAX_HERE];
    static char no_args[] = "";
    size_t used = 4;
    struct err err;
    int status = 0;
    pid_t pid;

    memset(r, 0, sizeof(*r));
    (void)snprintf(r->dir, sizeof(r->dir), "/dev/shm/fuzz_linux.XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    (void)snprintf(
        path, sizeof(path), "%s/%s", getenv("SPORE_FUZZ_TARGETS"), program);
    words[used++] = r->dir;
    words[used++] = path;
    words[used++] = getenv("SPORE_FUZZ_PRELOAD");
    for (size_t i = 0; records[i] != NULL && used < ARRAY_SIZE(words) - 1; i++)
        words[used++] = records[i];
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execv("/bin/sh", (char *const *)(uintptr_t)words);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    r->target.dir = r->dir;
    r->target.boot_args = no_args;
    r->target.mem_bytes = MEM_BYTES;
    r->target.boot_timeout_ms = 120000;
    if (executor_boot(&r->target, &options, &r->ex, &err) < 0) {
        print_message("%s\n", err.text);
        fail();
    }
}

static void tear_down(struct rig *r)
{
    char command[128];

    executor_free(r->ex);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", r->dir);
    assert_int_equal(system(command), 0);
}

static void run(
    struct rig *r, const char *input, size_t size, struct fuzz_result *result)
{
    struct err err;

    if (executor_run(r->ex, input, size, RUN_TIMEOUT, result, &err) < 0) {
        print_message("%s\n", err.text);
        fail();
    }
}

static uint64_t map_sum(const struct rig *r)
{
    const uint8_t *map = executor_map(r->ex);
    uint64_t sum = 0;

    for (size_t i = 0; i < executor_map_size(r->ex); i++)
        sum = sum * 31 + map[i];
    return sum;
}

static void expect(struct rig *r, const char *input, int status)
{
    struct fuzz_result result;

    run(r, input, strlen(input), &result);
    if (result.verdict != FUZZ_OK)
        print_message("%s\n", executor_text(r->ex, &(size_t){0}));
    assert_int_equal(result.verdict, FUZZ_OK);
    assert_int_equal(result.status, status << 8);
}

/* ---- tests -----------------------------------------------------------------
 */

static void a_program_reads_its_input(void **state)
{
    static const char *const records[] = {"arg=stdio", NULL};
    struct rig r;

    (void)state;
    set_up(&r, "plain", records);
    assert_int_equal(executor_map_size(r.ex), 0);
    for (int i = 0; i < 50; i++) {
        expect(&r, "magic 1", 10);
        expect(&r, "other", 11);
        expect(&r, "", 12);
    }
    tear_down(&r);
}

static void a_loop_of_afl_runs(void **state)
{
    static const char *const records[] = {"input=memory", NULL};
    struct fuzz_result result;
    uint64_t sum;
    struct rig r;

    (void)state;
    set_up(&r, "afl_loop", records);
    expect(&r, "magic", 10);
    sum = map_sum(&r);
    expect(&r, "other", 0);
    assert_true(map_sum(&r) != sum);
    for (int i = 0; i < 50; i++) {
        run(&r, "crash", 5, &result);
        assert_int_equal(result.verdict, FUZZ_CRASH);
        assert_int_equal(result.signal, SIGABRT);
        expect(&r, "magic", 10);
        assert_true(map_sum(&r) == sum);
    }
    tear_down(&r);
}

/* ---- levels -------------------------------------------------------------- */

#define SESSIONS     24u
#define SESSION_RUNS 24u

struct message_rng {
    uint64_t state;
};

static uint32_t draw(struct message_rng *rng, uint32_t below)
{
    rng->state =
        rng->state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(rng->state >> 33) % below;
}

static size_t add_message(char *input, size_t used, const char *text)
{
    size_t size = strlen(text);

    input[used] = (char)size;
    input[used + 1] = 0;
    memcpy(input + used + 2, text, size);
    return used + 2 + size;
}

static size_t add_any(struct message_rng *rng, char *input, size_t used)
{
    static const char *const texts[] = {
        "login bob", "open", "put x", "put yz", "close", "close", "nonsense"};

    return add_message(input, used, texts[draw(rng, ARRAY_SIZE(texts))]);
}

static void expect_the_same(
    struct rig *a, struct rig *b, const char *input, size_t size)
{
    struct fuzz_result x;
    struct fuzz_result y;

    run(a, input, size, &x);
    run(b, input, size, &y);
    assert_int_equal(x.verdict, y.verdict);
    assert_int_equal(x.status, y.status);
    assert_int_equal(x.signal, y.signal);
    assert_memory_equal(
        executor_map(a->ex), executor_map(b->ex), executor_map_size(a->ex));
}

static void open_again(struct rig *r, bool levels, struct rig *ret)
{
    const struct executor_options options = {.print_fd = -1, .levels = levels};
    struct err err;

    *ret = *r;
    if (executor_open(&r->target, &options, &ret->ex, &err) < 0) {
        print_message("%s\n", err.text);
        fail();
    }
}

/* Sessions with the same beginning one after another, whole and from levels. */
static void what_inputs_share_is_run_once(void **state)
{
    static const char *const records[] = {
        "input=socket", "port=7000", "frames=1", "levels=1", NULL};
    struct message_rng rng = {.state = 1};
    struct rig r;
    struct rig with;
    struct rig without;
    struct executor_stats stats;
    struct err err;

    (void)state;
    set_up(&r, "afl_stateful", records);
    r.target.levels = true;
    assert_int_equal(executor_save(r.ex, &err), 0);
    open_again(&r, true, &with);
    open_again(&r, false, &without);
    for (unsigned int i = 0; i < SESSIONS; i++) {
        char input[1024];
        size_t prefix = add_message(input, 0, "login eve");
        uint32_t messages = draw(&rng, 5);

        for (uint32_t k = 0; k < messages; k++)
            prefix = add_any(&rng, input, prefix);
        for (unsigned int k = 0; k < SESSION_RUNS; k++) {
            size_t size = prefix;

            for (uint32_t n = draw(&rng, 4); n > 0; n--)
                size = add_any(&rng, input, size);
            expect_the_same(&with, &without, input, size);
        }
    }
    stats = executor_stats(with.ex);
    print_message("%llu runs, %llu of them from one of %llu levels\n",
        (unsigned long long)stats.runs,
        (unsigned long long)stats.runs_on_levels,
        (unsigned long long)stats.levels);
    assert_true(stats.levels >= 2);
    assert_true(stats.runs_on_levels > stats.runs / 4);
    assert_int_equal(executor_stats(without.ex).levels, 0);
    executor_free(with.ex);
    executor_free(without.ex);
    tear_down(&r);
}

/* ---- by hand ---------------------------------------------------------------
 */

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return *x < *y ? -1 : *x > *y;
}

static int by_hand(int argc, char **argv)
{
    const char *records[12] = {argv[3]};
    static char args[8][256];
    static uint64_t ns[100000];
    size_t runs = strtoul(argv[1], NULL, 10);
    struct fuzz_result result = {0};
    struct rig r;

    for (int i = 5; i < argc && i < 12; i++) {
        (void)snprintf(args[i - 5], sizeof(args[0]), "%s", argv[i]);
        records[i - 4] = args[i - 5];
    }
    set_up(&r, argv[4], records);
    for (size_t i = 0; i < runs && i < ARRAY_SIZE(ns); i++) {
        run(&r, argv[2], strlen(argv[2]), &result);
        ns[i] = result.run_ns + result.reset_ns;
        if (i == 0)
            fprintf(stderr, "first: verdict %d, %llu ns\n", (int)result.verdict,
                (unsigned long long)result.run_ns);
    }
    qsort(ns, runs, sizeof(ns[0]), compare);
    printf("verdict %d signal %u status 0x%x rip 0x%llx\n", (int)result.verdict,
        result.signal, (unsigned int)result.status,
        (unsigned long long)result.rip);
    printf("map %zu, pages %u, run %llu ns, reset %llu ns, both p50 %llu ns\n",
        executor_map_size(r.ex), result.pages,
        (unsigned long long)result.run_ns, (unsigned long long)result.reset_ns,
        (unsigned long long)ns[runs / 2]);
    printf("%s\n", executor_text(r.ex, &(size_t){0}));
    tear_down(&r);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_reads_its_input),
        cmocka_unit_test(a_loop_of_afl_runs),
        cmocka_unit_test(what_inputs_share_is_run_once),
    };
    char *kernel = NULL;
    struct err err;

    if (access("/dev/kvm", R_OK | W_OK) != 0)
        return skip_all("no /dev/kvm");
    if (getenv("SPORE_FUZZ_TARGETS") == NULL)
        return skip_all("SPORE_FUZZ_TARGETS is not set");
    if (artifacts_find(ARTIFACT_KERNEL, &kernel, &err) < 0)
        return skip_all(err.text);
    free(kernel);
    if (argc > 4)
        return by_hand(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
