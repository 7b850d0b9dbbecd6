/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/hw/vcpu_state_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* There is one way to write a state: what is accepted is written the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vcpu_state *state = malloc(sizeof(*state));
    uint8_t *again = malloc(size + 1);
    struct bytes_reader r;
    struct bytes_writer w;
    struct err err;

    bytes_reader_init(&r, data, size);
    if (state != NULL && again != NULL &&
        vcpu_state_decode(&r, state, &err) == 0) {
        if (state->msr_count > VCPU_MSRS_MAX ||
            state->xsave_size > VCPU_STATE_XSAVE_MAX)
            abort();
        if (vcpu_state_diff(state, state) != 0)
            abort();
        bytes_writer_init(&w, again, size + 1);
        vcpu_state_encode(state, &w);
        if (w.failed || w.pos != size || memcmp(again, data, size) != 0)
            abort();
    }
    free(again);
    free(state);
    return 0;
}
