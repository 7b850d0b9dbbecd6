/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz/bundle.h"
#include "fuzz/crash.h"
#include "fuzz/debugger.h"
#include "fuzz/fuzz_crash_cmds.h"
#include "fuzz/fuzz_say.h"
#include "fuzz/gdb_session.h"
#include "fuzz/replay.h"
#include "vmm/base/fd.h"
#include "vmm/config_text.h"

#define VERB "gdb"

static const char usage[] =
    "usage: spore fuzz gdb DIR INPUT [--listen PATH|PORT] [options]\n"
    "\n"
    "Serves GDB's remote protocol on a run of a target with an input (a file, "
    "or a\n"
    "bundle of spore fuzz triage), stopped at its root. Reverse execution "
    "works.\n"
    "Without --listen GDB starts it itself:\n"
    "\n"
    "  gdb PROGRAM -ex 'target remote | spore fuzz gdb DIR INPUT'\n"
    "\n"
    "  --listen PATH|PORT  wait for one GDB at a Unix socket, or at a TCP port "
    "of\n"
    "                      127.0.0.1\n"
    "  --commands FILE     write commands for gdb -x: symbols where they are "
    "loaded\n"
    "  -t, --timeout MS    milliseconds after which a run is over (5000)\n"
    "  --help              print this text\n"
    "\n"
    "Exit status: 0; 2 for a bad command line; 125 for other failures.\n";

struct options {
    const char *dir;
    const char *input;
    const char *listen;
    const char *commands;
    uint64_t timeout_ms;
};

/* ---- commands for gdb ---------------------------------------------------- */

/* In double quotes, as gdb has it. */
static void print_quoted(const char *text, FILE *out)
{
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)fputc('\\', out);
        (void)fputc(*text == '\n' ? ' ' : *text, out);
    }
    (void)fputc('"', out);
}

static void print_commands(struct crash_runner *runner, FILE *out)
{
    const struct files *files = crash_files(runner);
    const struct maps *maps = crash_maps(runner);

    (void)fputs("set confirm off\nset breakpoint always-inserted off\n", out);
    for (size_t i = 0; i < files->count; i++) {
        uint64_t bias;
        size_t j = 0;

        while (j < maps->count &&
               strcmp(maps->ranges[j].name, files->entries[i].guest) != 0)
            j++;
        if (j == maps->count || symbols_file(crash_symbols(runner),
                                    maps->ranges[j].start, &bias) == NULL)
            continue;
        (void)fputs("add-symbol-file ", out);
        print_quoted(files->entries[i].host, out);
        (void)fprintf(out, " -o 0x%" PRIx64 "\n", bias);
    }
}

static int write_commands(
    struct crash_runner *runner, const struct options *o, struct err *err)
{
    FILE *out;
    bool failed;

    if (o->commands == NULL)
        return 0;
    out = fopen(o->commands, "we");
    if (out == NULL)
        return err_sys(err, errno, "%s", o->commands);
    print_commands(runner, out);
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed)
        return err_set(err, EIO, "%s: cannot be written", o->commands);
    return 0;
}

/* ---- the peer ------------------------------------------------------------ */

static int listen_tcp(uint16_t port, int *ret_fd, struct err *err)
{
    const struct sockaddr_in addr = {.sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int on = 1;
    CC_CLEANUP(fd_closep)
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(fd, 1) < 0)
        return err_sys(err, errno, "port %u of 127.0.0.1", port);
    *ret_fd = fd_steal(&fd);
    return 0;
}

static int listen_at(const char *where, int *ret_fd, struct err *err)
{
    struct sockaddr_un addr;
    uint64_t port;
    int rc;

    if (config_parse_number(where, 1, UINT16_MAX, &port, NULL) == 0)
        return listen_tcp((uint16_t)port, ret_fd, err);
    rc = fd_unix_address("--listen", where, &addr, err);
    return rc < 0 ? rc : fd_listen_unix(&addr, where, ret_fd, err);
}

/* One peer; the place to listen at is given up then. */
static int accept_one(const char *where, int *ret_fd, struct err *err)
{
    CC_CLEANUP(fd_closep) int listener = -1;
    struct pollfd p = {.events = POLLIN};
    int rc = listen_at(where, &listener, err);

    if (rc < 0)
        return rc;
    (void)fprintf(stderr, "spore: fuzz gdb: target remote %s%s\n",
        where[strspn(where, "0123456789")] == '\0' ? "localhost:" : "", where);
    p.fd = listener;
    do {
        rc = poll(&p, 1, -1) < 0 && errno != EINTR ? -errno : 0;
        if (rc == 0) {
            *ret_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            rc = *ret_fd < 0 ? -errno : 0;
        }
    } while (rc == -EINTR || rc == -EAGAIN);
    if (where[strspn(where, "0123456789")] != '\0')
        (void)unlink(where);
    return rc < 0 ? err_sys(err, rc, "--listen %s", where) : 0;
}

static int serve(
    struct replay *replay, const struct options *o, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    int rc = 0;

    (void)signal(SIGPIPE, SIG_IGN);
    if (o->listen == NULL)
        return gdb_session_run(replay, STDIN_FILENO, STDOUT_FILENO, err);
    rc = accept_one(o->listen, &fd, err);
    return rc < 0 ? rc : gdb_session_run(replay, fd, fd, err);
}

static int debug(struct crash_runner *runner, const struct options *o,
    const struct bundle_text *input, struct err *err)
{
    struct replay replay = {.input = (const uint8_t *)input->text,
        .size = input->size,
        .timeout_us = o->timeout_ms * 1000};
    int rc = write_commands(runner, o, err);

    if (rc == 0)
        rc = debugger_new(crash_executor(runner), &replay.debugger, err);
    if (rc < 0)
        return rc;
    rc = replay_begin(&replay, err);
    if (rc == 0)
        rc = serve(&replay, o, err);
    debugger_free(replay.debugger);
    return rc;
}

/* -1: all is said. */
static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option rows[] = {
        {"listen", required_argument, NULL, 'l'},
        {"commands", required_argument, NULL, 'c'},
        {"timeout", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct err err;
    int opt;

    optind = 1;
    while ((opt = getopt_long(argc, argv, "t:h", rows, NULL)) != -1) {
        switch (opt) {
        case 'l':
            o->listen = optarg;
            break;
        case 'c':
            o->commands = optarg;
            break;
        case 't':
            if (config_parse_number(optarg, 1, FUZZ_CRASH_TIMEOUT_MS_MAX,
                    &o->timeout_ms, &err) < 0)
                return fuzz_say_usage(VERB, "--timeout: ", err.text);
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
    if (o->listen == NULL && isatty(STDIN_FILENO) == 1)
        return fuzz_say_usage(VERB,
            "standard input is a terminal: GDB starts it, or give --listen",
            "");
    o->dir = argv[optind];
    o->input = argv[optind + 1];
    return 0;
}

int fuzz_gdb_cmd(int argc, char **argv)
{
    struct options o = {.timeout_ms = FUZZ_CRASH_TIMEOUT_MS};
    struct crash_runner *runner = NULL;
    struct bundle_text input = {0};
    struct err err;
    int status = read_options(argc, argv, &o);

    if (status != 0)
        return status < 0 ? 0 : status;
    if (bundle_read_input(o.input, &input, &err) < 0 ||
        crash_open(o.dir, &runner, &err) < 0 ||
        debug(runner, &o, &input, &err) < 0)
        status = fuzz_say_failed(VERB, &err);
    crash_close(runner);
    free(input.text);
    return status;
}
