/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/cc.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/config.h"
#include "vmm/config_text.h"

static const char full[] =
    "{\"boot-source\": {\"kernel_image_path\": \"/k/vmlinux\","
    " \"boot_args\": \"quiet foo=\\\"a root=b\\\" -- root=x\","
    " \"initrd_path\": \"/k/initrd\"},"
    " \"drives\": ["
    "{\"drive_id\": \"rootfs\", \"path_on_host\": \"/d/\\u00e9.ext4\","
    " \"is_root_device\": true, \"is_read_only\": true,"
    " \"partuuid\": \"0eaa91a0-01\","
    " \"cache_type\": \"Writeback\", \"io_engine\": \"Async\","
    " \"rate_limiter\": {\"bandwidth\": {\"size\": 1000, \"refill_time\": 100,"
    " \"one_time_burst\": 7}, \"ops\": null}, \"socket\": null},"
    "{\"drive_id\": \"data_2\", \"path_on_host\": \"d.img\","
    " \"is_root_device\": false, \"cache_type\": \"Unsafe\","
    " \"io_engine\": \"Sync\", \"rate_limiter\": {},"
    " \"spore\": {\"overlay\": \"/o/data\", \"num_queues\": 3,"
    " \"max_growth\": 8192}}],"
    " \"machine-config\": {\"vcpu_count\": 4, \"mem_size_mib\": 257,"
    " \"smt\": false, \"cpu_template\": \"None\","
    " \"track_dirty_pages\": false, \"huge_pages\": \"None\"},"
    " \"vsock\": {\"guest_cid\": 42, \"vsock_id\": \"v\"},"
    " \"network-interfaces\": ["
    "{\"iface_id\": \"eth0\", \"host_dev_name\": \"tap0\","
    " \"guest_mac\": \"02:00:5E:10:00:01\", \"mtu\": 9000,"
    " \"rx_rate_limiter\": {\"ops\": {\"size\": 5, \"refill_time\": 6}},"
    " \"tx_rate_limiter\": {\"bandwidth\": {\"size\": 8, \"refill_time\": 9}},"
    " \"spore\": {\"address\": \"10.1.2.3/16\", \"gateway\": \"10.1.0.1\"}},"
    "{\"iface_id\": \"user\", \"spore\": {\"backend\": \"user\","
    " \"tcp\": [\"8080:80\", \"0.0.0.0/22\"], \"udp\": [\"53\"]}},"
    "{\"iface_id\": \"s\", \"spore\": {\"backend\": \"stream\","
    " \"path\": \"/run/s\"}},"
    "{\"iface_id\": \"w\", \"spore\": {\"backend\": \"switch\","
    " \"switch\": \"lab\"}},"
    "{\"iface_id\": \"f\", \"spore\": {\"backend\": \"fd\", \"fd\": 7}}],"
    " \"pmem\": [{\"id\": \"p0\", \"path_on_host\": \"/p/0\","
    " \"rate_limiter\": {\"ops\": {\"size\": 3, \"refill_time\": 4}}},"
    "{\"id\": \"p1\", \"path_on_host\": \"p\", \"root_device\": false,"
    " \"read_only\": true}], \"logger\": {}, \"metrics\": null,"
    " \"balloon\": {\"amount_mib\": 32, \"deflate_on_oom\": true,"
    " \"stats_polling_interval_s\": 5, \"free_page_hinting\": true,"
    " \"free_page_reporting\": false},"
    " \"entropy\": {\"rate_limiter\": {\"bandwidth\": {\"size\": 64,"
    " \"refill_time\": 10}}},"
    " \"mmds-config\": {}, \"cpu-config\": {}, \"serial\": {},"
    " \"memory-hotplug\": null,"
    " \"spore\": {\"agent\": false, \"exit_port\": true,"
    " \"discovery\": \"cmdline\", \"mem_bytes\": 268439552,"
    " \"virtio_console\": true}}";

