/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/cc.h"
#include "vmm/base/fd.h"

static void fill(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
}

static int memory_file(const void *data, size_t len)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, data, len), 0);
    return fd;
}

static void path_of(int fd, char *path, size_t size)
{
    (void)snprintf(path, size, "/proc/self/fd/%d", fd);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_closep(void **state)
{
    int fd = fd_eventfd();
    int copy = fd;

    (void)state;
    assert_true(is_open(copy));
    fd_closep(&fd);
    assert_int_equal(fd, -1);
    assert_false(is_open(copy));
    fd_closep(&fd);
    assert_int_equal(fd, -1);
}

static void test_steal(void **state)
{
    int fd = 42;

    (void)state;
    assert_int_equal(fd_steal(&fd), 42);
    assert_int_equal(fd, -1);
}

static void test_cleanup_attribute_closes(void **state)
{
    int seen;

    (void)state;
    {
        CC_CLEANUP(fd_closep) int fd = fd_eventfd();

        seen = fd;
        assert_true(is_open(seen));
    }
    assert_false(is_open(seen));
}

static void test_read_full_stops_at_the_end(void **state)
{
    uint8_t data[100];
    uint8_t got[100];
    int fd;

    (void)state;
    fill(data, sizeof(data));
    fd = memory_file(data, sizeof(data));
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(fd_read_full(fd, got, 60), 60);
    assert_memory_equal(got, data, 60);
    assert_int_equal(fd_read_full(fd, got, sizeof(got)), 40);
    assert_memory_equal(got, data + 60, 40);
    assert_int_equal(fd_read_full(fd, got, sizeof(got)), 0);
    assert_int_equal(fd_pread_full(fd, got, 10, 95), 5);
    assert_memory_equal(got, data + 95, 5);
    assert_int_equal(fd_pread_full(fd, got, 10, 1000), 0);
    assert_int_equal(fd_pread_full(fd, got, 100, 0), 100);
    assert_memory_equal(got, data, 100);
    fd_closep(&fd);
}

static void test_errors_are_negative_errnos(void **state)
{
    uint8_t byte = 0;
    int pipe_fds[2];

    (void)state;
    assert_int_equal(fd_read_full(-1, &byte, 1), -EBADF);
    assert_int_equal(fd_pread_full(-1, &byte, 1, 0), -EBADF);
    assert_int_equal(fd_write_full(-1, &byte, 1), -EBADF);
    assert_int_equal(fd_set_nonblocking(-1, true), -EBADF);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    assert_int_equal(fd_pread_full(pipe_fds[0], &byte, 1, 0), -ESPIPE);
    fd_closep(&pipe_fds[0]);
    fd_closep(&pipe_fds[1]);
}

static void test_nonblocking(void **state)
{
    uint8_t data[4096];
    int fds[2];
    int rc = 0;

    (void)state;
    fill(data, sizeof(data));
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fd_set_nonblocking(fds[0], true), 0);
    assert_int_equal(fd_set_nonblocking(fds[1], true), 0);
    assert_int_equal(fd_read_full(fds[0], data, 1), -EAGAIN);
    for (int i = 0; i < 100000 && rc == 0; i++)
        rc = fd_write_full(fds[1], data, sizeof(data));
    assert_int_equal(rc, -EAGAIN);
    assert_int_equal(fd_set_nonblocking(fds[0], false), 0);
    assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
    fd_closep(&fds[0]);
    fd_closep(&fds[1]);
}

/*
 * One thread moves data through a pipe in pieces while another interrupts
 * both ends with signals for as long as it lasts.
 */
#define TRANSFER (1u << 20)

struct transfer {
    int fds[2];
    uint8_t *data;
    pthread_t reader;
    pthread_t writer;
    int rc;
    bool done; /* atomic */
};

static void on_signal(int number)
{
    (void)number;
}

static void *run_writer(void *opaque)
{
    struct transfer *t = opaque;

    t->rc = fd_write_full(t->fds[1], t->data, TRANSFER);
    fd_closep(&t->fds[1]);
    return NULL;
}

