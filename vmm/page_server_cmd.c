/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/page_server_cmd.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "snapshot/page_server.h"
#include "snapshot/prefetch.h"
#include "snapshot/snap.h"
#include "snapshot/store.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/config_text.h"
#include "vmm/jail_options.h"
#include "vmm/keeper.h"
#include "vmm/restore_memory.h"

#define STATUS_USAGE  2
#define STATUS_FAILED 125

#define SESSIONS_DEFAULT 64u
#define OTHER_FDS        32u /* beside sessions and image files */

static const char usage[] =
    "usage: spore page-server SNAPSHOT --socket PATH [options]\n"
    "\n"
    "Gives machines that are restored from SNAPSHOT their memory, page by page "
    "when\n"
    "they first touch it (spore run --from SNAPSHOT --memory uffd:PATH, or\n"
    "Firecracker with a mem_backend of type Uffd). Each page is compared with "
    "its\n"
    "hash first; a machine that needs one which is damaged is ended.\n"
    "\n"
    "  -s, --socket PATH    the Unix socket to listen on\n"
    "      --store DIR      where the snapshot is (spore snapshot --help)\n"
    "      --max N          machines at a time, 1 to 1024 (default 64)\n"
    "      --around N       pages that are sent when one of them is asked "
    "for:\n"
    "                       a power of two up to 512 (default 16)\n"
    "      --prefetch on|off\n"
    "                       send the recorded working set before it is asked "
    "for,\n"
    "                       and record one if there is none (default on)\n"
    "      --jail LEVEL     default, strict or off, as for spore run\n"
    "      --json           a line of JSON for each machine that has ended\n"
    "  -h, --help           print this text\n"
    "\n"
    "Serves until it gets SIGTERM, SIGINT or SIGHUP; that ends the machines "
    "it\n"
    "serves. Exit status: 0; 2 for a bad command line; 125 for failures.\n";

struct options {
    const char *ref;
    const char *socket;
    const char *store;
    uint32_t sessions_max;
    uint32_t around;
    bool prefetch;
    struct jail_options jail;
    bool is_json;
    bool help;
};

struct app {
    struct options options;
    struct store store;
    struct snap snap;
    struct page_source source;
    struct working_set ahead;
    bool has_ahead;
    int listen_fd;
    int signal_fd;
    struct jail jail;
    struct cell cell; /* link_fd: to who is outside the jail; or -1 */
    pthread_mutex_t record_lock;
};

/* ---- sessions that are over ---------------------------------------------- */

static void on_end(void *opaque, const struct page_session_stats *stats,
    int result, const char *text)
{
    const struct app *app = opaque;

    if (result < 0 && result != -ECANCELED)
        log_err("page-server", "machine of process %d: %s", stats->pid, text);
    if (!app->options.is_json)
        return;
    (void)printf("{\"pid\":%d,\"ok\":%s,\"faults\":%llu,\"data_pages\":%llu,"
                 "\"zero_pages\":%llu,\"pages_ahead\":%llu,"
                 "\"pages_removed\":%llu}\n",
        stats->pid, result == 0 ? "true" : "false",
        (unsigned long long)stats->faults, (unsigned long long)stats->data,
        (unsigned long long)stats->zero, (unsigned long long)stats->ahead,
        (unsigned long long)stats->removed);
    (void)fflush(stdout);
}

/* Once there is a set it stays, until a machine is told to add to it. */
static void on_settled(void *opaque, const struct bitmap *touched)
{
    struct app *app = opaque;
    struct err err;
    int rc;

    (void)pthread_mutex_lock(&app->record_lock);
    rc = app->cell.link_fd < 0
             ? prefetch_record(app->snap.dir_fd, touched, false, &err)
             : keeper_record(app->cell.link_fd, touched, &err);
    (void)pthread_mutex_unlock(&app->record_lock);
    if (rc < 0 && rc != -EEXIST)
        log_info("page-server", "no working set recorded: %s", err.text);
}

/* ---- setting up ---------------------------------------------------------- */

/* They stay blocked in the sessions' threads, which look at the signalfd. */
static int catch_signals(int *ret_fd, struct err *err)
{
    sigset_t set;
    int fd;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_sys(err, errno, "cannot block signals");
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_sys(err, errno, "cannot create a signalfd");
    *ret_fd = fd;
    return 0;
}

