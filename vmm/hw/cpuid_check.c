/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/cpuid_check.h"

#include <cpuid.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/hw/cpu_features.h"

#define ENTRY_WIRE_SIZE 28u
#define FLAGS_KNOWN                                                            \
    ((uint32_t)KVM_CPUID_FLAG_SIGNIFCANT_INDEX |                               \
        (uint32_t)KVM_CPUID_FLAG_STATEFUL_FUNC |                               \
        (uint32_t)KVM_CPUID_FLAG_STATE_READ_NEXT)

/* From here on KVM decides what a guest sees, on every host. */
#define LEAF_HYPERVISOR 0x40000000u

#define LEAF_XSAVE       0xdu
#define LEAF_WIDTHS      0x80000008u
#define XSAVE_FIRST_EXT  2u /* x87 and SSE have no subleaf */
#define XSAVE_COMPONENTS 63u

/* Room for names in an error's text. */
#define NAMES_MAX 200u

void cpuid_encode(const struct cpuid *cpuid, struct bytes_writer *w)
{
    bytes_put_u32(w, cpuid->table->nent);
    for (uint32_t i = 0; i < cpuid->table->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &cpuid->table->entries[i];

        bytes_put_u32(w, e->function);
        bytes_put_u32(w, e->index);
        bytes_put_u32(w, e->flags);
        bytes_put_u32(w, e->eax);
        bytes_put_u32(w, e->ebx);
        bytes_put_u32(w, e->ecx);
        bytes_put_u32(w, e->edx);
    }
}

static int decode_entries(
    struct bytes_reader *r, uint32_t count, struct cpuid *cpuid)
{
    for (uint32_t i = 0; i < count; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid->table->entries[i];
        uint32_t leaf = bytes_get_u32(r);
        uint32_t subleaf = bytes_get_u32(r);

        if (cpuid_find(cpuid, leaf, subleaf) != NULL)
            return -EINVAL;
        e->function = leaf;
        e->index = subleaf;
        e->flags = bytes_get_u32(r);
        e->eax = bytes_get_u32(r);
        e->ebx = bytes_get_u32(r);
        e->ecx = bytes_get_u32(r);
        e->edx = bytes_get_u32(r);
        if ((e->flags & ~FLAGS_KNOWN) != 0)
            return -EINVAL;
        cpuid->table->nent = i + 1;
    }
    return 0;
}

int cpuid_decode(
    struct bytes_reader *r, struct cpuid *ret_cpuid, struct err *err)
{
    uint32_t count = bytes_get_u32(r);
    struct cpuid cpuid;