static int load(struct config *config, const char *json, struct err *err)
{
    return config_load_json(config, json, strlen(json), "guest.json", err);
}

static void expect_text_equal(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        assert_true(a == b);
    else
        assert_string_equal(a, b);
}

static void expect_equal_limits(
    const struct rate_config *a, const struct rate_config *b)
{
    assert_int_equal(a->bytes.size, b->bytes.size);
    assert_int_equal(a->bytes.refill_ms, b->bytes.refill_ms);
    assert_int_equal(a->bytes.burst, b->bytes.burst);
    assert_int_equal(a->ops.size, b->ops.size);
    assert_int_equal(a->ops.refill_ms, b->ops.refill_ms);
    assert_int_equal(a->ops.burst, b->ops.burst);
}

static void expect_equal_pmems(
    const struct config_pmem *a, const struct config_pmem *b)
{
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->path, b->path);
    assert_int_equal(a->is_root, b->is_root);
    assert_int_equal(a->is_read_only, b->is_read_only);
    expect_equal_limits(&a->limits, &b->limits);
}

static void expect_equal_nets(
    const struct config_net *a, const struct config_net *b)
{
    assert_string_equal(a->id, b->id);
    assert_int_equal(a->backend, b->backend);
    expect_text_equal(a->target, b->target);
    assert_int_equal(a->fd, b->fd);
    assert_int_equal(a->has_mac, b->has_mac);
    assert_memory_equal(a->mac, b->mac, sizeof(a->mac));
    assert_int_equal(a->mtu, b->mtu);
    expect_equal_limits(&a->rx, &b->rx);
    expect_equal_limits(&a->tx, &b->tx);
    assert_int_equal(a->prefix, b->prefix);
    assert_int_equal(a->address, b->address);
    assert_int_equal(a->gateway, b->gateway);
    assert_int_equal(a->forward_count, b->forward_count);
    for (uint32_t i = 0; i < a->forward_count; i++) {
        assert_int_equal(a->forwards[i].address, b->forwards[i].address);
        assert_int_equal(a->forwards[i].host_port, b->forwards[i].host_port);
        assert_int_equal(a->forwards[i].guest_port, b->forwards[i].guest_port);
        assert_int_equal(a->forwards[i].is_udp, b->forwards[i].is_udp);
    }
}

static void expect_equal(const struct config *a, const struct config *b)
{
    expect_text_equal(a->kernel, b->kernel);
    expect_text_equal(a->initrd, b->initrd);
    expect_text_equal(a->boot_args, b->boot_args);
    assert_int_equal(a->mem_bytes, b->mem_bytes);
    assert_int_equal(a->vcpus, b->vcpus);
    assert_int_equal(a->discovery, b->discovery);
    assert_int_equal(a->has_agent, b->has_agent);
    assert_int_equal(a->has_exit_port, b->has_exit_port);
    assert_int_equal(a->guest_cid, b->guest_cid);
    assert_int_equal(a->drive_count, b->drive_count);
    for (uint32_t i = 0; i < a->drive_count; i++) {
        const struct config_drive *x = &a->drives[i];
        const struct config_drive *y = &b->drives[i];

        assert_string_equal(x->id, y->id);
        assert_string_equal(x->path, y->path);
        assert_int_equal(x->is_root, y->is_root);
        assert_int_equal(x->is_read_only, y->is_read_only);
        assert_int_equal(x->is_writeback, y->is_writeback);
        assert_int_equal(x->engine, y->engine);
        expect_text_equal(x->partuuid, y->partuuid);
        assert_int_equal(x->overlay, y->overlay);
        expect_text_equal(x->overlay_path, y->overlay_path);
        assert_int_equal(x->queues, y->queues);
        assert_int_equal(x->max_growth, y->max_growth);
        expect_equal_limits(&x->limits, &y->limits);
    }
    assert_int_equal(a->pmem_count, b->pmem_count);
    for (uint32_t i = 0; i < a->pmem_count; i++)
        expect_equal_pmems(&a->pmems[i], &b->pmems[i]);
    assert_int_equal(a->net_count, b->net_count);
    for (uint32_t i = 0; i < a->net_count; i++)
        expect_equal_nets(&a->nets[i], &b->nets[i]);
    assert_int_equal(a->has_entropy, b->has_entropy);
    expect_equal_limits(&a->entropy, &b->entropy);
    assert_int_equal(a->has_balloon, b->has_balloon);
    assert_int_equal(a->balloon.target_mib, b->balloon.target_mib);
    assert_int_equal(a->balloon.stats_interval_s, b->balloon.stats_interval_s);
    assert_int_equal(a->balloon.deflate_on_oom, b->balloon.deflate_on_oom);
    assert_int_equal(a->balloon.page_hinting, b->balloon.page_hinting);
    assert_int_equal(a->balloon.page_reporting, b->balloon.page_reporting);
    assert_int_equal(a->has_vconsole, b->has_vconsole);
}

