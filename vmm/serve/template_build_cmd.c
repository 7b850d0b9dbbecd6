/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/template_build_cmd.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"
#include "vmm/serve/template.h"
#include "vmm/serve/template_build.h"
#include "vmm/vm_client.h"
#include "vmm/words.h"

#define TIMEOUT_MAX_S 86400u

enum {
    OPT_SETUP = 256,
    OPT_REPLACE,
    OPT_READ_ONLY,
    OPT_DAEMON,
    OPT_PORT,
    OPT_VSOCK_PORT,
    OPT_READY_CMD,
    OPT_TIMEOUT,
    OPT_NET,
    OPT_CPU_TEMPLATE,
};

struct options {
    struct template_build build;
    struct words machine;
    struct words env;
    bool help;
};

static const char help[] =
    "usage: spore template build NAME [options] [-- COMMAND [ARGUMENT...]]\n"
    "\n"
    "Boots a machine, has it set up, runs COMMAND in it, and freezes it as a\n"
    "template: what is started from that begins behind all this.\n"
    "\n"
    "  -r, --rootfs WHAT       root file system: an ext4, squashfs or erofs "
    "image;\n"
    "                          the default one of spore run without\n"
    "  -k, --kernel FILE       guest kernel\n"
    "  -m, --mem SIZE          guest memory: 128 (MiB), 2G\n"
    "  -c, --cpus N            virtual CPUs\n"
    "      --net WHAT          network interface, as spore run has it; none "
    "without\n"
    "      --cpu-template WHAT hide what some of the hosts' CPUs lack\n"
    "      --read-only         the root is not written to; without it what is\n"
    "                          written is kept in the guest's memory\n"
    "      --setup SCRIPT      a program or shell script of this host, run as "
    "root\n"
    "                          in the guest before COMMAND\n"
    "      --daemon            COMMAND is a server: it is left running\n"
    "      --port N            frozen when the guest listens at this TCP "
    "port\n"
    "      --vsock-port N      frozen when this vsock port of the guest "
    "answers\n"
    "      --ready-cmd TEXT    frozen when this command of a shell succeeds\n"
    "  -e, --env NAME=VALUE    environment of COMMAND and of what is run in "
    "clones;\n"
    "                          may be repeated\n"
    "  -u, --user USER         and their user: a name, UID or UID:GID\n"
    "  -w, --workdir DIR       and their folder\n"
    "      --replace           a template of this name may be there\n"
    "      --timeout SECONDS   for all that happens in the guest; 600\n"
    "  -h, --help              this text\n"
    "\n"
    "Exit status: 0, or 125 if it failed; then nothing is left of it.\n";

