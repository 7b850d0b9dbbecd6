/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/serve_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/num.h"
#include "vmm/config_text.h"
#include "vmm/serve/relay_in.h"
#include "vmm/serve/template.h"

#define TIME_MIN_S 0.001
#define TIME_MAX_S 31536000.0

/* Connections beside those that have or wait for a VM, unless it is said. */
#define OTHER_CONNECTIONS 256u
#define CONNECTIONS_MAX   262144u

static const char help[] =
    "usage: spore serve --listen WHERE [options] TEMPLATE [-- COMMAND "
    "[ARGUMENT...]]\n"
    "\n"
    "Serves connections, each (or each HTTP request) by a fresh VM made from "
    "a\n"
    "template, which is thrown away afterwards.\n"
    "\n"
    "  -l, --listen WHERE      unix:PATH, tcp:ADDRESS:PORT, or fd:N, up to 8\n"
    "                          times; without, the sockets that systemd "
    "passes\n"
    "\n"
    "What a VM does with a connection, a command if nothing is said:\n"
    "      --stream            its bytes go to and from a port of the guest\n"
    "      --http              its requests go to an HTTP server in the "
    "guest,\n"
    "                          each to that of another VM\n"
    "      -- COMMAND          COMMAND (the template's without) has it as its\n"
    "                          standard input and output\n"
    "  -p, --port PORT         vsock:N, or with --http tcp:N on the guest's\n"
    "                          loopback; the template's without\n"
    "  -e, --env NAME=VALUE    for COMMAND, beside the template's\n"
    "      --reuse HOW         none: VMs are thrown away; reset: they are put\n"
    "                          back and used again (none)\n"
    "      --run-option OPT    an option of spore run for the VMs: "
    "--run-option\n"
    "                          --cgroup\n"
    "\n"
    "Limits:\n"
    "      --max-vms N         VMs that serve at a time (16)\n"
    "      --ready N           VMs kept ready at the least (1)\n"
    "      --queue N           requests that wait for one; more are refused "
    "(64)\n"
    "      --max-connections N (256, and as many as may be served or wait)\n"
    "      --memory-max SIZE   of all VMs that serve: more wait (no limit)\n"
    "      --timeout S         a request may take (60)\n"
    "      --queue-timeout S   it may wait for a VM (10)\n"
    "      --header-timeout S  a client may take to send a request (10)\n"
    "      --idle-timeout S    and between requests (60)\n"
    "      --stall-timeout S   and to send or take 4 KiB meanwhile (10)\n"
    "      --drain-timeout S   at the end, for what has begun (30)\n"
    "      --header-max SIZE   of a request or response (32K; up to 64K)\n"
    "      --body-max SIZE     of a request (64M)\n"
    "\n"
    "      --metrics WHERE     /metrics for Prometheus, /healthz and /status, "
    "at\n"
    "                          unix:PATH or tcp:ADDRESS:PORT\n"
    "  -h, --help              this text\n"
    "\n"
    "TERM or INT: it accepts no more, and ends when all is done; the second "
    "time,\nat once. Exit status: 0, or 125 if it failed.\n";

enum {
    OPT_STREAM = 256,
    OPT_HTTP,
    OPT_REUSE,
    OPT_RUN_OPTION,
    OPT_MAX_VMS,
    OPT_READY,
    OPT_QUEUE,
    OPT_MAX_CONNECTIONS,
    OPT_MEMORY_MAX,
    OPT_TIMEOUT,
    OPT_QUEUE_TIMEOUT,
    OPT_HEADER_TIMEOUT,
    OPT_IDLE_TIMEOUT,
    OPT_STALL_TIMEOUT,
    OPT_DRAIN_TIMEOUT,
    OPT_HEADER_MAX,
    OPT_BODY_MAX,
    OPT_METRICS,
};

static const struct option long_options[] = {
    {"listen", required_argument, NULL, 'l'},
    {"stream", no_argument, NULL, OPT_STREAM},
    {"http", no_argument, NULL, OPT_HTTP},
    {"port", required_argument, NULL, 'p'},
    {"env", required_argument, NULL, 'e'},
    {"reuse", required_argument, NULL, OPT_REUSE},
    {"run-option", required_argument, NULL, OPT_RUN_OPTION},
    {"max-vms", required_argument, NULL, OPT_MAX_VMS},
    {"ready", required_argument, NULL, OPT_READY},
    {"queue", required_argument, NULL, OPT_QUEUE},
    {"max-connections", required_argument, NULL, OPT_MAX_CONNECTIONS},
    {"memory-max", required_argument, NULL, OPT_MEMORY_MAX},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"queue-timeout", required_argument, NULL, OPT_QUEUE_TIMEOUT},
    {"header-timeout", required_argument, NULL, OPT_HEADER_TIMEOUT},
    {"idle-timeout", required_argument, NULL, OPT_IDLE_TIMEOUT},
    {"stall-timeout", required_argument, NULL, OPT_STALL_TIMEOUT},
    {"drain-timeout", required_argument, NULL, OPT_DRAIN_TIMEOUT},
    {"header-max", required_argument, NULL, OPT_HEADER_MAX},
    {"body-max", required_argument, NULL, OPT_BODY_MAX},
    {"metrics", required_argument, NULL, OPT_METRICS},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

