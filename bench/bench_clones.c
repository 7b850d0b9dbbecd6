/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_clones [-n CLONES] [-p PORT] [-t SECONDS] [-w WAITING] STORE
 *
 * CLONES of the snapshot "ready" in STORE alive at once, each having answered
 * one request (its agent's greeting, or with -p an echo of what listens
 * there; WAITING at a time, all of them without): the time until the last has,
 * what each is made of (/proc's smaps_rollup, which is root's to read), and
 * what the host has less for it, kernel memory included. Prints JSON.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/crowd.h"
#include "bench/stats.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/serve/pool.h"
#include "vmm/serve/zygote.h"

struct bench;

struct one {
    struct bench *bench;
    struct pool_waiter waiter;
    struct clone *clone;
    struct loop_source answer;
    bool is_done;
};

struct bench {
    struct loop loop;
    struct pool *pool;
    struct loop_timer begin;
    struct loop_timer late;
    uint32_t port;
    uint64_t timeout_ns;
    size_t count;
    size_t waiting; /* asked at a time */
    size_t next;
    size_t answered;
    size_t failed;
    struct one *ones;
    uint64_t asked_ns;
    double all_ms;
    struct stats pss_kib;
    struct stats private_kib;
};

static void begin_one(struct bench *b);

static void end_one(struct one *o, bool has_answered)
{
    struct bench *b = o->bench;

    if (o->is_done)
        return;
    o->is_done = true;
    loop_remove(&b->loop, &o->answer);
    if (has_answered)
        b->answered++;
    else
        b->failed++;
    if (b->answered + b->failed < b->count) {
        begin_one(b);
        return;
    }
    b->all_ms = (double)(clock_now_ns() - b->asked_ns) / 1e6;
    loop_stop(&b->loop);
}

static void on_answer(void *opaque, uint32_t events)
{
    struct one *o = opaque;
    char buf[256];
    ssize_t n = read(o->answer.fd, buf, sizeof(buf));

    (void)events;
    if (n >= 0 || errno != EAGAIN)
        end_one(o, n > 0);
}

static void on_end(void *opaque, enum clone_end end, const char *text)
{
    (void)end;
    (void)fprintf(stderr, "bench_clones: %s\n", text);
    end_one(opaque, false);
}

