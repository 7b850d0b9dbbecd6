/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/zygote_stock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/keeper_wire.h"
#include "vmm/serve/clone_process.h"
#include "vmm/serve/clone_wire.h"
#include "vmm/serve/zygote.h"

/* How often it is asked whether fewer clones would do. */
#define REVIEW_NS (500 * CLOCK_NS_PER_MS)
/* After a clone that could not be made none is made ahead for so long. */
#define BACK_OFF_NS (2 * CLOCK_NS_PER_S)

/* ---- a clone --------------------------------------------------------------
 */

static int open_cgroup(
    struct zygote_stock *s, struct cgroup **ret_cgroup, struct err *err)
{
    struct cgroup_config config = s->options->jail.cgroup;
    char name[64];
    size_t swept;
    int rc;

    *ret_cgroup = NULL;
    if (!s->options->jail.has_cgroup)
        return 0;
    (void)snprintf(name, sizeof(name), "spore-%d-%llu", (int)getpid(),
        (unsigned long long)s->serial++);
    config.name = name;
    rc = cgroup_open(&config, ret_cgroup, err);
    if (rc < 0 || s->has_swept)
        return rc;
    s->has_swept = true;
    swept = cgroup_sweep(*ret_cgroup);
    if (swept > 0)
        log_info("zygote", "removed %zu cgroups that killed ones left", swept);
    return 0;
}

void made_remove_cgroup(struct made *made)
{
    struct err err;

    if (made->cgroup == NULL)
        return;
    made->oom_kills = cgroup_oom_kills(made->cgroup);
    if (cgroup_remove(made->cgroup, &err) < 0)
        log_warn("zygote", "%s", err.text);
    made->cgroup = NULL;
}

void made_free(struct made *made)
{
    made_remove_cgroup(made);
    fd_closep(&made->control_fd);
    fd_closep(&made->cell.link_fd);
    free(made);
}

static void become_clone(
    struct zygote_stock *s, struct made *made, int control_fd)
{
    const struct clone_process setup = {.options = s->options,
        .origin = s->origin,
        .cgroup = made->cgroup,
        .cell = &made->cell,
        .control_fd = control_fd,
        .with_resets = made->kind == MADE_WITH_RESETS};

    clone_process_run(&setup);
    _exit(EXIT_FAILURE);
}