static void *run_interrupter(void *opaque)
{
    struct transfer *t = opaque;

    while (!__atomic_load_n(&t->done, __ATOMIC_ACQUIRE)) {
        (void)pthread_kill(t->reader, SIGUSR1);
        (void)pthread_kill(t->writer, SIGUSR1);
        (void)sched_yield();
    }
    return NULL;
}

static void test_signals_do_not_cut_transfers(void **state)
{
    struct transfer t = {.reader = pthread_self()};
    struct sigaction act = {.sa_handler = on_signal};
    struct sigaction old;
    uint8_t *got = malloc(TRANSFER + 1);
    pthread_t interrupter;
    ssize_t n;

    (void)state;
    t.data = malloc(TRANSFER);
    assert_non_null(t.data);
    assert_non_null(got);
    fill(t.data, TRANSFER);
    /* No SA_RESTART: every signal is an EINTR for a blocked call. */
    assert_int_equal(sigaction(SIGUSR1, &act, &old), 0);
    assert_int_equal(pipe2(t.fds, O_CLOEXEC), 0);
    assert_int_equal(pthread_create(&t.writer, NULL, run_writer, &t), 0);
    assert_int_equal(
        pthread_create(&interrupter, NULL, run_interrupter, &t), 0);
    n = fd_read_full(t.fds[0], got, TRANSFER + 1);
    __atomic_store_n(&t.done, true, __ATOMIC_RELEASE);
    assert_int_equal(pthread_join(interrupter, NULL), 0);
    assert_int_equal(pthread_join(t.writer, NULL), 0);
    assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
    assert_int_equal(t.rc, 0);
    assert_int_equal(n, TRANSFER);
    assert_memory_equal(got, t.data, TRANSFER);
    fd_closep(&t.fds[0]);
    free(got);
    free(t.data);
}

static void test_eventfd_counts_and_drains(void **state)
{
    int fd = fd_eventfd();

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fd_eventfd_drain(fd), 0);
    fd_eventfd_signal(fd);
    fd_eventfd_signal(fd);
    fd_eventfd_signal(fd);
    assert_int_equal(fd_eventfd_drain(fd), 3);
    assert_int_equal(fd_eventfd_drain(fd), 0);
    fd_closep(&fd);
}

static void test_full_eventfd_takes_signals(void **state)
{
    const uint64_t full = UINT64_MAX - 1;
    int fd = fd_eventfd();

    (void)state;
    assert_int_equal(fd_write_full(fd, &full, sizeof(full)), 0);
    fd_eventfd_signal(fd);
    assert_true(fd_eventfd_drain(fd) == full);
    fd_closep(&fd);
}

static void test_map_file(void **state)
{
    uint8_t data[5000];
    struct fd_mapping map;
    char path[64];
    int fd;

    (void)state;
    fill(data, sizeof(data));
    fd = memory_file(data, sizeof(data));
    path_of(fd, path, sizeof(path));
    assert_int_equal(fd_map_file(path, &map, NULL), 0);
    assert_int_equal(map.size, sizeof(data));
    assert_memory_equal(map.data, data, sizeof(data));
    fd_unmap(&map);
    assert_null(map.data);
    fd_unmap(&map);

    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(fd_map_file(path, &map, NULL), 0);
    assert_null(map.data);
    assert_int_equal(map.size, 0);
    fd_unmap(&map);
    fd_closep(&fd);
}

