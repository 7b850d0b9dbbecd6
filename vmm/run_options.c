/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/config_text.h"
#include "vmm/hw/cpuid_template.h"
#include "vmm/output_limit.h"
#include "vmm/run_devices.h"
#include "vmm/run_options_check.h"
#include "vmm/rundir.h"

#define TIMEOUT_MIN_S 0.001
#define TIMEOUT_MAX_S 31536000.0

enum {
    OPT_CONSOLE = 256,
    OPT_BALLOON,
    OPT_DISCOVERY,
    OPT_NET,
    OPT_NO_RNG,
    OPT_RNG,
    OPT_PMEM,
    OPT_TIMEOUT,
    OPT_TIMINGS,
    OPT_VCONSOLE,
    OPT_VSOCK,
    OPT_ID,
    OPT_DETACH,
    OPT_STAY,
    OPT_COLD,
    OPT_LOG,
    OPT_OUTPUT_LIMIT,
    OPT_API_SOCK,
    OPT_NO_API,
    OPT_NO_BOOT,
    OPT_FROM,
    OPT_STORE,
    OPT_VERIFY,
    OPT_MEMORY,
    OPT_PREFETCH,
    OPT_CLOCK,
    OPT_TRACK,
    OPT_ALLOW_CHANGED,
    OPT_ALLOW_DUPLICATE,
    OPT_CPU_TEMPLATE,
    OPT_JAIL, /* and JAIL_OPTIONS in all: the last */
};

/* ":" tells a missing value from an unknown option. */
static const char short_options[] = "+:k:i:r:d:m:c:a:f:e:u:w:tTvh";

static const struct option long_options[] = {
    {"kernel", required_argument, NULL, 'k'},
    {"initrd", required_argument, NULL, 'i'},
    {"rootfs", required_argument, NULL, 'r'},
    {"disk", required_argument, NULL, 'd'},
    {"pmem", required_argument, NULL, OPT_PMEM},
    {"mem", required_argument, NULL, 'm'},
    {"cpus", required_argument, NULL, 'c'},
    {"cpu-template", required_argument, NULL, OPT_CPU_TEMPLATE},
    {"cmdline", required_argument, NULL, 'a'},
    {"config", required_argument, NULL, 'f'},
    {"net", required_argument, NULL, OPT_NET},
    {"rng", no_argument, NULL, OPT_RNG},
    {"no-rng", no_argument, NULL, OPT_NO_RNG},
    {"balloon", required_argument, NULL, OPT_BALLOON},
    {"console", optional_argument, NULL, OPT_CONSOLE},
    {"virtio-console", optional_argument, NULL, OPT_VCONSOLE},
    {"discovery", required_argument, NULL, OPT_DISCOVERY},
    {"env", required_argument, NULL, 'e'},
    {"user", required_argument, NULL, 'u'},
    {"workdir", required_argument, NULL, 'w'},
    JAIL_OPTIONS_ROWS(OPT_JAIL),
    {"id", required_argument, NULL, OPT_ID},
    {"detach", no_argument, NULL, OPT_DETACH},
    {"stay", no_argument, NULL, OPT_STAY},
    {"cold", no_argument, NULL, OPT_COLD},
    {"log", required_argument, NULL, OPT_LOG},
    {"output-limit", required_argument, NULL, OPT_OUTPUT_LIMIT},
    {"api-sock", required_argument, NULL, OPT_API_SOCK},
    {"no-api", no_argument, NULL, OPT_NO_API},
    {"no-boot", no_argument, NULL, OPT_NO_BOOT},
    {"from", required_argument, NULL, OPT_FROM},
    {"store", required_argument, NULL, OPT_STORE},
    {"verify", optional_argument, NULL, OPT_VERIFY},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"allow-changed-disks", no_argument, NULL, OPT_ALLOW_CHANGED},
    {"prefetch", required_argument, NULL, OPT_PREFETCH},
    {"clock", required_argument, NULL, OPT_CLOCK},
    {"track", optional_argument, NULL, OPT_TRACK},
    {"allow-duplicate", no_argument, NULL, OPT_ALLOW_DUPLICATE},
    {"tty", no_argument, NULL, 't'},
    {"no-tty", no_argument, NULL, 'T'},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"vsock", required_argument, NULL, OPT_VSOCK},
    {"timings", optional_argument, NULL, OPT_TIMINGS},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int parse_cpus(const char *text, uint32_t *ret_cpus, struct err *err)
{
    char *end;
    unsigned long n;

    errno = 0;
    n = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || n < 1 ||
        n > CONFIG_VCPUS_MAX)
        return err_set(err, EINVAL, "--cpus %s: it must be 1 to %u", text,
            CONFIG_VCPUS_MAX);
    *ret_cpus = (uint32_t)n;
    return 0;
}

