/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits, drives, persistent memory, network interfaces, entropy and balloon of
 * a machine description: what is refused, and with which words.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/config.h"
#include "vmm/config_text.h"

static int try_load(const char *json, struct err *err)
{
    struct config config;
    int rc;

    config_init(&config);
    err->text[0] = '\0';
    rc = config_load_json(&config, json, strlen(json), "g", err);
    config_fini(&config);
    return rc;
}

static void expect_refused(const char *json, int code, const char *text)
{
    struct err err;
    int rc = try_load(json, &err);

    if (rc != -code || strcmp(err.text, text) != 0)
        fail_msg(
            "%s: %d '%s', expected %d '%s'", json, rc, err.text, -code, text);
}

#define NET(more)   "{\"network-interfaces\": [{\"iface_id\": \"e\"" more "}]}"
#define TAP         ", \"host_dev_name\": \"t\""
#define SPORE(more) ", \"spore\": {" more "}"
#define N0          "g: network-interfaces[0]"

static void test_interfaces(void **state)
{
    static const struct {
        const char *json;
        int code;
        const char *text;
    } cases[] = {
        {"{\"network-interfaces\": [{}]}", EINVAL, N0 ".iface_id: missing"},
        {NET(""), EINVAL, N0 ".host_dev_name: missing"},
        {NET(TAP ", \"tap\": 1"), EINVAL, N0 ".tap: unknown key"},
        {NET(", \"host_dev_name\": 1"), EINVAL,
            N0 ".host_dev_name: must be a string"},
        {NET(", \"host_dev_name\": \"\""), EINVAL,
            N0 ".host_dev_name: not 1 to 15 bytes long"},
        {NET(", \"host_dev_name\": \"1234567890123456\""), EINVAL,
            N0 ".host_dev_name: not 1 to 15 bytes long"},
        {NET(", \"host_dev_name\": \"a/b\""), EINVAL,
            N0 ".host_dev_name: an interface has no '/', ':' or ' '"},
        {NET(TAP ", \"guest_mac\": 1"), EINVAL,
            N0 ".guest_mac: must be a string"},
        {NET(TAP ", \"guest_mac\": \"02:00\""), EINVAL,
            N0 ".guest_mac: '02:00' is no MAC address: write it as "
               "02:00:5e:10:00:01"},
        {NET(TAP ", \"guest_mac\": \"01:00:5e:10:00:01\""), EINVAL,
            N0 ".guest_mac: '01:00:5e:10:00:01' is not the address of one "
               "station: the first byte must be even, and not all may be zero"},
        {NET(TAP ", \"mtu\": 67"), ERANGE,
            N0 ".mtu: 67 is not within 68 to 65535"},
        {NET(TAP ", \"mtu\": 65536"), ERANGE,
            N0 ".mtu: 65536 is not within 68 to 65535"},
        {NET(TAP ", \"rx_rate_limiter\": []"), EINVAL,
            N0 ".rx_rate_limiter: must be an object"},
        {NET(TAP ", \"tx_rate_limiter\": {\"bytes\": {}}"), EINVAL,
            N0 ".tx_rate_limiter.bytes: unknown key"},
        {NET(TAP ", \"tx_rate_limiter\": {\"ops\": {}}"), EINVAL,
            N0 ".tx_rate_limiter.ops.size: missing"},
        {NET(TAP ", \"tx_rate_limiter\": {\"bandwidth\": {\"size\": 1}}"),
            EINVAL, N0 ".tx_rate_limiter.bandwidth.refill_time: missing"},
        {NET(TAP ", \"tx_rate_limiter\": {\"ops\": {\"size\": -1}}"), ERANGE,
            N0 ".tx_rate_limiter.ops.size: -1 is not within 0 to "
               "18446744073709551615"},
        {NET(TAP ", \"tx_rate_limiter\": {\"ops\": {\"refill_time\": "
                 "18446744073710}}"),
            ERANGE,
            N0 ".tx_rate_limiter.ops.refill_time: 18446744073710 is not "
               "within 0 to 18446744073709"},
        {NET(SPORE("\"backend\": \"vhost\"")), EINVAL,
            N0 ".spore.backend: must be \"tap\", \"fd\", \"user\", \"stream\" "
               "or \"switch\""},
        {NET(TAP SPORE("\"backend\": \"user\"")), EINVAL,
            N0 ": host_dev_name is for the backend \"tap\" only"},
        {NET(SPORE("\"backend\": \"fd\"")), EINVAL,
            N0 ".spore.fd: missing, or one of 0 to 2"},
        {NET(SPORE("\"backend\": \"fd\", \"fd\": 2")), ERANGE,
            N0 ".spore.fd: 2 is not within 3 to 2147483647"},
        {NET(SPORE("\"backend\": \"stream\"")), EINVAL,
            N0 ".spore.path: missing"},
        {NET(SPORE("\"backend\": \"stream\", \"path\": \"\"")), EINVAL,
            N0 ".spore.path: empty"},
        {NET(SPORE("\"backend\": \"switch\"")), EINVAL,
            N0 ".spore.switch: missing"},
        {NET(SPORE("\"backend\": \"switch\", \"path\": \"p\"")), EINVAL,
            N0 ": spore.path is for the backend \"stream\" only"},
        {NET(TAP SPORE("\"fd\": 3")), EINVAL,
            N0 ": spore.fd is for the backend \"fd\" only"},
        {NET(TAP SPORE("\"tcp\": [\"80\"]")), EINVAL,
            N0 ".spore: only the backend \"user\" forwards ports"},
        {NET(SPORE("\"backend\": \"user\", \"tcp\": [\"0\"]")), EINVAL,
            N0 ".spore.tcp[0]: '0' forwards no port: write "
               "HOSTPORT:GUESTPORT, or ADDRESS/HOSTPORT:GUESTPORT for an "
               "address other than 127.0.0.1"},
        {NET(SPORE("\"backend\": \"user\", \"udp\": [80]")), EINVAL,
            N0 ".spore.udp[0]: must be a string"},
        {NET(TAP SPORE("\"address\": \"10.0.0.2\"")), EINVAL,
            N0 ".spore.address: '10.0.0.2' is no address with its network: "
               "write it as 10.0.0.2/24"},
        {NET(TAP SPORE("\"gateway\": \"10.0.0.256\"")), EINVAL,
            N0 ".spore.gateway: '10.0.0.256' is no IPv4 address: write it as "
               "10.0.0.2"},
        {NET(TAP SPORE("\"gateway\": \"10.0.0.1\"")), EINVAL,
            N0 ".spore.gateway: there is no address"},
        {NET(TAP SPORE("\"dns\": 1")), EINVAL, N0 ".spore.dns: unknown key"},
        {"{\"network-interfaces\": [{\"iface_id\": \"e\"" TAP
         "}, {\"iface_id\": \"e\"" TAP "}]}",
            EINVAL,
            "g: network-interfaces[1].iface_id: 'e' is network-interfaces[0] "
            "too"},
        {"{\"network-interfaces\": [{\"iface_id\": \"e\"" TAP SPORE(
             "\"address\": \"10.0.0.2/8\"") "}, {\"iface_id\": \"f\"" TAP
                SPORE("\"address\": \"10.0.0.3/8\"") "}]}",
            EINVAL,
            "g: network-interfaces[1].spore.address: network-interfaces[0] "
            "has one, and the kernel sets up one"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        expect_refused(cases[i].json, cases[i].code, cases[i].text);
}

static void test_too_many(void **state)
{
    char json[2048] = "{\"network-interfaces\": [";
    size_t len = strlen(json);

    (void)state;
    for (unsigned int i = 0; i <= CONFIG_NETS_MAX; i++)
        len += (size_t)snprintf(json + len, sizeof(json) - len,
            "%s{\"iface_id\": \"n%u\", \"host_dev_name\": \"t\"}",
            i == 0 ? "" : ", ", i);
    (void)snprintf(json + len, sizeof(json) - len, "]}");
    expect_refused(
        json, EINVAL, "g: network-interfaces: more than 8 network interfaces");
    len = (size_t)snprintf(json, sizeof(json), "%s",
        "{\"network-interfaces\": [{\"iface_id\": \"n\", \"spore\": "
        "{\"backend\": \"user\", \"tcp\": [");
    for (unsigned int i = 0; i <= CONFIG_FORWARDS_MAX; i++)
        len += (size_t)snprintf(
            json + len, sizeof(json) - len, "%s\"8%u\"", i ? ", " : "", i);
    (void)snprintf(json + len, sizeof(json) - len, "]}}]}");
    expect_refused(json, EINVAL,
        "g: network-interfaces[0].spore.tcp[16]: more than 16 ports");
}

#define DRIVE(more)                                                            \
    "{\"drives\": [{\"drive_id\": \"d\", \"path_on_host\": \"p\", "            \
    "\"is_root_device\": false" more "}]}"

static void test_drives(void **state)
{
    (void)state;
    expect_refused(DRIVE(", \"partuuid\": \"x\""), EINVAL,
        "g: drives[0].partuuid: only a root drive has one");
    expect_refused("{\"drives\": [{\"drive_id\": \"d\", \"path_on_host\": "
                   "\"p\", \"is_root_device\": true, \"partuuid\": \"a b\"}]}",
        EINVAL, "g: drives[0].partuuid: not 1 to 64 letters, digits and '-'");
    expect_refused(DRIVE(", \"rate_limiter\": {\"ops\": 1}"), EINVAL,
        "g: drives[0].rate_limiter.ops: must be an object");
    expect_refused(DRIVE(", \"spore\": {\"overlay\": 1}"), EINVAL,
        "g: drives[0].spore.overlay: must be a string");
    expect_refused(DRIVE(", \"spore\": {\"overlay\": \"\"}"), EINVAL,
        "g: drives[0].spore.overlay: empty");
    expect_refused(DRIVE(", \"is_read_only\": true, \"spore\": {\"overlay\": "
                         "\"memory\"}"),
        EINVAL, "g: drives[0].spore.overlay: the drive is read-only: drop one");
    expect_refused(DRIVE(", \"spore\": {\"num_queues\": 9}"), ERANGE,
        "g: drives[0].spore.num_queues: 9 is not within 1 to 8");
    expect_refused(DRIVE(", \"spore\": {\"max_growth\": 4096}"), EINVAL,
        "g: drives[0].spore.max_growth: the drive has no overlay: its file "
        "cannot outgrow its size");
}

#define PMEM(more)                                                             \
    "{\"pmem\": [{\"id\": \"p\", \"path_on_host\": \"f\"" more "}]"
#define ROOT ", \"root_device\": true"

static void test_pmems(void **state)
{
    static const struct {
        const char *json;
        int code;
        const char *text;
    } cases[] = {
        {"{\"pmem\": [{}]}", EINVAL, "g: pmem[0].id: missing"},
        {"{\"pmem\": [{\"id\": \"p\"}]}", EINVAL,
            "g: pmem[0].path_on_host: missing"},
        {PMEM(", \"is_read_only\": true") "}", EINVAL,
            "g: pmem[0].is_read_only: unknown key"},
        {PMEM(", \"read_only\": 1") "}", EINVAL,
            "g: pmem[0].read_only: must be true or false"},
        {PMEM(", \"rate_limiter\": {\"ops\": {}}") "}", EINVAL,
            "g: pmem[0].rate_limiter.ops.size: missing"},
        {"{\"pmem\": [{\"id\": \"a b\", \"path_on_host\": \"f\"}]}", EINVAL,
            "g: pmem[0].id: only letters, digits and '_' are allowed"},
        {"{\"pmem\": [{\"id\": \"p\", \"path_on_host\": \"\"}]}", EINVAL,
            "g: pmem[0].path_on_host: empty"},
        {"{\"pmem\": [{\"id\": \"p\", \"path_on_host\": \"f\"}, {\"id\": "
         "\"p\", \"path_on_host\": \"f\"}]}",
            EINVAL, "g: pmem[1].id: 'p' is pmem[0] too"},
        {"{\"pmem\": [{\"id\": \"p\", \"path_on_host\": \"f\"" ROOT
         "}, {\"id\": \"q\", \"path_on_host\": \"f\"" ROOT "}]}",
            EINVAL, "g: pmem[1].root_device: pmem[0] is the root"},
        {PMEM("") ", \"drives\": [{\"drive_id\": \"p\", \"path_on_host\": "
                  "\"f\", \"is_root_device\": false}]}",
            EINVAL, "g: pmem[0].id: 'p' is drives[0] too"},
        {PMEM(ROOT) ", \"drives\": [{\"drive_id\": \"d\", "
                    "\"path_on_host\": \"f\""
                    ", \"is_root_device\": true}]}",
            EINVAL, "g: pmem[0].root_device: drives[0] is the root"},
        {PMEM(ROOT) ", \"boot-source\": {\"boot_args\": \"root=x\"}}", EINVAL,
            "g: pmem[0].root_device: boot_args set root= themselves: drop one"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        expect_refused(cases[i].json, cases[i].code, cases[i].text);
}

static void test_entropy_and_balloon(void **state)
{
    (void)state;
    expect_refused(
        "{\"entropy\": {\"size\": 1}}", EINVAL, "g: entropy.size: unknown key");
    expect_refused(
        "{\"balloon\": {}}", EINVAL, "g: balloon.amount_mib: missing");
    expect_refused("{\"balloon\": {\"amount_mib\": 1}}", EINVAL,
        "g: balloon.deflate_on_oom: missing");
    expect_refused(
        "{\"balloon\": {\"amount_mib\": 129, \"deflate_on_oom\": false}}",
        ERANGE, "g: balloon.amount_mib: 129 is more than the guest's memory");
    expect_refused("{\"balloon\": {\"stats_polling_interval_s\": 65536}}",
        ERANGE,
        "g: balloon.stats_polling_interval_s: 65536 is not within 0 to 65535");
    expect_refused("{\"balloon\": {\"free_page_hinting\": 1}}", EINVAL,
        "g: balloon.free_page_hinting: must be true or false");
}

static void test_text_of_forwards(void **state)
{
    static const char *const bad[] = {"", ":", "80:", ":80", "80:0", "65536",
        "80:65536", "1/2", "/80", "127.0.0.1/", "127.0.0.1/80:80:80",
        "1.2.3.4.5/80", "80 ", " 80", "-1", "80,81",
        "1111111111111111111111111111111111111111111111111/80"};
    struct config_forward f = {.is_udp = true};
    char text[CONFIG_TEXT_MAX];
    struct err err;

    (void)state;
    assert_int_equal(
        config_parse_forward("255.255.255.255/65535:65534", &f, &err), 0);
    assert_int_equal(f.address, UINT32_MAX);
    assert_int_equal(f.host_port, 65535);
    assert_int_equal(f.guest_port, 65534);
    assert_true(f.is_udp);
    config_format_forward(&f, text);
    assert_string_equal(text, "255.255.255.255/65535:65534");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (config_parse_forward(bad[i], &f, &err) == 0)
            fail_msg("'%s' was taken", bad[i]);
    }
    assert_int_equal(f.host_port, 65535);
}

static void test_text_of_addresses(void **state)
{
    static const char *const bad_macs[] = {"", "02:00:00:00:00",
        "02:00:00:00:00:0g", "02-00-00-00-00-01",
        "02:00:00:00:00:01:", "2:0:0:0:0:1", "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff"};
    static const char *const bad_cidrs[] = {"", "/", "/24", "10.0.0.1/",
        "10.0.0.1/0", "10.0.0.1/33", "10.0.0/24", "10.0.0.1/24x"};
    uint8_t mac[CONFIG_MAC_BYTES];
    char text[CONFIG_TEXT_MAX];
    uint32_t address = 0;
    uint8_t prefix = 0;
    struct err err;

    (void)state;
    assert_int_equal(config_parse_mac("fe:DC:ba:98:76:54", mac, &err), 0);
    config_format_mac(mac, text);
    assert_string_equal(text, "fe:dc:ba:98:76:54");
    for (size_t i = 0; i < ARRAY_SIZE(bad_macs); i++) {
        if (config_parse_mac(bad_macs[i], mac, &err) == 0)
            fail_msg("'%s' was taken", bad_macs[i]);
    }
    assert_int_equal(
        config_parse_cidr("192.0.2.255/32", &address, &prefix, &err), 0);
    config_format_ipv4(address, text);
    assert_string_equal(text, "192.0.2.255");
    assert_int_equal(prefix, 32);
    for (size_t i = 0; i < ARRAY_SIZE(bad_cidrs); i++) {
        if (config_parse_cidr(bad_cidrs[i], &address, &prefix, &err) == 0)
            fail_msg("'%s' was taken", bad_cidrs[i]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interfaces),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_drives),
        cmocka_unit_test(test_pmems),
        cmocka_unit_test(test_entropy_and_balloon),
        cmocka_unit_test(test_text_of_forwards),
        cmocka_unit_test(test_text_of_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