static void expect_round_trip(const struct config *config)
{
    struct config again;
    struct err err;
    char *json = NULL;

    assert_int_equal(config_to_json(config, &json, &err), 0);
    config_init(&again);
    if (load(&again, json, &err) != 0)
        fail_msg("%s: %s", json, err.text);
    expect_equal(config, &again);
    config_fini(&again);
    free(json);
}

static void test_defaults(void **state)
{
    struct config config;
    struct err err;

    (void)state;
    config_init(&config);
    assert_null(config.kernel);
    assert_null(config.initrd);
    assert_null(config.boot_args);
    assert_int_equal(config.mem_bytes, 128 * NUM_MIB);
    assert_int_equal(config.vcpus, 1);
    assert_int_equal(config.drive_count, 0);
    assert_int_equal(config.discovery, CONFIG_DISCOVERY_ACPI);
    assert_true(config.has_agent);
    assert_false(config.has_exit_port);
    assert_int_equal(config.guest_cid, 3);
    assert_int_equal(config.net_count, 0);
    assert_false(config.has_entropy);
    assert_false(config.has_balloon);
    assert_false(config.has_vconsole);
    assert_int_equal(config_check(&config, &err), 0);
    assert_int_equal(load(&config, "{}", &err), 0);
    assert_int_equal(config.mem_bytes, 128 * NUM_MIB);
    expect_round_trip(&config);
    config_fini(&config);
    config_fini(&config);
}

/* The interfaces of `full`. */
static void expect_nets(const struct config *config)
{
    static const uint8_t mac[CONFIG_MAC_BYTES] = {
        0x02, 0x00, 0x5e, 0x10, 0x00, 0x01};
    const struct config_net *n = config->nets;

    assert_int_equal(config->net_count, 5);
    assert_string_equal(n[0].id, "eth0");
    assert_int_equal(n[0].backend, CONFIG_NET_TAP);
    assert_string_equal(n[0].target, "tap0");
    assert_true(n[0].has_mac);
    assert_memory_equal(n[0].mac, mac, sizeof(mac));
    assert_int_equal(n[0].mtu, 9000);
    assert_int_equal(n[0].rx.ops.size, 5);
    assert_int_equal(n[0].rx.ops.refill_ms, 6);
    assert_int_equal(n[0].rx.bytes.size, 0);
    assert_int_equal(n[0].tx.bytes.size, 8);
    assert_int_equal(n[0].address, 0x0a010203);
    assert_int_equal(n[0].prefix, 16);
    assert_int_equal(n[0].gateway, 0x0a010001);
    assert_ptr_equal(config_addressed_net(config), &n[0]);
    assert_int_equal(n[1].backend, CONFIG_NET_USER);
    assert_false(n[1].has_mac);
    assert_int_equal(n[1].mtu, 0);
    assert_int_equal(n[1].forward_count, 3);
    assert_int_equal(n[1].forwards[0].address, 0x7f000001);
    assert_int_equal(n[1].forwards[0].host_port, 8080);
    assert_int_equal(n[1].forwards[0].guest_port, 80);
    assert_false(n[1].forwards[0].is_udp);
    assert_int_equal(n[1].forwards[1].address, 0);
    assert_int_equal(n[1].forwards[1].host_port, 22);
    assert_int_equal(n[1].forwards[1].guest_port, 22);
    assert_int_equal(n[1].forwards[2].guest_port, 53);
    assert_true(n[1].forwards[2].is_udp);
    assert_int_equal(n[2].backend, CONFIG_NET_STREAM);
    assert_string_equal(n[2].target, "/run/s");
    assert_int_equal(n[3].backend, CONFIG_NET_SWITCH);
    assert_string_equal(n[3].target, "lab");
    assert_int_equal(n[4].backend, CONFIG_NET_FD);
    assert_int_equal(n[4].fd, 7);
}

