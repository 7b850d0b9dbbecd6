/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz/crash.h"
#include "fuzz/fuzz_crash_cmds.h"
#include "fuzz/fuzz_say.h"
#include "fuzz/inputs.h"
#include "fuzz/triage.h"
#include "vmm/config_text.h"
#include "vmm/progress.h"

#define VERB "triage"

static const char usage[] =
    "usage: spore fuzz triage DIR CRASH... [-o OUT] [--json]\n"
    "\n"
    "Runs crashing inputs (files, or folders of them) in a target and groups\n"
    "them by where they crash.\n"
    "\n"
    "  -o, --output OUT  make a folder OUT/GROUP of each group: its smallest\n"
    "                    input, result.json, backtrace.txt, report.txt, maps\n"
    "  -t, --timeout MS  milliseconds that a run may take (5000)\n"
    "  --json            one JSON object instead of a table\n"
    "  --help            print this text\n"
    "\n"
    "Exit status: 0 if nothing crashed, 1 if anything did; 2 for a bad "
    "command\n"
    "line; 125 for other failures.\n";

struct options {
    const char *dir;
    const char *out;
    uint64_t timeout_ms;
    bool is_json;
    struct inputs inputs;
};

static int run_all(struct crash_runner *runner, const struct options *o,
    struct triage *triage, struct err *err)
{
    for (size_t i = 0; i < o->inputs.count; i++) {
        const struct fuzz_input *input = &o->inputs.list[i];
        struct bundle bundle;
        int rc = crash_run(runner, input->bytes, input->size,
            o->timeout_ms * 1000, &bundle, err);

        if (rc == 0)
            rc = triage_add(
                triage, o->inputs.names[i], &bundle, crash_top(runner), err);
        if (rc < 0)
            return err_wrap(err, rc, "%s", o->inputs.names[i]);
    }
    triage_sort(triage);
    return 0;
}

/* A group that is there already stays as it is. */
static int write_all(
    const char *out, const struct triage *triage, struct err *err)
{
    if (mkdir(out, 0777) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", out);
    for (size_t i = 0; i < triage->count; i++) {
        char name[TRIAGE_NAME_SIZE];
        int rc;

        triage_group_name(&triage->groups[i], name);
        rc = bundle_write(out, name, &triage->groups[i].bundle, err);
        if (rc == -EEXIST)
            fuzz_say_warning(
                VERB, "%s/%s is there already: it is kept", out, name);
        else if (rc < 0)
            return rc;
    }
    return 0;
}

static int print_json(const struct triage *triage, struct err *err)
{
    json_t *json = triage_to_json(triage);
    int rc = json == NULL ? -1 : json_dumpf(json, stdout, JSON_INDENT(2));

    json_decref(json);
    if (rc < 0)
        return err_set(err, EIO, "cannot write the result");
    (void)putchar('\n');
    return 0;
}

static int triage_inputs(const struct options *o, struct triage *triage)
{
    struct progress *progress;
    struct crash_runner *runner;
    struct err err;
    int rc = crash_open(o->dir, &runner, &err);

    if (rc < 0)
        return fuzz_say_failed(VERB, &err);
    progress = progress_start("running the inputs");
    rc = run_all(runner, o, triage, &err);
    progress_end(progress);
    if (rc == 0 && *crash_note(runner) != '\0')
        fuzz_say_warning(
            VERB, "some code has no names: %s", crash_note(runner));
    crash_close(runner);
    if (rc == 0 && o->out != NULL)
        rc = write_all(o->out, triage, &err);
    if (rc == 0 && o->is_json)
        rc = print_json(triage, &err);
    else if (rc == 0)
        triage_print(triage, stdout);
    if (rc < 0)
        return fuzz_say_failed(VERB, &err);
    return triage->count > 0 ? FUZZ_STATUS_CRASHED : 0;
}

/* -1: all is said. */
static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option rows[] = {
        {"output", required_argument, NULL, 'o'},
        {"timeout", required_argument, NULL, 't'},
        {"json", no_argument, NULL, 'j'},
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
        case 'j':
            o->is_json = true;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return -1;
        default:
            return FUZZ_STATUS_USAGE;
        }
    }
    if (argc - optind < 2)
        return fuzz_say_usage(VERB, "it takes a target and crashes", "");
    o->dir = argv[optind++];
    for (; optind < argc; optind++) {
        if (inputs_add(&o->inputs, argv[optind], &err) < 0)
            return fuzz_say_failed(VERB, &err);
    }
    return 0;
}

int fuzz_triage_cmd(int argc, char **argv)
{
    struct options options = {.timeout_ms = FUZZ_CRASH_TIMEOUT_MS};
    struct triage triage = {0};
    int status = read_options(argc, argv, &options);

    if (status == 0)
        status = triage_inputs(&options, &triage);
    triage_fini(&triage);
    inputs_fini(&options.inputs);
    return status < 0 ? 0 : status;
}
