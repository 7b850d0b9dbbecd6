/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/fuzz_repro_cmd.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/bundle.h"
#include "fuzz/fuzz_say.h"
#include "fuzz/inputs.h"
#include "fuzz/root.h"
#include "fuzz/worker.h"
#include "vmm/base/num.h"
#include "vmm/config_text.h"
#include "vmm/jail_options.h"

#define VERB "repro"

#define TIMEOUT_MS_DEFAULT 10000u
#define TIMEOUT_MS_MAX     3600000u
#define TEXT_MAX           (UINT64_C(64) << 10) /* shown, bytes */

static const char usage[] =
    "usage: spore fuzz repro DIR INPUT... [options]\n"
    "\n"
    "Runs a target with inputs, one after another, each from its root, and "
    "says\n"
    "how each run ended. An INPUT is a file, or a folder of them.\n"
    "\n"
    "  --timeout MS  milliseconds that a run may take (10000)\n"
    "  --quiet       no text of the target's\n"
    "  --json        one JSON object a line, for each input\n"
    "  --help        print this text\n"
    "\n"
    "Exit status: 0 if no run ended badly, 1 if one did (crash, report of a\n"
    "sanitizer, time up); 2 for a bad command line; 125 for other failures.\n";

struct repro {
    bool is_json;
    bool is_quiet;
    uint64_t timeout_us;
    struct inputs inputs;
    struct fuzz_target target;
    struct worker *worker;
};

/* ---- one run ------------------------------------------------------------- */

/* What the target says, in a form that no terminal takes as an order. */
static size_t take_text(struct repro *r, char *text)
{
    size_t size = worker_text(r->worker, text, TEXT_MAX);

    for (size_t i = 0; i < size; i++) {
        if (text[i] != '\n' && text[i] != '\t' &&
            (text[i] < ' ' || text[i] > '~'))
            text[i] = '?';
    }
    while (size > 0 && text[size - 1] == '\n')
        size--;
    text[size] = '\0';
    return size;
}

static void print_text(
    const char *name, const struct fuzz_result *result, const char *text)
{
    (void)printf("%s: %s", name, bundle_verdict_name(result->verdict));
    if (result->signal != 0) {
        const char *abbreviation = sigabbrev_np((int)result->signal);

        (void)printf(", signal %u", result->signal);
        if (abbreviation != NULL)
            (void)printf(" (SIG%s)", abbreviation);
    }
    if (result->rip != 0)
        (void)printf(" at 0x%llx", (unsigned long long)result->rip);
    (void)printf(", %llu us\n", (unsigned long long)(result->run_ns / 1000));
    for (const char *line = text; *line != '\0';) {
        size_t size = strcspn(line, "\n");

        (void)printf("    %.*s\n", (int)size, line);
        line += size;
        line += *line == '\n' ? 1 : 0;
    }
}

static int print_json(
    const char *name, const struct fuzz_result *result, const char *text)
{
    json_t *input = json_string(name);
    /* A name may be of any bytes. */
    json_t *root = json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:s}",
        "input", input == NULL ? json_null() : input, "verdict",
        bundle_verdict_name(result->verdict), "signal",
        (json_int_t)result->signal, "status", (json_int_t)result->status, "rip",
        (json_int_t)result->rip, "run_ns", (json_int_t)result->run_ns, "pages",
        (json_int_t)result->pages, "text", text);
    int rc = root == NULL ? -1 : json_dumpf(root, stdout, JSON_COMPACT);

    json_decref(root);
    if (rc < 0)
        return -ENOMEM;
    (void)putchar('\n');
    return 0;
}

