/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/template_cmd.h"

#include <errno.h>
#include <fts.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "vmm/base/num.h"
#include "vmm/serve/template.h"
#include "vmm/serve/template_build_cmd.h"
#include "vmm/serve/template_freeze_cmd.h"
#include "vmm/serve/template_json.h"
#include "vmm/serve/template_place.h"
#include "vmm/vm_client.h"

static const char help[] =
    "usage: spore template build NAME [options] [-- COMMAND [ARGUMENT...]]\n"
    "       spore template freeze NAME ID [options]\n"
    "       spore template ls [--json]\n"
    "       spore template inspect [--json] NAME\n"
    "       spore template rm NAME...\n"
    "\n"
    "Machines that were booted, set up and frozen, for others to start from.\n"
    "\n"
    "  build     makes one: see spore template build --help\n"
    "  freeze    makes one of a machine that runs\n"
    "  ls        lists them\n"
    "  inspect   says what one is\n"
    "  rm        removes some; machines that were started from one go on\n"
    "\n"
    "They are in $XDG_DATA_HOME/spore/templates, else in\n"
    "~/.local/share/spore/templates.\n"
    "\n"
    "      --json    print JSON\n"
    "  -h, --help    this text\n"
    "\n"
    "Exit status: 0, or 125 if it failed.\n";

static int failed(const struct err *err)
{
    (void)fprintf(stderr, "spore: template: %s\n", err->text);
    return VM_CLIENT_STATUS_FAILED;
}

