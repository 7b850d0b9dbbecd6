/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore-afl: a target of AFL++ like any other, whose test cases run in a guest
 * that is put back to its root for each.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz/afl_proto.h"
#include "fuzz/afl_rod.h"
#include "fuzz/afl_shm.h"
#include "fuzz/root.h"
#include "fuzz/target.h"
#include "fuzz/worker.h"
#include "guest/fuzz/abi.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/jail_options.h"

#define STATUS_FOUND                                                           \
    1 /* by hand: the input crashes the target, or hangs it                    \
       */
#define STATUS_USAGE  2
#define STATUS_FAILED 125

#define TIMEOUT_MS 10000u
/* AFL++ says when a test case has taken too long. */
#define NO_TIMEOUT_US UINT64_C(3600000000)

/* In a target's directory: its program built for CmpLog, a target as well. */
#define CMPLOG_DIR "cmplog"
#define DICT_PATH  "dump/afl_autodict.txt"

static const char usage[] =
    "usage: afl-fuzz -i IN -o OUT -- spore-afl [options] DIR [@@]\n"
    "       spore-afl [options] DIR [FILE]\n"
    "\n"
    "A target of AFL++ that runs its test cases in guests: DIR is one that "
    "spore fuzz\n"
    "pack has made. It works with afl-fuzz (also -c 0), afl-showmap, afl-cmin, "
    "afl-tmin\n"
    "and afl-analyze; afl-fuzz -X and -Y with libnyx.so are faster. By hand it "
    "runs FILE\n"
    "or its standard input once, and says what came of it.\n"
    "\n"
    "      --afl-proto old|new  how to greet AFL++: new for versions from "
    "4.20c on only\n"
    "                           (default old)\n"
    "      --timeout MS         by hand: how long the input may take (default "
    "10000)\n"
    "      --jail LEVEL         default, strict or off, as for spore run\n"
    "      --help               print this text\n"
    "      --version            print the version\n"
    "\n"
    "Exit status by hand: 0; 1 if the input crashes the target or takes too "
    "long; 2 for\n"
    "a bad command line; 125 for failures.\n";

struct options {
    const char *dir;
    const char *file; /* NULL: standard input */
    bool is_new_proto;
    uint64_t timeout_ms;
    struct jail_options jail;
    bool help;
    bool version;
};

struct app {
    struct options options;
    struct fuzz_target target;
    struct worker *worker;
    struct afl_shm map;
    struct afl_shm input;
    struct afl_shm cmp;
    uint8_t *dict;
    size_t dict_size;
    struct afl_rod rod;
};

/* ---- what there is to run ------------------------------------------------ */

/* With a second program for CmpLog, that. */
static int open_target(struct app *app, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    char *path = NULL;
    int rc;

    if (asprintf(&path, "%s/" CMPLOG_DIR, app->options.dir) < 0)
        return err_sys(err, ENOMEM, "%s", app->options.dir);
    if (app->cmp.at != NULL)
        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    rc = fuzz_target_open(fd >= 0 ? path : app->options.dir, &app->target, err);
    free(path);
    return rc;
}

static int read_dict(struct app *app, struct err *err)
{
    char *path = NULL;
    int rc;

    if (getenv("AFL_NO_AUTODICT") != NULL)
        return 0;
    if (asprintf(&path, "%s/" DICT_PATH, app->target.dir) < 0)
        return err_sys(err, ENOMEM, "%s", app->target.dir);
    rc = fd_read_file(
        path, AFL_PROTO_DICT_MAX, &app->dict, &app->dict_size, err);
    free(path);
    if (rc == -ENOENT)
        return 0;
    if (app->dict_size < 2)
        app->dict_size = 0;
    return rc;
}

static int open_shared(struct app *app, struct err *err)
{
    int rc = afl_shm_open(AFL_SHM_MAP, &app->map, err);

    if (rc == 0)
        rc = afl_shm_open(AFL_SHM_INPUT, &app->input, err);
    if (rc == 0)
        rc = afl_shm_open(AFL_SHM_CMP, &app->cmp, err);
    return rc;
}

