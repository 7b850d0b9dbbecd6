/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/worker_serve.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/futex.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/jail.h"
#include "vmm/base/fd.h"

#define KEEP_FDS 2u

int worker_open_executor(const struct worker_setup *setup,
    struct executor **ret_ex, size_t *ret_need, struct err *err)
{
    const struct worker_area *map = &setup->options->map;
    const struct worker_area *cmp_map = &setup->options->cmp_map;
    const struct executor_options options = {
        .print_fd = setup->options->print_fd,
        .worker = setup->options->number,
        .levels = setup->options->levels,
        .stops_at_report = setup->options->stops_at_report,
        .cancel = &setup->page->cancel};
    struct executor *ex = NULL;
    size_t size;
    int rc = executor_open(setup->target, &options, &ex, err);

    if (rc < 0)
        return rc;
    size = executor_map_size(ex);
    *ret_need = size;
    if (map->at != NULL && size > map->size)
        rc = err_set(err, ENOSPC,
            "the target's coverage map has %zu bytes, and there is room for "
            "%zu",
            size, map->size);
    else if (map->at != NULL && size > 0)
        rc = executor_lay_map(ex, map->at, setup->clears, err);
    if (rc == 0 && cmp_map->at != NULL) {
        size = executor_cmp_map_size(ex);
        if (size > cmp_map->size)
            rc = err_set(err, EMSGSIZE,
                "the target's CmpLog map has %zu bytes and AFL++'s %zu: they "
                "are of different versions of AFL++",
                size, cmp_map->size);
        else if (size > 0)
            rc = executor_lay_cmp_map(ex, cmp_map->at, err);
    }
    if (rc < 0)
        executor_free(ex);
    else
        *ret_ex = ex;
    return rc;
}

/* Of the caller's: handlers, terminal, standard input and output. */
static void leave_caller(void)
{
    sigset_t none;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int i = 1; i < NSIG; i++)
        (void)signal(i, SIG_DFL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    if (fd < 0)
        return;
    (void)dup2(fd, STDIN_FILENO);
    (void)dup2(fd, STDOUT_FILENO);
    if (fd > STDERR_FILENO)
        fd_closep(&fd);
    /* In an arena of its own free(3) would look up a path. */
    (void)mallopt(M_ARENA_MAX, 1);
    json_object_seed(0);
}

static int receive_greeting(int link_fd, pid_t *ret_pid, struct err *err)
{
    struct worker_greeting greeting;

    if (recv(link_fd, &greeting, sizeof(greeting), 0) !=
        (ssize_t)sizeof(greeting))
        return err_set(err, ESHUTDOWN, "the worker's caller has gone");
    *ret_pid = greeting.pid;
    return 0;
}

/* The greeting comes first: a link that is closed over it loses the hello. */
static int open_all(const struct worker_setup *s, struct jail *jail,
    struct executor **ret_ex, struct worker_hello *hello, struct err *err)
{
    const int keep[KEEP_FDS] = {s->cell->link_fd, s->options->print_fd};
    size_t map_size = 0;
    pid_t pid;
    int rc = receive_greeting(s->cell->link_fd, &pid, err);

    if (rc == 0)
        rc = jail_begin(jail, s->options->jail, s->cell, keep, KEEP_FDS, err);
    if (rc == 0)
        rc = worker_open_executor(s, ret_ex, &map_size, err);
    hello->map_size = map_size;
    return rc < 0 ? rc : jail_enter(jail, pid, err);
}

static void answer(const struct worker_setup *s, struct executor *ex, int rc,
    const struct err *err)
{
    struct worker_page *page = s->page;
    const char *text;
    size_t size = 0;

    page->rc = rc;
    if (rc < 0)
        page->err = *err;
    text = executor_text(ex, &size);
    size = num_min(size, EXECUTOR_TEXT_MAX);
    if (size > 0)
        memcpy((uint8_t *)page + WORKER_TEXT_AT, text, size);
    page->text_size = (uint32_t)size;
}

static int obey(
    const struct worker_setup *s, struct executor *ex, struct err *err)
{
    struct worker_page *page = s->page;

    switch ((enum worker_command)page->command) {
    case WORKER_RUN:
        return executor_run(ex, (const uint8_t *)page + WORKER_INPUT_AT,
            page->size, page->timeout_us, &page->result, err);
    case WORKER_READ_ON:
        return executor_read_on(ex, page->timeout_us, err);
    }
    return err_set(err, EPROTO, "unknown command %u", page->command);
}

/*
 * The kernel ends it with its parent; until then there is always a next. It is
 * not said that this does not return: the address sanitizer would ask the
 * kernel for a signal stack then, which the jail does not allow.
 */
static void serve(const struct worker_setup *s, struct executor *ex)
{
    struct worker_page *page = s->page;
    uint32_t done = page->answered;

    for (;;) {
        struct err err;

        if (__atomic_load_n(&page->asked, __ATOMIC_ACQUIRE) == done) {
            (void)syscall(
                SYS_futex, &page->asked, FUTEX_WAIT, done, NULL, NULL, 0);
            continue;
        }
        answer(s, ex, obey(s, ex, &err), &err);
        done++;
        __atomic_store_n(&page->answered, done, __ATOMIC_RELEASE);
        (void)syscall(SYS_futex, &page->answered, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

void worker_serve(const struct worker_setup *setup)
{
    struct worker_hello hello = {.rc = 0};
    struct jail jail = JAIL_NONE;
    struct executor *ex = NULL;
    struct err err;

    leave_caller();
    hello.rc = open_all(setup, &jail, &ex, &hello, &err);
    if (hello.rc == 0) {
        hello.input_max = (uint32_t)executor_input_max(ex);
        hello.cmp_map_size = executor_cmp_map_size(ex);
        hello.rc = jail_confine(&jail, JAIL_ROLE_FUZZ, &err);
    }
    if (hello.rc < 0)
        hello.err = err;
    /* A caller that has ended in the meantime hears nothing any more. */
    if (write(setup->cell->link_fd, &hello, sizeof(hello)) !=
            (ssize_t)sizeof(hello) ||
        hello.rc < 0)
        _exit(EXIT_FAILURE);
    serve(setup, ex);
    _exit(EXIT_FAILURE);
}
