/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clones say, and their zygote's part played: three bytes each, {action,
 * clone, what}. Whatever it is, a pool's counts add up, whoever waits gets one
 * answer, and in the end there are as many descriptors as before.
 */
#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/keeper_wire.h"
#include "vmm/serve/clone_wire.h"
#include "vmm/serve/pool.h"

#define CLONES_MAX 4u
#define STEPS_MAX  64u

enum action {
    ACTION_TAKE,
    ACTION_CANCEL,
    ACTION_CONNECT,
    ACTION_CALL_AGENT,
    ACTION_DROP,
    ACTION_RECYCLE,
    ACTION_CLONE_SAYS,    /* message `what` of its kind */
    ACTION_CLONE_BABBLES, /* a packet that is none */
    ACTION_CLONE_CLOSES,
    ACTION_CLONE_GONE, /* its zygote says so */
    ACTION_NO_CLONE,   /* the next that is asked for cannot be made */
    ACTION_LOOP,
    ACTIONS,
};

struct taker {
    struct pool_waiter waiter;
    struct clone *clone;
    bool has_ended;
};

/* The zygote's side. */
struct made {
    uint32_t number;
    int control_fd; /* -1: there is none, or it is closed */
    bool is_there;
};

struct bench {
    struct loop loop;
    struct pool *pool;
    int zygote_fd;
    bool fails_next;
    struct taker takers[CLONES_MAX];
    struct made made[CLONES_MAX * STEPS_MAX];
    size_t made_count;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void on_started(void *opaque, uint64_t ns)
{
    (void)ns;
    require(((struct taker *)opaque)->clone != NULL);
}

static void on_closed(void *opaque, uint32_t cookie)
{
    (void)cookie;
    require(((struct taker *)opaque)->clone != NULL);
}

static void on_end(void *opaque, enum clone_end end, const char *text)
{
    struct taker *t = opaque;

    (void)end;
    require(t->clone != NULL && !t->has_ended && strlen(text) < 4096);
    t->has_ended = true;
}

static void watch(struct taker *t)
{
    const struct clone_host host = {.on_started = on_started,
        .on_closed = on_closed,
        .on_end = on_end,
        .opaque = t};

    clone_watch(t->clone, &host);
}

static void on_clone(
    void *opaque, struct clone *clone, const struct err *problem)
{
    struct taker *t = opaque;

    require(t->clone == NULL && (clone != NULL) != (problem != NULL));
    t->clone = clone;
    if (clone != NULL)
        watch(t);
}

/* ---- the zygote ---------------------------------------------------------- */

static void give(struct bench *b, uint32_t number)
{
    struct zygote_message message = {
        .event = ZYGOTE_CLONE, .number = number, .pid = 1};
    struct made *made;
    int fds[2];

    require(b->made_count < CLONES_MAX * STEPS_MAX);
    if (b->fails_next) {
        b->fails_next = false;
        message.event = ZYGOTE_NONE;
        require(keeper_send(b->zygote_fd, &message, sizeof(message), -1) == 0);
        return;
    }
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
                0, fds) == 0);
    require(keeper_send(b->zygote_fd, &message, sizeof(message), fds[0]) == 0);
    (void)close(fds[0]);
    made = &b->made[b->made_count++];
    *made =
        (struct made){.number = number, .control_fd = fds[1], .is_there = true};
}

static void bury(struct bench *b, uint32_t number)
{
    for (size_t i = 0; i < b->made_count; i++) {
        if (b->made[i].number == number)
            b->made[i].is_there = false;
    }
}

static void run_zygote(struct bench *b)
{
    struct zygote_request request;
    int fd = -1;

    while (keeper_receive(b->zygote_fd, &request, sizeof(request), &fd) == 1) {
        require(fd < 0 && request.op < ZYGOTE_OPS);
        if (request.op == ZYGOTE_TAKE)
            give(b, request.number);
        else
            bury(b, request.number);
    }
}

static void say_gone(struct bench *b, const struct made *made)
{
    const struct zygote_message message = {
        .event = ZYGOTE_GONE, .number = made->number, .status = 9};

    (void)!keeper_send(b->zygote_fd, &message, sizeof(message), -1);
}

static void say(const struct made *made, uint8_t what)
{
    struct clone_message message = {.event = what % (CLONE_EVENTS + 1u),
        .cookie = what / (CLONE_EVENTS + 1u)};

    /* Without an end. */
    memset(message.text, what, sizeof(message.text));
    (void)!keeper_send(made->control_fd, &message, sizeof(message),
        what % 7 == 0 ? STDERR_FILENO : -1);
}

