/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/template_build.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/artifacts.h"
#include "vmm/base/fd.h"
#include "vmm/config.h"
#include "vmm/progress.h"
#include "vmm/serve/interrupt.h"
#include "vmm/serve/rootfs.h"
#include "vmm/serve/template.h"
#include "vmm/serve/template_place.h"
#include "vmm/serve/template_vm.h"
#include "vmm/words.h"

/* A set-up script in the guest: in memory, and gone when it has run. */
#define SETUP_DIR  "/run"
#define SETUP_NAME "spore-setup"

/* Between two looks at whether a server is up. */
#define READY_EVERY_MS 100

struct building {
    const struct template_build *build;
    struct interrupt interrupt;
    struct template_place place;
    struct template_vm vm;
    struct rootfs_command image; /* what it says of its command */
    struct words env;            /* the image's, and what was given over it */
    const char *cwd;
    const char *user;
    char *source; /* what the root file system is made of; absolute */
};

/* ---- the root file system ------------------------------------------------ */

static size_t name_size(const char *variable)
{
    return strcspn(variable, "=");
}

static bool has_variable(char *const *env, const char *variable)
{
    size_t size = name_size(variable);

    for (size_t i = 0; env != NULL && env[i] != NULL; i++) {
        if (name_size(env[i]) == size && memcmp(env[i], variable, size) == 0)
            return true;
    }
    return false;
}

static int take_command(struct building *b, struct err *err)
{
    const struct template_build *o = b->build;

    for (size_t i = 0; b->image.env != NULL && b->image.env[i] != NULL; i++) {
        if (!has_variable(o->env, b->image.env[i]))
            words_add(&b->env, b->image.env[i]);
    }
    for (size_t i = 0; o->env != NULL && o->env[i] != NULL; i++)
        words_add(&b->env, o->env[i]);
    b->cwd = o->cwd != NULL ? o->cwd : b->image.cwd;
    b->user = o->user != NULL ? o->user : b->image.user;
    return b->env.failed ? err_sys(err, ENOMEM, "environment") : 0;
}

static int make_rootfs(struct building *b, struct err *err)
{
    struct progress *progress;
    char *path;
    int rc = 0;

    if (b->build->rootfs == NULL) {
        rc = artifacts_find(ARTIFACT_ROOTFS, &b->source, err);
    } else {
        b->source = realpath(b->build->rootfs, NULL);
        if (b->source == NULL)
            rc = err_sys(err, errno, "--rootfs %s", b->build->rootfs);
    }
    if (rc < 0)
        return rc;
    if (asprintf(&path, "%s/rootfs.img", b->place.path) < 0)
        return err_sys(err, ENOMEM, "root file system");
    progress = progress_start("making the root file system");
    rc = rootfs_make(
        b->source, path, b->place.path, &b->interrupt, &b->image, err);
    progress_end(progress);
    free(path);
    return rc < 0 ? rc : take_command(b, err);
}

/* ---- the guest ----------------------------------------------------------- */

static int boot(struct building *b, struct err *err)
{
    const struct template_build *o = b->build;
    struct words options = {0};
    struct progress *progress;
    int rc;

    words_addf(&options, "--rootfs=%s/rootfs.img,ro", b->place.path);
    words_addf(&options, "--cmdline=" CONFIG_BOOT_ARGS_DEFAULT "%s",
        o->is_read_only ? "" : " spore.overlay");
    words_addf(&options, "--timeout=%u", o->timeout_s);
    for (size_t i = 0; o->machine != NULL && o->machine[i] != NULL; i++)
        words_add(&options, o->machine[i]);
    if (options.failed) {
        words_fini(&options);
        return err_sys(err, ENOMEM, "machine");
    }
    progress = progress_start("booting");
    rc = template_vm_start(&b->vm, &b->interrupt, options.list, err);
    progress_end(progress);
    words_fini(&options);
    return rc;
}

static int run(struct building *b, const char *what,
    const struct template_vm_command *command, struct err *err)
{
    struct progress *progress = progress_start(what);
    int status = 0;
    int rc = template_vm_exec(&b->vm, command, &status, err);

    progress_end(progress);
    if (rc < 0)
        return err_wrap(err, rc, "%s", what);
    if (status != 0)
        return err_set(err, EIO, "%s: %s ended with status %d", what,
            command->argv[0], status);
    return 0;
}

static int run_setup(struct building *b, struct err *err)
{
    static const char path[] = SETUP_DIR "/" SETUP_NAME;
    const char *const by_itself[] = {path, NULL};
    const char *const by_shell[] = {"/bin/sh", path, NULL};
    const char *const removal[] = {"rm", "-f", path, NULL};
    const char *const *env = (const char *const *)(void *)b->env.list;
    const char *setup = b->build->setup;
    bool is_program = access(setup, X_OK) == 0;
    int status;
    int rc = template_vm_copy(&b->vm, setup, SETUP_DIR, SETUP_NAME, err);

    if (rc < 0)
        return err_wrap(err, rc, "--setup %s", setup);
    rc = run(b, "set-up",
        &(struct template_vm_command){
            .argv = is_program ? by_itself : by_shell, .env = env, .cwd = "/"},
        err);
    /* A root file system without rm has one small file more in memory. */
    if (rc == 0 &&
        template_vm_exec(&b->vm,
            &(struct template_vm_command){.argv = removal, .is_quiet = true},
            &status, NULL) < 0)
        rc = interrupt_check(&b->interrupt, err);
    return rc;
}

