/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz/coverage.h"
#include "fuzz/crash.h"
#include "fuzz/debugger.h"
#include "fuzz/fuzz_crash_cmds.h"
#include "fuzz/fuzz_say.h"
#include "fuzz/inputs.h"
#include "vmm/config_text.h"
#include "vmm/progress.h"

#define VERB "cov"

#define LCOV_NAME "lcov.info"

static const char usage[] =
    "usage: spore fuzz cov DIR CORPUS... -o OUT [options]\n"
    "\n"
    "Runs a corpus (files, or folders of them) in a target and shows which "
    "lines\n"
    "of source it reaches: by breakpoints at the addresses of the line table, "
    "in\n"
    "the program as it is fuzzed. What ran before the root is not counted.\n"
    "\n"
    "  -o, --output OUT  folder for " LCOV_NAME " and index.html\n"
    "  --all             also libraries that have line numbers\n"
    "  -t, --timeout MS  milliseconds that a run may take (5000)\n"
    "  --help            print this text\n"
    "\n"
    "Exit status: 0; 2 for a bad command line; 125 for other failures.\n";

struct options {
    const char *dir;
    const char *out;
    uint64_t timeout_ms;
    bool all;
    struct inputs inputs;
};

/* The program comes first in the list of files. */
static int add_files(struct crash_runner *runner, const struct options *o,
    struct coverage *c, struct err *err)
{
    const struct files *files = crash_files(runner);
    const struct maps *maps = crash_maps(runner);

    if (files->count == 0 || maps->count == 0)
        return err_set(err, ENODATA,
            "the program's files are not known: %s: pack the target again",
            crash_note(runner));
    for (size_t i = 0; i < (o->all ? files->count : 1); i++) {
        struct debug_file *file = NULL;
        uint64_t bias = 0;
        int rc;

        for (size_t j = 0; file == NULL && j < maps->count; j++) {
            if (strcmp(maps->ranges[j].name, files->entries[i].guest) == 0)
                file = symbols_file(
                    crash_symbols(runner), maps->ranges[j].start, &bias);
        }
        rc = file == NULL ? err_set(err, ENODATA, "%s", crash_note(runner))
                          : coverage_add(c, file, bias, err);
        if (rc < 0 && i == 0)
            return err_wrap(err, rc, "%s", files->entries[i].host);
    }
    return 0;
}

static int put_breaks(struct debugger *d, const struct coverage *c,
    size_t *ret_missing, struct err *err)
{
    size_t count;
    uint64_t *addresses = coverage_addresses(c, &count);
    int rc;

    if (addresses == NULL)
        return err_sys(err, ENOMEM, "breakpoints");
    rc = breakpoints_add(debugger_breaks(d), addresses, count, err);
    free(addresses);
    if (rc == 0)
        *ret_missing = debugger_put_all(d);
    return rc;
}

/*
 * Each breakpoint is hit once, in whatever run comes first. One that the
 * program has itself ends the run.
 */
static int take_hit(
    struct debugger *d, struct coverage *c, bool *ret_is_ours, struct err *err)
{
    struct kvm_sregs2 sregs;
    struct kvm_regs regs;
    int64_t index;
    int rc = debugger_get_regs(d, &regs, &sregs, err);

    if (rc < 0)
        return rc;
    index = breakpoints_find(debugger_breaks(d), regs.rip);
    *ret_is_ours = index >= 0;
    if (index < 0)
        return 0;
    coverage_hit(c, regs.rip);
    rc = debugger_take(d, (size_t)index);
    return rc < 0 ? err_sys(err, rc, "a breakpoint") : 0;
}

static int run_one(struct debugger *d, const struct fuzz_input *input,
    uint64_t timeout_us, struct coverage *c, struct err *err)
{
    enum debugger_halt halt = DEBUGGER_HIT;
    bool is_ours = true;
    int rc = debugger_begin(d, input->bytes, input->size, err);

    while (rc == 0 && is_ours && halt != DEBUGGER_ENDED) {
        rc = debugger_continue(d, timeout_us, &halt, err);
        if (rc == 0 && halt == DEBUGGER_HIT)
            rc = take_hit(d, c, &is_ours, err);
    }
    return rc;
}

