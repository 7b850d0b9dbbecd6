/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of fuzzing without a guest: programs with the preload
 * library in them, and an executor that is played (support/fuzz_host.h).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/fuzz/conf.h"
#include "tests/unit/support/fuzz_host.h"
#include "tests/unit/support/skip.h"
#include "vmm/base/cc.h"

/* A mark of the end that is far behind the first 4 KiB. */
#define REPORT_MIN 6000u

static struct fuzz_host_result result;

static const char *path_of(const char *name)
{
    static char path[4096];

    (void)snprintf(
        path, sizeof(path), "%s/%s", getenv("SPORE_FUZZ_TARGETS"), name);
    return path;
}

static bool exists(const char *name)
{
    return access(path_of(name), X_OK) == 0;
}

/* Runs NAME HOW with an input that is text. */
static void run_with(
    const char *words, const char *name, const char *how, const char *input)
{
    const struct fuzz_host_config config = {
        .words = words,
        .args = {path_of(name), how},
        .input = input,
        .input_size = strlen(input),
    };

    fuzz_host_run(&config, &result);
}

static void run(const char *name, const char *how, const char *input)
{
    run_with("stdin", name, how, input);
}

static void assert_no_system_calls(void)
{
    if (result.system_calls > 0)
        print_message("the last system call is %llu\n",
            (unsigned long long)result.system_call);
    assert_int_equal(result.system_calls, 0);
}

static void assert_done(int status)
{
    if (result.end != FUZZ_HOST_DONE)
        print_message("end %d signal %u status 0x%x: %s\n", result.end,
            result.signal, (unsigned int)result.status, result.text);
    assert_int_equal(result.end, FUZZ_HOST_DONE);
    assert_int_equal(result.hellos, 1);
    assert_int_equal(result.status, status << 8);
}

static void assert_panic(uint32_t signal)
{
    if (result.end != FUZZ_HOST_PANIC)
        print_message("end %d status 0x%x: %s\n", result.end,
            (unsigned int)result.status, result.text);
    assert_int_equal(result.end, FUZZ_HOST_PANIC);
    assert_int_equal(result.signal, signal);
    assert_true(result.rip != 0);
}

/* A compiler that is not here: the test is none. */
static void need(const char *name)
{
    if (exists(name))
        return;
    print_message("%s is not built: its compiler is missing\n", name);
    if (skip_is_forbidden())
        fail();
    skip();
}

/* ---- plain programs --------------------------------------------------------
 */

static void gives_standard_input(void **state)
{
    static const char *const ways[] = {"read", "stdio", "line", "seek", "libc"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        run("plain", ways[i], "magic 123");
        assert_done(10);
        assert_int_equal(result.roots, 1);
        /* Nothing of a run enters the kernel. */
        assert_no_system_calls();
        run("plain", ways[i], "other 123");
        assert_done(11);
    }
    run("plain", "read", "");
    assert_done(12);
    run("plain", "stdio", "");
    assert_done(12);
}

static void gives_it_to_others_too(void **state)
{
    (void)state;
    run("plain", "stat", "magic 123");
    assert_done(10);
    assert_no_system_calls();
    run("plain", "child", "magic 123");
    assert_done(30);
    run("plain", "fdopen", "magic 123");
    assert_done(10);
    run("plain", "fcntl", "magic 123");
    assert_done(10);
    run("plain", "/dev/stdin", "magic 123");
    assert_done(10);
}

static void says_what_it_has(void **state)
{
    const struct fuzz_abi_hello *hello = &result.hello;

    (void)state;
    run("plain", "read", "magic");
    assert_done(10);
    assert_int_equal(hello->magic, FUZZ_ABI_HELLO_MAGIC);
    assert_int_equal(hello->version, FUZZ_ABI_HELLO_VERSION);
    assert_int_equal(hello->flags, FUZZ_ABI_RESTORES_FPU);
    assert_int_equal(hello->map_size, 0);
    assert_int_equal(hello->input % 4096, 0);
    assert_int_equal(hello->input_capacity, FUZZ_ABI_INPUT_MAX);
    assert_int_equal(hello->input_size, hello->input - 4);
    assert_int_equal(hello->warm % 4096, 0);
    assert_int_equal(hello->cmp_map_size, 0);
    run_with("stdin,map=5000", "plain", "read", "magic");
    assert_done(10);
    assert_int_equal(hello->map_size, 5000);
    assert_int_equal(hello->map % 4096, 0);
}