static int call(struct one *o, struct err *err)
{
    struct bench *b = o->bench;
    int fds[2];

    if (b->port == 0)
        return clone_call_agent(o->clone, 0, &o->answer.fd, err);
    if (socketpair(
            AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return err_sys(err, errno, "socketpair");
    (void)!write(fds[0], "x", 1);
    o->answer.fd = fds[0];
    return clone_connect(o->clone, b->port, fds[1], 0, err);
}

static void on_clone(
    void *opaque, struct clone *clone, const struct err *problem)
{
    struct one *o = opaque;
    const struct clone_host host = {.on_end = on_end, .opaque = o};
    struct err err;

    o->clone = clone;
    if (clone == NULL) {
        (void)fprintf(stderr, "bench_clones: %s\n", problem->text);
        end_one(o, false);
        return;
    }
    clone_watch(clone, &host);
    if (call(o, &err) < 0 || loop_add(&o->bench->loop, &o->answer, EPOLLIN) < 0)
        end_one(o, false);
}

/* The next, if there is one. */
static void begin_one(struct bench *b)
{
    struct clone *clone;
    struct one *o;
    struct err err;

    if (b->next == b->count)
        return;
    o = &b->ones[b->next++];
    *o = (struct one){.bench = b,
        .waiter = {.on_clone = on_clone, .opaque = o},
        .answer = {.fd = -1, .handle = on_answer, .opaque = o}};
    if (pool_take(b->pool, &o->waiter, &clone, &err) < 0) {
        (void)fprintf(stderr, "bench_clones: %s\n", err.text);
        exit(EXIT_FAILURE);
    }
    if (clone != NULL)
        on_clone(o, clone, NULL);
}

static void on_begin(void *opaque)
{
    struct bench *b = opaque;

    b->asked_ns = clock_now_ns();
    for (size_t i = 0; i < b->waiting; i++)
        begin_one(b);
    loop_timer_arm(&b->loop, &b->late, b->asked_ns + b->timeout_ns);
}

static void on_late(void *opaque)
{
    struct bench *b = opaque;

    (void)fprintf(stderr, "bench_clones: %zu have not answered\n",
        b->count - b->answered - b->failed);
    b->all_ms = (double)(clock_now_ns() - b->asked_ns) / 1e6;
    loop_stop(&b->loop);
}

static void look_at(struct bench *b, pid_t pid)
{
    struct crowd_usage usage;

    crowd_look_at(pid, &usage);
    stats_add(&b->pss_kib, usage.pss_kib);
    stats_add(&b->private_kib, usage.private_kib);
}

static void report(struct bench *b, double less_kib, double kernel_kib)
{
    for (size_t i = 0; i < b->count; i++) {
        if (b->ones[i].clone != NULL)
            look_at(b, clone_pid(b->ones[i].clone));
    }
    (void)printf(
        "{\"clones\": %zu, \"answered\": %zu, \"failed\": %zu, "
        "\"all_ms\": %.1f, \"each_ms\": %.3f, \"available_less_kib\": %.0f, "
        "\"less_each_kib\": %.1f, \"kernel_each_kib\": %.1f,\n",
        b->count, b->answered, b->failed, b->all_ms,
        b->all_ms / (double)b->count, less_kib, less_kib / (double)b->count,
        kernel_kib / (double)b->count);
    stats_print(&b->pss_kib, "pss", "KiB", stdout);
    (void)fputs(",\n", stdout);
    stats_print(&b->private_kib, "private", "KiB", stdout);
    (void)fputs("}\n", stdout);
}

int main(int argc, char **argv)
{
    static struct bench b = {.count = 100, .timeout_ns = 600 * CLOCK_NS_PER_S};
    static char template_name[] = "bench";
    struct template template = {.name = template_name};
    const struct zygote_config zygote = {.template = &template};
    struct pool_config pool = {.loop = &b.loop};
    struct crowd_host before;
    struct crowd_host after;
    struct err err;
    int opt;

    while ((opt = getopt(argc, argv, "n:p:t:w:")) != -1) {
        if (opt == 'n')
            b.count = strtoull(optarg, NULL, 0);
        else if (opt == 'p')
            b.port = (uint32_t)strtoul(optarg, NULL, 0);
        else if (opt == 'w')
            b.waiting = strtoull(optarg, NULL, 0);
        else if (opt == 't')
            b.timeout_ns = strtoull(optarg, NULL, 0) * CLOCK_NS_PER_S;
        else
            return EXIT_FAILURE;
    }
    b.ones = calloc(b.count, sizeof(*b.ones));
    if (optind + 1 != argc || b.count == 0 || b.ones == NULL)
        return EXIT_FAILURE;
    template.store = argv[optind];
    pool.max = (uint32_t)b.count;
    if (b.waiting == 0)
        b.waiting = b.count;
    b.begin = (struct loop_timer){.fire = on_begin, .opaque = &b};
    b.late = (struct loop_timer){.fire = on_late, .opaque = &b};
    if (zygote_start(&zygote, &pool.zygote_fd, &err) < 0 ||
        loop_init(&b.loop, &err) < 0 || pool_open(&pool, &b.pool, &err) < 0) {
        (void)fprintf(stderr, "bench_clones: %s\n", err.text);
        return EXIT_FAILURE;
    }
    crowd_look_at_host(&before);
    loop_timer_arm(&b.loop, &b.begin, clock_now_ns());
    (void)!loop_run(&b.loop);
    crowd_look_at_host(&after);
    report(&b, before.available_kib - after.available_kib,
        after.kernel_kib - before.kernel_kib);
    for (size_t i = 0; i < b.count; i++)
        fd_closep(&b.ones[i].answer.fd);
    pool_close(b.pool);
    loop_fini(&b.loop);
    free(b.ones);
    return b.failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
