/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/agent/lines.h"
#include "guest/agent/options.h"
#include "guest/agent/text.h"
#include "guest/agent/user.h"

/* A file of that content; its name in path, which ends in XXXXXX. */
static void make_file(char *path, const char *content, size_t n)
{
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, n), n);
    close(fd);
}

static void test_text_is_cut_at_the_end(void **state)
{
    char buf[8];
    struct text t;

    (void)state;
    text_init(&t, buf, sizeof(buf));
    text_str(&t, "abc");
    text_num(&t, 42);
    assert_string_equal(buf, "abc42");
    text_num(&t, UINT64_MAX);
    assert_string_equal(buf, "abc4218");
    text_str(&t, "x");
    assert_string_equal(buf, "abc4218");
}

static void test_errors_have_names(void **state)
{
    char buf[64];
    struct text t;

    (void)state;
    text_init(&t, buf, sizeof(buf));
    text_errno(&t, ENOENT);
    assert_string_equal(buf, ": no such file or directory");
    text_init(&t, buf, sizeof(buf));
    text_errno(&t, 4094);
    assert_string_equal(buf, ": errno 4094");
}

static void test_numbers(void **state)
{
    uint64_t value = 1;

    (void)state;
    assert_true(text_to_num("0", 10, &value));
    assert_int_equal(value, 0);
    assert_true(text_to_num("0x3fF", 0xffff, &value));
    assert_int_equal(value, 0x3ff);
    assert_true(text_to_num("18446744073709551615", UINT64_MAX, &value));
    assert_true(value == UINT64_MAX);
    value = 7;
    assert_false(text_to_num("18446744073709551616", UINT64_MAX, &value));
    assert_false(text_to_num("65536", 65535, &value));
    assert_false(text_to_num("", 10, &value));
    assert_false(text_to_num("0x", 10, &value));
    assert_false(text_to_num("-1", 10, &value));
    assert_false(text_to_num("1 ", 10, &value));
    assert_false(text_to_num("a", 100, &value));
    assert_int_equal(value, 7);
}

static void test_lines(void **state)
{
    static char content[3 * LINES_BUF];
    char path[] = "/tmp/spore-agent-lines-XXXXXX";
    struct lines l;

    (void)state;
    /* One line that fits exactly, one that does not, one without an end. */
    memset(content, 'a', sizeof(content));
    content[0] = '\n';
    content[LINES_BUF] = '\n';
    content[2 * LINES_BUF + 10] = '\n';
    memcpy(content + 2 * LINES_BUF + 11, "last", 4);
    make_file(path, content, 2 * LINES_BUF + 15);
    assert_int_equal(lines_init(&l, path), 0);
    assert_string_equal(lines_next(&l), "");
    assert_int_equal(strlen(lines_next(&l)), LINES_BUF - 1);
    assert_string_equal(lines_next(&l), "last");
    assert_null(lines_next(&l));
    assert_null(lines_next(&l));
    lines_fini(&l);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(lines_init(&l, path), -ENOENT);
    assert_null(lines_next(&l));
    lines_fini(&l);
}

static void test_fields(void **state)
{
    char line[] = "a::c";
    char *at = line;

    (void)state;
    assert_string_equal(lines_field(&at, ':'), "a");
    assert_string_equal(lines_field(&at, ':'), "");
    assert_string_equal(lines_field(&at, ':'), "c");
    assert_null(lines_field(&at, ':'));
}

static void test_command_line(void **state)
{
    char line[] = "console=ttyS0 root=/dev/vda  rw\trootfstype=ext4 "
                  "rootflags=\"data=x y\" spore.timeline=0xe9 "
                  "spore.hostname=g spore.init=/sbin/init "
                  "spore.poweroff=reset root.x=1 softkvm "
                  "spore.resolver spore.overlay quiet\n";
    struct options o = {.root = NULL};

    (void)state;
    options_take_line(&o, line);
    assert_string_equal(o.root, "/dev/vda");
    assert_string_equal(o.fstype, "ext4");
    assert_string_equal(o.rootflags, "data=x y");
    assert_string_equal(o.hostname, "g");
    assert_string_equal(o.init, "/sbin/init");
    assert_true(o.writable);
    assert_true(o.off_is_restart);
    assert_true(o.softkvm);
    assert_true(o.kernel_resolver);
    assert_true(o.overlay);
    assert_int_equal(o.timeline_port, 0xe9);
}

