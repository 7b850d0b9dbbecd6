/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libspore as a program uses it, with clones of a bare guest that is a function
 * (tests/guests/function.c): lib_probe CASE TEMPLATE. Says "ok" at its end.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guests/function.h"
#include "vmm/base/cc.h"
#include "vmm/lib/spore.h"

#define WAIT_MS      60000u
#define THREADS      8u
#define ROUNDS       10u
#define REQUEST      "GET / HTTP/1.1\r\n\r\n"
#define EXIT         "GET /exit HTTP/1.1\r\n\r\n"
#define EXPECT(cond) expect((cond), #cond, __LINE__)

static atomic_int signals;
static struct spore_error error;

static void expect(bool holds, const char *what, int line)
{
    if (holds)
        return;
    (void)printf("line %d: %s (%s)\n", line, what, error.text);
    exit(EXIT_FAILURE);
}

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

static struct spore_template *open_template(
    const char *name, uint32_t max, uint32_t flags)
{
    struct spore_template_options options = SPORE_TEMPLATE_OPTIONS_INIT;
    struct spore_template *t = NULL;

    options.max_clones = max;
    options.flags = flags;
    EXPECT(spore_template_open(name, &options, &t, &error) == 0);
    return t;
}

static struct spore_clone *open_clone(struct spore_template *t)
{
    struct spore_clone *clone = NULL;

    EXPECT(spore_clone_open(t, WAIT_MS, &clone, &error) == 0);
    return clone;
}

/* What it answers to a request: up to the end, or to the count's line. */
static size_t ask(
    struct spore_clone *clone, const char *request, char *text, size_t room)
{
    size_t len = 0;
    int fd = -1;

    EXPECT(spore_clone_connect(clone, FUNCTION_HTTP, &fd, &error) == 0);
    EXPECT(send(fd, request, strlen(request), MSG_NOSIGNAL) ==
           (ssize_t)strlen(request));
    while (len < room - 1) {
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        const char *body;
        ssize_t n;

        EXPECT(poll(&wanted, 1, (int)WAIT_MS) == 1);
        n = recv(fd, text + len, room - 1 - len, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
        text[len] = '\0';
        body = strstr(text, "\r\n\r\n");
        if (body != NULL && strchr(body + 4, '\n') != NULL)
            break;
    }
    text[len] = '\0';
    (void)close(fd);
    return len;
}

static int count_of(struct spore_clone *clone)
{
    char text[512];
    const char *body;

    EXPECT(ask(clone, REQUEST, text, sizeof(text)) > 0);
    body = strstr(text, "\r\n\r\n");
    EXPECT(body != NULL);
    return atoi(body + 4);
}

/* Requests are counted; a reset takes that back; another clone has its own. */
static void test_count(const char *name, uint32_t flags)
{
    struct spore_template *t = open_template(name, 2, flags);
    struct spore_clone *one = open_clone(t);
    struct spore_clone *two = open_clone(t);

    EXPECT(count_of(one) == 1);
    EXPECT(count_of(one) == 2);
    EXPECT(count_of(two) == 1);
    EXPECT(spore_clone_reset(one, WAIT_MS, &error) == 0);
    EXPECT(count_of(one) == 1);
    EXPECT(count_of(two) == 2);
    spore_clone_close(one);
    one = open_clone(t);
    EXPECT(count_of(one) == 1);
    spore_clone_close(one);
    spore_clone_close(two);
    spore_template_close(t);
}

/* What is in the way is said, and what was there goes on. */
static void test_limits(const char *name)
{
    struct spore_template_options options = SPORE_TEMPLATE_OPTIONS_INIT;
    struct spore_exec command = SPORE_EXEC_INIT;
    static const char *const argv[] = {"true", NULL};
    static const char *const bad_env[] = {"NOVALUE", NULL};
    struct spore_template *t = NULL;
    struct spore_clone *clone;
    struct spore_clone *other = NULL;
    char text[512];

    EXPECT(spore_template_open("nothing", NULL, &t, &error) == -ENOENT);
    EXPECT(strstr(error.text, "spore template") != NULL);
    options.program = "/nonexistent/spore";
    EXPECT(spore_template_open(name, &options, &t, &error) == -ENOENT);
    options.program = NULL;
    options.max_clones = 1;
    options.ready = 2;
    EXPECT(spore_template_open(name, &options, &t, &error) == -EINVAL);
    options.size = 4;
    EXPECT(spore_template_open(name, &options, &t, &error) == -EINVAL);
    t = open_template(name, 1, 0);
    clone = open_clone(t);
    /* All that there may be are in use. */
    EXPECT(spore_clone_open(t, 50, &other, &error) == -ETIMEDOUT);
    EXPECT(other == NULL);
    /* It has no agent, and says so or nothing. */
    command.argv = argv;
    command.timeout_ms = 500;
    EXPECT(spore_clone_exec(clone, &command, NULL, &error) < 0);
    command.env = bad_env;
    EXPECT(spore_clone_exec(clone, &command, NULL, &error) == -EINVAL);
    EXPECT(count_of(clone) == 1);
    /* One that has ended says so, and is there again when it is reset. */
    (void)ask(clone, EXIT, text, sizeof(text));
    for (;;) {
        int fd = -1;
        int rc = spore_clone_connect(clone, FUNCTION_HTTP, &fd, &error);

        if (rc < 0) {
            EXPECT(rc == -ESHUTDOWN || rc == -EPIPE);
            break;
        }
        (void)close(fd);
    }
    EXPECT(spore_clone_reset(clone, WAIT_MS, &error) == 0);
    EXPECT(count_of(clone) == 1);
    spore_template_close(t);
    EXPECT(spore_clone_reset(clone, WAIT_MS, &error) == -EPIPE);
    spore_clone_close(clone);
}

/* Neither children nor signals come of it. */
static void test_surprises(const char *name)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct spore_template *t;
    struct spore_clone *clone;

