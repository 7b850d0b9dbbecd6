/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines whose memory comes from a page server: they have what a mapped one
 * has, and go on with nothing else when the server dies or a page is damaged.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/hash.h"
#include "snapshot/store.h"
#include "tests/kvm/support/bare.h"
#include "tests/kvm/support/writer.h"
#include "tests/unit/support/skip.h"
#include "vmm/base/clock.h"
#include "vmm/core/uffd.h"
#include "vmm/machine_snapshot.h"
#include "vmm/restore_memory.h"

#define STATUS_LOST 125

/* Far beyond what anything here takes. */
#define HANG_NS (60 * CLOCK_NS_PER_S)

/* What a monitor in a process of its own tells the test. */
struct told {
    pid_t server;    /* atomic; 0: not yet */
    bool is_blocked; /* atomic: its main thread is about to touch memory */
    bool is_through; /* atomic: and has */
    struct bare *b;  /* in the child: whose count is there to be read */
    bool has_run;    /* its guest, after the server was lost */
    char text[512];  /* of on_lost */
};

struct fixture {
    char path[64];
    struct store store;
    struct snap snap;
    struct told *told; /* shared with a child */
};

static void open_snap(struct fixture *f, const struct snapshot_id *id)
{
    struct err err;

    if (snap_open(&f->store, id, &f->snap, &err) < 0)
        fail_msg("%s", err.text);
}