static int parse_timeout(const char *text, uint64_t *ret_ns, struct err *err)
{
    char *end;
    double s;

    errno = 0;
    s = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' ||
        !(s >= TIMEOUT_MIN_S && s <= TIMEOUT_MAX_S))
        return err_set(err, EINVAL,
            "--timeout %s: it must be a number of seconds from 0.001 to "
            "31536000",
            text);
    *ret_ns = (uint64_t)(s * (double)CLOCK_NS_PER_S);
    return 0;
}

static int parse_console(
    struct run_options *o, const char *text, struct err *err)
{
    if (text == NULL || strcmp(text, "stdio") == 0) {
        o->console = RUN_CONSOLE_STDIO;
        o->config.has_agent = false;
        o->config.has_exit_port = true;
    } else if (strcmp(text, "stderr") == 0) {
        o->console = RUN_CONSOLE_STDERR;
    } else if (text[0] != '\0') {
        o->console = RUN_CONSOLE_FILE;
        o->console_file = text;
    } else {
        return err_set(err, EINVAL, "--console= is empty");
    }
    return 0;
}

static int parse_vconsole(
    struct run_options *o, const char *text, struct err *err)
{
    if (text != NULL && text[0] == '\0')
        return err_set(err, EINVAL, "--virtio-console= is empty");
    o->config.has_vconsole = true;
    o->vconsole_file =
        text == NULL || strcmp(text, "stderr") == 0 ? NULL : text;
    return 0;
}

static int parse_discovery(
    struct config *config, const char *text, struct err *err)
{
    if (strcmp(text, "acpi") == 0)
        config->discovery = CONFIG_DISCOVERY_ACPI;
    else if (strcmp(text, "cmdline") == 0)
        config->discovery = CONFIG_DISCOVERY_CMDLINE;
    else
        return err_set(
            err, EINVAL, "--discovery %s: it must be acpi or cmdline", text);
    return 0;
}

static int parse_cpu_template(
    struct config *config, const char *text, struct err *err)
{
    int rc;

    if (strcmp(text, "none") == 0) {
        free(config->cpu_template);
        config->cpu_template = NULL;
        return 0;
    }
    rc = cpuid_template_check(text, err);
    if (rc < 0)
        return err_wrap(err, rc, "--cpu-template");
    return config_set_string(&config->cpu_template, text, err);
}

static int parse_timings(
    struct run_options *o, const char *text, struct err *err)
{
    static const char svg_file[] = "svg:";

    o->timings_file = NULL;
    if (text == NULL || strcmp(text, "text") == 0) {
        o->timings = RUN_TIMINGS_TEXT;
    } else if (strcmp(text, "json") == 0) {
        o->timings = RUN_TIMINGS_JSON;
    } else if (strcmp(text, "svg") == 0) {
        o->timings = RUN_TIMINGS_SVG;
    } else if (strncmp(text, svg_file, strlen(svg_file)) == 0 &&
               text[strlen(svg_file)] != '\0') {
        o->timings = RUN_TIMINGS_SVG;
        o->timings_file = text + strlen(svg_file);
    } else {
        return err_set(err, EINVAL,
            "--timings=%s: it must be text, json, svg or svg:FILE", text);
    }
    return 0;
}

