/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/kvm/support/bare.h"
#include "vmm/hw/layout.h"

/* Runs a guest to its end. */
static struct bare *run_to_end(const struct bare_options *options)
{
    struct bare *b = bare_new(options);

    bare_start(b);
    bare_wait_end(b);
    return b;
}

static void test_exit_status(void **state)
{
    struct bare *b;

    (void)state;
    b = run_to_end(&(struct bare_options){.guest = "exit42"});
    assert_int_equal(b->end.kind, MACHINE_EXITED);
    assert_int_equal(b->end.status, 42);
    bare_free(b);
}

static void assert_end(const char *guest, enum machine_end_kind kind)
{
    struct bare *b = run_to_end(&(struct bare_options){.guest = guest});
    assert_int_equal(b->end.kind, kind);
    bare_free(b);
}

static void test_kinds_of_end(void **state)
{
    (void)state;
    assert_end("power_off", MACHINE_POWERED_OFF);
    assert_end("reset", MACHINE_RESET);
    assert_end("pvpanic", MACHINE_PANICKED);
    assert_end("triple_fault", MACHINE_FAULTED);
}

static void test_missing_instruction_is_named(void **state)
{
    struct bare *b;

    (void)state;
    b = run_to_end(&(struct bare_options){.guest = "missing_insn"});
    if (!b->kvm.features.ring0_emulated) {
        assert_int_equal(b->end.kind, MACHINE_EXITED);
        assert_int_equal(b->end.status, 0);
        bare_free(b);
        print_message("skipped: this host runs every instruction\n");
        skip();
    }
    assert_int_equal(b->end.kind, MACHINE_FAULTED);
    assert_non_null(strstr(b->end.text, "popcnt"));
    assert_non_null(strstr(b->end.text, "f3 0f b8 c1"));
    assert_non_null(strstr(b->end.text, "VMX or SVM"));
    bare_free(b);
}

/* All vCPUs end the machine at once: it ends once, as one of them said. */
static void test_first_end_wins(void **state)
{
    (void)state;
    for (unsigned int n = 0; n < 20; n++) {
        struct bare *b;

        b = run_to_end(&(struct bare_options){
            .guest = "exit_race", .vcpus = 4, .cmdline = "cpu=4"});
        assert_int_equal(b->end.kind, MACHINE_EXITED);
        assert_in_range(b->end.status, 0, 3);
        /* What else was posted would come in this round. */
        assert_true(loop_run_once(&b->loop, 0) >= 0);
        assert_int_equal(b->ends, 1);
        bare_free(b);
    }
}

static void test_console_keeps_the_output(void **state)
{
    char tail[64];
    struct bare *b;
    size_t len;

    (void)state;
    b = run_to_end(&(struct bare_options){.guest = "hello"});
    len = console_tail(&b->console, tail, sizeof(tail) - 1);
    tail[len] = '\0';
    assert_string_equal(tail, "hello from a bare guest\n");
    bare_free(b);
}

/* One ends, by itself or by its owner; the other counts on, undisturbed. */
static void test_two_machines_in_one_process(void **state)
{
    struct bare *counter;
    struct bare *other;

    (void)state;
    counter = bare_new(&(struct bare_options){.guest = "counter"});
    bare_start(counter);
    bare_wait_change(counter, BARE_MAILBOX, 0);

    other = run_to_end(&(struct bare_options){.guest = "hello"});
    bare_wait_change(counter, BARE_MAILBOX, bare_peek(counter, BARE_MAILBOX));
    assert_int_equal(bare_peek(other, BARE_MAILBOX), 0);
    bare_free(other);
    bare_wait_change(counter, BARE_MAILBOX, bare_peek(counter, BARE_MAILBOX));

    other = bare_new(&(struct bare_options){.guest = "counter"});
    bare_start(other);
    machine_pause(&counter->machine);
    bare_wait_change(other, BARE_MAILBOX, 0);
    bare_free(other);
    machine_resume(&counter->machine);
    bare_wait_change(counter, BARE_MAILBOX, bare_peek(counter, BARE_MAILBOX));
    assert_int_equal(counter->ends, 0);
    bare_free(counter);
}

static void set_string(char **at, const char *value)
{
    free(*at);
    *at = strdup(value);
    assert_non_null(*at);
}

/* What machine_init refuses leaves no descriptor, and one line that says it. */
static void assert_refused(
    struct bare *b, unsigned int fds, const char *in_text)
{
    struct err err;