static void takes_inputs_of_any_size(void **state)
{
    static char big[FUZZ_ABI_INPUT_MAX + 1];

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    memcpy(big, "magic", 5);
    run("plain", "read", big);
    assert_done(10);
}

static void run_file(const char *how)
{
    static const char path[] = "/dev/shm/test_fuzz_guest.input";
    char words[128];
    const struct fuzz_host_config config = {
        .words = words,
        .args = {path_of("plain"), how, path},
        .input = "magic 1",
        .input_size = 7,
    };

    (void)snprintf(words, sizeof(words), "file,at=%s", path);
    fuzz_host_run(&config, &result);
    unlink(path);
    assert_done(10);
}

static void gives_a_file(void **state)
{
    (void)state;
    run_file("file");
    assert_no_system_calls();
    run_file("open");
    assert_no_system_calls();
    run_file("map");
    assert_no_system_calls();
    /* One of another name is the kernel's. */
    run_file("other");
    run("plain", "map", "magic 123");
    assert_done(10);
}

static void ends_with_the_status(void **state)
{
    (void)state;
    run("plain", "exit", "x");
    assert_done(7);
    assert_no_system_calls();
    run("plain", "_exit", "x");
    assert_done(8);
    assert_no_system_calls();
    /* A signal that nobody can catch is init's to tell. */
    run("plain", "kill", "x");
    assert_int_equal(result.end, FUZZ_HOST_EXITED);
    assert_int_equal(WTERMSIG(result.status), SIGKILL);
    run("plain", "handled", "x");
    assert_done(40);
}

static void tells_of_crashes(void **state)
{
    (void)state;
    run("plain", "abort", "x");
    assert_panic(SIGABRT);
    assert_non_null(strstr(result.text, "going down"));
    run("plain", "assert", "x");
    assert_panic(SIGABRT);
    assert_non_null(strstr(result.text, "zero == 1"));
    run("plain", "segv", "x");
    assert_panic(SIGSEGV);
    run("plain", "fpe", "x");
    assert_panic(SIGFPE);
    run("plain", "overflow", "x");
    assert_panic(SIGSEGV);
    run("plain", "free", "x");
    assert_panic(SIGABRT);
    assert_non_null(strstr(result.text, "double free"));
}

static void swallows_output(void **state)
{
    (void)state;
    run("plain", "print", "magic");
    assert_done(10);
    assert_no_system_calls();
}

static void makes_pages_present(void **state)
{
    const struct fuzz_host_config config = {
        .words = "stdin",
        .args = {path_of("plain"), "read"},
        .input = "magic",
        .input_size = 5,
        .warm = 100,
    };

    (void)state;
    fuzz_host_run(&config, &result);
    assert_done(10);
    assert_int_equal(result.roots, 2);
}

static void holds_the_clock(void **state)
{
    (void)state;
    run("plain", "clock", "x");
    assert_done(30);
    assert_no_system_calls();
    run_with("stdin,real", "plain", "abort", "x");
    assert_panic(SIGABRT);
}

static void gives_the_same_random_numbers(void **state)
{
    int first;

    (void)state;
    run("plain", "random", "x");
    first = result.status;
    assert_true(WEXITSTATUS(first) >= 50);
    run("plain", "random", "x");
    assert_int_equal(result.status, first);
    run_with("stdin,seed=5", "plain", "random", "x");
    assert_int_not_equal(result.status, first);
}

/* ---- sanitizers ------------------------------------------------------------
 */

