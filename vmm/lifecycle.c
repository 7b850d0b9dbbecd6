/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lifecycle.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "vmm/base/fd.h"
#include "vmm/vm_client.h"

#define TIMEOUT_DEFAULT_S "30"
#define TIMEOUT_MAX_S     3600.0

/* How long a monitor that has stopped its machine may take to be gone. */
#define GONE_MS 10000u

struct verb {
    const char *name;
    const char *text; /* what it does, for --help */
    enum http_verb verb;
    const char *path;
    const char *body;
    bool ends; /* done when the machine's monitor is gone */
    bool has_timeout;
    bool prints; /* what the machine says, a line for each */
};

static void print_help(const struct verb *verb)
{
    (void)printf(
        "usage: spore %s [options] ID...\n\n%s\n\n", verb->name, verb->text);
    if (verb->has_timeout)
        (void)puts("      --timeout SECONDS   what it may take before the "
                   "machine is killed; " TIMEOUT_DEFAULT_S " by default");
    (void)puts("  -h, --help              this text\n\n"
               "Exit status: 0, or 125 if it failed for any ID.");
}

/* Waits for the end of the monitor's file: that it is gone. */
static int wait_gone(int fd, struct err *err)
{
    char byte;
    ssize_t n;

    do {
        n = recv(fd, &byte, 1, 0);
    } while (n > 0 || (n < 0 && errno == EINTR));
    if (n < 0 && errno == EAGAIN)
        return err_set(err, ETIMEDOUT, "the machine does not end");
    return 0;
}

static int call(const struct verb *verb, const char *id, const char *body,
    uint32_t timeout_ms, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct http_reply reply;
    int rc = vm_client_connect(id, timeout_ms + GONE_MS, &fd, err);

    if (rc == 0)
        rc = http_client_request(fd, verb->verb, verb->path, body, &reply, err);
    /* A machine that is ending already may be gone before it answers. */
    if (rc == -ECONNREFUSED && verb->ends)
        return 0;
    if (rc < 0)
        return rc;
    rc = http_reply_check(&reply, err);
    if (rc == 0 && verb->prints && reply.body != NULL)
        (void)puts(reply.body);
    http_reply_fini(&reply);
    if (rc == 0 && verb->ends)
        rc = wait_gone(fd, err);
    return rc;
}

static int parse_timeout(const char *text, uint32_t *ret_ms, struct err *err)
{
    char *end;
    double s;

    errno = 0;
    s = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' ||
        !(s >= 0 && s <= TIMEOUT_MAX_S))
        return err_set(
            err, EINVAL, "--timeout %s: it must be 0 to 3600 seconds", text);
    *ret_ms = (uint32_t)(s * 1000);
    return 0;
}

static int parse(const struct verb *verb, int argc, char **argv,
    const char **ret_timeout, bool *ret_help, struct err *err)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
        {"timeout", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
    int opt;

    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == 'h')
            *ret_help = true;
        else if (opt == 't' && verb->has_timeout)
            *ret_timeout = optarg;
        else
            return err_set(err, EINVAL,
                "an option is unknown or lacks its value: see spore %s --help",
                verb->name);
    }
    if (optind >= argc && !*ret_help)
        return err_set(err, EINVAL,
            "a machine's ID is needed: see spore ps for those that run");
    return 0;
}

static int complain(const struct verb *verb, const struct err *err)
{
    (void)fprintf(stderr, "spore: %s: %s\n", verb->name, err->text);
    return VM_CLIENT_STATUS_FAILED;
}

static int run(const struct verb *verb, int argc, char **argv)
{
    const char *timeout = TIMEOUT_DEFAULT_S;
    uint32_t timeout_ms = 0;
    char body[64];
    bool help = false;
    struct err err;
    int status = 0;

    if (parse(verb, argc, argv, &timeout, &help, &err) < 0)
        return complain(verb, &err);
    if (help) {
        print_help(verb);
        return 0;
    }
    if (verb->has_timeout && parse_timeout(timeout, &timeout_ms, &err) < 0)
        return complain(verb, &err);
    (void)snprintf(body, sizeof(body), "{\"timeout_ms\":%u}", timeout_ms);
    for (int i = optind; i < argc; i++) {
        if (call(verb, argv[i], verb->has_timeout ? body : verb->body,
                timeout_ms, &err) < 0)
            status = complain(verb, &err);
    }
    return status;
}

int cmd_pause(int argc, char **argv)
{
    static const struct verb verb = {.name = "pause",
        .text = "Holds the processors of machines; their memory stays.",
        .verb = HTTP_VERB_PATCH,
        .path = "/vm",
        .body = "{\"state\":\"Paused\"}"};

    return run(&verb, argc, argv);
}

int cmd_resume(int argc, char **argv)
{
    static const struct verb verb = {.name = "resume",
        .text = "Lets paused machines run on.",
        .verb = HTTP_VERB_PATCH,
        .path = "/vm",
        .body = "{\"state\":\"Resumed\"}"};

    return run(&verb, argc, argv);
}

int cmd_stop(int argc, char **argv)
{
    static const struct verb verb = {.name = "stop",
        .text = "Ends machines in order: processes are asked to end, file "
                "systems synced.\nReturns when they are gone.",
        .verb = HTTP_VERB_PUT,
        .path = "/spore/stop",
        .ends = true,
        .has_timeout = true};

    return run(&verb, argc, argv);
}

int cmd_kill(int argc, char **argv)
{
    static const struct verb verb = {.name = "kill",
        .text = "Ends machines at once; what they had not synced is lost.",
        .verb = HTTP_VERB_PUT,
        .path = "/spore/kill",
        .body = "{}",
        .ends = true};

    return run(&verb, argc, argv);
}

int cmd_config(int argc, char **argv)
{
    static const struct verb verb = {.name = "config",
        .text = "Prints what machines are made of, as JSON that spore run "
                "--config reads.",
        .verb = HTTP_VERB_GET,
        .path = "/vm/config",
        .prints = true};

    return run(&verb, argc, argv);
}

int cmd_metrics(int argc, char **argv)
{
    static const struct verb verb = {.name = "metrics",
        .text = "Prints what machines and their devices have counted, as JSON.",
        .verb = HTTP_VERB_GET,
        .path = "/spore",
        .prints = true};

    return run(&verb, argc, argv);
}
