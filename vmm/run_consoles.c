/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run_consoles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/base/fd.h"

int run_consoles_open_file(const char *path, int *ret_fd, struct err *err)
{
    int fd =
        open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);

    if (fd < 0)
        return err_sys(err, errno, "%s", path);
    *ret_fd = fd;
    return 0;
}

void run_consoles_limit(struct run_consoles *c, const struct run_options *o)
{
    /* Standard output is the log already, standard error becomes it. */
    if (o->detach)
        output_limit_init(&c->log, o->output_limit, STDOUT_FILENO);
}

int run_consoles_open_virtio(struct run_consoles *c,
    const struct run_options *o, struct instance *inst, struct err *err)
{
    int out = STDERR_FILENO;
    int rc;

    if (!o->config.has_vconsole)
        return 0;
    if (o->vconsole_file != NULL) {
        rc = run_consoles_open_file(o->vconsole_file, &c->vconsole_fd, err);
        if (rc < 0)
            return rc;
        out = c->vconsole_fd;
        output_limit_init(&c->vfile, o->output_limit, out);
    }
    console_init(&inst->vconsole, &inst->loop, out, -1);
    console_set_limit(
        &inst->vconsole, o->vconsole_file != NULL ? &c->vfile : &c->log);
    return 0;
}

int run_consoles_open(struct run_consoles *c, const struct run_options *o,
    struct instance *inst, void (*on_escape)(void *opaque), void *opaque,
    struct err *err)
{
    int out = -1;
    int in = -1;
    int rc;

    switch (o->console) {
    case RUN_CONSOLE_STDIO:
        out = STDOUT_FILENO;
        in = STDIN_FILENO;
        break;
    case RUN_CONSOLE_STDERR:
        out = STDERR_FILENO;
        break;
    case RUN_CONSOLE_FILE:
        rc = run_consoles_open_file(o->console_file, &c->fd, err);
        if (rc < 0)
            return rc;
        out = c->fd;
        output_limit_init(&c->file, o->output_limit, out);
        break;
    case RUN_CONSOLE_TAIL:
    default:
        break;
    }
    console_init(&inst->console, &inst->loop, out, in);
    console_set_limit(
        &inst->console, o->console == RUN_CONSOLE_FILE ? &c->file : &c->log);
    if (in >= 0 && isatty(in)) {
        console_set_escape(&inst->console, on_escape, opaque);
        return tty_raw(&c->tty, in, err);
    }
    return 0;
}

int run_consoles_redirect(struct run_consoles *c, const struct run_options *o,
    struct instance *inst, const char *path, struct err *err)
{
    /* A pipe that nobody reads yet must not hold up the monitor. */
    int fd = open(path,
        O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);

    if (fd < 0)
        return err_sys(err, errno, "%s", path);
    console_set_output(&inst->console, fd);
    fd_closep(&c->fd);
    c->fd = fd;
    output_limit_init(&c->file, o->output_limit, fd);
    console_set_limit(&inst->console, &c->file);
    return 0;
}

void run_consoles_show_tail(const struct run_options *o, struct instance *inst)
{
    char tail[2048];
    size_t len;

    if (o->console == RUN_CONSOLE_STDIO || o->console == RUN_CONSOLE_STDERR)
        return;
    len = console_tail(&inst->console, tail, sizeof(tail));
    if (len == 0)
        return;
    (void)fputs("spore: run: last lines of the guest's console:\n", stderr);
    (void)fwrite(tail, 1, len, stderr);
    if (tail[len - 1] != '\n')
        (void)fputc('\n', stderr);
}

void run_consoles_restore_tty(struct run_consoles *c)
{
    tty_restore(&c->tty);
}

void run_consoles_close(struct run_consoles *c)
{
    fd_closep(&c->fd);
    fd_closep(&c->vconsole_fd);
}
