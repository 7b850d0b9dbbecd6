/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libnyx.so as AFL++ loads it, in both of its interfaces, each in the order of
 * calls that AFL++ has (src/afl-forkserver.c, 4.04c and 4.22a).
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* After those. */
#include <cmocka.h>

#include "fuzz/nyx.h"
#include "fuzz/nyx_aux.h"
#include "tests/fuzz_standin/standin.h"

#define HASH "00112233445566778899aabbccddeeff01234567\n"

struct fixture {
    void *lib;
    char dir[64];
    char work[128];
};

static void put(struct fixture *f, const char *name, const char *text)
{
    char path[192];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char path[192];

    assert_non_null(f);
    f->lib = dlopen(getenv("SPORE_LIBNYX"), RTLD_NOW | RTLD_LOCAL);
    if (f->lib == NULL)
        fail_msg("%s", dlerror());
    (void)strcpy(f->dir, "/tmp/spore-nyx-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->work, sizeof(f->work), "%s/workdir", f->dir);
    (void)snprintf(path, sizeof(path), "%s/dump", f->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    put(f, "dump/afl_autodict.txt", "\4FUZZ");
    put(f, "TARGET_HASH", HASH);
    put(f, "target.json",
        "{\"version\":1,\"argv\":[\"/bin/x\"],\"env\":[],\"input\":\"stdin\","
        "\"mem_size_mib\":128,\"boot_timeout_ms\":60000,\"boot_args\":\"\","
        "\"asan\":false}");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"dump/afl_autodict.txt", "dump",
        "TARGET_HASH", "target.json", "root.lock", "snapshots/root",
        "snapshots"};
    struct fixture *f = *state;
    char path[192];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
        (void)remove(path);
    }
    assert_int_equal(rmdir(f->dir), 0);
    (void)dlclose(f->lib);
    free(f);
    return 0;
}

/* A function of the library, of the type that fuzz/nyx.h gives it. */
/* By way of a number, as the C standard has no other. */
#define FN(f, name) ((__typeof__(&(name)))(uintptr_t)find((f)->lib, #name))

static void *find(void *lib, const char *name)
{
    void *at = dlsym(lib, name);

    if (at == NULL)
        fail_msg("%s is not there", name);
    return at;
}

static enum NyxReturnValue run(
    struct fixture *f, void *runner, const char *input)
{
    uint8_t copy[64];

    assert_true(strlen(input) <= sizeof(copy));
    memcpy(copy, input, strlen(input));
    FN(f, nyx_set_afl_input)(runner, copy, (uint32_t)strlen(input));
    return FN(f, nyx_exec)(runner);
}

static void use(struct fixture *f, void *runner, bool is_new)
{
    static uint8_t text[STANDIN_REPORT + 10];
    const struct nyx_aux_buffer *aux;
    const uint8_t *map;

    assert_non_null(runner);
    assert_int_equal(FN(f, nyx_get_bitmap_buffer_size)(runner), 1000);
    map = FN(f, nyx_get_bitmap_buffer)(runner);
    assert_non_null(map);
    FN(f, nyx_option_set_reload_mode)(runner, true);
    FN(f, nyx_option_apply)(runner);
    FN(f, nyx_option_set_timeout)(runner, 2, 0);
    FN(f, nyx_option_apply)(runner);
    assert_int_equal(run(f, runner, "INIT"), NYX_NORMAL);
    assert_int_equal(map[0], 1);
    FN(f, nyx_option_set_timeout)(runner, 0, 20000);
    FN(f, nyx_option_apply)(runner);
    assert_int_equal(run(f, runner, "HANG"), NYX_TIMEOUT);
    assert_int_equal(run(f, runner, "writtent"),
        is_new ? NYX_INVALID_WRITE_TO_PAYLOAD : NYX_CRASH);
    assert_int_equal(run(f, runner, "abortion"), NYX_ABORT);
    assert_int_equal(run(f, runner, "asanasan"), NYX_ASAN);
    assert_int_equal(
        FN(f, nyx_get_aux_string)(runner, text, sizeof(text)), STANDIN_REPORT);
    assert_int_equal(FN(f, nyx_get_aux_string)(runner, text, 4096), 4096);
    aux = FN(f, nyx_get_aux_buffer)(runner);
    assert_int_equal(aux->magic, NYX_AUX_MAGIC);
    assert_int_equal(aux->exec_result_code, 6);
    assert_int_equal(aux->text_size, 4096 - sizeof(*aux));
    assert_int_equal(run(f, runner, "FUZZ"), NYX_CRASH);
    assert_int_equal(aux->text_size, 28);
    /* Nobody asks for the text now; it is there for those with the buffer. */
    assert_int_equal(run(f, runner, "asanasan"), NYX_ASAN);
    assert_int_equal(aux->text_size, 4096 - sizeof(*aux));
    assert_int_equal(run(f, runner, "FUZZ"), NYX_CRASH);
    assert_int_equal(aux->exec_result_code, 1);
    assert_int_equal(map[13], 1);
    assert_int_equal(run(f, runner, "F"), NYX_NORMAL);
    assert_int_equal(map[13], 0);
    assert_int_equal(run(f, runner, "killdead"), NYX_IO_ERROR);
    FN(f, nyx_shutdown)(runner);
    /* AFL++ does it again when it ends. */
    FN(f, nyx_shutdown)(runner);
}

