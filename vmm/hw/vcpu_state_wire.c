/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu_state_wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/num.h"

#define MSR_WIRE_SIZE  16u
#define TSC_WIRE_SIZE  24u
#define XSAVE_SIZE_MIN 576u /* the legacy area and the header */

/* Structures that are written as they are. */
struct fixed_part {
    uint32_t part;
    uint32_t size;
    size_t offset;
};

#define FIXED(bit, member)                                                     \
    {                                                                          \
        .part = (bit), .size = sizeof(((struct vcpu_state *)0)->member),       \
        .offset = offsetof(struct vcpu_state, member)                          \
    }

static const struct fixed_part fixed_parts[] = {
    FIXED(VCPU_STATE_REGS, regs),
    FIXED(VCPU_STATE_SREGS, sregs),
    FIXED(VCPU_STATE_EVENTS, events),
    FIXED(VCPU_STATE_XCRS, xcrs),
    FIXED(VCPU_STATE_DEBUG, debug),
    FIXED(VCPU_STATE_LAPIC, lapic),
    FIXED(VCPU_STATE_MP, mp_state),
};

_Static_assert(
    sizeof(struct kvm_regs) == 144 && sizeof(struct kvm_sregs2) == 320 &&
        sizeof(struct kvm_vcpu_events) == 64 &&
        sizeof(struct kvm_xcrs) == 392 && sizeof(struct kvm_debugregs) == 128 &&
        sizeof(struct kvm_lapic_state) == 1024,
    "the sizes on the wire never change");

static const struct fixed_part *find_fixed(uint32_t part)
{
    for (size_t i = 0; i < ARRAY_SIZE(fixed_parts); i++) {
        if (fixed_parts[i].part == part)
            return &fixed_parts[i];
    }
    return NULL;
}

static void encode_part(
    const struct vcpu_state *state, uint32_t part, struct bytes_writer *w)
{
    const struct fixed_part *fixed = find_fixed(part);

    bytes_put_u32(w, part);
    if (fixed != NULL) {
        bytes_put_u32(w, fixed->size);
        bytes_put(w, (const uint8_t *)state + fixed->offset, fixed->size);
        return;
    }
    switch (part) {
    case VCPU_STATE_XSAVE:
        bytes_put_u32(w, state->xsave_size);
        bytes_put(w, state->xsave, state->xsave_size);
        break;
    case VCPU_STATE_MSRS:
        bytes_put_u32(w, state->msr_count * MSR_WIRE_SIZE);
        for (uint32_t i = 0; i < state->msr_count; i++) {
            bytes_put_u32(w, state->msrs[i].index);
            bytes_put_u32(w, 0);
            bytes_put_u64(w, state->msrs[i].data);
        }
        break;
    default:
        assert(part == VCPU_STATE_TSC);
        bytes_put_u32(w, TSC_WIRE_SIZE);
        bytes_put_u64(w, state->tsc.value);
        bytes_put_u64(w, state->tsc.offset);
        bytes_put_u32(w, state->tsc.khz);
        bytes_put_u32(w, state->tsc.has_offset);
        break;
    }
}

void vcpu_state_encode(const struct vcpu_state *state, struct bytes_writer *w)
{
    assert((state->parts & ~VCPU_STATE_ALL) == 0);
    bytes_put_u32(w, (uint32_t)__builtin_popcount(state->parts));
    for (uint32_t part = 1; part < VCPU_STATE_ALL; part <<= 1) {
        if ((state->parts & part) != 0)
            encode_part(state, part, w);
    }
}

static int bad(struct err *err, uint32_t part, const char *what)
{
    return err_set(
        err, EINVAL, "vCPU state, %s: %s", vcpu_state_part_name(part), what);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

/* What KVM itself overlooks or would read beyond. */
static int check_fixed(
    const struct vcpu_state *state, uint32_t part, struct err *err)
{
    switch (part) {
    case VCPU_STATE_XCRS:
        if (state->xcrs.nr_xcrs > KVM_MAX_XCRS || state->xcrs.flags != 0 ||
            !is_zero((const uint8_t *)state->xcrs.padding,
                sizeof(state->xcrs.padding)))
            return bad(err, part, "more of them than there can be");
        break;
    case VCPU_STATE_DEBUG:
        if (state->debug.flags != 0 ||
            !is_zero((const uint8_t *)state->debug.reserved,
                sizeof(state->debug.reserved)))
            return bad(err, part, "reserved fields are set");
        break;
    default:
        break;
    }
    return 0;
}

static int decode_msrs(struct bytes_reader *r, uint32_t len,
    struct vcpu_state *state, struct err *err)
{
    uint32_t count = len / MSR_WIRE_SIZE;

    if (len % MSR_WIRE_SIZE != 0 || count > VCPU_MSRS_MAX)
        return bad(err, VCPU_STATE_MSRS, "a length that cannot be");
    for (uint32_t i = 0; i < count; i++) {
        struct kvm_msr_entry *e = &state->msrs[i];

        e->index = bytes_get_u32(r);
        e->reserved = bytes_get_u32(r);
        e->data = bytes_get_u64(r);
        if (e->reserved != 0)
            return bad(err, VCPU_STATE_MSRS, "reserved fields are set");
        if (i > 0 && e->index <= e[-1].index)
            return bad(err, VCPU_STATE_MSRS, "indices do not ascend");
    }
    state->msr_count = count;
    return 0;
}

static int decode_part(struct bytes_reader *r, uint32_t part, uint32_t len,
    struct vcpu_state *state, struct err *err)
{
    const struct fixed_part *fixed = find_fixed(part);

    if (fixed != NULL) {
        if (len != fixed->size)
            return bad(err, part, "a length that cannot be");
        bytes_get(r, (uint8_t *)state + fixed->offset, fixed->size);
        return check_fixed(state, part, err);
    }
    switch (part) {
    case VCPU_STATE_XSAVE:
        if (len < XSAVE_SIZE_MIN || len > VCPU_STATE_XSAVE_MAX)
            return bad(err, part, "a length that cannot be");
        bytes_get(r, state->xsave, len);
        state->xsave_size = len;
        return 0;
    case VCPU_STATE_MSRS:
        return decode_msrs(r, len, state, err);
    default:
        assert(part == VCPU_STATE_TSC);
        if (len != TSC_WIRE_SIZE)
            return bad(err, part, "a length that cannot be");
        state->tsc.value = bytes_get_u64(r);
        state->tsc.offset = bytes_get_u64(r);
        state->tsc.khz = bytes_get_u32(r);
        state->tsc.has_offset = bytes_get_u32(r);
        if (state->tsc.has_offset > 1)
            return bad(err, part, "reserved fields are set");
        return 0;
    }
}

int vcpu_state_decode(
    struct bytes_reader *r, struct vcpu_state *state, struct err *err)
{
    uint32_t count = bytes_get_u32(r);

    memset(state, 0, sizeof(*state));
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        uint32_t part = bytes_get_u32(r);
        uint32_t len = bytes_get_u32(r);
        int rc;

        if (r->failed || len > bytes_left(r))
            break;
        if (!num_is_pow2(part) || part > VCPU_STATE_ALL)
            return err_set(err, EINVAL,
                "vCPU state: part 0x%x is not known to this version", part);
        if (state->parts >= part)
            return bad(err, part, "out of order");
        rc = decode_part(r, part, len, state, err);
        if (rc < 0)
            return rc;
        state->parts |= part;
    }
    if (r->failed || bytes_left(r) != 0 ||
        (uint32_t)__builtin_popcount(state->parts) != count)
        return err_set(err, EINVAL, "vCPU state: its length is wrong");
    return 0;
}
