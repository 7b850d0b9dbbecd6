/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "guest/fuzz/call.h"

int pages_make(size_t size, uint8_t **ret_pages)
{
    uint8_t *pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (pages == MAP_FAILED)
        return -errno;
    if (mlock(pages, size) != 0)
        return -errno;
    *ret_pages = pages;
    return 0;
}

int pages_make_input(struct pages_input *input)
{
    uint8_t *pages;
    int error = pages_make(PAGES_SIZE + FUZZ_ABI_INPUT_MAX, &pages);

    if (error == 0)
        input->bytes = pages + PAGES_SIZE;
    return error;
}

uint32_t pages_input_size(const struct pages_input *input)
{
    uint32_t size;

    memcpy(&size, input->bytes - sizeof(size), sizeof(size));
    return size > FUZZ_ABI_INPUT_MAX ? FUZZ_ABI_INPUT_MAX : size;
}

void pages_say_hello(
    const struct pages_input *input, const uint8_t *map, size_t map_size)
{
    struct fuzz_abi_hello hello = {
        .magic = FUZZ_ABI_HELLO_MAGIC,
        .version = FUZZ_ABI_HELLO_VERSION,
        .map = (uintptr_t)map,
        .map_size = map_size,
        .input_size = (uintptr_t)input->bytes - sizeof(uint32_t),
        .input = (uintptr_t)input->bytes,
        .input_capacity = FUZZ_ABI_INPUT_MAX,
    };

    (void)call_at(FUZZ_ABI_HELLO, &hello);
}
