/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/fuzz_check_cmd.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/checkup.h"
#include "fuzz/fuzz_say.h"
#include "fuzz/root.h"
#include "vmm/base/clock.h"
#include "vmm/config_text.h"
#include "vmm/progress.h"

#define VERB "check"

#define RUNS_DEFAULT 200u
#define RAM_RUNS     6u
#define TIMEOUT_US   UINT64_C(10000000)

static const char usage[] =
    "usage: spore fuzz check DIR [-n RUNS] [--seed FILE|DIR] [--json]\n"
    "\n"
    "Runs a target again and again and says whether it does the same each "
    "time,\n"
    "what runs cost, and what is wrong with it, with the cure. The target "
    "runs\n"
    "without a jail.\n"
    "\n"
    "  -n, --runs N     runs to measure (200)\n"
    "  --seed FILE|DIR  inputs to take; else one of a few bytes\n"
    "  --json           JSON instead of text\n"
    "  --help           print this text\n"
    "\n"
    "Exit status: 0 if nothing is wrong, 1 if something is; 2 for a bad "
    "command\n"
    "line; 125 for other failures.\n";

struct check {
    uint64_t runs;
    bool is_json;
    struct inputs inputs;
};

/* ---- printing ------------------------------------------------------------ */

static bool has_wrong(const struct checkup *c)
{
    for (size_t i = 0; i < c->finding_count; i++) {
        if (c->findings[i].is_wrong)
            return true;
    }
    return false;
}

/* What a guest has said may be in it. */
static const char *clean(struct checkup_finding *f)
{
    for (char *c = f->text; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~')
            *c = ' ';
    }
    return f->text;
}

static uint64_t runs_per_s(const struct checkup *c)
{
    return c->wall_ns == 0 ? 0 : c->runs * CLOCK_NS_PER_S / c->wall_ns;
}

static void print_text(const char *dir, struct checkup *c)
{
    (void)printf("%s: the agent is at its root\n", dir);
    if (c->map_size > 0)
        (void)printf("  map         %zu bytes, %u set by a run\n", c->map_size,
            c->map_edges);
    else
        (void)puts("  map         none");
    (void)printf("  input       up to %zu bytes\n", c->input_max);
    (void)printf("  the same?   map in %u of %u runs, RAM in %u of %u\n",
        c->map_compared - c->map_differs, c->map_compared,
        c->ram_compared - c->ram_differs, c->ram_compared);
    (void)printf("  a run       %.1f us, 99th of 100 %.1f us\n",
        (double)c->run_ns.median / 1e3, (double)c->run_ns.p99 / 1e3);
    (void)printf("  a reset     %.1f us, 99th of 100 %.1f us\n",
        (double)c->reset_ns.median / 1e3, (double)c->reset_ns.p99 / 1e3);
    (void)printf("  put back    %llu pages, 99th of 100 %llu\n",
        (unsigned long long)c->pages.median, (unsigned long long)c->pages.p99);
    (void)printf("  in kernel   %u of %u runs\n", c->entered, c->runs);
    (void)printf(
        "  in all      %llu runs/s\n", (unsigned long long)runs_per_s(c));
    for (size_t i = 0; i < c->finding_count; i++)
        (void)printf("%s: %s\n", c->findings[i].is_wrong ? "wrong" : "slow",
            clean(&c->findings[i]));
    if (c->finding_count == 0)
        (void)puts("nothing is wrong with it");
}

static json_t *pack_spread(const struct checkup_spread *s)
{
    return json_pack("{s:I, s:I}", "median", (json_int_t)s->median, "p99",
        (json_int_t)s->p99);
}

