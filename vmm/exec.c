/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/exec.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/session.h"
#include "vmm/vm_client.h"

static const char help[] =
    "usage: spore exec [options] ID [--] COMMAND [ARGUMENT...]\n"
    "\n"
    "Runs COMMAND in a machine that runs and ends with its exit status.\n"
    "\n"
    "  -i, --interactive       our standard input is COMMAND's\n"
    "  -t, --tty               give COMMAND a terminal\n"
    "  -e, --env NAME=VALUE    environment of COMMAND; may be repeated\n"
    "  -u, --user USER         run it as this user: a name, UID or UID:GID\n"
    "  -w, --workdir DIR       and in this directory\n"
    "  -h, --help              this text\n"
    "\n"
    "Exit status: COMMAND's; 128 + N if signal N ended it; 125 the machine or\n"
    "its agent failed; 126 COMMAND cannot be run; 127 not found.\n";

static const char short_options[] = "+:ite:u:w:h";

static const struct option long_options[] = {
    {"interactive", no_argument, NULL, 'i'},
    {"tty", no_argument, NULL, 't'},
    {"env", required_argument, NULL, 'e'},
    {"user", required_argument, NULL, 'u'},
    {"workdir", required_argument, NULL, 'w'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct exec {
    const char *id;
    struct session_command command;
    struct loop loop;
    struct session session;
    bool help;
    int status;
};

static int parse_option(struct exec *exec, int opt, struct err *err)
{
    switch (opt) {
    case 'i':
        exec->command.no_stdin = false;
        return 0;
    case 't':
        exec->command.tty = SESSION_TTY_ON;
        return 0;
    case 'e':
        return session_add_env(&exec->command, optarg, err);
    case 'u':
        exec->command.user = optarg;
        return 0;
    case 'w':
        exec->command.cwd = optarg;
        return 0;
    case 'h':
        exec->help = true;
        return 0;
    default:
        return err_set(err, EINVAL,
            "an option is unknown or lacks its value: see spore exec --help");
    }
}

static int parse(struct exec *exec, int argc, char **argv, struct err *err)
{
    int opt;

    exec->command.no_stdin = true;
    exec->command.tty = SESSION_TTY_OFF;
    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while ((opt = getopt_long(argc, argv, short_options, long_options, NULL)) !=
           -1) {
        int rc = parse_option(exec, opt, err);

        if (rc < 0)
            return rc;
    }
    if (exec->help)
        return 0;
    if (optind < argc)
        exec->id = argv[optind++];
    if (optind < argc && argv[optind][0] == '-' && argv[optind][1] == '-' &&
        argv[optind][2] == '\0')
        optind++;
    if (exec->id == NULL || optind >= argc)
        return err_set(err, EINVAL,
            "a machine's ID and a COMMAND are needed: see spore exec --help");
    exec->command.argv = (const char *const *)(void *)(argv + optind);
    return 0;
}

static void on_done(void *opaque, const struct guest_exec_result *result)
{
    struct exec *exec = opaque;

    if (result->is_error && result->text[0] != '\0')
        (void)fprintf(stderr, "spore: exec: %s\n", result->text);
    exec->status = result->status;
    loop_stop(&exec->loop);
}

static void on_signal(void *opaque, int signal)
{
    struct exec *exec = opaque;

    exec->status = 128 + signal;
    loop_stop(&exec->loop);
}

static int execute(struct exec *exec, struct err *err)
{
    int fd;
    int rc = vm_client_connect_agent(exec->id, &fd, err);

    if (rc < 0)
        return rc;
    rc = loop_init(&exec->loop, err);
    if (rc == 0)
        rc = session_watch_signals(&exec->session, &exec->loop, err);
    if (rc < 0)
        (void)close(fd);
    else
        rc = session_start(&exec->session, fd, &exec->command, err);
    if (rc == 0) {
        rc = loop_run(&exec->loop);
        if (rc < 0)
            (void)err_sys(err, rc, "the event loop failed");
    }
    return rc;
}

int cmd_exec(int argc, char **argv)
{
    struct exec *exec = calloc(1, sizeof(*exec));
    struct session_host host = {
        .on_done = on_done, .on_signal = on_signal, .opaque = exec};
    struct err err;
    int status;
    int rc;

    if (exec == NULL) {
        (void)fputs("spore: exec: out of memory\n", stderr);
        return VM_CLIENT_STATUS_FAILED;
    }
    exec->loop = (struct loop){
        .epoll_fd = -1, .wake_source = {.fd = -1}, .timer_source = {.fd = -1}};
    session_init(&exec->session, &host);
    rc = parse(exec, argc, argv, &err);
    if (rc == 0 && exec->help)
        (void)fputs(help, stdout);
    else if (rc == 0)
        rc = execute(exec, &err);
    session_fini(&exec->session);
    loop_fini(&exec->loop);
    if (rc < 0) {
        (void)fprintf(stderr, "spore: exec: %s\n", err.text);
        exec->status = VM_CLIENT_STATUS_FAILED;
    }
    status = exec->status;
    free(exec);
    return status;
}
