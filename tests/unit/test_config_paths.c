/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/config.h"
#include "vmm/config_paths.h"

static const char description[] =
    "{\"boot-source\": {\"kernel_image_path\": \"k\", \"boot_args\": \"a\","
    " \"initrd_path\": \"i\"},"
    "\"drives\": [{\"drive_id\": \"r\", \"path_on_host\": \"r.img\","
    " \"is_root_device\": true},"
    " {\"drive_id\": \"d\", \"path_on_host\": \"/d.img\","
    " \"is_root_device\": false, \"is_read_only\": false,"
    " \"spore\": {\"overlay\": \"o/d\"}}],"
    "\"pmem\": [{\"id\": \"p\", \"path_on_host\": \"p.img\"}],"
    "\"network-interfaces\": ["
    " {\"iface_id\": \"a\", \"host_dev_name\": \"tap0\"},"
    " {\"iface_id\": \"b\", \"spore\": {\"backend\": \"stream\","
    "  \"path\": \"s.sock\"}},"
    " {\"iface_id\": \"c\", \"spore\": {\"backend\": \"switch\","
    "  \"switch\": \"lan\"}},"
    " {\"iface_id\": \"d\", \"spore\": {\"backend\": \"switch\","
    "  \"switch\": \"./lan\"}},"
    " {\"iface_id\": \"e\", \"spore\": {\"backend\": \"user\","
    "  \"tcp\": [\"8080:80\"]}}],"
    "\"vsock\": {\"uds_path\": \"v.sock\"},"
    "\"spore\": {\"cpu_template\": [\"avx2\"], \"vsock\": true}}";

static void load(struct config *config)
{
    struct err err;

    config_init(config);
    if (config_load_json(
            config, description, strlen(description), "test", &err) < 0)
        fail_msg("%s", err.text);
}

static void test_copy(void **state)
{
    struct config config;
    struct config copy;
    char *first;
    char *second;

    (void)state;
    load(&config);
    assert_int_equal(config_copy(&config, &copy, NULL), 0);
    assert_int_equal(config_to_json(&config, &first, NULL), 0);
    config_fini(&config);
    assert_int_equal(config_to_json(&copy, &second, NULL), 0);
    assert_string_equal(first, second);
    config_fini(&copy);
    free(first);
    free(second);
}

/* `path` is `relative` in the working folder. */
static void expect(const char *path, const char *relative)
{
    char *cwd = getcwd(NULL, 0);
    char *want;

    assert_true(asprintf(&want, "%s/%s", cwd, relative) > 0);
    assert_string_equal(path, want);
    free(want);
    free(cwd);
}

static void test_absolute(void **state)
{
    struct config config;

    (void)state;
    load(&config);
    assert_int_equal(config_paths_settle(&config, NULL), 0);
    expect(config.drives[0].path, "r.img");
    assert_null(config.drives[0].overlay_path);
    assert_string_equal(config.drives[1].path, "/d.img");
    expect(config.drives[1].overlay_path, "o/d");
    expect(config.pmems[0].path, "p.img");
    assert_string_equal(config.nets[0].target, "tap0");
    expect(config.nets[1].target, "s.sock");
    assert_string_equal(config.nets[2].target, "lan");
    expect(config.nets[3].target, "./lan");
    assert_null(config.nets[4].target);
    expect(config.vsock_path, "v.sock");
    /* Twice is once. */
    assert_int_equal(config_paths_settle(&config, NULL), 0);
    expect(config.drives[0].path, "r.img");
    config_fini(&config);
}

static void put_descriptor(struct config *config, int fd)
{
    char text[64];

    (void)snprintf(text, sizeof(text), FD_PATH "%d", fd);
    assert_int_equal(config_set_string(&config->drives[0].path, text, NULL), 0);
}

static void test_descriptors(void **state)
{
    char path[] = "/tmp/spore-test-XXXXXX";
    struct config config;
    int fd = mkostemp(path, O_CLOEXEC);

    (void)state;
    assert_true(fd >= 0);
    load(&config);
    put_descriptor(&config, fd);
    assert_int_equal(config_paths_settle(&config, NULL), 0);
    assert_string_equal(config.drives[0].path, path);
    /* A path that leads nowhere, or to another file, is none. */
    put_descriptor(&config, fd);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(config_paths_settle(&config, NULL), 0);
    assert_true(config_paths_is_descriptor(config.drives[0].path));
    assert_false(config_paths_is_descriptor(config.drives[1].path));
    /* Other ways to a descriptor are one as well. */
    assert_true(config_paths_is_descriptor("/dev/fd/7"));
    assert_true(config_paths_is_descriptor("/proc/thread-self/fd/7"));
    assert_true(config_paths_is_descriptor("/dev/stdin"));
    assert_false(config_paths_is_descriptor("/dev/vdb"));
    (void)close(fd);
    config_fini(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_absolute),
        cmocka_unit_test(test_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
