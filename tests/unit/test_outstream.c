/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/outstream.h"

#define PIPE_ROOM  4096u
#define ROUNDS_MAX 20000u

struct fixture {
    struct loop loop;
    struct outstream s;
    int pipe[2]; /* blocking, as those that a shell makes */
    unsigned int drained;
};

static void on_drained(void *opaque)
{
    struct fixture *f = opaque;

    f->drained++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;

    if (f == NULL || loop_init(&f->loop, &err) < 0 ||
        pipe2(f->pipe, O_CLOEXEC) < 0 ||
        fcntl(f->pipe[1], F_SETPIPE_SZ, PIPE_ROOM) < 0)
        return -1;
    outstream_init(&f->s, &f->loop, f->pipe[1], on_drained, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    outstream_fini(&f->s);
    outstream_fini(&f->s);
    fd_closep(&f->pipe[0]);
    fd_closep(&f->pipe[1]);
    loop_fini(&f->loop);
    free(f);
    return 0;
}

static void run(struct fixture *f)
{
    struct pollfd pfd = {.fd = f->loop.epoll_fd, .events = POLLIN};

    for (unsigned int i = 0; poll(&pfd, 1, 0) != 0; i++) {
        assert_in_range(i, 0, ROUNDS_MAX);
        assert_int_equal(loop_run_once(&f->loop, 0), 0);
    }
}

static void test_what_fits_is_written_at_once(void **state)
{
    struct fixture *f = *state;
    char buf[64];

    /* A pipe counts in pages, and one that is begun is taken. */
    assert_true(fcntl(f->pipe[1], F_SETPIPE_SZ, 65536) >= 0);
    assert_int_equal(outstream_write(&f->s, "one", 3), 0);
    assert_int_equal(outstream_write(&f->s, "", 0), 0);
    assert_int_equal(outstream_write(&f->s, "two", 3), 0);
    assert_false(outstream_is_busy(&f->s));
    assert_int_equal(read(f->pipe[0], buf, sizeof(buf)), 6);
    assert_memory_equal(buf, "onetwo", 6);
    run(f);
    assert_int_equal(f->drained, 0);
}

/* Kept bytes follow in order, in whatever portions the reader makes room. */
static void test_what_does_not_fit_is_kept(void **state)
{
    static const size_t sizes[] = {PIPE_ROOM, PIPE_ROOM + 1, 100000, 5000};
    struct fixture *f = *state;
    uint8_t *data = malloc(100000);
    uint8_t *got = malloc(100000);

    assert_non_null(data);
    assert_non_null(got);
    for (size_t i = 0; i < 100000; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        bool waits = sizes[i] > PIPE_ROOM;
        size_t at = 0;

        f->drained = 0;
        assert_int_equal(outstream_write(&f->s, data, sizes[i]), 0);
        assert_int_equal(outstream_is_busy(&f->s), waits);
        run(f);
        assert_int_equal(f->drained, 0);
        while (at < sizes[i]) {
            ssize_t n = read(f->pipe[0], got + at, 1 + at % 4000);

            assert_true(n > 0);
            at += (size_t)n;
            run(f);
        }
        assert_memory_equal(got, data, sizes[i]);
        assert_int_equal(f->drained, waits ? 1 : 0);
        assert_false(outstream_is_busy(&f->s));
    }
    free(data);
    free(got);
}

static void test_no_reader(void **state)
{
    struct fixture *f = *state;

    fd_closep(&f->pipe[0]);
    assert_int_equal(outstream_write(&f->s, "x", 1), -EPIPE);
    assert_int_equal(f->s.error, EPIPE);
    assert_false(outstream_is_busy(&f->s));
    /* The error stays. */
    assert_int_equal(outstream_write(&f->s, "x", 1), -EPIPE);
    assert_int_equal(outstream_write(&f->s, "", 0), -EPIPE);
    run(f);
    assert_int_equal(f->drained, 0);
}

static void test_reader_goes_while_bytes_wait(void **state)
{
    struct fixture *f = *state;
    uint8_t data[3 * PIPE_ROOM] = {0};

    assert_int_equal(outstream_write(&f->s, data, sizeof(data)), 0);
    assert_true(outstream_is_busy(&f->s));
    fd_closep(&f->pipe[0]);
    run(f);
    assert_int_equal(f->drained, 1);
    assert_false(outstream_is_busy(&f->s));
    assert_int_equal(f->s.error, EPIPE);
    assert_int_equal(outstream_write(&f->s, "x", 1), -EPIPE);
}

static void test_fini_while_bytes_wait(void **state)
{
    struct fixture *f = *state;
    uint8_t data[3 * PIPE_ROOM] = {0};
    uint8_t buf[PIPE_ROOM];

    assert_int_equal(outstream_write(&f->s, data, sizeof(data)), 0);
    outstream_fini(&f->s);
    assert_int_equal(read(f->pipe[0], buf, sizeof(buf)), PIPE_ROOM);
    run(f);
    assert_int_equal(f->drained, 0);
}

/* A file cannot be waited for, and need not be. */
static void test_regular_file(void **state)
{
    struct fixture *f = *state;
    int file = memfd_create("out", MFD_CLOEXEC);
    uint8_t *data = malloc(NUM_MIB);
    uint8_t *got = malloc(NUM_MIB);

    assert_true(file >= 0);
    assert_non_null(data);
    assert_non_null(got);
    memset(data, 0x5a, NUM_MIB);
    outstream_fini(&f->s);
    outstream_init(&f->s, &f->loop, file, on_drained, f);
    assert_int_equal(outstream_write(&f->s, data, NUM_MIB), 0);
    assert_false(outstream_is_busy(&f->s));
    assert_int_equal(fd_pread_full(file, got, NUM_MIB, 0), NUM_MIB);
    assert_memory_equal(got, data, NUM_MIB);
    outstream_fini(&f->s);
    fd_closep(&file);
    free(data);
    free(got);
}

static void test_full_disk(void **state)
{
    struct fixture *f = *state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

    assert_true(full >= 0);
    outstream_fini(&f->s);
    outstream_init(&f->s, &f->loop, full, on_drained, f);
    assert_int_equal(outstream_write(&f->s, "x", 1), -ENOSPC);
    fd_closep(&full);
}

static void test_descriptor_that_is_none(void **state)
{
    struct fixture *f = *state;
    int gone = f->pipe[1];

    fd_closep(&f->pipe[1]);
    outstream_fini(&f->s);
    outstream_init(&f->s, &f->loop, gone, on_drained, f);
    assert_int_equal(outstream_write(&f->s, "x", 1), -EBADF);
}

/* A terminal takes what it makes of it, and hangs up in its own way. */
/*
 * What a terminal is given reaches its other end by a thread of the
 * kernel's, in as many parts as that likes.
 */
static void read_all(int fd, char *buf, size_t len)
{
    size_t have = 0;

    while (have < len) {
        ssize_t n = read(fd, buf + have, len - have);

        assert_true(n > 0);
        have += (size_t)n;
    }
}

static void test_terminal(void **state)
{
    struct fixture *f = *state;
    int host = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    char name[64];
    int term;
    char buf[16] = "";

    assert_true(host >= 0);
    assert_int_equal(grantpt(host), 0);
    assert_int_equal(unlockpt(host), 0);
    assert_int_equal(ptsname_r(host, name, sizeof(name)), 0);
    term = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(term >= 0);
    outstream_fini(&f->s);
    outstream_init(&f->s, &f->loop, term, on_drained, f);
    assert_int_equal(outstream_write(&f->s, "a\nb", 3), 0);
    read_all(host, buf, 4);
    assert_string_equal(buf, "a\r\nb");
    /* The other end hangs up. */
    fd_closep(&host);
    assert_int_equal(outstream_write(&f->s, "x", 1), -EIO);
    outstream_fini(&f->s);
    fd_closep(&term);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_what_fits_is_written_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_what_does_not_fit_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_reader_goes_while_bytes_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_fini_while_bytes_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_regular_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_descriptor_that_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_terminal, setup, teardown),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
