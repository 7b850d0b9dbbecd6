/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/switch.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/config_text.h"
#include "vmm/core/loop.h"
#include "vmm/netswitch.h"
#include "vmm/netswitch_place.h"

#define STATUS_FAILED 1
#define STATUS_USAGE  2
#define JSON_VERSION  1

#define PORTS_DEFAULT 128u
#define AGE_NS        (300 * CLOCK_NS_PER_S)
#define HOLD_NS       (5 * CLOCK_NS_PER_S)
#define RATE_MS       UINT64_C(100) /* what a port may send at once */
#define RETRY_NS      (100 * CLOCK_NS_PER_MS)
#define OTHER_FDS     32u /* besides one for each port */
#define ACCEPTS_MAX   16u /* in a row */

static const char usage[] =
    "usage: spore switch [options]\n"
    "\n"
    "An Ethernet switch between VMs that needs no privilege. A VM joins with\n"
    "`spore run --net switch=NAME`, which starts a switch of that name if\n"
    "there is none.\n"
    "\n"
    "  -l, --listen WHERE  a name (\"default\" if not given), or a path with "
    "a\n"
    "                      \"/\" for the Unix socket\n"
    "      --until-empty   end when the last port is gone\n"
    "      --ports N       ports at most, 1 to 1024 (128)\n"
    "      --rate SIZE     bytes a second that a port may send: 10M, 1G\n"
    "      --json          print counters as JSON at the end; SIGUSR1 does at\n"
    "                      any time\n"
    "      --inherited     socket and lock are descriptors 3 and 4\n"
    "  -h, --help          this text\n";

struct options {
    const char *where;
    uint32_t ports;
    uint64_t rate; /* bytes a second, 0: no limit */
    bool until_empty;
    bool is_json;
    bool is_inherited;
};

struct app {
    struct options options;
    struct loop loop;
    struct netswitch_place place;
    struct netswitch sw;
    struct loop_source listener;
    struct loop_source signals;
    struct loop_timer retry; /* of accepting, when there is no descriptor */
    struct loop_call check;  /* whether it is empty now */
    uint64_t refused;        /* connections for which there was no port */
    struct log_rate log;
};

static int accept_ports(struct app *app)
{
    int count = 0;

    while (count < (int)ACCEPTS_MAX) {
        CC_CLEANUP(fd_closep) int fd = -1;
        struct err err;

        fd = accept4(
            app->place.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0)
            return errno == EAGAIN || errno == EINVAL ? count : -errno;
        count++;
        if (netswitch_add_port(&app->sw, fd, &err) == 0) {
            (void)fd_steal(&fd);
            continue;
        }
        app->refused++;
        log_limited(
            &app->log, LOG_WARN, "switch", "a port was refused: %s", err.text);
    }
    return count;
}

static void on_listener(void *opaque, uint32_t events)
{
    struct app *app = opaque;

    (void)events;
    if (accept_ports(app) >= 0)
        return;
    /* Out of descriptors or memory: level-triggered, it would spin. */
    loop_remove(&app->loop, &app->listener);
    loop_timer_arm(&app->loop, &app->retry, clock_now_ns() + RETRY_NS);
}

static int watch_listener(struct app *app)
{
    app->listener.fd = app->place.listen_fd;
    return loop_add(&app->loop, &app->listener, EPOLLIN);
}

static void on_retry(void *opaque)
{
    struct app *app = opaque;

    if (!app->listener.added && watch_listener(app) < 0)
        loop_stop(&app->loop);
}

static void on_close(void *opaque, uint32_t ports)
{
    struct app *app = opaque;

    if (ports == 0 && app->options.until_empty)
        loop_post(&app->loop, &app->check);
}

/*
 * Whoever connected up to now is taken in before it ends; whoever comes later
 * finds nobody and starts the next one.
 */
static void end_if_empty(void *opaque)
{
    struct app *app = opaque;
    struct err err;

    if (app->sw.open > 0)
        return;
    loop_remove(&app->loop, &app->listener);
    loop_timer_disarm(&app->loop, &app->retry);
    netswitch_place_end(&app->place);
    while (accept_ports(app) > 0)
        ;
    if (app->sw.open == 0) {
        loop_stop(&app->loop);
        return;
    }
    if (netswitch_place_listen(&app->place, &err) < 0) {
        log_err("switch", "nobody else can join: %s", err.text);
        return;
    }
    if (watch_listener(app) < 0)
        loop_stop(&app->loop);
}

