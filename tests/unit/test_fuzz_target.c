/* SPDX-License-Identifier: Apache-2.0 */
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
#include <unistd.h>

#include "fuzz/ron.h"
#include "fuzz/target.h"
#include "vmm/base/fd.h"

#define MIB UINT64_C(0x100000)

static int decode(const char *text, struct fuzz_target *t, struct err *err)
{
    return fuzz_target_decode(text, strlen(text), t, err);
}

/* Is refused, with what is in the error. */
static void refuse(const char *text, int code, const char *part)
{
    struct fuzz_target t;
    struct err err;

    assert_int_equal(decode(text, &t, &err), -code);
    assert_int_equal(strncmp(err.text, "target.json: ", 13), 0);
    if (strstr(err.text, part) == NULL)
        fail_msg("'%s' is not in '%s'", part, err.text);
}

static void test_defaults(void **state)
{
    struct fuzz_target t;
    struct err err;

    (void)state;
    assert_int_equal(
        decode("{\"version\": 1, \"argv\": [\"/bin/cat\"]}", &t, &err), 0);
    assert_null(t.dir);
    assert_null(t.kernel);
    assert_string_equal(t.argv[0], "/bin/cat");
    assert_null(t.argv[1]);
    assert_null(t.env[0]);
    assert_string_equal(t.boot_args, "");
    assert_int_equal(t.input, FUZZ_TARGET_STDIN);
    assert_int_equal(t.mem_bytes, 256 * MIB);
    assert_int_equal(t.boot_timeout_ms, 120000);
    assert_false(t.is_nyx);
    assert_false(t.asan);
    fuzz_target_fini(&t);
    fuzz_target_fini(&t);
}

static void test_all_members(void **state)
{
    struct fuzz_target t;
    struct fuzz_target again;
    struct err err;
    char *text;

    (void)state;
    assert_int_equal(
        decode("{\"version\": 1, \"argv\": [\"/p\", \"-f\", \"x=@@\"],"
               "\"env\": [\"A=b=c\", \"B=\"], \"input\": \"file\","
               "\"mem_size_mib\": 64, \"boot_timeout_ms\": 5000,"
               "\"kernel\": \"/k/vmlinux\", \"boot_args\": \"quiet x=1\","
               "\"asan\": true}",
            &t, &err),
        0);
    assert_int_equal(fuzz_target_encode(&t, &text, &err), 0);
    fuzz_target_fini(&t);
    assert_int_equal(decode(text, &again, &err), 0);
    free(text);
    assert_string_equal(again.argv[1], "-f");
    assert_string_equal(again.argv[2], "x=@@");
    assert_null(again.argv[3]);
    assert_string_equal(again.env[0], "A=b=c");
    assert_string_equal(again.env[1], "B=");
    assert_null(again.env[2]);
    assert_int_equal(again.input, FUZZ_TARGET_FILE);
    assert_int_equal(again.mem_bytes, 64 * MIB);
    assert_int_equal(again.boot_timeout_ms, 5000);
    assert_string_equal(again.kernel, "/k/vmlinux");
    assert_string_equal(again.boot_args, "quiet x=1");
    assert_true(again.asan);
    fuzz_target_fini(&again);
}

#define BASE "{\"version\": 1, \"argv\": [\"/p\"]"

static void test_refusals(void **state)
{
    (void)state;
    refuse("", EINVAL, "line 1");
    refuse("[]", EINVAL, "an object");
    refuse("{}", EINVAL, "version: missing");
    refuse("{\"version\": 1}", EINVAL, "argv: missing");
    refuse("{\"version\": 2, \"argv\": [\"/p\"]}", ENOTSUP, "pack the target");
    refuse("{\"version\": 1, \"argv\": []}", EINVAL, "argv: must begin");
    refuse("{\"version\": 1, \"argv\": [\"p\"]}", EINVAL, "argv: must begin");
    refuse("{\"version\": 1, \"argv\": [\"/p\", 1]}", EINVAL, "argv[1]");
    refuse(
        "{\"version\": 1, \"argv\": \"/p\"}", EINVAL, "argv: must be a list");
    refuse(BASE ", \"shell\": 1}", EINVAL, "shell: unknown key");
    refuse(BASE ", \"argv\": [\"/p\"]}", EINVAL, "duplicate");
    refuse(BASE ", \"input\": \"pipe\"}", EINVAL, "\"memory\" or \"socket\"");
    refuse(BASE ", \"input\": \"file\"}", EINVAL, "@@");
    refuse("{\"version\": 1, \"argv\": [\"/p\", \"@@\"]}", EINVAL,
        "this is \"stdin\"");
    refuse(BASE ", \"env\": [\"A\"]}", EINVAL, "env[0]");
    refuse(BASE ", \"env\": [\"=A\"]}", EINVAL, "env[0]");
    refuse(BASE ", \"mem_size_mib\": 31}", ERANGE, "mem_size_mib");
    refuse(BASE ", \"mem_size_mib\": 65537}", ERANGE, "mem_size_mib");
    refuse(BASE ", \"mem_size_mib\": -1}", ERANGE, "mem_size_mib");
    refuse(BASE ", \"boot_timeout_ms\": 0}", ERANGE, "boot_timeout_ms");
    refuse(BASE ", \"kernel\": \"../vmlinux\"}", EINVAL, "kernel");
    refuse(BASE ", \"boot_args\": \"a\\nb\"}", EINVAL, "boot_args");
    refuse(BASE ", \"asan\": 1}", EINVAL, "asan");
}