static int parse_output_limit(
    struct run_options *o, const char *text, struct err *err)
{
    int rc = 0;

    o->has_output_limit = true;
    o->output_limit = 0;
    if (strcmp(text, "none") != 0)
        rc = run_devices_parse_bytes(
            text, OUTPUT_LIMIT_MIN, &o->output_limit, err);
    return rc < 0 ? err_wrap(err, rc, "--output-limit") : 0;
}

/* What the machine is to others; 1 if `opt` is not one of these. */
static int parse_control_option(struct run_options *o, int opt, struct err *err)
{
    switch (opt) {
    case OPT_ID:
        if (!rundir_id_is_valid(optarg))
            return err_set(err, EINVAL,
                "--id %s: it must be 1 to %u of A-Z a-z 0-9 _ - and not '%s'",
                optarg, RUNDIR_ID_MAX, RUNDIR_NET);
        o->id = optarg;
        return 0;
    case OPT_DETACH:
        o->detach = true;
        return 0;
    case OPT_STAY:
        o->stay = true;
        return 0;
    case OPT_COLD:
        o->cold = true;
        return 0;
    case OPT_LOG:
        o->log_file = optarg;
        return 0;
    case OPT_OUTPUT_LIMIT:
        return parse_output_limit(o, optarg, err);
    case OPT_API_SOCK:
        o->api_sock = optarg;
        return 0;
    case OPT_NO_API:
        o->no_api = true;
        return 0;
    case OPT_NO_BOOT:
        o->no_boot = true;
        return 0;
    default:
        return 1;
    }
}

static int parse_verify(
    struct run_options *o, const char *text, struct err *err)
{
    if (text == NULL || strcmp(text, "all") == 0)
        o->verify = RUN_VERIFY_ALL;
    else if (strcmp(text, "lazy") == 0)
        o->verify = RUN_VERIFY_LAZY;
    else if (strcmp(text, "trust") == 0)
        o->verify = RUN_VERIFY_TRUST;
    else
        return err_set(
            err, EINVAL, "--verify=%s: it must be all, lazy or trust", text);
    return 0;
}

static int parse_memory(
    struct run_options *o, const char *text, struct err *err)
{
    static const char uffd[] = "uffd:";
    size_t len = sizeof(uffd) - 1;

    o->has_memory_option = true;
    if (strcmp(text, "file") == 0)
        o->page_server = NULL;
    else if (strncmp(text, uffd, len) == 0 && text[len] != '\0')
        o->page_server = text + len;
    else
        return err_set(
            err, EINVAL, "--memory %s: it must be file or uffd:PATH", text);
    return 0;
}

static int parse_prefetch(
    struct run_options *o, const char *text, struct err *err)
{
    static const char *const words[] = {[RUN_PREFETCH_AUTO] = "auto",
        [RUN_PREFETCH_ON] = "on",
        [RUN_PREFETCH_OFF] = "off",
        [RUN_PREFETCH_RECORD] = "record"};

    o->has_memory_option = true;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            o->prefetch = (enum run_prefetch)i;
            return 0;
        }
    }
    return err_set(
        err, EINVAL, "--prefetch %s: it must be on, off, record or auto", text);
}

static int parse_tracking(
    struct run_options *o, const char *text, struct err *err)
{
    if (text == NULL)
        o->tracking = MACHINE_TRACK;
    else if (strcmp(text, "bitmap") == 0)
        o->tracking = MACHINE_TRACK_BITMAP;
    else if (strcmp(text, "ring") == 0)
        o->tracking = MACHINE_TRACK_RING;
    else
        return err_set(
            err, EINVAL, "--track=%s: it must be bitmap or ring", text);
    return 0;
}

