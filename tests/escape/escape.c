/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tries every way out of a role's jail, and each without one, too: what does
 * not get through there shows nothing. Prints a line for each in the Test
 * Anything Protocol, and the counts. Status 0: all was held for the reason
 * that its row gives; 1: something was not; 77: nothing could be tried.
 */
#include "tests/escape/escape.h"

#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "jail/policy.h"
#include "tests/escape/run.h"
#include "tests/unit/support/skip.h"
#include "vmm/base/cc.h"

static const struct escape_list *const lists[] = {
    &escape_files,
    &escape_mounts,
    &escape_devices,
    &escape_processes,
    &escape_rights,
    &escape_others,
    &escape_memory,
    &escape_net,
    &escape_kernel,
    &escape_ring,
    &escape_kvm,
    &escape_controls,
};

enum verdict {
    HELD,
    ALLOWED, /* as the row says: harmless, and it works */
    SKIPPED,
    WRONG,
    VERDICTS,
};

static const char *const verdict_names[VERDICTS] = {
    "held", "allowed", "skipped", "wrong"};

struct options {
    uint32_t roles; /* bit per enum jail_role */
    bool free;      /* try without a jail */
    bool jailed;    /* and in it */
    bool unfiltered;
    bool list;
    bool json;
    const char *only; /* NULL: all; a part of names */
};

struct tally {
    unsigned int lines;
    unsigned int verdicts[VERDICTS];
};

/* One line's worth. */
struct outcome {
    enum verdict verdict;
    char text[640];
};

static const char *usage =
    "usage: escape [--role ROLE]... [--jail | --no-jail | --no-filter]\n"
    "              [--only TEXT] [--list] [--json]\n"
    "  --role ROLE   main, vcpu, worker, page-server, fuzz; all without\n"
    "  --no-jail     only what gets through without a jail\n"
    "  --jail        only what is held in it\n"
    "  --no-filter   what the jail would hold without its filter; no verdict\n"
    "  --only TEXT   attempts with this in their name\n"
    "  --list        what would be tried, and what for\n"
    "  --json        an object on each line\n";

static int find_role(const char *name)
{
    for (unsigned int role = 0; role < JAIL_ROLES; role++) {
        if (strcmp(name, policy_role_name((enum jail_role)role)) == 0)
            return (int)role;
    }
    return -EINVAL;
}

static int parse(int argc, char **argv, struct options *ret_options)
{
    static const struct option names[] = {
        {"role", required_argument, NULL, 'r'},
        {"jail", no_argument, NULL, 'j'}, {"no-jail", no_argument, NULL, 'n'},
        {"no-filter", no_argument, NULL, 'f'},
        {"only", required_argument, NULL, 'o'},
        {"list", no_argument, NULL, 'l'}, {"json", no_argument, NULL, 's'},
        {NULL, 0, NULL, 0}};
    struct options o = {.free = true, .jailed = true};
    int role;
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'r':
            role = find_role(optarg);
            if (role < 0)
                return role;
            o.roles |= 1u << role;
            break;
        case 'j':
            o.free = false;
            break;
        case 'n':
            o.jailed = false;
            break;
        case 'f':
            o.unfiltered = true;
            break;
        case 'o':
            o.only = optarg;
            break;
        case 'l':
            o.list = true;
            break;
        case 's':
            o.json = true;
            break;
        default:
            return -EINVAL;
        }
    }
    if (optind != argc || (!o.free && !o.jailed))
        return -EINVAL;
    if (o.roles == 0)
        o.roles = (1u << JAIL_ROLES) - 1;
    *ret_options = o;
    return 0;
}

/* What came of it, for people. */
static void describe(const struct run_result *r, char *ret_text, size_t size)
{
    static const char *const stages[] = {
        "while it prepared", "while it entered the jail", "", ""};

    switch (r->end) {
    case RUN_RETURNED:
        (void)snprintf(ret_text, size, "%s",
            r->result == 0 ? "got through" : strerrorname_np(-r->result));
        break;
    case RUN_KILLED:
        (void)snprintf(ret_text, size, "killed at call %ld", r->last_call);
        break;
    case RUN_DIED:
        (void)snprintf(ret_text, size, "ended with %s %d",
            WIFSIGNALED(r->status) ? "signal" : "status",
            WIFSIGNALED(r->status) ? WTERMSIG(r->status)
                                   : WEXITSTATUS(r->status));
        break;
    case RUN_UNTRIED:
        (void)snprintf(ret_text, size, "ended %s: %s %s", stages[r->stage],
            r->why, r->result == 0 ? "" : strerrorname_np(-r->result));
        break;
    case RUN_HUNG:
    default:
        (void)snprintf(ret_text, size, "hung after call %ld", r->last_call);
    }
}

/* Whether it came to `expected`: 0 or -errno. */
static bool came_to(const struct run_result *r, int expected)
{
    return r->end == RUN_RETURNED && r->result == expected;
}

