/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which bits of CPUID are features, and their names as in /proc/cpuinfo.
 *
 * Thread rule: constant tables.
 */
#ifndef VMM_HW_CPU_FEATURES_H
#define VMM_HW_CPU_FEATURES_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cpu_reg { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX };

/* A register of CPUID of which the bits in `mask` are features. */
struct cpu_feature_word {
    uint32_t leaf;
    uint32_t subleaf;
    enum cpu_reg reg;
    uint32_t mask;
    const char *names[32]; /* by bit; NULL: one without a name */
};

extern const struct cpu_feature_word cpu_feature_words[];
extern const size_t cpu_feature_word_count;

/* "eax" and so on. */
const char *cpu_reg_name(enum cpu_reg reg);

uint32_t *cpu_reg_of(struct kvm_cpuid_entry2 *entry, enum cpu_reg reg);

/* Whether a name of the table, or NULL, is these `len` bytes. */
bool cpu_feature_is(const char *name, const char *text, size_t len);

#endif