/* 0, 1 for a bad end, or -errno. */
static int run_one(struct repro *r, size_t i, char *text, struct err *err)
{
    const struct fuzz_input *input = &r->inputs.list[i];
    struct fuzz_result result;
    int rc;

    if (input->size > worker_input_max(r->worker))
        fuzz_say_warning(VERB, "%s: only its first %zu bytes are used",
            r->inputs.names[i], worker_input_max(r->worker));
    rc = worker_run(r->worker, input->bytes,
        num_min(input->size, worker_input_max(r->worker)), r->timeout_us,
        &result, err);
    if (rc < 0)
        return err_wrap(err, rc, "%s", r->inputs.names[i]);
    if (result.verdict == FUZZ_ABORT) {
        (void)take_text(r, text);
        return err_set(err, EPROTO, "%s: the agent gives up: %.200s",
            r->inputs.names[i], text);
    }
    (void)take_text(r, text);
    if (r->is_json && print_json(r->inputs.names[i], &result, text) < 0)
        return err_set(err, ENOMEM, "%s: no memory", r->inputs.names[i]);
    if (!r->is_json)
        print_text(r->inputs.names[i], &result, r->is_quiet ? "" : text);
    (void)fflush(stdout);
    return result.verdict == FUZZ_OK ? 0 : 1;
}

static int run_all(struct repro *r, struct err *err)
{
    char *text = malloc(TEXT_MAX + 1);
    int worst = 0;

    if (text == NULL)
        return err_sys(err, ENOMEM, "a text");
    for (size_t i = 0; i < r->inputs.count; i++) {
        int rc = run_one(r, i, text, err);

        if (rc < 0) {
            free(text);
            return rc;
        }
        worst = rc > worst ? rc : worst;
    }
    free(text);
    return worst;
}

/* ---- the command --------------------------------------------------------- */

static int open_target(struct repro *r, const char *dir, struct err *err)
{
    struct worker_options options = {.print_fd = -1};
    struct jail_options jail;
    int rc = jail_options_init(&jail, err);

    if (rc == 0)
        rc = fuzz_target_open(dir, &r->target, err);
    options.jail = &jail.jail;
    if (rc == 0)
        rc = root_start_worker(&r->target, &options, &r->worker, NULL, err);
    return rc;
}

static int run_words(struct repro *r, char **words, struct err *err)
{
    int rc = 0;

    for (char **word = words + 1; rc == 0 && *word != NULL; word++)
        rc = inputs_add(&r->inputs, *word, err);
    if (rc == 0 && r->inputs.count == 0)
        rc = err_set(err, ENOENT, "%s: has no files", words[1]);
    if (rc == 0)
        rc = open_target(r, words[0], err);
    return rc < 0 ? rc : run_all(r, err);
}

/* 0, -1 for --help, or a status. */
static int read_options(int argc, char **argv, struct repro *r)
{
    static const struct option rows[] = {
        {"timeout", required_argument, NULL, 't'},
        {"quiet", no_argument, NULL, 'q'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    uint64_t ms = TIMEOUT_MS_DEFAULT;
    struct err err;
    int opt;

    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":h", rows, NULL)) != -1) {
        if (opt == 'h') {
            (void)fputs(usage, stdout);
            return -1;
        }
        if (opt == ':')
            return fuzz_say_usage(
                VERB, "a value is missing behind ", argv[optind - 1]);
        if (opt == '?')
            return fuzz_say_usage(VERB, "unknown option ", argv[optind - 1]);
        if (opt == 't' &&
            config_parse_number(optarg, 1, TIMEOUT_MS_MAX, &ms, &err) < 0)
            return fuzz_say_usage(VERB, "--timeout: ", err.text);
        r->is_quiet = r->is_quiet || opt == 'q';
        r->is_json = r->is_json || opt == 'j';
    }
    r->timeout_us = ms * 1000;
    if (argc - optind < 2)
        return fuzz_say_usage(VERB, "a target and an input are needed", "");
    return 0;
}

int fuzz_repro_cmd(int argc, char **argv)
{
    struct repro r = {0};
    struct err err;
    int status = read_options(argc, argv, &r);
    int rc;

    if (status != 0)
        return status < 0 ? 0 : status;
    rc = run_words(&r, argv + optind, &err);
    worker_stop(r.worker);
    fuzz_target_fini(&r.target);
    inputs_fini(&r.inputs);
    if (rc < 0)
        return fuzz_say_failed(VERB, &err);
    return rc > 0 ? FUZZ_STATUS_CRASHED : 0;
}