/* As many descriptors as its machines may need: it has said so itself. */
static void keep_file_limit(struct app *app)
{
    struct rlimits *limits = &app->jail.config.limits;
    struct rlimit now;

    if (limits->list[RLIMIT_NOFILE].is_set ||
        getrlimit(RLIMIT_NOFILE, &now) < 0)
        return;
    limits->list[RLIMIT_NOFILE].is_set = true;
    limits->list[RLIMIT_NOFILE].soft = now.rlim_cur;
    limits->list[RLIMIT_NOFILE].hard = now.rlim_max;
}

static int open_snapshot(struct app *app, struct err *err)
{
    struct snapshot_id id;
    int rc = store_find(&app->store, app->options.ref, &id, err);

    if (rc == 0)
        rc = snap_open(&app->store, &id, &app->snap, err);
    if (rc < 0)
        return rc;
    rc = page_source_init(&app->source, &app->snap, err);
    if (rc == 0)
        rc = fd_raise_limit(
            (uint64_t)app->options.sessions_max * PAGE_SERVER_SESSION_FDS +
                app->snap.index.file_count + OTHER_FDS,
            app->options.sessions_max, "machines", "--max", err);
    if (rc == 0)
        keep_file_limit(app);
    if (rc == 0 && app->options.prefetch)
        app->has_ahead = snap_read_working_set(&app->snap, &app->ahead) == 0;
    return rc;
}

/* What is opened and made is all that there will be. */
static int enter_jail(struct app *app, struct err *err)
{
    const struct keeper_settlement settlement = {
        .vsock_path = app->options.socket,
        .owns_vsock_path = true,
        .record_fd = app->snap.dir_fd,
        .pages = app->snap.index.pages};
    pid_t pid;
    int rc;

    if (app->cell.link_fd < 0)
        return 0;
    /* The JSON library seeds its hash tables from /dev/urandom, once. */
    json_object_seed(0);
    rc = keeper_hello(app->cell.link_fd, &pid, err);
    if (rc == 0)
        rc = keeper_settle(app->cell.link_fd, &settlement, err);
    if (rc == 0)
        rc = jail_enter(&app->jail, pid, err);
    return rc < 0 ? rc : jail_confine(&app->jail, JAIL_ROLE_PAGE_SERVER, err);
}

static int serve_snapshot(struct app *app, struct err *err)
{
    struct page_server_config config = {
        .session = {.source = &app->source,
            .ahead = app->has_ahead ? &app->ahead : NULL,
            .around = app->options.around,
            .settle_ns = RESTORE_MEMORY_SETTLED_NS,
            .opaque = app},
        .sessions_max = app->options.sessions_max,
        .on_end = on_end};
    struct sockaddr_un addr;
    int rc = catch_signals(&app->signal_fd, err);

    if (app->options.prefetch && !app->has_ahead)
        config.session.on_settled = on_settled;
    if (rc == 0)
        rc = fd_unix_address("--socket", app->options.socket, &addr, err);
    if (rc == 0)
        rc = fd_listen_unix(&addr, app->options.socket, &app->listen_fd, err);
    if (rc < 0)
        return rc;
    rc = enter_jail(app, err);
    if (rc == 0)
        rc = page_server_run(&config, app->listen_fd, app->signal_fd, err);
    if (app->cell.link_fd < 0)
        (void)unlink(app->options.socket);
    return rc;
}

/*
 * Two processes where there is a jail: 1 in the one outside, when the other,
 * which serves, has ended. It sees the processes that it serves.
 */
static int split(struct app *app, int *ret_status, struct err *err)
{
    const struct jail_config *jail = &app->options.jail.jail;
    const struct cell_options cell = {.strict = jail->level == JAIL_STRICT,
        .shares_pids = true,
        .cgroup_fd = -1};
    const struct keeper_config keeper = {.command = "page-server"};
    int rc;

    if (jail->level == JAIL_OFF) {
        (void)fputs("spore: page-server: no jail (--jail=off)\n", stderr);
        return 0;
    }
    rc = cell_fork(&app->cell, &cell, err);
    if (rc == 1)
        *ret_status = keeper_run(&app->cell, &keeper);
    return rc != 0 ? rc
                   : jail_begin(&app->jail, jail, &app->cell,
                         &app->cell.link_fd, 1, err);
}