    EXPECT(sigaction(SIGCHLD, &action, NULL) == 0);
    EXPECT(sigaction(SIGPIPE, &action, NULL) == 0);
    t = open_template(name, 1, 0);
    clone = open_clone(t);
    EXPECT(count_of(clone) == 1);
    EXPECT(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD);
    spore_template_close(t);
    EXPECT(spore_clone_reset(clone, WAIT_MS, &error) == -EPIPE);
    spore_clone_close(clone);
    EXPECT(atomic_load(&signals) == 0);
    EXPECT(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD);
}

static void *use_clones(void *opaque)
{
    struct spore_template *t = opaque;

    for (unsigned int i = 0; i < ROUNDS; i++) {
        struct spore_clone *clone = NULL;
        struct spore_error own;

        if (spore_clone_open(t, WAIT_MS, &clone, &own) < 0)
            return own.text[0] == '\0' ? NULL : t;
        EXPECT(count_of(clone) == 1);
        EXPECT(spore_clone_reset(clone, WAIT_MS, &own) == 0);
        EXPECT(count_of(clone) == 1);
        spore_clone_close(clone);
    }
    return NULL;
}

static void test_threads(const char *name)
{
    struct spore_template *t = open_template(name, 4, 0);
    pthread_t threads[THREADS];

    for (unsigned int i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&threads[i], NULL, use_clones, t) == 0);
    for (unsigned int i = 0; i < THREADS; i++) {
        void *result = NULL;

        EXPECT(pthread_join(threads[i], &result) == 0);
        EXPECT(result == NULL);
    }
    spore_template_close(t);
}

/* A call that never ends by itself does, when another thread says so. */
static void *wait_for_clone(void *opaque)
{
    struct spore_clone *clone = opaque;
    struct spore_exec command = SPORE_EXEC_INIT;
    static const char *const argv[] = {"true", NULL};
    struct spore_error own;
    static int result;

    command.argv = argv;
    do {
        result = spore_clone_exec(clone, &command, NULL, &own);
    } while (result == -EIO);
    return &result;
}

static void test_kill(const char *name)
{
    struct spore_template *t = open_template(name, 2, 0);
    struct spore_clone *clone = open_clone(t);
    pthread_t thread;
    void *result = NULL;

    EXPECT(pthread_create(&thread, NULL, wait_for_clone, clone) == 0);
    spore_clone_kill(clone);
    EXPECT(pthread_join(thread, &result) == 0);
    EXPECT(*(const int *)result == -ECANCELED);
    EXPECT(spore_clone_reset(clone, WAIT_MS, &error) == -ECANCELED);
    spore_clone_close(clone);
    spore_template_close(t);
}

/* ---- commands, in a Linux guest with a shell ------------------------------
 */

#define INPUT_SIZE 1000000u

struct seen {
    size_t size;
    bool refuses;
    char text[256]; /* how it begins */
};

static int see(void *opaque, const void *data, size_t size)
{
    struct seen *seen = opaque;

    if (seen->size < sizeof(seen->text) - 1) {
        size_t room = sizeof(seen->text) - 1 - seen->size;

        memcpy(seen->text + seen->size, data, size < room ? size : room);
    }
    seen->size += size;
    return seen->refuses ? 1 : 0;
}

static int run(struct spore_clone *clone, const char *script,
    const struct spore_exec *more, struct seen *ret_seen, int *ret_status)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct spore_exec command = *more;
    bool refuses = ret_seen->refuses;

    memset(ret_seen, 0, sizeof(*ret_seen));
    ret_seen->refuses = refuses;
    command.argv = script == NULL ? NULL : argv;
    command.on_stdout = see;
    command.opaque = ret_seen;
    if (command.timeout_ms == 0)
        command.timeout_ms = WAIT_MS;
    return spore_clone_exec(clone, &command, ret_status, &error);
}

static void *sleep_long(void *opaque)
{
    struct spore_clone *clone = opaque;
    const char *const argv[] = {"busybox", "sleep", "1000", NULL};
    struct spore_exec command = SPORE_EXEC_INIT;
    static int result;

    command.argv = argv;
    result = spore_clone_exec(clone, &command, NULL, NULL);
    return &result;
}