/* Where the machine comes from; 1 if `opt` is not one of these. */
static int parse_origin_option(struct run_options *o, int opt, struct err *err)
{
    switch (opt) {
    case OPT_FROM:
        o->from = optarg;
        return 0;
    case OPT_STORE:
        o->store = optarg;
        return 0;
    case OPT_VERIFY:
        return parse_verify(o, optarg, err);
    case OPT_MEMORY:
        return parse_memory(o, optarg, err);
    case OPT_PREFETCH:
        return parse_prefetch(o, optarg, err);
    case OPT_CLOCK:
        if (strcmp(optarg, "follow") != 0 && strcmp(optarg, "freeze") != 0)
            return err_set(
                err, EINVAL, "--clock %s: it must be follow or freeze", optarg);
        o->freeze = strcmp(optarg, "freeze") == 0;
        return 0;
    case OPT_TRACK:
        return parse_tracking(o, optarg, err);
    case OPT_ALLOW_CHANGED:
        o->allow_changed_disks = true;
        return 0;
    case OPT_ALLOW_DUPLICATE:
        o->allow_duplicate = true;
        return 0;
    default:
        return 1;
    }
}

/* The machine's own options; 1 if `opt` is not one of them. */
static int parse_machine_option(struct run_options *o, int opt, struct err *err)
{
    switch (opt) {
    case 'k':
        return config_set_string(&o->config.kernel, optarg, err);
    case 'i':
        return config_set_string(&o->config.initrd, optarg, err);
    case 'a':
        return config_set_string(&o->config.boot_args, optarg, err);
    case 'r':
        o->no_root = strcmp(optarg, "none") == 0;
        return o->no_root
                   ? 0
                   : run_devices_add_drive(&o->config, optarg, true, err);
    case 'd':
        return run_devices_add_drive(&o->config, optarg, false, err);
    case OPT_PMEM:
        return run_devices_add_pmem(&o->config, optarg, err);
    case 'm':
        return config_parse_size(optarg, &o->config.mem_bytes, err);
    case 'c':
        return parse_cpus(optarg, &o->config.vcpus, err);
    case OPT_NET:
        return run_devices_add_net(&o->config, optarg, err);
    case OPT_RNG:
    case OPT_NO_RNG:
        o->config.has_entropy = opt == OPT_RNG;
        return 0;
    case OPT_BALLOON:
        return run_devices_set_balloon(&o->config, optarg, err);
    case OPT_CONSOLE:
        return parse_console(o, optarg, err);
    case OPT_VCONSOLE:
        return parse_vconsole(o, optarg, err);
    case OPT_VSOCK:
        return config_set_string(&o->config.vsock_path, optarg, err);
    case OPT_CPU_TEMPLATE:
        return parse_cpu_template(&o->config, optarg, err);
    case OPT_DISCOVERY:
        return parse_discovery(&o->config, optarg, err);
    default:
        return 1;
    }
}

/* Of enum run_given; 0 for an option that describes no machine. */
static uint32_t given_bit(int opt)
{
    static const struct {
        int opt;
        enum run_given bit;
    } bits[] = {
        {'k', RUN_GIVEN_KERNEL},
        {'i', RUN_GIVEN_INITRD},
        {'a', RUN_GIVEN_CMDLINE},
        {'f', RUN_GIVEN_CONFIG},
        {'r', RUN_GIVEN_ROOTFS},
        {'d', RUN_GIVEN_DISK},
        {OPT_PMEM, RUN_GIVEN_PMEM},
        {'m', RUN_GIVEN_MEM},
        {'c', RUN_GIVEN_CPUS},
        {OPT_NET, RUN_GIVEN_NET},
        {OPT_RNG, RUN_GIVEN_RNG},
        {OPT_NO_RNG, RUN_GIVEN_RNG},
        {OPT_BALLOON, RUN_GIVEN_BALLOON},
        {OPT_DISCOVERY, RUN_GIVEN_DISCOVERY},
        {OPT_VCONSOLE, RUN_GIVEN_VCONSOLE},
        {OPT_VSOCK, RUN_GIVEN_VSOCK},
        {OPT_CPU_TEMPLATE, RUN_GIVEN_CPU_TEMPLATE},
    };

    for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
        if (bits[i].opt == opt)
            return bits[i].bit;
    }
    return 0;
}

