/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A source for libFuzzer, as it is: linked with AFL++'s driver or with
 * libspore-harness.a.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static int initialized;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    initialized++;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (initialized != 1)
        exit(99);
    if (size >= 5 && memcmp(data, "magic", 5) == 0)
        exit(10);
    if (size >= 5 && memcmp(data, "crash", 5) == 0)
        abort();
    if (size >= 5 && memcmp(data, "over!", 5) == 0)
        return data[size]; /* behind the input */
    return 0;
}