static json_t *pack_findings(struct checkup *c)
{
    json_t *list = json_array();

    for (size_t i = 0; i < c->finding_count; i++) {
        json_t *one = json_pack("{s:s, s:s}", "kind",
            c->findings[i].is_wrong ? "wrong" : "slow", "text",
            clean(&c->findings[i]));

        if (json_array_append_new(list, one) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static int print_json(struct checkup *c)
{
    json_t *root = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, "
        "s:I, s:o}",
        "map_size", (json_int_t)c->map_size, "map_edges",
        (json_int_t)c->map_edges, "input_max", (json_int_t)c->input_max, "runs",
        (json_int_t)c->runs, "map_compared", (json_int_t)c->map_compared,
        "map_differs", (json_int_t)c->map_differs, "ram_compared",
        (json_int_t)c->ram_compared, "ram_differs", (json_int_t)c->ram_differs,
        "bad_ends", (json_int_t)c->bad_ends, "entered_kernel",
        (json_int_t)c->entered, "pages", pack_spread(&c->pages), "run_ns",
        pack_spread(&c->run_ns), "reset_ns", pack_spread(&c->reset_ns),
        "runs_per_s", (json_int_t)runs_per_s(c), "findings", pack_findings(c));
    int rc = root == NULL ? -1 : json_dumpf(root, stdout, JSON_INDENT(2));

    json_decref(root);
    if (rc < 0)
        return -ENOMEM;
    (void)putchar('\n');
    return 0;
}

/* ---- the command --------------------------------------------------------- */

static int open_executor(
    const struct fuzz_target *target, struct executor **ret_ex, struct err *err)
{
    const struct executor_options options = {.print_fd = -1};
    int rc = executor_open(target, &options, ret_ex, err);

    if (rc != -ENOENT)
        return rc;
    rc = root_make(target, err);
    return rc < 0 ? rc : executor_open(target, &options, ret_ex, err);
}

static int check(struct check *check, const char *dir,
    struct checkup *ret_checkup, struct err *err)
{
    struct fuzz_input few = {(const uint8_t *)"INIT", 4};
    char *default_name = (char[]){"an input of four bytes"};
    struct inputs fallback = {.list = &few, .names = &default_name, .count = 1};
    struct checkup_options options = {
        .inputs = check->inputs.count > 0 ? &check->inputs : &fallback,
        .runs = (uint32_t)check->runs,
        .ram_runs = RAM_RUNS,
        .timeout_us = TIMEOUT_US};
    struct progress *progress;
    struct executor *ex = NULL;
    struct fuzz_target target;
    int rc = fuzz_target_open(dir, &target, err);

    if (rc < 0)
        return rc;
    rc = open_executor(&target, &ex, err);
    if (rc == 0) {
        progress = progress_start("spore: fuzz check: running it");
        rc = checkup_run(ex, &options, ret_checkup, err);
        progress_end(progress);
    }
    executor_free(ex);
    fuzz_target_fini(&target);
    return rc;
}

/* 0, -1 for --help, or a status. */
static int read_options(int argc, char **argv, struct check *c)
{
    static const struct option rows[] = {
        {"runs", required_argument, NULL, 'n'},
        {"seed", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct err err;
    int opt;

    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":hn:", rows, NULL)) != -1) {
        int rc = 0;

        if (opt == 'h') {
            (void)fputs(usage, stdout);
            return -1;
        }
        if (opt == ':')
            return fuzz_say_usage(
                VERB, "a value is missing behind ", argv[optind - 1]);
        if (opt == '?')
            return fuzz_say_usage(VERB, "unknown option ", argv[optind - 1]);
        if (opt == 'n')
            rc = config_parse_number(
                optarg, 1, CHECKUP_RUNS_MAX, &c->runs, &err);
        else if (opt == 's')
            rc = inputs_add(&c->inputs, optarg, &err);
        else
            c->is_json = true;
        if (rc < 0)
            return fuzz_say_usage(
                VERB, opt == 'n' ? "--runs: " : "--seed: ", err.text);
    }
    if (argc - optind != 1)
        return fuzz_say_usage(VERB, "one target is needed", "");
    return 0;
}

int fuzz_check_cmd(int argc, char **argv)
{
    struct check c = {.runs = RUNS_DEFAULT};
    struct checkup *checkup;
    struct err err;
    int status = read_options(argc, argv, &c);
    int rc;

    if (status != 0) {
        inputs_fini(&c.inputs);
        return status < 0 ? 0 : status;
    }
    checkup = calloc(1, sizeof(*checkup));
    rc = checkup == NULL ? err_sys(&err, ENOMEM, "measurements")
                         : check(&c, argv[optind], checkup, &err);
    if (rc == 0 && c.is_json)
        rc = print_json(checkup) < 0 ? err_sys(&err, ENOMEM, "JSON") : 0;
    else if (rc == 0)
        print_text(argv[optind], checkup);
    status = rc < 0               ? fuzz_say_failed(VERB, &err)
             : has_wrong(checkup) ? FUZZ_STATUS_CRASHED
                                  : 0;
    free(checkup);
    inputs_fini(&c.inputs);
    return status;
}