static void test_too_many_words(void **state)
{
    size_t size = (FUZZ_TARGET_WORDS_MAX + 2) * 5 + 64;
    char *text = malloc(size);
    int n = snprintf(text, size, "{\"version\": 1, \"argv\": [\"/p\"");

    (void)state;
    for (unsigned int i = 0; i < FUZZ_TARGET_WORDS_MAX; i++)
        n += snprintf(text + n, size - (size_t)n, ",\"a\"");
    (void)snprintf(text + n, size - (size_t)n, "]}");
    refuse(text, E2BIG, "argv");
    free(text);
}

/* ---- directories --------------------------------------------------------- */

static void make_dir(char path[32])
{
    (void)strcpy(path, "/tmp/test_fuzz_target.XXXXXX");
    assert_non_null(mkdtemp(path));
}

static void remove_dir(const char *dir)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "%s/target.json", dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/config.ron", dir);
    (void)unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[64];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void test_directory(void **state)
{
    char *argv[] = {(char[]){"/bin/x"}, NULL};
    struct fuzz_target t = {
        .argv = argv, .mem_bytes = 48 * MIB, .boot_timeout_ms = 1};
    struct fuzz_target again;
    struct fuzz_ron ron;
    char dir[32];
    char path[64];
    uint8_t *data;
    size_t size;
    struct err err;

    (void)state;
    make_dir(dir);
    assert_int_equal(fuzz_target_open(dir, &again, &err), -ENOENT);
    assert_non_null(strstr(err.text, "spore fuzz pack"));
    t.dir = dir;
    assert_int_equal(fuzz_target_write(&t, &err), 0);
    assert_int_equal(fuzz_target_write(&t, &err), 0);
    assert_int_equal(fuzz_target_open(dir, &again, &err), 0);
    assert_string_equal(again.dir, dir);
    assert_string_equal(again.argv[0], "/bin/x");
    assert_false(again.is_nyx);
    fuzz_target_fini(&again);

    /* What is written for Nyx says the same. */
    (void)snprintf(path, sizeof(path), "%s/config.ron", dir);
    assert_int_equal(fd_read_file(path, 65536, &data, &size, &err), 0);
    assert_int_equal(fuzz_ron_read((char *)data, size, &ron, &err), 0);
    assert_int_equal(ron.mem_limit_mib, 48);
    fuzz_ron_fini(&ron);
    free(data);

    /* A broken one is not passed over for the other file. */
    put(dir, "target.json", "{");
    assert_int_equal(fuzz_target_open(dir, &again, &err), -EINVAL);
    assert_int_equal(strncmp(err.text, dir, strlen(dir)), 0);

    t.mem_bytes = 1;
    assert_int_equal(fuzz_target_write(&t, &err), -ERANGE);
    remove_dir(dir);
    assert_int_equal(fuzz_target_open(dir, &again, &err), -ENOENT);
}

static void test_nyx_directory(void **state)
{
    struct fuzz_target t;
    char dir[32];
    struct err err;

    (void)state;
    make_dir(dir);
    put(dir, "config.ron", "( fuzz: ( mem_limit: 512 ) )");
    assert_int_equal(fuzz_target_open(dir, &t, &err), 0);
    assert_true(t.is_nyx);
    assert_int_equal(t.mem_bytes, 512 * MIB);
    assert_null(t.argv[0]);
    fuzz_target_fini(&t);
    put(dir, "config.ron", "()");
    assert_int_equal(fuzz_target_open(dir, &t, &err), 0);
    assert_int_equal(t.mem_bytes, FUZZ_TARGET_NYX_MEM_DEFAULT);
    fuzz_target_fini(&t);
    put(dir, "config.ron", "( fuzz: ( mem_limit: 1 ) )");
    assert_int_equal(fuzz_target_open(dir, &t, &err), -ERANGE);
    put(dir, "config.ron", "( fuzz: (");
    assert_int_equal(fuzz_target_open(dir, &t, &err), -EINVAL);
    remove_dir(dir);
}

/* A link could lead anywhere. */
static void test_links(void **state)
{
    struct fuzz_target t;
    char dir[32];
    char path[64];
    struct err err;

    (void)state;
    make_dir(dir);
    (void)snprintf(path, sizeof(path), "%s/target.json", dir);
    assert_int_equal(symlink("/dev/zero", path), 0);
    assert_int_equal(fuzz_target_open(dir, &t, &err), -ELOOP);
    remove_dir(dir);
}