static int parse_option(
    struct run_options *o, int opt, int *verbosity, struct err *err)
{
    int rc = parse_machine_option(o, opt, err);

    o->given |= given_bit(opt);
    if (rc > 0)
        rc = parse_control_option(o, opt, err);
    if (rc > 0)
        rc = parse_origin_option(o, opt, err);
    if (rc <= 0)
        return rc;
    if (opt >= OPT_JAIL && opt < OPT_JAIL + JAIL_OPTIONS)
        return jail_options_set(
            &o->jail, (enum jail_option)(opt - OPT_JAIL), optarg, err);
    switch (opt) {
    case 'f':
        return 0; /* read before all others */
    case 'e':
        return session_add_env(&o->command, optarg, err);
    case 'u':
        o->command.user = optarg;
        return 0;
    case 'w':
        o->command.cwd = optarg;
        return 0;
    case 't':
        o->command.tty = SESSION_TTY_ON;
        return 0;
    case 'T':
        o->command.tty = SESSION_TTY_OFF;
        return 0;
    case OPT_TIMEOUT:
        return parse_timeout(optarg, &o->timeout_ns, err);
    case OPT_TIMINGS:
        return parse_timings(o, optarg, err);
    case 'v':
        (*verbosity)++;
        return 0;
    case 'h':
        o->help = true;
        return 0;
    default:
        return err_set(err, EINVAL, "see spore run --help");
    }
}

/* Says which word of the command line getopt_long stumbled over. */
static int refuse_option(int opt, char **argv, struct err *err)
{
    static const char help[] = "see spore run --help";
    const char *word = argv[optind - 1];

    if (opt == ':')
        return err_set(err, EINVAL, "%s: its value is missing: %s", word, help);
    /* In "-xv" the word is not done with, and `word` the one before it. */
    if (optopt > 0 && optopt < OPT_CONSOLE &&
        (optopt == ':' || strchr(short_options, optopt) == NULL))
        return err_set(err, EINVAL, "-%c: unknown option: %s", optopt, help);
    if (optopt != 0)
        return err_set(err, EINVAL, "%s: it takes no value: %s", word, help);
    return err_set(err, EINVAL, "%s: unknown option: %s", word, help);
}

/* The file comes first, wherever its option stands. */
static int load_config_file(
    struct run_options *o, int argc, char **argv, struct err *err)
{
    int opt;

    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while ((opt = getopt_long(argc, argv, short_options, long_options, NULL)) !=
           -1) {
        if (opt == 'f') {
            int rc =
                config_settings_load(&o->settings, &o->config, optarg, err);

            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

void run_options_init(struct run_options *options)
{
    *options = (struct run_options){0};
    config_init(&options->config);
}

int run_options_parse(
    struct run_options *options, int argc, char **argv, struct err *err)
{
    int verbosity = 0;
    int rc;
    int opt;

    run_options_init(options);
    rc = jail_options_init(&options->jail, err);
    if (rc == 0)
        rc = load_config_file(options, argc, argv, err);
    if (rc < 0)
        return rc;
    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while ((opt = getopt_long(argc, argv, short_options, long_options, NULL)) !=
           -1) {
        if (opt == '?' || opt == ':')
            return refuse_option(opt, argv, err);
        rc = parse_option(options, opt, &verbosity, err);
        if (rc < 0)
            return rc;
    }
    if (verbosity > 0)
        log_set_level(verbosity > 1 ? LOG_DEBUG : LOG_INFO);
    if (optind < argc)
        options->command.argv = (const char *const *)(void *)(argv + optind);
    if (options->help)
        return 0;
    rc = jail_options_check(&options->jail, err);
    return rc < 0 ? rc : run_options_check(options, err);
}

void run_options_fini(struct run_options *options)
{
    config_fini(&options->config);
    config_settings_fini(&options->settings);
}