/* Why it cannot get through here, without a jail; NULL if that is no excuse. */
static const char *find_lack(
    const struct escape_attempt *attempt, const struct run_result *r)
{
    if (r->end != RUN_RETURNED &&
        !(r->end == RUN_UNTRIED && r->stage == ESCAPE_STAGE_PREPARE))
        return NULL;
    for (unsigned int i = 0; i < ARRAY_SIZE(attempt->lacks); i++) {
        const struct escape_lack *lack = &attempt->lacks[i];

        if (lack->error != 0 && lack->error == r->result &&
            !(lack->user && geteuid() == 0))
            return lack->why;
    }
    return r->result == -ENOSYS ? "this kernel does not have it" : NULL;
}

static bool is_as_expected(const struct escape_attempt *attempt,
    enum jail_role role, const struct run_result *r)
{
    int expected = attempt->inside[role];

    if (expected == ESCAPE_ALLOWED)
        return came_to(r, attempt->outside);
    if (expected != ESCAPE_KILLED)
        return came_to(r, expected);
    return r->end == RUN_KILLED &&
           (r->last_call == attempt->call ||
               (attempt->first != 0 && r->last_call == attempt->first));
}

/* What the row says of a role. */
static void describe_expected(const struct escape_attempt *attempt,
    enum jail_role role, char *ret_text, size_t size)
{
    int expected = attempt->inside[role];

    if (expected == ESCAPE_ALLOWED)
        (void)snprintf(ret_text, size, "allowed");
    else if (expected == ESCAPE_KILLED && attempt->first != 0)
        (void)snprintf(ret_text, size, "killed at call %ld or %ld",
            attempt->first, attempt->call);
    else if (expected == ESCAPE_KILLED)
        (void)snprintf(ret_text, size, "killed at call %ld", attempt->call);
    else
        (void)snprintf(ret_text, size, "%s", strerrorname_np(-expected));
}

/*
 * Both halves into one. What cannot get through without a jail is skipped,
 * unless it ends otherwise than the row says in the jail, too.
 */
static void conclude(const struct escape_attempt *attempt, enum jail_role role,
    const struct run_result *outside, const struct run_result *inside,
    struct outcome *ret_outcome)
{
    struct outcome *o = ret_outcome;
    const char *lack = NULL;
    char got[448];
    char want[64];

    if (outside != NULL && !came_to(outside, attempt->outside)) {
        lack = find_lack(attempt, outside);
        if (lack == NULL) {
            o->verdict = WRONG;
            describe(outside, got, sizeof(got));
            (void)snprintf(o->text, sizeof(o->text), "without a jail: %s", got);
            return;
        }
    }
    if (inside == NULL) {
        o->verdict = lack == NULL ? ALLOWED : SKIPPED;
        (void)snprintf(o->text, sizeof(o->text), "%s",
            lack == NULL ? "gets through" : lack);
        return;
    }
    describe(inside, got, sizeof(got));
    if (is_as_expected(attempt, role, inside)) {
        o->verdict = lack != NULL                              ? SKIPPED
                     : attempt->inside[role] == ESCAPE_ALLOWED ? ALLOWED
                                                               : HELD;
        (void)snprintf(
            o->text, sizeof(o->text), "%s", lack != NULL ? lack : got);
        return;
    }
    if (outside == NULL)
        lack = find_lack(attempt, inside);
    if (lack != NULL && find_lack(attempt, inside) != NULL) {
        o->verdict = SKIPPED;
        (void)snprintf(o->text, sizeof(o->text), "%s", lack);
        return;
    }
    o->verdict = WRONG;
    describe_expected(attempt, role, want, sizeof(want));
    (void)snprintf(
        o->text, sizeof(o->text), "in the jail: %s, and not %s", got, want);
}

static void print_outcome(const struct options *options, struct tally *tally,
    const char *role, const struct escape_attempt *attempt,
    const struct outcome *outcome)
{
    tally->lines++;
    tally->verdicts[outcome->verdict]++;
    if (options->json) {
        /* No text here has a quote or a backslash in it. */
        (void)printf("{\"role\": \"%s\", \"attempt\": \"%s\", "
                     "\"gain\": \"%s\", \"verdict\": \"%s\", "
                     "\"outcome\": \"%s\"}\n",
            role, attempt->name, attempt->gain, verdict_names[outcome->verdict],
            outcome->text);
        return;
    }
    (void)printf("%sok %u - %s: %s", outcome->verdict == WRONG ? "not " : "",
        tally->lines, role, attempt->name);
    if (outcome->verdict == SKIPPED)
        (void)printf(" # skip %s\n", outcome->text);
    else
        (void)printf(": %s\n", outcome->text);
}

static bool is_meant(
    const struct options *options, const struct escape_attempt *attempt)
{
    return options->only == NULL ||
           strstr(attempt->name, options->only) != NULL;
}

