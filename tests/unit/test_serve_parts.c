/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server is made of, part by part: where it listens, what it counts,
 * what spore top makes of what is said.
 */
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
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/serve/serve_rig.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/serve/proc_sample.h"
#include "vmm/serve/serve_listen.h"
#include "vmm/serve/serve_options.h"
#include "vmm/serve/serve_systemd.h"
#include "vmm/serve/top_rows.h"

/* ---- processes ----------------------------------------------------------- */

static void test_statm(void **state)
{
    uint64_t bytes;

    (void)state;
    assert_true(proc_sample_parse_statm("100 30 10 1 0 20 0\n", &bytes));
    assert_int_equal(bytes, 20 * 4096);
    assert_true(proc_sample_parse_statm("100 10 30", &bytes));
    assert_int_equal(bytes, 0);
    assert_false(proc_sample_parse_statm("100 10", &bytes));
    assert_false(proc_sample_parse_statm("", &bytes));
    assert_false(proc_sample_parse_statm("a b c", &bytes));
}

static void test_stat(void **state)
{
    struct proc_sample s;
    long per_s = sysconf(_SC_CLK_TCK);

    (void)state;
    assert_true(proc_sample_parse_stat(
        "7 (a) b) c) S 1 2 3 4 -1 6 70 8 9 10 100 200 0", &s));
    assert_int_equal(s.state, 'S');
    assert_int_equal(s.minor_faults, 70);
    assert_int_equal(s.major_faults, 9);
    assert_int_equal(s.cpu_ns, 300 * (CLOCK_NS_PER_S / (uint64_t)per_s));
    assert_false(proc_sample_parse_stat("7 (a) S 1 2 3", &s));
    assert_false(proc_sample_parse_stat("7 a S 1 2 3 4 5", &s));
    assert_false(proc_sample_parse_stat("7 (a)", &s));
    assert_false(proc_sample_parse_stat("", &s));
}

static void test_a_process(void **state)
{
    struct proc_sample s;
    uint64_t in;
    uint64_t out;

    (void)state;
    assert_int_equal(proc_sample_take(getpid(), &s), 0);
    assert_true(s.private_bytes > 0 && s.minor_faults > 0);
    assert_int_equal(proc_sample_io(getpid(), &in, &out), 0);
    assert_true(in > 0);
    /* Beyond what numbers of processes there are. */
    assert_int_equal(proc_sample_take(INT32_MAX, &s), -ESRCH);
}

/* ---- metrics ------------------------------------------------------------- */

static void test_metrics(void **state)
{
    struct serve_metrics m = {.accepted = 5};
    const struct serve_gauges g = {
        .running = 2, .is_draining = true, .pool = {.ready = 3}};
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    serve_metrics_time(&m, SERVE_STAGE_WAIT, 50000);
    serve_metrics_time(&m, SERVE_STAGE_WAIT, 50001);
    serve_metrics_time(&m, SERVE_STAGE_WAIT, UINT64_C(100000000000));
    m.outcomes[SERVE_TIMEOUT] = 4;
    serve_metrics_write(&m, &g, out);
    assert_int_equal(fclose(out), 0);
#define STAGE "spore_serve_stage_seconds_"
    assert_true(
        rig_has(text, STAGE "bucket{stage=\"clone\",le=\"5e-05\"} 1\n"));
    assert_true(
        rig_has(text, STAGE "bucket{stage=\"clone\",le=\"0.0001\"} 2\n"));
    assert_true(rig_has(text, STAGE "bucket{stage=\"clone\",le=\"60\"} 2\n"));
    assert_true(rig_has(text, STAGE "bucket{stage=\"clone\",le=\"+Inf\"} 3\n"));
    assert_true(rig_has(text, STAGE "count{stage=\"clone\"} 3\n"));
    assert_true(rig_has(text, STAGE "sum{stage=\"clone\"} 100.000100001\n"));
    assert_true(
        rig_has(text, "spore_serve_requests_total{outcome=\"timeout\"} 4\n"));
    assert_true(rig_has(text, "spore_serve_pool_clones{state=\"ready\"} 3\n"));
    assert_true(rig_has(text, "spore_serve_draining 1\n"));
    assert_true(rig_has(text, "spore_serve_connections_accepted_total 5\n"));
    /* Every line is a comment or a name and a number. */
    for (char *line = strtok(text, "\n"); line != NULL;
         line = strtok(NULL, "\n")) {
        const char *space = strrchr(line, ' ');
        char *end;

        if (line[0] == '#')
            continue;
        assert_non_null(space);
        (void)strtod(space + 1, &end);
        assert_true(end != space + 1 && *end == '\0');
    }
    free(text);
}

