/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cc.h"
#include "vmm/hw/layout.h"
#include "vmm/hw/mptable.h"

static uint8_t sum(const uint8_t *p, size_t len)
{
    unsigned int total = 0;

    for (size_t i = 0; i < len; i++)
        total += p[i];
    return (uint8_t)(total & 0xff);
}

struct seen {
    unsigned int cpus, boot_cpus, buses, ioapics, lints;
    unsigned int ioapic_id, line_ioapic;
    uint64_t gsis;
};

static void read_entry(struct bytes_reader *r, struct seen *seen)
{
    static const uint8_t sizes[] = {20, 8, 8, 8, 8};
    struct bytes_reader e;
    uint8_t type;

    assert_true(r->pos < r->size);
    type = r->data[r->pos];
    assert_true(type < sizeof(sizes));
    assert_true(bytes_reader_sub(r, r->pos, sizes[type], &e));
    bytes_skip(r, sizes[type]);
    switch (type) {
    case 0:
        assert_int_equal(e.data[1], seen->cpus);
        assert_int_equal(e.data[3] & 1, 1);
        seen->boot_cpus += e.data[3] >> 1;
        seen->cpus++;
        break;
    case 1:
        assert_memory_equal(e.data + 1, "\0ISA   ", 7);
        seen->buses++;
        break;
    case 2:
        seen->ioapic_id = e.data[1];
        assert_int_equal(e.data[3], 1);
        bytes_seek(&e, 4);
        assert_int_equal(bytes_get_u32(&e), 0xfec00000);
        seen->ioapics++;
        break;
    case 3:
        assert_int_equal(e.data[1], 0);
        assert_int_equal(e.data[2], 5); /* active high, edge */
        assert_int_equal(e.data[5], e.data[7]);
        seen->line_ioapic = e.data[6];
        seen->gsis |= UINT64_C(1) << e.data[7];
        break;
    default:
        assert_int_equal(e.data[1], e.data[7] == 0 ? 3 : 1);
        seen->lints |= 1u << e.data[7];
        break;
    }
}

/* Walks the whole table; the result is what it describes. */
static struct seen read_table(const uint8_t *buf, size_t len)
{
    struct seen seen = {0};
    struct bytes_reader r;
    uint32_t address;
    uint16_t size, count;

    assert_memory_equal(buf, "_MP_", 4);
    assert_int_equal(sum(buf, 16), 0);
    assert_int_equal(buf[8], 1);
    bytes_reader_init(&r, buf, len);
    bytes_seek(&r, 4);
    address = bytes_get_u32(&r);
    assert_true(address >= LAYOUT_MPTABLE + 16);
    bytes_seek(&r, address - LAYOUT_MPTABLE + 4);
    size = bytes_get_u16(&r);
    assert_true(bytes_reader_sub(&r, address - LAYOUT_MPTABLE, size, &r));
    assert_memory_equal(r.data, "PCMP", 4);
    assert_int_equal(sum(r.data, size), 0);
    bytes_seek(&r, 34);
    count = bytes_get_u16(&r);
    assert_int_equal(bytes_get_u32(&r), 0xfee00000);
    bytes_seek(&r, 44);
    for (unsigned int i = 0; i < count; i++)
        read_entry(&r, &seen);
    assert_int_equal(bytes_left(&r), 0);
    return seen;
}

static void test_describes_the_machine(void **state)
{
    (void)state;
    for (unsigned int n = 1; n <= LAYOUT_VCPUS_MAX; n++) {
        const struct mptable_config config = {
            .vcpu_count = n, .gsis = 0x8000000000f00710};
        uint8_t buf[MPTABLE_SIZE_MAX];
        struct seen seen;
        size_t len;

        assert_int_equal(mptable_table(&config, buf, &len, NULL), 0);
        seen = read_table(buf, len);
        assert_int_equal(seen.cpus, n);
        assert_int_equal(seen.boot_cpus, 1);
        assert_int_equal(seen.buses, 1);
        assert_int_equal(seen.ioapics, 1);
        assert_int_equal(seen.ioapic_id, n);
        assert_int_equal(seen.line_ioapic, n);
        assert_int_equal(seen.gsis, config.gsis);
        assert_int_equal(seen.lints, 3);
    }
}

/* What does not fit is refused; everything smaller is complete. */
static void test_room(void **state)
{
    unsigned int refused = 0;

    (void)state;
    for (unsigned int n = 1; n <= LAYOUT_VCPUS_MAX; n++) {
        for (unsigned int lines = 0; lines <= 64; lines++) {
            const struct mptable_config config = {.vcpu_count = n,
                .gsis = lines == 64 ? UINT64_MAX : (UINT64_C(1) << lines) - 1};
            uint8_t buf[MPTABLE_SIZE_MAX];
            size_t len;
            int rc = mptable_table(&config, buf, &len, NULL);

            if (16 + 44 + n * 20 + 8 + 8 + lines * 8 + 16 > 1024) {
                assert_int_equal(rc, -ENOSPC);
                refused++;
            } else {
                assert_int_equal(rc, 0);
                assert_int_equal(read_table(buf, len).gsis, config.gsis);
            }
        }
    }
    assert_true(refused > 0);
}

static void test_build_into_guest_memory(void **state)
{
    const struct mptable_config config = {.vcpu_count = 2, .gsis = 0x10010};
    uint8_t buf[MPTABLE_SIZE_MAX];
    struct gmem mem;

    (void)state;
    assert_int_equal(gmem_init(&mem, NUM_MIB, NULL), 0);
    assert_int_equal(mptable_build(&mem, &config, NULL), 0);
    assert_int_equal(gmem_read(&mem, gpa(0x9fc00), buf, sizeof(buf)), 0);
    assert_int_equal(read_table(buf, sizeof(buf)).gsis, 0x10010);
    gmem_fini(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describes_the_machine),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_build_into_guest_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
