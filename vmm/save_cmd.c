/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/save_cmd.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/store.h"
#include "vmm/base/log.h"
#include "vmm/config.h"
#include "vmm/run.h"
#include "vmm/save_client.h"
#include "vmm/vm_client.h"

#define CLONES_MAX     10000u
#define CLONES_AT_ONCE 8u

struct options {
    const char *id;
    const char *name;
    const char *store;
    uint32_t count;
    int64_t level; /* -1: the top */
    bool diff;
    bool no_sync;
    bool track;
    bool share;
    bool is_json;
    bool allow_duplicate;
    bool help;
};

static const char save_help[] =
    "usage: spore save [options] ID\n\n"
    "Freezes a machine that runs into a snapshot; it goes on running. Prints "
    "the\nsnapshot's id.\n\n"
    "      --name NAME   a name for it\n"
    "      --store DIR   the store (see spore snapshot --help)\n"
    "      --diff        only what changed since the machine was last saved\n"
    "                    with --track, or restored with --track\n"
    "      --track       follow writes from here on, so that a diff can come "
    "next\n"
    "      --share       look for pages that the store has already\n"
    "      --no-sync     do not wait until it is on the disk\n"
    "      --json        JSON: id, stopped_us, took_us, pages_written\n"
    "  -h, --help        this text\n\n"
    "Exit status: 0, or 125 if it failed.\n";

static const char push_help[] =
    "usage: spore push ID\n\n"
    "Notes where a machine is, as a level that spore reset goes back to. The "
    "first\nis level 0. Prints the level.\n\n"
    "  -h, --help        this text\n\n"
    "Exit status: 0, or 125 if it failed.\n";

static const char reset_help[] =
    "usage: spore reset ID [LEVEL]\n\n"
    "Puts a machine back to where it was at a push: the latest, or LEVEL; "
    "those\nabove it are lost.\n\n"
    "  -h, --help        this text\n\n"
    "Exit status: 0, or 125 if it failed.\n";

static const char clone_help[] =
    "usage: spore clone [-n N] [--allow-duplicate] ID\n\n"
    "Makes N machines (1 without) that go on from where ID is, each a process "
    "of its\nown; ID goes on running. Prints their ids.\n\n"
    "  -n, --count N     how many\n"
    "      --allow-duplicate\n"
    "                    also if the guest has no generation device: then they "
    "draw\n"
    "                    the same random numbers as ID\n"
    "  -h, --help        this text\n\n"
    "Exit status: 0, or 125 if it failed.\n";

static int complain(const char *verb, const struct err *err)
{
    (void)fprintf(stderr, "spore: %s: %s\n", verb, err->text);
    return VM_CLIENT_STATUS_FAILED;
}

static int parse_number(
    const char *text, uint64_t max, uint64_t *ret_n, struct err *err)
{
    char *end;
    unsigned long long n;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || n > max)
        return err_set(err, EINVAL, "'%.32s' is no number from 0 to %llu", text,
            (unsigned long long)max);
    *ret_n = n;
    return 0;
}

static int parse_count(struct options *o, struct err *err)
{
    uint64_t n = 0;
    int rc = parse_number(optarg, CLONES_MAX, &n, err);

    o->count = (uint32_t)n;
    if (rc == 0 && n == 0)
        return err_set(err, EINVAL, "-n 0: how many are to be made?");
    return rc;
}

/* `allowed` has the short names of the options that the verb knows. */
static int parse(struct options *o, int argc, char **argv, const char *allowed,
    int words_max, struct err *err)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
        {"name", required_argument, NULL, 'N'},
        {"store", required_argument, NULL, 's'},
        {"diff", no_argument, NULL, 'd'}, {"track", no_argument, NULL, 't'},
        {"share", no_argument, NULL, 'S'}, {"no-sync", no_argument, NULL, 'y'},
        {"json", no_argument, NULL, 'j'},
        {"count", required_argument, NULL, 'n'},
        {"allow-duplicate", no_argument, NULL, 'A'}, {NULL, 0, NULL, 0}};
    int opt;
    int rc = 0;

    *o = (struct options){.count = 1, .level = -1};
    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while (rc == 0 &&
           (opt = getopt_long(argc, argv, ":hn:", options, NULL)) != -1) {
        if (opt != 'h' && strchr(allowed, opt) == NULL)
            return err_set(err, EINVAL,
                "an option is unknown or lacks its value: see spore %s --help",
                argv[0]);
        switch (opt) {
        case 'N':
            o->name = optarg;
            break;
        case 's':
            o->store = optarg;
            break;
        case 'd':
            o->diff = true;
            break;
        case 't':
            o->track = true;
            break;
        case 'S':
            o->share = true;
            break;
        case 'y':
            o->no_sync = true;
            break;
        case 'j':
            o->is_json = true;
            break;
        case 'n':
            rc = parse_count(o, err);
            break;
        case 'A':
            o->allow_duplicate = true;
            break;
        default:
            o->help = true;
            return 0;
        }
    }
    if (rc < 0)
        return rc;
    if (argc - optind < 1 || argc - optind > words_max)
        return err_set(err, EINVAL,
            "a machine's ID is needed: see spore ps for those that run");
    o->id = argv[optind];
    if (argc - optind == 2) {
        uint64_t level = 0;

        rc = parse_number(argv[optind + 1], UINT32_MAX, &level, err);
        o->level = (int64_t)level;
    }
    return rc;
}

