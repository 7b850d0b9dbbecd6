/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_flood [-n REQUESTS] [-p PAUSE_US] [-k MACHINES] SPORE GUEST [FLOOD...]
 *             [-- OPTION...]
 *
 * What a machine that floods costs its neighbours, and itself. GUEST is
 * flood.elf of tests/guests. One machine answers requests of 64 bytes over
 * vsock, one after the other with a pause between them; their latency is
 * measured while it is alone, and for each FLOOD (all of them without any)
 * while a second machine, or MACHINES, do that. Those are started with the
 * OPTIONs, so that limits can be compared. The memory of the first of them is
 * what the monitor has beside the guest's RAM, at its start and the most of
 * some looks during the flood. Nothing is pinned; what else the host does is in
 * all figures. Prints JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/stats.h"
#include "tests/guests/flood.h"
#include "vmm/base/clock.h"

#define REQUEST_BYTES 64u
#define PATIENCE_NS   (30 * CLOCK_NS_PER_S)
#define LOOK_EVERY    50u
#define ARGS_MAX      64u
#define FLOODERS_MAX  64u

struct bench {
    const char *spore;
    const char *guest;
    char *const *options; /* of the one that floods; ends with NULL */
    unsigned int requests;
    unsigned int pause_us;
    unsigned int flooders;
    char dir[64];
};

static void die(const char *what)
{
    (void)fprintf(stderr, "bench_flood: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- machines ------------------------------------------------------------ */

/* Runs spore to its end; its status. */
static int run_spore(const struct bench *b, char *const *args)
{
    int status = 0;
    pid_t pid = fork();

    if (pid < 0)
        die("fork");
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        (void)dup2(null, STDIN_FILENO);
        (void)dup2(null, STDOUT_FILENO);
        (void)execv(b->spore, args);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) < 0)
        die("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void start_machine(
    const struct bench *b, char *id, char *word, char *const *options)
{
    char *args[ARGS_MAX];
    char kernel[512];
    char cmdline[64];
    char vsock[128];
    char console[128];
    char log[128];
    size_t n = 0;

    (void)snprintf(kernel, sizeof(kernel), "--kernel=%s", b->guest);
    (void)snprintf(cmdline, sizeof(cmdline), "--cmdline=flood=%s", word);
    (void)snprintf(vsock, sizeof(vsock), "--vsock=%s/%s", b->dir, id);
    (void)snprintf(
        console, sizeof(console), "--virtio-console=%s/%s.out", b->dir, id);
    (void)snprintf(log, sizeof(log), "--log=%s/%s.log", b->dir, id);
    args[n++] = (char[]){"spore"};
    args[n++] = (char[]){"run"};
    args[n++] = (char[]){"--console"};
    args[n++] = (char[]){"--detach"};
    args[n++] = (char[]){"--id"};
    args[n++] = id;
    args[n++] = (char[]){"--mem=64"};
    args[n++] = (char[]){"--timeout=600"};
    args[n++] = kernel;
    args[n++] = cmdline;
    args[n++] = vsock;
    args[n++] = console;
    args[n++] = log;
    for (; *options != NULL && n < ARGS_MAX - 2; options++)
        args[n++] = *options;
    args[n] = NULL;
    if (run_spore(b, args) != 0) {
        (void)fprintf(stderr, "bench_flood: %s did not start: see above\n", id);
        exit(1);
    }
}

static void kill_machine(const struct bench *b, char *id)
{
    char *args[] = {(char[]){"spore"}, (char[]){"kill"}, id, NULL};

    (void)run_spore(b, args);
}

/* ---- their sockets ------------------------------------------------------- */

static struct sockaddr_un address(const struct bench *b, const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", b->dir, name);
    return addr;
}

static int connect_to(const struct bench *b, const char *name)
{
    struct sockaddr_un addr = address(b, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)(const void *)&addr,
                      sizeof(addr)) < 0)
        die(name);
    return fd;
}