static void test_reads_every_key(void **state)
{
    struct config config;
    struct err err;

    (void)state;
    config_init(&config);
    if (load(&config, full, &err) != 0)
        fail_msg("%s", err.text);
    assert_string_equal(config.kernel, "/k/vmlinux");
    assert_string_equal(config.initrd, "/k/initrd");
    assert_string_equal(config.boot_args, "quiet foo=\"a root=b\" -- root=x");
    assert_int_equal(config.mem_bytes, 268439552);
    assert_int_equal(config.vcpus, 4);
    assert_int_equal(config.drive_count, 2);
    assert_string_equal(config.drives[0].id, "rootfs");
    assert_string_equal(config.drives[0].path, "/d/\xc3\xa9.ext4");
    assert_true(config.drives[0].is_root);
    assert_true(config.drives[0].is_read_only);
    assert_true(config.drives[0].is_writeback);
    assert_int_equal(config.drives[0].engine, CONFIG_IO_ASYNC);
    assert_string_equal(config.drives[1].id, "data_2");
    assert_string_equal(config.drives[1].path, "d.img");
    assert_false(config.drives[1].is_root);
    assert_false(config.drives[1].is_read_only);
    assert_false(config.drives[1].is_writeback);
    assert_int_equal(config.drives[1].engine, CONFIG_IO_SYNC);
    assert_int_equal(config.discovery, CONFIG_DISCOVERY_CMDLINE);
    assert_false(config.has_agent);
    assert_true(config.has_exit_port);
    assert_int_equal(config.guest_cid, 42);
    assert_string_equal(config.drives[0].partuuid, "0eaa91a0-01");
    assert_int_equal(config.drives[0].limits.bytes.size, 1000);
    assert_int_equal(config.drives[0].limits.bytes.refill_ms, 100);
    assert_int_equal(config.drives[0].limits.bytes.burst, 7);
    assert_int_equal(config.drives[0].limits.ops.size, 0);
    assert_int_equal(config.drives[0].overlay, CONFIG_OVERLAY_NONE);
    assert_int_equal(config.drives[0].queues, 1);
    assert_int_equal(config.drives[1].overlay, CONFIG_OVERLAY_FILE);
    assert_string_equal(config.drives[1].overlay_path, "/o/data");
    assert_int_equal(config.drives[1].queues, 3);
    assert_int_equal(config.drives[1].max_growth, 8192);
    expect_nets(&config);
    assert_true(config.has_entropy);
    assert_int_equal(config.entropy.bytes.size, 64);
    assert_true(config.has_balloon);
    assert_int_equal(config.balloon.target_mib, 32);
    assert_int_equal(config.balloon.stats_interval_s, 5);
    assert_true(config.balloon.deflate_on_oom);
    assert_true(config.balloon.page_hinting);
    assert_false(config.balloon.page_reporting);
    assert_true(config.has_vconsole);
    expect_round_trip(&config);
    config_fini(&config);
}

