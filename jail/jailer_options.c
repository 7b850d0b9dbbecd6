/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "jail/cgroup_places.h"
#include "jail/cgroup_text.h"
#include "jail/cgroup_tree.h"
#include "jail/jailer.h"
#include "vmm/base/num.h"

#define ID_MAX  64u
#define PREFIX  "Failed to parse arguments: "
#define NO_FILE 2048u

enum option {
    OPTION_ID,
    OPTION_EXEC_FILE,
    OPTION_UID,
    OPTION_GID,
    OPTION_BASE,
    OPTION_NETNS,
    OPTION_DAEMONIZE,
    OPTION_NEW_PID_NS,
    OPTION_CGROUP,
    OPTION_CGROUP_VERSION,
    OPTION_PARENT_CGROUP,
    OPTION_RESOURCE_LIMIT,
    OPTION_HELP,
    OPTION_VERSION,
    OPTIONS,
};

static const struct {
    const char *name;
    const char *value; /* NULL: takes none */
    bool is_needed;
    bool can_repeat;
    const char *text;
} table[OPTIONS] = {
    [OPTION_ID] = {"id", "ID", true, false,
        "of the VM: 1 to 64 letters, digits and hyphens"},
    [OPTION_EXEC_FILE] = {"exec-file", "PATH", true, false,
        "the program to run; linked statically"},
    [OPTION_UID] = {"uid", "UID", true, false, "the user that runs it"},
    [OPTION_GID] = {"gid", "GID", true, false, "and the group"},
    [OPTION_BASE] = {"chroot-base-dir", "DIR", false, false,
        "where the folders of VMs are made (/srv/jailer)"},
    [OPTION_NETNS] = {"netns", "PATH", false, false,
        "a network namespace to join"},
    [OPTION_DAEMONIZE] = {"daemonize", NULL, false, false,
        "in the background, without terminal and standard files"},
    [OPTION_NEW_PID_NS] = {"new-pid-ns", NULL, false, false,
        "in a PID namespace of its own"},
    [OPTION_CGROUP] = {"cgroup", "FILE=VALUE", false, true,
        "a file of its cgroup, as cpuset.cpus=0; can be repeated"},
    [OPTION_CGROUP_VERSION] = {"cgroup-version", "1|2", false, false,
        "which FILE is meant for (1)"},
    [OPTION_PARENT_CGROUP] = {"parent-cgroup", "PATH", false, false,
        "where its cgroup is made (the program's name)"},
    [OPTION_RESOURCE_LIMIT] = {"resource-limit", "NAME=VALUE", false, true,
        "fsize, no-file or another of setrlimit(2); can be repeated"},
    [OPTION_HELP] = {"help", NULL, false, false, "print this text"},
    [OPTION_VERSION] = {"version", NULL, false, false, "print the version"},
};

void jailer_print_help(FILE *out)
{
    (void)fputs("usage: spore-jailer --id ID --exec-file PATH --uid UID --gid "
                "GID [options]\n"
                "                    [-- ARGUMENT...]\n\n"
                "Runs a program in the folder DIR/NAME/ID/root, as its root "
                "and as another user.\n"
                "ARGUMENTs are the program's.\n\n",
        out);
    for (size_t i = 0; i < OPTIONS; i++) {
        char left[48];

        (void)snprintf(left, sizeof(left), "--%s %s", table[i].name,
            table[i].value == NULL ? "" : table[i].value);
        (void)fprintf(out, "  %-29s %s\n", left, table[i].text);
    }
}

static int check_id(const char *id, struct err *err)
{
    size_t len = strlen(id);

    if (len == 0 || len > ID_MAX)
        return err_set(err, EINVAL,
            "Invalid instance ID: Invalid len (%zu);  the length must be "
            "between 1 and %u",
            len, ID_MAX);
    for (size_t i = 0; i < len; i++) {
        if (id[i] != '-' && (id[i] < 0 || !isalnum(id[i])))
            return err_set(err, EINVAL,
                "Invalid instance ID: Invalid char (%c) at position %zu", id[i],
                i);
    }
    return 0;
}

/* The last number means to setresuid that nothing shall change. */
static int take_number(
    const char *what, const char *text, uint32_t *ret_number, struct err *err)
{
    uint64_t number = 0;
    const char *end = num_take_digits(text, &number);

    if (end == NULL || *end != '\0' || number >= UINT32_MAX)
        return err_set(err, EINVAL, "Invalid %s: %.64s", what, text);
    *ret_number = (uint32_t)number;
    return 0;
}

static int take_cgroup(
    const char *text, struct cgroup_config *config, struct err *err)
{
    const char *equals = strchr(text, '=');
    int rc;

    if (equals == NULL || equals[1] == '\0')
        return err_set(err, EINVAL, "Invalid format for cgroups: %.128s", text);
    if (memchr(text, '/', (size_t)(equals - text)) != NULL ||
        strncmp(text, "..=", 3) == 0)
        return err_set(err, EINVAL, "Cgroup invalid file: %.128s", text);
    rc = cgroup_parse_pair(text, config, err);
    return rc < 0 ? err_wrap(err, rc, "--cgroup") : 0;
}

static int take_limit(const char *text, struct rlimits *limits, struct err *err)
{
    const char *equals = strchr(text, '=');
    int rc;

    if (equals == NULL)
        return err_set(
            err, EINVAL, "Invalid format for resources limits: %.64s", text);
    rc = rlimits_parse(text, limits, err);
    if (rc == -ENOENT)
        return err_set(err, EINVAL, "Invalid resource argument: %.*s",
            (int)num_min((uint64_t)(equals - text), 64), text);
    return rc < 0 ? err_wrap(err, rc, "Invalid limit value for resource: %.64s",
                        equals + 1)
                  : 0;
}

