/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root file systems of whatever they can be made of, made by the tools of this
 * host and looked at with them.
 */
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
#include <unistd.h>

#include "tests/unit/support/skip.h"
#include "vmm/base/fd.h"
#include "vmm/child.h"
#include "vmm/folder.h"
#include "vmm/serve/rootfs.h"
#include "vmm/serve/rootfs_layer.h"

static char *dir;
static struct interrupt interrupt;

static int shell(const char *script)
{
    char *argv[] = {(char[]){"sh"}, (char[]){"-euxc"}, strdup(script), NULL};
    char *text = NULL;
    struct err err;
    int status = -1;

    assert_int_equal(chdir(dir), 0);
    assert_int_equal(child_run(argv, NULL, &status, &text, &err), 0);
    if (status != 0)
        print_message("%s\n", text);
    free(text);
    free(argv[2]);
    return status;
}

static int make_dir(void **state)
{
    struct err err;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    if (interrupt_begin(&interrupt, &err) < 0)
        return -1;
    if (folder_make_beside("/tmp/test_rootfs", &dir, &err) < 0)
        return -1;
    /* A layer: a base, and one over it that hides, replaces and adds. */
    return shell("mkdir -p base/bin base/etc base/gone/deep base/old over/etc "
                 "over/old over/bin\n"
                 "echo one > base/bin/one; chmod 4755 base/bin/one\n"
                 "ln base/bin/one base/bin/two; ln -s one base/bin/three\n"
                 "echo a > base/etc/a; echo b > base/etc/b\n"
                 "echo x > base/gone/deep/x; echo x > base/old/x\n"
                 "head -c 100000 /dev/urandom > base/big\n"
                 "mkfifo base/pipe\n"
                 "n=$(printf '%0120d' 0); mkdir base/$n; echo l > base/$n/$n\n"
                 "printf x > \"base/$(printf 'odd \\377\\n\\\"name')\"\n"
                 ": > over/.wh.gone; : > over/old/.wh..wh..opq\n"
                 "echo new > over/old/new; echo A > over/etc/a\n"
                 ": > over/bin/.wh.one\n"
                 "tar --numeric-owner -C base -cf base.tar .\n"
                 "tar --numeric-owner -C over -cf over.tar .\n");
}

static int remove_dir(void **state)
{
    (void)state;
    interrupt_end(&interrupt);
    folder_remove(dir);
    free(dir);
    return 0;
}

static int try_make(const char *source, struct err *err)
{
    struct rootfs_command command;
    int rc;

    assert_int_equal(shell("rm -rf img out"), 0);
    rc = rootfs_make(source, "img", ".", &interrupt, &command, err);
    if (rc == 0)
        rootfs_command_fini(&command);
    return rc;
}

static void make(const char *source)
{
    struct err err;
    int rc = try_make(source, &err);

    if (rc < 0)
        print_message("%s: %s\n", source, err.text);
    assert_int_equal(rc, 0);
}

static void refuse(const char *source, const char *why)
{
    struct err err;

    assert_true(try_make(source, &err) < 0);
    if (strstr(err.text, why) == NULL)
        print_message("%s: %s\n", source, err.text);
    assert_non_null(strstr(err.text, why));
}

/* What is there without the second layer. */
static void check_base(void)
{
    assert_int_equal(
        shell("unsquashfs -q -n -d out img > /dev/null\n"
              "rm -rf want; mkdir want; tar -C want -xpf base.tar\n"
              "diff -r --no-dereference -x pipe want out\n"
              "test -p out/pipe; test out/bin/one -ef out/bin/two\n"
              /* Not every user can unpack that bit. */
              "unsquashfs -lls img | grep -q '^-rwsr-xr-x.*/bin/one$'\n"
              "test \"$(stat -c %a img)\" = 400\n"
              "test \"$(stat -c %Y out/bin/one)\" = "
              "\"$(stat -c %Y base/bin/one)\"\n"),
        0);
}

static void test_tar(void **state)
{
    (void)state;
    make("base.tar");
    check_base();
}

