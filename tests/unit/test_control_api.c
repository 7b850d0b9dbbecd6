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

#include "tests/unit/support/control_bench.h"
#include "vmm/hw/cpu_modifiers.h"

#define BEFORE                                                                 \
    "The requested operation is not supported before starting the microVM."
#define AFTER                                                                  \
    "The requested operation is not supported after starting the microVM."
#define SERDE                                                                  \
    "An error occurred when deserializing the json body of a request: "
#define MISMATCH  "The id from the path does not match the id from the body!"
#define NOT_FOUND "Failed perform action on device: Device not found"
#define BAD_ID                                                                 \
    "API Resource IDs can only contain alphanumeric characters and "           \
    "underscores."

struct fixture {
    struct control_bench b;
    int fd;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    control_bench_init(&f->b);
    f->fd = http_bench_connect(&f->b.http);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    (void)close(f->fd);
    control_bench_fini(&f->b);
    free(f);
    return 0;
}

/* The reply to one request; `body` NULL sends none. */
static const char *ask(
    struct fixture *f, const char *verb, const char *path, const char *body)
{
    char request[4096];
    bool ended;
    const char *got;

    if (body == NULL)
        (void)snprintf(
            request, sizeof(request), "%s %s HTTP/1.1\r\n\r\n", verb, path);
    else
        (void)snprintf(request, sizeof(request),
            "%s %s HTTP/1.1\r\nContent-Length: %zu\r\n\r\n%s", verb, path,
            strlen(body), body);
    http_bench_say(&f->b.http, f->fd, request);
    got = http_bench_hear(&f->b.http, f->fd, &ended);
    assert_false(ended);
    return got;
}

