/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/entry_pages.h"

#include <string.h>

/* Offsets in a 64-bit TSS. */
#define TSS_RSP0  0x04u
#define TSS_IST1  0x24u
#define TSS_BYTES 0x68u
#define TSS_ISTS  7u

uint32_t entry_pages_find(const struct guest_view *view, uint64_t tss,
    uint32_t ret_pages[ENTRY_PAGES_MAX])
{
    uint8_t bytes[TSS_BYTES];
    uint64_t stack;
    uint32_t count = 0;

    if (guest_view_read(view, tss, bytes, sizeof(bytes)) < 0 ||
        guest_view_page(view, tss, &ret_pages[count++]) < 0)
        return 0;
    memcpy(&stack, bytes + TSS_RSP0, sizeof(stack));
    if (guest_view_page(view, stack - 1, &ret_pages[count++]) < 0)
        return 0;
    for (uint32_t i = 0; i < TSS_ISTS; i++) {
        memcpy(&stack, bytes + TSS_IST1 + i * sizeof(stack), sizeof(stack));
        if (stack != 0 &&
            guest_view_page(view, stack - 1, &ret_pages[count]) == 0)
            count++;
    }
    return count;
}