    assert_true(bare_build(b, &err) < 0);
    assert_non_null(strstr(err.text, in_text));
    assert_null(strchr(err.text, '\n'));
    bare_free(b);
    assert_int_equal(bare_count_fds(), fds);
}

static const struct bare_options hello = {.guest = "hello"};

static void test_bad_kernel_leaves_nothing(void **state)
{
    unsigned int fds = bare_count_fds();
    struct bare *b;

    (void)state;
    b = bare_prepare(&hello);
    set_string(&b->config.kernel, "/nonexistent/vmlinux");
    assert_refused(b, fds, "/nonexistent/vmlinux: No such file");
    b = bare_prepare(&hello);
    set_string(&b->config.kernel, "/proc/self/exe");
    assert_refused(b, fds, "/proc/self/exe");
    b = bare_prepare(&hello);
    set_string(&b->config.kernel, "/");
    assert_refused(b, fds, "not a regular file");
}

static void test_bad_initrd_leaves_nothing(void **state)
{
    unsigned int fds = bare_count_fds();
    struct bare *b;

    (void)state;
    b = bare_prepare(&hello);
    set_string(&b->config.initrd, "/nonexistent/initrd");
    assert_refused(b, fds, "/nonexistent/initrd: No such file");
}

static void test_bad_drive_leaves_nothing(void **state)
{
    struct config_drive drive = {.id = (char[]){"data"},
        .path = (char[]){"/nonexistent/disk"},
        .queues = 1};
    unsigned int fds = bare_count_fds();
    struct bare *b;
    struct err err;

    (void)state;
    b = bare_prepare(&hello);
    assert_int_equal(config_add_drive(&b->config, &drive, &err), 0);
    assert_refused(b, fds, "/nonexistent/disk");
}

static void test_long_command_line_leaves_nothing(void **state)
{
    unsigned int fds = bare_count_fds();
    char text[LAYOUT_CMDLINE_MAX];
    struct bare *b;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    b = bare_prepare(&hello);
    set_string(&b->config.boot_args, text);
    b->config.discovery = CONFIG_DISCOVERY_CMDLINE;
    assert_refused(b, fds, "command line");
}

static void test_too_little_memory_leaves_nothing(void **state)
{
    unsigned int fds = bare_count_fds();
    struct bare *b;

    (void)state;
    b = bare_prepare(&hello);
    b->config.mem_bytes = GMEM_SIZE_MIN;
    assert_refused(b, fds, "--mem 2");
}

/* The number that the next descriptor gets. */
static rlim_t next_fd(void)
{
    int fd = dup(STDERR_FILENO);

    assert_true(fd >= 0);
    (void)close(fd);
    return (rlim_t)fd;
}

#define LIMITS 64u

/*
 * Only n more descriptors can be had, for every n up to more than are needed:
 * each failure is an error that leaves nothing.
 */
static void test_each_descriptor_that_fails_leaves_nothing(void **state)
{
    int image = memfd_create("image", MFD_CLOEXEC);
    int memory = memfd_create("memory", MFD_CLOEXEC);
    unsigned int failures = 0;
    struct rlimit saved;
    char path[32];
    char shared[32];
    int rc = -1;

    (void)state;
    assert_true(image >= 0);
    assert_true(memory >= 0);
    assert_int_equal(ftruncate(image, 1 << 20), 0);
    assert_int_equal(ftruncate(memory, 2 << 20), 0);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", image);
    (void)snprintf(shared, sizeof(shared), "/proc/self/fd/%d", memory);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &saved), 0);
    for (rlim_t more = 0; more < LIMITS; more++) {
        struct config_drive drive = {
            .id = (char[]){"data"}, .path = path, .queues = 1};
        struct config_pmem pmem = {.id = (char[]){"pmem0"}, .path = shared};
        struct err err = {.text = ""};
        struct rlimit limit = saved;
        struct bare *b;
        unsigned int fds;

        b = bare_prepare(&(struct bare_options){.guest = "hello", .vcpus = 2});
        assert_int_equal(config_add_drive(&b->config, &drive, NULL), 0);
        assert_int_equal(config_add_pmem(&b->config, &pmem, NULL), 0);
        fds = bare_count_fds();
        limit.rlim_cur = next_fd() + more;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        rc = bare_build(b, &err);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &saved), 0);
        if (rc < 0) {
            failures++;
            assert_int_equal(rc, -EMFILE);
            assert_true(err.text[0] != '\0');
            assert_int_equal(bare_count_fds(), fds);
        }
        bare_free(b);
    }
    assert_int_equal(rc, 0);
    /* At least memory, VM, two vCPUs and a few interrupt lines. */
    assert_true(failures >= 6);
    (void)close(image);
    (void)close(memory);
}