static void expect_json(struct fixture *f, int status, const char *verb,
    const char *path, const char *body, const char *json)
{
    char want[4096];

    (void)snprintf(want, sizeof(want),
        "HTTP/1.1 %d \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        status, strlen(json), json);
    assert_string_equal(ask(f, verb, path, body), want);
}

static void expect_fault(struct fixture *f, const char *verb, const char *path,
    const char *body, const char *fault)
{
    char json[2048];

    (void)snprintf(json, sizeof(json), "{\"fault_message\":\"%s\"}", fault);
    expect_json(f, 400, verb, path, body, json);
}

static void expect_done(
    struct fixture *f, const char *verb, const char *path, const char *body)
{
    assert_string_equal(ask(f, verb, path, body),
        "HTTP/1.1 204 \r\nServer: Firecracker API\r\n"
        "Connection: keep-alive\r\n\r\n");
}

static void expect_deprecated(
    struct fixture *f, const char *verb, const char *path, const char *body)
{
    assert_string_equal(ask(f, verb, path, body),
        "HTTP/1.1 204 \r\nServer: Firecracker API\r\n"
        "Connection: keep-alive\r\nDeprecation: true\r\n\r\n");
}

static void what_it_is(void **state)
{
    struct fixture *f = *state;

    expect_json(f, 200, "GET", "/", NULL,
        "{\"id\":\"bench\",\"state\":\"Running\",\"vmm_version\":\"1.17.0\","
        "\"app_name\":\"Firecracker\"}");
    expect_json(f, 200, "GET", "/version", NULL,
        "{\"firecracker_version\":\"1.17.0\"}");
    /* A trailing slash is let pass. */
    expect_json(f, 200, "GET", "/version/", NULL,
        "{\"firecracker_version\":\"1.17.0\"}");
    expect_json(f, 200, "GET", "/machine-config", NULL,
        "{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":false,"
        "\"track_dirty_pages\":false,\"huge_pages\":\"None\"}");
    assert_non_null(strstr(ask(f, "GET", "/vm/config", NULL), "\"drives\""));
    assert_non_null(
        strstr(ask(f, "GET", "/spore", NULL), "\"id\":\"bench\",\"pid\":"));
}

static void no_template_ends_a_cpu_config(void **state)
{
    static const char machine[] = "/machine-config";
    static const char template[] =
        "{\"msr_modifiers\":[{\"addr\":\"0x10\",\"bitmap\":\"0b1\"}]}";
    struct fixture *f = *state;
    struct config *config = &f->b.options.config;

    control_bench_begin(&f->b);
    expect_done(f, "PUT", "/cpu-config", template);
    /* Nobody speaks of it, or it is null: it stays. */
    expect_done(f, "PUT", machine, "{\"vcpu_count\":1,\"mem_size_mib\":64}");
    expect_done(f, "PATCH", machine, "{\"vcpu_count\":2}");
    expect_done(f, "PATCH", machine, "{\"smt\":true,\"cpu_template\":null}");
    assert_int_equal(config->cpu_modifiers->msr_count, 1);
    /* What is refused has changed nothing. */
    assert_non_null(
        strstr(ask(f, "PATCH", machine,
                   "{\"mem_size_mib\":0,\"cpu_template\":\"None\"}"),
            "Machine config error: The memory size (MiB) is either 0"));
    assert_int_equal(config->cpu_modifiers->msr_count, 1);

    expect_deprecated(f, "PATCH", machine, "{\"cpu_template\":\"None\"}");
    assert_null(config->cpu_modifiers);
    expect_done(f, "PUT", "/cpu-config", template);
    assert_int_equal(config->cpu_modifiers->msr_count, 1);
    expect_deprecated(f, "PUT", machine,
        "{\"vcpu_count\":1,\"mem_size_mib\":64,\"cpu_template\":\"None\"}");
    assert_null(config->cpu_modifiers);
}

static void pause_and_resume(void **state)
{
    struct fixture *f = *state;

    expect_done(f, "PATCH", "/vm", "{\"state\":\"Resumed\"}");
    assert_int_equal(f->b.inst.phase, INSTANCE_RUNNING);
    expect_done(f, "PATCH", "/vm", "{\"state\":\"Paused\"}");
    assert_int_equal(f->b.inst.phase, INSTANCE_PAUSED);
    expect_done(f, "PATCH", "/vm", "{\"state\":\"Paused\"}");
    assert_non_null(strstr(ask(f, "GET", "/", NULL), "\"Paused\""));
    expect_done(f, "PATCH", "/vm/", " { \"state\" : \"Resumed\" } ");
    assert_int_equal(f->b.inst.phase, INSTANCE_RUNNING);
    f->b.inst.phase = INSTANCE_STOPPED;
    expect_fault(f, "PATCH", "/vm", "{\"state\":\"Paused\"}",
        "Internal VMM error: a machine that is 'Stopped' cannot be paused");
    assert_int_equal(f->b.inst.phase, INSTANCE_STOPPED);
}

static void bodies_where_they_belong(void **state)
{
    struct fixture *f = *state;

    expect_fault(f, "GET", "/", "{}", "GET request cannot have a body.");
    expect_fault(f, "GET", "/nowhere", "x", "GET request cannot have a body.");
    expect_fault(f, "DELETE", "/drives/a", "{}", "Empty Delete request.");
    expect_fault(f, "PUT", "/actions", NULL, "Empty PUT request.");
    expect_fault(f, "PUT", "/nowhere", NULL, "Empty PUT request.");
    expect_fault(f, "PATCH", "/vm", NULL, "Empty PATCH request.");
}

static void paths(void **state)
{
    static const struct {
        const char *verb;
        const char *path;
        const char *shown;
    } unknown[] = {
        {"GET", "/nowhere", "nowhere"},
        {"GET", "/nowhere/else", "nowhere"},
        {"GET", "/vm", "vm"},
        {"GET", "/vm/config/x", "vm"},
        {"GET", "/version?x=1", "version?x=1"},
        {"GET", "/spore/vsock/1/2", "spore"},
        {"GET", "/VERSION", "VERSION"},
        {"PUT", "/vm", "vm"},
        {"PUT", "/drives/a/b", "drives"},
        {"PATCH", "/actions", "actions"},
        {"DELETE", "/vm", "vm"},
        {"GET", "/%2e%2e", "%2e%2e"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
        bool has_body = unknown[i].verb[0] == 'P';
        char fault[128];

        (void)snprintf(fault, sizeof(fault),
            "Invalid request method and/or path: %s %s.", unknown[i].verb,
            unknown[i].shown);
        expect_fault(
            f, unknown[i].verb, unknown[i].path, has_body ? "{}" : NULL, fault);
    }
}

static void ids(void **state)
{
    struct fixture *f = *state;
    char path[200] = "/drives/";

    expect_fault(f, "PATCH", "/drives/", "{}", "The ID cannot be empty.");
    expect_fault(f, "PATCH", "/drives", "{}", "The ID cannot be empty.");
    expect_fault(f, "PATCH", "/drives/a-b", "{}", BAD_ID);
    expect_fault(f, "PATCH", "/drives/..", "{}", BAD_ID);
    expect_fault(f, "PATCH", "/drives/a%00b", "{}", BAD_ID);
    expect_fault(f, "PUT", "/drives/a",
        "{\"drive_id\":\"b\",\"is_root_device\":false}", MISMATCH);
    expect_fault(f, "PATCH", "/network-interfaces/a", "{\"iface_id\":\"b\"}",
        "The id from the path [a] does not match the id from the body [b]!");
    expect_fault(f, "PATCH", "/network-interfaces/a", "{\"iface_id\":\"a\"}",
        "Network config error: Unable to update the net device: " NOT_FOUND);
    expect_fault(f, "PATCH", "/drives/a", "{\"drive_id\":\"b\"}", MISMATCH);
    expect_fault(f, "PATCH", "/drives/a", "{\"drive_id\":\"a\"}",
        "Drive config error: Unable to patch the block device: " NOT_FOUND
        " Please verify the request arguments.");
    expect_fault(
        f, "PUT", "/pmem/a", "{\"id\":\"b\",\"path_on_host\":\"x\"}", MISMATCH);
    memset(path + 8, 'a', ROUTER_ID_MAX + 1);
    expect_fault(f, "PATCH", path, "{}", BAD_ID);
}

static void phases(void **state)
{
    static const char *const before[][2] = {
        {"/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":128}"},
        {"/boot-source", "{\"kernel_image_path\":\"/dev/null\"}"},
        {"/cpu-config", "{}"},
        {"/vsock", "{\"guest_cid\":3,\"uds_path\":\"x\"}"},
        {"/entropy", "{}"},
        {"/serial", "{}"},
        {"/balloon", "{\"amount_mib\":1,\"deflate_on_oom\":true}"},
        {"/hotplug/memory", "{\"total_size_mib\":128}"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(before); i++)
        expect_fault(f, "PUT", before[i][0], before[i][1], AFTER);
    expect_fault(f, "PATCH", "/machine-config", "{\"smt\":true}", AFTER);
    expect_fault(
        f, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", AFTER);
    expect_fault(
        f, "PUT", "/snapshot/load", "{\"snapshot_path\":\"a/b\"}", AFTER);
    f->b.control.router.phase = ROUTER_BEFORE;
    expect_fault(f, "PATCH", "/vm", "{\"state\":\"Paused\"}", BEFORE);
    expect_fault(f, "PUT", "/spore/push", "{}", BEFORE);
    assert_int_equal(f->b.inst.phase, INSTANCE_RUNNING);
    /* What is wrong with a body is told first. */
    expect_fault(f, "PATCH", "/vm", "{}",
        SERDE "missing field `state` at line 1 column 2.");
}

/* What loads are given, and what becomes of them. */
struct loads {
    int count;
    struct control_load last;
    int rc;
};

static int take_load(void *opaque, struct control_load *load, struct err *err)
{
    struct loads *loads = opaque;

    loads->count++;
    if (loads->rc < 0)
        return err_set(err, -loads->rc, "it does not fit");
    control_load_fini(&loads->last);
    loads->last = *load;
    *load = (struct control_load){0};
    return 0;
}

static void loads(void **state)
{
    struct fixture *f = *state;
    struct loads loads = {.rc = -EINVAL};
    const struct control_host host = {.load = take_load, .opaque = &loads};
    static const char minimal[] = "{\"snapshot_path\":\"/s/one/\"}";

    f->b.inst.phase = INSTANCE_NEW;
    f->b.control.router.phase = ROUTER_BEFORE;
    expect_fault(f, "PUT", "/snapshot/load", minimal,
        "the machine of this socket is being made: wait for its start");
    f->b.control.host = &host;
    expect_fault(f, "PUT", "/snapshot/load", minimal,
        "Load snapshot error: it does not fit");
    loads.rc = 0;
    expect_done(f, "PUT", "/snapshot/load", minimal);
    assert_string_equal(loads.last.store, "/s");
    assert_string_equal(loads.last.name, "one");
    assert_true(loads.last.keeps_vsock && loads.last.freezes);
    assert_false(loads.last.resumes || loads.last.tracks ||
                 loads.last.page_server != NULL || loads.last.allows_duplicate);
    expect_deprecated(f, "PUT", "/snapshot/load",
        "{\"snapshot_path\":\"one\",\"resume_vm\":true,"
        "\"enable_diff_snapshots\":true,\"clock_realtime\":true,"
        "\"network_overrides\":[{\"iface_id\":\"lan\","
        "\"host_dev_name\":\"tap3\"}],\"vsock_override\":{\"uds_path\":\"v\"},"
        "\"spore\":{\"verify\":\"lazy\",\"allow_duplicate\":true}}");
    assert_string_equal(loads.last.store, ".");
    assert_false(loads.last.keeps_vsock || loads.last.freezes);
    assert_true(loads.last.resumes && loads.last.tracks &&
                loads.last.verify == RUN_VERIFY_LAZY &&
                loads.last.allows_duplicate);
    assert_string_equal(loads.last.config.vsock_path, "v");
    assert_string_equal(loads.last.config.nets[0].id, "lan");
    assert_string_equal(loads.last.config.nets[0].target, "tap3");
    assert_int_equal(loads.count, 3);
    expect_fault(f, "PUT", "/snapshot/load",
        "{\"snapshot_path\":\"/s/one\",\"mem_backend\":"
        "{\"backend_type\":\"File\",\"backend_path\":\"/s/one\"}}",
        "Load snapshot error: mem_file_path: the memory is in a file of the "
        "snapshot's own folder: leave it out, or say /s/one/mem");
    expect_fault(f, "PUT", "/snapshot/load",
        "{\"snapshot_path\":\"/s/one\",\"spore\":{\"devices\":"
        "{\"drives\":[{\"drive_id\":\"a\"}]}}}",
        "Load snapshot error: spore.devices: drives[0].path_on_host: missing");
    expect_fault(f, "PUT", "/snapshot/load",
        "{\"snapshot_path\":\"/s/one\",\"network_overrides\":[3]}",
        SERDE "invalid type: integer `3`, expected struct NetworkOverride at "
              "line 1 column 48.");
    assert_int_equal(loads.count, 3);
    control_load_fini(&loads.last);
}

static void what_bodies_hold(void **state)
{
    static const struct {
        const char *body;
        const char *complaint;
    } cases[] = {
        {"{}", "missing field `state` at line 1 column 2"},
        {"{\\n}", "key must be a string at line 1 column 2"},
        {"{\"state\":null}", "expected value at line 1 column 10"},
        {"{\"state\":1}", "expected value at line 1 column 10"},
        {"{\"state\":true}", "expected value at line 1 column 10"},
        {"{\"state\":[]}", "expected value at line 1 column 10"},
        {"{\"state\":\"Stopped\"}",
            "unknown variant `Stopped`, expected `Paused` or `Resumed` at line "
            "1 column 18"},
        {"{\"state\":\"Paused\",\"x\":1}",
            "unknown field `x`, expected `state` at line 1 column 21"},
        {"{\"x\":1}", "unknown field `x`, expected `state` at line 1 column 4"},
        {"{ \"x\" : 1}",
            "unknown field `x`, expected `state` at line 1 column 6"},
        {"[]", "invalid length 0, expected struct Vm with 1 element at line 1 "
               "column 2"},
        {"\n 7", "invalid type: integer `7`, expected struct Vm at line 2 "
                 "column 2"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char fault[512];

        (void)snprintf(fault, sizeof(fault), SERDE "%s.", cases[i].complaint);
        expect_fault(f, "PATCH", "/vm", cases[i].body, fault);
        assert_int_equal(f->b.inst.phase, INSTANCE_RUNNING);
    }
    expect_fault(f, "PUT", "/actions", "{\"action_type\":\"Foo\"}",
        SERDE "unknown variant `Foo`, expected one of `FlushMetrics`, "
              "`InstanceStart`, `SendCtrlAltDel` at line 1 column 20.");
    expect_fault(f, "PUT", "/spore/stop", "{\"timeout_ms\":-1}",
        SERDE "invalid value: integer `-1`, expected 0 to 3600000 at line 1 "
              "column 16.");
    expect_fault(f, "PUT", "/spore/kill", "{\"x\":1}",
        SERDE "unknown field `x`, there are no fields at line 1 column 4.");
}

static void bodies_that_are_refused_whole(void **state)
{
    static const char *const bodies[] = {"{\"state\":\"Paused\"", "x",
        "{\"state\":\"Paused\",\"state\":\"Resumed\"}",
        "{\"state\":\"Paused\"}x", "\"Paused\"", "{\"state\":\"\xff\"}",
        "{\"state\":\"Pau\\u0000sed\"}", "{\"\\ud800\":1}"};
    struct fixture *f = *state;
    char deep[3000];

    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        const char *got = ask(f, "PATCH", "/vm", bodies[i]);

        assert_memory_equal(got, "HTTP/1.1 400 \r\n", 15);
        assert_non_null(strstr(got, "\"fault_message\""));
    }
    memset(deep, '[', sizeof(deep));
    deep[sizeof(deep) - 1] = '\0';
    assert_non_null(strstr(
        ask(f, "PATCH", "/vm", deep), "expected value at line 1 column 2"));
    assert_int_equal(f->b.inst.phase, INSTANCE_RUNNING);
}

static void actions(void **state)
{
    struct fixture *f = *state;

    expect_done(f, "PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}");
    f->b.inst.phase = INSTANCE_STOPPED;
    expect_fault(f, "PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}",
        "Internal VMM error: a machine that is 'Stopped' cannot be ended");
    expect_fault(f, "PUT", "/spore/stop", "{}",
        "a machine that is 'Stopped' cannot be resumed");
}

#define BUCKET "{\"size\":1,\"refill_time\":2}"

static void limits_are_checked_all_the_way_down(void **state)
{
    static const struct {
        const char *body;
        const char *complaint;
    } cases[] = {
        {"{\"rx_rate_limiter\":{}}",
            "missing field `iface_id` at line 1 column 22"},
        {"{\"iface_id\":\"a\",\"rx_rate_limiter\":1}",
            "invalid type: integer `1`, expected struct RateLimiterConfig at "
            "line 1 column 35"},
        {"{\"iface_id\":\"a\",\"rx_rate_limiter\":{\"x\":1}}",
            "unknown field `x`, expected `bandwidth` or `ops` at line 1 column "
            "38"},
        {"{\"iface_id\":\"a\",\"rx_rate_limiter\":{\"ops\":{\"size\":1}}}",
            "missing field `refill_time` at line 1 column 51"},
        {"{\"iface_id\":\"a\",\"tx_rate_limiter\":{\"ops\":{\"size\":-1,"
         "\"refill_time\":1}}}",
            "invalid value: integer `-1`, expected u64 at line 1 column 51"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char fault[512];

        (void)snprintf(fault, sizeof(fault), SERDE "%s.", cases[i].complaint);
        expect_fault(f, "PATCH", "/network-interfaces/a", cases[i].body, fault);
    }
    expect_fault(f, "PATCH", "/network-interfaces/a",
        "{\"iface_id\":\"a\",\"rx_rate_limiter\":{\"bandwidth\":" BUCKET
        ",\"ops\":null},\"tx_rate_limiter\":{\"ops\":" BUCKET "}}",
        "Network config error: Unable to update the net device: " NOT_FOUND);
}

static void a_balloon(void **state)
{
    struct fixture *f = *state;
    struct machine *m = &f->b.inst.machine;
    struct balloon_config config = {.id = "balloon",
        .target = 512,
        .stats_interval_ms = 3000,
        .deflate_on_oom = true};
    struct virtio_host host = {.mem = &m->mem, .irq = {.fd = -1}};
    struct balloon balloon;

    expect_fault(f, "GET", "/balloon", NULL, "Internal VMM error: " NOT_FOUND);
    expect_fault(f, "PATCH", "/balloon", "{\"amount_mib\":1}",
        "Balloon update error: " NOT_FOUND);
    expect_fault(f, "PATCH", "/balloon", "{}",
        SERDE "missing field `amount_mib` at line 1 column 2.");
    assert_int_equal(gmem_init(&m->mem, 16 << 20, NULL), 0);
    assert_int_equal(balloon_init(&balloon, &config, &host, NULL), 0);
    m->balloon = &balloon;
    f->b.config.balloon.deflate_on_oom = true;
    expect_json(f, 200, "GET", "/balloon", NULL,
        "{\"amount_mib\":2,\"deflate_on_oom\":true,"
        "\"stats_polling_interval_s\":3,\"free_page_hinting\":false,"
        "\"free_page_reporting\":false}");
    expect_done(f, "PATCH", "/balloon", "{\"amount_mib\":4}");
    assert_int_equal(balloon.state.target, 1024);
    expect_fault(f, "PATCH", "/balloon", "{\"amount_mib\":17}",
        "Balloon update error: Balloon: Requested memory should be less than "
        "17MiB");
    expect_fault(f, "PATCH", "/balloon", "{\"amount_mib\":4294967296}",
        SERDE "invalid value: integer `4294967296`, expected u32 at line 1 "
              "column 24.");
    assert_int_equal(balloon.state.target, 1024);
    balloon.guest.values[BALLOON_S_MEMFREE] = 4096;
    balloon.guest.present = 1u << BALLOON_S_MEMFREE;
    expect_json(f, 200, "GET", "/balloon/statistics", NULL,
        "{\"target_pages\":1024,\"actual_pages\":0,\"target_mib\":4,"
        "\"actual_mib\":0,\"free_memory\":4096}");
    expect_done(
        f, "PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":5}");
    assert_int_equal(balloon.interval_ms, 5000);
    expect_fault(f, "PATCH", "/balloon/statistics",
        "{\"stats_polling_interval_s\":0}",
        "Balloon update error: Balloon: Statistics cannot be enabled/disabled "
        "after activation.");
    expect_fault(f, "PATCH", "/balloon/hinting/start", "{}",
        "Balloon update error: Balloon: Attempting to use hinting when not "
        "enabled");
    f->b.config.balloon.page_hinting = true;
    expect_fault(f, "PATCH", "/balloon/hinting/start", "{}",
        "Balloon update error: Balloon: Device not activated yet.");
    expect_json(f, 200, "GET", "/balloon/hinting/status", NULL,
        "{\"host_cmd\":0,\"guest_cmd\":0}");
    expect_done(f, "PATCH", "/balloon/hinting/stop", "{}");
    expect_done(f, "PATCH", "/balloon/hinting/stop", NULL);
    expect_fault(f, "PATCH", "/balloon", NULL, "Empty PATCH request.");
    assert_non_null(strstr(ask(f, "GET", "/spore", NULL), "\"balloon\":{"));
    m->balloon = NULL;
    balloon_fini(&balloon);
    gmem_fini(&m->mem);
}

static void without_a_vsock_device(void **state)
{
    struct fixture *f = *state;
    bool ended;

    expect_fault(f, "GET", "/spore/vsock/777", NULL,
        "This endpoint needs Connection: Upgrade and Upgrade: vsock.");
    expect_fault(f, "GET", "/spore/vsock/x", NULL, "x is no port of a guest");
    expect_fault(f, "GET", "/spore/vsock/4294967296", NULL,
        "4294967296 is no port of a guest");
    http_bench_say(&f->b.http, f->fd,
        "GET /spore/vsock/777 HTTP/1.1\r\nConnection: Upgrade\r\n"
        "Upgrade: vsock\r\n\r\n");
    assert_non_null(strstr(http_bench_hear(&f->b.http, f->fd, &ended),
        "{\"fault_message\":\"the machine has no vsock device"));
    assert_false(ended);
    expect_json(f, 200, "GET", "/version", NULL,
        "{\"firecracker_version\":\"1.17.0\"}");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(what_it_is),
        TEST(no_template_ends_a_cpu_config),
        TEST(pause_and_resume),
        TEST(bodies_where_they_belong),
        TEST(paths),
        TEST(ids),
        TEST(phases),
        TEST(loads),
        TEST(what_bodies_hold),
        TEST(bodies_that_are_refused_whole),
        TEST(actions),
        TEST(limits_are_checked_all_the_way_down),
        TEST(a_balloon),
        TEST(without_a_vsock_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