static json_t *stats_to_json(const struct netswitch_stats *s)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
        "rx_frames", (json_int_t)s->rx_frames, "rx_bytes",
        (json_int_t)s->rx_bytes, "rx_runt", (json_int_t)s->rx_runt, "rx_source",
        (json_int_t)s->rx_source, "rx_stolen", (json_int_t)s->rx_stolen,
        "rx_filtered", (json_int_t)s->rx_filtered, "rx_paused",
        (json_int_t)s->rx_paused, "tx_frames", (json_int_t)s->tx_frames,
        "tx_bytes", (json_int_t)s->tx_bytes, "tx_dropped",
        (json_int_t)s->tx_dropped, "violations", (json_int_t)s->violations);
}

static json_t *port_to_json(const struct app *app, uint32_t index)
{
    json_t *json = stats_to_json(&app->sw.ports[index].stats);
    uint32_t known = netswitch_macs_count(&app->sw.macs, index, clock_now_ns());

    if (json == NULL ||
        json_object_set_new(json, "port", json_integer(index)) < 0 ||
        json_object_set_new(json, "addresses", json_integer(known)) < 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static void print_stats(const struct app *app)
{
    const struct netswitch_stats total = netswitch_total(&app->sw);
    json_t *ports = json_array();
    json_t *root;

    for (uint32_t i = 0; i < app->sw.above; i++) {
        if (app->sw.ports[i].source.fd >= 0)
            (void)json_array_append_new(ports, port_to_json(app, i));
    }
    root = json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "version",
        JSON_VERSION, "listen", app->place.addr.sun_path, "opened",
        (json_int_t)app->sw.opened, "refused", (json_int_t)app->refused,
        "addresses_evicted", (json_int_t)app->sw.macs.evicted,
        "addresses_refused", (json_int_t)app->sw.macs.refused, "total",
        stats_to_json(&total), "ports", ports);
    if (root == NULL || json_dumpf(root, stdout, JSON_COMPACT) < 0 ||
        fputc('\n', stdout) == EOF || fflush(stdout) == EOF)
        log_warn("switch", "the counters cannot be printed");
    json_decref(root);
}

static void on_signal(void *opaque, uint32_t events)
{
    struct app *app = opaque;
    struct signalfd_siginfo info;

    (void)events;
    if (read(app->signals.fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGUSR1)
        print_stats(app);
    else
        loop_stop(&app->loop);
}

static int watch_signals(struct app *app, struct err *err)
{
    sigset_t set;
    int rc;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGUSR1);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_sys(err, errno, "switch: cannot block signals");
    app->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (app->signals.fd < 0)
        return err_sys(err, errno, "switch: cannot create a signalfd");
    rc = loop_add(&app->loop, &app->signals, EPOLLIN);
    return rc < 0 ? err_sys(err, rc, "switch: cannot watch signals") : 0;
}

/* Descriptors 3 and 4, if they are what they should be. */
static int take_inherited(struct app *app, struct err *err)
{
    int listening = 0;
    socklen_t size = sizeof(listening);

    if (getsockopt(SWITCH_FD_LISTEN, SOL_SOCKET, SO_ACCEPTCONN, &listening,
            &size) < 0 ||
        listening == 0 || fcntl(SWITCH_FD_LISTEN, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(SWITCH_FD_LOCK, F_SETFD, FD_CLOEXEC) < 0 ||
        fd_set_nonblocking(SWITCH_FD_LISTEN, true) < 0)
        return err_set(err, EBADF,
            "switch: descriptors %d and %d are no socket and lock: "
            "--inherited is for spore itself",
            SWITCH_FD_LISTEN, SWITCH_FD_LOCK);
    app->place.listen_fd = SWITCH_FD_LISTEN;
    app->place.lock_fd = SWITCH_FD_LOCK;
    return 0;
}

static int set_up(struct app *app, struct err *err)
{
    const struct options *o = &app->options;
    struct netswitch_config config = {.ports_max = o->ports,
        .age_ns = AGE_NS,
        .hold_ns = HOLD_NS,
        .rate.bytes = {.size = num_div_up(o->rate * RATE_MS, 1000),
            .refill_ms = o->rate == 0 ? 0 : RATE_MS},
        .on_close = on_close,
        .opaque = app};
    int rc;

    rc = netswitch_place_find(o->where, &app->place.addr, err);
    if (rc == 0)
        rc = o->is_inherited ? take_inherited(app, err) : 0;
    if (rc == 0) {
        rc = fd_raise_limit(
            o->ports + OTHER_FDS, o->ports, "ports", "--ports", err);
        if (rc < 0)
            rc = err_wrap(err, rc, "switch");
    }
    if (rc == 0)
        rc = loop_init(&app->loop, err);
    if (rc == 0)
        rc = watch_signals(app, err);
    if (rc == 0)
        rc = netswitch_init(&app->sw, &app->loop, &config, err);
    if (rc == 0 && !o->is_inherited) {
        const struct sockaddr_un addr = app->place.addr;

        rc = netswitch_place_open(&app->place, &addr, err);
    }
    if (rc < 0)
        return rc;
    rc = watch_listener(app);
    return rc < 0 ? err_sys(err, rc, "switch: cannot watch its socket") : 0;
}

static int serve(const struct options *options)
{
    struct app app;
    struct err err;
    int rc;

    app = (struct app){.options = *options,
        .loop.epoll_fd = -1,
        .loop.timer_source.fd = -1,
        .loop.wake_source.fd = -1,
        .place = {.listen_fd = -1, .lock_fd = -1},
        .listener = {.fd = -1, .handle = on_listener, .opaque = &app},
        .signals = {.fd = -1, .handle = on_signal, .opaque = &app},
        .retry = {.fire = on_retry, .opaque = &app},
        .check = {.run = end_if_empty, .opaque = &app}};
    rc = set_up(&app, &err);
    if (rc == 0)
        rc = loop_run(&app.loop);
    else
        (void)fprintf(stderr, "spore: %s\n", err.text);
    if (rc == 0 && options->is_json)
        print_stats(&app);
    netswitch_place_close(&app.place);
    netswitch_fini(&app.sw);
    fd_closep(&app.signals.fd);
    loop_fini(&app.loop);
    return rc == 0 ? 0 : STATUS_FAILED;
}

static int parse_ports(const char *text, uint32_t *ret_ports, struct err *err)
{
    char *end;
    unsigned long n;

    errno = 0;
    n = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || n < 1 ||
        n > NETSWITCH_PORTS_MAX)
        return err_set(err, EINVAL, "switch: --ports %s: it must be 1 to %u",
            text, NETSWITCH_PORTS_MAX);
    *ret_ports = (uint32_t)n;
    return 0;
}

static int parse_rate(const char *text, uint64_t *ret_rate, struct err *err)
{
    uint64_t bytes;
    int rc = config_parse_size(text, &bytes, err);

    if (rc < 0)
        return err_wrap(err, rc, "switch: --rate");
    if (bytes == 0 || bytes > 1024 * NUM_GIB)
        return err_set(err, EINVAL,
            "switch: --rate %s: it must be at least a byte and at most 1024G a "
            "second",
            text);
    *ret_rate = bytes;
    return 0;
}

/* 0, 1 for --help, or -errno. */
static int parse(struct options *o, int argc, char **argv, struct err *err)
{
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'l'},
        {"until-empty", no_argument, NULL, 'u'},
        {"ports", required_argument, NULL, 'p'},
        {"rate", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"inherited", no_argument, NULL, 'i'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int opt;
    int rc = 0;

    optind = 1;
    opterr = 0;
    while (rc == 0 &&
           (opt = getopt_long(argc, argv, "l:h", options, NULL)) != -1) {
        switch (opt) {
        case 'l':
            o->where = optarg;
            break;
        case 'u':
            o->until_empty = true;
            break;
        case 'p':
            rc = parse_ports(optarg, &o->ports, err);
            break;
        case 'r':
            rc = parse_rate(optarg, &o->rate, err);
            break;
        case 'j':
            o->is_json = true;
            break;
        case 'i':
            o->is_inherited = true;
            break;
        case 'h':
            return 1;
        default:
            return err_set(err, EINVAL,
                "switch: %s is unknown, or lacks its value: see spore switch "
                "--help",
                argv[optind - 1]);
        }
    }
    if (rc == 0 && optind != argc)
        return err_set(err, EINVAL,
            "switch: it takes no argument '%s': see spore switch --help",
            argv[optind]);
    return rc;
}

int cmd_switch(int argc, char **argv)
{
    struct options options = {.where = "default", .ports = PORTS_DEFAULT};
    struct err err;
    int rc = parse(&options, argc, argv, &err);

    if (rc > 0) {
        (void)fputs(usage, stdout);
        return 0;
    }
    if (rc < 0) {
        (void)fprintf(stderr, "spore: %s\n", err.text);
        return STATUS_USAGE;
    }
    return serve(&options);
}
