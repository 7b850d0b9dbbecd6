/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page servers and those whose memory they give: pages right, given back and
 * damaged, and machines that are not what they say. Needs a userfaultfd that
 * serves the kernel's faults, as page servers do.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/page_client.h"
#include "snapshot/page_server.h"
#include "snapshot/pager_wire.h"
#include "tests/unit/support/skip.h"
#include "tests/unit/support/snapshot_rig.h"
#include "vmm/base/cc.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/core/uffd.h"

/* A MiB, the least that guest memory can be. */
#define PAGES UINT64_C(256)
#define BYTES (PAGES * NUM_PAGE_SIZE)
#define BAD   UINT64_C(77) /* the page that is damaged in some tests */

/* ---- a server ------------------------------------------------------------ */

struct rig {
    struct snapshot_rig rig;
    struct snap snap;
    struct page_source source;
    struct working_set ahead;
    struct page_server_config config;
    char path[80]; /* of the socket */
    int listen_fd;
    int stop_fd;
    pthread_t thread;
    struct page_session_stats last; /* of the session that ended last */
    int last_result;
    char last_text[384];
    int results[8];     /* of all of them, in the order of their ends */
    unsigned int ended; /* sessions; atomic */
    uint64_t touched;   /* pages that on_settled told of */
};

static void on_settled(void *opaque, const struct bitmap *touched)
{
    struct rig *r = opaque;

    r->touched = bitmap_count(touched);
}

static void on_end(void *opaque, const struct page_session_stats *stats,
    int result, const char *text)
{
    struct rig *r = opaque;

    r->last = *stats;
    r->last_result = result;
    (void)snprintf(r->last_text, sizeof(r->last_text), "%s", text);
    r->results[r->ended % ARRAY_SIZE(r->results)] = result;
    __atomic_fetch_add(&r->ended, 1, __ATOMIC_RELEASE);
}

static void wait_ended(const struct rig *r, unsigned int count)
{
    while (__atomic_load_n(&r->ended, __ATOMIC_ACQUIRE) < count)
        (void)poll(NULL, 0, 1);
}

static void *serve(void *arg)
{
    struct rig *r = arg;

    (void)!page_server_run(&r->config, r->listen_fd, r->stop_fd, NULL);
    return NULL;
}

static struct sockaddr_un address(const struct rig *r)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", r->path);
    return addr;
}

static int set_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct sockaddr_un addr;
    struct snapshot_id id;
    struct err err;

    assert_non_null(r);
    snapshot_rig_init(&r->rig, NULL, PAGES);
    for (uint64_t page = 0; page < PAGES; page++)
        snapshot_rig_fill(&r->rig, page, page % 3 == 1 ? 0 : page + 1);
    snapshot_rig_fill(&r->rig, BAD, 4711);
    assert_int_equal(
        snapshot_rig_save(&r->rig, NULL, NULL, NULL, &id, &err), 0);
    assert_int_equal(snap_open(&r->rig.store, &id, &r->snap, &err), 0);
    assert_int_equal(page_source_init(&r->source, &r->snap, &err), 0);
    (void)snprintf(r->path, sizeof(r->path), "%s/socket", r->rig.path);
    addr = address(r);
    r->listen_fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(
        bind(r->listen_fd, (const struct sockaddr *)(const void *)&addr,
            sizeof(addr)),
        0);
    assert_int_equal(listen(r->listen_fd, 16), 0);
    r->stop_fd = fd_eventfd();
    r->config =
        (struct page_server_config){.session = {.source = &r->source,
                                        .around = 1,
                                        .on_settled = on_settled,
                                        .settle_ns = 3600 * CLOCK_NS_PER_S,
                                        .opaque = r},
            .sessions_max = 4,
            .on_end = on_end};
    *state = r;
    return 0;
}

static void start(struct rig *r)
{
    assert_int_equal(pthread_create(&r->thread, NULL, serve, r), 0);
}

static void stop(struct rig *r)
{
    fd_eventfd_signal(r->stop_fd);
    (void)pthread_join(r->thread, NULL);
}

static int tear_down(void **state)
{
    struct rig *r = *state;

    fd_closep(&r->listen_fd);
    fd_closep(&r->stop_fd);
    working_set_fini(&r->ahead);
    page_source_fini(&r->source);
    snap_close(&r->snap);
    snapshot_rig_fini(&r->rig);
    free(r);
    return 0;
}

