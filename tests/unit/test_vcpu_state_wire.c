/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"
#include "vmm/hw/vcpu_state_wire.h"
#include "vmm/hw/vm_clock.h"

static struct vcpu_state *make(void)
{
    struct vcpu_state *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->parts = VCPU_STATE_ALL;
    s->mp_state = 3;
    s->regs.rip = 0x123456789abcdef0;
    s->sregs.cr3 = 0x1000;
    s->events.nmi.masked = 1;
    s->xcrs.nr_xcrs = 1;
    s->xcrs.xcrs[0].value = 7;
    s->debug.dr7 = 0x400;
    s->lapic.regs[0x20] = 1;
    s->tsc = (struct vcpu_tsc){
        .value = 1, .offset = UINT64_MAX, .khz = 3000000, .has_offset = 1};
    s->msr_count = VCPU_MSRS_MAX;
    for (uint32_t i = 0; i < s->msr_count; i++)
        s->msrs[i] = (struct kvm_msr_entry){.index = 2 * i, .data = i};
    s->xsave_size = VCPU_STATE_XSAVE_MAX;
    memset(s->xsave, 0x5a, sizeof(s->xsave));
    return s;
}

static size_t encode(const struct vcpu_state *s, uint8_t *bytes)
{
    struct bytes_writer w;

    bytes_writer_init(&w, bytes, VCPU_STATE_WIRE_MAX);
    vcpu_state_encode(s, &w);
    assert_false(w.failed);
    return w.pos;
}

static int decode(const uint8_t *bytes, size_t size, struct vcpu_state *s)
{
    struct bytes_reader r;
    struct err err;

    bytes_reader_init(&r, bytes, size);
    return vcpu_state_decode(&r, s, &err);
}

/* The fullest state there is fits, and comes back; each prefix is refused. */
static void test_round_trip_and_truncation(void **state)
{
    struct vcpu_state *s = make();
    struct vcpu_state *copy = make();
    uint8_t *bytes = malloc(VCPU_STATE_WIRE_MAX);
    size_t size;

    (void)state;
    assert_non_null(bytes);
    size = encode(s, bytes);
    assert_int_equal(decode(bytes, size, copy), 0);
    assert_memory_equal(s, copy, sizeof(*s));
    for (size_t n = 0; n < size; n += n < 64 ? 1 : 61)
        assert_int_equal(decode(bytes, n, copy), -EINVAL);
    bytes[size] = 0;
    assert_int_equal(decode(bytes, size + 1, copy), -EINVAL);
    free(bytes);
    free(copy);
    free(s);
}

/* Every subset of the parts. */
static void test_any_parts(void **state)
{
    struct vcpu_state *s = make();
    struct vcpu_state *copy = make();
    uint8_t *bytes = malloc(VCPU_STATE_WIRE_MAX);

    (void)state;
    assert_non_null(bytes);
    for (uint32_t parts = 0; parts <= VCPU_STATE_ALL; parts++) {
        s->parts = parts;
        assert_int_equal(decode(bytes, encode(s, bytes), copy), 0);
        assert_int_equal(copy->parts, parts);
        assert_int_equal(vcpu_state_diff(s, copy), 0);
    }
    free(bytes);
    free(copy);
    free(s);
}

static void put_u32(uint8_t *bytes, size_t at, uint32_t value)
{
    memcpy(bytes + at, &value, sizeof(value));
}

static void test_hostile_fields(void **state)
{
    struct vcpu_state *s = make();
    struct vcpu_state *copy = make();
    uint8_t *bytes = malloc(VCPU_STATE_WIRE_MAX);
    size_t size;

    (void)state;
    assert_non_null(bytes);
    s->parts = VCPU_STATE_MP;
    size = encode(s, bytes);
    put_u32(bytes, 0, UINT32_MAX);
    assert_int_equal(decode(bytes, size, copy), -EINVAL);
    put_u32(bytes, 0, 1);
    put_u32(bytes, 4, VCPU_STATE_MP | VCPU_STATE_TSC);
    assert_int_equal(decode(bytes, size, copy), -EINVAL);
    put_u32(bytes, 4, VCPU_STATE_TSC << 1);
    assert_int_equal(decode(bytes, size, copy), -EINVAL);
    put_u32(bytes, 4, 0);
    assert_int_equal(decode(bytes, size, copy), -EINVAL);
    put_u32(bytes, 4, VCPU_STATE_MP);
    put_u32(bytes, 8, UINT32_MAX);
    assert_int_equal(decode(bytes, size, copy), -EINVAL);

    s->parts = VCPU_STATE_XCRS;
    s->xcrs.nr_xcrs = KVM_MAX_XCRS + 1;
    assert_int_equal(decode(bytes, encode(s, bytes), copy), -EINVAL);
    s->parts = VCPU_STATE_DEBUG;
    s->debug.flags = 1;
    assert_int_equal(decode(bytes, encode(s, bytes), copy), -EINVAL);
    s->parts = VCPU_STATE_MSRS;
    s->msrs[1].index = s->msrs[0].index;
    assert_int_equal(decode(bytes, encode(s, bytes), copy), -EINVAL);
    s->msr_count = 1;
    s->msrs[0].index = UINT32_MAX;
    assert_int_equal(decode(bytes, encode(s, bytes), copy), 0);
    s->parts = VCPU_STATE_XSAVE;
    s->xsave_size = 575;
    assert_int_equal(decode(bytes, encode(s, bytes), copy), -EINVAL);
    s->xsave_size = 576;
    assert_int_equal(decode(bytes, encode(s, bytes), copy), 0);
    free(bytes);
    free(copy);
    free(s);
}