static int split(struct zygote_stock *s, struct made *made, struct err *err)
{
    const struct jail_config *jail = &s->options->jail.jail;
    struct cell_options options = {.strict = jail->level == JAIL_STRICT,
        .is_plain = jail->level == JAIL_OFF,
        .cgroup_fd = -1};
    struct clone_greeting greeting;
    int fds[2];
    int rc;

    if (socketpair(
            AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return err_sys(err, errno, "cannot make a clone's socket");
    if (made->cgroup != NULL)
        options.cgroup_fd = cgroup_clone_fd(made->cgroup);
    rc = cell_fork(&made->cell, &options, err);
    if (rc == 0)
        become_clone(s, made, fds[1]);
    (void)close(fds[1]);
    if (rc < 0) {
        (void)close(fds[0]);
        return rc;
    }
    made->control_fd = fds[0];
    greeting.pid = made->cell.pid;
    /* One that has ended already is told of by its end. */
    (void)!send(made->cell.link_fd, &greeting, sizeof(greeting), MSG_NOSIGNAL);
    fd_closep(&made->cell.link_fd);
    return 0;
}

static int make(struct zygote_stock *s, enum made_kind kind,
    struct made **ret_made, struct err *err)
{
    struct made *made = calloc(1, sizeof(*made));
    int rc;

    if (made == NULL)
        return err_sys(err, ENOMEM, "a clone");
    made->kind = kind;
    made->control_fd = -1;
    made->cell = (struct cell)CELL_NONE;
    rc = open_cgroup(s, &made->cgroup, err);
    if (rc == 0)
        rc = split(s, made, err);
    if (rc < 0) {
        made_free(made);
        return rc;
    }
    *ret_made = made;
    return 0;
}

/* ---- those that are ready ------------------------------------------------ */

/*
 * One of each kind at a time, so that who asks for a clone meanwhile waits for
 * that at the most.
 */
static void on_refill(void *opaque)
{
    struct zygote_stock *s = opaque;
    bool is_short = false;
    struct err err;

    for (unsigned int kind = 0; kind < MADE_KINDS; kind++) {
        struct zygote_shelf *shelf = &s->shelves[kind];
        struct made *made;

        if (shelf->count >= shelf->target)
            continue;
        if (make(s, (enum made_kind)kind, &made, &err) < 0) {
            log_warn("zygote", "%s", err.text);
            s->backs_off_until_ns = clock_now_ns() + BACK_OFF_NS;
            is_short = true;
            break;
        }
        TAILQ_INSERT_TAIL(&shelf->list, made, link);
        shelf->count++;
        is_short |= shelf->count < shelf->target;
    }
    if (is_short)
        loop_timer_arm(s->loop, &s->refill,
            num_max(clock_now_ns(), s->backs_off_until_ns));
}

static void refill_soon(struct zygote_stock *s)
{
    for (unsigned int kind = 0; kind < MADE_KINDS; kind++) {
        if (s->shelves[kind].count < s->shelves[kind].target) {
            loop_timer_arm(s->loop, &s->refill,
                num_max(clock_now_ns(), s->backs_off_until_ns));
            return;
        }
    }
}

static void take_off(struct zygote_shelf *shelf, struct made *made)
{
    TAILQ_REMOVE(&shelf->list, made, link);
    shelf->count--;
    shelf->low = (uint32_t)num_min(shelf->low, shelf->count);
}

void zygote_stock_bury(struct zygote_stock *s, struct made *made)
{
    made->client = NULL;
    (void)kill(made->cell.pid, SIGKILL);
    TAILQ_INSERT_TAIL(&s->dying, made, link);
}

/* What was never touched since the last review was not needed. */
static bool review(struct zygote_stock *s, struct zygote_shelf *shelf)
{
    uint32_t surplus = (shelf->low + 1) / 2;

    if (shelf->target > shelf->least)
        shelf->target -=
            (uint32_t)num_min(surplus, shelf->target - shelf->least);
    while (shelf->count > shelf->target) {
        struct made *made = TAILQ_LAST(&shelf->list, made_list);

        take_off(shelf, made);
        zygote_stock_bury(s, made);
    }
    shelf->low = shelf->count;
    return shelf->target > shelf->least;
}

static void review_later(struct zygote_stock *s)
{
    if (!s->review.armed)
        loop_timer_arm(s->loop, &s->review, clock_now_ns() + REVIEW_NS);
}

static void on_review(void *opaque)
{
    struct zygote_stock *s = opaque;
    bool goes_on = false;

    for (unsigned int kind = 0; kind < MADE_KINDS; kind++)
        goes_on |= review(s, &s->shelves[kind]);
    if (goes_on)
        review_later(s);
}

void zygote_stock_keep(
    struct zygote_stock *s, enum made_kind kind, uint32_t least)
{
    struct zygote_shelf *shelf = &s->shelves[kind];

    shelf->least = least;
    shelf->target = (uint32_t)num_max(shelf->target, least);
    refill_soon(s);
    review_later(s);
}

int zygote_stock_take(struct zygote_stock *s, enum made_kind kind,
    struct made **ret_made, struct err *err)
{
    struct zygote_shelf *shelf = &s->shelves[kind];
    struct made *made = TAILQ_FIRST(&shelf->list);

    if (made != NULL) {
        take_off(shelf, made);
    } else {
        int rc = make(s, kind, &made, err);

        if (rc < 0)
            return rc;
        shelf->low = 0;
        if (shelf->target < ZYGOTE_READY_MAX)
            shelf->target++;
    }
    refill_soon(s);
    review_later(s);
    *ret_made = made;
    return 0;
}

/* ---- ends ---------------------------------------------------------------- */

static void complain(const struct made *made)
{
    struct clone_message message;
    int fd = -1;

    if (keeper_receive(made->control_fd, &message, sizeof(message), &fd) == 1 &&
        message.event == CLONE_ENDED) {
        message.text[sizeof(message.text) - 1] = '\0';
        log_warn("zygote", "a clone failed: %s", message.text);
    } else {
        log_warn("zygote", "a clone failed: wait status 0x%x",
            (unsigned int)made->status);
    }
    fd_closep(&fd);
}

static struct made *find(const struct made_list *list, pid_t pid)
{
    struct made *made;

    TAILQ_FOREACH(made, list, link)
    {
        if (made->cell.pid == pid)
            return made;
    }
    return NULL;
}

bool zygote_stock_lose(struct zygote_stock *s, pid_t pid, int status)
{
    struct made *made = find(&s->dying, pid);

    if (made != NULL) {
        TAILQ_REMOVE(&s->dying, made, link);
        made_free(made);
        return true;
    }
    for (unsigned int kind = 0; kind < MADE_KINDS; kind++) {
        made = find(&s->shelves[kind].list, pid);
        if (made == NULL)
            continue;
        take_off(&s->shelves[kind], made);
        made->status = status;
        complain(made);
        made_free(made);
        s->backs_off_until_ns = clock_now_ns() + BACK_OFF_NS;
        refill_soon(s);
        return true;
    }
    return false;
}

/* ---- all together -------------------------------------------------------- */

void zygote_stock_init(struct zygote_stock *s, struct loop *loop,
    struct run_options *options, struct run_origin *origin)
{
    *s = (struct zygote_stock){.loop = loop,
        .options = options,
        .origin = origin,
        .review = {.fire = on_review, .opaque = s},
        .refill = {.fire = on_refill, .opaque = s}};
    for (unsigned int kind = 0; kind < MADE_KINDS; kind++)
        TAILQ_INIT(&s->shelves[kind].list);
    TAILQ_INIT(&s->dying);
}

void zygote_stock_fini(struct zygote_stock *s)
{
    struct made *made;
    int status;

    for (unsigned int kind = 0; kind < MADE_KINDS; kind++) {
        while ((made = TAILQ_FIRST(&s->shelves[kind].list)) != NULL) {
            take_off(&s->shelves[kind], made);
            zygote_stock_bury(s, made);
        }
    }
    while ((made = TAILQ_FIRST(&s->dying)) != NULL) {
        TAILQ_REMOVE(&s->dying, made, link);
        (void)waitpid(made->cell.pid, &status, 0);
        made_free(made);
    }
}