static void test_load_goes_over_what_is_there(void **state)
{
    struct config config;
    struct err err;

    (void)state;
    config_init(&config);
    assert_int_equal(load(&config, full, &err), 0);
    assert_int_equal(
        load(&config,
            "{\"boot-source\": {\"boot_args\": \"\", \"initrd_path\": null},"
            " \"drives\": null, \"network-interfaces\": null,"
            " \"balloon\": null, \"entropy\": null,"
            " \"machine-config\": {\"mem_size_mib\": 64}}",
            &err),
        0);
    assert_string_equal(config.kernel, "/k/vmlinux");
    assert_string_equal(config.initrd, "/k/initrd");
    assert_string_equal(config.boot_args, "");
    assert_int_equal(config.mem_bytes, 64 * NUM_MIB);
    assert_int_equal(config.vcpus, 4);
    assert_int_equal(config.drive_count, 2);
    expect_nets(&config);
    assert_true(config.has_balloon);
    assert_int_equal(load(&config, "{\"entropy\": {}}", &err), 0);
    assert_int_equal(config.entropy.bytes.size, 0);
    assert_int_equal(load(&config, "{\"network-interfaces\": []}", &err), 0);
    assert_int_equal(config.net_count, 0);
    assert_int_equal(
        load(&config,
            "{\"drives\": [{\"drive_id\": \"d\", \"path_on_host\": \"p\","
            " \"is_root_device\": false}]}",
            &err),
        0);
    assert_int_equal(config.drive_count, 1);
    assert_string_equal(config.drives[0].id, "d");
    assert_int_equal(config.drives[0].engine, CONFIG_IO_AUTO);
    expect_round_trip(&config);
    assert_int_equal(load(&config, "{\"drives\": []}", &err), 0);
    assert_int_equal(config.drive_count, 0);
    config_fini(&config);
}

/* A later failure must leave something that can be freed. */
static void test_valid_after_failure(void **state)
{
    struct config config;
    struct err err;

    (void)state;
    config_init(&config);
    assert_int_equal(load(&config, full, &err), 0);
    assert_int_equal(
        load(&config,
            "{\"drives\": [{\"drive_id\": \"d\", \"path_on_host\": \"p\","
            " \"is_root_device\": false}, {\"drive_id\": \"e\","
            " \"drive_idx\": 1}]}",
            &err),
        -EINVAL);
    assert_string_equal(
        err.text, "guest.json: drives[1].drive_idx: unknown key");
    assert_int_equal(load(&config, full, &err), 0);
    config_fini(&config);
}

static void test_memory_in_bytes(void **state)
{
    struct config config;
    struct err err;

    (void)state;
    config_init(&config);
    assert_int_equal(
        load(&config, "{\"spore\": {\"mem_bytes\": 1052672}}", &err), 0);
    assert_int_equal(config.mem_bytes, 1052672);
    expect_round_trip(&config);
    config_fini(&config);
}

