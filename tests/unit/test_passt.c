/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How passt is started, watched and stopped, with a script in its place that
 * tells what it was given.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <netinet/in.h>

#include "vmm/base/cc.h"
#include "vmm/base/fd.h"
#include "vmm/passt.h"

#define ROUNDS 200

struct fixture {
    struct loop loop;
    struct passt passt;
    char folder[64];
    char *path_before;
    unsigned int ends;
    char why[320];
};

static void on_end(void *opaque, const char *why)
{
    struct fixture *f = opaque;

    f->ends++;
    (void)snprintf(f->why, sizeof(f->why), "%s", why);
}

static void script_path(const struct fixture *f, char *path, size_t size)
{
    (void)snprintf(path, size, "%s/passt", f->folder);
}

/* Has "passt" be a shell script. */
static void write_script(struct fixture *f, const char *text)
{
    static const char head[] = "#!/bin/sh\n";
    char path[96];
    int fd;

    script_path(f, path, sizeof(path));
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, head, strlen(head)), 0);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    (void)close(fd);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;

    if (f == NULL || loop_init(&f->loop, &err) < 0)
        return -1;
    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/spore-passt-XXXXXX");
    if (mkdtemp(f->folder) == NULL || getenv("PATH") == NULL)
        return -1;
    f->path_before = strdup(getenv("PATH"));
    (void)setenv("PATH", f->folder, 1);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char path[96];

    passt_stop(&f->passt);
    script_path(f, path, sizeof(path));
    (void)unlink(path);
    (void)rmdir(f->folder);
    (void)setenv("PATH", f->path_before, 1);
    free(f->path_before);
    loop_fini(&f->loop);
    free(f);
    return 0;
}

static struct passt_config config_of(struct fixture *f)
{
    return (struct passt_config){.address = 0x0a010203,
        .prefix = 16,
        .gateway = 0x0a010001,
        .dns = 0x0a010003,
        .on_end = on_end,
        .opaque = f};
}

