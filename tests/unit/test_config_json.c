/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What config_load_json takes and refuses, key by key, with its errors.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/config.h"

/* Loads into a fresh description, which is gone again afterwards. */
static int try_load(const char *json, struct err *err)
{
    struct config config;
    int rc;

    config_init(&config);
    err->text[0] = '\0';
    rc = config_load_json(&config, json, strlen(json), "guest.json", err);
    config_fini(&config);
    return rc;
}

static void expect_accepted(const char *json)
{
    struct err err;

    if (try_load(json, &err) != 0)
        fail_msg("%s: %s", json, err.text);
}

static void expect_refused(const char *json, int code, const char *text)
{
    struct err err;
    int rc = try_load(json, &err);

    if (rc != -code || strcmp(err.text, text) != 0)
        fail_msg(
            "%s: %d '%s', expected %d '%s'", json, rc, err.text, -code, text);
}

static void test_memory_given_twice(void **state)
{
    (void)state;
    expect_accepted("{\"spore\": {\"mem_bytes\": 2097152},"
                    " \"machine-config\": {\"mem_size_mib\": 2}}");
    expect_refused("{\"spore\": {\"mem_bytes\": 1048576},"
                   " \"machine-config\": {\"mem_size_mib\": 2}}",
        EINVAL,
        "guest.json: spore.mem_bytes: contradicts machine-config.mem_size_mib");
    expect_refused("{\"spore\": {\"mem_bytes\": 1048577}}", EINVAL,
        "guest.json: spore.mem_bytes: not a multiple of the page size");
    expect_refused("{\"spore\": {\"mem_bytes\": 1044480}}", ERANGE,
        "guest.json: spore.mem_bytes: 1044480 is not within 1048576 to "
        "1099511627776");
}

static void test_refuses_what_is_not_json(void **state)
{
    static const char *const texts[] = {"", " ", "{", "[1", "{\"a\"}", "nul",
        "1", "\"x\"", "{} x", "{}{}", "{\"drives\": [],}",
        "{\"boot-source\": {\"boot_args\": \"\\u0000\"}}",
        "{\"boot-source\": {\"boot_args\": \"\xff\"}}",
        "{\"boot-source\": {\"boot_args\": \"a\nb\"}}",
        "{\"vsock\": {\"guest_cid\": 99999999999999999999}}"};
    static const char nul[] = "{}\0";
    struct config config;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        assert_int_equal(try_load(texts[i], &err), -EINVAL);
        assert_memory_equal(err.text, "guest.json: line ", 17);
        assert_null(strchr(err.text, '\n'));
    }
    expect_refused("[]", EINVAL, "guest.json: must be an object");
    expect_refused("{\"drives\":\n [], \"drives\": []}", EINVAL,
        "guest.json: line 2, column 13: duplicate object key near "
        "'\"drives\"'");
    config_init(&config);
    assert_int_equal(
        config_load_json(&config, nul, 3, "guest.json", &err), -EINVAL);
    config_fini(&config);
}

static void test_refuses_deep_and_large(void **state)
{
    size_t depth = 100000;
    size_t large = CONFIG_FILE_MAX + 1;
    char *text = malloc(large);
    struct config config;
    struct err err;

    (void)state;
    assert_non_null(text);
    config_init(&config);
    memset(text, '[', depth);
    assert_int_equal(
        config_load_json(&config, text, depth, "guest.json", &err), -EINVAL);
    memset(text, ' ', large);
    memcpy(text, "{}", 2);
    assert_int_equal(
        config_load_json(&config, text, large, "guest.json", &err), -EFBIG);
    assert_string_equal(err.text, "guest.json: larger than 1048576 bytes");
    assert_int_equal(
        config_load_json(&config, text, large - 1, "guest.json", &err), 0);
    config_fini(&config);
    free(text);
}

static void test_refuses_unknown_keys(void **state)
{
    (void)state;
    expect_refused("{\"boot_source\": {}}", EINVAL,
        "guest.json: boot_source: unknown key");
    expect_refused("{\"boot-source\": {\"kernel\": 1}}", EINVAL,
        "guest.json: boot-source.kernel: unknown key");
    expect_refused("{\"machine-config\": {\"cpus\": null}}", EINVAL,
        "guest.json: machine-config.cpus: unknown key");
    expect_refused("{\"vsock\": {\"cid\": 3}}", EINVAL,
        "guest.json: vsock.cid: unknown key");
    expect_refused("{\"spore\": {\"a\\nb\": 3}}", EINVAL,
        "guest.json: spore.a?b: unknown key");
    expect_refused("{\"drives\": [{\"id\": 3}]}", EINVAL,
        "guest.json: drives[0].id: unknown key");
    expect_refused("{\"\": 3}", EINVAL, "guest.json: : unknown key");
}