static void test_bounds_strings(void **state)
{
    struct config config;
    struct config_drive drive;
    char id[CONFIG_ID_MAX + 2];
    char text[4097];
    struct err err;

    (void)state;
    config_init(&config);
    memset(text, 'x', sizeof(text));
    text[4095] = '\0';
    config.boot_args = strdup(text);
    config.kernel = strdup(text);
    config.initrd = strdup(text);
    assert_int_equal(config_check(&config, &err), 0);
    expect_round_trip(&config);
    text[4095] = 'x';
    text[4096] = '\0';
    free(config.boot_args);
    config.boot_args = strdup(text);
    assert_int_equal(config_check(&config, &err), -EINVAL);
    assert_string_equal(
        err.text, "boot-source.boot_args: longer than 4095 bytes");
    free(config.initrd);
    config.initrd = strdup(text);
    assert_int_equal(config_check(&config, &err), -EINVAL);
    assert_string_equal(
        err.text, "boot-source.initrd_path: longer than 4095 bytes");
    free(config.kernel);
    config.kernel = strdup("a\x7f");
    assert_int_equal(config_check(&config, &err), -EINVAL);
    assert_string_equal(
        err.text, "boot-source.kernel_image_path: control character at byte 1");
    config_fini(&config);

    config_init(&config);
    memset(id, 'i', sizeof(id));
    id[CONFIG_ID_MAX] = '\0';
    text[4095] = '\0';
    drive = config_drive_default();
    drive.id = id;
    drive.path = text;
    assert_int_equal(config_add_drive(&config, &drive, &err), 0);
    assert_int_equal(config_check(&config, &err), 0);
    expect_round_trip(&config);
    config_clear_drives(&config);
    id[CONFIG_ID_MAX] = 'i';
    id[CONFIG_ID_MAX + 1] = '\0';
    assert_int_equal(config_add_drive(&config, &drive, &err), 0);
    assert_int_equal(config_check(&config, &err), -EINVAL);
    config_fini(&config);
}

static void test_add_drive_is_bounded(void **state)
{
    char id[] = "a";
    char path[] = "/p";
    const struct config_drive drive = {
        .id = id, .path = path, .is_read_only = true, .queues = 1};
    struct config config;
    struct err err;

    (void)state;
    config_init(&config);
    for (uint32_t i = 0; i < CONFIG_DRIVES_MAX; i++) {
        id[0] = (char)('a' + i);
        assert_int_equal(config_add_drive(&config, &drive, &err), 0);
    }
    assert_string_equal(config.drives[1].id, "b");
    assert_int_equal(config_check(&config, &err), 0);
    expect_round_trip(&config);
    assert_int_equal(config_add_drive(&config, &drive, &err), -EINVAL);
    assert_string_equal(err.text, "more than 16 drives");
    assert_int_equal(config.drive_count, CONFIG_DRIVES_MAX);
    config_fini(&config);
}

static void test_check_refuses_bad_values(void **state)
{
    struct config config;
    struct err err;
    char *json = NULL;

    (void)state;
    config_init(&config);
    config.mem_bytes = NUM_MIB - NUM_PAGE_SIZE;
    assert_int_equal(config_check(&config, &err), -ERANGE);
    config.mem_bytes = NUM_MIB + 1;
    assert_int_equal(config_check(&config, &err), -EINVAL);
    config.mem_bytes = UINT64_MAX;
    assert_int_equal(config_check(&config, &err), -ERANGE);
    assert_int_equal(config_to_json(&config, &json, &err), -ERANGE);
    assert_null(json);
    config.mem_bytes = NUM_MIB;
    assert_int_equal(config_check(&config, &err), 0);
    config.vcpus = 0;
    assert_int_equal(config_check(&config, &err), -ERANGE);
    config.vcpus = CONFIG_VCPUS_MAX + 1;
    assert_int_equal(config_check(&config, &err), -ERANGE);
    config.vcpus = CONFIG_VCPUS_MAX;
    config.guest_cid = 2;
    assert_int_equal(config_check(&config, &err), -ERANGE);
    config.guest_cid = UINT32_MAX;
    assert_int_equal(config_check(&config, &err), -ERANGE);
    config_fini(&config);
}

static void test_to_json_refuses_what_json_cannot_hold(void **state)
{
    struct config config;
    struct err err;
    char *json = NULL;

    (void)state;
    config_init(&config);
    config.kernel = strdup("/\xff");
    assert_int_equal(config_check(&config, &err), 0);
    assert_int_equal(config_to_json(&config, &json, &err), -EILSEQ);
    assert_null(json);
    config_fini(&config);
}