static void test_senseless_words_are_passed_over(void **state)
{
    char line[] = "root= spore.timeline=65536 spore.timeline=x rw ro "
                  "spore.init=relative spore.poweroff=never \"";
    struct options o = {.root = NULL};

    (void)state;
    options_take_line(&o, line);
    assert_null(o.root);
    assert_null(o.init);
    assert_int_equal(o.timeline_port, 0);
    assert_false(o.writable);
    assert_false(o.off_is_restart);
}

static char passwd[64];
static char group[64];

static int make_users(void **state)
{
    static const char users[] = "root:x:0:0:root:/root:/bin/sh\n"
                                "broken:x:one:1::/:/bin/sh\n"
                                "short:x:3\n"
                                "ann:x:1000:100:Ann,,,:/home/ann:/bin/bash\n"
                                "bob:x:1001:1001::relative:\n"
                                "twin:x:1000:100:::\n";
    static const char groups[] = "root:x:0:\n"
                                 "users:x:100:ann\n"
                                 "audio:x:29:bob,ann\n"
                                 "kvm:x:108:annabel,ann\n"
                                 "none:x:5:annabel\n"
                                 "bad:x:y:ann\n";

    (void)state;
    strcpy(passwd, "/tmp/spore-agent-passwd-XXXXXX");
    strcpy(group, "/tmp/spore-agent-group-XXXXXX");
    make_file(passwd, users, sizeof(users) - 1);
    make_file(group, groups, sizeof(groups) - 1);
    return 0;
}

static int remove_users(void **state)
{
    (void)state;
    return unlink(passwd) != 0 || unlink(group) != 0 ? -1 : 0;
}

static void test_user_by_name(void **state)
{
    struct user u;

    (void)state;
    assert_int_equal(user_by_name("ann", passwd, group, &u), 0);
    assert_int_equal(u.uid, 1000);
    assert_int_equal(u.gid, 100);
    assert_string_equal(u.name, "ann");
    assert_string_equal(u.home, "/home/ann");
    assert_string_equal(u.shell, "/bin/bash");
    assert_int_equal(u.group_count, 2);
    assert_int_equal(u.groups[0], 29);
    assert_int_equal(u.groups[1], 108);
    assert_int_equal(user_by_name("bob", passwd, group, &u), 0);
    assert_string_equal(u.home, "/");
    assert_string_equal(u.shell, "/bin/sh");
    u.uid = 77;
    assert_int_equal(user_by_name("broken", passwd, group, &u), -ENOENT);
    assert_int_equal(user_by_name("short", passwd, group, &u), -ENOENT);
    assert_int_equal(user_by_name("an", passwd, group, &u), -ENOENT);
    assert_int_equal(u.uid, 77);
}

static void test_user_by_number(void **state)
{
    struct user u;

    (void)state;
    user_by_id(1000, 4, passwd, group, &u);
    assert_string_equal(u.name, "ann");
    assert_int_equal(u.gid, 4);
    assert_int_equal(u.group_count, 3); /* users too: it is not the gid */
    user_by_id(4242, 4242, passwd, group, &u);
    assert_string_equal(u.name, "");
    assert_string_equal(u.home, "/");
    assert_int_equal(u.group_count, 0);
    user_by_id(0, 0, "/nonexistent", "/nonexistent", &u);
    assert_string_equal(u.name, "root");
    assert_string_equal(u.home, "/root");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_cut_at_the_end),
        cmocka_unit_test(test_errors_have_names),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_senseless_words_are_passed_over),
        cmocka_unit_test(test_user_by_name),
        cmocka_unit_test(test_user_by_number),
    };

    return cmocka_run_group_tests(tests, make_users, remove_users);
}
