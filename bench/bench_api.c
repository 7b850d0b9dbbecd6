/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_api [-n RUNS] [-g GAP_MS] PROGRAM KERNEL
 *
 * Starts PROGRAM (spore-firecracker, or another that has its options) again and
 * again and drives it over its socket: from before the start of the process to
 * the socket and to the first reply, requests and replies on a connection that
 * is there, InstanceStart of KERNEL (a bare guest that writes to its serial
 * port) to the first byte on standard output, and the process's start to that
 * byte; and the memory that is only the process's before its machine is made.
 * Prints JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/stats.h"
#include "vmm/base/clock.h"

#define REQUESTS 100

struct bench {
    const char *program;
    const char *kernel;
    char dir[64]; /* the socket's, and of nothing else */
    int watch_fd; /* for what appears in dir; closing it takes milliseconds */
    struct sockaddr_un addr;
    struct stats socket_us;
    struct stats first_reply_us;
    struct stats request_us;
    struct stats start_us;
    struct stats first_byte_us;
    struct stats private_kib; /* pages of the program's file included */
    struct stats dirty_kib;
};

static int spawn(const struct bench *b, int out, pid_t *ret_pid)
{
    char *argv[] = {(char *)(uintptr_t)b->program,
        (char *)(uintptr_t) "--api-sock", (char *)(uintptr_t)b->addr.sun_path,
        NULL};
    posix_spawn_file_actions_t actions;
    int rc;

    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(
        &actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    rc = posix_spawn(ret_pid, b->program, &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

/*
 * Waits until somebody listens; -ETIMEDOUT after a second. Not by trying all
 * the time: the scheduler would have the process that is started wait for a
 * slice of the one that waits for it.
 */
static int connect_to(const struct bench *b)
{
    uint64_t end = clock_now_ns() + CLOCK_NS_PER_S;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    while (clock_now_ns() < end) {
        char event[sizeof(struct inotify_event) + NAME_MAX + 1];
        struct pollfd p = {.fd = b->watch_fd, .events = POLLIN};

        if (connect(fd, (const struct sockaddr *)&b->addr, sizeof(b->addr)) ==
            0)
            return fd;
        /* It is there, and not listened at for an instant. */
        if (errno == ECONNREFUSED)
            (void)sched_yield();
        else if (poll(&p, 1, 1000) == 1)
            (void)!read(b->watch_fd, event, sizeof(event));
    }
    (void)close(fd);
    return -ETIMEDOUT;
}

/* 0 if the answer begins with `status`; replies come in one piece. */
static int ask(int fd, const char *verb, const char *path, const char *body,
    const char *status)
{
    char text[2048];
    ssize_t len = snprintf(text, sizeof(text),
        "%s %s HTTP/1.1\r\nContent-Length: %zu\r\n\r\n%s", verb, path,
        strlen(body), body);

    if (send(fd, text, (size_t)len, MSG_NOSIGNAL) != len)
        return -EPIPE;
    len = recv(fd, text, sizeof(text) - 1, 0);
    if (len <= 0)
        return -EPIPE;
    text[len] = '\0';
    if (strncmp(text + 9, status, 3) == 0)
        return 0;
    (void)fprintf(stderr, "%s %s: %s\n", verb, path, text);
    return -EPROTO;
}

static void take_memory(struct bench *b, pid_t pid)
{
    char path[64];
    char line[256];
    long kib;
    double sum = 0;
    double dirty = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "Private_Clean: %ld", &kib) == 1)
            sum += (double)kib;
        if (sscanf(line, "Private_Dirty: %ld", &kib) == 1)
            dirty += (double)kib;
    }
    (void)fclose(file);
    stats_add(&b->private_kib, sum + dirty);
    stats_add(&b->dirty_kib, dirty);
}

static int take_requests(struct bench *b, int fd)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < REQUESTS; i++) {
        uint64_t begin = clock_now_ns();

        rc = ask(fd, "GET", "/", "", "200");
        stats_add(&b->request_us, (double)(clock_now_ns() - begin) / 1e3);
    }
    return rc;
}

static int boot(struct bench *b, int fd, int out, uint64_t *ret_asked)
{
    char body[1024];
    char byte;
    int rc;

    (void)snprintf(
        body, sizeof(body), "{\"kernel_image_path\":\"%s\"}", b->kernel);
    rc = ask(fd, "PUT", "/machine-config",
        "{\"vcpu_count\":1,\"mem_size_mib\":128}", "204");
    if (rc == 0)
        rc = ask(fd, "PUT", "/boot-source", body, "204");
    *ret_asked = clock_now_ns();
    if (rc == 0)
        rc = ask(fd, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}",
            "204");
    if (rc == 0 && read(out, &byte, 1) != 1)
        rc = -ENODATA;
    return rc;
}