void serve_options_help(void)
{
    (void)fputs(help, stdout);
}

/* ---- values ------------------------------------------------------------- */

static int parse_time(const char *text, uint64_t *ret_ns, struct err *err)
{
    char *end;
    double s;

    errno = 0;
    s = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' ||
        !(s >= TIME_MIN_S && s <= TIME_MAX_S))
        return err_set(err, EINVAL,
            "%s: it must be a number of seconds from 0.001 to 31536000", text);
    *ret_ns = (uint64_t)(s * (double)CLOCK_NS_PER_S);
    return 0;
}

static int parse_count(const char *text, uint32_t min, uint32_t max,
    uint32_t *ret_count, struct err *err)
{
    uint64_t number;
    int rc = config_parse_number(text, min, max, &number, err);

    if (rc == 0)
        *ret_count = (uint32_t)number;
    return rc;
}

static int parse_port(
    struct serve_options *o, const char *text, struct err *err)
{
    bool is_tcp = strncmp(text, "tcp:", 4) == 0;
    bool is_vsock = strncmp(text, "vsock:", 6) == 0;
    int rc = is_tcp ? parse_count(text + 4, 1, UINT16_MAX, &o->config.port, err)
             : is_vsock ? parse_count(
                              text + 6, 1, UINT32_MAX - 1, &o->config.port, err)
                        : -EINVAL;

    if (!is_tcp && !is_vsock)
        return err_set(err, EINVAL, "%s: vsock:N and tcp:N are ports", text);
    o->config.port_is_tcp = is_tcp;
    o->has_port = rc == 0;
    return rc;
}

static int parse_reuse(
    struct serve_options *o, const char *text, struct err *err)
{
    if (strcmp(text, "none") != 0 && strcmp(text, "reset") != 0)
        return err_set(err, EINVAL, "%s: it must be none or reset", text);
    o->config.resets = strcmp(text, "reset") == 0;
    return 0;
}

static int parse_header_max(
    struct serve_options *o, const char *text, struct err *err)
{
    uint64_t size;
    int rc = config_parse_size(text, &size, err);

    if (rc < 0)
        return rc;
    if (size > RELAY_HEAD_MAX)
        return err_set(err, EINVAL, "%s: it may be 64K at most", text);
    o->config.header_max = size;
    return 0;
}

static int add_word(const char **words, uint32_t max, uint32_t *count,
    const char *word, struct err *err)
{
    if (*count == max)
        return err_set(err, EINVAL, "%s: there may be %u at most", word, max);
    words[(*count)++] = word;
    return 0;
}

static int add_env(struct serve_options *o, const char *text, struct err *err)
{
    if (text[0] == '=' || strchr(text, '=') == NULL)
        return err_set(err, EINVAL, "%s: it must be NAME=VALUE", text);
    return add_word(o->env, SERVE_OPTIONS_WORDS_MAX, &o->env_count, text, err);
}

static int set_kind(
    struct serve_options *o, enum server_kind kind, struct err *err)
{
    if (o->has_kind && o->config.kind != kind)
        return err_set(err, EINVAL, "it is one of --stream and --http");
    o->has_kind = true;
    o->config.kind = kind;
    return 0;
}

static int set_time_option(
    struct serve_options *o, int opt, const char *text, struct err *err)
{
    struct server_config *c = &o->config;

    switch (opt) {
    case OPT_TIMEOUT:
        return parse_time(text, &c->timeout_ns, err);
    case OPT_QUEUE_TIMEOUT:
        return parse_time(text, &c->queue_timeout_ns, err);
    case OPT_HEADER_TIMEOUT:
        return parse_time(text, &c->header_timeout_ns, err);
    case OPT_IDLE_TIMEOUT:
        return parse_time(text, &c->idle_timeout_ns, err);
    case OPT_STALL_TIMEOUT:
        return parse_time(text, &c->stall_timeout_ns, err);
    default:
        return parse_time(text, &o->drain_timeout_ns, err);
    }
}

static int set_option(
    struct serve_options *o, int opt, const char *text, struct err *err)
{
    struct server_config *c = &o->config;

