/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot_cmd.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshot/flatten.h"
#include "snapshot/snap.h"
#include "snapshot/store.h"
#include "snapshot/verify.h"
#include "vmm/base/cc.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/snapshot_show.h"

#define STATUS_DIFFERENT 1
#define STATUS_USAGE     2
#define STATUS_FAILED    125

#define PROGRESS_AFTER_NS (2 * CLOCK_NS_PER_S)
#define PROGRESS_EVERY_NS (200 * CLOCK_NS_PER_MS)

static const char usage[] =
    "usage: spore snapshot ls [--json]\n"
    "       spore snapshot inspect SNAPSHOT [--json]\n"
    "       spore snapshot verify SNAPSHOT... | --all\n"
    "       spore snapshot diff SNAPSHOT SNAPSHOT [--json]\n"
    "       spore snapshot rm SNAPSHOT...\n"
    "       spore snapshot flatten SNAPSHOT [--name NAME] [--no-sync]\n"
    "\n"
    "Looks after the snapshots of a store. A SNAPSHOT is a name, an id, or "
    "the\n"
    "first four digits or more of an id.\n"
    "\n"
    "  --store DIR  the store; else $XDG_DATA_HOME/spore/snapshots, else\n"
    "               ~/.local/share/spore/snapshots\n"
    "  --json       JSON instead of text\n"
    "  --all        every snapshot of the store\n"
    "  --name NAME  a name for the new snapshot\n"
    "  --no-sync    do not wait until it is on the disk\n"
    "  --help       print this text\n"
    "\n"
    "Exit status: 0; 1 if a page or a file is damaged, or (diff) something\n"
    "differs (diff); 2 for a bad command line; 125 for other failures.\n";

struct options {
    const char *store_path;
    const char *name;
    bool is_json;
    bool is_all;
    bool no_sync;
    char **refs;
    int ref_count;
};

/* ---- progress ---- */

struct progress {
    const char *text;
    uint64_t started;
    uint64_t shown; /* when last; 0: not yet */
};

static void show_progress(void *arg, uint64_t done, uint64_t pages)
{
    struct progress *p = arg;
    uint64_t now = clock_now_ns();

    if (now - p->started < PROGRESS_AFTER_NS ||
        now - p->shown < PROGRESS_EVERY_NS || !isatty(STDERR_FILENO))
        return;
    p->shown = now;
    (void)fprintf(stderr, "\r\033[K%s ... %llu %%", p->text,
        (unsigned long long)(done * 100 / pages));
}

static void end_progress(const struct progress *p)
{
    if (p->shown != 0)
        (void)fputs("\r\033[K", stderr);
}

/* ---- the commands ---- */

static int failed(int rc, const struct err *err)
{
    (void)fprintf(stderr, "spore: snapshot: %s\n", err->text);
    return rc == -EBADMSG ? STATUS_DIFFERENT : STATUS_FAILED;
}

static int open_ref(const struct store *store, const char *ref,
    struct snap *ret_snap, struct err *err)
{
    struct snapshot_id id;
    int rc = store_find(store, ref, &id, err);

    return rc < 0 ? rc : snap_open(store, &id, ret_snap, err);
}

static int do_ls(struct store *store, const struct options *o)
{
    struct err err;

    /* A store that others may write to is read all the same. */
    (void)store_clean(store, NULL);
    if (snapshot_show_list(store, o->is_json, stdout, &err) < 0) {
        (void)failed(0, &err);
        return STATUS_FAILED;
    }
    return 0;
}

static int do_inspect(struct store *store, const struct options *o)
{
    struct snap snap;
    struct err err;
    int rc = open_ref(store, o->refs[0], &snap, &err);

    if (rc < 0)
        return failed(rc, &err);
    rc = snapshot_show_one(&snap, o->is_json, stdout, &err);
    snap_close(&snap);
    return rc < 0 ? failed(rc, &err) : 0;
}

static void print_verified(const char *ref, const struct snap *snap)
{
    uint64_t clusters = 0;

    (void)printf("%s: %llu pages are what was saved", ref,
        (unsigned long long)snap->index.pages);
    for (uint32_t i = 0; i < snap->disk_count; i++)
        clusters += page_index_data_pages(&snap->disks[i].map);
    if (snap->disk_count > 0)
        (void)printf(", and %llu of disks", (unsigned long long)clusters);
    (void)putchar('\n');
}

/* Prints how it is with one snapshot. */
static int verify_one(const struct store *store, const char *ref)
{
    struct progress progress = {.text = ref, .started = clock_now_ns()};
    const struct verify_progress step = {
        .step = show_progress, .arg = &progress};
    struct snap snap;
    struct err err;
    int rc = open_ref(store, ref, &snap, &err);

    if (rc == 0) {
        rc = verify_snap(&snap, &step, &err);
        end_progress(&progress);
        if (rc == 0)
            print_verified(ref, &snap);
        else
            (void)err_wrap(&err, rc, "%s", ref);
        snap_close(&snap);
    }
    return rc < 0 ? failed(rc, &err) : 0;
}

static int verify_all(const struct store *store)
{
    struct store_entry *entries;
    int status = 0;
    size_t count;
    struct err err;

    if (store_list(store, &entries, &count, &err) < 0)
        return failed(0, &err);
    for (size_t i = 0; i < count; i++) {
        char id[SNAPSHOT_ID_TEXT_SIZE];
        int one;

        snapshot_id_to_text(&entries[i].id, id);
        one = verify_one(
            store, entries[i].name[0] == '\0' ? id : entries[i].name);
        status = one > status ? one : status;
    }
    free(entries);
    return status;
}

