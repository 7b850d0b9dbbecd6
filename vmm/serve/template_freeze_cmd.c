/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/template_freeze_cmd.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/base/num.h"
#include "vmm/save_client.h"
#include "vmm/serve/template.h"
#include "vmm/serve/template_place.h"
#include "vmm/vm_client.h"
#include "vmm/words.h"

static const char help[] =
    "usage: spore template freeze NAME ID [options] [-- COMMAND "
    "[ARGUMENT...]]\n"
    "\n"
    "Freezes the machine ID (spore ps), which goes on running, as a template: "
    "also\n"
    "one with a guest that is no Linux. COMMAND is what its clones run by "
    "themselves.\n"
    "\n"
    "      --port N            what its clones serve is at this TCP port\n"
    "      --vsock-port N      or at this vsock port\n"
    "  -e, --env NAME=VALUE    environment of what is run in clones; may be\n"
    "                          repeated\n"
    "  -u, --user USER         and its user: a name, UID or UID:GID\n"
    "  -w, --workdir DIR       and its folder\n"
    "      --replace           a template of this name may be there\n"
    "  -h, --help              this text\n"
    "\n"
    "Exit status: 0, or 125 if it failed; then nothing is left of it.\n";

enum { OPT_PORT = 256, OPT_VSOCK_PORT, OPT_REPLACE };

static const struct option long_options[] = {
    {"port", required_argument, NULL, OPT_PORT},
    {"vsock-port", required_argument, NULL, OPT_VSOCK_PORT},
    {"env", required_argument, NULL, 'e'},
    {"user", required_argument, NULL, 'u'},
    {"workdir", required_argument, NULL, 'w'},
    {"replace", no_argument, NULL, OPT_REPLACE},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct freezing {
    struct template template; /* borrows what it has, but for env */
    struct words env;
    const char *name;
    const char *id;
    bool replaces;
    bool help;
};

static int parse_port(
    const char *text, uint64_t max, uint64_t *ret_port, struct err *err)
{
    const char *end = num_take_digits(text, ret_port);

    if (end == NULL || *end != '\0' || *ret_port == 0 || *ret_port > max)
        return err_set(err, EINVAL, "'%s' is no port", text);
    return 0;
}

static int take_option(struct freezing *f, int opt, struct err *err)
{
    uint64_t port = 0;
    int rc;

    switch (opt) {
    case OPT_PORT:
        rc = parse_port(optarg, UINT16_MAX, &port, err);
        f->template.tcp_port = (uint16_t)port;
        return rc;
    case OPT_VSOCK_PORT:
        rc = parse_port(optarg, UINT32_MAX - 1, &port, err);
        f->template.vsock_port = (uint32_t)port;
        return rc;
    case 'e':
        if (strchr(optarg, '=') == NULL || optarg[0] == '=')
            return err_set(
                err, EINVAL, "--env %s: it must be NAME=VALUE", optarg);
        words_add(&f->env, optarg);
        return f->env.failed ? err_sys(err, ENOMEM, "--env") : 0;
    case 'u':
        f->template.user = optarg;
        return 0;
    case 'w':
        f->template.cwd = optarg;
        return 0;
    case OPT_REPLACE:
        f->replaces = true;
        return 0;
    case 'h':
        f->help = true;
        return 0;
    default:
        return err_set(err, EINVAL,
            "an option is unknown or lacks its value: see spore template "
            "freeze --help");
    }
}

/* Options may stand behind the names. */
static int parse(struct freezing *f, int argc, char **argv, struct err *err)
{
    int opt;
    int rc = 0;

    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while (rc == 0 && (opt = getopt_long(argc, argv, "-:e:u:w:h", long_options,
                           NULL)) != -1) {
        if (opt != 1)
            rc = take_option(f, opt, err);
        else if (f->name == NULL)
            f->name = optarg;
        else if (f->id == NULL)
            f->id = optarg;
        else
            rc = err_set(err, EINVAL, "'%s' is one word too many", optarg);
    }
    if (rc < 0 || f->help)
        return rc;
    if (f->id == NULL)
        return err_set(err, EINVAL,
            "a NAME and a machine's ID are needed: see spore template freeze "
            "--help");
    if (optind < argc)
        f->template.argv = argv + optind;
    return template_name_check(f->name, err);
}

static int save(const struct freezing *f, const struct template_place *place,
    struct err *err)
{
    struct save_client_request request = {
        .id = f->id, .name = TEMPLATE_SNAPSHOT, .sync = true};
    struct save_client_result result;
    char *store;
    int rc;

    if (asprintf(&store, "%s/snapshots", place->path) < 0)
        return err_sys(err, ENOMEM, "a template");
    request.store = store;
    rc = save_client_run(&request, &result, err);
    free(store);
    return rc;
}

static int freeze(struct freezing *f, struct err *err)
{
    struct template_place place = TEMPLATE_PLACE_NONE;
    char *source;
    int rc = template_place_begin(f->name, f->replaces, &place, err);

    if (rc < 0)
        return rc;
    if (asprintf(&source, "machine %s", f->id) < 0) {
        template_place_abandon(&place);
        return err_sys(err, ENOMEM, "a template");
    }
    f->template.source = source;
    f->template.env = f->env.list;
    f->template.made_s = (uint64_t)time(NULL);
    rc = save(f, &place, err);
    if (rc == 0)
        rc = template_place_describe(&place, &f->template, err);
    if (rc == 0)
        rc = template_place_publish(&place, f->name, f->replaces, err);
    if (rc < 0)
        template_place_abandon(&place);
    template_place_close(&place);
    free(source);
    return rc;
}

int template_freeze_cmd(int argc, char **argv)
{
    struct freezing f = {0};
    struct err err;
    int rc = parse(&f, argc, argv, &err);

    if (rc == 0 && f.help)
        (void)fputs(help, stdout);
    else if (rc == 0)
        rc = freeze(&f, &err);
    words_fini(&f.env);
    if (rc < 0)
        (void)fprintf(stderr, "spore: template: %s\n", err.text);
    return rc < 0 ? VM_CLIENT_STATUS_FAILED : 0;
}
