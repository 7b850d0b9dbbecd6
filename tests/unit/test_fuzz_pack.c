/* SPDX-License-Identifier: Apache-2.0 */
/* What packing is made of: conf, images, inputs, programs that are run. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz/inputs.h"
#include "fuzz/pack.h"
#include "fuzz/root_image.h"
#include "guest/fuzz/conf.h"
#include "vmm/base/fd.h"
#include "vmm/child.h"
#include "vmm/folder.h"

static char *dir;

static int make_dir(void **state)
{
    struct err err;

    (void)state;
    return folder_make_beside("/tmp/test_fuzz_pack", &dir, &err);
}

static int remove_dir(void **state)
{
    int rc;

    (void)state;
    folder_remove(dir);
    rc = access(dir, F_OK) == 0 ? -1 : 0;
    free(dir);
    return rc;
}

static const char *in_dir(const char *name, char path[128])
{
    (void)snprintf(path, 128, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text, mode_t mode)
{
    char path[128];
    int fd = open(in_dir(name, path), O_WRONLY | O_CREAT | O_TRUNC, mode);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    assert_int_equal(close(fd), 0);
}

/* ---- fuzz.conf ----------------------------------------------------------- */

/* The guest's own reader takes what is written for it. */
static void test_conf(void **state)
{
    char *argv[] = {
        (char[]){"/bin/prog"}, (char[]){"-x=y"}, (char[]){""}, NULL};
    char *env[] = {(char[]){"A=b=c"}, NULL};
    struct fuzz_target t = {
        .argv = argv, .env = env, .input = FUZZ_TARGET_SOCKET, .asan = true};
    struct pack_conf conf = {.cwd = "/srv", .port = 8080, .frames = true};
    struct conf *read = calloc(1, sizeof(*read));
    const char *wrong = "";
    char *data;
    size_t size;
    struct err err;

    (void)state;
    words_add(&conf.more, "clock=real");
    assert_int_equal(pack_encode_conf(&t, &conf, false, &data, &size, &err), 0);
    assert_int_equal(conf_parse(read, data, size, &wrong), 0);
    assert_int_equal(read->arg_count, 3);
    assert_string_equal(read->args[0], "/bin/prog");
    assert_string_equal(read->args[1], "-x=y");
    assert_string_equal(read->args[2], "");
    assert_int_equal(read->env_count, 1);
    assert_string_equal(read->env[0], "A=b=c");
    assert_string_equal(read->cwd, "/srv");
    assert_int_equal(read->input, CONF_SOCKET);
    assert_int_equal(read->port, 8080);
    assert_true(read->frames);
    assert_true(read->asan);
    assert_true(read->real_clock);
    free(read);
    free(data);
    words_fini(&conf.more);
}

static void test_conf_inputs(void **state)
{
    char *argv[] = {(char[]){"/p"}, (char[]){"@@"}, NULL};
    struct pack_conf conf = {0};

    (void)state;
    for (int i = FUZZ_TARGET_STDIN; i <= FUZZ_TARGET_MEMORY; i++) {
        struct fuzz_target t = {
            .argv = argv, .input = (enum fuzz_target_input)i};
        struct conf *read = calloc(1, sizeof(*read));
        const char *wrong = "";
        char *data;
        size_t size;
        struct err err;

        assert_int_equal(
            pack_encode_conf(&t, &conf, false, &data, &size, &err), 0);
        assert_int_equal(conf_parse(read, data, size, &wrong), 0);
        assert_string_equal(
            conf_input_name(read->input), fuzz_target_input_name(t.input));
        assert_string_equal(read->cwd, "/tmp");
        free(read);
        free(data);
    }
}

/* ---- images -------------------------------------------------------------- */

static int add_bytes(struct root_image *image, const char *guest)
{
    struct err err;

    return root_image_add_bytes(image, "text", 4, guest, false, &err);
}

static void test_image_paths(void **state)
{
    struct root_image image = {0};

    (void)state;
    assert_int_equal(add_bytes(&image, "/a/b/c"), 0);
    assert_int_equal(image.count, 3);
    assert_int_equal(add_bytes(&image, "/a/b/c"), -EEXIST);
    assert_int_equal(add_bytes(&image, "/a/b"), -EEXIST);
    assert_int_equal(add_bytes(&image, "/a/b/c/d"), -ENOTDIR);
    assert_int_equal(add_bytes(&image, ""), -EINVAL);
    assert_int_equal(add_bytes(&image, "/"), -EINVAL);
    assert_int_equal(add_bytes(&image, "a"), -EINVAL);
    assert_int_equal(add_bytes(&image, "/a/"), -EINVAL);
    assert_int_equal(add_bytes(&image, "//a"), -EINVAL);
    assert_int_equal(add_bytes(&image, "/a/../../etc/x"), -EINVAL);
    assert_int_equal(add_bytes(&image, "/a/./x"), -EINVAL);
    assert_int_equal(add_bytes(&image, "/a\nrm /b"), -EINVAL);
    assert_int_equal(add_bytes(&image, "/a\"b"), -EINVAL);
    assert_int_equal(add_bytes(&image, "/a/..b"), 0);
    assert_int_equal(image.count, 4);
    root_image_fini(&image);
}

/* Writes the same files, told of in another order, with other times. */
static void write_image(const char *name, bool is_reversed)
{
    struct root_image image = {0};
    char path[128];
    char host[128];
    struct err err;

    put("tree/run", "#!", 0750);
    put("tree/sub/with space", "1", 0604);
    for (int i = 0; i < 2; i++) {
        if ((i == 0) == is_reversed)
            assert_int_equal(
                root_image_add_tree(&image, in_dir("tree", host), "/t", &err),
                0);
        else
            assert_int_equal(add_bytes(&image, "/etc/x"), 0);
    }
    assert_int_equal(
        root_image_write(&image, in_dir(name, path), dir, &err), 0);
    root_image_fini(&image);
}

