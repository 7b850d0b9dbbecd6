/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest that opens connections costs the process: memory, descriptors.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/vsock_guest.h"
#include "vmm/base/fd.h"

#define HOST_PORT 77u
#define FILES     256u
#define FAR_MAX   400u

struct fixture {
    struct vsock_guest g;
    struct rlimit before;
    int far[FAR_MAX]; /* host programs that read nothing */
    unsigned int far_count;
};

static struct fixture fixture;

static int on_accept(void *opaque, uint32_t guest_port, uint32_t host_port)
{
    struct fixture *f = opaque;
    int fds[2];

    (void)guest_port;
    (void)host_port;
    if (f->far_count == FAR_MAX)
        return -ECONNREFUSED;
    if (socketpair(
            AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -errno;
    f->far[f->far_count++] = fds[0];
    return fds[1];
}

static void begin(struct fixture *f, rlim_t files)
{
    const struct vsock_guest_config config = {.rx_buffers = 64};
    struct rlimit limit;

    *f = (struct fixture){0};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &f->before), 0);
    limit = f->before;
    limit.rlim_cur = files;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    vsock_guest_start(&f->g, &config);
    vsock_set_accept(&f->g.vsock, VSOCK_ACCEPT_BACKEND, on_accept, f);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vsock_guest_stop(&f->g);
    for (unsigned int i = 0; i < f->far_count; i++)
        fd_closep(&f->far[i]);
    return setrlimit(RLIMIT_NOFILE, &f->before);
}

static int set_up_few_files(void **state)
{
    begin(&fixture, FILES);
    *state = &fixture;
    return 0;
}

static int set_up(void **state)
{
    begin(&fixture, 1000);
    *state = &fixture;
    return 0;
}

static struct vsock_guest_packet ask(struct fixture *f, uint32_t guest_port)
{
    struct vsock_header h =
        vsock_guest_header(guest_port, HOST_PORT, VSOCK_OP_REQUEST);
    struct vsock_guest_packet p;

    h.buf_alloc = le32_put(4096);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    (void)vsock_guest_run(&f->g);
    assert_true(vsock_guest_receive(&f->g, true, &p));
    (void)vsock_guest_sent(&f->g);
    return p;
}

/* However many there are, all buffers together have a bound. */
static void test_late_connections_get_small_buffers(void **state)
{
    struct fixture *f = *state;
    uint64_t granted = 0;
    uint32_t small = 0;

    for (uint32_t i = 0; i < 300; i++) {
        struct vsock_guest_packet p = ask(f, i);

        assert_int_equal(p.op, VSOCK_OP_RESPONSE);
        granted += p.buf_alloc;
        small += p.buf_alloc == VSOCK_BUF_ALLOC_MIN;
        assert_true(p.buf_alloc == VSOCK_BUF_ALLOC_MIN ||
                    p.buf_alloc == VSOCK_BUF_ALLOC_DEFAULT);
    }
    assert_int_equal(small, 300 - VSOCK_BUF_TOTAL / VSOCK_BUF_ALLOC_DEFAULT);
    assert_int_equal(f->g.vsock.table.granted, granted);
    assert_true(granted <= VSOCK_BUF_TOTAL + 300 * VSOCK_BUF_ALLOC_MIN);
    /* Those that end make room again for large ones. */
    f->g.vsock.virtio.base.ops->reset(&f->g.vsock.virtio.base);
    assert_int_equal(f->g.vsock.table.granted, 0);
}

/* The guest runs out of descriptors, and nobody else in the process does. */
static void test_descriptors_are_left_for_others(void **state)
{
    struct fixture *f = *state;
    unsigned int refused = 0;
    int fds[VSOCK_FDS_RESERVED];
    unsigned int n = 0;

    for (uint32_t i = 0; i < FILES; i++) {
        if (ask(f, i).op != VSOCK_OP_RST)
            continue;
        refused++;
        fd_closep(&f->far[--f->far_count]);
    }
    assert_true(refused > 0);
    assert_int_equal(f->g.vsock.stats.full, refused);
    assert_int_equal(f->g.vsock.stats.guest_connects, FILES - refused);
    while (n < VSOCK_FDS_RESERVED &&
           (fds[n] = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)) >= 0)
        n++;
    /* Whoever started the test may have left one of them open. */
    assert_true(n >= VSOCK_FDS_RESERVED - 4);
    while (n > 0)
        fd_closep(&fds[--n]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_late_connections_get_small_buffers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_descriptors_are_left_for_others, set_up_few_files, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
