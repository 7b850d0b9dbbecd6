/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What machine and page server tell each other, both ways: a machine's message
 * that is accepted lies within the memory, whole pages without overlap, and
 * writes back as one that means the same; a server's last word is one line of
 * printable characters.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/pager_wire.h"
#include "vmm/base/num.h"

#define RAM_BYTES (UINT64_C(1) << 32)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void check(const struct pager_hello *hello)
{
    require(hello->count >= 1 && hello->count <= PAGER_REGIONS_MAX);
    for (uint32_t i = 0; i < hello->count; i++) {
        const struct pager_region *r = &hello->regions[i];
        uint64_t end;

        require(r->size > 0);
        require((r->address | r->size | r->offset) % NUM_PAGE_SIZE == 0);
        require(num_add(r->address, r->size, &end));
        require(num_range_within(r->offset, r->size, RAM_BYTES));
        for (uint32_t k = 0; k < i; k++) {
            const struct pager_region *o = &hello->regions[k];

            require(end <= o->address || r->address >= o->address + o->size);
            require(r->offset + r->size <= o->offset ||
                    r->offset >= o->offset + o->size);
        }
    }
}

static void try_hello(const uint8_t *data, size_t size)
{
    struct pager_hello hello;
    struct pager_hello again;
    struct err err;
    char *text;
    int rc =
        pager_hello_decode((const char *)data, size, RAM_BYTES, &hello, &err);

    if (rc < 0) {
        require(rc == -EAGAIN || rc == -EBADMSG || rc == -ENOTSUP);
        for (const char *c = err.text; *c != '\0'; c++)
            require(*c >= 0x20 && *c < 0x7f);
        return;
    }
    check(&hello);
    require(pager_hello_encode(&hello, &text, &err) == 0);
    require(strlen(text) <= PAGER_HELLO_MAX);
    require(
        pager_hello_decode(text, strlen(text), RAM_BYTES, &again, &err) == 0);
    require(memcmp(&hello, &again, sizeof(hello)) == 0);
    free(text);
}

static void try_reason(const uint8_t *data, size_t size)
{
    char text[PAGER_REASON_SIZE];
    bool is_there = pager_reason_decode(data, size, text);

    require(strlen(text) < sizeof(text));
    require(is_there == (text[0] != '\0'));
    for (const char *c = text; *c != '\0'; c++)
        require(*c >= 0x20 && *c < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_hello(data, size);
    try_reason(data, size);
    return 0;
}