static int call_json(const char *id, const char *path, json_t *body,
    json_t **ret_reply, struct err *err)
{
    struct http_reply reply;
    char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
    int rc;

    json_decref(body);
    if (text == NULL)
        return err_sys(err, ENOMEM, "request");
    rc = vm_client_call(id, HTTP_VERB_PUT, path, text, &reply, err);
    free(text);
    if (rc < 0)
        return rc;
    if (ret_reply != NULL) {
        *ret_reply = reply.body == NULL
                         ? NULL
                         : json_loadb(reply.body, reply.body_len, 0, NULL);
        if (*ret_reply == NULL)
            rc = err_set(err, EPROTO, "%s answers with no JSON", id);
    }
    http_reply_fini(&reply);
    return rc;
}

static int save(const struct options *o, struct save_client_result *ret_result,
    struct err *err)
{
    const struct save_client_request request = {.id = o->id,
        .store = o->store,
        .name = o->name,
        .diff = o->diff,
        .sync = !o->no_sync,
        .track = o->track || o->diff,
        .share = o->share};

    return save_client_run(&request, ret_result, err);
}

static void print_save(const struct save_client_result *result, bool is_json)
{
    char id[SNAPSHOT_ID_TEXT_SIZE];

    snapshot_id_to_text(&result->id, id);
    if (is_json)
        (void)printf("{\"id\":\"%s\",\"stopped_us\":%llu,\"took_us\":%llu,"
                     "\"pages_written\":%llu}\n",
            id, (unsigned long long)result->stopped_us,
            (unsigned long long)result->took_us,
            (unsigned long long)result->pages_written);
    else
        (void)puts(id);
}

int cmd_save(int argc, char **argv)
{
    struct save_client_result result;
    struct options o;
    struct err err;

    if (parse(&o, argc, argv, "NsdtSyj", 1, &err) < 0)
        return complain("save", &err);
    if (o.help) {
        (void)fputs(save_help, stdout);
        return 0;
    }
    if (save(&o, &result, &err) < 0)
        return complain("save", &err);
    print_save(&result, o.is_json);
    return 0;
}

int cmd_push(int argc, char **argv)
{
    struct options o;
    struct err err;
    json_t *reply;

    if (parse(&o, argc, argv, "", 1, &err) < 0)
        return complain("push", &err);
    if (o.help) {
        (void)fputs(push_help, stdout);
        return 0;
    }
    if (call_json(o.id, "/spore/push", json_object(), &reply, &err) < 0)
        return complain("push", &err);
    (void)printf("%lld\n",
        (long long)json_integer_value(json_object_get(reply, "level")));
    json_decref(reply);
    return 0;
}

int cmd_reset(int argc, char **argv)
{
    struct options o;
    struct err err;
    json_t *body;

    if (parse(&o, argc, argv, "", 2, &err) < 0)
        return complain("reset", &err);
    if (o.help) {
        (void)fputs(reset_help, stdout);
        return 0;
    }
    body = o.level < 0 ? json_object() : json_pack("{s:I}", "level", o.level);
    if (call_json(o.id, "/spore/reset", body, NULL, &err) < 0)
        return complain("reset", &err);
    return 0;
}

/* `spore restore ...` is `spore run --from ...`. */
int cmd_restore(int argc, char **argv)
{
    char **args = calloc((size_t)argc + 2, sizeof(args[0]));
    char run[] = "run";
    char from[] = "--from";
    int status;

    if (args == NULL)
        return VM_CLIENT_STATUS_FAILED;
    args[0] = run;
    args[1] = from;
    for (int i = 1; i < argc; i++)
        args[i + 1] = argv[i];
    if (argc < 2 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        (void)fputs("usage: spore restore SNAPSHOT [options of spore run] "
                    "[-- COMMAND [ARG...]]\n\n"
                    "The same as spore run --from SNAPSHOT: see spore run "
                    "--help.\n",
            argc < 2 ? stderr : stdout);
        free(args);
        return argc < 2 ? 2 : 0;
    }
    status = cmd_run(argc + 1, args);
    free(args);
    return status;
}