static void test_old(void **state)
{
    struct fixture *f = *state;

    use(f, FN(f, nyx_new)(f->dir, f->work, 0, 1048576, true), false);
    use(f, FN(f, nyx_new_parent)(f->dir, f->work, 0, 1048576, true), false);
    use(f, FN(f, nyx_new_child)(f->dir, f->work, 0, 1), false);
    assert_true(FN(f, nyx_remove_work_dir)(f->work));
}

static void *configure(struct fixture *f)
{
    void *config = FN(f, nyx_config_load)(f->dir);

    assert_non_null(config);
    FN(f, nyx_config_set_workdir_path)(config, f->work);
    FN(f, nyx_config_set_input_buffer_size)(config, 1048576);
    FN(f, nyx_config_set_input_buffer_write_protection)(config, true);
    FN(f, nyx_config_set_hprintf_fd)(config, STDERR_FILENO);
    FN(f, nyx_config_set_process_role)(config, NYX_STANDALONE);
    assert_false(FN(f, nyx_config_set_aux_buffer_size)(config, 100));
    assert_true(FN(f, nyx_config_set_aux_buffer_size)(config, 4096));
    return config;
}

typedef void *(*new_fn)(void *config, uint32_t worker);

static void test_new(void **state)
{
    struct fixture *f = *state;
    void *config = configure(f);
    new_fn make = (new_fn)(uintptr_t)find(f->lib, "nyx_new");
    char path[192];
    void *first;
    void *second;

    assert_true(
        FN(f, nyx_get_target_hash64)(config) == UINT64_C(0x0011223344556677));
    first = make(config, 1);
    second = make(config, 2);
    FN(f, nyx_config_free)(config);
    FN(f, nyx_config_free)(config);
    (void)snprintf(path, sizeof(path), "%s/dump/afl_autodict.txt", f->work);
    assert_int_equal(access(path, R_OK), 0);
    use(f, first, true);
    use(f, second, true);
    assert_true(FN(f, nyx_remove_work_dir)(f->work));
    assert_false(FN(f, nyx_remove_work_dir)(f->dir));
}

/* AFL++ goes on with what it was refused. */
static void test_none(void **state)
{
    struct fixture *f = *state;
    void *config = FN(f, nyx_config_load)("/nonexistent");

    assert_null(config);
    FN(f, nyx_config_set_workdir_path)(config, f->work);
    assert_false(FN(f, nyx_config_set_aux_buffer_size)(config, 4096));
    assert_true(FN(f, nyx_get_target_hash64)(config) == 0);
    assert_null(FN(f, nyx_new)(NULL, NULL, 0, 0, false));
    assert_null(FN(f, nyx_new)("/nonexistent", NULL, 0, 0, false));
    FN(f, nyx_config_free)(config);
    FN(f, nyx_shutdown)(config);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_old),
        CASE(test_new),
        CASE(test_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
