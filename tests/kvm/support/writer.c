/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kvm/support/writer.h"

#include <stdarg.h>
#include <setjmp.h>

#include <cmocka.h>

#include <string.h>

#include "vmm/base/cc.h"

/* writer.S: the mailbox that it reads at its start. */
#define WRITER_MAILBOX BARE_MAILBOX

struct bare *writer_start(uint32_t ring, enum machine_tracking tracking)
{
    struct bare *b = bare_new(&(struct bare_options){
        .guest = "writer", .mem_bytes = WRITER_MEM, .tracking = tracking});
    const uint32_t told[] = {ring, WRITER_FIRST_PAGE, WRITER_PAGES};

    assert_int_equal(
        gmem_write(&b->machine.mem, gpa(WRITER_MAILBOX), told, sizeof(told)),
        0);
    bare_start(b);
    bare_wait_change(b, WRITER_TOLD, 0);
    return b;
}

void writer_expect_pages(const struct bare *b)
{
    static uint32_t want[WRITER_PAGES][2];
    uint32_t count = bare_peek(b, WRITER_TOLD);
    uint32_t x = 12345;
    uint32_t next[3] = {0};

    memset(want, 0, sizeof(want));
    for (uint32_t i = 1; i <= count + 1; i++) {
        uint32_t page;

        x = x * 1664525u + 1013904223u;
        page = (x >> 8) % WRITER_PAGES;
        if (i <= count) {
            want[page][0] = i;
            want[page][1] = x;
        } else {
            next[0] = page;
            next[1] = i;
            next[2] = x;
        }
    }
    for (uint32_t page = 0; page < WRITER_PAGES; page++) {
        uint64_t at = (uint64_t)(WRITER_FIRST_PAGE + page) << NUM_PAGE_SHIFT;

        for (uint32_t k = 0; k < 2; k++) {
            uint32_t got = bare_peek(b, at + 4 * k);

            if (got == want[page][k] || (page == next[0] && got == next[1 + k]))
                continue;
            fail_msg("page %u of %u writes, word %u: %u, not %u", page, count,
                k, got, want[page][k]);
        }
    }
}
