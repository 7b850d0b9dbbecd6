/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/fuzz_run_cmd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/campaign.h"
#include "fuzz/fuzz_say.h"
#include "fuzz/root.h"
#include "fuzz/target.h"
#include "snapshot/store.h"
#include "vmm/base/fd.h"
#include "vmm/config_text.h"
#include "vmm/folder.h"

#define VERB "run"

#define SECONDS_MAX    (UINT64_C(10) * 365 * 86400)
#define TIMEOUT_MS_MAX 100000u

static const char usage[] =
    "usage: spore fuzz run DIR -i IN -o OUT [options] [-- OPTION...]\n"
    "\n"
    "Fuzzes a target with Debian's afl-fuzz, whose OPTIONs go behind --. What "
    "is\n"
    "found is in OUT, as afl-fuzz leaves it.\n"
    "\n"
    "  -i, --input IN     folder of inputs to begin with (one is made if it "
    "is\n"
    "                     empty); - to go on with what is in OUT\n"
    "  -o, --output OUT   where what is found goes\n"
    "  -j, --jobs N       fuzzers at a time, which share what they find (1)\n"
    "  -t, --timeout MS   milliseconds that a run may take; else found out\n"
    "  -V, --seconds S    end after so many seconds\n"
    "  -x, --dict FILE    tokens for inputs\n"
    "      --with WAY     nyx: afl-fuzz -X or -Y with libnyx.so; afl: "
    "spore-afl\n"
    "                     as its target, which is slower (nyx)\n"
    "      --json         one JSON object a line instead of text\n"
    "      --help         print this text\n"
    "\n"
    "Ends with afl-fuzz, or with SIGINT or SIGTERM, and ends all fuzzers with\n"
    "itself. Exit status: 0; 2 for a bad command line; 125 for failures.\n";

struct run {
    struct campaign_options campaign;
    bool is_json;
    uint64_t jobs;
    uint64_t timeout_ms;
    char *made_in; /* a folder with one input, or NULL */
};

/* ---- what it is like ----------------------------------------------------- */

static void report(void *arg, const struct afl_stats *s, uint32_t running)
{
    const struct run *run = arg;
    unsigned long long rate = s->seconds == 0 ? 0 : s->execs / s->seconds;

    if (run->is_json)
        (void)printf("{\"seconds\":%llu,\"fuzzers\":%u,\"execs\":%llu,"
                     "\"execs_per_s\":%llu,\"corpus\":%llu,\"crashes\":%llu,"
                     "\"hangs\":%llu,\"edges\":%llu}\n",
            (unsigned long long)s->seconds, running,
            (unsigned long long)s->execs, rate, (unsigned long long)s->corpus,
            (unsigned long long)s->crashes, (unsigned long long)s->hangs,
            (unsigned long long)s->edges);
    else
        (void)printf("%llu s: %u fuzzers, %llu runs (%llu/s), corpus %llu, "
                     "crashes %llu, hangs %llu, edges %llu\n",
            (unsigned long long)s->seconds, running,
            (unsigned long long)s->execs, rate, (unsigned long long)s->corpus,
            (unsigned long long)s->crashes, (unsigned long long)s->hangs,
            (unsigned long long)s->edges);
    (void)fflush(stdout);
}

/* ---- inputs to begin with ------------------------------------------------ */

/* Whether a folder has a file that afl-fuzz would take. */
static int has_inputs(const char *path, bool *ret_has, struct err *err)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    bool has = false;

    if (dir == NULL)
        return err_sys(err, errno, "%s", path);
    while (!has && (entry = readdir(dir)) != NULL)
        has = entry->d_name[0] != '.';
    (void)closedir(dir);
    *ret_has = has;
    return 0;
}

/* afl-fuzz takes neither no input nor an empty one. */
static int make_input(struct run *run, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    char *path;
    int rc = folder_make_beside(run->campaign.out, &run->made_in, err);

    if (rc < 0)
        return rc;
    if (asprintf(&path, "%s/seed", run->made_in) < 0)
        return err_sys(err, ENOMEM, "%s", run->made_in);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    rc = fd < 0 ? -errno : fd_write_full(fd, "\n", 1);
    if (rc < 0)
        rc = err_sys(err, rc, "%s", path);
    free(path);
    run->campaign.in = run->made_in;
    return rc;
}

static int check_input(struct run *run, struct err *err)
{
    bool has = true;
    int rc = 0;

    if (strcmp(run->campaign.in, "-") != 0)
        rc = has_inputs(run->campaign.in, &has, err);
    if (rc < 0 || has)
        return rc;
    fuzz_say_warning(VERB,
        "%s is empty: it begins with an input of one byte, and good ones "
        "save hours",
        run->campaign.in);
    return make_input(run, err);
}

/* ---- the command --------------------------------------------------------- */