static int serve(const struct options *options)
{
    struct app app = {.options = *options,
        .snap = {.dir_fd = -1},
        .listen_fd = -1,
        .signal_fd = -1,
        .jail = JAIL_NONE,
        .cell = CELL_NONE,
        .record_lock = PTHREAD_MUTEX_INITIALIZER};
    struct err err;
    int status = STATUS_FAILED;
    int rc = split(&app, &status, &err);

    if (rc > 0)
        return status;
    if (rc == 0)
        rc = store_open(&app.store, options->store, false, &err);
    if (rc == 0) {
        rc = open_snapshot(&app, &err);
        if (rc == 0)
            rc = serve_snapshot(&app, &err);
        working_set_fini(&app.ahead);
        page_source_fini(&app.source);
        snap_close(&app.snap);
        store_close(&app.store);
    }
    fd_closep(&app.listen_fd);
    fd_closep(&app.signal_fd);
    fd_closep(&app.cell.link_fd);
    if (rc < 0)
        (void)fprintf(stderr, "spore: page-server: %s\n", err.text);
    return rc < 0 ? STATUS_FAILED : 0;
}

/* ---- the command line ---------------------------------------------------- */

static int parse_number(const char *option, const char *text, uint32_t max,
    uint32_t *ret_number, struct err *err)
{
    uint64_t n;
    int rc = config_parse_number(text, 1, max, &n, err);

    if (rc < 0)
        return err_wrap(err, rc, "%s", option);
    *ret_number = (uint32_t)n;
    return 0;
}

static int parse_option(
    struct options *o, int opt, const char *word, struct err *err)
{
    int rc;

    switch (opt) {
    case 's':
        o->socket = optarg;
        return 0;
    case 'S':
        o->store = optarg;
        return 0;
    case 'm':
        return parse_number(
            "--max", optarg, PAGE_SERVER_SESSIONS_MAX, &o->sessions_max, err);
    case 'a':
        rc = parse_number("--around", optarg, 512, &o->around, err);
        if (rc == 0 && !num_is_pow2(o->around))
            rc = err_set(
                err, EINVAL, "--around %s: it must be a power of two", optarg);
        return rc;
    case 'p':
        if (strcmp(optarg, "on") != 0 && strcmp(optarg, "off") != 0)
            return err_set(
                err, EINVAL, "--prefetch %s: it must be on or off", optarg);
        o->prefetch = strcmp(optarg, "on") == 0;
        return 0;
    case 'J':
        return jail_options_set(&o->jail, JAIL_OPTION_JAIL, optarg, err);
    case 'j':
        o->is_json = true;
        return 0;
    case 'h':
        o->help = true;
        return 0;
    default:
        return err_set(err, EINVAL,
            "%s is unknown, or lacks its value: see spore page-server --help",
            word);
    }
}

static int parse(struct options *o, int argc, char **argv, struct err *err)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"store", required_argument, NULL, 'S'},
        {"max", required_argument, NULL, 'm'},
        {"around", required_argument, NULL, 'a'},
        {"prefetch", required_argument, NULL, 'p'},
        {"jail", required_argument, NULL, 'J'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int opt;

    optind = 0; /* start over */
    opterr = 0;
    while ((opt = getopt_long(argc, argv, "s:h", options, NULL)) != -1) {
        int rc = parse_option(o, opt, argv[optind - 1], err);

        if (rc < 0)
            return rc;
    }
    if (o->help)
        return 0;
    if (optind + 1 != argc)
        return err_set(
            err, EINVAL, "it takes one SNAPSHOT: see spore page-server --help");
    if (o->socket == NULL)
        return err_set(err, EINVAL,
            "--socket PATH is missing: see spore page-server --help");
    o->ref = argv[optind];
    return 0;
}

int cmd_page_server(int argc, char **argv)
{
    struct options options = {.sessions_max = SESSIONS_DEFAULT,
        .around = PAGE_SESSION_AROUND,
        .prefetch = true};
    struct err err;

    if (jail_options_init(&options.jail, &err) < 0 ||
        parse(&options, argc, argv, &err) < 0) {
        (void)fprintf(stderr, "spore: page-server: %s\n", err.text);
        return STATUS_USAGE;
    }
    if (options.help) {
        (void)fputs(usage, stdout);
        return 0;
    }
    return serve(&options);
}
