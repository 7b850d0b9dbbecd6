/* SPDX-License-Identifier: Apache-2.0 */
/* Layers over layers: what is there in the end. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/serve/rootfs_tree.h"

static struct rootfs_tree tree;

static int make_tree(void **state)
{
    struct err err;

    (void)state;
    if (rootfs_tree_init(&tree, true, &err) < 0)
        return -1;
    rootfs_tree_begin_layer(&tree);
    return 0;
}

static int free_tree(void **state)
{
    (void)state;
    rootfs_tree_fini(&tree);
    return 0;
}

static int try_add(const char *path, mode_t mode, const char *target)
{
    char own[64] = "";
    struct rootfs_inode inode = {.mode = mode, .size = S_ISREG(mode) ? 1 : 0};
    struct err err;
    int rc;

    if (target != NULL) {
        (void)snprintf(own, sizeof(own), "%s", target);
        inode.target = own;
    }
    rc = rootfs_tree_add(&tree, path, &inode, &err);
    if (rc < 0)
        assert_null(strchr(err.text, '\n'));
    return rc;
}

static void add_file(const char *path)
{
    assert_int_equal(try_add(path, S_IFREG | 0644, NULL), 0);
}

static void add_dir(const char *path)
{
    assert_int_equal(try_add(path, S_IFDIR | 0700, NULL), 0);
}

static void add_link(const char *path, const char *target)
{
    assert_int_equal(try_add(path, S_IFLNK | 0777, target), 0);
}

static const struct rootfs_inode *at(const char *path)
{
    const struct rootfs_node *n = rootfs_tree_find(&tree, path);

    return n == NULL ? NULL : n->inode;
}

static size_t count_all(void)
{
    size_t count = 0;

    for (const struct rootfs_node *n = rootfs_tree_next(tree.root); n != NULL;
         n = rootfs_tree_next(n))
        count++;
    assert_int_equal(count, tree.node_count);
    return count;
}

static void test_paths(void **state)
{
    char path[32];

    (void)state;
    add_file("./a//b/./c");
    add_file("/d/");
    assert_non_null(at("a/b/c"));
    assert_int_equal(at("a/b")->mode, S_IFDIR | 0755);
    assert_non_null(at("d"));
    assert_int_equal(count_all(), 4);
    assert_true(
        rootfs_tree_path(rootfs_tree_find(&tree, "a/b/c"), path, sizeof(path)));
    assert_string_equal(path, "a/b/c");
    assert_false(rootfs_tree_path(rootfs_tree_find(&tree, "a/b/c"), path, 5));
    assert_true(rootfs_tree_path(rootfs_tree_find(&tree, "a/b/c"), path, 6));
    add_dir(".");
    assert_int_equal(tree.root->inode->mode, S_IFDIR | 0700);
}

static void test_what_is_refused(void **state)
{
    char name[400];

    (void)state;
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    add_file("f");
    assert_int_equal(try_add("../x", S_IFREG, NULL), -EINVAL);
    assert_int_equal(try_add("a/../x", S_IFREG, NULL), -EINVAL);
    assert_int_equal(try_add("a/..", S_IFREG, NULL), -EINVAL);
    assert_int_equal(try_add("..", S_IFDIR, NULL), -EINVAL);
    assert_int_equal(try_add("f/x", S_IFREG, NULL), -ENOTDIR);
    assert_int_equal(try_add("/", S_IFREG, NULL), -EINVAL);
    assert_int_equal(try_add(name, S_IFREG, NULL), -ENAMETOOLONG);
    assert_int_equal(rootfs_tree_link(&tree, "l", "nothing", NULL), -EINVAL);
    assert_int_equal(rootfs_tree_link(&tree, "l", "..", NULL), -EINVAL);
    assert_int_equal(rootfs_tree_link(&tree, "../l", "f", NULL), -EINVAL);
    assert_int_equal(rootfs_tree_link(&tree, "", "f", NULL), -EINVAL);
    assert_int_equal(rootfs_tree_link(&tree, "f", "f", NULL), 0);
    assert_non_null(at("f"));
}

static void test_links_on_the_way(void **state)
{
    (void)state;
    add_dir("usr/lib");
    add_link("lib", "usr/lib");
    add_link("up", "../../../usr");
    add_link("abs", "/usr/./lib");
    add_link("loop", "loop");
    add_link("deep/er", "../lib/");
    rootfs_tree_begin_layer(&tree);
    add_file("lib/one");
    add_file("up/lib/two");
    add_file("abs/three");
    add_file("deep/er/four");
    assert_int_equal(try_add("loop/x", S_IFREG, NULL), -ELOOP);
    assert_non_null(at("usr/lib/one"));
    assert_non_null(at("usr/lib/two"));
    assert_non_null(at("usr/lib/three"));
    assert_non_null(at("usr/lib/four"));
    assert_true(S_ISLNK(at("lib")->mode));
    /* The last one is not followed: it is what is replaced. */
    add_dir("lib");
    assert_true(S_ISDIR(at("lib")->mode));
    assert_null(at("lib/one"));
}