static int start(struct app *app, size_t *ret_need, struct err *err)
{
    const struct worker_options options = {.jail = &app->options.jail.jail,
        .print_fd = -1,
        .levels = true,
        .stops_at_report = true,
        .map = {.at = app->map.at, .size = app->map.size},
        .cmp_map = {.at = app->cmp.at, .size = app->cmp.size}};
    int rc = open_target(app, err);

    return rc < 0 ? rc
                  : root_start_worker(
                        &app->target, &options, &app->worker, ret_need, err);
}

/* AFL++ takes a map without a byte that is set for no instrumentation. */
static void mark_blind(struct app *app)
{
    if (worker_map_size(app->worker) == 0 && app->map.size > 0)
        *(volatile uint8_t *)app->map.at = 1;
}

/* ---- inputs -------------------------------------------------------------- */

static ssize_t read_all(int fd, uint8_t *to, size_t max)
{
    /* AFL++ writes its file anew in place. What is no file has no offset. */
    (void)lseek(fd, 0, SEEK_SET);
    return fd_read_full(fd, to, max);
}

static int read_input(struct app *app, size_t *ret_size, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    const char *file = app->options.file;
    ssize_t n;

    if (file != NULL) {
        fd = open(file, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return err_sys(err, errno, "%s", file);
    }
    n = read_all(file != NULL ? fd : STDIN_FILENO, worker_input(app->worker),
        worker_input_max(app->worker));
    if (n < 0)
        return err_sys(
            err, (int)n, "%s", file != NULL ? file : "standard input");
    *ret_size = (size_t)n;
    return 0;
}

/* AFL++'s shared test case: a word with its length in front of it. */
static int run_shared(
    struct app *app, struct fuzz_result *result, struct err *err)
{
    uint32_t size =
        __atomic_load_n((const uint32_t *)app->input.at, __ATOMIC_RELAXED);

    return worker_run(app->worker,
        (const uint8_t *)app->input.at + sizeof(size),
        num_min(size, app->input.size - sizeof(size)), NO_TIMEOUT_US, result,
        err);
}

static int run_input(struct app *app, uint64_t timeout_us,
    struct fuzz_result *result, struct err *err)
{
    size_t size = 0;
    int rc = read_input(app, &size, err);

    return rc < 0 ? rc
                  : worker_run(app->worker, worker_input(app->worker), size,
                        timeout_us, result, err);
}

/* ---- as AFL++'s fork server ---------------------------------------------- */

/* What wait(2) would say of a process that had come to this. */
static int32_t status_of(const struct fuzz_result *result)
{
    bool is_signal = result->signal > 0 && result->signal < 64;

    switch (result->verdict) {
    case FUZZ_OK:
        return WIFEXITED(result->status) ? result->status & 0xff00 : 0;
    case FUZZ_HANG:
        return SIGKILL;
    case FUZZ_INPUT_WRITE:
        return SIGSEGV;
    case FUZZ_CRASH:
    case FUZZ_SANITIZER:
    case FUZZ_ABORT:
    case FUZZ_VERDICTS:
    default:
        return is_signal ? (int32_t)result->signal : SIGABRT;
    }
}

static int give_up(struct app *app, struct err *err)
{
    char text[256];
    size_t size = worker_text(app->worker, text, sizeof(text) - 1);

    text[size] = '\0';
    return err_set(err, EPROTO, "the agent in the guest gave up: %s", text);
}

static int run_one(
    struct app *app, const struct afl_proto *proto, struct err *err)
{
    struct fuzz_result result;
    uint32_t rods;
    int rc = afl_proto_begin(proto, afl_rod_pid(&app->rod, &rods), err);

    if (rc == 0)
        rc = app->input.at != NULL
                 ? run_shared(app, &result, err)
                 : run_input(app, NO_TIMEOUT_US, &result, err);
    if (rc == 0 && result.verdict == FUZZ_ABORT)
        rc = give_up(app, err);
    /* That it took too long is for AFL++ to say. */
    if (rc == 0 && result.verdict == FUZZ_HANG)
        rc = afl_rod_wait(&app->rod, rods, err);
    if (rc < 0)
        return rc;
    mark_blind(app);
    return afl_proto_end(proto, status_of(&result), err);
}

static int serve(
    struct app *app, const struct afl_proto *proto, struct err *err)
{
    uint32_t rods = 0; /* at the test case before */
    int rc = afl_rod_start(&app->rod, app->worker, err);

    while (rc == 0) {
        bool was_killed = false;

        rc = afl_proto_next(proto, &was_killed, err);
        if (rc <= 0)
            break;
        /* It may have come when the run was over: it must not end this one. */
        rc = was_killed ? afl_rod_wait(&app->rod, rods, err) : 0;
        (void)afl_rod_pid(&app->rod, &rods);
        if (rc == 0)
            rc = run_one(app, proto, err);
    }
    afl_rod_stop(&app->rod);
    return rc;
}

/* afl-fuzz says it best itself when its map is too small. */
static int offer(struct app *app, const struct afl_proto *proto,
    size_t map_size, struct err *err)
{
    const struct afl_offer what = {
        .map_size = map_size > 1 ? (uint32_t)map_size : 64,
        .wants_shm_input = app->input.at != NULL,
        .has_cmp = app->cmp.at != NULL,
        .dict = app->dict,
        .dict_size = app->dict_size};

    return afl_proto_hello(proto, &what, err);
}

static int be_target(struct app *app, struct err *err)
{
    /* AFL++ from about 5.0 on says by this that it understands the new one. */
    const struct afl_proto proto = afl_proto_std(
        app->options.is_new_proto || (getenv("AFL_CHILD_SYNC_SHM") != NULL &&
                                         getenv("AFL_OLD_FORKSERVER") == NULL));
    size_t need = 0;
    struct err map_err;
    int rc;

    /* AFL++ may end at any time, and in the middle of a run. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (app->input.at != NULL && app->input.size < NUM_PAGE_SIZE)
        return err_set(err, EINVAL, "%s is too small", AFL_SHM_INPUT);
    rc = start(app, &need, err);
    if (rc == -ENOSPC) {
        map_err = *err;
        rc = offer(app, &proto, need, err);
        *err = map_err;
        return rc < 0 ? rc : -ENOSPC;
    }
    if (rc == 0)
        rc = read_dict(app, err);
    if (rc == 0)
        rc = offer(app, &proto, worker_map_size(app->worker), err);
    return rc < 0 ? rc : serve(app, &proto, err);
}

/* ---- once ---------------------------------------------------------------- */

static void print_text(struct app *app)
{
    char chunk[4096];
    size_t size = worker_text(app->worker, chunk, sizeof(chunk));

    (void)fwrite(chunk, 1, size, stderr);
    if (size > 0 && chunk[size - 1] != '\n')
        (void)fputc('\n', stderr);
}

static void print_verdict(const struct fuzz_result *result)
{
    static const char *const names[FUZZ_VERDICTS] = {
        [FUZZ_OK] = "ok",
        [FUZZ_CRASH] = "crash",
        [FUZZ_SANITIZER] = "sanitizer",
        [FUZZ_HANG] = "hang",
        [FUZZ_INPUT_WRITE] = "input-write",
        [FUZZ_ABORT] = "abort",
    };

    (void)printf("%s", names[result->verdict]);
    if (result->signal != 0)
        (void)printf(" signal %u", result->signal);
    if (result->rip != 0)
        (void)printf(" at 0x%llx", (unsigned long long)result->rip);
    (void)printf(", %.3f ms\n", (double)result->run_ns / 1e6);
}

/* afl-showmap looks at the map, and how its child ended. */
static int end_as(const struct fuzz_result *result)
{
    int32_t status = status_of(result);

    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    (void)signal(WTERMSIG(status), SIG_DFL);
    (void)raise(WTERMSIG(status));
    return STATUS_FOUND;
}

static int run_once(struct app *app, int *ret_status, struct err *err)
{
    struct fuzz_result result;
    size_t need = 0;
    int rc = start(app, &need, err);

    if (rc == 0)
        rc = run_input(app, app->options.timeout_ms * 1000, &result, err);
    if (rc < 0)
        return rc;
    if (app->map.at != NULL) {
        mark_blind(app);
        worker_stop(app->worker);
        app->worker = NULL;
        *ret_status = end_as(&result);
        return 0;
    }
    print_verdict(&result);
    if (result.verdict != FUZZ_OK)
        print_text(app);
    *ret_status = result.verdict == FUZZ_OK ? 0 : STATUS_FOUND;
    return 0;
}

/* ---- the command line ---------------------------------------------------- */

static int parse_option(
    struct options *o, int opt, const char *word, struct err *err)
{
    const char *end;

    switch (opt) {
    case 'p':
        o->is_new_proto = strcmp(optarg, "new") == 0;
        if (!o->is_new_proto && strcmp(optarg, "old") != 0)
            return err_set(
                err, EINVAL, "--afl-proto %s: it must be old or new", optarg);
        return 0;
    case 't':
        end = num_take_digits(optarg, &o->timeout_ms);
        if (end == NULL || *end != '\0' || o->timeout_ms == 0 ||
            o->timeout_ms > NO_TIMEOUT_US / 1000)
            return err_set(err, EINVAL,
                "--timeout %s: it must be 1 to 3600000 milliseconds", optarg);
        return 0;
    case 'J':
        return jail_options_set(&o->jail, JAIL_OPTION_JAIL, optarg, err);
    case 'h':
        o->help = true;
        return 0;
    case 'V':
        o->version = true;
        return 0;
    default:
        return err_set(err, EINVAL,
            "%s is unknown, or lacks its value: see spore-afl --help", word);
    }
}

static int parse(struct options *o, int argc, char **argv, struct err *err)
{
    static const struct option options[] = {
        {"afl-proto", required_argument, NULL, 'p'},
        {"timeout", required_argument, NULL, 't'},
        {"jail", required_argument, NULL, 'J'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int opt;

    opterr = 0;
    while ((opt = getopt_long(argc, argv, "+t:hV", options, NULL)) != -1) {
        int rc = parse_option(o, opt, argv[optind - 1], err);

        if (rc < 0)
            return rc;
    }
    if (o->help || o->version)
        return 0;
    if (optind + 1 != argc && optind + 2 != argc)
        return err_set(err, EINVAL,
            "it takes a target's DIR, and @@ or a file: see spore-afl --help");
    o->dir = argv[optind];
    o->file = argv[optind + 1];
    return 0;
}

static void fini(struct app *app)
{
    worker_stop(app->worker);
    fuzz_target_fini(&app->target);
    free(app->dict);
}

int main(int argc, char **argv)
{
    struct app app = {.options = {.timeout_ms = TIMEOUT_MS}};
    struct options *o = &app.options;
    struct err err;
    int status = 0;
    int rc;

    if (jail_options_init(&o->jail, &err) < 0 ||
        parse(o, argc, argv, &err) < 0) {
        (void)fprintf(stderr, "spore-afl: %s\n", err.text);
        return STATUS_USAGE;
    }
    if (o->help || o->version) {
        (void)fputs(o->help ? usage : "spore-afl " SPORE_VERSION "\n", stdout);
        return 0;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    rc = open_shared(&app, &err);
    if (rc == 0)
        rc = afl_proto_is_there() ? be_target(&app, &err)
                                  : run_once(&app, &status, &err);
    fini(&app);
    if (rc < 0) {
        /* Some errors begin with it themselves. */
        if (strncmp(err.text, o->dir, strlen(o->dir)) != 0)
            (void)err_wrap(&err, rc, "%s", o->dir);
        (void)fprintf(stderr, "spore-afl: %s\n", err.text);
        return STATUS_FAILED;
    }
    return status;
}