static void test_parse_size(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"128", 128 * NUM_MIB}, {"128M", 128 * NUM_MIB},
        {"128m", 128 * NUM_MIB}, {"2G", 2 * NUM_GIB}, {"2g", 2 * NUM_GIB},
        {"512K", 512 * NUM_KIB}, {"4k", 4 * NUM_KIB}, {"007", 7 * NUM_MIB},
        {"17592186044415", UINT64_C(17592186044415) << 20}};
    static const char *const bad[] = {"", "M", "-1", "+1", " 1", "1 ", "1MB",
        "1T", "1.5G", "0x10", "1K", "1026K", "17592186044416",
        "18446744073709551615K", "18446744073709551616", "1\nM",
        "99999999999999999999999999999999999999999999"};
    uint64_t bytes = 0;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(config_parse_size(good[i].text, &bytes, &err), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        bytes = 77;
        if (config_parse_size(bad[i], &bytes, &err) == 0)
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(bytes, 77);
        assert_int_equal(config_parse_size(bad[i], &bytes, NULL) < 0, 1);
    }
}

static void test_cut_files_are_refused(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof(full) - 1; len++) {
        char *cut = malloc(len == 0 ? 1 : len);
        struct config config;
        struct err err;

        assert_non_null(cut);
        memcpy(cut, full, len);
        config_init(&config);
        assert_int_equal(
            config_load_json(&config, cut, len, "guest.json", &err), -EINVAL);
        config_fini(&config);
        free(cut);
    }
}

/* Each byte of a good file changed: what is taken can be written again. */
static void test_changed_bytes(void **state)
{
    static const char changes[] = {0, ' ', '"', '0', '9', '{', '}', '\\', 'x'};
    char json[sizeof(full)];

    (void)state;
    for (size_t at = 0; at < sizeof(full) - 1; at++) {
        for (size_t c = 0; c < sizeof(changes); c++) {
            struct config config;
            struct err err;

            memcpy(json, full, sizeof(full));
            json[at] = changes[c];
            config_init(&config);
            if (config_load_json(
                    &config, json, sizeof(full) - 1, "guest.json", &err) == 0)
                expect_round_trip(&config);
            else
                assert_memory_equal(err.text, "guest.json: ", 12);
            config_fini(&config);
        }
    }
}

static void test_load_file(void **state)
{
    char path[] = "/tmp/spore-config-XXXXXX";
    CC_CLEANUP(fd_closep) int fd = mkostemp(path, 0);
    struct config config;
    struct config expected;
    struct err err;
    char text[128];

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, full, sizeof(full) - 1), 0);
    config_init(&config);
    config_init(&expected);
    assert_int_equal(config_load_file(&config, path, &err), 0);
    assert_int_equal(load(&expected, full, &err), 0);
    expect_equal(&config, &expected);
    assert_int_equal(fd_write_full(fd, "x", 1), 0);
    assert_int_equal(config_load_file(&config, path, &err), -EINVAL);
    (void)snprintf(text, sizeof(text), "%s: line 1, column ", path);
    assert_memory_equal(err.text, text, strlen(text));
    assert_int_equal(ftruncate(fd, (off_t)CONFIG_FILE_MAX + 1), 0);
    assert_int_equal(config_load_file(&config, path, &err), -EFBIG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(config_load_file(&config, path, &err), -ENOENT);
    config_fini(&config);
    config_fini(&expected);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_reads_every_key),
        cmocka_unit_test(test_load_goes_over_what_is_there),
        cmocka_unit_test(test_valid_after_failure),
        cmocka_unit_test(test_memory_in_bytes),
        cmocka_unit_test(test_bounds_strings),
        cmocka_unit_test(test_add_drive_is_bounded),
        cmocka_unit_test(test_check_refuses_bad_values),
        cmocka_unit_test(test_to_json_refuses_what_json_cannot_hold),
        cmocka_unit_test(test_parse_size),
        cmocka_unit_test(test_cut_files_are_refused),
        cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_load_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