/* ---- the steps ----------------------------------------------------------- */

static void check(const struct bench *b)
{
    struct pool_stats s = pool_stats(b->pool);
    uint32_t taken = 0;

    for (size_t i = 0; i < CLONES_MAX; i++)
        taken += b->takers[i].clone != NULL;
    require(s.taken == taken && s.alive <= CLONES_MAX &&
            s.alive == s.ready + s.starting + s.taken);
}

static void take(struct bench *b, struct taker *t)
{
    struct clone *clone = NULL;

    if (t->clone != NULL || t->waiter.waits)
        return;
    *t = (struct taker){.waiter = {.on_clone = on_clone, .opaque = t}};
    if (pool_take(b->pool, &t->waiter, &clone, NULL) == 0 && clone != NULL) {
        t->clone = clone;
        watch(t);
    }
}

static void connect_in(const struct taker *t)
{
    int fds[2];

    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    (void)!clone_connect(t->clone, 1, fds[0], 2, NULL);
    (void)close(fds[1]);
}

static void call_agent(const struct taker *t)
{
    int fd;

    if (clone_call_agent(t->clone, 3, &fd, NULL) == 0)
        (void)close(fd);
}

static void end_taker(struct taker *t, bool recycles)
{
    struct clone *clone = t->clone;

    t->clone = NULL;
    if (recycles)
        clone_recycle(clone);
    else
        clone_drop(clone);
}

static void act_on_taker(struct bench *b, enum action action, struct taker *t)
{
    if (action == ACTION_TAKE)
        take(b, t);
    else if (action == ACTION_CANCEL)
        pool_cancel(b->pool, &t->waiter);
    else if (t->clone == NULL)
        return;
    else if (action == ACTION_CONNECT)
        connect_in(t);
    else if (action == ACTION_CALL_AGENT)
        call_agent(t);
    else
        end_taker(t, action == ACTION_RECYCLE);
}

static void act_on_clone(
    struct bench *b, enum action action, struct made *made, uint8_t what)
{
    if (action == ACTION_CLONE_GONE)
        say_gone(b, made);
    else if (made->control_fd < 0)
        return;
    else if (action == ACTION_CLONE_SAYS)
        say(made, what);
    else if (action == ACTION_CLONE_BABBLES)
        (void)!send(made->control_fd, &what, what % 2, MSG_NOSIGNAL);
    else
        fd_closep(&made->control_fd);
}

static void act(struct bench *b, struct bytes_reader *in)
{
    enum action action = (enum action)(bytes_get_u8(in) % ACTIONS);
    uint8_t which = bytes_get_u8(in);
    uint8_t what = bytes_get_u8(in);

    if (action == ACTION_NO_CLONE)
        b->fails_next = true;
    else if (action == ACTION_LOOP)
        require(loop_run_once(&b->loop, 0) == 0);
    else if (action <= ACTION_RECYCLE)
        act_on_taker(b, action, &b->takers[which % CLONES_MAX]);
    else if (b->made_count > 0)
        act_on_clone(b, action, &b->made[which % b->made_count], what);
    run_zygote(b);
    check(b);
}

static int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    require(dir != NULL);
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

static void run(const uint8_t *data, size_t size)
{
    static struct bench b;
    struct pool_config config = {.loop = &b.loop,
        .max = CLONES_MAX,
        .min = size > 0 ? data[0] % 3 : 0,
        .with_resets = true};
    struct bytes_reader in;
    int fds[2];

    memset(&b, 0, sizeof(b));
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
                0, fds) == 0);
    config.zygote_fd = fds[0];
    b.zygote_fd = fds[1];
    require(loop_init(&b.loop, NULL) == 0 &&
            pool_open(&config, &b.pool, NULL) == 0);
    bytes_reader_init(&in, data, size);
    for (unsigned int i = 0; i < STEPS_MAX && bytes_left(&in) >= 3; i++)
        act(&b, &in);
    pool_close(b.pool);
    loop_fini(&b.loop);
    for (size_t i = 0; i < b.made_count; i++)
        fd_closep(&b.made[i].control_fd);
    fd_closep(&b.zygote_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int before = count_fds();

    log_set_level(LOG_ERR);
    run(data, size);
    require(count_fds() == before);
    return 0;
}
