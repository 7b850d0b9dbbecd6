/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/nyx_aux.h"

#include "vmm/base/num.h"

/* Codes of QEMU-Nyx. */
static const uint8_t codes[FUZZ_VERDICTS] = {
    [FUZZ_OK] = 0,
    [FUZZ_CRASH] = 1,
    [FUZZ_HANG] = 3,
    [FUZZ_INPUT_WRITE] = 4,
    [FUZZ_ABORT] = 5,
    [FUZZ_SANITIZER] = 6,
};

void nyx_aux_init(struct nyx_aux_buffer *aux, size_t input_max, size_t map_size)
{
    aux->magic = NYX_AUX_MAGIC;
    aux->version = NYX_AUX_VERSION;
    aux->hash = NYX_AUX_HASH;
    aux->agent_trace_bitmap = 1;
    aux->agent_input_buffer_size = (uint32_t)input_max;
    aux->agent_coverage_bitmap_size = (uint32_t)map_size;
    aux->state = NYX_AUX_READY;
}

void nyx_aux_set(struct nyx_aux_buffer *aux, const struct fuzz_result *result)
{
    uint64_t us = result->run_ns / 1000;

    aux->exec_done = 1;
    aux->exec_result_code = codes[result->verdict];
    aux->reloaded = 1;
    aux->dirty_pages = result->pages;
    aux->runtime_sec = (uint32_t)num_min(us / 1000000, UINT32_MAX);
    aux->runtime_usec = (uint32_t)(us % 1000000);
    aux->text_size = 0;
}