/* Resident bytes of this process. */
static uint64_t resident(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long size;
    unsigned long pages;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &size, &pages), 2);
    (void)fclose(f);
    return pages * NUM_PAGE_SIZE;
}

#define ROUNDS 1000u
#define WARM   100u

/* A leak of what one machine has resident would be above 100 MiB. */
#define GROWTH_MAX (8 * NUM_MIB)

/* A sanitizer keeps books and freed memory of its own, without a bound. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||           \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MEASURES_MEMORY false
#else
#define MEASURES_MEMORY true
#endif

static void test_a_thousand_machines_leave_nothing(void **state)
{
    unsigned int fds = bare_count_fds();
    uint64_t before = 0;

    (void)state;
    for (unsigned int n = 0; n < ROUNDS; n++) {
        struct bare *b;

        if (n == WARM)
            before = resident();
        b = bare_new(
            &(struct bare_options){.guest = "hello", .vcpus = 1 + n % 2});
        /* Every other one runs, so that there were threads, too. */
        if (n % 2 == 0) {
            bare_start(b);
            bare_wait_end(b);
        }
        bare_free(b);
        if (n % 100 == 0)
            assert_int_equal(bare_count_fds(), fds);
    }
    assert_int_equal(bare_count_fds(), fds);
    if (MEASURES_MEMORY)
        assert_true(resident() < before + GROWTH_MAX);
}

/* What differs from zero before the guest runs is the monitor's writing. */
static void test_monitor_writes_are_in_the_dirty_bitmap(void **state)
{
    static const uint8_t zero[NUM_PAGE_SIZE];
    unsigned int written = 0;
    struct bare *b;

    (void)state;
    b = bare_new(
        &(struct bare_options){.guest = "hello", .cmdline = "some words"});
    for (uint64_t page = 0; page < b->machine.mem.size / NUM_PAGE_SIZE;
         page++) {
        uint8_t bytes[NUM_PAGE_SIZE];

        assert_int_equal(gmem_read(&b->machine.mem, gpa(page * NUM_PAGE_SIZE),
                             bytes, sizeof(bytes)),
            0);
        if (memcmp(bytes, zero, sizeof(bytes)) == 0)
            continue;
        written++;
        assert_true(bitmap_test(&b->machine.mem.dirty, page));
    }
    /* The GDT, start info, command line, ACPI tables and the image. */
    assert_true(written >= 5);
    /* And not simply everything: the last page is nobody's. */
    assert_false(bitmap_test(
        &b->machine.mem.dirty, b->machine.mem.size / NUM_PAGE_SIZE - 1));

    /* The generation ID is written at the start. */
    bitmap_clear_all(&b->machine.mem.dirty);
    bare_start(b);
    assert_true(
        bitmap_test(&b->machine.mem.dirty, LAYOUT_VMGENID >> NUM_PAGE_SHIFT));
    bare_wait_end(b);
    bare_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exit_status),
        cmocka_unit_test(test_kinds_of_end),
        cmocka_unit_test(test_missing_instruction_is_named),
        cmocka_unit_test(test_first_end_wins),
        cmocka_unit_test(test_console_keeps_the_output),
        cmocka_unit_test(test_two_machines_in_one_process),
        cmocka_unit_test(test_bad_kernel_leaves_nothing),
        cmocka_unit_test(test_bad_initrd_leaves_nothing),
        cmocka_unit_test(test_bad_drive_leaves_nothing),
        cmocka_unit_test(test_long_command_line_leaves_nothing),
        cmocka_unit_test(test_too_little_memory_leaves_nothing),
        cmocka_unit_test(test_each_descriptor_that_fails_leaves_nothing),
        cmocka_unit_test(test_a_thousand_machines_leave_nothing),
        cmocka_unit_test(test_monitor_writes_are_in_the_dirty_bitmap),
    };
    int rc = bare_need_kvm();

    return rc != 0 ? rc : cmocka_run_group_tests(tests, NULL, NULL);
}
