/* SPDX-License-Identifier: Apache-2.0 */
/* Templates on the disk: names, folders, what is written of them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/folder.h"
#include "vmm/serve/template.h"
#include "vmm/serve/template_json.h"
#include "vmm/serve/template_place.h"

static char *dir;

static int make_dir(void **state)
{
    struct err err;

    (void)state;
    if (folder_make_beside("/tmp/test_template", &dir, &err) < 0)
        return -1;
    return setenv("XDG_DATA_HOME", dir, 1);
}

static int remove_dir(void **state)
{
    (void)state;
    folder_remove(dir);
    free(dir);
    return 0;
}

static void in_all(const char *name, char path[256])
{
    (void)snprintf(path, 256, "%s/spore/templates/%s", dir, name);
}

static size_t count_names(void)
{
    size_t count = 0;
    char **names;

    assert_int_equal(template_place_list(&names, NULL), 0);
    for (; names[count] != NULL; count++)
        free(names[count]);
    free(names);
    return count;
}

static void write_json(const struct template_place *place, const char *text)
{
    CC_CLEANUP(fd_closep)
    int fd = openat(place->fd, "template.json",
        O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
}

static void make(const char *name, bool replaces, const char *json)
{
    struct template_place place;
    struct err err;

    assert_int_equal(template_place_begin(name, replaces, &place, &err), 0);
    write_json(&place, json);
    assert_int_equal(template_place_publish(&place, name, replaces, &err), 0);
    template_place_close(&place);
}

static void test_names(void **state)
{
    char longest[TEMPLATE_NAME_MAX + 2];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    longest[TEMPLATE_NAME_MAX] = '\0';
    assert_true(template_name_is_valid("a"));
    assert_true(template_name_is_valid("A-b_c.9"));
    assert_true(template_name_is_valid(longest));
    longest[TEMPLATE_NAME_MAX] = 'x';
    longest[TEMPLATE_NAME_MAX + 1] = '\0';
    assert_false(template_name_is_valid(longest));
    assert_false(template_name_is_valid(""));
    assert_false(template_name_is_valid("."));
    assert_false(template_name_is_valid(".t-abcdef"));
    assert_false(template_name_is_valid("-a"));
    assert_false(template_name_is_valid("a/b"));
    assert_false(template_name_is_valid("a b"));
    assert_int_equal(template_name_check("../x", NULL), -EINVAL);
}

static void test_one(void **state)
{
    struct template_place place;
    struct template t;
    struct err err;

    (void)state;
    assert_int_equal(template_open("one", &t, &err), -ENOENT);
    assert_non_null(strstr(err.text, "spore template build"));
    assert_int_equal(count_names(), 0);
    make("one", false,
        "{\"version\":1,\"argv\":[\"a\",\"b\"],\"env\":[\"X=1\"],\"cwd\":\"/"
        "\",\"user\":\"0\",\"made\":5,\"source\":\"s\",\"port\":80}");
    assert_int_equal(count_names(), 1);
    assert_int_equal(template_open("one", &t, &err), 0);
    assert_string_equal(t.name, "one");
    assert_string_equal(t.argv[1], "b");
    assert_null(t.argv[2]);
    assert_string_equal(t.env[0], "X=1");
    assert_string_equal(t.cwd, "/");
    assert_int_equal(t.made_s, 5);
    assert_int_equal(t.tcp_port, 80);
    assert_memory_equal(t.store, t.dir, strlen(t.dir));
    template_fini(&t);
    assert_int_equal(template_place_begin("one", false, &place, &err), -EEXIST);
    assert_int_equal(template_place_remove("one", &err), 0);
    assert_int_equal(template_place_remove("one", &err), -ENOENT);
    assert_int_equal(count_names(), 0);
}

static void test_replacing(void **state)
{
    struct template first;
    struct template second;
    struct err err;

    (void)state;
    make("two", true, "{\"version\":1,\"source\":\"a\"}");
    assert_int_equal(template_open("two", &first, &err), 0);
    make("two", true, "{\"version\":1,\"source\":\"b\"}");
    assert_int_equal(template_open("two", &second, &err), 0);
    assert_string_equal(second.source, "b");
    assert_string_not_equal(first.dir, second.dir);
    assert_int_equal(access(first.dir, F_OK), -1);
    assert_int_equal(count_names(), 1);
    template_fini(&first);
    template_fini(&second);
    assert_int_equal(template_place_remove("two", &err), 0);
}

/* What a builder that was killed left is removed, and nothing else. */
static void test_left_behind(void **state)
{
    struct template_place dead;
    struct template_place alive;
    struct err err;
    char path[256];

    (void)state;
    make("three", false, "{\"version\":1}");
    assert_int_equal(template_place_begin("x", false, &dead, &err), 0);
    assert_int_equal(template_place_begin("y", false, &alive, &err), 0);
    write_json(&dead, "{}");
    (void)snprintf(path, sizeof(path), "%s", dead.path);
    template_place_close(&dead);
    make("four", false, "{\"version\":1}");
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(alive.path, F_OK), 0);
    assert_int_equal(count_names(), 2);
    (void)snprintf(path, sizeof(path), "%s", alive.path);
    template_place_abandon(&alive);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(template_place_remove("three", &err), 0);
    assert_int_equal(template_place_remove("four", &err), 0);
}