static void test_image(void **state)
{
    char *argv[] = {(char[]){"debugfs"}, (char[]){"-R"},
        (char[]){"stat \"/t/sub/with space\""}, NULL, NULL};
    char path[128];
    char other[128];
    uint8_t *a;
    uint8_t *b;
    size_t size_a;
    size_t size_b;
    char *text;
    int status;
    struct err err;

    (void)state;
    assert_int_equal(mkdir(in_dir("tree", path), 0700), 0);
    assert_int_equal(mkdir(in_dir("tree/sub", path), 0700), 0);
    write_image("one.img", false);
    write_image("two.img", true);
    assert_int_equal(
        fd_read_file(in_dir("one.img", path), 1 << 28, &a, &size_a, &err), 0);
    assert_int_equal(
        fd_read_file(in_dir("two.img", other), 1 << 28, &b, &size_b, &err), 0);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(a, b, size_a);
    assert_int_equal(size_a % (2 << 20), 0);
    free(a);
    free(b);
    argv[3] = path;
    assert_int_equal(child_run(argv, NULL, &status, &text, &err), 0);
    assert_int_equal(status, 0);
    assert_non_null(strstr(text, "Mode:  0644"));
    assert_non_null(strstr(text, "Size: 1\n"));
    free(text);
    /* No help file stays. */
    assert_int_not_equal(access(in_dir(".script", path), F_OK), 0);
    assert_int_not_equal(access(in_dir(".bytes-0", path), F_OK), 0);
}

/* A file that goes while it is packed is an error of the whole. */
static void test_image_of_what_is_gone(void **state)
{
    struct root_image image = {0};
    char path[128];
    struct err err;

    (void)state;
    put("gone", "x", 0600);
    assert_int_equal(
        root_image_add_file(&image, in_dir("gone", path), "/gone", &err), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(
        root_image_write(&image, in_dir("img", path), dir, &err), -EIO);
    assert_non_null(strstr(err.text, "debugfs"));
    root_image_fini(&image);
    assert_int_equal(
        root_image_add_file(&image, "/dev/null", "/n", &err), -EINVAL);
    assert_int_equal(
        root_image_add_tree(&image, "/nonexistent", "/n", &err), -ENOENT);
    root_image_fini(&image);
}

/* ---- inputs -------------------------------------------------------------- */

static void test_inputs(void **state)
{
    struct inputs inputs = {0};
    char path[128];
    struct err err;

    (void)state;
    put("b", "two", 0600);
    put("a", "", 0600);
    put(".hidden", "x", 0600);
    assert_int_equal(mkdir(in_dir("folder", path), 0700), 0);
    assert_int_equal(inputs_add(&inputs, dir, &err), 0);
    assert_int_equal(inputs.count, 2);
    assert_int_equal(inputs.list[0].size, 0);
    assert_int_equal(inputs.list[1].size, 3);
    assert_memory_equal(inputs.list[1].bytes, "two", 3);
    assert_int_equal(inputs_add(&inputs, in_dir("b", path), &err), 0);
    assert_int_equal(inputs.count, 3);
    assert_string_equal(inputs.names[2], path);
    assert_int_equal(truncate(path, INPUT_FILE_MAX + 1), 0);
    assert_int_equal(inputs_add(&inputs, path, &err), -EFBIG);
    assert_int_equal(inputs_add(&inputs, in_dir("none", path), &err), -ENOENT);
    inputs_fini(&inputs);
}

/* ---- programs ------------------------------------------------------------ */

static void test_child(void **state)
{
    char *argv[] = {(char[]){"sh"}, (char[]){"-c"},
        (char[]){"cat; echo $A $B; echo err >&2; exit 3"}, NULL};
    char *none[] = {(char[]){"no-such-program-here"}, NULL};
    char *folder[] = {(char[]){"/tmp"}, NULL};
    char *env[] = {(char[]){"A=new"}, NULL};
    char *text = NULL;
    int status = 0;
    struct err err;

    (void)state;
    assert_int_equal(setenv("A", "old", 1), 0);
    assert_int_equal(setenv("B", "kept", 1), 0);
    assert_int_equal(child_run(argv, env, &status, &text, &err), 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    assert_string_equal(text, "new kept\nerr\n");
    free(text);
    assert_int_equal(child_run(none, NULL, &status, &text, &err), -ENOENT);
    assert_int_equal(child_run(folder, NULL, &status, &text, &err), -EACCES);
}

/* It ends with us, even by SIGKILL. */
static void test_child_dies_too(void **state)
{
    char *argv[] = {(char[]){"sleep"}, (char[]){"1000"}, NULL};
    struct child_options options = {
        .argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1};
    int link[2];
    int status;
    char byte;
    pid_t pid;

    (void)state;
    /* The child of our child keeps the other end open as its output. */
    assert_int_equal(pipe2(link, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        pid_t child;
        struct err err;

        options.out_fd = link[1];
        if (child_start(&options, &child, &err) < 0)
            _exit(1);
        (void)raise(SIGKILL);
        _exit(2);
    }
    assert_int_equal(close(link[1]), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(read(link[0], &byte, 1), 0);
    assert_int_equal(close(link[0]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conf),
        cmocka_unit_test(test_conf_inputs),
        cmocka_unit_test(test_image_paths),
        cmocka_unit_test_setup_teardown(test_image, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(
            test_image_of_what_is_gone, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_inputs, make_dir, remove_dir),
        cmocka_unit_test(test_child),
        cmocka_unit_test(test_child_dies_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