static void check_asan(const char *name)
{
    if (!exists(name))
        return;
    run(name, "asan", "good");
    assert_done(0);
    run(name, "asan", "bad");
    if (result.end != FUZZ_HOST_SANITIZER)
        print_message("%s\n", result.text);
    assert_int_equal(result.end, FUZZ_HOST_SANITIZER);
    assert_non_null(strstr(result.text, "heap-use-after-free"));
    /* It is told of before it is made. */
    print_message("%s: %u of %u system calls\n", name, result.calls_to_report,
        result.system_calls);
    assert_true(result.calls_to_report < result.system_calls / 10);
    /* All of it: the last lines are these. */
    assert_true(result.text_len > REPORT_MIN);
    assert_non_null(strstr(result.text, "ABORTING"));
}

static void tells_the_whole_report(void **state)
{
    (void)state;
    check_asan("asan_gcc");
    check_asan("asan_clang");
}

static void tells_of_undefined_behaviour(void **state)
{
    (void)state;
    need("ubsan_clang");
    run("ubsan_clang", "ubsan", "bad");
    assert_int_equal(result.end, FUZZ_HOST_SANITIZER);
    assert_non_null(strstr(result.text, "signed integer overflow"));
}

/* ---- AFL++ -----------------------------------------------------------------
 */

static void assert_map(void)
{
    /* To the byte: these programs are small. */
    assert_true(result.hello.map_size > 4 && result.hello.map_size < 200);
    assert_true(result.edges > 1);
}

static void poses_as_a_fork_server(void **state)
{
    uint64_t sum;

    (void)state;
    need("afl_plain");
    run("afl_plain", NULL, "magic");
    assert_done(10);
    assert_map();
    sum = result.map_sum;
    run("afl_plain", NULL, "other");
    assert_done(11);
    assert_true(result.map_sum != sum);
    run("afl_plain", NULL, "magic");
    assert_true(result.map_sum == sum);
    run("afl_plain", NULL, "crash");
    assert_panic(SIGABRT);
    assert_map();
}

static void speaks_all_handshakes(void **state)
{
    static const char *const ways[] = {"old", "new", "first"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        bool is_first = i == 2; /* no options: nothing but a map */

        run_with("memory", "fork_server", ways[i], "magic");
        assert_done(10);
        assert_int_equal(result.hello.map_size, is_first ? 65536 : 1000);
        assert_int_equal(result.dictionary_size, is_first ? 0 : 10);
        assert_int_equal(result.edges, 2);
    }
}

static void starts_where_the_program_says(void **state)
{
    uint32_t all;

    (void)state;
    need("afl_plain");
    run_with("stdin,early", "afl_deferred", NULL, "magic");
    assert_done(10);
    all = result.edges;
    run("afl_deferred", NULL, "magic");
    assert_done(10);
    assert_map();
    /* The loop in front of it is no part of a run. */
    assert_true(result.edges < all);
    assert_no_system_calls();
}

static void begins_runs_with_the_loop(void **state)
{
    (void)state;
    need("afl_plain");
    run_with("memory", "afl_loop", NULL, "magic");
    assert_done(10);
    assert_map();
    assert_no_system_calls();
    /* One test case is one run. */
    run_with("memory", "afl_loop", NULL, "other");
    assert_done(0);
    assert_no_system_calls();
    run_with("memory", "afl_loop", NULL, "crash");
    assert_panic(SIGABRT);
}

/* init starts such a program again, and then the root is early. */
static void has_another_place_without_a_loop(void **state)
{
    (void)state;
    need("afl_plain");
    run_with("memory", "afl_loop", "no_loop", "x");
    assert_int_equal(result.end, FUZZ_HOST_EXITED);
    assert_int_equal(result.hellos, 0);
    assert_int_equal(WEXITSTATUS(result.status), 6);
    run_with("memory,early", "afl_loop", "no_loop", "x");
    assert_done(6);
    run_with("memory,early", "afl_loop", "none", "x");
    assert_done(5);
}

static void works_with_a_sanitizer_below(void **state)
{
    (void)state;
    need("afl_plain");
    run_with("memory", "afl_loop_asan", NULL, "magic");
    assert_done(10);
    run_with("memory", "afl_loop_asan", NULL, "other");
    assert_done(0);
}

static void works_with_the_driver(void **state)
{
    (void)state;
    need("afl_driver");
    run_with("memory", "afl_driver", NULL, "magic");
    assert_done(10);
    assert_map();
    assert_no_system_calls();
    run_with("memory", "afl_driver", NULL, "other");
    assert_done(0);
    run_with("memory", "afl_driver", NULL, "crash");
    assert_panic(SIGABRT);
}

