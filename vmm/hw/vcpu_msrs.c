/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/vcpu_msrs.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* Intel SDM vol. 4; machine checks: vol. 3, 16.3. */
#define MSR_MCG_CAP      0x179u
#define MCG_CAP_BANKS    0xffu
#define MSR_MC0_CTL      0x400u
#define MC_BANK_MSRS     4u
#define MC_BANKS_MAX     32u
#define MSR_VMX_FIRST    0x480u
#define MSR_VMX_LAST     0x4ffu
#define MSR_HYPERV_FIRST 0x40000000u
#define MSR_HYPERV_LAST  0x400001ffu
#define MSR_KVM_WALL_OLD 0x11u
#define MSR_KVM_WALL_NEW 0x4b564d00u
#define LIST_MAX         1024u

/* MTRRs are missing from KVM's list. */
static const struct {
    uint32_t first;
    uint32_t last;
} unlisted[] = {
    {0x200, 0x20f},
    {0x250, 0x250},
    {0x258, 0x259},
    {0x268, 0x26f},
    {0x2ff, 0x2ff},
};

union msr_buffer {
    struct kvm_msrs msrs;
    uint8_t bytes[sizeof(struct kvm_msrs) +
                  VCPU_MSRS_MAX * sizeof(struct kvm_msr_entry)];
};

static bool is_state(uint32_t index)
{
    if (index >= MSR_VMX_FIRST && index <= MSR_VMX_LAST)
        return false;
    if (index >= MSR_HYPERV_FIRST && index <= MSR_HYPERV_LAST)
        return false;
    return index != VCPU_MSR_TSC && index != MSR_KVM_WALL_OLD &&
           index != MSR_KVM_WALL_NEW;
}

static int add(struct vcpu_msrs *msrs, uint32_t index, struct err *err)
{
    if (!is_state(index))
        return 0;
    if (msrs->count == VCPU_MSRS_MAX)
        return err_set(err, EFBIG,
            "this host's KVM has more than %u model-specific registers",
            VCPU_MSRS_MAX);
    msrs->index[msrs->count++] = index;
    return 0;
}

static int add_listed(
    struct vcpu_msrs *msrs, const struct kvm *kvm, struct err *err)
{
    struct kvm_msr_list *list =
        calloc(1, sizeof(*list) + LIST_MAX * sizeof(list->indices[0]));
    int rc = 0;

    if (list == NULL)
        return err_sys(err, ENOMEM, "MSR list");
    list->nmsrs = LIST_MAX;
    if (ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, list) < 0)
        rc = err_sys(err, errno, "KVM_GET_MSR_INDEX_LIST");
    for (uint32_t i = 0; rc == 0 && i < list->nmsrs; i++)
        rc = add(msrs, list->indices[i], err);
    free(list);
    return rc;
}

/* One register: its value, or 0 where there is none. */
static uint64_t read_one(int vcpu_fd, uint32_t index)
{
    union msr_buffer u;

    u.msrs = (struct kvm_msrs){.nmsrs = 1};
    u.msrs.entries[0] = (struct kvm_msr_entry){.index = index};
    return ioctl(vcpu_fd, KVM_GET_MSRS, &u.msrs) == 1 ? u.msrs.entries[0].data
                                                      : 0;
}