    switch (opt) {
    case 'l':
        return add_word(
            o->listen, SERVER_LISTEN_MAX, &o->listen_count, text, err);
    case OPT_STREAM:
        return set_kind(o, SERVER_STREAM, err);
    case OPT_HTTP:
        return set_kind(o, SERVER_HTTP, err);
    case 'p':
        return parse_port(o, text, err);
    case 'e':
        return add_env(o, text, err);
    case OPT_REUSE:
        return parse_reuse(o, text, err);
    case OPT_RUN_OPTION:
        return add_word(o->run_options, SERVE_OPTIONS_WORDS_MAX,
            &o->run_option_count, text, err);
    case OPT_MAX_VMS:
        return parse_count(text, 1, SERVE_OPTIONS_VMS_MAX, &c->vms_max, err);
    case OPT_READY:
        return parse_count(text, 0, SERVE_OPTIONS_VMS_MAX, &o->ready, err);
    case OPT_QUEUE:
        return parse_count(
            text, 0, SERVE_OPTIONS_QUEUE_MAX, &c->queue_max, err);
    case OPT_MAX_CONNECTIONS:
        return parse_count(text, 1, CONNECTIONS_MAX, &c->connections_max, err);
    case OPT_MEMORY_MAX:
        return config_parse_size(text, &c->memory_max, err);
    case OPT_HEADER_MAX:
        return parse_header_max(o, text, err);
    case OPT_BODY_MAX:
        return config_parse_size(text, &c->body_max, err);
    case OPT_METRICS:
        o->metrics = text;
        return 0;
    default:
        return set_time_option(o, opt, text, err);
    }
}

/* ---- the whole ---------------------------------------------------------- */

static const char *name_of(int opt)
{
    for (const struct option *o = long_options; o->name != NULL; o++) {
        if (o->val == opt)
            return o->name;
    }
    return "?";
}

static int take_words(
    struct serve_options *o, int argc, char **argv, struct err *err)
{
    bool has_command = optind + 1 < argc;

    if (optind == argc)
        return err_set(err, EINVAL,
            "a template is missing: see spore template ls, and spore serve "
            "--help");
    o->template = argv[optind];
    if (!has_command)
        return 0;
    if (strcmp(argv[optind + 1], "--") != 0)
        return err_set(err, EINVAL,
            "%s is one word too many: options come before the template, and "
            "its command after --",
            argv[optind + 1]);
    if (optind + 2 < argc)
        o->command = (const char *const *)(void *)(argv + optind + 2);
    return 0;
}

static int check(struct serve_options *o, struct err *err)
{
    struct server_config *c = &o->config;
    bool is_exec = !o->has_kind;

    if (is_exec && o->has_port)
        return err_set(
            err, EINVAL, "--port is for --stream and --http: say which");
    if (is_exec)
        c->kind = SERVER_EXEC;
    if (!is_exec && (o->command != NULL || o->env_count > 0))
        return err_set(err, EINVAL,
            "a command has no part in --stream and --http: it was started "
            "when the template was built");
    if (c->kind == SERVER_STREAM && c->port_is_tcp)
        return err_set(
            err, EINVAL, "--stream is for vsock ports: --http is for tcp:N");
    if (c->connections_max == 0)
        c->connections_max = c->vms_max + c->queue_max + OTHER_CONNECTIONS;
    if (c->connections_max < (uint64_t)c->vms_max + c->queue_max)
        return err_set(err, EINVAL,
            "--max-connections %u is less than --max-vms and --queue are "
            "together",
            c->connections_max);
    if (o->ready > c->vms_max)
        return err_set(err, EINVAL, "--ready %u is more than --max-vms %u",
            o->ready, c->vms_max);
    return 0;
}

int serve_options_parse(
    struct serve_options *ret_options, int argc, char **argv, struct err *err)
{
    struct serve_options o = {.ready = 1,
        .drain_timeout_ns = 30 * CLOCK_NS_PER_S,
        .config = {.vms_max = 16,
            .queue_max = 64,
            .timeout_ns = 60 * CLOCK_NS_PER_S,
            .queue_timeout_ns = 10 * CLOCK_NS_PER_S,
            .header_timeout_ns = 10 * CLOCK_NS_PER_S,
            .idle_timeout_ns = 60 * CLOCK_NS_PER_S,
            .stall_timeout_ns = 10 * CLOCK_NS_PER_S,
            .header_max = 32768,
            .body_max = 64 * NUM_MIB}};
    int opt;
    int rc = 0;

    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while (rc == 0 && (opt = getopt_long(argc, argv, "+:l:p:e:h", long_options,
                           NULL)) != -1) {
        if (opt == 'h')
            return 1;
        if (opt == '?' || opt == ':')
            return err_set(err, EINVAL,
                "%s is unknown, or lacks its value: see spore serve --help",
                argv[optind - 1]);
        rc = set_option(&o, opt, optarg, err);
        if (rc < 0)
            return err_wrap(err, rc, "--%s", name_of(opt));
    }
    rc = take_words(&o, argc, argv, err);
    if (rc == 0)
        rc = check(&o, err);
    if (rc == 0)
        *ret_options = o;
    return rc;
}
