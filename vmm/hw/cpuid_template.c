/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/cpuid_template.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/num.h"
#include "vmm/hw/cpu_features.h"
#include "vmm/hw/cpuid_check.h"

/* From here on it is KVM that a guest sees, and not the processor. */
#define LEAF_HYPERVISOR 0x40000000u

#define LEAF_XSAVE       0xdu
#define XSAVE_FIRST_EXT  2u
#define XSAVE_LEGACY     576u /* FXSAVE's area and the header */
#define XSAVE_COMPONENTS 63u

/* What every processor of the last fifteen years has, or KVM brings. */
#define BASE                                                                   \
    "fpu,vme,de,pse,tsc,msr,pae,mce,cx8,apic,sep,mtrr,pge,mca,cmov,pat,pse36," \
    "clflush,mmx,fxsr,sse,sse2,ss,syscall,nx,lm,rdtscp,nonstop_tsc,x2apic,"    \
    "tsc_deadline_timer,arat,tsc_adjust,"
/* What a guest needs to know of to be safe from other programs in it. */
#define MITIGATIONS                                                            \
    "md_clear,spec_ctrl,intel_stibp,flush_l1d,arch_capabilities,ssbd,"         \
    "amd_ibpb,amd_ibrs,amd_stibp,amd_ssbd,virt_ssbd,xsaveerptr,"
#define V2 BASE MITIGATIONS "cx16,lahf_lm,popcnt,pni,sse4_1,sse4_2,ssse3"
#define V3                                                                     \
    V2 ",avx,avx2,bmi1,bmi2,f16c,fma,abm,movbe,xsave,xsaveopt,xsavec,xgetbv1"
#define V4 V3 ",avx512f,avx512bw,avx512cd,avx512dq,avx512vl"

static const struct level {
    const char *name;
    const char *keep;
    uint64_t xsave; /* components */
} levels[] = {
    {"x86-64-v2", V2, 0},
    {"x86-64-v3", V3, 0x7},
    {"x86-64-v4", V4, 0xe7},
};

static const struct level *find_level(const char *text)
{
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        if (strcmp(levels[i].name, text) == 0)
            return &levels[i];
    }
    return NULL;
}

bool cpuid_template_is_level(const char *text)
{
    return find_level(text) != NULL;
}

/* Whether the list, with commas between its words, has this one. */
static bool has_word(const char *list, const char *word, size_t len)
{
    while (*list != '\0') {
        size_t n = strcspn(list, ",");

        if (n == len && memcmp(list, word, len) == 0)
            return true;
        list += n;
        list += *list == ',';
    }
    return false;
}

static bool is_feature(const char *name, size_t len)
{
    for (size_t i = 0; i < cpu_feature_word_count * 32; i++) {
        if (cpu_feature_is(cpu_feature_words[i / 32].names[i % 32], name, len))
            return true;
    }
    return false;
}

int cpuid_template_check(const char *text, struct err *err)
{
    if (strnlen(text, CPUID_TEMPLATE_MAX + 1) > CPUID_TEMPLATE_MAX)
        return err_set(err, EINVAL, "longer than %u bytes", CPUID_TEMPLATE_MAX);
    if (find_level(text) != NULL)
        return 0;
    for (;;) {
        size_t len = strcspn(text, ",");

        if (!is_feature(text, len))
            return err_set(err, EINVAL,
                "'%.*s' is no CPU feature as /proc/cpuinfo has them, nor "
                "x86-64-v2, x86-64-v3 or x86-64-v4",
                (int)num_min(len, 64), text);
        text += len;
        if (*text == '\0')
            return 0;
        text++;
    }
}

/* The features of a word that the level does not have. */
static uint32_t hidden(
    const struct cpu_feature_word *word, uint32_t value, const char *keep)
{
    uint32_t hide = value & word->mask;

    for (uint32_t bit = 0; bit < 32; bit++) {
        const char *name = word->names[bit];

        if (name != NULL && has_word(keep, name, strlen(name)))
            hide &= ~(1u << bit);
    }
    return hide;
}

static int refuse(const struct cpu_feature_word *word, uint32_t hide,
    const struct level *level, struct err *err)
{
    const char *name = word->names[__builtin_ctz(hide)];

    return err_set(err, ENOTSUP,
        "CPU template %s: %s and others cannot be hidden: on this host guests "
        "see the CPU itself; use a host with VMX or SVM",
        level->name, name == NULL ? "a feature without a name" : name);
}

/* The state components that are left, and an area as large as they need. */
static void set_xsave(struct cpuid *cpuid, uint64_t components)
{
    struct kvm_cpuid_entry2 *head = cpuid_find(cpuid, LEAF_XSAVE, 0);
    uint32_t size = XSAVE_LEGACY;

    if (head == NULL)
        return;
    components &= head->eax | (uint64_t)head->edx << 32;
    for (uint32_t i = XSAVE_FIRST_EXT; i < XSAVE_COMPONENTS; i++) {
        struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, LEAF_XSAVE, i);

        if (e == NULL)
            continue;
        if ((components >> i & 1) != 0)
            size = (uint32_t)num_max(size, e->ebx + e->eax);
        else
            e->eax = e->ebx = e->ecx = e->edx = 0;
    }
    head->eax = (uint32_t)components;
    head->edx = (uint32_t)(components >> 32);
    head->ebx = components == 0 ? 0 : XSAVE_LEGACY;
    head->ecx = components == 0 ? 0 : size;
    head = cpuid_find(cpuid, LEAF_XSAVE, 1);
    if (head != NULL)
        head->ecx = head->edx = 0;
}

static int apply_level(struct cpuid *cpuid, const struct kvm_features *features,
    const struct level *level, struct err *err)
{
    for (size_t i = 0; i < cpu_feature_word_count; i++) {
        const struct cpu_feature_word *word = &cpu_feature_words[i];
        struct kvm_cpuid_entry2 *e =
            cpuid_find(cpuid, word->leaf, word->subleaf);
        uint32_t *reg;
        uint32_t hide;

        /* What KVM brings is for the version of KVM to keep. */
        if (e == NULL || word->leaf == (LEAF_HYPERVISOR | 1))
            continue;
        reg = cpu_reg_of(e, word->reg);
        hide = hidden(word, *reg, level->keep);
        if (hide != 0 && features->ring0_emulated &&
            word->leaf < LEAF_HYPERVISOR)
            return refuse(word, hide, level, err);
        *reg &= ~hide;
    }
    set_xsave(cpuid, level->xsave);
    return 0;
}

int cpuid_template_apply(struct cpuid *cpuid,
    const struct kvm_features *features, const char *text, struct err *err)
{
    const struct level *level = find_level(text);

    /* Against what guests would see, whatever KVM was told. */
    cpuid_see(cpuid, features);
    return level == NULL ? cpuid_mask(cpuid, features, text, err)
                         : apply_level(cpuid, features, level, err);
}