    if (r->failed || count > CPUID_ENTRIES_MAX ||
        bytes_left(r) != (size_t)count * ENTRY_WIRE_SIZE)
        return err_set(err, EINVAL, "the CPUID table's length is wrong");
    cpuid.table =
        calloc(1, sizeof(struct kvm_cpuid2) +
                      CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
    if (cpuid.table == NULL)
        return err_sys(err, ENOMEM, "CPUID table");
    if (decode_entries(r, count, &cpuid) < 0) {
        cpuid_fini(&cpuid);
        return err_set(err, EINVAL,
            "the CPUID table has an entry twice or flags that are not known");
    }
    *ret_cpuid = cpuid;
    return 0;
}

/* What the hardware says where KVM's table has no say. */
void cpuid_see(struct cpuid *cpuid, const struct kvm_features *features)
{
    if (!features->ring0_emulated)
        return;
    for (uint32_t i = 0; i < cpuid->table->nent; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid->table->entries[i];

        if (e->function < LEAF_HYPERVISOR)
            __cpuid_count(
                e->function, e->index, e->eax, e->ebx, e->ecx, e->edx);
    }
}

static uint32_t entry_reg(const struct kvm_cpuid_entry2 *e, enum cpu_reg reg)
{
    if (e == NULL)
        return 0;
    switch (reg) {
    case CPU_EAX:
        return e->eax;
    case CPU_EBX:
        return e->ebx;
    case CPU_ECX:
        return e->ecx;
    case CPU_EDX:
    default:
        return e->edx;
    }
}

static const struct kvm_cpuid_entry2 *entry_of(
    const struct cpuid *cpuid, uint32_t leaf, uint32_t subleaf)
{
    struct cpuid borrowed = {.table = cpuid->table};

    return cpuid_find(&borrowed, leaf, subleaf);
}

static uint32_t value_of(const struct cpuid *cpuid, uint32_t leaf,
    uint32_t subleaf, enum cpu_reg reg)
{
    return entry_reg(entry_of(cpuid, leaf, subleaf), reg);
}

/* A list of names that ends with how many did not fit. */
struct names {
    char text[NAMES_MAX];
    size_t len;
    unsigned int left_out;
};

static void add_name(struct names *names, const char *name)
{
    size_t room = sizeof(names->text) - names->len;
    int n = snprintf(names->text + names->len, room, "%s%s",
        names->len == 0 ? "" : ", ", name);

    if (n < 0 || (size_t)n >= room) {
        names->text[names->len] = '\0';
        names->left_out++;
        return;
    }
    names->len += (size_t)n;
}

static void add_missing(
    struct names *names, const struct cpu_feature_word *word, uint32_t missing)
{
    for (uint32_t bit = 0; bit < 32; bit++) {
        char text[40];
        const char *name = word->names[bit];

        if ((missing >> bit & 1) == 0)
            continue;
        if (name == NULL) {
            (void)snprintf(text, sizeof(text), "cpuid 0x%x.%u %s bit %u",
                word->leaf, word->subleaf, cpu_reg_name(word->reg), bit);
            name = text;
        }
        add_name(names, name);
    }
}

static int check_features(
    const struct cpuid *saved, const struct cpuid *host, struct err *err)
{
    struct names names = {0};
    char more[40] = "";

    for (size_t i = 0; i < cpu_feature_word_count; i++) {
        const struct cpu_feature_word *word = &cpu_feature_words[i];
        uint32_t want = value_of(saved, word->leaf, word->subleaf, word->reg);
        uint32_t have = value_of(host, word->leaf, word->subleaf, word->reg);

        add_missing(&names, word, want & ~have & word->mask);
    }
    if (names.len == 0)
        return 0;
    if (names.left_out > 0)
        (void)snprintf(more, sizeof(more), " and %u more", names.left_out);
    return err_set(err, ENOTSUP,
        "this host's CPU lacks what the snapshot's guest uses: %s%s; restore "
        "it on a host that has them",
        names.text, more);
}

static int check_vendor(
    const struct cpuid *saved, const struct cpuid *host, struct err *err)
{
    const enum cpu_reg order[] = {CPU_EBX, CPU_EDX, CPU_ECX};
    char text[2][13] = {"", ""};

    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        uint32_t want = value_of(saved, 0, 0, order[i]);
        uint32_t have = value_of(host, 0, 0, order[i]);

        memcpy(text[0] + 4 * i, &want, sizeof(want));
        memcpy(text[1] + 4 * i, &have, sizeof(have));
    }
    if (memcmp(text[0], text[1], sizeof(text[0])) == 0)
        return 0;
    for (size_t i = 0; i < sizeof(text[0]) - 1; i++) {
        if (text[0][i] < ' ' || text[0][i] > '~')
            text[0][i] = '?';
    }
    return err_set(err, ENOTSUP,
        "the snapshot is from a CPU by %s, this host's is by %s", text[0],
        text[1]);
}