static void test_accepts_what_asks_for_nothing(void **state)
{
    static const char *const texts[] = {"{\"network-interfaces\": []}",
        "{\"network-interfaces\": null}", "{\"pmem\": []}", "{\"logger\": {}}",
        "{\"metrics\": {}}", "{\"mmds-config\": {}}", "{\"cpu-config\": {}}",
        "{\"serial\": {}}", "{\"balloon\": null}", "{\"entropy\": null}",
        "{\"memory-hotplug\": null}", "{\"vsock\": {\"uds_path\": null}}",
        "{\"boot-source\": null}",
        "{\"machine-config\": {\"smt\": false, \"huge_pages\": \"None\"}}",
        "{\"machine-config\": {\"mem_size_mib\": 64, \"huge_pages\": \"2M\"}}",
        "{\"machine-config\": {\"cpu_template\": null}}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        expect_accepted(texts[i]);
}

static void test_reads_the_metadata_service(void **state)
{
    static const char two[] =
        "\"network-interfaces\": [{\"iface_id\": \"a\", \"host_dev_name\": "
        "\"t0\"}, {\"iface_id\": \"b\", \"host_dev_name\": \"t1\"}]";
    static const struct {
        const char *service;
        const char *text; /* of the refusal; NULL: it is fine */
    } cases[] = {
        {"{\"network_interfaces\": [\"b\"], \"version\": \"V2\", "
         "\"ipv4_address\": \"169.254.170.2\", \"imds_compat\": true}",
            NULL},
        {"{\"network_interfaces\": [\"a\", \"b\"]}", NULL},
        {"{\"version\": \"V2\"}",
            "guest.json: mmds-config.network_interfaces: missing"},
        {"{\"network_interfaces\": [\"c\"]}",
            "guest.json: mmds-config.network_interfaces[0]: no interface is "
            "called 'c'"},
        {"{\"network_interfaces\": [1]}",
            "guest.json: mmds-config.network_interfaces[0]: must be a string"},
        {"{\"network_interfaces\": [\"a\"], \"ipv4_address\": \"1.2.3.4\"}",
            "guest.json: mmds-config.ipv4_address: it must be within "
            "169.254.1.0 to 169.254.254.255"},
        {"{\"network_interfaces\": [\"a\"], \"ipv4_address\": \"x\"}",
            "guest.json: mmds-config.ipv4_address: must be an IPv4 address"},
    };

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
        const char *service = cases[i / 2].service;
        char text[512];

        /* In either order: it may name what comes later. */
        if (i % 2 == 0)
            (void)snprintf(
                text, sizeof(text), "{%s, \"mmds-config\": %s}", two, service);
        else
            (void)snprintf(
                text, sizeof(text), "{\"mmds-config\": %s, %s}", service, two);
        if (cases[i / 2].text == NULL)
            expect_accepted(text);
        else
            expect_refused(text, EINVAL, cases[i / 2].text);
    }
}

static void test_keeps_the_metadata_service(void **state)
{
    static const char text[] =
        "{\"mmds-config\": {\"network_interfaces\": [\"b\"], \"version\": "
        "\"V2\", \"ipv4_address\": \"169.254.170.2\", \"imds_compat\": true}, "
        "\"network-interfaces\": [{\"iface_id\": \"a\", \"host_dev_name\": "
        "\"t0\"}, {\"iface_id\": \"b\", \"host_dev_name\": \"t1\"}]}";
    struct config one;
    struct config copy;
    struct config two;
    char *json = NULL;

    (void)state;
    config_init(&one);
    config_init(&two);
    assert_int_equal(
        config_load_json(&one, text, strlen(text), "guest.json", NULL), 0);
    assert_int_equal(config_copy(&one, &copy, NULL), 0);
    assert_int_equal(config_to_json(&copy, &json, NULL), 0);
    assert_int_equal(
        config_load_json(&two, json, strlen(json), "guest.json", NULL), 0);
    assert_false(two.nets[0].has_mmds);
    assert_true(two.nets[1].has_mmds);
    assert_true(two.mmds.is_v2 && two.mmds.imds_compat);
    assert_int_equal(two.mmds.address, 0xa9feaa02);
    free(json);
    config_fini(&one);
    config_fini(&copy);
    config_fini(&two);
}