/* An hour under FOLLOW; none under FREEZE, on a host with another TSC. */
static void test_rebase_tsc(void **state)
{
    const struct kvm_features normal = {0};
    const struct kvm_features fixed = {.tsc_fixed = true};
    const uint64_t hour = UINT64_C(3600) * 1000000000;
    const struct vm_clock saved = {.guest_ns = 500, .host_tsc = 1000000};
    struct vm_clock now = {.guest_ns = 500 + hour, .host_tsc = 77};
    struct vcpu_state *s = make();

    (void)state;
    s->tsc = (struct vcpu_tsc){
        .value = 999000, .offset = -UINT64_C(1000), .khz = 2000000};
    vcpu_state_rebase_tsc(s, &saved, &now, &normal);
    assert_int_equal(now.host_tsc + s->tsc.offset, 999000 + 2 * hour);
    assert_int_equal(s->tsc.value, 999000 + 2 * hour);

    s->tsc.offset = -UINT64_C(1000);
    now.guest_ns = 500;
    vcpu_state_rebase_tsc(s, &saved, &now, &normal);
    assert_int_equal(now.host_tsc + s->tsc.offset, 999000);

    /* The clock was set back. */
    s->tsc.offset = -UINT64_C(1000);
    now.guest_ns = 0;
    vcpu_state_rebase_tsc(s, &saved, &now, &normal);
    assert_int_equal(now.host_tsc + s->tsc.offset, 999000 - 1000);

    /* Due in 5000 ticks, then as now; one that is not armed stays so. */
    now.guest_ns = 500;
    s->tsc.offset = 0;
    s->msr_count = 1;
    s->msrs[0] = (struct kvm_msr_entry){
        .index = VCPU_MSR_TSC_DEADLINE, .data = saved.host_tsc + 5000};
    vcpu_state_rebase_tsc(s, &saved, &now, &fixed);
    assert_int_equal(s->tsc.offset, 0);
    assert_int_equal(s->msrs[0].data, now.host_tsc + 5000);
    s->msrs[0].data = 0;
    vcpu_state_rebase_tsc(s, &saved, &now, &fixed);
    assert_int_equal(s->msrs[0].data, 0);
    free(s);
}

static void test_clock_round_trip(void **state)
{
    const struct vm_clock clock = {1, UINT64_MAX, 3};
    uint8_t bytes[VM_CLOCK_WIRE_SIZE + 1] = {0};
    struct vm_clock copy = {0};
    struct bytes_writer w;
    struct bytes_reader r;
    struct err err;

    (void)state;
    bytes_writer_init(&w, bytes, sizeof(bytes));
    vm_clock_encode(&clock, &w);
    assert_int_equal(w.pos, VM_CLOCK_WIRE_SIZE);
    bytes_reader_init(&r, bytes, VM_CLOCK_WIRE_SIZE);
    assert_int_equal(vm_clock_decode(&r, &copy, &err), 0);
    assert_memory_equal(&clock, &copy, sizeof(copy));
    bytes_reader_init(&r, bytes, VM_CLOCK_WIRE_SIZE - 1);
    assert_int_equal(vm_clock_decode(&r, &copy, &err), -EINVAL);
    bytes_reader_init(&r, bytes, VM_CLOCK_WIRE_SIZE + 1);
    assert_int_equal(vm_clock_decode(&r, &copy, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_and_truncation),
        cmocka_unit_test(test_any_parts),
        cmocka_unit_test(test_hostile_fields),
        cmocka_unit_test(test_rebase_tsc),
        cmocka_unit_test(test_clock_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
