/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_clone [-n RUNS] [-g GAP_MS] [-k KEEP] [-r] [-p PORT] [-j LEVEL] STORE
 *
 * Takes clones of the snapshot "ready" in STORE from a zygote, one after the
 * other, and measures from the asking for one: until it is there, until its
 * guest goes on, until the guest's first byte (of its agent, which greets, or
 * with -p of what listens there and is sent a byte), and how long giving it up
 * takes the taker. With -r clones are put back and taken again. Prints JSON.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/stats.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/serve/pool.h"
#include "vmm/serve/zygote.h"

struct bench {
    struct loop loop;
    struct pool *pool;
    struct pool_waiter waiter;
    struct clone *clone;
    struct loop_source answer;
    struct loop_timer next;
    uint64_t gap_ns;
    uint32_t port; /* 0: the agent's */
    bool recycles;
    uint64_t left;
    uint64_t failures;
    uint64_t asked_ns;
    struct stats there_us;
    struct stats started_us;
    struct stats first_byte_us;
    struct stats drop_us;
};

static double us_since(uint64_t ns)
{
    return (double)(clock_now_ns() - ns) / 1e3;
}

static void end_round(struct bench *b)
{
    uint64_t before = clock_now_ns();

    if (b->clone != NULL && b->recycles)
        clone_recycle(b->clone);
    else if (b->clone != NULL)
        clone_drop(b->clone);
    stats_add(&b->drop_us, us_since(before));
    b->clone = NULL;
    if (--b->left == 0)
        loop_stop(&b->loop);
    else
        loop_timer_arm(&b->loop, &b->next, clock_now_ns() + b->gap_ns);
}

static void fail_round(struct bench *b, const char *text)
{
    (void)fprintf(stderr, "bench_clone: %s\n", text);
    b->failures++;
    loop_remove(&b->loop, &b->answer);
    fd_closep(&b->answer.fd);
    end_round(b);
}

static void on_answer(void *opaque, uint32_t events)
{
    struct bench *b = opaque;
    char buf[256];
    ssize_t n = read(b->answer.fd, buf, sizeof(buf));

    (void)events;
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        fail_round(b, "the guest has closed");
        return;
    }
    stats_add(&b->first_byte_us, us_since(b->asked_ns));
    loop_remove(&b->loop, &b->answer);
    fd_closep(&b->answer.fd);
    end_round(b);
}

static void on_started(void *opaque, uint64_t ns)
{
    struct bench *b = opaque;

    stats_add(&b->started_us, (double)(ns - b->asked_ns) / 1e3);
}

static void on_end(void *opaque, enum clone_end end, const char *text)
{
    (void)end;
    fail_round(opaque, text);
}

static int call(struct bench *b, struct err *err)
{
    int fds[2];

    if (b->port == 0)
        return clone_call_agent(b->clone, 0, &b->answer.fd, err);
    if (socketpair(
            AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return err_sys(err, errno, "socketpair");
    (void)!write(fds[0], "x", 1);
    b->answer.fd = fds[0];
    return clone_connect(b->clone, b->port, fds[1], 0, err);
}

static void on_clone(
    void *opaque, struct clone *clone, const struct err *problem)
{
    struct bench *b = opaque;
    const struct clone_host host = {
        .on_started = on_started, .on_end = on_end, .opaque = b};
    struct err err;

    b->clone = clone;
    if (clone == NULL) {
        fail_round(b, problem->text);
        return;
    }
    stats_add(&b->there_us, us_since(b->asked_ns));
    clone_watch(clone, &host);
    if (call(b, &err) < 0 || loop_add(&b->loop, &b->answer, EPOLLIN) < 0)
        fail_round(b, err.text);
}

static void on_next(void *opaque)
{
    struct bench *b = opaque;
    struct clone *clone;
    struct err err;

    b->asked_ns = clock_now_ns();
    if (pool_take(b->pool, &b->waiter, &clone, &err) < 0) {
        (void)fprintf(stderr, "bench_clone: %s\n", err.text);
        exit(EXIT_FAILURE);
    }
    if (clone != NULL)
        on_clone(b, clone, NULL);
}

static void print(struct bench *b)
{
    struct pool_stats s = pool_stats(b->pool);

    (void)printf("{\"failures\": %llu, \"made\": %llu, \"resets\": %llu,\n",
        (unsigned long long)b->failures, (unsigned long long)s.made,
        (unsigned long long)s.resets);
    stats_print(&b->there_us, "there", "us", stdout);
    (void)fputs(",\n", stdout);
    stats_print(&b->started_us, "started", "us", stdout);
    (void)fputs(",\n", stdout);
    stats_print(&b->first_byte_us, "first_byte", "us", stdout);
    (void)fputs(",\n", stdout);
    stats_print(&b->drop_us, "drop", "us", stdout);
    (void)fputs("}\n", stdout);
}

int main(int argc, char **argv)
{
    static struct bench b = {.left = 200, .answer = {.fd = -1}};
    static char template_name[] = "bench";
    const char *run_options[] = {NULL, NULL};
    struct template template = {.name = template_name};
    struct zygote_config zygote = {
        .template = &template, .run_options = run_options};
    struct pool_config pool = {.loop = &b.loop, .max = 4, .min = 4};
    char jail[32];
    struct err err;
    int opt;

    while ((opt = getopt(argc, argv, "n:g:k:rp:j:")) != -1) {
        if (opt == 'n') {
            b.left = strtoull(optarg, NULL, 0);
        } else if (opt == 'g') {
            b.gap_ns = strtoull(optarg, NULL, 0) * CLOCK_NS_PER_MS;
        } else if (opt == 'k') {
            pool.min = (uint32_t)strtoul(optarg, NULL, 0);
        } else if (opt == 'r') {
            b.recycles = true;
        } else if (opt == 'p') {
            b.port = (uint32_t)strtoul(optarg, NULL, 0);
        } else if (opt == 'j') {
            (void)snprintf(jail, sizeof(jail), "--jail=%s", optarg);
            run_options[0] = jail;
        } else {
            return EXIT_FAILURE;
        }
    }
    if (optind + 1 != argc || b.left == 0)
        return EXIT_FAILURE;
    template.store = argv[optind];
    pool.with_resets = b.recycles;
    b.waiter = (struct pool_waiter){.on_clone = on_clone, .opaque = &b};
    b.answer.handle = on_answer;
    b.answer.opaque = &b;
    b.next = (struct loop_timer){.fire = on_next, .opaque = &b};
    if (zygote_start(&zygote, &pool.zygote_fd, &err) < 0 ||
        loop_init(&b.loop, &err) < 0 || pool_open(&pool, &b.pool, &err) < 0) {
        (void)fprintf(stderr, "bench_clone: %s\n", err.text);
        return EXIT_FAILURE;
    }
    loop_timer_arm(&b.loop, &b.next, clock_now_ns() + CLOCK_NS_PER_S);
    (void)!loop_run(&b.loop);
    print(&b);
    pool_close(b.pool);
    loop_fini(&b.loop);
    return EXIT_SUCCESS;
}