/* What it takes of the disk, in bytes. */
static uint64_t measure(const char *dir)
{
    char *roots[] = {(char *)(uintptr_t)dir, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    const FTSENT *found;
    uint64_t blocks = 0;

    if (walk == NULL)
        return 0;
    while ((found = fts_read(walk)) != NULL) {
        if (found->fts_info == FTS_F || found->fts_info == FTS_D)
            blocks += (uint64_t)found->fts_statp->st_blocks;
    }
    (void)fts_close(walk);
    return blocks * 512;
}

static void format_time(uint64_t seconds, char ret_text[32])
{
    time_t t = (time_t)seconds;
    struct tm tm;

    if (localtime_r(&t, &tm) == NULL ||
        strftime(ret_text, 32, "%Y-%m-%d %H:%M", &tm) == 0)
        (void)snprintf(ret_text, 32, "-");
}

/* ---- ls ------------------------------------------------------------------ */

static json_t *describe(const struct template *t)
{
    return json_pack("{s:s, s:I, s:I, s:s*, s:s}", "name", t->name, "made",
        (json_int_t)t->made_s, "bytes", (json_int_t)measure(t->dir), "source",
        t->source, "dir", t->dir);
}

static void print_line(const struct template *t)
{
    char made[32];

    format_time(t->made_s, made);
    (void)printf("%-20s  %-16s  %6.1f MiB  %s\n", t->name, made,
        (double)measure(t->dir) / (double)NUM_MIB,
        t->source == NULL ? "-" : t->source);
}

static int print_json(json_t *json, struct err *err)
{
    int rc = json == NULL || json_dumpf(json, stdout, JSON_INDENT(2)) < 0
                 ? err_set(err, ENOMEM, "cannot print JSON")
                 : 0;

    if (rc == 0)
        (void)putchar('\n');
    json_decref(json);
    return rc;
}

static int list(char *const *names, bool is_json, struct err *err)
{
    json_t *all = is_json ? json_array() : NULL;

    if (!is_json && names[0] != NULL)
        (void)printf("%-20s  %-16s  %10s  %s\n", "NAME", "MADE", "SIZE",
            "ROOT FILE SYSTEM");
    for (size_t i = 0; names[i] != NULL; i++) {
        struct template t;
        struct err why;

        /* It may be gone by now, or broken, which is not the others' end. */
        if (template_open(names[i], &t, &why) < 0) {
            (void)failed(&why);
            continue;
        }
        if (is_json)
            (void)json_array_append_new(all, describe(&t));
        else
            print_line(&t);
        template_fini(&t);
    }
    return is_json ? print_json(all, err) : 0;
}

static int do_ls(bool is_json, struct err *err)
{
    char **names;
    int rc = template_place_list(&names, err);

    if (rc < 0)
        return rc;
    rc = list(names, is_json, err);
    for (size_t i = 0; names[i] != NULL; i++)
        free(names[i]);
    free(names);
    return rc;
}

/* ---- inspect ------------------------------------------------------------- */

static void print_words(const char *what, char *const *words)
{
    if (words == NULL || words[0] == NULL)
        return;
    (void)printf("%-12s", what);
    for (size_t i = 0; words[i] != NULL; i++)
        (void)printf(" %s", words[i]);
    (void)putchar('\n');
}

static void print_text(const struct template *t)
{
    char made[32];

    format_time(t->made_s, made);
    (void)printf("%-12s %s\n%-12s %s\n", "name", t->name, "made", made);
    if (t->source != NULL)
        (void)printf("%-12s %s\n", "root", t->source);
    print_words("command", t->argv);
    print_words("environment", t->env);
    if (t->user != NULL)
        (void)printf("%-12s %s\n", "user", t->user);
    if (t->cwd != NULL)
        (void)printf("%-12s %s\n", "folder", t->cwd);
    if (t->tcp_port != 0)
        (void)printf("%-12s %u\n", "port", t->tcp_port);
    if (t->vsock_port != 0)
        (void)printf("%-12s %u\n", "vsock port", t->vsock_port);
    (void)printf(
        "%-12s %s (spore snapshot inspect --store of it " TEMPLATE_SNAPSHOT
        ")\n%-12s %.1f MiB\n",
        "snapshot", t->store, "size",
        (double)measure(t->dir) / (double)NUM_MIB);
}

static int do_inspect(const char *name, bool is_json, struct err *err)
{
    struct template t;
    char *text;
    int rc = template_open(name, &t, err);

    if (rc < 0)
        return rc;
    if (is_json) {
        rc = template_json_write(&t, &text, err);
        if (rc == 0) {
            json_t *json = json_loads(text, 0, NULL);
            json_t *more = describe(&t);

            free(text);
            (void)json_object_update_missing(json, more);
            (void)json_object_set_new(json, "store", json_string(t.store));
            json_decref(more);
            rc = print_json(json, err);
        }
    } else {
        print_text(&t);
    }
    template_fini(&t);
    return rc;
}

/* ---- all ----------------------------------------------------------------- */

static int do_rm(char *const *names, struct err *err)
{
    int first = 0;

    for (size_t i = 0; names[i] != NULL; i++) {
        struct err why;
        int rc = template_place_remove(names[i], first == 0 ? err : &why);

        if (rc < 0 && first < 0)
            (void)failed(&why);
        first = first == 0 ? rc : first;
    }
    return first;
}

static int run(
    const char *verb, char *const *names, bool is_json, struct err *err)
{
    if (strcmp(verb, "ls") == 0 && names[0] == NULL)
        return do_ls(is_json, err);
    if (strcmp(verb, "inspect") == 0 && names[0] != NULL && names[1] == NULL)
        return do_inspect(names[0], is_json, err);
    if (strcmp(verb, "rm") == 0 && names[0] != NULL && !is_json)
        return do_rm(names, err);
    return err_set(err, EINVAL,
        "'%.32s' is no command, or not with these words: see spore template "
        "--help",
        verb);
}

int cmd_template(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
        {"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    bool is_json = false;
    struct err err;
    int opt;

    if (argc > 1 && strcmp(argv[1], "build") == 0)
        return template_build_cmd(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "freeze") == 0)
        return template_freeze_cmd(argc - 1, argv + 1);
    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == 'h') {
            (void)fputs(help, stdout);
            return 0;
        }
        if (opt != 'j') {
            (void)err_set(&err, EINVAL,
                "an option is unknown or lacks its value: see spore template "
                "--help");
            return failed(&err);
        }
        is_json = true;
    }
    if (optind >= argc) {
        (void)fputs(help, stderr);
        return 2;
    }
    return run(argv[optind], argv + optind + 1, is_json, &err) < 0
               ? failed(&err)
               : 0;
}