/* What is killed is to be held by something else, too. */
static int try_behind(struct run_host *host, const struct options *options,
    const struct escape_attempt *attempt, struct tally *tally, struct err *err)
{
    struct outcome outcome = {0};
    struct run_result result;
    int rc = run_attempt(
        host, attempt, RUN_UNFILTERED, JAIL_ROLE_MAIN, &result, err);

    if (rc < 0)
        return rc;
    outcome.verdict = came_to(&result, attempt->behind) ? HELD : WRONG;
    describe(&result, outcome.text, sizeof(outcome.text));
    print_outcome(options, tally, "main without its filter", attempt, &outcome);
    return 0;
}

static int try_one(struct run_host *host, const struct options *options,
    const struct escape_attempt *attempt, struct tally *tally, struct err *err)
{
    struct run_result outside;
    int rc = 0;

    if (options->free)
        rc =
            run_attempt(host, attempt, RUN_FREE, JAIL_ROLE_MAIN, &outside, err);
    for (unsigned int i = 0; rc == 0 && i < JAIL_ROLES; i++) {
        enum jail_role role = (enum jail_role)i;
        struct run_result inside;
        struct outcome outcome = {0};

        if ((options->roles & (1u << i)) == 0)
            continue;
        if (options->jailed)
            rc = run_attempt(host, attempt,
                options->unfiltered ? RUN_UNFILTERED : RUN_JAILED, role,
                &inside, err);
        if (rc < 0)
            break;
        if (options->unfiltered) {
            outcome.verdict =
                came_to(&inside, attempt->outside) ? ALLOWED : HELD;
            describe(&inside, outcome.text, sizeof(outcome.text));
        } else {
            conclude(attempt, role, options->free ? &outside : NULL,
                options->jailed ? &inside : NULL, &outcome);
        }
        print_outcome(options, tally,
            options->jailed ? policy_role_name(role) : "no jail", attempt,
            &outcome);
        /* No role has a part in the other half. */
        if (!options->jailed)
            break;
    }
    if (rc == 0 && options->free && options->jailed && !options->unfiltered &&
        (options->roles & (1u << JAIL_ROLE_MAIN)) != 0 &&
        attempt->behind != 0 && came_to(&outside, attempt->outside))
        rc = try_behind(host, options, attempt, tally, err);
    (void)fflush(stdout);
    return rc;
}

/* What root mounts and names here is to be nobody else's. */
static int leave_host(struct err *err)
{
    const struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(SIGURG, SIG_IGN);
    if (geteuid() != 0)
        return 0;
    if (unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(err, errno, "namespaces of the test's own");
    return 0;
}

static int try_all(
    const struct options *options, struct tally *tally, struct err *err)
{
    struct run_host host;
    int rc = leave_host(err);

    if (rc == 0)
        rc = run_host_init(&host, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(lists); i++) {
        for (size_t j = 0; rc == 0 && j < lists[i]->count; j++) {
            if (is_meant(options, &lists[i]->attempts[j]))
                rc =
                    try_one(&host, options, &lists[i]->attempts[j], tally, err);
        }
    }
    run_host_fini(&host);
    return rc;
}

static void list_all(const struct options *options)
{
    unsigned int count = 0;
    char want[64];

    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        for (size_t j = 0; j < lists[i]->count; j++) {
            const struct escape_attempt *a = &lists[i]->attempts[j];

            if (!is_meant(options, a))
                continue;
            count++;
            (void)printf("%s (%s)\n", a->name, a->gain);
            for (unsigned int role = 0; role < JAIL_ROLES; role++) {
                if ((options->roles & (1u << role)) == 0)
                    continue;
                describe_expected(a, (enum jail_role)role, want, sizeof(want));
                (void)printf("    %s: %s\n",
                    policy_role_name((enum jail_role)role), want);
            }
        }
    }
    (void)printf("%u attempts\n", count);
}

int main(int argc, char **argv)
{
    struct tally tally = {0};
    struct options options;
    struct err err;

    if (parse(argc, argv, &options) < 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    if (options.list) {
        list_all(&options);
        return 0;
    }
    if (try_all(&options, &tally, &err) < 0) {
        (void)fprintf(stderr, "escape: %s\n", err.text);
        return tally.lines == 0 ? skip_all(err.text) : 1;
    }
    if (!options.json)
        (void)printf("1..%u\n# as %s: ", tally.lines,
            geteuid() == 0 ? "root" : "an ordinary user");
    (void)fprintf(options.json ? stderr : stdout,
        "%u %s, %u %s, %u skipped, %u wrong\n", tally.verdicts[HELD], "held",
        tally.verdicts[ALLOWED], options.jailed ? "allowed" : "get through",
        tally.verdicts[SKIPPED], tally.verdicts[WRONG]);
    return tally.verdicts[WRONG] == 0 || options.unfiltered ? 0 : 1;
}