static int take_version(
    const char *text, unsigned int *ret_version, struct err *err)
{
    if (strcmp(text, "1") != 0 && strcmp(text, "2") != 0)
        return err_set(
            err, EINVAL, "%.64s is an invalid cgroup version specifier", text);
    *ret_version = text[0] == '1' ? 1 : 2;
    return 0;
}

static int take_parent(const char *text, const char **ret_path, struct err *err)
{
    if (text[0] == '\0' || text[0] == '/' || strchr(text, '\n') != NULL ||
        strlen(text) >= CGROUP_PATH_MAX / 2 ||
        cgroup_list_has(text, '/', ".") || cgroup_list_has(text, '/', ".."))
        return err_set(err, EINVAL,
            "Parent cgroup path is invalid. Path should not be absolute or "
            "contain '..' or '.'");
    *ret_path = text;
    return 0;
}

static int take_option(struct jailer_options *o, enum option option,
    const char *value, struct err *err)
{
    switch (option) {
    case OPTION_ID:
        o->id = value;
        return check_id(value, err);
    case OPTION_EXEC_FILE:
        o->exec_file = value;
        return 0;
    case OPTION_UID:
        return take_number("uid", value, &o->uid, err);
    case OPTION_GID:
        return take_number("gid", value, &o->gid, err);
    case OPTION_BASE:
        o->base = value;
        return 0;
    case OPTION_NETNS:
        o->netns = value;
        return 0;
    case OPTION_DAEMONIZE:
        o->daemonize = true;
        return 0;
    case OPTION_NEW_PID_NS:
        o->new_pid_ns = true;
        return 0;
    case OPTION_CGROUP:
        return take_cgroup(value, &o->cgroup, err);
    case OPTION_CGROUP_VERSION:
        return take_version(value, &o->cgroup_version, err);
    case OPTION_PARENT_CGROUP:
        return take_parent(value, &o->parent_cgroup, err);
    case OPTION_RESOURCE_LIMIT:
        return take_limit(value, &o->limits, err);
    case OPTION_HELP:
        o->help = true;
        return 0;
    case OPTION_VERSION:
        o->version = true;
        return 0;
    case OPTIONS:
    default:
        return -EINVAL;
    }
}

/* Which option an argument is: "--id", "--id=VALUE", "-h"; OPTIONS: none. */
static enum option find_option(const char *arg, const char **ret_value)
{
    size_t len;

    *ret_value = NULL;
    if (strcmp(arg, "-h") == 0)
        return OPTION_HELP;
    if (strcmp(arg, "-V") == 0)
        return OPTION_VERSION;
    if (strncmp(arg, "--", 2) != 0)
        return OPTIONS;
    arg += 2;
    len = strcspn(arg, "=");
    for (int i = 0; i < OPTIONS; i++) {
        if (strlen(table[i].name) != len ||
            memcmp(table[i].name, arg, len) != 0)
            continue;
        if (arg[len] == '=') {
            if (table[i].value == NULL)
                return OPTIONS;
            *ret_value = arg + len + 1;
        }
        return (enum option)i;
    }
    return OPTIONS;
}

static int check_all(
    const struct jailer_options *o, const bool seen[OPTIONS], struct err *err)
{
    if (o->help || o->version)
        return 0;
    for (size_t i = 0; i < OPTIONS; i++) {
        if (table[i].is_needed && !seen[i])
            return err_set(err, EINVAL,
                PREFIX "Argument '%s' required, but not found.", table[i].name);
    }
    return 0;
}

int jailer_parse(
    int argc, char **argv, struct jailer_options *ret_options, struct err *err)
{
    struct jailer_options o = {.base = "/srv/jailer", .cgroup_version = 1};
    bool seen[OPTIONS] = {false};
    int rc = 0;

    o.limits.list[RLIMIT_NOFILE].is_set = true;
    o.limits.list[RLIMIT_NOFILE].may_be_less = true;
    o.limits.list[RLIMIT_NOFILE].soft = NO_FILE;
    o.limits.list[RLIMIT_NOFILE].hard = NO_FILE;
    for (int i = 1; i < argc && rc == 0; i++) {
        const char *value = NULL;
        enum option option;

        if (strcmp(argv[i], "--") == 0) {
            o.extra = argv + i + 1;
            o.extra_count = (size_t)(argc - i - 1);
            break;
        }
        option = find_option(argv[i], &value);
        if (option == OPTIONS)
            return err_set(err, EINVAL,
                PREFIX "Found argument '%.64s' which wasn't expected, or isn't "
                       "valid in this context.",
                strncmp(argv[i], "--", 2) == 0 ? argv[i] + 2 : argv[i]);
        if (seen[option] && !table[option].can_repeat)
            return err_set(err, EINVAL,
                PREFIX "The argument '%s' was provided more than once.",
                table[option].name);
        seen[option] = true;
        if (table[option].value != NULL && value == NULL) {
            if (i + 1 >= argc || strncmp(argv[i + 1], "--", 2) == 0)
                return err_set(err, EINVAL,
                    PREFIX "The argument '%s' requires a value, but none was "
                           "supplied.",
                    table[option].name);
            value = argv[++i];
        }
        rc = take_option(&o, option, value, err);
    }
    if (rc == 0)
        rc = check_all(&o, seen, err);
    if (rc < 0)
        return rc;
    *ret_options = o;
    return 0;
}