/* Who connects to it waits in its queue, and nobody reads. */
static int listen_at(const struct bench *b, const char *name)
{
    struct sockaddr_un addr = address(b, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 ||
        bind(fd, (const struct sockaddr *)(const void *)&addr, sizeof(addr)) <
            0 ||
        listen(fd, 4096) < 0)
        die(name);
    return fd;
}

/* The monitor's process, by the machine's own word. */
static int find_pid(const struct bench *b, const char *id)
{
    static const char ask[] =
        "GET /spore HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    char text[8192];
    char name[64];
    size_t len = 0;
    const char *at;
    ssize_t n;
    int fd;

    (void)snprintf(name, sizeof(name), "run/spore/%s/api.sock", id);
    fd = connect_to(b, name);
    if (write(fd, ask, sizeof(ask) - 1) < 0)
        die(name);
    while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    (void)close(fd);
    at = strstr(text, "\"pid\":");
    if (at == NULL)
        die("pid");
    return (int)strtol(at + 6, NULL, 10);
}

/* Memory that is not shared with anybody and no guest's: RssAnon, proc(5). */
static long own_kib(int pid)
{
    char path[64];
    char line[256];
    long kib = -1;
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    f = fopen(path, "re");
    if (f == NULL)
        die(path);
    while (fgets(line, sizeof(line), f) != NULL)
        (void)sscanf(line, "RssAnon: %ld kB", &kib);
    (void)fclose(f);
    return kib;
}

/* ---- requests ------------------------------------------------------------ */

