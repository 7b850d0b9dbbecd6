/* SPDX-License-Identifier: Apache-2.0 */
/* Campaigns without afl-fuzz, and what a checkup makes of its numbers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/afl_stats.h"
#include "fuzz/campaign.h"
#include "fuzz/campaign_command.h"
#include "fuzz/checkup.h"
#include "vmm/folder.h"

/* ---- plot_data ----------------------------------------------------------- */

#define HEADER                                                                 \
    "# relative_time, cycles_done, cur_item, corpus_count, pending_total, "    \
    "pending_favs, map_size, saved_crashes, saved_hangs, max_depth, "          \
    "execs_per_sec, total_execs, edges_found\n"

static int parse(const char *header, const char *tail, struct afl_stats *stats)
{
    return afl_stats_parse(header, strlen(header), tail, strlen(tail), stats);
}

static void test_stats(void **state)
{
    struct afl_stats s;

    (void)state;
    assert_int_equal(
        parse(HEADER,
            "8, 1, 0, 4, 0, 0, 9.5%, 1, 0, 2, 1.5, 99, 6\n"
            "13, 31, 2, 5, 0, 0, 42.86%, 7, 3, 2, 4705.11, 65432, 6\n18, 3",
            &s),
        0);
    assert_int_equal(s.seconds, 13);
    assert_int_equal(s.corpus, 5);
    assert_int_equal(s.crashes, 7);
    assert_int_equal(s.hangs, 3);
    assert_int_equal(s.execs, 65432);
    assert_int_equal(s.edges, 6);
}

static void test_stats_refusals(void **state)
{
    struct afl_stats s;

    (void)state;
    assert_int_equal(parse(HEADER, HEADER, &s), -ENODATA);
    assert_int_equal(parse(HEADER, "13, 31", &s), -ENODATA);
    assert_int_equal(parse(HEADER, "", &s), -ENODATA);
    assert_int_equal(parse(HEADER, "\n\n", &s), -ENODATA);
    assert_int_equal(parse(HEADER, "1, 2, 3\n", &s), -EINVAL);
    assert_int_equal(
        parse(HEADER, "x, 1, 0, 4, 0, 0, 9%, 1, 0, 2, 1, 99, 6\n", &s),
        -EINVAL);
    assert_int_equal(
        parse(HEADER,
            "99999999999999999999, 1, 0, 4, 0, 0, 9%, 1, 0, 2, 1, 9, 6\n", &s),
        -EINVAL);
    assert_int_equal(parse("# relative_time\n", "1\n", &s), -EINVAL);
    assert_int_equal(parse("relative_time\n", "1\n", &s), -EINVAL);
    assert_int_equal(parse("", "1\n", &s), -EINVAL);
}

/* ---- a fuzzer that is a script ------------------------------------------- */

static char *dir;

/* Writes an afl-fuzz and what else is looked for, in front of PATH. */
static void make_fuzzer(const char *script)
{
    char path[128];
    char bin[4096];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/afl-fuzz", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "#!/bin/sh\n%s\n", script);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/libnyx.so", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    (void)snprintf(bin, sizeof(bin), "%s:/usr/bin:/bin", dir);
    assert_int_equal(setenv("PATH", bin, 1), 0);
    assert_int_equal(setenv("AFL_PATH", dir, 1), 0);
}

static int make_dir(void **state)
{
    struct err err;

    (void)state;
    return folder_make_beside("/tmp/test_fuzz_campaign", &dir, &err);
}

static int remove_dir(void **state)
{
    (void)state;
    folder_remove(dir);
    free(dir);
    return 0;
}

static struct afl_stats told;

static void report(void *arg, const struct afl_stats *stats, uint32_t running)
{
    (void)arg;
    (void)running;
    told = *stats;
}

static int run(uint32_t jobs, char *const *more, struct err *err)
{
    struct campaign_options options = {.dir = "target",
        .in = "in",
        .jobs = jobs,
        .seconds = 3,
        .timeout_ms = 50,
        .more = more};
    char out[128];

    (void)snprintf(out, sizeof(out), "%s/out", dir);
    options.out = out;
    return campaign_run(&options, report, NULL, err);
}

#define LINE(crashes)                                                          \
    "printf '" HEADER "5, 1, 0, 4, 0, 0, 1%%%%, " crashes                      \
    ", 0, 2, 1.5, 100, 6\\n' > $d/plot_data"

