/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/tty.h"

struct fixture {
    int host; /* the side that a terminal program has */
    int term;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char name[64];

    if (f == NULL)
        return -1;
    f->host = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (f->host < 0 || grantpt(f->host) < 0 || unlockpt(f->host) < 0 ||
        ptsname_r(f->host, name, sizeof(name)) != 0)
        return -1;
    f->term = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    *state = f;
    return f->term < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fd_closep(&f->host);
    fd_closep(&f->term);
    free(f);
    return 0;
}

static struct termios settings(const struct fixture *f)
{
    struct termios t;

    memset(&t, 0, sizeof(t));
    assert_int_equal(tcgetattr(f->term, &t), 0);
    return t;
}

static void test_raw_and_back(void **state)
{
    struct fixture *f = *state;
    struct termios before = settings(f);
    struct termios raw;
    struct termios after;
    struct tty tty;
    struct err err;
    char byte;

    /* Something that a restore from defaults would lose. */
    before.c_cc[VERASE] = 'x';
    before.c_lflag &= ~(tcflag_t)ECHO;
    assert_int_equal(tcsetattr(f->term, TCSANOW, &before), 0);
    before = settings(f);
    assert_int_equal(tty_raw(&tty, f->term, &err), 0);
    raw = settings(f);
    assert_int_equal(raw.c_lflag & (ICANON | ECHO | ISIG), 0);
    assert_int_equal(raw.c_oflag & OPOST, 0);
    assert_int_equal(raw.c_iflag & ICRNL, 0);
    /* A key comes through at once and as it is. */
    assert_int_equal(write(f->host, "\x03", 1), 1);
    assert_int_equal(read(f->term, &byte, 1), 1);
    assert_int_equal(byte, 3);
    tty_restore(&tty);
    after = settings(f);
    assert_memory_equal(&after, &before, sizeof(before));
}

static void test_restore_is_once(void **state)
{
    struct fixture *f = *state;
    struct termios changed;
    struct termios after;
    struct tty tty;
    struct err err;

    assert_int_equal(tty_raw(&tty, f->term, &err), 0);
    tty_restore(&tty);
    assert_int_equal(tty.fd, -1);
    changed = settings(f);
    changed.c_cc[VERASE] = 'y';
    assert_int_equal(tcsetattr(f->term, TCSANOW, &changed), 0);
    tty_restore(&tty);
    after = settings(f);
    assert_int_equal(after.c_cc[VERASE], 'y');
    tty = (struct tty){.fd = -1};
    tty_restore(&tty);
}

static void test_what_is_no_terminal(void **state)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    uint16_t rows = 1;
    uint16_t cols = 2;
    struct tty tty;
    struct err err;

    (void)state;
    assert_true(null >= 0);
    assert_int_equal(tty_raw(&tty, null, &err), -ENOTTY);
    assert_string_equal(err.text,
        "cannot read the terminal's settings: Inappropriate ioctl for device");
    assert_int_equal(tty.fd, -1);
    tty_restore(&tty);
    assert_false(tty_size(null, &rows, &cols));
    assert_int_equal(rows, 1);
    assert_int_equal(cols, 2);
    fd_closep(&null);
}

static void test_size(void **state)
{
    struct fixture *f = *state;
    struct winsize size = {.ws_row = 50, .ws_col = 132};
    uint16_t rows = 1;
    uint16_t cols = 2;

    /* A new pseudo terminal has none. */
    assert_false(tty_size(f->term, &rows, &cols));
    assert_int_equal(rows, 1);
    assert_int_equal(ioctl(f->host, TIOCSWINSZ, &size), 0);
    assert_true(tty_size(f->term, &rows, &cols));
    assert_int_equal(rows, 50);
    assert_int_equal(cols, 132);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_raw_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restore_is_once, setup, teardown),
        cmocka_unit_test(test_what_is_no_terminal),
        cmocka_unit_test_setup_teardown(test_size, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
