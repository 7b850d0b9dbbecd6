/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/jail_cmd.h"

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "jail/policy.h"
#include "vmm/base/cc.h"
#include "vmm/doctor_probe.h"
#include "vmm/doctor_report.h"

#define STATUS_USAGE  2
#define STATUS_FAILED 125

#define JSON_VERSION 1

static const char usage[] =
    "usage: spore jail show [--role ROLE] [--json]\n"
    "\n"
    "Prints what a monitor in its jail may ask the kernel for: each system "
    "call,\n"
    "with which arguments, and why. Every other one ends the process. Then "
    "what\n"
    "this host has for the rest of the jail.\n"
    "\n"
    "  --role ROLE  one role only: main, vcpu, worker, page-server or fuzz\n"
    "  --json       one JSON object instead of text\n"
    "  --help       print this text\n"
    "\n"
    "Exit status: 0; 2 for a bad command line; 125 for failures.\n";

struct show_options {
    bool has_role;
    enum jail_role role;
    bool is_json;
};

/* What of spore-doctor(1) is about the jail. */
static const struct {
    const char *group;
    const char *name;
} host_lines[] = {{"kernel", "seccomp"}, {"kernel", "landlock"},
    {"kernel", "namespaces"}, {"host", "cgroups"}};

static bool is_shown(const struct show_options *o, enum jail_role role)
{
    return !o->has_role || o->role == role;
}

static bool has_role(const struct policy_rule *rule, enum jail_role role)
{
    return (rule->roles & (1u << role)) != 0;
}

/* System calls that are allowed, each once however many rows it has. */
static unsigned int count_calls(enum jail_role role)
{
    unsigned int count = 0;

    for (size_t i = 0; i < policy_rule_count; i++) {
        const struct policy_rule *rule = &policy_rules[i];
        bool is_new = has_role(rule, role) && rule->refusal == 0;

        for (size_t j = 0; is_new && j < i; j++)
            is_new = policy_rules[j].nr != rule->nr ||
                     policy_rules[j].refusal != 0 ||
                     !has_role(&policy_rules[j], role);
        count += is_new ? 1 : 0;
    }
    return count;
}

/* ---- for people ---------------------------------------------------------- */

static void print_rule(const struct policy_rule *rule)
{
    const char *error =
        rule->refusal != 0 ? strerrorname_np(rule->refusal) : NULL;

    (void)printf("  %-18s ", rule->name);
    if (rule->refusal != 0)
        (void)printf("refused with %s: ", error != NULL ? error : "an error");
    if (rule->with != NULL)
        (void)printf("%s: ", rule->with);
    (void)printf("%s\n", rule->reason);
}

static void print_text(
    const struct show_options *o, const struct doctor_report *report)
{
    for (unsigned int i = 0; i < JAIL_ROLES; i++) {
        enum jail_role role = (enum jail_role)i;

        if (!is_shown(o, role))
            continue;
        (void)printf("role %s\n", policy_role_name(role));
        for (size_t j = 0; j < policy_rule_count; j++) {
            if (has_role(&policy_rules[j], role))
                print_rule(&policy_rules[j]);
        }
        (void)putchar('\n');
    }
    (void)puts("system calls that are allowed, of each role");
    for (unsigned int i = 0; i < JAIL_ROLES; i++) {
        if (is_shown(o, (enum jail_role)i))
            (void)printf("  %-18s %u\n", policy_role_name((enum jail_role)i),
                count_calls((enum jail_role)i));
    }
    (void)puts("\nthis host, for this user");
    for (size_t i = 0; i < ARRAY_SIZE(host_lines); i++) {
        const struct doctor_line *line =
            doctor_report_find(report, host_lines[i].group, host_lines[i].name);

        if (line != NULL)
            (void)printf("  %-18s %s\n", line->name, line->found);
    }
}

/* ---- for programs -------------------------------------------------------- */

static json_t *rule_to_json(const struct policy_rule *rule)
{
    return json_pack("{s:s, s:i, s:s?, s:s?, s:s}", "call", rule->name,
        "number", rule->nr, "with", rule->with, "refusal",
        rule->refusal != 0 ? strerrorname_np(rule->refusal) : NULL, "reason",
        rule->reason);
}

