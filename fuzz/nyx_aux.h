/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The aux buffer: what QEMU-Nyx tells of a run in memory of this layout
 * (nyx/auxiliary_buffer.h there, version 3), and tools read.
 */
#ifndef FUZZ_NYX_AUX_H
#define FUZZ_NYX_AUX_H

#include <stddef.h>
#include <stdint.h>

#include "fuzz/result.h"

struct __attribute__((packed)) nyx_aux_buffer {
    uint64_t magic;
    uint16_t version;
    uint16_t hash;
    uint8_t pad0[116];
    /* at 128: what the agent asks for */
    uint8_t redqueen;
    uint8_t agent_timeout_detection;
    uint8_t agent_trace_bitmap;
    uint8_t agent_ijon_trace_bitmap;
    uint32_t agent_input_buffer_size;
    uint32_t agent_coverage_bitmap_size;
    uint8_t pad1[244];
    /* at 384: what the fuzzer asks for */
    uint8_t config[512];
    /* at 896: what the last run came to */
    uint8_t state;
    uint8_t exec_done;
    uint8_t exec_result_code;
    uint8_t reloaded;
    uint8_t pt_overflow;
    uint8_t page_not_found;
    uint8_t tmp_snapshot_created;
    uint8_t pad2;
    uint64_t page_addr;
    uint32_t dirty_pages;
    uint32_t pt_trace_size;
    uint32_t bb_coverage;
    uint32_t runtime_usec;
    uint32_t runtime_sec;
    uint8_t pad3[476];
    /* at 1408 */
    uint16_t text_size;
    uint8_t text[];
};

_Static_assert(offsetof(struct nyx_aux_buffer, redqueen) == 128, "its place");
_Static_assert(offsetof(struct nyx_aux_buffer, config) == 384, "its place");
_Static_assert(offsetof(struct nyx_aux_buffer, state) == 896, "its place");
_Static_assert(offsetof(struct nyx_aux_buffer, text_size) == 1408, "its place");

#define NYX_AUX_MAGIC   UINT64_C(0x54502d554d4551)
#define NYX_AUX_VERSION 3u
#define NYX_AUX_HASH    84u
#define NYX_AUX_READY   3u /* state: runs are being made */

/* A buffer of zeroes becomes one for a target with such a map. */
void nyx_aux_init(
    struct nyx_aux_buffer *aux, size_t input_max, size_t map_size);

/* After a run; the text is the caller's to add. */
void nyx_aux_set(struct nyx_aux_buffer *aux, const struct fuzz_result *result);

#endif
