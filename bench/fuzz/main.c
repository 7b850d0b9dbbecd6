/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program around LLVMFuzzerTestOneInput that reads its input from standard
 * input once: what AFL++ forks for each run. With DEFERRED the fork happens
 * behind LLVMFuzzerInitialize instead of in front of main.
 */
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#define INPUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

int main(int argc, char **argv)
{
    static uint8_t input[INPUT_MAX];
    size_t size = 0;
    ssize_t n;

    if (LLVMFuzzerInitialize != NULL)
        (void)LLVMFuzzerInitialize(&argc, &argv);
#ifdef DEFERRED
    __AFL_INIT();
#endif
    while (size < sizeof(input) &&
           (n = read(0, input + size, sizeof(input) - size)) > 0)
        size += (size_t)n;
    (void)LLVMFuzzerTestOneInput(input, size);
    return 0;
}