static json_t *role_to_json(enum jail_role role)
{
    json_t *rules = json_array();

    for (size_t i = 0; i < policy_rule_count; i++) {
        if (has_role(&policy_rules[i], role) &&
            json_array_append_new(rules, rule_to_json(&policy_rules[i])) < 0) {
            json_decref(rules);
            return NULL;
        }
    }
    return json_pack("{s:s, s:i, s:o}", "role", policy_role_name(role), "calls",
        (int)count_calls(role), "rules", rules);
}

static json_t *roles_to_json(const struct show_options *o)
{
    json_t *roles = json_array();

    for (unsigned int i = 0; i < JAIL_ROLES; i++) {
        if (is_shown(o, (enum jail_role)i) &&
            json_array_append_new(roles, role_to_json((enum jail_role)i)) < 0) {
            json_decref(roles);
            return NULL;
        }
    }
    return roles;
}

/* What was found is null where a name on the host is no UTF-8. */
static json_t *line_to_json(const struct doctor_line *line)
{
    static const char *const states[] = {[DOCTOR_OK] = "ok",
        [DOCTOR_SLOW] = "slow",
        [DOCTOR_MISSING] = "missing"};
    json_t *found = json_string(line->found);
    json_t *value = line->value == DOCTOR_NO_VALUE
                        ? json_null()
                        : json_integer((json_int_t)line->value);

    return json_pack("{s:s, s:s, s:o, s:o}", "name", line->name, "state",
        states[line->state], "value", value, "found",
        found != NULL ? found : json_null());
}

static json_t *host_to_json(const struct doctor_report *report)
{
    json_t *host = json_array();

    for (size_t i = 0; i < ARRAY_SIZE(host_lines); i++) {
        const struct doctor_line *line =
            doctor_report_find(report, host_lines[i].group, host_lines[i].name);

        if (line != NULL &&
            json_array_append_new(host, line_to_json(line)) < 0) {
            json_decref(host);
            return NULL;
        }
    }
    return host;
}

static int print_json(
    const struct show_options *o, const struct doctor_report *report)
{
    json_t *root = json_pack("{s:i, s:o, s:o}", "version", JSON_VERSION,
        "roles", roles_to_json(o), "host", host_to_json(report));
    int rc = root == NULL ? -1 : json_dumpf(root, stdout, JSON_INDENT(2));

    json_decref(root);
    if (rc < 0) {
        (void)fputs("spore: jail: cannot write the policy\n", stderr);
        return STATUS_FAILED;
    }
    (void)putchar('\n');
    return 0;
}

/* ---- the command --------------------------------------------------------- */

static int set_role(struct show_options *o, const char *name)
{
    for (unsigned int i = 0; i < JAIL_ROLES; i++) {
        if (strcmp(policy_role_name((enum jail_role)i), name) == 0) {
            o->has_role = true;
            o->role = (enum jail_role)i;
            return 0;
        }
    }
    (void)fprintf(stderr,
        "spore: jail: --role %.64s: it must be main, vcpu, worker, page-server "
        "or fuzz\n",
        name);
    return STATUS_USAGE;
}

static int show(const struct show_options *o)
{
    struct doctor_report report = {0};

    doctor_probe_kernel(&report);
    doctor_probe_host(&report);
    if (o->is_json)
        return print_json(o, &report);
    print_text(o, &report);
    return 0;
}

int cmd_jail(int argc, char **argv)
{
    static const struct option rows[] = {
        {"role", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct show_options options = {0};
    int rc = 0;
    int opt;

    optind = 1;
    while (rc == 0 && (opt = getopt_long(argc, argv, "h", rows, NULL)) != -1) {
        switch (opt) {
        case 'r':
            rc = set_role(&options, optarg);
            break;
        case 'j':
            options.is_json = true;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return 0;
        default:
            (void)fputs(usage, stderr);
            return STATUS_USAGE;
        }
    }
    if (rc != 0)
        return rc;
    if (optind != argc - 1 || strcmp(argv[optind], "show") != 0) {
        (void)fputs(usage, stderr);
        return STATUS_USAGE;
    }
    return show(&options);
}