/* Links that are not ours lead nowhere. */
static void test_foreign_links(void **state)
{
    struct template t;
    struct err err;
    char path[256];

    (void)state;
    make("five", false, "{\"version\":1}");
    in_all("evil", path);
    assert_int_equal(symlink("/etc", path), 0);
    in_all("evil2", path);
    assert_int_equal(symlink(".t-/../..", path), 0);
    in_all("dir", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(count_names(), 1);
    assert_int_equal(template_open("evil", &t, &err), -ENOENT);
    assert_int_equal(template_open("evil2", &t, &err), -ENOENT);
    assert_int_equal(template_open("dir", &t, &err), -ENOENT);
    assert_int_equal(template_place_remove("evil", &err), -ENOENT);
    assert_int_equal(template_place_remove("dir", &err), -ENOENT);
    assert_int_equal(template_place_remove("five", &err), 0);
}

static void test_bad_json(void **state)
{
    static const char *const bad[] = {"", "[]", "{}", "{\"version\":2}",
        "{\"version\":1,\"argv\":\"x\"}", "{\"version\":1,\"argv\":[1]}",
        "{\"version\":1,\"env\":[\"X\"]}", "{\"version\":1,\"env\":[\"=X\"]}",
        "{\"version\":1,\"port\":65536}", "{\"version\":1,\"made\":-1}",
        "{\"version\":1,\"cwd\":1}", "{\"version\":1,\"version\":1}"};
    struct template t;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(
            template_json_read(bad[i], strlen(bad[i]), &t, &err), -EBADMSG);
}

static void test_json_writes_what_it_reads(void **state)
{
    static const char text[] =
        "{\"version\":1,\"argv\":[\"a \\\"b\\\"\"],\"env\":[],"
        "\"made\":7,\"vsock_port\":5000,\"more\":{}}";
    struct template t;
    struct template again;
    struct err err;
    char *json;

    (void)state;
    assert_int_equal(template_json_read(text, strlen(text), &t, &err), 0);
    assert_int_equal(template_json_write(&t, &json, &err), 0);
    assert_int_equal(template_json_read(json, strlen(json), &again, &err), 0);
    assert_string_equal(again.argv[0], "a \"b\"");
    assert_int_equal(again.vsock_port, 5000);
    assert_null(again.cwd);
    free(json);
    template_fini(&again);
    free(t.argv[0]);
    t.argv[0] = strdup("\xff");
    assert_int_equal(template_json_write(&t, &json, &err), -EILSEQ);
    template_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_replacing),
        cmocka_unit_test(test_left_behind),
        cmocka_unit_test(test_foreign_links),
        cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_json_writes_what_it_reads),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
