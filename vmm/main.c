/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore: one binary, one subcommand each.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz_cmd.h"
#include "vmm/base/cc.h"
#include "vmm/cp.h"
#include "vmm/doctor.h"
#include "vmm/exec.h"
#include "vmm/jail_cmd.h"
#include "vmm/lifecycle.h"
#include "vmm/page_server_cmd.h"
#include "vmm/ps.h"
#include "vmm/run.h"
#include "vmm/save_cmd.h"
#include "vmm/serve/lib_cmd.h"
#include "vmm/serve/run_template.h"
#include "vmm/serve/serve_cmd.h"
#include "vmm/serve/template_cmd.h"
#include "vmm/serve/top_cmd.h"
#include "vmm/switch.h"
#include "vmm/snapshot_cmd.h"

#define STATUS_FAILED 125

static int cmd_version(int argc, char **argv);
static int cmd_help(int argc, char **argv);

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *text; /* NULL: for programs, not people */
} commands[] = {
    {"run", cmd_run_any, "run a command in a microVM, booted or of a template"},
    {"exec", cmd_exec, "run a command in a machine that runs"},
    {"cp", cmd_cp, "copy files and trees into and out of a machine"},
    {"ps", cmd_ps, "list the machines that run"},
    {"top", cmd_top, "watch machines, servers and what these serve with"},
    {"pause", cmd_pause, "hold a machine's processors"},
    {"resume", cmd_resume, "let them run on"},
    {"stop", cmd_stop, "end a machine in order"},
    {"kill", cmd_kill, "end a machine at once"},
    {"config", cmd_config, "print what a machine is made of"},
    {"metrics", cmd_metrics, "print what a machine has counted"},
    {"save", cmd_save, "freeze a machine that runs into a snapshot"},
    {"restore", cmd_restore, "run a machine from a snapshot"},
    {"clone", cmd_clone, "multiply a machine that runs"},
    {"push", cmd_push, "note where a machine is"},
    {"reset", cmd_reset, "put it back there"},
    {"snapshot", cmd_snapshot, "list, check, compare and remove snapshots"},
    {"page-server", cmd_page_server, "give restored machines their memory"},
    {"template", cmd_template, "make machines that others start from"},
    {"serve", cmd_serve, "serve connections, each by a VM of its own"},
    {"fuzz", cmd_fuzz, "make targets for fuzzers, and fuzz them"},
    {"jail", cmd_jail, "say what a monitor in its jail may do, and why"},
    {"doctor", cmd_doctor, "say what this host can do, and what is missing"},
    {"switch", cmd_switch, "a network between VMs, without any privilege"},
    {"libspore-pool", cmd_libspore_pool, NULL},
    {"version", cmd_version, "print the version"},
    {"help", cmd_help, "print this text"},
};

static void print_usage(FILE *out)
{
    (void)fputs("usage: spore COMMAND [options]\n\n", out);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (commands[i].text != NULL)
            (void)fprintf(
                out, "  %-11s %s\n", commands[i].name, commands[i].text);
    }
    (void)fputs("\nspore COMMAND --help describes a command.\n", out);
}

static int cmd_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    (void)puts("spore " SPORE_VERSION);
    return 0;
}

static int cmd_help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    print_usage(stdout);
    return 0;
}

/*
 * A standard descriptor that we were started without would become the number
 * of some file or of KVM itself, and the guest's output would go there.
 */
static int fill_standard_fds(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return -EBADF;
    }
    return 0;
}

/* The command's status, unless its text did not reach standard output. */
static int check_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    (void)fprintf(
        stderr, "spore: standard output: %s\n", strerrordesc_np(errno));
    return status == 0 ? STATUS_FAILED : status;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    if (fill_standard_fds() < 0)
        return STATUS_FAILED;
    /* Who started us may have ignored the ends of children: ours are told. */
    (void)signal(SIGCHLD, SIG_DFL);
    if (name == NULL) {
        print_usage(stderr);
        return 2;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(name, commands[i].name) == 0)
            return check_output(commands[i].run(argc - 1, argv + 1));
    }
    (void)fprintf(
        stderr, "spore: there is no command '%s': see spore --help\n", name);
    return 2;
}