/* One byte of page BAD in the image is another from here on. */
static void damage(const struct rig *r)
{
    char name[SNAPSHOT_FILE_MAX + 1];
    uint8_t byte = (uint8_t)(r->rig.ram[BAD * NUM_PAGE_SIZE + 9] ^ 1);
    int fd;

    page_image_name(&r->snap.index.files[0], name);
    fd = openat(r->snap.dir_fd, name, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(BAD * NUM_PAGE_SIZE + 9)), 1);
    (void)close(fd);
}

/* ---- a machine ----------------------------------------------------------- */

struct client {
    uint8_t *ram;
    int uffd;
    int fd;
};

static int open_uffd(uint64_t features)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    assert_true(fd >= 0);
    assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
    return fd;
}

static int connect_to(const struct rig *r)
{
    struct sockaddr_un addr = address(r);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(
        connect(fd, (const struct sockaddr *)(const void *)&addr, sizeof(addr)),
        0);
    return fd;
}

/* Its memory is in two regions, the second half of it at lower addresses. */
static struct client client_new(const struct rig *r, uint64_t features)
{
    struct client c = {.uffd = open_uffd(features), .fd = connect_to(r)};
    struct pager_hello hello = {.count = 2};
    struct err err;

    c.ram = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(c.ram != MAP_FAILED);
    assert_int_equal(uffd_register(c.uffd, c.ram, BYTES), 0);
    hello.regions[0] = (struct pager_region){
        .address = (uint64_t)(uintptr_t)c.ram + BYTES / 2, .size = BYTES / 2};
    hello.regions[1] =
        (struct pager_region){.address = (uint64_t)(uintptr_t)c.ram,
            .size = BYTES / 2,
            .offset = BYTES / 2};
    assert_int_equal(pager_hello_send(c.fd, &hello, c.uffd, &err), 0);
    return c;
}

static uint8_t *at_page(const struct client *c, uint64_t page)
{
    return c->ram + (page * NUM_PAGE_SIZE + BYTES / 2) % BYTES;
}

static void client_free(struct client *c)
{
    fd_closep(&c->fd);
    (void)munmap(c->ram, BYTES);
    fd_closep(&c->uffd);
}

static void expect_page(
    const struct rig *r, const struct client *c, uint64_t page)
{
    if (memcmp(at_page(c, page), r->rig.ram + page * NUM_PAGE_SIZE,
            NUM_PAGE_SIZE) != 0)
        fail_msg("page %llu", (unsigned long long)page);
}

/* ---- pages --------------------------------------------------------------- */

static void check_all_pages(struct rig *r)
{
    struct client c = client_new(r, 0);

    for (uint64_t i = 0; i < PAGES; i++)
        expect_page(r, &c, (i * 37) % PAGES);
    /* As the kernel sees them, too. */
    for (uint64_t page = 0; page < PAGES; page++)
        at_page(&c, page)[0]++;
    client_free(&c);
    wait_ended(r, 1);
    if (r->last_result != 0)
        fail_msg("%s", r->last_text);
    assert_int_equal(r->last.pid, getpid());
    assert_int_equal(r->last.data + r->last.zero, PAGES);
    assert_int_equal(r->last.data, page_index_data_pages(&r->snap.index));
}

static void test_every_page_is_what_was_saved(void **state)
{
    struct rig *r = *state;

    start(r);
    check_all_pages(r);
    stop(r);
    assert_int_equal(r->last.faults, PAGES);
    assert_int_equal(r->last.ahead, 0);
    assert_int_equal(r->touched, PAGES);
}

static void test_pages_around_one_that_is_asked_for_come_too(void **state)
{
    struct rig *r = *state;

    r->config.session.around = 16;
    start(r);
    check_all_pages(r);
    stop(r);
    assert_int_equal(r->last.faults, PAGES / 16);
    assert_int_equal(r->last.ahead, PAGES - PAGES / 16);
    assert_int_equal(r->touched, PAGES);
}

/* Present pages of the mapping, as mincore has them. */
static uint64_t resident(const struct client *c)
{
    unsigned char vec[PAGES];
    uint64_t count = 0;

    assert_int_equal(mincore(c->ram, BYTES, vec), 0);
    for (uint64_t i = 0; i < PAGES; i++)
        count += vec[i] & 1;
    return count;
}

