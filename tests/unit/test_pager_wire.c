/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first message to a page server and its last word, with the other side
 * in the hands of somebody who knows no manners.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "snapshot/pager_wire.h"
#include "vmm/base/cc.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/core/uffd.h"

#define RAM (UINT64_C(16) * NUM_MIB)

/* Far beyond what anything here takes. */
#define LATER_NS (60 * CLOCK_NS_PER_S)

static int decode(const char *text, struct pager_hello *hello, struct err *err)
{
    return pager_hello_decode(text, strlen(text), RAM, hello, err);
}

/* As Firecracker writes it, with a key that it may have some day. */
static void test_what_firecracker_sends_is_read(void **state)
{
    struct pager_hello hello;
    struct err err;

    (void)state;
    assert_int_equal(
        decode("[{\"base_host_virt_addr\":140000000004096,\"size\":8388608,"
               "\"offset\":0,\"page_size\":4096,\"page_size_kib\":4096},"
               "{\"base_host_virt_addr\":140000100003840,\"size\":8388608,"
               "\"offset\":8388608,\"page_size_kib\":4096,\"new\":[1]}]",
            &hello, &err),
        0);
    assert_int_equal(hello.count, 2);
    assert_int_equal(hello.regions[0].address, 140000000004096);
    assert_int_equal(hello.regions[1].address, 140000100003840);
    assert_int_equal(hello.regions[1].offset, 8388608);
    assert_int_equal(hello.regions[1].size, 8388608);
}

static void test_what_is_written_reads_back(void **state)
{
    struct pager_hello hello = {.count = 2,
        .regions = {{.address = 0x7f0000000000, .size = 4096},
            {.address = 0x7f0000001000, .size = 8192, .offset = 4096}}};
    struct pager_hello again;
    char *text;

    (void)state;
    assert_int_equal(pager_hello_encode(&hello, &text, NULL), 0);
    assert_int_equal(decode(text, &again, NULL), 0);
    assert_memory_equal(&hello, &again, sizeof(hello));
    /* Every piece of it that is short of the whole is "not yet". */
    for (size_t len = 0; len < strlen(text); len++)
        assert_int_equal(
            pager_hello_decode(text, len, RAM, &again, NULL), -EAGAIN);
    free(text);
}

#define REGION(address, size, offset, page)                                    \
    "{\"base_host_virt_addr\":" address ",\"size\":" size                      \
    ",\"offset\":" offset ",\"page_size\":" page "}"

static void test_what_makes_no_sense_is_refused(void **state)
{
    static const struct {
        const char *text;
        int rc;
        const char *says;
    } cases[] = {
        {"{}", -EBADMSG, "list"},
        {"[]", -EBADMSG, "list"},
        {"[1]", -EBADMSG, "missing"},
        {"nonsense", -EBADMSG, "no JSON"},
        {"[{\"size\":4096,\"offset\":0,\"page_size\":4096}]", -EBADMSG,
            "missing"},
        {"[{\"base_host_virt_addr\":4096,\"size\":4096,\"offset\":0}]",
            -EBADMSG, "page size"},
        {"[" REGION("-4096", "4096", "0", "4096") "]", -EBADMSG, "missing"},
        {"[" REGION("4096", "4096", "0", "2097152") "]", -ENOTSUP, "2097152"},
        {"[" REGION("4096", "0", "0", "4096") "]", -EBADMSG, "whole pages"},
        {"[" REGION("4097", "4096", "0", "4096") "]", -EBADMSG, "whole pages"},
        {"[" REGION("4096", "4096", "1", "4096") "]", -EBADMSG, "whole pages"},
        {"[" REGION("4096", "16777216", "4096", "4096") "]", -EBADMSG,
            "not within"},
        {"[" REGION("4096", "4096", "9223372036854771712", "4096") "]",
            -EBADMSG, "not within"},
        {"[" REGION("4096", "8192", "0", "4096") "," REGION(
             "8192", "4096", "8192", "4096") "]",
            -EBADMSG, "overlaps"},
        {"[" REGION("4096", "8192", "0", "4096") "," REGION(
             "40960", "4096", "4096", "4096") "]",
            -EBADMSG, "overlaps"},
        {"[" REGION("4096", "4096", "0", "4096") "] x", -EBADMSG, "no JSON"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pager_hello hello;
        struct err err;

        assert_int_equal(decode(cases[i].text, &hello, &err), cases[i].rc);
        if (strstr(err.text, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].text, err.text);
    }
}

/* ---- over a socket ------------------------------------------------------- */

static void send_with_fds(
    int to, const char *text, size_t len, const int *fds, size_t count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (count > 0) {
        struct cmsghdr *c;

        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    assert_int_equal(sendmsg(to, &msg, 0), (ssize_t)len);
}

static const char good[] = "[" REGION("4096", "4096", "0", "4096") "]";

struct pair {
    int machine;
    int server;
};

static struct pair connect_pair(void)
{
    int fds[2];

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    return (struct pair){.machine = fds[0], .server = fds[1]};
}

static void close_pair(struct pair *p)
{
    fd_closep(&p->machine);
    fd_closep(&p->server);
}

static int receive(const struct pair *p, int *ret_fd, struct err *err)
{
    struct pager_hello hello;

    return pager_hello_receive(
        p->server, -1, RAM, clock_now_ns() + LATER_NS, &hello, ret_fd, err);
}

static void expect_refused(struct pair *p, const char *says)
{
    struct err err;
    int fd;

    assert_int_equal(receive(p, &fd, &err), -EBADMSG);
    if (strstr(err.text, says) == NULL)
        fail_msg("%s", err.text);
    fd_closep(&fd);
    close_pair(p);
}

static void test_a_descriptor_that_is_none_is_refused(void **state)
{
    struct pair p = connect_pair();
    int pipe_fds[2];
    int several[8];

    (void)state;
    send_with_fds(p.machine, good, strlen(good), NULL, 0);
    expect_refused(&p, "no userfaultfd");
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    p = connect_pair();
    send_with_fds(p.machine, good, strlen(good), pipe_fds, 1);
    expect_refused(&p, "no userfaultfd");
    for (size_t count = 2; count <= ARRAY_SIZE(several); count++) {
        for (size_t i = 0; i < count; i++)
            several[i] = pipe_fds[i % 2];
        p = connect_pair();
        send_with_fds(p.machine, good, strlen(good), several, count);
        expect_refused(&p, "more than one");
    }
    /* None of them stayed open here: the pipe has no writer but ours. */
    fd_closep(&pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], several, 1), 0);
    fd_closep(&pipe_fds[0]);
}

