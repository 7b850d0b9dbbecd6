/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/run_template.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/run.h"
#include "vmm/run_options.h"
#include "vmm/serve/pool.h"
#include "vmm/serve/run_auto.h"
#include "vmm/serve/template.h"
#include "vmm/serve/zygote.h"

#define STATUS_TIMEOUT 124
#define STATUS_FAILED  125

/* How long a zygote that commands share stays when nobody calls. */
#define ZYGOTE_IDLE_NS (600 * CLOCK_NS_PER_S)

struct run {
    struct run_options options;
    struct template template;
    const char **zygote_options; /* for one of our own; NULL: the shared one */
    struct loop loop;
    struct pool *pool;
    struct pool_waiter waiter;
    struct session session;
    struct loop_timer timeout;
    bool is_done; /* `status` stands */
    int status;
};

static void finish(struct run *run, int status)
{
    if (!run->is_done)
        run->status = status;
    run->is_done = true;
    if (run->loop.epoll_fd >= 0)
        loop_stop(&run->loop);
}

static void complain(struct run *run, const char *text)
{
    if (run->is_done)
        return;
    session_restore_tty(&run->session);
    (void)fprintf(stderr, "spore: run: %s\n", text);
}

static void fail(struct run *run, const char *text)
{
    complain(run, text);
    finish(run, STATUS_FAILED);
}

/* ---- the command --------------------------------------------------------- */

static void on_done(void *opaque, const struct guest_exec_result *result)
{
    struct run *run = opaque;

    if (result->is_error && result->text[0] != '\0')
        complain(run, result->text);
    finish(run, result->status);
}

static void on_signal(void *opaque, int signal)
{
    finish(opaque, 128 + signal);
}

static void on_timeout(void *opaque)
{
    struct run *run = opaque;
    char text[96];

    (void)snprintf(text, sizeof(text), "timed out after %.3g s",
        (double)run->options.timeout_ns / (double)CLOCK_NS_PER_S);
    complain(run, text);
    finish(run, STATUS_TIMEOUT);
}

/* ---- the clone ----------------------------------------------------------- */

static void on_end(void *opaque, enum clone_end end, const char *text)
{
    struct run *run = opaque;
    char line[512];

    (void)end;
    (void)snprintf(
        line, sizeof(line), "the machine ended before the command: %s", text);
    fail(run, line);
}

static void on_clone(
    void *opaque, struct clone *clone, const struct err *problem)
{
    struct run *run = opaque;
    const struct clone_host host = {.on_end = on_end, .opaque = run};
    struct err err;
    int fd;
    int rc;

    if (clone == NULL) {
        fail(run, problem->text);
        return;
    }
    clone_watch(clone, &host);
    rc = clone_call_agent(clone, 0, &fd, &err);
    if (rc == 0)
        rc = session_start(&run->session, fd, &run->options.command, &err);
    if (rc < 0)
        fail(run, err.text);
}

/* ---- the template's part ------------------------------------------------- */

/* A jail like any other: what others have started may have made it. */
static bool has_plain_jail(const struct run_options *o)
{
    struct jail_options jail;

    return o->jail.jail.level == JAIL_DEFAULT &&
           jail_options_init(&jail, NULL) == 0 &&
           memcmp(&jail, &o->jail, sizeof(jail)) == 0;
}

/* Nothing that would have to be told to who makes the clones. */
static bool has_plain_clones(const struct run_options *o)
{
    return o->given == 0 && o->verify == RUN_VERIFY_AUTO && !o->freeze &&
           !o->allow_changed_disks && o->tracking == MACHINE_TRACK_LATER;
}

/* What is about another kind of run. */
static int check_options(const struct run_options *o, struct err *err)
{
    if (o->from != NULL || o->store != NULL || o->detach || o->no_boot ||
        o->id != NULL || o->api_sock != NULL || o->log_file != NULL ||
        o->console != RUN_CONSOLE_TAIL || o->page_server != NULL)
        return err_set(err, EINVAL,
            "a template's machine has no id, socket or console: leave --id, "
            "--api-sock, --detach, --log-file, --no-boot, --console, --from "
            "and --store out, or see spore restore");
    return 0;
}

/* What the template says, where the command line does not. */
static int complete_command(struct run *run, struct err *err)
{
    struct session_command *c = &run->options.command;
    const struct template *t = &run->template;
    const char *given[SESSION_ENV_MAX];
    uint32_t given_count = c->env_count;
    int rc = 0;

    memcpy(given, c->env, given_count * sizeof(given[0]));
    c->env_count = 0;
    for (size_t i = 0; rc == 0 && t->env != NULL && t->env[i] != NULL; i++)
        rc = session_add_env(c, t->env[i], err);
    /* Later ones win. */
    for (uint32_t i = 0; rc == 0 && i < given_count; i++)
        rc = session_add_env(c, given[i], err);
    if (c->cwd == NULL)
        c->cwd = t->cwd;
    if (c->user == NULL)
        c->user = t->user;
    if (c->argv == NULL && t->argv != NULL && t->argv[0] != NULL)
        c->argv = (const char *const *)(void *)t->argv;
    return rc;
}