static void test_a_working_set_comes_unasked(void **state)
{
    struct rig *r = *state;
    struct working_set_run runs[] = {{3, 40}, {100, 1}, {120, 20}};
    struct client c;

    r->ahead = (struct working_set){.run_count = ARRAY_SIZE(runs),
        .pages = PAGES,
        .runs = malloc(sizeof(runs))};
    assert_non_null(r->ahead.runs);
    memcpy(r->ahead.runs, runs, sizeof(runs));
    r->config.session.ahead = &r->ahead;
    start(r);
    c = client_new(r, 0);
    while (resident(&c) < 61)
        (void)poll(NULL, 0, 1);
    for (uint64_t page = 0; page < PAGES; page++)
        expect_page(r, &c, page);
    client_free(&c);
    wait_ended(r, 1);
    stop(r);
    assert_int_equal(r->last.ahead, 61);
    assert_int_equal(r->last.faults, PAGES - 61);
}

static void test_what_is_given_back_is_zero(void **state)
{
    static const uint8_t zero[NUM_PAGE_SIZE];
    struct rig *r = *state;
    struct client c;

    r->config.session.around = 16;
    start(r);
    c = client_new(r, UFFD_FEATURE_EVENT_REMOVE);
    expect_page(r, &c, 2);
    expect_page(r, &c, 200);
    /* Some were there, some were not; both halves of the memory. */
    assert_int_equal(
        madvise(at_page(&c, 0), 24 * NUM_PAGE_SIZE, MADV_DONTNEED), 0);
    assert_int_equal(
        madvise(at_page(&c, 200), 24 * NUM_PAGE_SIZE, MADV_DONTNEED), 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        if (page < 24 || (page >= 200 && page < 224))
            assert_memory_equal(at_page(&c, page), zero, sizeof(zero));
        else
            expect_page(r, &c, page);
    }
    client_free(&c);
    wait_ended(r, 1);
    stop(r);
    assert_int_equal(r->last_result, 0);
    assert_int_equal(r->last.removed, 48);
}

