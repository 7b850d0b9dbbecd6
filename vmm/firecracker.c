/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/state_file.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/control_api.h"
#include "vmm/control_config.h"
#include "vmm/control_log.h"
#include "vmm/firecracker_options.h"
#include "vmm/run.h"
#include "vmm/run_options.h"

/* The contract's statuses. */
#define STATUS_GENERIC    1
#define STATUS_BAD_CONFIG 152
#define STATUS_ARGUMENTS  153

#define ID_MAX      64u
#define PAYLOAD_MAX (64u * 1024u * 1024u)

static int fail(int status, const char *text)
{
    (void)fprintf(stderr, "Error: %s\n", text);
    return status;
}

/* The format that a snapshot's state file begins with. */
static int describe_snapshot(const char *path)
{
    struct state_file file;
    struct err err;
    uint8_t *data = NULL;
    size_t size = 0;

    if (fd_read_file(path, STATE_FILE_SIZE_MAX, &data, &size, &err) < 0) {
        (void)fprintf(stderr,
            "Error: When printing Snapshot Data format: Unable to open "
            "snapshot state file: %s\n",
            err.text);
        return STATUS_GENERIC;
    }
    if (state_file_decode(data, size, &file, &err) < 0) {
        (void)fprintf(stderr,
            "Error: When printing Snapshot Data format: Invalid data format "
            "version of snapshot file: %s\n",
            err.text);
        return STATUS_GENERIC;
    }
    state_file_fini(&file);
    (void)printf("v%u.0.0\n", STATE_FILE_VERSION);
    return 0;
}