static void has_a_map_of_comparisons(void **state)
{
    char words[64];

    (void)state;
    need("afl_cmplog");
    (void)snprintf(words, sizeof(words), "stdin,cmplog=%u", CONF_CMPLOG_BYTES);
    run_with(words, "afl_cmplog", NULL, "other");
    assert_done(11);
    assert_int_equal(result.hello.cmp_map_size, CONF_CMPLOG_BYTES);
    assert_int_equal(result.hello.cmp_map % 4096, 0);
    assert_true(result.comparisons > 0);
}

/* ---- libspore-harness.a ----------------------------------------------------
 */

static void harness_reads_in_place(void **state)
{
    static const char *const names[] = {
        "harness", "harness_afl", "harness_asan"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!exists(names[i]))
            continue;
        run_with("memory", names[i], NULL, "magic");
        assert_done(10);
        /* The sanitizer has one of its own in front of exit(). */
        if (strcmp(names[i], "harness_asan") != 0)
            assert_no_system_calls();
        run_with("memory", names[i], NULL, "other");
        assert_done(0);
        run_with("memory", names[i], NULL, "crash");
        assert_panic(SIGABRT);
        if (i > 0)
            assert_true(
                result.hello.map_size > 4 && result.hello.map_size < 200);
    }
    if (!exists("harness_asan"))
        return;
    run_with("memory", "harness_asan", NULL, "over!");
    assert_int_equal(result.end, FUZZ_HOST_SANITIZER);
    assert_non_null(strstr(result.text, "use-after-poison"));
}

/* The same program shows a crash again, from a file. */
static void harness_runs_files(void **state)
{
    char command[4200];
    int status;

    (void)state;
    (void)snprintf(command, sizeof(command),
        "printf magic > /dev/shm/h.$$; %s /dev/shm/h.$$ 2>/dev/null; s=$?; "
        "rm /dev/shm/h.$$; exit $s",
        path_of("harness"));
    status = system(command);
    assert_int_equal(WEXITSTATUS(status), 10);
}

/* ---- sockets ---------------------------------------------------------------
 */

static void is_the_first_connection(void **state)
{
    static const char *const ways[] = {"accept", "poll", "select", "epoll"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        run_with("socket,port=7777", "server", ways[i], "leave");
        assert_done(10);
        assert_no_system_calls();
        run_with("socket,port=7777", "server", ways[i], "nothing");
        assert_done(0);
        assert_no_system_calls();
    }
}

static void packets_have_frames(void **state)
{
    const struct fuzz_host_config config = {
        .words = "socket,port=7777,frames,levels",
        .args = {path_of("server"), "accept"},
        .input = "\x05\0hello\x05\0crash",
        .input_size = 14,
    };

    (void)state;
    fuzz_host_run(&config, &result);
    assert_panic(SIGABRT);
    assert_int_equal(result.levels, 1);
    assert_int_equal(result.level_at, 7);
    /* Without the prefix it is none. */
    run_with("socket,port=7777", "server", "accept", "crash");
    assert_done(0);
}

static void serve_frames(const char *how, const char *input, size_t size)
{
    const struct fuzz_host_config config = {
        .words = "socket,port=7777,frames",
        .args = {path_of("server"), how},
        .input = input,
        .input_size = size,
    };

    fuzz_host_run(&config, &result);
}

static void serves_datagrams(void **state)
{
    static const char *const ways[] = {"udp", "readv", "recvmsg", "recvmmsg"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        serve_frames(ways[i], "\x05\0hello\x05\0crash", 14);
        assert_panic(SIGABRT);
        run_with("socket,port=7777", "server", ways[i], "nothing");
        assert_done(0);
        assert_no_system_calls();
    }
}

/* Of one that is too long the rest is not the next one. */
static void a_datagram_is_cut(void **state)
{
    (void)state;
    serve_frames("readv", "\x05\0hello\x0b\0......crash", 20);
    assert_done(0);
    serve_frames("recvmsg", "\x05\0hello\x0b\0longercrash", 20);
    assert_done(11);
    serve_frames("recvmmsg", "\x0b\0longercrash", 13);
    assert_done(11);
    /* Half a frame behind it keeps none back. */
    serve_frames("recvmmsg", "\x05\0leave\x05", 8);
    assert_done(10);
}