static void test_refuses_what_is_not_served(void **state)
{
    static const struct {
        const char *json;
        const char *key;
    } cases[] = {
        {"{\"logger\": {\"level\": \"Info\"}}", "logger"},
        {"{\"metrics\": {\"metrics_path\": \"m\"}}", "metrics"},
        {"{\"cpu-config\": {\"msr_modifiers\": []}}", "cpu-config"},
        {"{\"serial\": {\"serial_out_path\": \"s\"}}", "serial"},
        {"{\"memory-hotplug\": {}}", "memory-hotplug"},
        {"{\"machine-config\": {\"smt\": true}}", "machine-config.smt"},
        {"{\"machine-config\": {\"cpu_template\": \"T2\"}}",
            "machine-config.cpu_template"},
        {"{\"machine-config\": {\"track_dirty_pages\": true}}",
            "machine-config.track_dirty_pages"},
        {"{\"machine-config\": {\"huge_pages\": \"Transparent\"}}",
            "machine-config.huge_pages"},
        {"{\"drives\": [{\"socket\": \"x\"}]}", "drives[0].socket"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[128];

        (void)snprintf(text, sizeof(text), "guest.json: %s: not supported yet",
            cases[i].key);
        expect_refused(cases[i].json, ENOTSUP, text);
    }
}

/* Every key with a value of a type that it does not take. */
static void test_refuses_wrong_types(void **state)
{
    static const struct {
        const char *section;
        const char *key;
        const char *value;
        const char *text;
    } cases[] = {
        {"boot-source", "kernel_image_path", "1", "must be a string"},
        {"boot-source", "initrd_path", "[]", "must be a string"},
        {"boot-source", "boot_args", "{}", "must be a string"},
        {"machine-config", "vcpu_count", "\"1\"", "must be a whole number"},
        {"machine-config", "vcpu_count", "1.0", "must be a whole number"},
        {"machine-config", "mem_size_mib", "true", "must be a whole number"},
        {"machine-config", "smt", "0", "must be true or false"},
        {"machine-config", "track_dirty_pages", "\"\"",
            "must be true or false"},
        {"machine-config", "cpu_template", "false", "must be a string"},
        {"machine-config", "huge_pages", "2", "must be a string"},
        {"vsock", "guest_cid", "3.5", "must be a whole number"},
        {"vsock", "uds_path", "3", "must be a string"},
        {"vsock", "vsock_id", "3", "must be a string"},
        {"spore", "agent", "1", "must be true or false"},
        {"spore", "exit_port", "\"yes\"", "must be true or false"},
        {"spore", "mem_bytes", "1e9", "must be a whole number"},
        {"spore", "discovery", "1", "must be \"acpi\" or \"cmdline\""},
        {"spore", "discovery", "\"ACPI\"", "must be \"acpi\" or \"cmdline\""},
    };
    static const char *const objects[] = {"boot-source", "machine-config",
        "vsock", "spore", "logger", "metrics", "mmds-config", "cpu-config",
        "serial", "balloon", "entropy", "memory-hotplug"};
    static const char *const lists[] = {"drives", "network-interfaces", "pmem"};
    char json[256];
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        (void)snprintf(json, sizeof(json), "{\"%s\": {\"%s\": %s}}",
            cases[i].section, cases[i].key, cases[i].value);
        (void)snprintf(text, sizeof(text), "guest.json: %s.%s: %s",
            cases[i].section, cases[i].key, cases[i].text);
        expect_refused(json, EINVAL, text);
    }
    for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
        (void)snprintf(json, sizeof(json), "{\"%s\": false}", objects[i]);
        (void)snprintf(text, sizeof(text), "guest.json: %s: must be an object",
            objects[i]);
        expect_refused(json, EINVAL, text);
    }
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        (void)snprintf(json, sizeof(json), "{\"%s\": {}}", lists[i]);
        (void)snprintf(
            text, sizeof(text), "guest.json: %s: must be a list", lists[i]);
        expect_refused(json, EINVAL, text);
    }
}