static void test_campaign(void **state)
{
    char path[128];
    struct err err;

    (void)state;
    make_fuzzer(
        "d=default; while [ $# -gt 0 ]; do case $1 in -o) o=$2;; "
        "-M|-S) d=$2;; esac; shift; done; d=$o/$d; mkdir -p $d; " LINE("2"));
    told = (struct afl_stats){0};
    assert_int_equal(run(3, NULL, &err), 0);
    assert_int_equal(told.execs, 300);
    assert_int_equal(told.crashes, 6);
    assert_int_equal(told.seconds, 5);
    (void)snprintf(path, sizeof(path), "%s/out/.spore/2.log", dir);
    assert_int_equal(access(path, F_OK), 0);
    told = (struct afl_stats){0};
    assert_int_equal(run(1, NULL, &err), 0);
    assert_int_equal(told.crashes, 2);
}

static void test_command(void **state)
{
    char *more[] = {(char[]){"-p"}, (char[]){"fast"}, NULL};
    struct campaign_options options = {.dir = "t",
        .in = "in",
        .out = "out",
        .jobs = 2,
        .timeout_ms = 50,
        .seconds = 3,
        .dict = "d",
        .more = more};
    static const char *const want[] = {"afl-fuzz", "-i", "in", "-o", "out",
        "-S", "1", "-Y", "-t", "50", "-V", "3", "-x", "d", "-p", "fast", "--",
        "./t"};
    struct campaign_command c;
    struct err err;

    (void)state;
    make_fuzzer("");
    assert_int_equal(campaign_command_make(&options, 1, &c, &err), 0);
    assert_int_equal(c.argv.count, ARRAY_SIZE(want));
    for (size_t i = 0; i < ARRAY_SIZE(want); i++)
        assert_string_equal(c.argv.list[i], want[i]);
    campaign_command_fini(&c);
}

/* The first one that fails ends all, and what it said last is the reason. */
static void test_campaign_fails(void **state)
{
    struct err err;

    (void)state;
    make_fuzzer("case $* in *-S*) sleep 1000;; esac; "
                "printf '\\033[1;91m[-] PROGRAM ABORT : \\033[0mno good\\n'; "
                "exit 1");
    assert_int_equal(run(2, NULL, &err), -EIO);
    assert_non_null(strstr(err.text, "afl-fuzz 0 failed: PROGRAM ABORT : no"));
    make_fuzzer("echo 'Nyx CPU ID is not set'; exit 1");
    assert_int_equal(run(1, NULL, &err), -EBUSY);
    make_fuzzer("kill -SEGV $$");
    assert_int_equal(run(1, NULL, &err), -EIO);
    assert_non_null(strstr(err.text, "signal 11"));
    assert_int_equal(setenv("PATH", "/nonexistent", 1), 0);
    assert_int_equal(run(1, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.text, "apt-get install afl++"));
}

/* ---- judgement ----------------------------------------------------------- */

static struct checkup good(void)
{
    return (struct checkup){.map_size = 100,
        .map_edges = 5,
        .runs = 100,
        .map_compared = 99,
        .ram_compared = 5,
        .pages = {4, 5},
        .run_ns = {40000, 50000}};
}

/* Exactly one finding, of that kind. */
static void judged(struct checkup c, bool is_wrong, const char *part)
{
    checkup_judge(&c);
    assert_int_equal(c.finding_count, 1);
    assert_int_equal(c.findings[0].is_wrong, is_wrong);
    if (strstr(c.findings[0].text, part) == NULL)
        fail_msg("'%s' is not in '%s'", part, c.findings[0].text);
}

static void test_judgement(void **state)
{
    struct checkup c = good();

    (void)state;
    checkup_judge(&c);
    assert_int_equal(c.finding_count, 0);
    c = good();
    c.map_size = 0;
    c.map_edges = 0;
    judged(c, true, "afl-clang-fast");
    c = good();
    c.map_edges = 0;
    judged(c, true, "the map is empty");
    c = good();
    c.map_size = 1 << 20;
    judged(c, false, "1024 KiB");
    c = good();
    c.map_differs = 3;
    c.ram_differs = 1;
    judged(c, true, "3 of 99 runs");
    c = good();
    c.ram_differs = 1;
    judged(c, false, "1 of 5 runs");
    c = good();
    c.entered = 50;
    judged(c, false, "50 of 100 runs");
    c = good();
    c.pages.median = 5000;
    judged(c, false, "5000 pages");
    c = good();
    c.run_ns.median = 30000000;
    judged(c, false, "30 ms");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_stats_refusals),
        cmocka_unit_test_setup_teardown(test_campaign, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_command, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(
            test_campaign_fails, make_dir, remove_dir),
        cmocka_unit_test(test_judgement),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