static void test_compressed_tars(void **state)
{
    (void)state;
    assert_int_equal(
        shell("gzip -k base.tar; xz -0 -k base.tar\n"
              "tar --format=gnu --numeric-owner -C base -cf gnu.tar .\n"
              "tar --format=pax --numeric-owner -C base -cf pax.tar .\n"),
        0);
    make("base.tar.gz");
    check_base();
    make("base.tar.xz");
    check_base();
    make("gnu.tar");
    check_base();
    make("pax.tar");
    check_base();
}

static void test_folder(void **state)
{
    (void)state;
    make("base");
    check_base();
}

static void test_image(void **state)
{
    (void)state;
    make("base.tar");
    assert_int_equal(shell("mv img a.sqfs; chmod 600 a.sqfs; truncate -s 64M "
                           "a.sqfs; truncate -s 16M a.ext4\n"
                           "PATH=$PATH:/sbin mke2fs -q -t ext4 a.ext4"),
        0);
    make("a.sqfs");
    assert_int_equal(shell("cmp img a.sqfs; test \"$(stat -c %a img)\" = 400\n"
                           "test \"$(stat -c %b img)\" -lt 65536"),
        0);
    make("a.ext4");
    assert_int_equal(shell("cmp img a.ext4"), 0);
}

/* An image of both layers, in the folder or archive `image`. */
static void make_layout(void)
{
    assert_int_equal(
        shell("rm -rf image; mkdir -p image/blobs/sha256\n"
              "add() { d=$(sha256sum < $1 | cut -d ' ' -f 1)\n"
              "  mv $1 image/blobs/sha256/$d; }\n"
              "i1=$(sha256sum < base.tar | cut -d ' ' -f 1)\n"
              "i2=$(sha256sum < over.tar | cut -d ' ' -f 1)\n"
              "gzip -c base.tar > l; add l; l1=$d\n"
              "cat over.tar > l; add l; l2=$d\n"
              "echo '{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":"
              "{\"Cmd\":[\"run\"],\"Env\":[\"A=1\"]},\"rootfs\":{\"diff_ids\":"
              "[\"sha256:'$i1'\",\"sha256:'$i2'\"]}}' > c; add c; c=$d\n"
              "echo '{\"config\":{\"digest\":\"sha256:'$c'\"},\"layers\":"
              "[{\"digest\":\"sha256:'$l1'\"},{\"digest\":\"sha256:'$l2'\"}]}' "
              "> m; add m\n"
              "echo '{\"manifests\":[{\"digest\":\"sha256:'$d'\"}]}' "
              "> image/index.json\n"
              "echo '{}' > image/oci-layout\n"
              "echo $l1 > l1; echo $c > c1\n"
              "tar -C image -cf image.tar .\n"),
        0);
}

static void check_both(void)
{
    assert_int_equal(
        shell(
            "unsquashfs -q -n -d out img > /dev/null; cd out\n"
            "test ! -e gone; test ! -e bin/one; test \"$(cat bin/two)\" = one\n"
            "test \"$(ls old)\" = new; test \"$(cat etc/a)\" = A\n"
            "test \"$(cat etc/b)\" = b; test -z \"$(find . -name '.wh*')\"\n"
            "cmp big ../base/big; test -h bin/three\n"),
        0);
}

static void test_layout(void **state)
{
    struct rootfs_command command;
    struct err err;

    (void)state;
    make_layout();
    assert_int_equal(shell("rm -rf img out"), 0);
    assert_int_equal(
        rootfs_make("image", "img", ".", &interrupt, &command, &err), 0);
    assert_string_equal(command.argv[0], "run");
    assert_string_equal(command.env[0], "A=1");
    rootfs_command_fini(&command);
    check_both();
    make("image.tar");
    check_both();
}

static void test_changed_layouts(void **state)
{
    (void)state;
    make_layout();
    assert_int_equal(shell("printf x >> image/blobs/sha256/$(cat l1)"), 0);
    refuse("image", "the digest of blobs/sha256/");
    make_layout();
    assert_int_equal(shell("printf ' ' >> image/blobs/sha256/$(cat c1)"), 0);
    refuse("image", "the digest of blobs/sha256/");
    assert_int_equal(shell("rm image/blobs/sha256/$(cat c1)"), 0);
    refuse("image", "it lacks blobs/sha256/");
    /* A link, which could be to anything of this host. */
    assert_int_equal(
        shell("ln -s /etc/passwd image/blobs/sha256/$(cat c1)"), 0);
    refuse("image", "symbolic link");
}