static void test_replacing(void **state)
{
    (void)state;
    add_file("d/a/b");
    add_file("f");
    rootfs_tree_begin_layer(&tree);
    add_dir("d");
    assert_int_equal(at("d")->mode, S_IFDIR | 0700);
    assert_non_null(at("d/a/b"));
    add_file("d");
    assert_true(S_ISREG(at("d")->mode));
    assert_null(at("d/a"));
    add_file("f/");
    assert_int_equal(count_all(), 2);
    assert_int_equal(tree.file_count, 4);
    assert_null(tree.files[0]->names);
    assert_null(tree.files[1]->names);
    assert_non_null(tree.files[3]->names);
}

static void test_hard_links(void **state)
{
    const struct rootfs_inode *inode;

    (void)state;
    add_file("a");
    assert_int_equal(rootfs_tree_link(&tree, "d/b", "./a", NULL), 0);
    assert_int_equal(rootfs_tree_link(&tree, "c", "/d/b", NULL), 0);
    inode = at("a");
    assert_ptr_equal(at("d/b"), inode);
    assert_ptr_equal(at("c"), inode);
    rootfs_tree_begin_layer(&tree);
    add_file(".wh.a");
    add_file("c");
    assert_null(at("a"));
    assert_ptr_equal(at("d/b"), inode);
    assert_ptr_not_equal(at("c"), inode);
    /* Its contents are still wanted, under another name. */
    assert_ptr_equal(tree.files[0]->names, rootfs_tree_find(&tree, "d/b"));
    assert_null(tree.files[0]->names->next_name);
    /* A link in the place of the folder that has what it is to. */
    assert_int_equal(rootfs_tree_link(&tree, "d", "d/b", NULL), 0);
    assert_ptr_equal(at("d"), inode);
    assert_int_equal(count_all(), 2);
}

static void test_whiteouts(void **state)
{
    (void)state;
    add_file("d/a");
    add_file("d/b/c");
    add_file("d/e");
    rootfs_tree_begin_layer(&tree);
    add_file("d/.wh.a");
    add_file("d/.wh.b");
    add_file("d/.wh.none");
    add_file("d/.wh..wh.plnk/x");
    assert_null(at("d/a"));
    assert_null(at("d/b"));
    assert_non_null(at("d/e"));
    assert_null(at("d/.wh.a"));
    assert_null(at("d/.wh..wh.plnk"));
    add_file("d/.wh.x/y");
    assert_int_equal(rootfs_tree_link(&tree, "d/.wh.l", "d/e", NULL), 0);
    assert_null(at("d/.wh.x"));
    assert_null(at("d/.wh.l"));
    add_link("wh", ".wh.z");
    assert_int_equal(try_add("wh/x", S_IFREG, NULL), -EINVAL);
    /* What a layer hides it may have anew, before or after. */
    add_file("d/f");
    add_file("d/.wh.f");
    add_file("d/a");
    assert_non_null(at("d/f"));
    assert_non_null(at("d/a"));
    rootfs_tree_begin_layer(&tree);
    add_file("d/b/new");
    add_file("d/.wh.e");
    add_file("d/e/x");
    add_file("d/.wh.e");
    assert_non_null(at("d/e/x"));
}