/* The words before the template's name, as they were given. */
static int copy_options(
    struct run *run, int argc, char **argv, const char *name, struct err *err)
{
    int count = 0;

    run->zygote_options = calloc((size_t)argc + 1, sizeof(char *));
    if (run->zygote_options == NULL)
        return err_sys(err, ENOMEM, "options");
    for (int i = 1; i < argc && argv[i] != name; i++)
        run->zygote_options[count++] = argv[i];
    return 0;
}

static int reach_zygote(struct run *run, int *ret_fd, struct err *err)
{
    const struct zygote_config own = {.template = &run->template,
        .run_options = run->zygote_options,
        .jail = &run->options.jail};
    const struct zygote_config shared = {
        .template = &run->template, .keep = 1, .idle_ns = ZYGOTE_IDLE_NS};

    return run->zygote_options != NULL || !has_plain_jail(&run->options)
               ? zygote_start(&own, ret_fd, err)
               : zygote_reach(&shared, ret_fd, err);
}

static int start(struct run *run, struct err *err)
{
    struct pool_config config = {.loop = &run->loop, .max = 1};
    struct clone *clone = NULL;
    int rc = reach_zygote(run, &config.zygote_fd, err);

    if (rc < 0)
        return rc;
    rc = loop_init(&run->loop, err);
    if (rc == 0)
        rc = pool_open(&config, &run->pool, err);
    if (rc < 0) {
        (void)close(config.zygote_fd);
        return rc;
    }
    rc = session_watch_signals(&run->session, &run->loop, err);
    if (rc == 0 && run->options.timeout_ns != 0)
        loop_timer_arm(&run->loop, &run->timeout,
            clock_now_ns() + run->options.timeout_ns);
    run->waiter = (struct pool_waiter){.on_clone = on_clone, .opaque = run};
    if (rc == 0)
        rc = pool_take(run->pool, &run->waiter, &clone, err);
    if (rc == 0 && clone != NULL)
        on_clone(run, clone, NULL);
    return rc;
}

static void run_template(struct run *run)
{
    struct err err;
    int rc = start(run, &err);

    if (rc == 0 && !run->is_done) {
        rc = loop_run(&run->loop);
        if (rc < 0)
            (void)err_sys(&err, rc, "the event loop failed");
    }
    if (rc < 0)
        fail(run, err.text);
    session_fini(&run->session);
    pool_close(run->pool);
    loop_fini(&run->loop);
}

/*
 * A template is named by the word in front of the command's "--", or by the
 * last word: what stands there is a command of the default root file system
 * otherwise.
 */
static bool find_template(struct run *run, const char **ret_name)
{
    const char *const *argv = run->options.command.argv;

    if (argv == NULL || !template_name_is_valid(argv[0]) ||
        (argv[1] != NULL && strcmp(argv[1], "--") != 0))
        return false;
    if (template_open(argv[0], &run->template, NULL) < 0) {
        if (argv[1] != NULL)
            log_warn("run",
                "there is no template '%s' (spore template ls): it is taken "
                "for a command",
                argv[0]);
        return false;
    }
    *ret_name = argv[0];
    run->options.command.argv =
        argv[1] != NULL && argv[2] != NULL ? argv + 2 : NULL;
    return true;
}

/* 1: out of a template; 0: by a boot; an error to be told. */
static int choose(struct run *run, int argc, char **argv, struct err *err)
{
    const char *name;
    int rc;

    if (run_options_parse(&run->options, argc, argv, NULL) < 0 ||
        run->options.help)
        return 0;
    if (find_template(run, &name)) {
        rc = check_options(&run->options, err);
        if (rc == 0)
            rc = complete_command(run, err);
        if (rc == 0 && !has_plain_clones(&run->options))
            rc = copy_options(run, argc, argv, name, err);
        return rc < 0 ? rc : 1;
    }
    if (!run_auto_fits(&run->options))
        return 0;
    if (run_auto_open(&run->options, &run->template, err) == 0)
        return 1;
    /* A boot needs less, or says best what it lacks. */
    log_info("run", "no template: %s", err->text);
    return 0;
}

int cmd_run_any(int argc, char **argv)
{
    struct run *run = calloc(1, sizeof(*run));
    const struct session_host host = {
        .on_done = on_done, .on_signal = on_signal, .opaque = run};
    struct err err;
    int status;

    if (run == NULL) {
        (void)fputs("spore: run: out of memory\n", stderr);
        return STATUS_FAILED;
    }
    run->loop = (struct loop){
        .epoll_fd = -1, .wake_source = {.fd = -1}, .timer_source = {.fd = -1}};
    run->timeout = (struct loop_timer){.fire = on_timeout, .opaque = run};
    session_init(&run->session, &host);
    switch (choose(run, argc, argv, &err)) {
    case 0:
        run_options_fini(&run->options);
        free(run);
        return cmd_run(argc, argv);
    case 1:
        run_template(run);
        break;
    default:
        fail(run, err.text);
        break;
    }
    status = run->status;
    free(run->zygote_options);
    template_fini(&run->template);
    run_options_fini(&run->options);
    free(run);
    return status;
}