/* ---- RON ----------------------------------------------------------------- */

static int read_ron(const char *text, struct fuzz_ron *ron, struct err *err)
{
    return fuzz_ron_read(text, strlen(text), ron, err);
}

static void test_ron(void **state)
{
    struct fuzz_ron ron;
    struct err err;

    (void)state;
    assert_int_equal(
        read_ron("#![enable(implicit_some)]\n"
                 "// mem_limit: 1\n"
                 "/* a /* nested */ comment: ( */\n"
                 "Config(\n"
                 "  include_default_config_path: \"a/b\\\"(.ron\",\n"
                 "  runner: QemuKernel((debug: false, mem_limit: 7)),\n"
                 "  other: { \"fuzz\": (mem_limit: 9), 'x': '\\'', '(' : 1 },\n"
                 "  raw: r#\"(\"(\"#,\n"
                 "  fuzz: Fuzz(\n"
                 "    mem_limit: Some(1_024),\n"
                 "    time_limit: (secs: 1, nanos: 80000000),\n"
                 "    dict: Some([[65, 66], \"ab\\\\c\", b\"x\", [], [255]]),\n"
                 "    ip0: (a: 0x10, b: -1.5e3),\n"
                 "    snapshot_placement: aggressive,\n"
                 "  ),\n"
                 ")\n",
            &ron, &err),
        0);
    assert_true(ron.has_mem_limit);
    assert_int_equal(ron.mem_limit_mib, 1024);
    assert_true(ron.has_time_limit);
    assert_int_equal(ron.time_limit_ns, 1080000000);
    assert_int_equal(ron.word_count, 4);
    assert_int_equal(ron.words[0].size, 2);
    assert_memory_equal(ron.words[0].bytes, "AB", 2);
    assert_int_equal(ron.words[1].size, 4);
    assert_memory_equal(ron.words[1].bytes, "ab\\c", 4);
    assert_memory_equal(ron.words[2].bytes, "x", 1);
    assert_int_equal(ron.words[3].bytes[0], 255);
    fuzz_ron_fini(&ron);
    fuzz_ron_fini(&ron);
}

static void refuse_ron(const char *text, const char *part)
{
    struct fuzz_ron ron;
    struct err err;

    assert_int_equal(read_ron(text, &ron, &err), -EINVAL);
    if (strstr(err.text, part) == NULL)
        fail_msg("'%s' is not in '%s'", part, err.text);
}

static void test_ron_refusals(void **state)
{
    char deep[200];

    (void)state;
    refuse_ron("", "line 1: empty");
    refuse_ron("(", "not closed");
    refuse_ron("(]", "closes none");
    refuse_ron("\n\n)", "line 3");
    refuse_ron("(a: \"", "string without end");
    refuse_ron("(a: \"\\", "string without end");
    refuse_ron("(a: '", "character without end");
    refuse_ron("(a: r#\"x\")", "string without end");
    refuse_ron("/* /* */", "comment without end");
    refuse_ron("#![x", "attribute without end");
    refuse_ron("(a; b)", "no RON");
    refuse_ron("(fuzz: (mem_limit: 1x))", "number");
    refuse_ron("(fuzz: (mem_limit: -1))", "number");
    refuse_ron("(fuzz: (mem_limit: 99999999999999999999))", "number");
    refuse_ron("(fuzz: (dict: [[256]]))", "not a byte");
    refuse_ron(
        "(fuzz: (time_limit: (secs: 18446744073709551615)))", "time_limit");
    memset(deep, '(', sizeof(deep));
    deep[sizeof(deep) - 1] = '\0';
    refuse_ron(deep, "beyond reason");
}

static void test_ron_dictionary_bounds(void **state)
{
    size_t size = FUZZ_RON_WORDS_MAX * 8 + 1024;
    char *text = malloc(size);
    int n = snprintf(text, size, "(fuzz: (dict: [\"");
    struct fuzz_ron ron;
    struct err err;

    (void)state;
    /* One that is too long, then more than there is room for. */
    for (unsigned int i = 0; i <= FUZZ_RON_WORD_MAX; i++)
        n += snprintf(text + n, size - (size_t)n, "x");
    n += snprintf(text + n, size - (size_t)n, "\",");
    for (unsigned int i = 0; i <= FUZZ_RON_WORDS_MAX; i++)
        n += snprintf(text + n, size - (size_t)n, "\"yz\",");
    (void)snprintf(text + n, size - (size_t)n, "]))");
    assert_int_equal(read_ron(text, &ron, &err), 0);
    assert_int_equal(ron.word_count, FUZZ_RON_WORDS_MAX);
    assert_int_equal(ron.words[0].size, 2);
    fuzz_ron_fini(&ron);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_members),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_too_many_words),
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_nyx_directory),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_ron),
        cmocka_unit_test(test_ron_refusals),
        cmocka_unit_test(test_ron_dictionary_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