static bool is_id(const char *id)
{
    size_t len = strlen(id);

    return len >= 1 && len <= ID_MAX &&
           strspn(id, "0123456789-abcdefghijklmnopqrstuvwxyz"
                      "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == len;
}

static int parse_u64(const char *text, uint64_t *ret_value)
{
    char *end;

    errno = 0;
    *ret_value = strtoull(text, &end, 10);
    return errno != 0 || end == text || *end != '\0' || text[0] == '-' ? -EINVAL
                                                                       : 0;
}

/* Since when the process is there, as its starter says; for metrics. */
static void take_start(
    struct run_options *run, const struct firecracker_options *o)
{
    const char *wall = o->values[FIRECRACKER_START_TIME];
    const char *cpu = o->values[FIRECRACKER_START_CPU_TIME];
    const char *parent = o->values[FIRECRACKER_PARENT_CPU_TIME];
    uint64_t value;

    if (wall != NULL && parse_u64(wall, &value) == 0)
        run->start_us = clock_now_ns() / 1000 - value;
    if (cpu != NULL && parse_u64(cpu, &value) == 0)
        run->start_cpu_us = clock_process_cpu_ns() / 1000 - value;
    if (parent != NULL && parse_u64(parent, &value) == 0)
        run->start_cpu_us += value;
}

static json_t *string_or_none(const char *text)
{
    return text == NULL ? json_null() : json_string(text);
}

/* As the body of a /logger, and of a /metrics. */
static int take_settings(struct run_options *run,
    const struct firecracker_options *o, struct err *err)
{
    const char *level = o->values[FIRECRACKER_LEVEL];
    const char *path = o->values[FIRECRACKER_METRICS_PATH];
    json_t *logger = run->settings.logger;
    enum log_level n;

    if (level != NULL && !control_log_level(level, &n))
        return err_set(err, ERANGE,
            "Invalid value for logger level: Failed to parse string to level "
            "filter: %s.Possible values: [Error, Warning, Info, Debug]",
            level);
    if (logger == NULL && (level != NULL || o->given[FIRECRACKER_LOG_PATH] ||
                              o->given[FIRECRACKER_MODULE])) {
        run->settings.logger = json_pack("{s:o, s:o, s:o, s:b, s:b}",
            "log_path", string_or_none(o->values[FIRECRACKER_LOG_PATH]),
            "level", string_or_none(level), "module",
            string_or_none(o->values[FIRECRACKER_MODULE]), "show_level",
            (int)o->given[FIRECRACKER_SHOW_LEVEL], "show_log_origin",
            (int)o->given[FIRECRACKER_SHOW_ORIGIN]);
        if (run->settings.logger == NULL)
            return err_set(err, EINVAL, "The log's options are not UTF-8.");
    }
    if (run->settings.metrics == NULL && path != NULL) {
        run->settings.metrics = json_pack("{s:s}", "metrics_path", path);
        if (run->settings.metrics == NULL)
            return err_set(err, EINVAL, "The metrics' path is not UTF-8.");
    }
    return 0;
}

/* What this engine has not, and cannot do as if it had. */
static int refuse_some(const struct firecracker_options *o, struct err *err)
{
    static const struct {
        enum firecracker_option option;
        const char *text;
    } refused[] = {
        {FIRECRACKER_ENABLE_PCI,
            "--enable-pci: devices are on virtio-mmio: leave it out"},
        {FIRECRACKER_SECCOMP_FILTER,
            "--seccomp-filter: filters of others do not fit: leave it out"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        if (o->given[refused[i].option])
            return err_set(err, ENOTSUP, "%s", refused[i].text);
    }
    return 0;
}

/* The metadata service's first data, and how much it may ever be. */
static int take_metadata(struct run_options *run,
    const struct firecracker_options *o, struct err *err)
{
    const char *limit = o->values[FIRECRACKER_MMDS_LIMIT];
    const char *path = o->values[FIRECRACKER_METADATA];
    char text[SCHEMA_TEXT_MAX];
    uint8_t *data = NULL;
    size_t size = 0;
    uint64_t bytes = run->body_max;
    int rc;

    if (limit != NULL && (parse_u64(limit, &bytes) < 0 || bytes > PAYLOAD_MAX))
        return err_set(err, EINVAL,
            "'mmds-size-limit' parameter expected to be of 'usize' type, and "
            "at most %u",
            PAYLOAD_MAX);
    if (limit != NULL || bytes != 0)
        run->settings.mmds_limit = (size_t)bytes;
    if (path == NULL)
        return 0;
    rc = fd_read_file(path, PAYLOAD_MAX, &data, &size, err);
    if (rc < 0)
        return err_wrap(
            err, rc, "Unable to open or read from the mmds content file");
    run->settings.metadata = schema_parse((const char *)data, size, NULL, text);
    free(data);
    return run->settings.metadata != NULL
               ? 0
               : err_set(err, EINVAL,
                     "MMDS error: metadata provided not valid json: %s: %.200s",
                     path, text);
}

static int take_config(
    struct run_options *run, const char *path, struct err *err)
{
    int rc;

    run->given |= RUN_GIVEN_CONFIG;
    rc = config_settings_load(&run->settings, &run->config, path, err);
    if (rc == 0 && run->config.kernel == NULL)
        rc = err_set(
            err, EINVAL, "%s: boot-source.kernel_image_path: missing", path);
    if (rc == 0 && run->config.boot_args == NULL)
        rc = config_set_string(&run->config.boot_args, CONTROL_BOOT_ARGS, err);
    return rc < 0 ? err_wrap(err, rc,
                        "Configuration for VMM from one single json failed")
                  : 0;
}

/* Firecracker's options as those of a run. */
static int take_options(struct run_options *run,
    const struct firecracker_options *o, struct err *err)
{
    const char *limit = o->values[FIRECRACKER_PAYLOAD_MAX];
    const char *id = o->values[FIRECRACKER_ID];
    uint64_t bytes = 0;
    int rc = refuse_some(o, err);

    run_options_init(run);
    run->is_firecracker = true;
    run->filters_vcpus = !o->given[FIRECRACKER_NO_SECCOMP];
    run->config.has_agent = false;
    run->console = RUN_CONSOLE_STDIO;
    run->jail.jail.level = JAIL_OFF;
    run->no_api = o->given[FIRECRACKER_NO_API];
    run->no_boot = !o->given[FIRECRACKER_CONFIG_FILE];
    run->api_id = id == NULL ? "anonymous-instance" : id;
    if (!run->no_api)
        run->api_sock = o->given[FIRECRACKER_API_SOCK]
                            ? o->values[FIRECRACKER_API_SOCK]
                            : "/run/firecracker.socket";
    if (rc == 0 && !is_id(run->api_id))
        rc = err_set(err, EINVAL,
            "Invalid instance ID: it must be 1 to %u of A-Z a-z 0-9 -", ID_MAX);
    if (rc == 0 && limit != NULL &&
        (parse_u64(limit, &bytes) < 0 || bytes > PAYLOAD_MAX))
        rc = err_set(err, EINVAL,
            "'http-api-max-payload-size' parameter expected to be of 'usize' "
            "type, and at most %u",
            PAYLOAD_MAX);
    if (rc == 0 && limit != NULL)
        run->body_max = (size_t)bytes;
    take_start(run, o);
    if (rc == 0 && !run->no_boot)
        rc = take_config(run, o->values[FIRECRACKER_CONFIG_FILE], err);
    if (rc == 0)
        rc = take_settings(run, o, err);
    if (rc == 0)
        rc = take_metadata(run, o, err);
    return rc;
}

static int parse(
    struct run_options *run, int argc, char **argv, struct err *err)
{
    struct firecracker_options options;

    /* It has been before. */
    if (firecracker_options_parse(&options, argc, argv, err) < 0)
        return -EINVAL;
    return take_options(run, &options, err);
}

int firecracker_main(int argc, char **argv)
{
    struct firecracker_options options;
    struct err err;
    enum log_level level;

    if (firecracker_options_parse(&options, argc, argv, &err) < 0) {
        (void)fprintf(stderr,
            "Error: Arguments parsing error: %s \n\nFor more information try "
            "--help.\n",
            err.text);
        return STATUS_ARGUMENTS;
    }
    if (options.given[FIRECRACKER_HELP] || options.given[FIRECRACKER_VERSION]) {
        (void)printf("Firecracker v%s\n\n", CONTROL_API_VERSION);
        if (options.given[FIRECRACKER_HELP])
            firecracker_options_help(stdout);
        return 0;
    }
    if (options.given[FIRECRACKER_SNAPSHOT_VERSION]) {
        (void)printf("v%u.0.0\n", STATE_FILE_VERSION);
        return 0;
    }
    if (options.given[FIRECRACKER_DESCRIBE_SNAPSHOT])
        return describe_snapshot(options.values[FIRECRACKER_DESCRIBE_SNAPSHOT]);
    if (options.values[FIRECRACKER_LEVEL] != NULL &&
        !control_log_level(options.values[FIRECRACKER_LEVEL], &level))
        return fail(STATUS_BAD_CONFIG,
            "Invalid value for logger level. Possible values: [Error, Warning, "
            "Info, Debug]");
    return run_main(argc, argv, parse);
}
