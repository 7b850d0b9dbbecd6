/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/campaign_command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"

#ifndef SPORE_FUZZ_LIBDIR
#define SPORE_FUZZ_LIBDIR "/usr/local/lib/spore"
#endif
#ifndef SPORE_FUZZ_BINDIR
#define SPORE_FUZZ_BINDIR "/usr/local/bin"
#endif

#define MUTATOR "libspore-mutator.so"

#define CORE_PATTERN "/proc/sys/kernel/core_pattern"

/* ---- what of ours afl-fuzz needs ----------------------------------------- */

/* `dir`/`name` if it is there; the caller frees. */
static char *in_dir(const char *dir, const char *name)
{
    char *path;

    if (dir == NULL || asprintf(&path, "%s/%s", dir, name) < 0)
        return NULL;
    if (access(path, R_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/*
 * Beside this program, as in the folder it is built in, or where it is
 * installed; *ret_dir is the folder without the name.
 */
static int find_own(
    const char *name, const char *installed, char **ret_dir, struct err *err)
{
    const char *given = getenv("AFL_PATH");
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;
    char *path;

    self[n > 0 ? n : 0] = '\0';
    slash = strrchr(self, '/');
    if (slash != NULL)
        *slash = '\0';
    path = in_dir(given, name);
    if (path == NULL)
        path = in_dir(self, name);
    if (path == NULL)
        path = in_dir(installed, name);
    if (path == NULL)
        return err_set(err, ENOENT,
            "%s is neither in %s nor in %s: install it, or name its folder in "
            "AFL_PATH",
            name, self, installed);
    *strrchr(path, '/') = '\0';
    *ret_dir = path;
    return 0;
}

/* ---- the environment ----------------------------------------------------- */

/* What the user has set is the user's. */
static void set_default(struct words *env, const char *variable)
{
    char name[64];

    (void)snprintf(
        name, sizeof(name), "%.*s", (int)strcspn(variable, "="), variable);
    if (getenv(name) == NULL)
        words_add(env, variable);
}

/* Whether core files go to a program, which afl-fuzz takes as a hindrance. */
static bool has_core_handler(void)
{
    uint8_t *text = NULL;
    size_t size = 0;
    bool has;

    if (fd_read_file(CORE_PATTERN, 4096, &text, &size, NULL) < 0)
        return false;
    has = text[0] == '|';
    free(text);
    return has;
}

static void make_env(
    const struct campaign_options *o, const char *afl_path, struct words *env)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (afl_path != NULL)
        words_addf(env, "AFL_PATH=%s", afl_path);
    /* Crashes are in the guest: neither core files nor their handlers matter,
     * and clocks that change only make numbers less exact. */
    set_default(env, "AFL_SKIP_CPUFREQ=1");
    if (has_core_handler())
        set_default(env, "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1");
    if (!o->has_screen)
        set_default(env, "AFL_NO_UI=1");
    /* A CPU each where there are enough. With -X and -Y there have to be. */
    if (o->with == CAMPAIGN_AFL && cpus > 0 && o->jobs > (unsigned long)cpus)
        set_default(env, "AFL_NO_AFFINITY=1");
    else if (getenv("AFL_NO_AFFINITY") == NULL)
        set_default(env, "AFL_TRY_AFFINITY=1");
    /* spore-afl has neither a map nor a runtime that afl-fuzz could see. */
    if (o->with == CAMPAIGN_AFL)
        set_default(env, "AFL_SKIP_BIN_CHECK=1");
}

/* ---- the command line ---------------------------------------------------- */

struct campaign_name campaign_job_name(
    const struct campaign_options *o, uint32_t number)
{
    struct campaign_name name;

    if (o->jobs == 1)
        (void)snprintf(name.text, sizeof(name.text), "default");
    else
        (void)snprintf(name.text, sizeof(name.text), "%u", number);
    return name;
}

/* A path in which afl-fuzz sees that it is one. */
static void add_target(const struct campaign_options *o, struct words *argv)
{
    words_addf(argv, "%s%s", strchr(o->dir, '/') == NULL ? "./" : "", o->dir);
}

static void add_options(
    const struct campaign_options *o, uint32_t number, struct words *argv)
{
    words_add(argv, "-i");
    words_add(argv, o->in);
    words_add(argv, "-o");
    words_add(argv, o->out);
    if (o->jobs > 1) {
        words_add(argv, number == 0 ? "-M" : "-S");
        words_add(argv, campaign_job_name(o, number).text);
    }
    if (o->with == CAMPAIGN_NYX)
        words_add(argv, o->jobs > 1 ? "-Y" : "-X");
    if (o->timeout_ms != 0) {
        words_add(argv, "-t");
        words_addf(argv, "%u", o->timeout_ms);
    }
    if (o->seconds != 0) {
        words_add(argv, "-V");
        words_addf(argv, "%llu", (unsigned long long)o->seconds);
    }
    if (o->dict != NULL) {
        words_add(argv, "-x");
        words_add(argv, o->dict);
    }
    for (size_t i = 0; o->more != NULL && o->more[i] != NULL; i++)
        words_add(argv, o->more[i]);
}

/* What keeps inputs alike long enough for levels. */
static int add_mutator(struct words *env, struct err *err)
{
    char *dir = NULL;
    int rc = 0;

    if (getenv("AFL_CUSTOM_MUTATOR_LIBRARY") == NULL)
        rc = find_own(MUTATOR, SPORE_FUZZ_LIBDIR, &dir, err);
    if (dir != NULL)
        words_addf(env, "AFL_CUSTOM_MUTATOR_LIBRARY=%s/" MUTATOR, dir);
    free(dir);
    return rc;
}

int campaign_command_make(const struct campaign_options *options,
    uint32_t number, struct campaign_command *ret_command, struct err *err)
{
    struct campaign_command c = {0};
    bool is_nyx = options->with == CAMPAIGN_NYX;
    char *dir = NULL;
    int rc = is_nyx ? find_own("libnyx.so", SPORE_FUZZ_LIBDIR, &dir, err)
                    : find_own("spore-afl", SPORE_FUZZ_BINDIR, &dir, err);

    if (rc == 0 && options->has_levels)
        rc = add_mutator(&c.env, err);
    if (rc < 0) {
        free(dir);
        words_fini(&c.env);
        return rc;
    }
    make_env(options, is_nyx ? dir : NULL, &c.env);
    words_add(&c.argv, "afl-fuzz");
    add_options(options, number, &c.argv);
    words_add(&c.argv, "--");
    if (!is_nyx)
        words_addf(&c.argv, "%s/spore-afl", dir);
    add_target(options, &c.argv);
    free(dir);
    if (c.argv.failed || c.env.failed) {
        campaign_command_fini(&c);
        return err_sys(err, ENOMEM, "afl-fuzz");
    }
    *ret_command = c;
    return 0;
}

void campaign_command_fini(struct campaign_command *command)
{
    words_fini(&command->argv);
    words_fini(&command->env);
}
