/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker_options.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name;
    const char *value; /* what it is called in the help; NULL: it has none */
    const char *help;
} rows[] = {
    [FIRECRACKER_API_SOCK] = {"api-sock", "api-sock",
        "path of the API's socket [default: \"/run/firecracker.socket\"]"},
    [FIRECRACKER_BOOT_TIMER] = {"boot-timer", NULL, "has no effect"},
    [FIRECRACKER_CONFIG_FILE] = {"config-file", "config-file",
        "a file that describes the microVM in JSON, which is then started"},
    [FIRECRACKER_DESCRIBE_SNAPSHOT] = {"describe-snapshot", "describe-snapshot",
        "print the format of a snapshot's state file"},
    [FIRECRACKER_ENABLE_PCI] = {"enable-pci", NULL,
        "refused: devices are on virtio-mmio"},
    [FIRECRACKER_HELP] = {"help", NULL, "print this text"},
    [FIRECRACKER_PAYLOAD_MAX] = {"http-api-max-payload-size",
        "http-api-max-payload-size",
        "most bytes of a request's body [default: \"51200\"]"},
    [FIRECRACKER_ID] = {"id", "id",
        "the microVM's identifier [default: \"anonymous-instance\"]"},
    [FIRECRACKER_LEVEL] = {"level", "level",
        "of the log: Off, Trace, Debug, Info, Warn or Error"},
    [FIRECRACKER_LOG_PATH] = {"log-path", "log-path",
        "a file or a pipe for the log"},
    [FIRECRACKER_METADATA] = {"metadata", "metadata",
        "a file with the metadata service's first data in JSON"},
    [FIRECRACKER_METRICS_PATH] = {"metrics-path", "metrics-path",
        "a file or a pipe for metrics"},
    [FIRECRACKER_MMDS_LIMIT] = {"mmds-size-limit", "mmds-size-limit",
        "most bytes of its data [default: what a request's body may have]"},
    [FIRECRACKER_MODULE] = {"module", "module",
        "log only what is of this module"},
    [FIRECRACKER_NO_API] = {"no-api", NULL,
        "no socket; --config-file says all"},
    [FIRECRACKER_NO_SECCOMP] = {"no-seccomp", NULL,
        "vCPUs are not held to the system calls that they need"},
    [FIRECRACKER_PARENT_CPU_TIME] = {"parent-cpu-time-us", "parent-cpu-time-us",
        "processor time of who started us"},
    [FIRECRACKER_SECCOMP_FILTER] = {"seccomp-filter", "seccomp-filter",
        "refused: filters of others do not fit"},
    [FIRECRACKER_SHOW_LEVEL] = {"show-level", NULL, "the log has levels"},
    [FIRECRACKER_SHOW_ORIGIN] = {"show-log-origin", NULL,
        "the log has modules"},
    [FIRECRACKER_SNAPSHOT_VERSION] = {"snapshot-version", NULL,
        "print the version of the snapshot format"},
    [FIRECRACKER_START_CPU_TIME] = {"start-time-cpu-us", "start-time-cpu-us",
        "processor time at which we were started"},
    [FIRECRACKER_START_TIME] = {"start-time-us", "start-time-us",
        "time at which we were started"},
    [FIRECRACKER_VERSION] = {"version", NULL, "print the version"},
};

static int check_together(const struct firecracker_options *o, struct err *err)
{
    if (o->given[FIRECRACKER_NO_SECCOMP] &&
        o->given[FIRECRACKER_SECCOMP_FILTER])
        return err_set(err, EINVAL,
            "Argument 'no-seccomp' cannot be used together with argument "
            "'seccomp-filter'.");
    if (o->given[FIRECRACKER_NO_API] && !o->given[FIRECRACKER_CONFIG_FILE])
        return err_set(
            err, EINVAL, "Argument 'config-file' required, but not found.");
    return 0;
}

int firecracker_options_parse(
    struct firecracker_options *o, int argc, char **argv, struct err *err)
{
    *o = (struct firecracker_options){.given = {false}};
    /* These have the last word, whatever else there is. */
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0)
            o->given[FIRECRACKER_HELP] = true;
        if (strcmp(argv[i], "--version") == 0)
            o->given[FIRECRACKER_VERSION] = true;
    }
    if (o->given[FIRECRACKER_HELP] || o->given[FIRECRACKER_VERSION])
        return 0;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *word = argv[i];
        size_t at = 0;

        if (strncmp(word, "--", 2) == 0) {
            while (at < FIRECRACKER_OPTIONS &&
                   strcmp(rows[at].name, word + 2) != 0)
                at++;
        }
        if (strncmp(word, "--", 2) != 0 || at == FIRECRACKER_OPTIONS)
            return err_set(err, EINVAL,
                "Found argument '%.128s' which wasn't expected, or isn't valid "
                "in this context.",
                strncmp(word, "--", 2) == 0 ? word + 2 : word);
        if (o->given[at])
            return err_set(err, EINVAL,
                "The argument '%s' was provided more than once.",
                rows[at].name);
        o->given[at] = true;
        if (rows[at].value == NULL)
            continue;
        if (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0)
            return err_set(err, EINVAL,
                "The argument '%s' requires a value, but none was supplied.",
                rows[at].name);
        o->values[at] = argv[++i];
    }
    return check_together(o, err);
}

void firecracker_options_help(FILE *out)
{
    (void)fputs("options:\n", out);
    for (size_t i = 0; i < FIRECRACKER_OPTIONS; i++) {
        char left[80];

        if (rows[i].value != NULL)
            (void)snprintf(
                left, sizeof(left), "--%s <%s>", rows[i].name, rows[i].value);
        else
            (void)snprintf(left, sizeof(left), "--%s", rows[i].name);
        (void)fprintf(out, "  %-55s %s\n", left, rows[i].help);
    }
}