static int run_all(struct crash_runner *runner, const struct options *o,
    struct coverage *c, size_t *ret_missing, struct err *err)
{
    struct debugger *d;
    int rc = debugger_new(crash_executor(runner), &d, err);

    if (rc < 0)
        return rc;
    rc = put_breaks(d, c, ret_missing, err);
    for (size_t i = 0; rc == 0 && i < o->inputs.count; i++) {
        rc = run_one(d, &o->inputs.list[i], o->timeout_ms * 1000, c, err);
        if (rc < 0)
            (void)err_wrap(err, rc, "%s", o->inputs.names[i]);
    }
    debugger_free(d);
    return rc;
}

static int write_reports(
    const struct options *o, const struct coverage *c, struct err *err)
{
    char *path = NULL;
    size_t lines = 0;
    size_t hit = 0;
    int rc;

    if (mkdir(o->out, 0777) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", o->out);
    if (asprintf(&path, "%s/" LCOV_NAME, o->out) < 0)
        return err_sys(err, ENOMEM, "a path");
    rc = coverage_write_lcov(c, path, err);
    free(path);
    if (rc == 0)
        rc = coverage_write_html(c, o->out, err);
    if (rc == 0)
        rc = coverage_count(c, &lines, &hit, err);
    if (rc == 0)
        (void)printf("%zu of %zu lines by %zu inputs: %s/index.html, "
                     "%s/" LCOV_NAME "\n",
            hit, lines, o->inputs.count, o->out, o->out);
    return rc;
}

static int cover(const struct options *o, struct coverage *c)
{
    struct progress *progress;
    struct crash_runner *runner;
    size_t missing = 0;
    struct err err;
    int rc = crash_open(o->dir, &runner, &err);

    if (rc < 0)
        return fuzz_say_failed(VERB, &err);
    progress = progress_start("running the corpus");
    rc = add_files(runner, o, c, &err);
    if (rc == 0)
        rc = run_all(runner, o, c, &missing, &err);
    progress_end(progress);
    crash_close(runner);
    if (rc == 0 && missing > 0)
        fuzz_say_warning(VERB,
            "%zu places are not in the guest's memory and count as not run",
            missing);
    if (rc == 0)
        rc = write_reports(o, c, &err);
    return rc < 0 ? fuzz_say_failed(VERB, &err) : 0;
}

/* -1: all is said. */
static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option rows[] = {
        {"output", required_argument, NULL, 'o'},
        {"timeout", required_argument, NULL, 't'},
        {"all", no_argument, NULL, 'a'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct err err;
    int opt;

    optind = 1;
    while ((opt = getopt_long(argc, argv, "o:t:h", rows, NULL)) != -1) {
        switch (opt) {
        case 'o':
            o->out = optarg;
            break;
        case 't':
            if (config_parse_number(optarg, 1, FUZZ_CRASH_TIMEOUT_MS_MAX,
                    &o->timeout_ms, &err) < 0)
                return fuzz_say_usage(VERB, "--timeout: ", err.text);
            break;
        case 'a':
            o->all = true;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return -1;
        default:
            return FUZZ_STATUS_USAGE;
        }
    }
    if (argc - optind < 2)
        return fuzz_say_usage(VERB, "it takes a target and a corpus", "");
    if (o->out == NULL)
        return fuzz_say_usage(VERB, "-o is missing", "");
    o->dir = argv[optind++];
    for (; optind < argc; optind++) {
        if (inputs_add(&o->inputs, argv[optind], &err) < 0)
            return fuzz_say_failed(VERB, &err);
    }
    return 0;
}

int fuzz_cov_cmd(int argc, char **argv)
{
    struct options options = {.timeout_ms = FUZZ_CRASH_TIMEOUT_MS};
    struct coverage coverage = {0};
    int status = read_options(argc, argv, &options);

    if (status == 0)
        status = cover(&options, &coverage);
    coverage_fini(&coverage);
    inputs_fini(&options.inputs);
    return status < 0 ? 0 : status;
}
