/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz/crash.h"
#include "fuzz/fuzz_crash_cmds.h"
#include "fuzz/fuzz_say.h"
#include "fuzz/inputs.h"
#include "fuzz/minimize.h"
#include "vmm/base/fd.h"
#include "vmm/config_text.h"
#include "vmm/progress.h"

#define VERB "min"

#define TRIES_DEFAULT 1000000u

static const char usage[] =
    "usage: spore fuzz min DIR INPUT -o OUT [options]\n"
    "\n"
    "Makes a crashing input smaller, as long as it crashes in the same way: "
    "with\n"
    "the same stack hash as spore fuzz triage shows.\n"
    "\n"
    "  -o, --output OUT  file for the result, which must not be there yet\n"
    "  -t, --timeout MS  milliseconds that a run may take (5000)\n"
    "  --tries N         runs after which it ends as it is (1000000)\n"
    "  --help            print this text\n"
    "\n"
    "Exit status: 0; 2 for a bad command line; 125 for other failures, such as "
    "an\n"
    "input that does not crash.\n";

struct options {
    const char *dir;
    const char *input;
    const char *out;
    uint64_t timeout_ms;
    uint64_t tries;
};

struct property {
    struct crash_runner *runner;
    uint64_t timeout_us;
    enum fuzz_verdict verdict;
    uint64_t stack_hash;
};

static int keeps(void *opaque, const uint8_t *bytes, size_t size,
    bool *ret_keeps, struct err *err)
{
    const struct property *p = opaque;
    struct bundle bundle;
    int rc = crash_run(p->runner, bytes, size, p->timeout_us, &bundle, err);

    if (rc < 0)
        return rc;
    *ret_keeps =
        bundle.verdict == p->verdict && bundle.stack_hash == p->stack_hash;
    bundle_fini(&bundle);
    return 0;
}

/* How the input itself ends. */
static int find_property(struct property *p, const uint8_t *bytes, size_t size,
    const char *name, struct err *err)
{
    struct bundle bundle;
    int rc = crash_run(p->runner, bytes, size, p->timeout_us, &bundle, err);

    if (rc < 0)
        return rc;
    p->verdict = bundle.verdict;
    p->stack_hash = bundle.stack_hash;
    bundle_fini(&bundle);
    if (p->verdict == FUZZ_OK)
        return err_set(err, EINVAL, "%s does not crash the target", name);
    return 0;
}

static int write_output(
    const char *path, const uint8_t *bytes, size_t size, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int rc = fd < 0 ? -errno : fd_write_full(fd, bytes, size);

    return rc < 0 ? err_sys(err, rc, "%s", path) : 0;
}

static int minimise(struct crash_runner *runner, const struct options *o,
    uint8_t *bytes, size_t size, struct err *err)
{
    struct property p = {.runner = runner, .timeout_us = o->timeout_ms * 1000};
    const struct minimize m = {
        .keeps = keeps, .opaque = &p, .tries_max = o->tries};
    struct progress *progress;
    struct minimize_stats stats;
    size_t before = size;
    int rc = find_property(&p, bytes, size, o->input, err);

    if (rc < 0)
        return rc;
    progress = progress_start("making it smaller");
    rc = minimize_run(&m, bytes, &size, &stats, err);
    progress_end(progress);
    if (rc == 0)
        rc = write_output(o->out, bytes, size, err);
    if (rc < 0)
        return rc;
    (void)printf("%zu bytes of %zu after %" PRIu64 " runs%s: %s-%016" PRIx64
                 "\n",
        size, before, stats.tries,
        stats.is_complete ? "" : ", which are as many as --tries allows",
        bundle_verdict_name(p.verdict), p.stack_hash);
    return 0;
}

/* -1: all is said. */
static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option rows[] = {
        {"output", required_argument, NULL, 'o'},
        {"timeout", required_argument, NULL, 't'},
        {"tries", required_argument, NULL, 'n'},
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
        case 'n':
            if (config_parse_number(optarg, 1, UINT32_MAX, &o->tries, &err) < 0)
                return fuzz_say_usage(VERB, "--tries: ", err.text);
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return -1;
        default:
            return FUZZ_STATUS_USAGE;
        }
    }
    if (argc - optind != 2)
        return fuzz_say_usage(VERB, "it takes a target and one input", "");
    if (o->out == NULL)
        return fuzz_say_usage(VERB, "-o is missing", "");
    o->dir = argv[optind];
    o->input = argv[optind + 1];
    return 0;
}

int fuzz_min_cmd(int argc, char **argv)
{
    struct options o = {
        .timeout_ms = FUZZ_CRASH_TIMEOUT_MS, .tries = TRIES_DEFAULT};
    struct crash_runner *runner = NULL;
    uint8_t *bytes = NULL;
    struct err err;
    size_t size;
    int status = read_options(argc, argv, &o);

    if (status != 0)
        return status < 0 ? 0 : status;
    if (fd_read_file(o.input, INPUT_FILE_MAX, &bytes, &size, &err) < 0 ||
        crash_open(o.dir, &runner, &err) < 0 ||
        minimise(runner, &o, bytes, size, &err) < 0)
        status = fuzz_say_failed(VERB, &err);
    crash_close(runner);
    free(bytes);
    return status;
}