/* The monitor's way: what is mapped over is not asked for again. */
static void test_what_is_mapped_over_is_not_served(void **state)
{
    static const uint8_t zero[NUM_PAGE_SIZE];
    struct rig *r = *state;
    struct client c;

    start(r);
    c = client_new(r, 0);
    assert_true(
        mmap(at_page(&c, 8), 8 * NUM_PAGE_SIZE, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at_page(&c, 8));
    for (uint64_t page = 0; page < PAGES; page++) {
        if (page >= 8 && page < 16)
            assert_memory_equal(at_page(&c, page), zero, sizeof(zero));
        else
            expect_page(r, &c, page);
    }
    client_free(&c);
    wait_ended(r, 1);
    stop(r);
    assert_int_equal(r->last.faults, PAGES - 8);
}

static void on_lost(void *opaque, const char *text)
{
    (void)opaque;
    (void)fprintf(stderr, "%s\n", text);
    _exit(1);
}

/* The monitor's client: a balloon takes pages, then there are zeroes. */
static void test_the_monitors_own_memory(void **state)
{
    static const uint8_t zero[NUM_PAGE_SIZE];
    const struct page_client_host host = {.on_lost = on_lost};
    struct rig *r = *state;
    struct page_client client;
    struct gmem mem;
    struct err err;

    r->config.session.around = 16;
    start(r);
    if (page_client_connect(&client, &host, r->path, &err) < 0 ||
        gmem_init_private(&mem, BYTES, &err) < 0 ||
        page_client_attach(&client, &mem, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(client.uffd >= 0);
    assert_true(gmem_page_equals(&mem, 7, r->rig.ram + 7 * NUM_PAGE_SIZE));
    /* Pages that are there, and pages that are not yet. */
    assert_int_equal(
        gmem_discard(&mem, gpa(4 * NUM_PAGE_SIZE), 8 * NUM_PAGE_SIZE), 0);
    assert_int_equal(
        gmem_discard(&mem, gpa(100 * NUM_PAGE_SIZE), 30 * NUM_PAGE_SIZE), 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        bool gone = (page >= 4 && page < 12) || (page >= 100 && page < 130);

        if (!gmem_page_equals(
                &mem, page, gone ? zero : r->rig.ram + page * NUM_PAGE_SIZE))
            fail_msg("page %llu", (unsigned long long)page);
    }
    gmem_fini(&mem);
    page_client_close(&client);
    wait_ended(r, 1);
    assert_int_equal(r->last_result, 0);
    stop(r);
}

static void test_several_machines_at_once_and_no_more(void **state)
{
    struct rig *r = *state;
    struct client c[4];
    char bytes[256];
    char text[PAGER_REASON_SIZE];
    ssize_t n;
    int fd;

    start(r);
    for (size_t i = 0; i < ARRAY_SIZE(c); i++)
        c[i] = client_new(r, 0);
    for (uint64_t page = 0; page < PAGES; page++)
        expect_page(r, &c[page % 4], page);
    fd = connect_to(r);
    n = read(fd, bytes, sizeof(bytes));
    assert_true(n > 0);
    assert_true(pager_reason_decode(bytes, (size_t)n, text));
    assert_non_null(strstr(text, "as many machines"));
    assert_int_equal(read(fd, bytes, sizeof(bytes)), 0);
    (void)close(fd);
    for (size_t i = 0; i < ARRAY_SIZE(c); i++)
        client_free(&c[i]);
    wait_ended(r, 4);
    /* There is room again. */
    do {
        c[0] = client_new(r, 0);
        n = recv(c[0].fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    } while (n > 0);
    expect_page(r, &c[0], 5);
    client_free(&c[0]);
    stop(r);
}

/* ---- damage -------------------------------------------------------------- */

struct toucher {
    const uint8_t *at;
    uint8_t got;
    bool is_through; /* atomic */
};

static void *touch(void *arg)
{
    struct toucher *t = arg;

    t->got = *(volatile const uint8_t *)t->at;
    __atomic_store_n(&t->is_through, true, __ATOMIC_RELEASE);
    return NULL;
}

/*
 * Whoever needs the page waits: when the machine is told, when the session is
 * over, and when the server is no more.
 */
static void test_a_damaged_page_is_never_there(void **state)
{
    struct rig *r = *state;
    struct toucher t = {0};
    struct client c;
    pthread_t thread;
    char bytes[512];
    char text[PAGER_REASON_SIZE];
    uint8_t page[NUM_PAGE_SIZE];
    ssize_t n;

    r->config.session.around = 16;
    damage(r);
    start(r);
    c = client_new(r, 0);
    /* Its neighbours are as good as ever. */
    for (uint64_t i = BAD - 20; i < BAD + 20; i++) {
        if (i != BAD)
            expect_page(r, &c, i);
    }
    t.at = at_page(&c, BAD);
    assert_int_equal(pthread_create(&thread, NULL, touch, &t), 0);
    n = read(c.fd, bytes, sizeof(bytes));
    assert_true(n > 0);
    assert_true(pager_reason_decode(bytes, (size_t)n, text));
    assert_non_null(strstr(text, "page 77 of the memory"));
    assert_non_null(strstr(text, "is not what was saved"));
    assert_non_null(strstr(text, "mem-"));
    assert_false(__atomic_load_n(&t.is_through, __ATOMIC_ACQUIRE));
    (void)shutdown(c.fd, SHUT_RDWR);
    wait_ended(r, 1);
    assert_int_equal(r->last_result, -EBADMSG);
    stop(r);
    assert_false(__atomic_load_n(&t.is_through, __ATOMIC_ACQUIRE));
    /* It waited for this and nothing else. */
    memset(page, 0xc3, sizeof(page));
    assert_int_equal(
        uffd_copy(c.uffd, (uint64_t)(uintptr_t)t.at, page, sizeof(page)), 0);
    (void)pthread_join(thread, NULL);
    assert_int_equal(t.got, 0xc3);
    client_free(&c);
}

/* In a process that does not listen, as Firecracker does not. */
static pid_t start_deaf(const struct rig *r, uint64_t features, bool forks)
{
    pid_t pid = fork();
    struct client c;
    pid_t child;

    assert_true(pid >= 0);
    if (pid != 0)
        return pid;
    c = client_new(r, features);
    if (forks) {
        child = fork();
        if (child == 0)
            _exit(0);
        if (child > 0)
            (void)waitpid(child, NULL, 0);
    }
    _exit(*(volatile const uint8_t *)at_page(&c, BAD) == 0 ? 40 : 41);
}

static void expect_killed(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("status %#x", (unsigned int)status);
}

static void test_a_machine_that_does_not_listen_is_killed(void **state)
{
    struct rig *r = *state;
    pid_t pid;

    damage(r);
    /* No thread of ours may be there when it is forked. */
    pid = start_deaf(r, 0, false);
    start(r);
    expect_killed(pid);
    wait_ended(r, 1);
    assert_int_equal(r->last.pid, pid);
    assert_int_equal(r->last_result, -EBADMSG);
    stop(r);
}

static void test_a_server_that_is_stopped_leaves_no_machine_behind(void **state)
{
    struct rig *r = *state;
    struct client c;
    char bytes[512];
    char text[PAGER_REASON_SIZE];
    ssize_t n;

    start(r);
    c = client_new(r, 0);
    expect_page(r, &c, 1);
    fd_eventfd_signal(r->stop_fd);
    n = read(c.fd, bytes, sizeof(bytes));
    assert_true(n > 0);
    assert_true(pager_reason_decode(bytes, (size_t)n, text));
    assert_non_null(strstr(text, "stopped"));
    client_free(&c);
    stop(r);
    assert_int_equal(r->last_result, -ECANCELED);
}

/* ---- machines that are not what they say --------------------------------- */

static unsigned int count_fds(void)
{
    unsigned int count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Its userfaultfd hands out further ones; they are not to pile up here. */
static void test_one_that_forks_is_not_served(void **state)
{
    struct rig *r = *state;
    unsigned int fds = count_fds();
    pid_t pid = start_deaf(r, UFFD_FEATURE_EVENT_FORK, true);

    start(r);
    expect_killed(pid);
    wait_ended(r, 1);
    assert_int_equal(r->last_result, -ENOTSUP);
    stop(r);
    assert_int_equal(count_fds(), fds);
}

/* Faults outside what it told of: another mapping, registered too. */
static void test_one_that_asks_for_more_is_not_served(void **state)
{
    struct rig *r = *state;
    struct toucher t = {0};
    struct client c;
    pthread_t thread;
    uint8_t *other;
    char bytes[512];

    start(r);
    c = client_new(r, 0);
    other = mmap(NULL, NUM_PAGE_SIZE, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(other != MAP_FAILED);
    assert_int_equal(uffd_register(c.uffd, other, NUM_PAGE_SIZE), 0);
    t.at = other;
    assert_int_equal(pthread_create(&thread, NULL, touch, &t), 0);
    assert_true(read(c.fd, bytes, sizeof(bytes)) > 0);
    (void)shutdown(c.fd, SHUT_RDWR);
    wait_ended(r, 1);
    assert_int_equal(r->last_result, -EBADMSG);
    assert_non_null(strstr(r->last_text, "not told of"));
    assert_int_equal(
        uffd_zero(c.uffd, (uint64_t)(uintptr_t)other, NUM_PAGE_SIZE), 0);
    (void)pthread_join(thread, NULL);
    (void)munmap(other, NUM_PAGE_SIZE);
    client_free(&c);
    stop(r);
}

/* A descriptor that would hold up who reads from it. */
static void test_one_that_blocks_harms_nobody_else(void **state)
{
    struct rig *r = *state;
    struct toucher t = {0};
    struct client bad;
    struct client good;
    pthread_t thread;
    char bytes[512];

    start(r);
    bad = client_new(r, 0);
    expect_page(r, &bad, 3);
    assert_int_equal(fd_set_nonblocking(bad.uffd, false), 0);
    good = client_new(r, 0);
    t.at = at_page(&bad, 9);
    assert_int_equal(pthread_create(&thread, NULL, touch, &t), 0);
    for (uint64_t page = 0; page < PAGES; page++)
        expect_page(r, &good, page);
    assert_true(read(bad.fd, bytes, sizeof(bytes)) > 0);
    (void)shutdown(bad.fd, SHUT_RDWR);
    wait_ended(r, 1);
    assert_int_equal(r->results[0], -EBADMSG);
    assert_int_equal(
        uffd_zero(bad.uffd, (uint64_t)(uintptr_t)t.at, NUM_PAGE_SIZE), 0);
    (void)pthread_join(thread, NULL);
    client_free(&bad);
    client_free(&good);
    wait_ended(r, 2);
    stop(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_every_page_is_what_was_saved),
        TEST(test_pages_around_one_that_is_asked_for_come_too),
        TEST(test_a_working_set_comes_unasked),
        TEST(test_what_is_given_back_is_zero),
        TEST(test_what_is_mapped_over_is_not_served),
        TEST(test_the_monitors_own_memory),
        TEST(test_several_machines_at_once_and_no_more),
        TEST(test_a_damaged_page_is_never_there),
        TEST(test_a_machine_that_does_not_listen_is_killed),
        TEST(test_a_server_that_is_stopped_leaves_no_machine_behind),
        TEST(test_one_that_forks_is_not_served),
        TEST(test_one_that_asks_for_more_is_not_served),
        TEST(test_one_that_blocks_harms_nobody_else),
#undef TEST
    };
    struct err err;
    int fd;

    if (uffd_open(&fd, &err) < 0)
        return skip_all(err.text);
    (void)close(fd);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