/* Where the guest's code expects parts of an XSAVE area. */
static int check_xsave(
    const struct cpuid *saved, const struct cpuid *host, struct err *err)
{
    uint64_t want = value_of(saved, LEAF_XSAVE, 0, CPU_EAX) |
                    (uint64_t)value_of(saved, LEAF_XSAVE, 0, CPU_EDX) << 32;
    uint64_t have = value_of(host, LEAF_XSAVE, 0, CPU_EAX) |
                    (uint64_t)value_of(host, LEAF_XSAVE, 0, CPU_EDX) << 32;

    for (uint32_t i = 0; i < XSAVE_COMPONENTS; i++) {
        const struct kvm_cpuid_entry2 *a = entry_of(saved, LEAF_XSAVE, i);
        const struct kvm_cpuid_entry2 *b = entry_of(host, LEAF_XSAVE, i);

        if ((want >> i & 1) == 0)
            continue;
        if ((have >> i & 1) == 0)
            return err_set(err, ENOTSUP,
                "this host's CPU lacks XSAVE component %u, which the "
                "snapshot's guest uses",
                i);
        if (i >= XSAVE_FIRST_EXT &&
            (entry_reg(a, CPU_EAX) != entry_reg(b, CPU_EAX) ||
                entry_reg(a, CPU_EBX) != entry_reg(b, CPU_EBX)))
            return err_set(err, ENOTSUP,
                "XSAVE component %u lies elsewhere on this host's CPU than on "
                "the snapshot's",
                i);
    }
    return 0;
}

static int check_widths(
    const struct cpuid *saved, const struct cpuid *host, struct err *err)
{
    uint32_t want = value_of(saved, LEAF_WIDTHS, 0, CPU_EAX);
    uint32_t have = value_of(host, LEAF_WIDTHS, 0, CPU_EAX);

    if ((want & 0xff) <= (have & 0xff) &&
        (want >> 8 & 0xff) <= (have >> 8 & 0xff))
        return 0;
    return err_set(err, ENOTSUP,
        "the snapshot's guest has addresses of %u physical and %u virtual "
        "bits, this host's CPU %u and %u",
        want & 0xff, want >> 8 & 0xff, have & 0xff, have >> 8 & 0xff);
}

int cpuid_check(
    const struct cpuid *saved, const struct cpuid *host, struct err *err)
{
    int rc = check_vendor(saved, host, err);

    if (rc == 0)
        rc = check_features(saved, host, err);
    if (rc == 0)
        rc = check_xsave(saved, host, err);
    if (rc == 0)
        rc = check_widths(saved, host, err);
    return rc;
}

/* Hides one feature wherever it shows. */
static int mask_one(struct cpuid *cpuid, const struct kvm_features *features,
    const char *text, size_t len, struct err *err)
{
    bool is_known = false;

    for (size_t i = 0; i < cpu_feature_word_count * 32; i++) {
        const struct cpu_feature_word *word = &cpu_feature_words[i / 32];
        struct kvm_cpuid_entry2 *e;
        uint32_t *reg;

        if (!cpu_feature_is(word->names[i % 32], text, len))
            continue;
        is_known = true;
        e = cpuid_find(cpuid, word->leaf, word->subleaf);
        if (e == NULL)
            continue;
        reg = cpu_reg_of(e, word->reg);
        if ((*reg >> (i % 32) & 1) == 0)
            continue;
        if (features->ring0_emulated && word->leaf < LEAF_HYPERVISOR)
            return err_set(err, ENOTSUP,
                "CPU feature %.*s cannot be hidden: on this host guests see "
                "the CPU itself; use a host with VMX or SVM",
                (int)len, text);
        *reg &= ~(1u << (i % 32));
    }
    if (!is_known)
        return err_set(err, EINVAL,
            "CPU feature \"%.*s\" is not known: names are those of "
            "/proc/cpuinfo",
            (int)num_min(len, 64), text);
    return 0;
}

int cpuid_mask(struct cpuid *cpuid, const struct kvm_features *features,
    const char *names, struct err *err)
{
    while (*names != '\0') {
        size_t len = strcspn(names, ",");
        int rc = len == 0 ? 0 : mask_one(cpuid, features, names, len, err);

        if (rc < 0)
            return rc;
        names += len;
        names += *names == ',';
    }
    return 0;
}