static int add_unlisted(struct vcpu_msrs *msrs, int vcpu_fd, struct err *err)
{
    uint32_t banks = (uint32_t)read_one(vcpu_fd, MSR_MCG_CAP) & MCG_CAP_BANKS;
    int rc = 0;

    if (banks > MC_BANKS_MAX)
        banks = MC_BANKS_MAX;
    for (size_t i = 0; i < ARRAY_SIZE(unlisted); i++) {
        for (uint32_t m = unlisted[i].first; m <= unlisted[i].last; m++) {
            rc = add(msrs, m, err);
            if (rc < 0)
                return rc;
        }
    }
    for (uint32_t i = 0; rc == 0 && i < banks * MC_BANK_MSRS; i++)
        rc = add(msrs, MSR_MC0_CTL + i, err);
    return rc;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void sort_unique(struct vcpu_msrs *msrs)
{
    uint32_t n = 0;

    qsort(msrs->index, msrs->count, sizeof(msrs->index[0]), compare);
    for (uint32_t i = 0; i < msrs->count; i++) {
        if (n == 0 || msrs->index[n - 1] != msrs->index[i])
            msrs->index[n++] = msrs->index[i];
    }
    msrs->count = n;
}

static void drop(struct vcpu_msrs *msrs, uint32_t at)
{
    msrs->count--;
    memmove(&msrs->index[at], &msrs->index[at + 1],
        (msrs->count - at) * sizeof(msrs->index[0]));
}

/* Runs `request` over the list from `at` on: how many it got through. */
static int run(int vcpu_fd, unsigned long request, const struct vcpu_msrs *msrs,
    uint32_t at, union msr_buffer *u)
{
    int rc;

    memset(&u->msrs, 0, sizeof(u->msrs));
    u->msrs.nmsrs = msrs->count - at;
    rc = ioctl(vcpu_fd, request, &u->msrs);
    return rc < 0 ? -errno : rc;
}

/* Drops what cannot be read, then what cannot be written as it was read. */
static int probe(
    struct vcpu_msrs *msrs, int vcpu_fd, union msr_buffer *u, struct err *err)
{
    struct kvm_msr_entry *e = u->msrs.entries;
    uint32_t at = 0;

    while (at < msrs->count) {
        int rc;

        for (uint32_t i = at; i < msrs->count; i++)
            e[i - at] = (struct kvm_msr_entry){.index = msrs->index[i]};
        rc = run(vcpu_fd, KVM_GET_MSRS, msrs, at, u);
        if (rc < 0)
            return err_sys(err, rc, "KVM_GET_MSRS");
        at += (uint32_t)rc;
        if (at < msrs->count)
            drop(msrs, at);
    }
    at = 0;
    while (at < msrs->count) {
        int rc;

        for (uint32_t i = at; i < msrs->count; i++)
            e[i - at] = (struct kvm_msr_entry){.index = msrs->index[i]};
        if (run(vcpu_fd, KVM_GET_MSRS, msrs, at, u) != (int)(msrs->count - at))
            return err_set(err, EIO, "KVM_GET_MSRS changes its mind");
        rc = run(vcpu_fd, KVM_SET_MSRS, msrs, at, u);
        if (rc < 0)
            return err_sys(err, rc, "KVM_SET_MSRS");
        at += (uint32_t)rc;
        if (at < msrs->count)
            drop(msrs, at);
    }
    return 0;
}

int vcpu_msrs_init(
    struct vcpu_msrs *msrs, const struct kvm *kvm, int vcpu_fd, struct err *err)
{
    union msr_buffer *u = calloc(1, sizeof(*u));
    int rc;

    if (u == NULL)
        return err_sys(err, ENOMEM, "MSR list");
    *msrs = (struct vcpu_msrs){0};
    rc = add_listed(msrs, kvm, err);
    if (rc == 0)
        rc = add_unlisted(msrs, vcpu_fd, err);
    if (rc == 0) {
        sort_unique(msrs);
        rc = probe(msrs, vcpu_fd, u, err);
    }
    free(u);
    return rc;
}

int vcpu_msrs_get(int vcpu_fd, const struct vcpu_msrs *msrs,
    struct kvm_msr_entry *ret_entries, struct err *err)
{
    union msr_buffer u;
    int rc;

    for (uint32_t i = 0; i < msrs->count; i++)
        u.msrs.entries[i] = (struct kvm_msr_entry){.index = msrs->index[i]};
    rc = run(vcpu_fd, KVM_GET_MSRS, msrs, 0, &u);
    if (rc < 0)
        return err_sys(err, rc, "KVM_GET_MSRS");
    if ((uint32_t)rc != msrs->count)
        return err_set(
            err, EIO, "KVM no longer returns MSR 0x%x", msrs->index[rc]);
    memcpy(ret_entries, u.msrs.entries, msrs->count * sizeof(*ret_entries));
    return 0;
}

int vcpu_msrs_set(int vcpu_fd, const struct kvm_msr_entry *entries,
    uint32_t count, struct err *err)
{
    union msr_buffer u;
    uint32_t at = 0;

    assert(count <= VCPU_MSRS_MAX);
    while (at < count) {
        int rc;

        memset(&u.msrs, 0, sizeof(u.msrs));
        u.msrs.nmsrs = count - at;
        memcpy(u.msrs.entries, entries + at, (count - at) * sizeof(*entries));
        rc = ioctl(vcpu_fd, KVM_SET_MSRS, &u.msrs);
        if (rc < 0)
            return err_sys(err, errno, "KVM_SET_MSRS");
        at += (uint32_t)rc;
        if (at == count)
            break;
        if (entries[at].data != 0)
            return err_set(err, EINVAL,
                "KVM does not take model-specific register 0x%x = 0x%llx",
                entries[at].index, (unsigned long long)entries[at].data);
        at++;
    }
    return 0;
}