static void test_opaque(void **state)
{
    (void)state;
    add_file("d/a/b/c");
    add_file("d/a/x");
    add_file("d/e");
    add_file("o");
    rootfs_tree_begin_layer(&tree);
    add_file("d/a/new");
    add_file("d/.wh..wh..opq");
    add_file("d/later");
    assert_non_null(at("d/a/new"));
    assert_non_null(at("d/later"));
    assert_null(at("d/a/x"));
    assert_null(at("d/a/b"));
    assert_null(at("d/e"));
    assert_non_null(at("o"));
    assert_int_equal(count_all(), 5);
}

static void test_names_as_they_are(void **state)
{
    struct rootfs_tree plain;
    struct err err;
    const struct rootfs_inode inode = {.mode = S_IFREG | 0600};

    (void)state;
    assert_int_equal(rootfs_tree_init(&plain, false, &err), 0);
    assert_int_equal(rootfs_tree_add(&plain, ".wh.a", &inode, &err), 0);
    assert_non_null(rootfs_tree_find(&plain, ".wh.a"));
    rootfs_tree_fini(&plain);
}

static void test_many(void **state)
{
    char name[32];

    (void)state;
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(name, sizeof(name), "d%d/f%d", i % 7, i);
        add_file(name);
    }
    assert_int_equal(count_all(), 5007);
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(name, sizeof(name), "d%d/f%d", i % 7, i);
        assert_non_null(at(name));
    }
    rootfs_tree_begin_layer(&tree);
    add_file("d3/.wh..wh..opq");
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(name, sizeof(name), "d%d/f%d", i % 7, i);
        assert_int_equal(at(name) == NULL, i % 7 == 3);
    }
}

/* An archive of a few bytes for each may imply thousands of folders. */
static void test_too_many(void **state)
{
    char path[ROOTFS_TREE_PATH_MAX + 1];
    int rc = 0;

    (void)state;
    for (unsigned int i = 0; rc == 0 && i < 1000; i++) {
        size_t at = (size_t)snprintf(path, sizeof(path), "%u", i);

        while (at < sizeof(path) - 2) {
            path[at++] = '/';
            path[at++] = 'a';
        }
        path[at] = '\0';
        rc = try_add(path, S_IFREG, NULL);
    }
    assert_int_equal(rc, -E2BIG);
    assert_true(tree.node_count <= ROOTFS_TREE_ENTRIES_MAX);
    assert_int_equal(rootfs_tree_link(&tree, "x", "none", NULL), -EINVAL);
}

static void test_too_much_text(void **state)
{
    char value[ROOTFS_TREE_XATTR_MAX] = "";
    char name[] = "user.x";
    struct rootfs_xattr xattr = {
        .name = name, .value = value, .size = sizeof(value)};
    const struct rootfs_inode inode = {
        .mode = S_IFREG, .xattrs = &xattr, .xattr_count = 1};
    unsigned int count = 0;
    struct err err;

    (void)state;
    while (rootfs_tree_add(&tree, "f", &inode, &err) == 0)
        count++;
    assert_non_null(strstr(err.text, "more than 256 MiB"));
    assert_int_equal(count, 4095);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_paths, make_tree, free_tree),
        cmocka_unit_test_setup_teardown(
            test_what_is_refused, make_tree, free_tree),
        cmocka_unit_test_setup_teardown(
            test_links_on_the_way, make_tree, free_tree),
        cmocka_unit_test_setup_teardown(test_replacing, make_tree, free_tree),
        cmocka_unit_test_setup_teardown(test_hard_links, make_tree, free_tree),
        cmocka_unit_test_setup_teardown(test_whiteouts, make_tree, free_tree),
        cmocka_unit_test_setup_teardown(test_opaque, make_tree, free_tree),
        cmocka_unit_test(test_names_as_they_are),
        cmocka_unit_test_setup_teardown(test_many, make_tree, free_tree),
        cmocka_unit_test_setup_teardown(test_too_many, make_tree, free_tree),
        cmocka_unit_test_setup_teardown(
            test_too_much_text, make_tree, free_tree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