static int set_up(void **state)
{
    static struct fixture f;
    struct err err;

    (void)snprintf(f.path, sizeof(f.path), "/tmp/spore-test-XXXXXX");
    assert_non_null(mkdtemp(f.path));
    if (store_open(&f.store, f.path, true, &err) < 0)
        fail_msg("%s", err.text);
    f.snap = (struct snap){.dir_fd = -1};
    f.told = mmap(NULL, sizeof(*f.told), PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(f.told != MAP_FAILED);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct store_entry *entries;
    size_t count;

    if (f->snap.dir_fd >= 0)
        snap_close(&f->snap);
    assert_int_equal(store_list(&f->store, &entries, &count, NULL), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(store_remove(&f->store, &entries[i].id, NULL), 0);
    free(entries);
    store_close(&f->store);
    assert_int_equal(rmdir(f->path), 0);
    (void)munmap(f->told, sizeof(*f->told));
    return 0;
}

/* A snapshot of the guest that writes pages, which has written to them all. */
static void save_writer(struct fixture *f, uint32_t ring)
{
    const struct machine_snapshot_options options = {0};
    struct bare *b = writer_start(ring, MACHINE_TRACK_LATER);
    struct snapshot_id id;
    struct err err;

    while (bare_peek(b, WRITER_TOLD) < 8 * WRITER_PAGES)
        (void)poll(NULL, 0, 1);
    machine_pause(&b->machine);
    if (machine_snapshot_paused(&b->machine, &f->store, &options, &id, &err) <
        0)
        fail_msg("%s", err.text);
    bare_free(b);
    open_snap(f, &id);
}

/* ---- what is there ------------------------------------------------------- */

static void on_lost(void *opaque, const char *text)
{
    (void)opaque;
    (void)fprintf(stderr, "%s\n", text);
    _exit(STATUS_LOST);
}

static struct bare *restore_lazily(
    struct fixture *f, struct restore_memory *memory)
{
    const struct page_client_host host = {.on_lost = on_lost};
    struct err err;

    if (restore_memory_verify(
            memory, &host, &f->snap, RESTORE_MEMORY_SET_LEFT, &err) < 0)
        fail_msg("%s", err.text);
    return bare_restore_paged(&f->snap, &memory->client);
}

static struct hash128 hash_ram(const struct bare *b)
{
    uint64_t pages = gmem_page_count(&b->machine.mem);
    uint8_t *copy = malloc(pages << NUM_PAGE_SHIFT);
    struct hash128 hash;

    assert_non_null(copy);
    gmem_copy_pages(&b->machine.mem, 0, pages, copy);
    hash = hash_bytes(copy, pages << NUM_PAGE_SHIFT);
    free(copy);
    return hash;
}

static void reopen(struct fixture *f)
{
    struct snapshot_id id = f->snap.id;

    snap_close(&f->snap);
    open_snap(f, &id);
}

static void test_memory_is_that_of_a_mapped_machine(void **state)
{
    struct fixture *f = *state;
    struct restore_memory memory;
    struct hash128 hashes[2];
    struct bare *b;

    save_writer(f, 0);
    b = bare_restore(&f->snap, MACHINE_TRACK_LATER);
    hashes[0] = hash_ram(b);
    bare_free(b);
    reopen(f);
    b = restore_lazily(f, &memory);
    hashes[1] = hash_ram(b);
    writer_expect_pages(b);
    bare_free(b);
    restore_memory_close(&memory);
    assert_true(hash_equal(&hashes[0], &hashes[1]));
}

/*
 * The guest runs into missing pages, in its kernel or in ring 3, and is paused
 * again and again in the middle of that.
 */
static void run_on(struct fixture *f, uint32_t ring)
{
    unsigned int fds;
    struct restore_memory memory;
    struct bare *b;
    uint32_t count;

    save_writer(f, ring);
    fds = bare_count_fds();
    for (int i = 0; i < 5; i++) {
        b = restore_lazily(f, &memory);
        count = bare_peek(b, WRITER_TOLD);
        bare_start(b);
        for (int k = 0; k < 50; k++) {
            machine_pause(&b->machine);
            machine_resume(&b->machine);
        }
        while (bare_peek(b, WRITER_TOLD) - count < 4 * WRITER_PAGES)
            (void)poll(NULL, 0, 1);
        machine_pause(&b->machine);
        writer_expect_pages(b);
        assert_int_equal(b->ends, 0);
        bare_free(b);
        restore_memory_close(&memory);
        reopen(f);
    }
    assert_int_equal(bare_count_fds(), fds);
}

static void test_it_runs_on_in_ring_0(void **state)
{
    run_on(*state, 0);
}

static void test_it_runs_on_in_ring_3(void **state)
{
    run_on(*state, 3);
}

/* Saved anew before it has touched much: all that is left comes through. */
static void test_it_is_saved_wholly(void **state)
{
    const struct machine_snapshot_options options = {0};
    struct fixture *f = *state;
    struct restore_memory memory;
    struct hash128 hashes[2];
    struct snapshot_id id;
    struct bare *b;
    struct err err;

    save_writer(f, 3);
    b = restore_lazily(f, &memory);
    bare_start(b);
    bare_wait_change(b, WRITER_TOLD, bare_peek(b, WRITER_TOLD));
    machine_pause(&b->machine);
    if (machine_snapshot_paused(&b->machine, &f->store, &options, &id, &err) <
        0)
        fail_msg("%s", err.text);
    hashes[0] = hash_ram(b);
    bare_free(b);
    restore_memory_close(&memory);
    snap_close(&f->snap);
    open_snap(f, &id);
    b = bare_restore(&f->snap, MACHINE_TRACK_LATER);
    writer_expect_pages(b);
    hashes[1] = hash_ram(b);
    assert_true(hash_equal(&hashes[0], &hashes[1]));
    bare_free(b);
}

/* ---- monitors in processes of their own ---------------------------------- */

/* Whoever would go on with zeroes gets time to. */
static void tell_lost(void *opaque, const char *text)
{
    struct told *told = opaque;
    uint32_t count = told->b == NULL ? 0 : bare_peek(told->b, WRITER_TOLD);

    (void)snprintf(told->text, sizeof(told->text), "%s", text);
    (void)poll(NULL, 0, 200);
    told->has_run = told->b != NULL && bare_peek(told->b, WRITER_TOLD) != count;
    _exit(STATUS_LOST);
}

/* In the child: never returns, unless the page is there after all. */
CC_NORETURN static void monitor(struct fixture *f, bool runs)
{
    const struct page_client_host host = {
        .on_lost = tell_lost, .opaque = f->told};
    struct restore_memory memory;
    struct bare *b;

    if (restore_memory_verify(
            &memory, &host, &f->snap, RESTORE_MEMORY_SET_LEFT, NULL) < 0)
        _exit(1);
    b = bare_restore_paged(&f->snap, &memory.client);
    (void)bare_peek(b, WRITER_TOLD);
    __atomic_store_n(&f->told->server, memory.child, __ATOMIC_RELEASE);
    /* The test stops the server before anything more is touched. */
    while (!__atomic_load_n(&f->told->is_blocked, __ATOMIC_ACQUIRE))
        (void)poll(NULL, 0, 1);
    if (runs) {
        f->told->b = b;
        bare_start(b);
        for (;;)
            (void)poll(NULL, 0, 1000);
    }
    (void)bare_peek(b, (uint64_t)WRITER_FIRST_PAGE << NUM_PAGE_SHIFT);
    __atomic_store_n(&f->told->is_through, true, __ATOMIC_RELEASE);
    _exit(2);
}

/* The page that the count is in comes before the server is stopped. */
static pid_t start_monitor(struct fixture *f, bool runs)
{
    pid_t pid;

    memset(f->told, 0, sizeof(*f->told));
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        monitor(f, runs);
    while (__atomic_load_n(&f->told->server, __ATOMIC_ACQUIRE) == 0)
        (void)poll(NULL, 0, 1);
    return pid;
}

static int wait_status(pid_t pid)
{
    uint64_t deadline = clock_now_ns() + HANG_NS;
    int status;

    for (;;) {
        pid_t ended = waitpid(pid, &status, WNOHANG);

        assert_true(ended >= 0);
        if (ended == pid)
            return status;
        if (clock_now_ns() > deadline)
            fail_msg("process %d does not end", pid);
        (void)poll(NULL, 0, 1);
    }
}

/* Until a thread of the process waits in a page fault. */
static void wait_faulting(pid_t pid)
{
    uint64_t deadline = clock_now_ns() + HANG_NS;
    char command[96];

    (void)snprintf(command, sizeof(command),
        "grep -q handle_userfault /proc/%d/task/*/stack", pid);
    while (system(command) != 0) {
        if (clock_now_ns() > deadline)
            fail_msg("nothing waits for a page");
    }
}

static void block(struct fixture *f, pid_t pid)
{
    assert_int_equal(kill(f->told->server, SIGSTOP), 0);
    __atomic_store_n(&f->told->is_blocked, true, __ATOMIC_RELEASE);
    wait_faulting(pid);
}

/* With a vCPU, or with the thread that would be the event loop's, waiting. */
static void lose_server(struct fixture *f, bool runs)
{
    pid_t pid = start_monitor(f, runs);
    int status;

    block(f, pid);
    assert_int_equal(kill(f->told->server, SIGKILL), 0);
    status = wait_status(pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != STATUS_LOST)
        fail_msg("status %#x", (unsigned int)status);
    assert_string_equal(f->told->text,
        "the machine's memory is lost: its page server has ended");
    assert_false(f->told->is_through);
    assert_false(f->told->has_run);
}

static void test_a_machine_ends_with_its_server(void **state)
{
    struct fixture *f = *state;

    for (uint32_t ring = 0; ring <= 3; ring += 3) {
        save_writer(f, ring);
        lose_server(f, true);
        lose_server(f, false);
        reopen(f);
        snap_close(&f->snap);
    }
}

/* Nothing holds it back, neither KVM nor a server that does not answer. */
static void test_one_that_waits_can_be_killed(void **state)
{
    struct fixture *f = *state;

    for (uint32_t ring = 0; ring <= 3; ring += 3) {
        save_writer(f, ring);
        for (int i = 0; i < 2; i++) {
            pid_t pid = start_monitor(f, i == 0);
            int status;

            block(f, pid);
            assert_int_equal(kill(pid, SIGKILL), 0);
            status = wait_status(pid);
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        }
        snap_close(&f->snap);
    }
}

static void damage(const struct fixture *f, uint64_t page)
{
    const struct page_extent *e = page_index_find(&f->snap.index, page);
    off_t at = (off_t)((e->file_page + (page - e->page)) * NUM_PAGE_SIZE + 100);
    char name[SNAPSHOT_FILE_MAX + 1];
    uint8_t byte;
    int fd;

    assert_int_equal(e->kind, PAGE_DATA);
    page_image_name(&f->snap.index.files[e->file], name);
    fd = openat(f->snap.dir_fd, name, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    (void)close(fd);
}

/* The guest writes there sooner or later, the monitor reads it at once. */
static void test_a_damaged_page_ends_the_machine_at_its_first_use(void **state)
{
    struct fixture *f = *state;

    for (uint32_t ring = 0; ring <= 3; ring += 3) {
        save_writer(f, ring);
        damage(f, WRITER_FIRST_PAGE);
        for (int i = 0; i < 2; i++) {
            pid_t pid = start_monitor(f, i == 0);
            int status;

            __atomic_store_n(&f->told->is_blocked, true, __ATOMIC_RELEASE);
            status = wait_status(pid);
            if (!WIFEXITED(status) || WEXITSTATUS(status) != STATUS_LOST)
                fail_msg("status %#x", (unsigned int)status);
            if (strstr(f->told->text, "page 1024 of the memory") == NULL ||
                strstr(f->told->text, "is not what was saved") == NULL)
                fail_msg("%s", f->told->text);
            assert_false(f->told->is_through);
            assert_false(f->told->has_run);
        }
        snap_close(&f->snap);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_memory_is_that_of_a_mapped_machine),
        TEST(test_it_runs_on_in_ring_0),
        TEST(test_it_runs_on_in_ring_3),
        TEST(test_it_is_saved_wholly),
        TEST(test_a_machine_ends_with_its_server),
        TEST(test_one_that_waits_can_be_killed),
        TEST(test_a_damaged_page_ends_the_machine_at_its_first_use),
#undef TEST
    };
    struct err err;
    int rc = bare_need_kvm();
    int fd = -1;

    if (rc != 0)
        return rc;
    if (uffd_open(&fd, &err) < 0)
        return skip_all(err.text);
    (void)close(fd);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