static void test_map_file_errors(void **state)
{
    struct fd_mapping map = {.size = 77};
    struct err err;

    (void)state;
    assert_int_equal(fd_map_file("/nonexistent/x", &map, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/x"));
    assert_int_equal(fd_map_file("/", &map, &err), -EINVAL);
    assert_non_null(strstr(err.text, "regular"));
    assert_int_equal(fd_map_file("/dev/null", &map, &err), -EINVAL);
    assert_int_equal(map.size, 77);
}

/* Around the sizes at which the buffer grows, and around the limit. */
static void test_read_file_sizes(void **state)
{
    static const size_t sizes[] = {
        0, 1, 4094, 4095, 4096, 4097, 8191, 8192, 8193, 100000};
    static uint8_t data[100000];

    (void)state;
    fill(data, sizeof(data));
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        int fd = memory_file(data, sizes[i]);
        struct err err;
        uint8_t *got = NULL;
        size_t size = 1;
        char path[64];

        path_of(fd, path, sizeof(path));
        assert_int_equal(fd_read_file(path, sizes[i], &got, &size, &err), 0);
        assert_int_equal(size, sizes[i]);
        assert_memory_equal(got, data, size);
        assert_int_equal(got[size], '\0');
        free(got);
        if (sizes[i] > 0) {
            got = NULL;
            size = 99;
            assert_int_equal(
                fd_read_file(path, sizes[i] - 1, &got, &size, &err), -EFBIG);
            assert_null(got);
            assert_int_equal(size, 99);
        }
        fd_closep(&fd);
    }
}

static void test_read_file_without_a_size(void **state)
{
    uint8_t *got;
    size_t size;
    char path[64];
    int fds[2];

    (void)state;
    /* Its st_size is 0. */
    assert_int_equal(
        fd_read_file("/proc/self/stat", 65536, &got, &size, NULL), 0);
    assert_true(size > 0);
    assert_int_equal(strlen((const char *)got), size);
    free(got);

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fd_write_full(fds[1], "hello", 5), 0);
    path_of(fds[0], path, sizeof(path));
    fd_closep(&fds[1]);
    assert_int_equal(fd_read_file(path, 5, &got, &size, NULL), 0);
    assert_int_equal(size, 5);
    assert_string_equal((const char *)got, "hello");
    free(got);
    fd_closep(&fds[0]);
}

static void test_read_file_errors(void **state)
{
    struct err err;
    uint8_t *got = NULL;
    size_t size = 99;

    (void)state;
    assert_int_equal(
        fd_read_file("/nonexistent/x", 10, &got, &size, &err), -ENOENT);
    assert_int_equal(fd_read_file("/", 10, &got, &size, &err), -EISDIR);
    assert_int_equal(
        fd_read_file("/dev/zero", 100000, &got, &size, &err), -EFBIG);
    assert_null(got);
    assert_int_equal(size, 99);
}

static void test_lock(void **state)
{
    int a = memory_file("x", 1);
    char path[64];
    int b;

    (void)state;
    path_of(a, path, sizeof(path));
    b = open(path, O_RDWR | O_CLOEXEC);
    assert_true(b >= 0);
    assert_int_equal(fd_lock(a, false), 0);
    assert_int_equal(fd_lock(b, false), 0);
    assert_int_equal(fd_lock(b, true), -EAGAIN);
    fd_unlock(a);
    assert_int_equal(fd_lock(b, true), 0);
    assert_int_equal(fd_lock(a, false), -EAGAIN);
    fd_closep(&b);
    assert_int_equal(fd_lock(a, true), 0);
    fd_closep(&a);
    assert_int_equal(fd_lock(-1, true), -EBADF);
}

static void test_from_path(void **state)
{
    static const char *const others[] = {
        FD_PATH "x", FD_PATH, FD_PATH "3x", "disk.img", ""};
    char name[64];
    char path[64];
    struct err err;
    int a = memory_file("x", 1);
    int b;
    int kept = 77;

    (void)state;
    path_of(a, name, sizeof(name));
    (void)snprintf(path, sizeof(path), FD_PATH "%d", a);
    assert_int_equal(fd_from_path(path, true, &b, NULL), 0);
    assert_true(b > 2 && b != a);
    assert_int_equal(fcntl(b, F_GETFD), FD_CLOEXEC);
    fd_closep(&b);
    b = open(name, O_RDONLY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), FD_PATH "%d", b);
    assert_int_equal(fd_from_path(path, true, &kept, &err), -EACCES);
    assert_non_null(strstr(err.text, path));
    fd_closep(&a);
    assert_int_equal(fd_from_path(path, false, &a, NULL), 0);
    assert_true(a > 2);
    fd_closep(&a);
    fd_closep(&b);
    assert_int_equal(fd_from_path(path, false, &kept, NULL), -EBADF);
    assert_int_equal(
        fd_from_path(FD_PATH "99999999999999999999", false, &kept, NULL),
        -EBADF);
    assert_int_equal(kept, 77);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        a = kept;
        assert_int_equal(fd_from_path(others[i], false, &a, NULL), 0);
        assert_int_equal(a, -1);
    }
}