static void test_refuses_wrong_types_in_drives(void **state)
{
    static const struct {
        const char *key;
        const char *value;
        const char *text;
    } cases[] = {
        {"drive_id", "1", "must be a string"},
        {"path_on_host", "false", "must be a string"},
        {"is_root_device", "\"true\"", "must be true or false"},
        {"is_read_only", "1", "must be true or false"},
        {"partuuid", "1", "must be a string"},
        {"cache_type", "\"writeback\"", "must be \"Unsafe\" or \"Writeback\""},
        {"io_engine", "\"uring\"", "must be \"Sync\" or \"Async\""},
        {"io_engine", "0", "must be \"Sync\" or \"Async\""},
        {"rate_limiter", "[]", "must be an object"},
        {"socket", "{}", "must be a string"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char json[128];
        char text[128];

        (void)snprintf(json, sizeof(json), "{\"drives\": [{\"%s\": %s}]}",
            cases[i].key, cases[i].value);
        (void)snprintf(text, sizeof(text), "guest.json: drives[0].%s: %s",
            cases[i].key, cases[i].text);
        expect_refused(json, EINVAL, text);
    }
    expect_refused("{\"drives\": [[]]}", EINVAL,
        "guest.json: drives[0]: must be an object");
    expect_refused("{\"drives\": [null]}", EINVAL,
        "guest.json: drives[0]: must be an object");
}

static void test_refuses_numbers_out_of_range(void **state)
{
    (void)state;
    expect_refused("{\"machine-config\": {\"vcpu_count\": 0}}", ERANGE,
        "guest.json: machine-config.vcpu_count: 0 is not within 1 to 32");
    expect_refused("{\"machine-config\": {\"vcpu_count\": 33}}", ERANGE,
        "guest.json: machine-config.vcpu_count: 33 is not within 1 to 32");
    expect_refused("{\"machine-config\": {\"vcpu_count\": 4294967297}}", ERANGE,
        "guest.json: machine-config.vcpu_count: 4294967297 is not within 1 to "
        "32");
    expect_refused("{\"machine-config\": {\"mem_size_mib\": -1}}", ERANGE,
        "guest.json: machine-config.mem_size_mib: -1 is not within 1 to "
        "1048576");
    expect_refused("{\"machine-config\": {\"mem_size_mib\": 1048577}}", ERANGE,
        "guest.json: machine-config.mem_size_mib: 1048577 is not within 1 to "
        "1048576");
    expect_refused("{\"vsock\": {\"guest_cid\": 2}}", ERANGE,
        "guest.json: vsock.guest_cid: 2 is not within 3 to 4294967294");
    expect_refused("{\"vsock\": {\"guest_cid\": 4294967295}}", ERANGE,
        "guest.json: vsock.guest_cid: 4294967295 is not within 3 to "
        "4294967294");
    expect_accepted("{\"machine-config\": {\"mem_size_mib\": 1048576,"
                    " \"vcpu_count\": 32}, \"vsock\": {\"guest_cid\":"
                    " 4294967294}}");
}

#define ROOT(id, is_root)                                                      \
    "{\"drive_id\": \"" id "\", \"path_on_host\": \"p\", "                     \
    "\"is_root_device\": " is_root "}"

static void test_refuses_drives_that_do_not_fit(void **state)
{
    (void)state;
    expect_refused("{\"drives\": [{}]}", EINVAL,
        "guest.json: drives[0].drive_id: missing");
    expect_refused("{\"drives\": [" ROOT("a", "false") ", {\"drive_id\":"
                                                       " \"b\"}]}",
        EINVAL, "guest.json: drives[1].path_on_host: missing");
    expect_refused(
        "{\"drives\": [{\"drive_id\": \"b\", \"path_on_host\": \"\"}]}", EINVAL,
        "guest.json: drives[0].is_root_device: missing");
    expect_refused("{\"drives\": [{\"drive_id\": \"b\", \"path_on_host\": \"\","
                   " \"is_root_device\": false}]}",
        EINVAL, "guest.json: drives[0].path_on_host: empty");
    expect_refused(
        "{\"drives\": [" ROOT("a", "true") "," ROOT("b", "true") "]}", EINVAL,
        "guest.json: drives[1].is_root_device: drives[0] is the root");
    expect_refused(
        "{\"drives\": [" ROOT("a", "true") "," ROOT("a", "false") "]}", EINVAL,
        "guest.json: drives[1].drive_id: 'a' is drives[0] too");
    expect_refused("{\"drives\": [" ROOT("a-b", "true") "]}", EINVAL,
        "guest.json: drives[0].drive_id: only letters, digits and '_' are "
        "allowed");
    expect_refused("{\"drives\": [" ROOT("", "true") "]}", EINVAL,
        "guest.json: drives[0].drive_id: not 1 to 64 characters long");
    expect_refused("{\"boot-source\": {\"boot_args\": \"a  root=/dev/vda\"},"
                   " \"drives\": [" ROOT("a", "true") "]}",
        EINVAL,
        "guest.json: drives[0].is_root_device: boot_args set root= "
        "themselves: drop one");
    expect_accepted("{\"boot-source\": {\"boot_args\": \"root=/dev/vda\"},"
                    " \"drives\": [" ROOT("a", "false") "]}");
    expect_accepted("{\"boot-source\": {\"boot_args\": \"xroot=1 -- root=\"},"
                    " \"drives\": [" ROOT("a", "true") "]}");
}

static void test_refuses_bad_strings(void **state)
{
    (void)state;
    expect_refused("{\"boot-source\": {\"boot_args\": \"a\\tb\"}}", EINVAL,
        "guest.json: boot-source.boot_args: control character at byte 1");
    expect_refused("{\"boot-source\": {\"kernel_image_path\": \"\"}}", EINVAL,
        "guest.json: boot-source.kernel_image_path: empty");
}

static void test_too_many_drives_in_a_file(void **state)
{
    char json[4096] = "{\"drives\": [";
    size_t len = strlen(json);

    (void)state;
    for (unsigned int i = 0; i < CONFIG_DRIVES_MAX + 1; i++)
        len += (size_t)snprintf(json + len, sizeof(json) - len,
            "%s{\"drive_id\": \"d%u\", \"path_on_host\": \"p\", "
            "\"is_root_device\": false}",
            i == 0 ? "" : ", ", i);
    (void)snprintf(json + len, sizeof(json) - len, "]}");
    expect_refused(json, EINVAL, "guest.json: drives: more than 16 drives");
}

static void test_cpu_templates(void **state)
{
    (void)state;
    expect_accepted("{\"spore\": {\"cpu_template\": \"none\"}}");
    expect_accepted("{\"spore\": {\"cpu_template\": \"x86-64-v3\"}}");
    expect_accepted("{\"spore\": {\"cpu_template\": []}}");
    expect_accepted("{\"spore\": {\"cpu_template\": [\"avx2\", \"fma\"]}}");
    expect_refused("{\"spore\": {\"cpu_template\": [\"avx9\"]}}", EINVAL,
        "guest.json: spore.cpu_template: 'avx9' is no CPU feature as "
        "/proc/cpuinfo has them, nor x86-64-v2, x86-64-v3 or x86-64-v4");
    expect_refused("{\"spore\": {\"cpu_template\": [1]}}", EINVAL,
        "guest.json: spore.cpu_template[0]: must be a string");
    expect_refused("{\"spore\": {\"cpu_template\": 1}}", EINVAL,
        "guest.json: spore.cpu_template: must be a string or a list");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_given_twice),
        cmocka_unit_test(test_cpu_templates),
        cmocka_unit_test(test_refuses_what_is_not_json),
        cmocka_unit_test(test_refuses_deep_and_large),
        cmocka_unit_test(test_refuses_unknown_keys),
        cmocka_unit_test(test_accepts_what_asks_for_nothing),
        cmocka_unit_test(test_reads_the_metadata_service),
        cmocka_unit_test(test_keeps_the_metadata_service),
        cmocka_unit_test(test_refuses_what_is_not_served),
        cmocka_unit_test(test_refuses_wrong_types),
        cmocka_unit_test(test_refuses_wrong_types_in_drives),
        cmocka_unit_test(test_refuses_numbers_out_of_range),
        cmocka_unit_test(test_refuses_drives_that_do_not_fit),
        cmocka_unit_test(test_refuses_bad_strings),
        cmocka_unit_test(test_too_many_drives_in_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