/* A pipe's writing end in place of a callback. */
static void test_fds(struct spore_clone *clone)
{
    struct spore_exec command = SPORE_EXEC_INIT;
    struct seen seen = {0};
    char text[64] = "";
    int in[2];
    int out[2];
    int status = -1;

    EXPECT(pipe(in) == 0 && pipe(out) == 0);
    EXPECT(write(in[1], "from a pipe\n", 12) == 12);
    (void)close(in[1]);
    command.stdin_fd = in[0];
    command.stderr_fd = out[1];
    EXPECT(run(clone, "cat >&2", &command, &seen, &status) == 0);
    EXPECT(status == 0 && seen.size == 0);
    EXPECT(read(out[0], text, sizeof(text) - 1) == 12);
    EXPECT(strcmp(text, "from a pipe\n") == 0);
    (void)close(in[0]);
    (void)close(out[0]);
    (void)close(out[1]);
}

static void test_exec(const char *name)
{
    static char input[INPUT_SIZE];
    struct spore_template *t = open_template(name, 1, 0);
    struct spore_clone *clone = open_clone(t);
    const struct spore_exec plain = SPORE_EXEC_INIT;
    struct spore_exec command = plain;
    struct seen seen = {0};
    static const char *const env[] = {"WHO=me", NULL};
    pthread_t thread;
    void *result = NULL;
    int status = -1;

    /* The template's own command. */
    EXPECT(run(clone, NULL, &plain, &seen, &status) == 0 && status == 0);
    EXPECT(strstr(seen.text, "web:x:10:10:web:/srv:/bin/sh\n") != NULL);
    /* Status, environment, folder, user. */
    EXPECT(run(clone, "exit 42", &plain, &seen, &status) == 0 && status == 42);
    EXPECT(run(clone, "kill -9 $$", &plain, &seen, &status) == 0);
    EXPECT(status == 128 + SIGKILL);
    command.env = env;
    command.cwd = "/etc";
    command.user = "10:10";
    EXPECT(
        run(clone, "echo $GREETING $WHO; pwd", &command, &seen, &status) == 0);
    EXPECT(strcmp(seen.text, "hello me\n/etc\n") == 0);
    /* More than any buffer holds, there and back. */
    memset(input, 'x', sizeof(input));
    command = plain;
    command.input = input;
    command.input_size = sizeof(input);
    EXPECT(run(clone, "cat", &command, &seen, &status) == 0 && status == 0);
    EXPECT(seen.size == sizeof(input));
    /* Input that nobody reads. */
    EXPECT(run(clone, "exit 1", &command, &seen, &status) == 0 && status == 1);
    test_fds(clone);
    /* Time is up, output is refused: the clone goes on. */
    command = plain;
    command.timeout_ms = 500;
    EXPECT(run(clone, "busybox sleep 1000", &command, &seen, &status) ==
           -ETIMEDOUT);
    seen.refuses = true;
    EXPECT(run(clone, "while :; do echo x; done", &plain, &seen, &status) ==
           -ECANCELED);
    seen.refuses = false;
    EXPECT(run(clone, "echo on", &plain, &seen, &status) == 0);
    EXPECT(strcmp(seen.text, "on\n") == 0);
    /* A reset takes back what was written. */
    EXPECT(run(clone, "echo > /srv/file; echo /srv/*", &plain, &seen,
               &status) == 0);
    EXPECT(strstr(seen.text, "/srv/file") != NULL);
    EXPECT(spore_clone_reset(clone, WAIT_MS, &error) == 0);
    EXPECT(run(clone, "echo /srv/*", &plain, &seen, &status) == 0);
    EXPECT(strstr(seen.text, "/srv/file") == NULL);
    EXPECT(pthread_create(&thread, NULL, sleep_long, clone) == 0);
    spore_clone_kill(clone);
    EXPECT(pthread_join(thread, &result) == 0);
    EXPECT(*(const int *)result == -ECANCELED);
    spore_clone_close(clone);
    spore_template_close(t);
}

/* Stays with its clones until it is killed. A child of its has all that it has
 * open, and stays. */
static void stay(const char *name)
{
    struct spore_template *t = open_template(name, 3, 0);

    for (unsigned int i = 0; i < 3; i++)
        EXPECT(count_of(open_clone(t)) == 1);
    if (fork() == 0) {
        (void)pause();
        _exit(0);
    }
    (void)puts("stays");
    (void)fflush(stdout);
    (void)pause();
}

int main(int argc, char **argv)
{
    const char *name = argv[2];

    EXPECT(argc == 3);
    if (strcmp(argv[1], "count") == 0)
        test_count(name, 0);
    else if (strcmp(argv[1], "renew") == 0)
        test_count(name, SPORE_TEMPLATE_RENEW);
    else if (strcmp(argv[1], "limits") == 0)
        test_limits(name);
    else if (strcmp(argv[1], "surprises") == 0)
        test_surprises(name);
    else if (strcmp(argv[1], "threads") == 0)
        test_threads(name);
    else if (strcmp(argv[1], "kill") == 0)
        test_kill(name);
    else if (strcmp(argv[1], "exec") == 0)
        test_exec(name);
    else
        stay(name);
    (void)puts("ok");
    return 0;
}