/*
 * Idle, or as fast as it goes: what is only measured does not stand between
 * the process's start and the guest's first byte.
 */
static int run_once(struct bench *b, bool is_idle)
{
    uint64_t start;
    uint64_t there;
    uint64_t replied;
    uint64_t asked;
    uint64_t byte;
    int fds[2];
    pid_t pid;
    int fd;
    int rc;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    start = clock_now_ns();
    rc = spawn(b, fds[1], &pid);
    (void)close(fds[1]);
    if (rc < 0)
        return rc;
    fd = connect_to(b);
    there = clock_now_ns();
    rc = fd < 0 ? fd : ask(fd, "GET", "/", "", "200");
    replied = clock_now_ns();
    if (rc == 0 && is_idle) {
        take_memory(b, pid);
        rc = take_requests(b, fd);
        stats_add(&b->socket_us, (double)(there - start) / 1e3);
        stats_add(&b->first_reply_us, (double)(replied - start) / 1e3);
    } else if (rc == 0) {
        rc = boot(b, fd, fds[0], &asked);
        byte = clock_now_ns();
        stats_add(&b->start_us, (double)(byte - asked) / 1e3);
        stats_add(&b->first_byte_us, (double)(byte - start) / 1e3);
    }
    if (fd >= 0)
        (void)close(fd);
    (void)close(fds[0]);
    (void)kill(pid, SIGTERM);
    (void)waitpid(pid, NULL, 0);
    (void)unlink(b->addr.sun_path);
    return rc;
}

int main(int argc, char **argv)
{
    struct bench b = {.addr = {.sun_family = AF_UNIX}};
    struct timespec gap = {.tv_nsec = 20000000};
    const struct {
        struct stats *stats;
        const char *name;
        const char *unit;
    } rows[] = {
        {&b.socket_us, "start_to_socket", "us"},
        {&b.first_reply_us, "start_to_first_reply", "us"},
        {&b.request_us, "request_and_reply", "us"},
        {&b.start_us, "instance_start_to_first_byte", "us"},
        {&b.first_byte_us, "start_to_first_byte", "us"},
        {&b.private_kib, "private_idle", "KiB"},
        {&b.dirty_kib, "private_dirty_idle", "KiB"},
    };
    int runs = 200;
    int opt;

    while ((opt = getopt(argc, argv, "+n:g:")) != -1) {
        if (opt == 'n')
            runs = atoi(optarg);
        else if (opt == 'g')
            gap.tv_nsec = atol(optarg) * 1000000;
        else
            return 2;
    }
    if (optind + 2 != argc || runs < 1) {
        (void)fputs(
            "usage: bench_api [-n RUNS] [-g GAP_MS] PROGRAM KERNEL\n", stderr);
        return 2;
    }
    b.program = argv[optind];
    b.kernel = argv[optind + 1];
    (void)snprintf(b.dir, sizeof(b.dir), "/tmp/bench-api-XXXXXX");
    b.watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (mkdtemp(b.dir) == NULL || b.watch_fd < 0 ||
        inotify_add_watch(b.watch_fd, b.dir, IN_CREATE) < 0) {
        (void)fputs("bench_api: no folder in /tmp to look at\n", stderr);
        return 1;
    }
    (void)snprintf(
        b.addr.sun_path, sizeof(b.addr.sun_path), "%s/api.sock", b.dir);
    for (int i = 0; i < 2 * runs; i++) {
        int rc = run_once(&b, i % 2 == 0);

        if (rc < 0) {
            (void)fprintf(stderr, "%s: %s\n", b.program, strerrordesc_np(-rc));
            (void)rmdir(b.dir);
            return 1;
        }
        /* Lets what the last one left to the kernel finish. */
        (void)nanosleep(&gap, NULL);
    }
    (void)rmdir(b.dir);
    (void)printf("{\"bench\": \"api\", \"program\": \"%s\"", b.program);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void)fputs(", ", stdout);
        stats_print(rows[i].stats, rows[i].name, rows[i].unit, stdout);
        stats_free(rows[i].stats);
    }
    (void)fputs("}\n", stdout);
    return 0;
}