static void test_link(void **state)
{
    static const char name[] = "/memfd:test (deleted)";
    char text[sizeof(name)];
    int fd = memory_file("x", 1);

    (void)state;
    assert_int_equal(fd_link(fd, text, sizeof(text)), 0);
    assert_string_equal(text, name);
    text[0] = 'x';
    assert_int_equal(fd_link(fd, text, sizeof(text) - 1), -ENAMETOOLONG);
    assert_int_equal(text[0], 'x');
    fd_closep(&fd);
    assert_int_equal(fd_link(fd, text, sizeof(text)), -ENOENT);
    assert_int_equal(text[0], 'x');
}

static void test_listen_unix(void **state)
{
    char folder[] = "/tmp/spore-test-XXXXXX";
    char path[64];
    char longest[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
    struct sockaddr_un addr = {.sun_family = AF_UNSPEC};
    struct stat st;
    struct err err;
    int fd = -1;
    int kept = 77;

    (void)state;
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(
        fd_unix_address("--to", longest, &addr, &err), -ENAMETOOLONG);
    assert_string_equal(err.text, "--to has 108 bytes: it must have 1 to 107");
    assert_int_equal(fd_unix_address("--to", "", &addr, &err), -ENAMETOOLONG);
    assert_int_equal(addr.sun_family, AF_UNSPEC);
    assert_int_equal(fd_unix_address("--to", longest + 1, &addr, NULL), 0);
    assert_string_equal(addr.sun_path, longest + 1);

    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/socket", folder);
    assert_int_equal(fd_unix_address("--to", path, &addr, NULL), 0);
    assert_int_equal(fd_listen_unix(&addr, "it", &fd, NULL), 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFSOCK | 0600);
    assert_int_equal(accept(fd, NULL, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(fd_listen_unix(&addr, "it", &kept, &err), -EADDRINUSE);
    assert_string_equal(
        err.text, "it exists already: remove it if nobody listens there");
    assert_int_equal(kept, 77);
    fd_closep(&fd);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(fd_listen_unix(&addr, "it", &kept, &err), -ENOENT);
}

static void test_raise_limit(void **state)
{
    struct rlimit before;
    struct rlimit limit;
    struct err err;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(fd_raise_limit(63, 1, "ports", "--ports", &err), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(limit.rlim_cur, 64);
    assert_int_equal(fd_raise_limit(70, 1, "ports", "--ports", &err), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(limit.rlim_cur, 70);
    assert_int_equal(
        fd_raise_limit(before.rlim_max + 1, 5, "ports", "--ports", &err),
        -EMFILE);
    assert_non_null(strstr(err.text, "5 ports take "));
    assert_non_null(strstr(err.text, "see ulimit -n, or give --ports"));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(limit.rlim_cur, 70);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closep),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_from_path),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_listen_unix),
        cmocka_unit_test(test_raise_limit),
        cmocka_unit_test(test_steal),
        cmocka_unit_test(test_cleanup_attribute_closes),
        cmocka_unit_test(test_read_full_stops_at_the_end),
        cmocka_unit_test(test_errors_are_negative_errnos),
        cmocka_unit_test(test_nonblocking),
        cmocka_unit_test(test_signals_do_not_cut_transfers),
        cmocka_unit_test(test_eventfd_counts_and_drains),
        cmocka_unit_test(test_full_eventfd_takes_signals),
        cmocka_unit_test(test_map_file),
        cmocka_unit_test(test_map_file_errors),
        cmocka_unit_test(test_read_file_sizes),
        cmocka_unit_test(test_read_file_without_a_size),
        cmocka_unit_test(test_read_file_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