static bool has_root(const struct fuzz_target *target)
{
    struct snapshot_id id;
    struct store store;
    char *path;
    bool has = false;

    if (asprintf(&path, "%s/" FUZZ_TARGET_STORE, target->dir) < 0)
        return false;
    if (store_open(&store, path, false, NULL) == 0) {
        has = store_find(&store, FUZZ_TARGET_ROOT, &id, NULL) == 0;
        store_close(&store);
    }
    free(path);
    return has;
}

static int run_campaign(struct run *run, struct err *err)
{
    struct fuzz_target target;
    int rc = fuzz_target_open(run->campaign.dir, &target, err);

    if (rc < 0)
        return rc;
    /* Once, for all of them. */
    run->campaign.has_levels = target.levels;
    if (!has_root(&target))
        rc = root_make(&target, err);
    fuzz_target_fini(&target);
    if (rc == 0)
        rc = check_input(run, err);
    if (rc == 0)
        rc = campaign_run(&run->campaign, report, run, err);
    if (run->made_in != NULL)
        folder_remove(run->made_in);
    free(run->made_in);
    return rc;
}

static int set_with(struct run *run, const char *value, struct err *err)
{
    if (strcmp(value, "nyx") == 0)
        run->campaign.with = CAMPAIGN_NYX;
    else if (strcmp(value, "afl") == 0)
        run->campaign.with = CAMPAIGN_AFL;
    else
        return err_set(
            err, EINVAL, "--with: '%.64s' is neither nyx nor afl", value);
    return 0;
}

static int set_option(
    struct run *run, int opt, const char *value, struct err *err)
{
    struct campaign_options *c = &run->campaign;

    switch (opt) {
    case 'i':
        c->in = value;
        return 0;
    case 'o':
        c->out = value;
        return 0;
    case 'x':
        c->dict = value;
        return 0;
    case 'j':
        return config_parse_number(
            value, 1, CAMPAIGN_JOBS_MAX, &run->jobs, err);
    case 't':
        return config_parse_number(
            value, 1, TIMEOUT_MS_MAX, &run->timeout_ms, err);
    case 'V':
        return config_parse_number(value, 1, SECONDS_MAX, &c->seconds, err);
    case 'w':
        return set_with(run, value, err);
    default:
        run->is_json = true;
        return 0;
    }
}

/* 0, -1 for --help, or a status. */
static int read_options(int argc, char **argv, struct run *run)
{
    static const struct option rows[] = {
        {"input", required_argument, NULL, 'i'},
        {"output", required_argument, NULL, 'o'},
        {"jobs", required_argument, NULL, 'j'},
        {"timeout", required_argument, NULL, 't'},
        {"seconds", required_argument, NULL, 'V'},
        {"dict", required_argument, NULL, 'x'},
        {"with", required_argument, NULL, 'w'},
        {"json", no_argument, NULL, 'J'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct err err;
    int end = argc;
    int opt;

    for (int i = 1; i < end; i++) {
        if (strcmp(argv[i], "--") == 0)
            end = i;
    }
    run->campaign.more = argv + (end < argc ? end + 1 : argc);
    optind = 1;
    opterr = 0;
    while (
        (opt = getopt_long(end, argv, "-:hi:o:j:t:V:x:", rows, NULL)) != -1) {
        if (opt == 'h') {
            (void)fputs(usage, stdout);
            return -1;
        }
        if (opt == ':')
            return fuzz_say_usage(
                VERB, "a value is missing behind ", argv[optind - 1]);
        if (opt == '?')
            return fuzz_say_usage(VERB, "unknown option ", argv[optind - 1]);
        if (opt == 1 && run->campaign.dir != NULL)
            return fuzz_say_usage(
                VERB, "afl-fuzz's own options go behind --: ", optarg);
        if (opt == 1)
            run->campaign.dir = optarg;
        else if (set_option(run, opt, optarg, &err) < 0)
            return fuzz_say_usage(VERB, "", err.text);
    }
    if (run->campaign.dir == NULL || run->campaign.in == NULL ||
        run->campaign.out == NULL)
        return fuzz_say_usage(
            VERB, "a target, -i IN and -o OUT are needed", "");
    return 0;
}

int fuzz_run_cmd(int argc, char **argv)
{
    struct run run = {.jobs = 1};
    struct err err;
    int status = read_options(argc, argv, &run);

    if (status != 0)
        return status < 0 ? 0 : status;
    run.campaign.jobs = (uint32_t)run.jobs;
    run.campaign.timeout_ms = (uint32_t)run.timeout_ms;
    run.campaign.has_screen = run.jobs == 1 && !run.is_json &&
                              isatty(STDOUT_FILENO) == 1 &&
                              getenv("AFL_NO_UI") == NULL;
    if (run_campaign(&run, &err) < 0)
        return fuzz_say_failed(VERB, &err);
    return 0;
}