static const struct option long_options[] = {
    {"rootfs", required_argument, NULL, 'r'},
    {"kernel", required_argument, NULL, 'k'},
    {"mem", required_argument, NULL, 'm'},
    {"cpus", required_argument, NULL, 'c'},
    {"net", required_argument, NULL, OPT_NET},
    {"cpu-template", required_argument, NULL, OPT_CPU_TEMPLATE},
    {"read-only", no_argument, NULL, OPT_READ_ONLY},
    {"setup", required_argument, NULL, OPT_SETUP},
    {"daemon", no_argument, NULL, OPT_DAEMON},
    {"port", required_argument, NULL, OPT_PORT},
    {"vsock-port", required_argument, NULL, OPT_VSOCK_PORT},
    {"ready-cmd", required_argument, NULL, OPT_READY_CMD},
    {"env", required_argument, NULL, 'e'},
    {"user", required_argument, NULL, 'u'},
    {"workdir", required_argument, NULL, 'w'},
    {"replace", no_argument, NULL, OPT_REPLACE},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int parse_number(
    const char *option, uint64_t max, uint64_t *ret_number, struct err *err)
{
    const char *end = num_take_digits(optarg, ret_number);

    if (end == NULL || *end != '\0' || *ret_number == 0 || *ret_number > max)
        return err_set(err, EINVAL, "%s %.32s: it must be 1 to %llu", option,
            optarg, (unsigned long long)max);
    return 0;
}

static int parse_env(struct options *o, struct err *err)
{
    const char *equals = strchr(optarg, '=');

    if (equals == NULL || equals == optarg)
        return err_set(
            err, EINVAL, "--env %.64s: it must be NAME=VALUE", optarg);
    if (o->env.count == TEMPLATE_ARGS_MAX)
        return err_set(err, EINVAL, "more than %u of --env", TEMPLATE_ARGS_MAX);
    words_add(&o->env, optarg);
    return 0;
}

/* How the ready point is known; 1 if `opt` is none of these. */
static int parse_ready(struct options *o, int opt, struct err *err)
{
    uint64_t number = 0;
    int rc;

    switch (opt) {
    case OPT_DAEMON:
        o->build.is_daemon = true;
        return 0;
    case OPT_PORT:
        rc = parse_number("--port", UINT16_MAX, &number, err);
        o->build.tcp_port = (uint16_t)number;
        return rc;
    case OPT_VSOCK_PORT:
        rc = parse_number("--vsock-port", UINT32_MAX - 1, &number, err);
        o->build.vsock_port = (uint32_t)number;
        return rc;
    case OPT_READY_CMD:
        o->build.ready_cmd = optarg;
        return 0;
    case OPT_TIMEOUT:
        rc = parse_number("--timeout", TIMEOUT_MAX_S, &number, err);
        o->build.timeout_s = (uint32_t)number;
        return rc;
    default:
        return 1;
    }
}

/* What spore run is to do with; 1 if `opt` is none of these. */
static int parse_machine(struct options *o, int opt)
{
    switch (opt) {
    case 'k':
        words_addf(&o->machine, "--kernel=%s", optarg);
        return 0;
    case 'm':
        words_addf(&o->machine, "--mem=%s", optarg);
        return 0;
    case 'c':
        words_addf(&o->machine, "--cpus=%s", optarg);
        return 0;
    case OPT_NET:
        if (strcmp(optarg, "none") != 0)
            words_addf(&o->machine, "--net=%s", optarg);
        return 0;
    case OPT_CPU_TEMPLATE:
        words_addf(&o->machine, "--cpu-template=%s", optarg);
        return 0;
    default:
        return 1;
    }
}

static int parse_option(struct options *o, int opt, struct err *err)
{
    int rc = parse_machine(o, opt);

    if (rc > 0)
        rc = parse_ready(o, opt, err);
    if (rc <= 0)
        return rc;
    switch (opt) {
    case 'r':
        o->build.rootfs = optarg;
        return 0;
    case OPT_READ_ONLY:
        o->build.is_read_only = true;
        return 0;
    case OPT_SETUP:
        o->build.setup = optarg;
        return 0;
    case 'e':
        return parse_env(o, err);
    case 'u':
        o->build.user = optarg;
        return 0;
    case 'w':
        o->build.cwd = optarg;
        return 0;
    case OPT_REPLACE:
        o->build.replaces = true;
        return 0;
    case 'h':
        o->help = true;
        return 0;
    default:
        return err_set(err, EINVAL,
            "an option is unknown or lacks its value: see spore template "
            "build --help");
    }
}

static int check(const struct options *o, struct err *err)
{
    const struct template_build *b = &o->build;
    int ready =
        (b->tcp_port != 0) + (b->vsock_port != 0) + (b->ready_cmd != NULL);

    if (o->machine.failed || o->env.failed)
        return err_sys(err, ENOMEM, "command line");
    if (b->name == NULL)
        return err_set(
            err, EINVAL, "a NAME is needed: see spore template build --help");
    if (b->is_daemon && b->warmup == NULL)
        return err_set(err, EINVAL, "--daemon: a COMMAND is needed behind --");
    if (b->is_daemon && ready == 0)
        return err_set(err, EINVAL,
            "--daemon: give one of --port, --vsock-port and --ready-cmd, which "
            "say when the server is up");
    if (ready > 1)
        return err_set(err, EINVAL,
            "--port, --vsock-port and --ready-cmd: give one of them");
    return template_name_check(b->name, err);
}

static int parse(struct options *o, int argc, char **argv, struct err *err)
{
    int first = 0;
    int opt;

    o->build.timeout_s = TEMPLATE_BUILD_TIMEOUT_S;
    if (argc > 1 && argv[1][0] != '-') {
        o->build.name = argv[1];
        first = 1;
    }
    argc -= first;
    argv += first;
    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while ((opt = getopt_long(
                argc, argv, "+:r:k:m:c:e:u:w:h", long_options, NULL)) != -1) {
        int rc = parse_option(o, opt, err);

        if (rc < 0 || o->help)
            return rc;
    }
    if (o->build.name == NULL && optind < argc &&
        strcmp(argv[optind - 1], "--") != 0) {
        o->build.name = argv[optind++];
        if (optind < argc && strcmp(argv[optind], "--") == 0)
            optind++;
    }
    if (optind < argc)
        o->build.warmup = argv + optind;
    o->build.machine = o->machine.list;
    o->build.env = o->env.list;
    return check(o, err);
}

int template_build_cmd(int argc, char **argv)
{
    struct options o = {0};
    struct err err;
    int rc = parse(&o, argc, argv, &err);

    if (rc == 0 && o.help)
        (void)fputs(help, stdout);
    else if (rc == 0)
        rc = template_build_run(&o.build, &err);
    if (rc == 0 && !o.help)
        (void)puts(o.build.name);
    words_fini(&o.machine);
    words_fini(&o.env);
    if (rc < 0)
        (void)fprintf(stderr, "spore: template: %s\n", err.text);
    return rc < 0 ? VM_CLIENT_STATUS_FAILED : 0;
}