/* All that the other end says until it closes. */
static void read_all(int fd, char *text, size_t size)
{
    size_t len = 0;
    ssize_t n;

    while ((n = read(fd, text + len, size - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
}

static void wait_end(struct fixture *f)
{
    for (int i = 0; i < ROUNDS && f->ends == 0; i++)
        assert_int_equal(loop_run_once(&f->loop, 50), 0);
    assert_int_equal(f->ends, 1);
}

static void test_what_it_is_given(void **state)
{
    static const struct config_forward forwards[] = {
        {.address = 0x7f000001, .host_port = 0, .guest_port = 80},
        {.address = 0x7f000002,
            .host_port = 0,
            .guest_port = 53,
            .is_udp = true}};
    struct fixture *f = *state;
    struct passt_config config = config_of(f);
    char text[4096];
    struct err err;
    /* As one that we were started with. */
    int inherited = fcntl(STDERR_FILENO, F_DUPFD, 77);
    int fd = -1;

    assert_int_equal(inherited, 77);
    config.forwards = forwards;
    config.forward_count = ARRAY_SIZE(forwards);
    write_script(f, "echo \"$@\" >&3\n"
                    "[ ! -e /proc/self/fd/77 ] || echo leak >&3\n"
                    "[ -t 0 ] || read -r x || echo no input >&3\n"
                    "echo env=\"$HOME\" >&3\n");
    if (passt_start(&f->passt, &config, &f->loop, &fd, &err) < 0)
        fail_msg("%s", err.text);
    read_all(fd, text, sizeof(text));
    (void)close(fd);
    (void)close(inherited);
    assert_non_null(strstr(text,
        "--foreground --quiet --ipv4-only --fd 3 --address 10.1.2.3 --netmask "
        "16 --gateway 10.1.0.1 --dns 10.1.0.3 --dns-forward 10.1.0.3 "
        "--tcp-ports 127.0.0.1/0:80 --udp-ports 127.0.0.2/0:53\n"));
    assert_non_null(strstr(text, "no input\nenv=\n"));
    assert_null(strstr(text, "leak"));
    wait_end(f);
    assert_string_equal(f->why, "passt ended with status 0");
    assert_int_equal(f->passt.pid, 0);
}

static void test_forwards_nothing_by_itself(void **state)
{
    struct fixture *f = *state;
    struct passt_config config = config_of(f);
    char text[4096];
    struct err err;
    int fd = -1;

    write_script(f, "echo \"$@\" >&3\n");
    assert_int_equal(passt_start(&f->passt, &config, &f->loop, &fd, &err), 0);
    read_all(fd, text, sizeof(text));
    (void)close(fd);
    assert_non_null(strstr(text, "--tcp-ports none --udp-ports none\n"));
}

static void test_says_why_it_ended(void **state)
{
    struct fixture *f = *state;
    struct passt_config config = config_of(f);
    struct err err;
    int fd = -1;

    write_script(f, "echo first >&2\nprintf 'bad \\033[1m thing\\n' >&2\n"
                    "echo 'Failed to send 31 bytes to syslog' >&2\nexit 3\n");
    assert_int_equal(passt_start(&f->passt, &config, &f->loop, &fd, &err), 0);
    wait_end(f);
    (void)close(fd);
    assert_string_equal(f->why, "passt ended with status 3: bad ?[1m thing");
}

/* Messages that nobody reads do not stop it, and their end is not lost. */
static void test_floods_of_messages(void **state)
{
    struct fixture *f = *state;
    struct passt_config config = config_of(f);
    struct err err;
    int fd = -1;

    write_script(f, "i=0; while [ $i -lt 20000 ]; do echo 0123456789; "
                    "i=$((i + 1)); done >&2 2>/dev/null\nexit 4\n");
    assert_int_equal(passt_start(&f->passt, &config, &f->loop, &fd, &err), 0);
    wait_end(f);
    (void)close(fd);
    assert_non_null(strstr(f->why, "passt ended with status 4"));
}

static void test_killed_and_stopped(void **state)
{
    struct fixture *f = *state;
    struct passt_config config = config_of(f);
    struct err err;
    char c = 0;
    int fd = -1;
    pid_t pid;

    write_script(f, "echo >&3; read -r x <&3\n");
    assert_int_equal(passt_start(&f->passt, &config, &f->loop, &fd, &err), 0);
    assert_int_equal(read(fd, &c, 1), 1);
    assert_int_equal(kill(f->passt.pid, SIGKILL), 0);
    wait_end(f);
    assert_string_equal(f->why, "passt was ended by signal 9");
    (void)close(fd);

    assert_int_equal(passt_start(&f->passt, &config, &f->loop, &fd, &err), 0);
    pid = f->passt.pid;
    assert_true(pid > 0);
    assert_int_equal(getpgid(pid), pid);
    passt_stop(&f->passt);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    assert_int_equal(f->ends, 1);
    (void)close(fd);
}

static void test_not_installed(void **state)
{
    struct fixture *f = *state;
    struct passt_config config = config_of(f);
    struct err err;
    int fd = -1;

    assert_int_equal(
        passt_start(&f->passt, &config, &f->loop, &fd, &err), -ENOENT);
    assert_string_equal(err.text,
        "passt is not installed: `apt-get install passt` as root, or use "
        "another network, as --net tap=NAME");
    assert_int_equal(fd, -1);
}

static void test_port_that_is_taken(void **state)
{
    struct fixture *f = *state;
    struct passt_config config = config_of(f);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    struct config_forward forward = {
        .address = INADDR_LOOPBACK, .guest_port = 80};
    struct err err;
    char text[96];
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = -1;

    assert_int_equal(bind(s, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(s, 1), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&address, &size), 0);
    forward.host_port = ntohs(address.sin_port);
    config.forwards = &forward;
    config.forward_count = 1;
    assert_int_equal(
        passt_start(&f->passt, &config, &f->loop, &fd, &err), -EADDRINUSE);
    (void)snprintf(text, sizeof(text),
        "cannot forward TCP port %u of 127.0.0.1: Address already in use",
        forward.host_port);
    assert_string_equal(err.text, text);
    (void)close(s);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(test_what_it_is_given),
        CASE(test_forwards_nothing_by_itself),
        CASE(test_says_why_it_ended),
        CASE(test_floods_of_messages),
        CASE(test_killed_and_stopped),
        CASE(test_not_installed),
        CASE(test_port_that_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