static void test_docker_save(void **state)
{
    (void)state;
    assert_int_equal(
        shell("rm -rf d; mkdir -p d/1 d/2 d/3\n"
              "cp base.tar d/1/layer.tar; cp over.tar d/3/layer.tar\n"
              "ln -s ../3/layer.tar d/2/layer.tar\n"
              "i1=$(sha256sum < base.tar | cut -d ' ' -f 1)\n"
              "i2=$(sha256sum < over.tar | cut -d ' ' -f 1)\n"
              "echo '{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":"
              "{\"diff_ids\":[\"sha256:'$i1'\",\"sha256:'$i2'\"]}}' > c\n"
              "c=$(sha256sum < c | cut -d ' ' -f 1); mv c d/$c.json\n"
              "echo '[{\"Config\":\"'$c'.json\",\"Layers\":[\"1/layer.tar\","
              "\"2/layer.tar\"]}]' > d/manifest.json\n"
              "tar -C d -czf docker.tgz 1 2 3 $c.json manifest.json\n"),
        0);
    make("docker.tgz");
    check_both();
    /* What a layer unpacks to is what the configuration says. */
    assert_int_equal(shell("cp base.tar d/3/layer.tar\n"
                           "tar -C d -cf docker.tar .\n"),
        0);
    refuse("docker.tar", "layer 2: damaged: the digest of 2/layer.tar");
}

/* Nothing of an archive is ever a name on this host. */
static void test_hostile_tars(void **state)
{
    (void)state;
    assert_int_equal(
        shell("echo x > f; mkdir -p h; rm -f /tmp/spore-escaped\n"
              "tar -P --transform 's,f,../../../tmp/spore-escaped,' -cf "
              "up.tar f\n"
              "ln -sfn /tmp h/t; tar -C h -cf link.tar t\n"
              "tar -P --transform 's,f,t/spore-escaped,' -rf link.tar f\n"
              "head -c 20000 base.tar > cut.tar\n"
              "gzip -c base.tar | head -c 3000 > cut.tgz\n"
              "head -c 4096 /dev/urandom > noise; : > empty\n"),
        0);
    refuse("up.tar", "\"..\"");
    make("link.tar");
    assert_int_equal(shell("unsquashfs -q -n -d out img > /dev/null\n"
                           "test -h out/t; test -f out/tmp/spore-escaped\n"
                           "test ! -e /tmp/spore-escaped"),
        0);
    refuse("cut.tar", "damaged");
    refuse("cut.tgz", "damaged");
    refuse("noise", "damaged");
    refuse("empty", "neither a file system's image nor an archive");
    refuse("/dev/null", "neither a file nor a folder");
    refuse("nothing", "No such file");
}

/* What takes little of an archive and much of this host. */
static void test_bounds(void **state)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    uint64_t budget = 70000; /* one chunk */
    struct rootfs_layer *layer = NULL;
    struct rootfs_tree tree;
    struct err err;

    (void)state;
    assert_int_equal(
        shell("truncate -s 40G huge; tar -S -czf huge.tgz huge"), 0);
    refuse("huge.tgz", "files of more than 32 GiB");
    fd = open("base.tar.gz", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(rootfs_tree_init(&tree, false, &err), 0);
    assert_int_equal(
        rootfs_layer_open(fd, &interrupt, &budget, &layer, &err), 0);
    assert_int_equal(rootfs_layer_merge(layer, &tree, &err), -EFBIG);
    assert_non_null(strstr(err.text, "unpacks to more than"));
    rootfs_layer_close(layer);
    rootfs_tree_fini(&tree);
}

static void test_interrupted(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(try_make("base.tar", &err), -ECANCELED);
    assert_int_equal(try_make("base", &err), -ECANCELED);
    assert_int_equal(signal(SIGTERM, SIG_IGN) == SIG_ERR, 0);
    (void)signal(SIGTERM, SIG_DFL);
    make("base.tar");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tar),
        cmocka_unit_test(test_compressed_tars),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_image),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_changed_layouts),
        cmocka_unit_test(test_docker_save),
        cmocka_unit_test(test_hostile_tars),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_interrupted),
    };

    if (access("/usr/bin/sqfstar", X_OK) < 0)
        return skip_all("sqfstar is missing: apt-get install squashfs-tools");
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