static void a_stream_is_waited_for(void **state)
{
    (void)state;
    serve_frames("waitall", "\x03\0hel\x07\0locrash", 14);
    assert_panic(SIGABRT);
    serve_frames("waitall", "\x03\0hel\x07\0lohappy", 14);
    assert_done(0);
}

static void waits_for_a_servers_children(void **state)
{
    (void)state;
    run_with("socket,port=7777", "server", "fork", "nothing");
    assert_done(0);
}

/* ---- fuzz.conf -------------------------------------------------------------
 */

static void conf_is_read(void **state)
{
    char file[] = "arg=/usr/bin/tiffinfo\0arg=@@\0env=A=b\0input=file\0"
                  "cwd=/var\0asan=1\0cmplog=1";
    struct conf *c = malloc(sizeof(*c));
    const char *wrong;

    (void)state;
    assert_int_equal(conf_parse(c, file, sizeof(file), &wrong), 0);
    assert_int_equal(c->arg_count, 2);
    assert_string_equal(c->args[1], "@@");
    assert_string_equal(c->env[0], "A=b");
    assert_int_equal(c->input, CONF_FILE);
    assert_string_equal(c->cwd, "/var");
    assert_true(c->asan);
    assert_int_equal(c->cmplog_size, CONF_CMPLOG_BYTES);
    free(c);
}

static void conf_names_what_is_wrong(void **state)
{
    char unknown[] = "arg=/a\0spell=1";
    char port[] = "arg=/a\0port=70000";
    struct conf *c = malloc(sizeof(*c));
    const char *wrong;

    (void)state;
    assert_int_not_equal(conf_parse(c, unknown, sizeof(unknown), &wrong), 0);
    assert_string_equal(wrong, "spell=1");
    assert_int_not_equal(conf_parse(c, port, sizeof(port), &wrong), 0);
    assert_string_equal(wrong, "port=70000");
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_standard_input),
        cmocka_unit_test(gives_it_to_others_too),
        cmocka_unit_test(says_what_it_has),
        cmocka_unit_test(takes_inputs_of_any_size),
        cmocka_unit_test(gives_a_file),
        cmocka_unit_test(ends_with_the_status),
        cmocka_unit_test(tells_of_crashes),
        cmocka_unit_test(swallows_output),
        cmocka_unit_test(makes_pages_present),
        cmocka_unit_test(holds_the_clock),
        cmocka_unit_test(gives_the_same_random_numbers),
        cmocka_unit_test(tells_the_whole_report),
        cmocka_unit_test(tells_of_undefined_behaviour),
        cmocka_unit_test(poses_as_a_fork_server),
        cmocka_unit_test(speaks_all_handshakes),
        cmocka_unit_test(starts_where_the_program_says),
        cmocka_unit_test(begins_runs_with_the_loop),
        cmocka_unit_test(has_another_place_without_a_loop),
        cmocka_unit_test(works_with_a_sanitizer_below),
        cmocka_unit_test(works_with_the_driver),
        cmocka_unit_test(has_a_map_of_comparisons),
        cmocka_unit_test(harness_reads_in_place),
        cmocka_unit_test(harness_runs_files),
        cmocka_unit_test(is_the_first_connection),
        cmocka_unit_test(packets_have_frames),
        cmocka_unit_test(serves_datagrams),
        cmocka_unit_test(a_datagram_is_cut),
        cmocka_unit_test(a_stream_is_waited_for),
        cmocka_unit_test(waits_for_a_servers_children),
        cmocka_unit_test(conf_is_read),
        cmocka_unit_test(conf_names_what_is_wrong),
    };

    if (getenv("SPORE_FUZZ_PRELOAD") == NULL ||
        getenv("SPORE_FUZZ_TARGETS") == NULL) {
        fprintf(stderr, "set SPORE_FUZZ_PRELOAD and SPORE_FUZZ_TARGETS\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