/* ---- listening ----------------------------------------------------------- */

static void test_places(void **state)
{
    char dir[] = "/tmp/spore-test-XXXXXX";
    char where[128];
    const char *path = where + strlen("unix:");
    struct serve_listen a;
    struct serve_listen b;
    struct err err;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(where, sizeof(where), "unix:%s/socket", dir);
    assert_int_equal(serve_listen_open(where, &a, &err), 0);
    assert_int_equal(access(path, F_OK), 0);
    /* One that listens is not replaced. */
    assert_int_equal(serve_listen_open(where, &b, &err), -EADDRINUSE);
    /* One that was left is. */
    assert_int_equal(close(a.fd), 0);
    a.fd = -1;
    assert_int_equal(serve_listen_open(where, &b, &err), 0);
    serve_listen_close(&b);
    assert_int_not_equal(access(path, F_OK), 0);
    /* Nor is what is no socket. */
    assert_int_equal(close(creat(path, 0600)), 0);
    assert_int_equal(serve_listen_open(where, &b, &err), -EADDRINUSE);
    assert_int_equal(unlink(path), 0);
    serve_listen_close(&a);
    assert_int_equal(rmdir(dir), 0);
}

static void test_addresses(void **state)
{
    static const char *const bad[] = {"", "x", "tcp:", "tcp:1", "tcp::1",
        "tcp:127.0.0.1", "tcp:127.0.0.1:", "tcp:127.0.0.1:65536",
        "tcp:127.0.0.1:1x", "tcp:localhost:1", "tcp:[::1:1", "tcp:[]:1",
        "unix:", "fd:", "fd:x", "fd:99999999999", "vsock:1"};
    struct serve_listen l;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_true(serve_listen_open(bad[i], &l, &err) < 0);
    assert_int_equal(serve_listen_open("tcp:127.0.0.1:0", &l, &err), 0);
    {
        struct serve_listen taken;

        assert_int_equal(serve_listen_take(l.fd, &taken, &err), 0);
        assert_true(taken.is_inherited);
    }
    serve_listen_close(&l);
    assert_int_equal(serve_listen_take(STDIN_FILENO, &l, &err), -EBADF);
}

static void test_what_systemd_says(void **state)
{
    char pid[16];

    (void)state;
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    assert_int_equal(setenv("LISTEN_PID", pid, 1), 0);
    assert_int_equal(setenv("LISTEN_FDS", "2", 1), 0);
    assert_int_equal(serve_systemd_listen_fds(), 2);
    /* Once. */
    assert_int_equal(serve_systemd_listen_fds(), 0);
    assert_int_equal(setenv("LISTEN_PID", "1", 1), 0);
    assert_int_equal(setenv("LISTEN_FDS", "2", 1), 0);
    assert_int_equal(serve_systemd_listen_fds(), 0);
    assert_int_equal(setenv("LISTEN_PID", pid, 1), 0);
    assert_int_equal(setenv("LISTEN_FDS", "99999999999999999999", 1), 0);
    assert_int_equal(serve_systemd_listen_fds(), 0);
}

/* getopt moves words about, and changes none. */
static int parse(struct serve_options *o, const char *const *words,
    size_t count, struct err *err)
{
    static char *argv[32];

    assert_true(count < ARRAY_SIZE(argv));
    for (size_t i = 0; i <= count; i++)
        argv[i] = (char *)(uintptr_t)words[i];
    return serve_options_parse(o, (int)count, argv, err);
}

static void test_options(void **state)
{
    static const char *const argv[] = {"serve", "-l", "unix:a", "-l", "tcp:b",
        "--http", "-p", "tcp:80", "--reuse", "reset", "--max-vms", "5",
        "--queue", "0", "--timeout", "1.5", "--memory-max", "2G",
        "--run-option", "--net", "web", NULL};
    static const char *const command[] = {
        "serve", "-e", "A=b", "web", "--", "cat", "-", NULL};
    struct serve_options o;
    struct err err;

    (void)state;
    assert_int_equal(parse(&o, argv, ARRAY_SIZE(argv) - 1, &err), 0);
    assert_int_equal(o.listen_count, 2);
    assert_string_equal(o.template, "web");
    assert_int_equal(o.config.kind, SERVER_HTTP);
    assert_true(o.config.port == 80 && o.config.port_is_tcp);
    assert_true(o.config.resets);
    assert_int_equal(o.config.vms_max, 5);
    assert_int_equal(o.config.queue_max, 0);
    assert_int_equal(o.config.timeout_ns, 1500 * CLOCK_NS_PER_MS);
    assert_int_equal(o.config.memory_max, UINT64_C(2) << 30);
    assert_int_equal(o.config.connections_max, 5 + 256);
    assert_int_equal(o.run_option_count, 1);
    assert_null(o.command);
    assert_int_equal(parse(&o, command, ARRAY_SIZE(command) - 1, &err), 0);
    assert_int_equal(o.config.kind, SERVER_EXEC);
    assert_string_equal(o.command[0], "cat");
    assert_string_equal(o.command[1], "-");
    assert_null(o.command[2]);
    assert_string_equal(o.env[0], "A=b");
}