static int do_verify(struct store *store, const struct options *o)
{
    int status = 0;

    if (o->is_all)
        return verify_all(store);
    for (int i = 0; i < o->ref_count; i++) {
        int one = verify_one(store, o->refs[i]);

        status = one > status ? one : status;
    }
    return status;
}

static int do_diff(struct store *store, const struct options *o)
{
    bool differs = false;
    struct snap a;
    struct snap b;
    struct err err;
    int rc = open_ref(store, o->refs[0], &a, &err);

    if (rc < 0)
        return failed(0, &err);
    rc = open_ref(store, o->refs[1], &b, &err);
    if (rc == 0) {
        rc = snapshot_show_diff(&a, &b, o->is_json, stdout, &differs, &err);
        snap_close(&b);
    }
    snap_close(&a);
    if (rc < 0)
        return failed(0, &err);
    return differs ? STATUS_DIFFERENT : 0;
}

static int do_rm(struct store *store, const struct options *o)
{
    int status = 0;

    (void)store_clean(store, NULL);
    for (int i = 0; i < o->ref_count; i++) {
        struct snapshot_id id;
        struct err err;

        if (store_find(store, o->refs[i], &id, &err) < 0 ||
            store_remove(store, &id, &err) < 0)
            status = failed(0, &err);
    }
    return status;
}

static int do_flatten(struct store *store, const struct options *o)
{
    struct progress progress = {.text = "copying", .started = clock_now_ns()};
    const struct verify_progress step = {
        .step = show_progress, .arg = &progress};
    char text[SNAPSHOT_ID_TEXT_SIZE];
    struct snapshot_id id = {0};
    struct snap snap;
    struct err err;
    int rc = open_ref(store, o->refs[0], &snap, &err);

    if (rc < 0)
        return failed(rc, &err);
    rc = flatten_snap(&snap, store, o->name, !o->no_sync, &step, &id, &err);
    end_progress(&progress);
    snap_close(&snap);
    if (rc < 0)
        return failed(rc, &err);
    snapshot_id_to_text(&id, text);
    (void)puts(text);
    return 0;
}

static const struct verb {
    const char *name;
    int (*run)(struct store *store, const struct options *o);
    int refs_min;
    int refs_max;
    const char *options; /* letters of those that it takes */
} verbs[] = {
    {"ls", do_ls, 0, 0, "j"},
    {"inspect", do_inspect, 1, 1, "j"},
    {"verify", do_verify, 1, INT32_MAX, "a"},
    {"diff", do_diff, 2, 2, "j"},
    {"rm", do_rm, 1, INT32_MAX, ""},
    {"flatten", do_flatten, 1, 1, "nS"},
};

/* ---- the command line ---- */

static int bad_usage(const char *problem, const char *what)
{
    (void)fprintf(stderr, "spore: snapshot: %s%s: see spore snapshot --help\n",
        problem, what);
    return STATUS_USAGE;
}

/* 0, -1 for --help, or a status. */
static int read_options(
    const struct verb *verb, int argc, char **argv, struct options *o)
{
    static const struct option long_options[] = {
        {"store", required_argument, NULL, 's'},
        {"name", required_argument, NULL, 'n'},
        {"json", no_argument, NULL, 'j'},
        {"all", no_argument, NULL, 'a'},
        {"no-sync", no_argument, NULL, 'S'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int opt;

    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
        if (opt == 'h')
            return -1;
        if (opt == ':')
            return bad_usage("a value is missing behind ", argv[optind - 1]);
        if (opt == '?')
            return bad_usage("unknown option ", argv[optind - 1]);
        if (opt != 's' && strchr(verb->options, opt) == NULL)
            return bad_usage(verb->name, " does not take one of the options");
        if (opt == 's')
            o->store_path = optarg;
        else if (opt == 'n')
            o->name = optarg;
        o->is_json = o->is_json || opt == 'j';
        o->is_all = o->is_all || opt == 'a';
        o->no_sync = o->no_sync || opt == 'S';
    }
    o->refs = argv + optind;
    o->ref_count = argc - optind;
    if (o->is_all
            ? o->ref_count != 0
            : o->ref_count < verb->refs_min || o->ref_count > verb->refs_max)
        return bad_usage(verb->name, ": not so many snapshots as it is given");
    return 0;
}

static int run_verb(const struct verb *verb, int argc, char **argv)
{
    struct options options = {0};
    struct store store;
    struct err err;
    int status = read_options(verb, argc, argv, &options);
    int rc;

    if (status < 0) {
        (void)fputs(usage, stdout);
        return 0;
    }
    if (status > 0)
        return status;
    rc = store_open(&store, options.store_path, false, &err);
    /* Nothing was ever saved: that is no failure of a list. */
    if (rc == -ENOENT && verb->run == do_ls && options.store_path == NULL) {
        (void)fputs(options.is_json ? "[]\n" : "", stdout);
        return 0;
    }
    if (rc < 0)
        return failed(0, &err);
    status = verb->run(&store, &options);
    store_close(&store);
    return status;
}

int cmd_snapshot(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    if (name == NULL) {
        (void)fputs(usage, stderr);
        return STATUS_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        (void)fputs(usage, stdout);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return run_verb(&verbs[i], argc - 1, argv + 1);
    }
    return bad_usage("there is no command ", name);
}
