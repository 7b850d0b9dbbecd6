/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main() for sources with an LLVMFuzzerTestOneInput: libspore-harness.a.
 *
 * In a guest that fuzzes, the root lies right before the call, and the input
 * is read where the executor has put it. Elsewhere the files in the arguments
 * are run one after another, or standard input, so that the same program
 * shows a crash again. Compiled with any of AFL++'s compilers, or another;
 * LLVMFuzzerInitialize is called if there is one.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "guest/fuzz/abi.h"
#include "guest/fuzz/names.h"

#define EXPORTED __attribute__((visibility("default")))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
EXPORTED __attribute__((weak)) int LLVMFuzzerInitialize(
    int *argc, char ***argv);

/* Of AFL++'s runtime, if it is linked in. */
EXPORTED __attribute__((weak)) void __afl_manual_init(void);

/* Of AddressSanitizer. */
EXPORTED __attribute__((weak)) void __asan_poison_memory_region(
    const volatile void *at, size_t size);
EXPORTED __attribute__((weak)) void __asan_unpoison_memory_region(
    const volatile void *at, size_t size);

/* Of the preload library, which finds the text below in the executable. */
typedef int hook_fn(const uint8_t **ret_bytes, size_t *ret_size);
EXPORTED __attribute__((used)) const char spore_harness_mark[] =
    FUZZ_NAMES_HARNESS;

/* Of exactly `size` bytes, so that a sanitizer sees what is read behind it. */
static int run_one(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);

    if (copy == NULL) {
        perror("malloc");
        return 1;
    }
    for (size_t i = 0; i < size; i++)
        copy[i] = bytes[i];
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    return 0;
}

static int run_stream(FILE *in)
{
    static uint8_t bytes[FUZZ_ABI_INPUT_MAX];
    size_t size = fread(bytes, 1, sizeof(bytes), in);

    if (ferror(in)) {
        perror("read");
        return 1;
    }
    return run_one(bytes, size);
}

static int run_file(const char *path)
{
    FILE *in = fopen(path, "rb");
    int result;

    if (in == NULL) {
        perror(path);
        return 1;
    }
    fprintf(stderr, "%s\n", path);
    result = run_stream(in);
    fclose(in);
    return result;
}

static hook_fn *find_hook(const char *name)
{
    union {
        void *symbol;
        hook_fn *hook;
    } u = {.symbol = dlsym(RTLD_DEFAULT, name)};

    return u.hook;
}

/*
 * The root, and behind it one input. What lies behind the input is poisoned:
 * all of it before the root, so that a run has little to do.
 */
static int run_in_place(void)
{
    hook_fn *input = find_hook("spore_fuzz_input");
    hook_fn *root = find_hook("spore_fuzz_root");
    const uint8_t *bytes;
    size_t size;

    if (input == NULL || root == NULL || input(&bytes, &size) != 0)
        return -1;
    if (__asan_poison_memory_region != NULL)
        __asan_poison_memory_region(bytes, size);
    if (root(&bytes, &size) != 0)
        return -1;
    if (__asan_unpoison_memory_region != NULL)
        __asan_unpoison_memory_region(bytes, size);
    (void)LLVMFuzzerTestOneInput(bytes, size);
    return 0;
}

int main(int argc, char **argv)
{
    int result = 0;

    if (LLVMFuzzerInitialize != NULL)
        (void)LLVMFuzzerInitialize(&argc, &argv);
    if (__afl_manual_init != NULL)
        __afl_manual_init();
    if (run_in_place() == 0)
        return 0;
    if (argc < 2)
        return run_stream(stdin);
    for (int i = 1; i < argc; i++)
        result |= run_file(argv[i]);
    return result;
}