static void test_a_machine_that_says_nothing_is_not_waited_for(void **state)
{
    struct pair p = connect_pair();
    struct pager_hello hello;
    struct err err;
    char *much = malloc(PAGER_HELLO_MAX + 1);
    int stop = fd_eventfd();
    int fd;

    (void)state;
    assert_non_null(much);
    assert_int_equal(pager_hello_receive(p.server, -1, RAM,
                         clock_now_ns() + CLOCK_NS_PER_MS, &hello, &fd, &err),
        -ETIMEDOUT);
    fd_eventfd_signal(stop);
    assert_int_equal(pager_hello_receive(p.server, stop, RAM,
                         clock_now_ns() + LATER_NS, &hello, &fd, &err),
        -ECANCELED);
    fd_closep(&stop);
    fd_closep(&p.machine);
    expect_refused(&p, "hung up");
    p = connect_pair();
    memset(much, ' ', PAGER_HELLO_MAX + 1);
    send_with_fds(p.machine, much, PAGER_HELLO_MAX + 1, NULL, 0);
    expect_refused(&p, "more than");
    free(much);
}

static void test_a_message_may_come_in_pieces(void **state)
{
    struct pair p = connect_pair();
    struct err err;
    int uffd;
    int fd;

    (void)state;
    if (uffd_open(&uffd, &err) < 0) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    assert_true(uffd_is_one(uffd));
    assert_false(uffd_is_one(p.server));
    send_with_fds(p.machine, good, 10, &uffd, 1);
    send_with_fds(p.machine, good + 10, strlen(good) - 10, NULL, 0);
    assert_int_equal(receive(&p, &fd, &err), 0);
    assert_true(uffd_is_one(fd));
    fd_closep(&fd);
    /* One that came is the caller's, whatever is wrong with the rest. */
    send_with_fds(p.machine, "x", 1, &uffd, 1);
    assert_int_equal(receive(&p, &fd, &err), -EBADMSG);
    assert_true(uffd_is_one(fd));
    fd_closep(&fd);
    fd_closep(&uffd);
    close_pair(&p);
}

/* ---- the last word ------------------------------------------------------- */

static void test_a_last_word_is_one_clean_line(void **state)
{
    struct pair p = connect_pair();
    char text[PAGER_REASON_SIZE];
    char bytes[2 * PAGER_REASON_SIZE];
    ssize_t n;

    (void)state;
    pager_reason_send(p.server, "page 7 is not what was saved");
    n = read(p.machine, bytes, sizeof(bytes));
    assert_true(n > 0);
    assert_true(pager_reason_decode(bytes, (size_t)n, text));
    assert_string_equal(text, "page 7 is not what was saved");
    assert_true(pager_reason_decode("a\033[2Jb\0c\nd", 9, text));
    assert_string_equal(text, "a?[2Jb?c");
    assert_false(pager_reason_decode("\n", 1, text));
    assert_false(pager_reason_decode("", 0, text));
    memset(bytes, 'x', sizeof(bytes));
    assert_true(pager_reason_decode(bytes, sizeof(bytes), text));
    assert_int_equal(strlen(text), PAGER_REASON_SIZE - 1);
    /* To who is gone: nothing happens. */
    fd_closep(&p.machine);
    pager_reason_send(p.server, "nobody hears it");
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_firecracker_sends_is_read),
        cmocka_unit_test(test_what_is_written_reads_back),
        cmocka_unit_test(test_what_makes_no_sense_is_refused),
        cmocka_unit_test(test_a_descriptor_that_is_none_is_refused),
        cmocka_unit_test(test_a_machine_that_says_nothing_is_not_waited_for),
        cmocka_unit_test(test_a_message_may_come_in_pieces),
        cmocka_unit_test(test_a_last_word_is_one_clean_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