/* ---- spore top ----------------------------------------------------------- */

static void add_machine(struct top_rows *rows, const char *id, const char *json)
{
    json_t *said = json == NULL ? NULL : json_loads(json, 0, NULL);

    assert_int_equal(top_rows_add_machine(rows, id, said), 0);
    json_decref(said);
}

static void test_rows(void **state)
{
    struct top_rows before = {.taken_ns = CLOCK_NS_PER_S};
    struct top_rows rows = {.taken_ns = 3 * CLOCK_NS_PER_S};
    json_t *json;

    (void)state;
    add_machine(&before, "a",
        "{\"state\":\"Running\",\"pid\":5,\"cpu_us\":1000000,"
        "\"devices\":{\"d\":{\"bytes\":1000}}}");
    add_machine(&rows, "quiet", NULL);
    add_machine(&rows, "a",
        "{\"state\":\"Running\",\"pid\":5,\"cpu_us\":2000000,\"age_ms\":9,"
        "\"private_kib\":2,\"devices\":{\"d\":{\"bytes\":4000},\"e\":7}}");
    /* What a guest may have made of its monitor. */
    add_machine(&rows, "liar",
        "{\"state\":\"\\u001b[2JPwned and more\",\"pid\":-7,"
        "\"cpu_us\":9223372036854775807,\"age_ms\":-1,"
        "\"private_kib\":9223372036854775807,\"devices\":[1]}");
    top_rows_compare(&rows, &before);
    top_rows_sort(&rows, TOP_BY_NAME);
    assert_int_equal(rows.count, 3);
    assert_string_equal(rows.rows[0].name, "a");
    assert_int_equal(rows.rows[0].private_bytes, 2048);
    assert_true(rows.rows[0].cpu_percent > 49 && rows.rows[0].cpu_percent < 51);
    assert_true(rows.rows[0].io_per_s > 1499 && rows.rows[0].io_per_s < 1501);
    assert_string_equal(rows.rows[1].name, "liar");
    assert_null(strchr(rows.rows[1].state, '\033'));
    assert_string_equal(rows.rows[2].state, "No answer");
    top_rows_sort(&rows, TOP_BY_CPU);
    assert_string_equal(rows.rows[0].name, "a");
    json = top_rows_json(&rows);
    assert_int_equal(json_array_size(json), 3);
    json_decref(json);
    top_rows_fini(&rows);
    top_rows_fini(&before);
}

static void test_clones_stay_with_their_server(void **state)
{
    struct top_rows rows = {0};
    json_t *said = json_pack("{s:s, s:i, s:b, s:[{s:i, s:i}, {s:i}]}",
        "template", "web", "pid", (int)getpid(), "draining", 1, "clones", "pid",
        (int)getpid(), "age_ms", 5, "pid", INT32_MAX);

    (void)state;
    assert_non_null(said);
    add_machine(&rows, "zz", "{}");
    assert_int_equal(top_rows_add_server(&rows, said), 0);
    assert_int_equal(top_rows_add_server(&rows, said), 0);
    json_decref(said);
    top_rows_compare(&rows, NULL);
    top_rows_sort(&rows, TOP_BY_AGE);
    assert_int_equal(rows.count, 7);
    assert_int_equal(rows.rows[0].kind, TOP_MACHINE);
    assert_int_equal(rows.rows[1].kind, TOP_SERVER);
    assert_string_equal(rows.rows[1].state, "draining");
    assert_int_equal(rows.rows[2].kind, TOP_CLONE);
    assert_int_equal(rows.rows[2].age_ms, 5);
    assert_true(rows.rows[2].private_bytes > 0);
    assert_string_equal(rows.rows[3].state, "gone");
    assert_int_equal(rows.rows[4].kind, TOP_SERVER);
    top_rows_fini(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statm),
        cmocka_unit_test(test_stat),
        cmocka_unit_test(test_a_process),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_what_systemd_says),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_clones_stay_with_their_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