/* ---- the ready point ----------------------------------------------------- */

/* 1: it answers, 0: not yet. */
static int look(struct building *b, struct err *err)
{
    const char *const shell[] = {"/bin/sh", "-c", b->build->ready_cmd, NULL};
    int status = 0;
    int rc;

    if (b->build->vsock_port != 0)
        return template_vm_listens(&b->vm, b->build->vsock_port, err);
    if (b->build->tcp_port != 0)
        return template_vm_listens_tcp(
            &b->vm, b->build->tcp_port, b->place.fd, err);
    rc = template_vm_exec(&b->vm,
        &(struct template_vm_command){.argv = shell,
            .env = (const char *const *)(void *)b->env.list,
            .is_quiet = true},
        &status, err);
    return rc < 0 ? rc : status == 0;
}

static int await_ready(struct building *b, struct err *err)
{
    struct progress *progress = progress_start("waiting for the server");
    int rc = 0;

    /* The guest has nothing that would tell: it is asked again and again. */
    while (rc == 0) {
        rc = look(b, err);
        if (rc != 0)
            break;
        rc = interrupt_wait(&b->interrupt, b->vm.pid_fd, READY_EVERY_MS, err);
        if (rc > 0)
            rc = err_set(err, ECHILD, "the machine has ended: see above");
    }
    progress_end(progress);
    return rc < 0 ? err_wrap(err, rc, "waiting for the server") : 0;
}

static int warm_up(struct building *b, struct err *err)
{
    const struct template_build *o = b->build;
    const struct template_vm_command command = {
        .argv = (const char *const *)(uintptr_t)o->warmup,
        .env = (const char *const *)(void *)b->env.list,
        .cwd = b->cwd,
        .user = b->user,
        .detach = o->is_daemon};
    int rc = 0;

    if (o->setup != NULL)
        rc = run_setup(b, err);
    if (rc == 0 && o->warmup != NULL)
        rc = run(
            b, o->is_daemon ? "starting the server" : "warm-up", &command, err);
    if (rc == 0 &&
        (o->tcp_port != 0 || o->vsock_port != 0 || o->ready_cmd != NULL))
        rc = await_ready(b, err);
    return rc;
}

/* ---- the template -------------------------------------------------------- */

static int describe(const struct building *b, struct err *err)
{
    const struct template_build *o = b->build;
    /* Borrowed: not to be freed by template_fini. */
    const struct template t = {.argv = b->image.argv,
        .env = b->env.list,
        .cwd = (char *)(uintptr_t)b->cwd,
        .user = (char *)(uintptr_t)b->user,
        .made_s = (uint64_t)time(NULL),
        .source = b->source,
        .tcp_port = o->tcp_port,
        .vsock_port = o->vsock_port};

    return template_place_describe(&b->place, &t, err);
}

static int freeze(struct building *b, struct err *err)
{
    struct progress *progress = progress_start("saving");
    char *store = NULL;
    int rc = 0;

    if (asprintf(&store, "%s/snapshots", b->place.path) < 0)
        rc = err_sys(err, ENOMEM, "snapshot");
    if (rc == 0) {
        rc = template_vm_sync(&b->vm, err);
        if (rc == 0)
            rc = template_vm_save(&b->vm, store, TEMPLATE_SNAPSHOT, err);
        free(store);
    }
    progress_end(progress);
    return rc;
}

static int build(struct building *b, struct err *err)
{
    int rc = make_rootfs(b, err);

    if (rc == 0)
        rc = boot(b, err);
    if (rc == 0)
        rc = warm_up(b, err);
    if (rc == 0)
        rc = freeze(b, err);
    template_vm_end(&b->vm);
    if (rc == 0)
        rc = interrupt_check(&b->interrupt, err);
    return rc < 0 ? rc : describe(b, err);
}

int template_build_run(const struct template_build *o, struct err *err)
{
    struct building b = {
        .build = o, .place = TEMPLATE_PLACE_NONE, .vm = TEMPLATE_VM_NONE};
    int rc = interrupt_begin(&b.interrupt, err);

    if (rc < 0)
        return rc;
    /* Programs and connections that end are told of by errors. */
    (void)signal(SIGPIPE, SIG_IGN);
    rc = template_place_begin(o->name, o->replaces, &b.place, err);
    if (rc == 0)
        rc = build(&b, err);
    if (rc == 0)
        rc = template_place_publish(&b.place, o->name, o->replaces, err);
    if (rc < 0)
        template_place_abandon(&b.place);
    template_place_close(&b.place);
    words_fini(&b.env);
    rootfs_command_fini(&b.image);
    free(b.source);
    interrupt_end(&b.interrupt);
    return rc;
}