/* ---- clones -------------------------------------------------------------- */

/* A folder in memory for a snapshot that is gone when its clones run. */
static int make_store(char ret_path[PATH_MAX], struct err *err)
{
    const char *dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    (void)snprintf(ret_path, PATH_MAX, "%s/spore-clone-XXXXXX", dir);
    if (mkdtemp(ret_path) == NULL)
        return err_sys(err, errno, "%s", ret_path);
    return 0;
}

static void drop_store(const char *path)
{
    struct store_entry *entries;
    struct store store;
    size_t count;

    if (store_open(&store, path, false, NULL) == 0) {
        if (store_list(&store, &entries, &count, NULL) == 0) {
            for (size_t i = 0; i < count; i++) {
                if (store_remove(&store, &entries[i].id, NULL) < 0)
                    log_warn("clone", "left behind: %s", path);
            }
            free(entries);
        }
        store_close(&store);
    }
    (void)rmdir(path);
}

static pid_t start_clone(char *store, char *snapshot)
{
    char *const args[] = {(char[]){"spore"}, (char[]){"run"},
        (char[]){"--from"}, snapshot, (char[]){"--store"}, store,
        (char[]){"--detach"}, (char[]){"--allow-duplicate"},
        /* A store for this once, which is about to go. */
        (char[]){"--prefetch"}, (char[]){"off"}, NULL};
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    (void)execv("/proc/self/exe", args);
    _exit(VM_CLIENT_STATUS_FAILED);
}

static int wait_clone(struct err *err)
{
    int status;

    if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(err, ECHILD, "a clone did not start: see above");
    return 0;
}

/* A few at a time: each is up sooner than if all were in each other's way. */
static int start_clones(
    uint32_t count, char *store, char *snapshot, struct err *err)
{
    uint32_t started = 0;
    uint32_t ended = 0;
    int first = 0;
    int rc = 0;

    while (first == 0 && started < count) {
        if (start_clone(store, snapshot) < 0) {
            first = err_sys(err, errno, "cannot start a process");
            break;
        }
        if (++started - ended == CLONES_AT_ONCE) {
            first = wait_clone(err);
            ended++;
        }
    }
    for (; ended < started; ended++) {
        rc = wait_clone(first == 0 ? err : NULL);
        first = first == 0 ? rc : first;
    }
    return first;
}

/* ID goes on, so that even one clone is the second of its kind. */
static int check_generation(const char *id, struct err *err)
{
    struct config config;
    struct http_reply reply;
    int rc = vm_client_call(id, HTTP_VERB_GET, "/vm/config", NULL, &reply, err);

    if (rc < 0)
        return rc;
    config_init(&config);
    if (reply.body == NULL)
        rc = err_set(err, EPROTO, "%s does not say what it is made of", id);
    else
        rc = config_load_json(&config, reply.body, reply.body_len, id, err);
    if (rc == 0 && !config_has_generation(&config))
        rc = err_set(err, ENOTSUP,
            "%s has no generation device (it was started with --discovery "
            "cmdline): its clones would draw the same random numbers: give "
            "--allow-duplicate if that is no harm",
            id);
    config_fini(&config);
    http_reply_fini(&reply);
    return rc;
}

static int clone_machine(const struct options *o, struct err *err)
{
    char store[PATH_MAX];
    struct options save_options = {
        .id = o->id, .store = store, .no_sync = true};
    struct save_client_result result;
    char snapshot[SNAPSHOT_ID_TEXT_SIZE];
    int rc = o->allow_duplicate ? 0 : check_generation(o->id, err);

    if (rc == 0)
        rc = make_store(store, err);
    if (rc < 0)
        return rc;
    rc = save(&save_options, &result, err);
    if (rc == 0) {
        snapshot_id_to_text(&result.id, snapshot);
        rc = start_clones(o->count, store, snapshot, err);
    }
    drop_store(store);
    return rc;
}

int cmd_clone(int argc, char **argv)
{
    struct options o;
    struct err err;

    if (parse(&o, argc, argv, "nA", 1, &err) < 0)
        return complain("clone", &err);
    if (o.help) {
        (void)fputs(clone_help, stdout);
        return 0;
    }
    (void)fflush(stdout);
    if (clone_machine(&o, &err) < 0)
        return complain("clone", &err);
    return 0;
}