static bool read_all(int fd, char *bytes, size_t len)
{
    size_t at = 0;

    while (at < len) {
        ssize_t n = read(fd, bytes + at, len - at);

        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

/* A connection to the guest that echoes, once that is up. */
static int connect_echo(const struct bench *b)
{
    uint64_t end = clock_now_ns() + PATIENCE_NS;
    char ask[32];
    char byte;

    (void)snprintf(ask, sizeof(ask), "CONNECT %u\n", (unsigned)FLOOD_ECHO);
    while (clock_now_ns() < end) {
        int fd = connect_to(b, "neighbour");

        if (write(fd, ask, strlen(ask)) == (ssize_t)strlen(ask) &&
            read(fd, &byte, 1) == 1) {
            /* "OK <port>" and no more. */
            while (byte != '\n' && read(fd, &byte, 1) == 1)
                continue;
            return fd;
        }
        (void)close(fd);
        (void)usleep(10000);
    }
    errno = ETIMEDOUT;
    die("the guest that echoes");
    return -1;
}

/* `pid` > 0: *ret_most is the most memory that was seen. */
static void measure(const struct bench *b, int fd, struct stats *latency,
    int pid, long *ret_most)
{
    char request[REQUEST_BYTES];
    char reply[REQUEST_BYTES];

    *ret_most = 0;
    for (unsigned int i = 0; i < b->requests; i++) {
        uint64_t start;

        memset(request, (int)(i % 251), sizeof(request));
        start = clock_now_ns();
        if (write(fd, request, sizeof(request)) != sizeof(request) ||
            !read_all(fd, reply, sizeof(reply)) ||
            memcmp(request, reply, sizeof(reply)) != 0)
            die("an answer");
        stats_add(latency, (double)(clock_now_ns() - start) / 1000);
        if (pid > 0 && i % LOOK_EVERY == LOOK_EVERY - 1) {
            long kib = own_kib(pid);

            *ret_most = kib > *ret_most ? kib : *ret_most;
        }
        (void)usleep(b->pause_us);
    }
}

static void measure_alone(const struct bench *b, int fd, const char *name)
{
    struct stats latency = {0};
    long most;

    measure(b, fd, &latency, 0, &most);
    stats_print(&latency, name, "us", stdout);
    stats_free(&latency);
}

static void measure_flood(const struct bench *b, int fd, char *word)
{
    struct stats latency = {0};
    int listeners[FLOODERS_MAX];
    char ids[FLOODERS_MAX][24];
    char name[32];
    long start;
    long most;
    int pid;

    for (unsigned int i = 0; i < b->flooders; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "flooder%u", i);
        (void)snprintf(name, sizeof(name), "%.20s_%d", ids[i], FLOOD_PORT);
        listeners[i] = listen_at(b, name);
        start_machine(b, ids[i], word, b->options);
    }
    pid = find_pid(b, ids[0]);
    start = own_kib(pid);
    measure(b, fd, &latency, pid, &most);
    (void)printf(", \"%s\": {", word);
    stats_print(&latency, "latency", "us", stdout);
    (void)printf(", \"flooder_kib_at_start\": %ld, \"flooder_kib_most\": %ld}",
        start, most);
    stats_free(&latency);
    for (unsigned int i = 0; i < b->flooders; i++) {
        kill_machine(b, ids[i]);
        (void)snprintf(name, sizeof(name), "%.20s_%d", ids[i], FLOOD_PORT);
        (void)close(listeners[i]);
        (void)unlink(address(b, name).sun_path);
    }
}

static void clean_up(const struct bench *b)
{
    char *args[] = {
        (char[]){"rm"}, (char[]){"-rf"}, (char *)(uintptr_t)b->dir, NULL};
    pid_t pid = fork();

    if (pid == 0) {
        (void)execvp("rm", args);
        _exit(127);
    }
    (void)waitpid(pid, NULL, 0);
}

static void print_options(char *const *options)
{
    (void)printf("\"options\": \"");
    for (; *options != NULL; options++)
        (void)printf("%s%s", *options, options[1] != NULL ? " " : "");
    (void)printf("\", ");
}

int main(int argc, char **argv)
{
    char *all[] = {(char[]){"memory"}, (char[]){"nobody"}, (char[]){"serial"},
        (char[]){"console"}, (char[]){"vsock"}, NULL};
    char neighbour[] = "neighbour";
    char echo[] = "echo";
    char *none[] = {NULL};
    struct bench b = {
        .requests = 500, .pause_us = 5000, .flooders = 1, .options = none};
    char **floods = all;
    char run[96];
    int opt;
    int fd;

    while ((opt = getopt(argc, argv, "+n:p:k:")) > 0) {
        if (opt == 'n')
            b.requests = (unsigned int)strtoul(optarg, NULL, 10);
        else if (opt == 'p')
            b.pause_us = (unsigned int)strtoul(optarg, NULL, 10);
        else if (opt == 'k')
            b.flooders = (unsigned int)strtoul(optarg, NULL, 10);
        else
            return 2;
    }
    if (argc - optind < 2 || b.requests == 0 || b.flooders > FLOODERS_MAX ||
        b.flooders == 0) {
        (void)fputs("usage: bench_flood [-n REQUESTS] [-p PAUSE_US] [-k "
                    "MACHINES] SPORE "
                    "GUEST [FLOOD...] [-- OPTION...]\n",
            stderr);
        return 2;
    }
    b.spore = argv[optind];
    b.guest = argv[optind + 1];
    optind += 2;
    for (int i = optind; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            b.options = argv + i + 1;
            argv[i] = NULL;
            break;
        }
    }
    if (argv[optind] != NULL)
        floods = argv + optind;
    (void)snprintf(b.dir, sizeof(b.dir), "/tmp/spore-flood-XXXXXX");
    if (mkdtemp(b.dir) == NULL)
        die(b.dir);
    (void)snprintf(run, sizeof(run), "%s/run", b.dir);
    if (mkdir(run, 0700) < 0 || setenv("XDG_RUNTIME_DIR", run, 1) < 0)
        die(run);
    start_machine(&b, neighbour, echo, none);
    fd = connect_echo(&b);
    (void)printf("{\"bench\": \"flood\", \"cpus\": %ld, \"pause_us\": %u, "
                 "\"machines\": %u, ",
        sysconf(_SC_NPROCESSORS_ONLN), b.pause_us, b.flooders);
    print_options(b.options);
    measure_alone(&b, fd, "alone");
    for (; *floods != NULL; floods++)
        measure_flood(&b, fd, *floods);
    (void)printf(", ");
    measure_alone(&b, fd, "alone_again");
    (void)printf("}\n");
    kill_machine(&b, neighbour);
    clean_up(&b);
    return 0;
}
