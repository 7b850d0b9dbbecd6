/* SPDX-License-Identifier: Apache-2.0 */
/* A file that guests write to: it ends at its limit, they go on. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/console.h"
#include "vmm/output_limit.h"
#include "vmm/outstream.h"

#define NOTE "\nspore: warning: 4096 bytes of output are all that"

struct fixture {
    int file;
    struct output_limit limit;
    struct loop loop;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->file = memfd_create("output", MFD_CLOEXEC);
    assert_true(f->file >= 0);
    /* As a log is: its writers do not write over each other. */
    assert_int_equal(fcntl(f->file, F_SETFL, O_APPEND), 0);
    assert_int_equal(loop_init(&f->loop, NULL), 0);
    output_limit_init(&f->limit, OUTPUT_LIMIT_MIN, f->file);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    loop_fini(&f->loop);
    fd_closep(&f->file);
    free(f);
    return 0;
}

static uint64_t file_size(const struct fixture *f)
{
    struct stat st;

    assert_int_equal(fstat(f->file, &st), 0);
    return (uint64_t)st.st_size;
}

/* The file's text, which has the last line once, at its end. */
static void expect_cut(const struct fixture *f)
{
    char text[OUTPUT_LIMIT_MIN + 1];
    uint64_t size = file_size(f);
    const char *note;

    assert_true(size <= OUTPUT_LIMIT_MIN);
    assert_true(size > OUTPUT_LIMIT_MIN - 200);
    assert_int_equal(pread(f->file, text, size, 0), size);
    text[size] = '\0';
    note = strstr(text, NOTE);
    assert_non_null(note);
    assert_null(strstr(note + 1, NOTE));
    assert_ptr_equal(strchr(note + 1, '\n'), text + size - 1);
}

static void test_none(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(output_limit_take(NULL, 1 << 30), 1 << 30);
    output_limit_give_back(NULL, 1);
    output_limit_init(&f->limit, 0, f->file);
    assert_int_equal(output_limit_take(&f->limit, SIZE_MAX), SIZE_MAX);
    assert_int_equal(output_limit_take(&f->limit, SIZE_MAX), SIZE_MAX);
    assert_int_equal(file_size(f), 0);
}

static void test_what_was_not_written_is_given_back(void **state)
{
    struct fixture *f = *state;
    size_t room;

    assert_int_equal(output_limit_take(&f->limit, 1000), 1000);
    output_limit_give_back(&f->limit, 400);
    room = OUTPUT_LIMIT_MIN - 600;
    assert_true(output_limit_take(&f->limit, room) < room);
    output_limit_give_back(&f->limit, 100);
    assert_int_equal(output_limit_take(&f->limit, 1000), 100);
    assert_int_equal(output_limit_take(&f->limit, 1), 0);
}

/* A guest's serial port that is flooded. */
static void test_console(void **state)
{
    struct fixture *f = *state;
    static struct console console;
    struct serial_host host;
    uint64_t size;
    char tail[64];
    size_t n;

    console_init(&console, &f->loop, f->file, -1);
    console_set_limit(&console, &f->limit);
    host = console_host(&console);
    for (unsigned int i = 0; i < 10000; i++)
        assert_int_equal(
            host.write(host.opaque, (const uint8_t *)"a line\n", 7), 7);
    expect_cut(f);
    size = file_size(f);
    assert_int_equal(
        host.write(host.opaque, (const uint8_t *)"the last\n", 9), 9);
    assert_int_equal(file_size(f), size);
    /* Which is remembered nevertheless. */
    n = console_tail(&console, tail, 16);
    assert_int_equal(n, 16);
    assert_memory_equal(tail, "a line\nthe last\n", 16);
    console_fini(&console);
}

static void nothing(void *opaque)
{
    (void)opaque;
}

static void test_command_output(void **state)
{
    struct fixture *f = *state;
    static const char chunk[1000];
    struct outstream s;

    outstream_init(&s, &f->loop, f->file, nothing, f);
    outstream_set_limit(&s, &f->limit);
    for (unsigned int i = 0; i < 100; i++) {
        assert_int_equal(outstream_write(&s, chunk, sizeof(chunk)), 0);
        assert_false(outstream_is_busy(&s));
    }
    assert_true(file_size(f) <= OUTPUT_LIMIT_MIN);
    assert_true(file_size(f) > OUTPUT_LIMIT_MIN - 200);
    outstream_fini(&s);
}

static void *flood(void *opaque)
{
    struct fixture *f = opaque;

    for (unsigned int i = 0; i < 20000; i++) {
        size_t n = output_limit_take(&f->limit, 3);

        if (n > 0)
            assert_int_equal(write(f->file, "xyz", n), n);
        /* As a descriptor that takes nothing once in a while. */
        n = output_limit_take(&f->limit, 7);
        output_limit_give_back(&f->limit, n);
        if (n == 0)
            output_limit_say(&f->limit);
    }
    return NULL;
}

static void test_writers_share_it(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];

    for (unsigned int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, flood, f), 0);
    for (unsigned int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(file_size(f) <= OUTPUT_LIMIT_MIN);
    assert_true(file_size(f) > OUTPUT_LIMIT_MIN - 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_what_was_not_written_is_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_console, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_command_output, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_writers_share_it, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
