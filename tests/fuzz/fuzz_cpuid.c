/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/hw/cpuid_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A host may stand in for itself, and what is accepted is written the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct kvm_features features = {0};
    uint8_t *again = malloc(size + 1);
    struct cpuid cpuid;
    struct bytes_reader r;
    struct bytes_writer w;
    struct err err;

    if (again == NULL)
        return 0;
    bytes_reader_init(&r, data, size);
    if (cpuid_decode(&r, &cpuid, &err) == 0) {
        bytes_writer_init(&w, again, size + 1);
        cpuid_encode(&cpuid, &w);
        if (w.failed || w.pos != size || memcmp(again, data, size) != 0)
            abort();
        if (cpuid_check(&cpuid, &cpuid, &err) != 0)
            abort();
        if (cpuid_mask(&cpuid, &features, "avx2,,fpu,kvmclock", &err) != 0)
            abort();
        cpuid_see(&cpuid, &features);
        cpuid_fini(&cpuid);
    }
    free(again);
    return 0;
}
