/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_first_byte [-n RUNS] [-g GAP_MS] -- COMMAND...
 *
 * Starts COMMAND again and again and measures, from before the start of the
 * process, until the first byte on its standard output and until it has been
 * reaped; its largest resident set too. Works for any monitor that boots a
 * bare guest. Prints JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/stats.h"
#include "vmm/base/clock.h"

struct bench {
    struct stats first_byte_ms;
    struct stats reaped_ms;
    struct stats max_rss_kib;
};

static int spawn(char **argv, int out, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    int rc;

    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(
        &actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    rc = posix_spawnp(ret_pid, argv[0], &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* One run; false if the command gave no byte or failed. */
static int run_once(struct bench *b, char **argv)
{
    struct rusage usage;
    uint64_t start;
    uint64_t first;
    char buf[4096];
    int fds[2];
    pid_t pid;
    int status;
    int rc;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    start = clock_now_ns();
    rc = spawn(argv, fds[1], &pid);
    (void)close(fds[1]);
    if (rc != 0)
        return -rc;
    rc = read(fds[0], buf, 1) == 1 ? 0 : -ENODATA;
    first = clock_now_ns();
    while (read(fds[0], buf, sizeof(buf)) > 0)
        continue;
    (void)close(fds[0]);
    if (wait4(pid, &status, 0, &usage) < 0)
        return -errno;
    if (rc < 0 || !WIFEXITED(status))
        return rc < 0 ? rc : -EIO;
    stats_add(&b->first_byte_ms, (double)(first - start) / 1e6);
    stats_add(&b->reaped_ms, (double)(clock_now_ns() - start) / 1e6);
    stats_add(&b->max_rss_kib, (double)usage.ru_maxrss);
    return 0;
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    struct timespec gap = {.tv_nsec = 20000000};
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
    if (optind >= argc || runs < 1) {
        (void)fputs("usage: bench_first_byte [-n RUNS] [-g GAP_MS] -- "
                    "COMMAND...\n",
            stderr);
        return 2;
    }
    for (int i = 0; i < runs; i++) {
        int rc = run_once(&bench, argv + optind);

        if (rc < 0) {
            (void)fprintf(
                stderr, "%s: %s\n", argv[optind], strerrordesc_np(-rc));
            return 1;
        }
        /* Lets what the last one left to the kernel finish. */
        (void)nanosleep(&gap, NULL);
    }
    (void)printf(
        "{\"bench\": \"first_byte\", \"command\": \"%s\", ", argv[optind]);
    stats_print(&bench.first_byte_ms, "first_byte", "ms", stdout);
    (void)fputs(", ", stdout);
    stats_print(&bench.reaped_ms, "reaped", "ms", stdout);
    (void)fputs(", ", stdout);
    stats_print(&bench.max_rss_kib, "max_rss", "KiB", stdout);
    (void)fputs("}\n", stdout);
    stats_free(&bench.first_byte_ms);
    stats_free(&bench.reaped_ms);
    stats_free(&bench.max_rss_kib);
    return 0;
}
