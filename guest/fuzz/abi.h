/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a fuzzing agent inside the guest and the executor outside say to each
 * other. It is Nyx's guest ABI over an I/O port, so that agents written for
 * Nyx run as they are, and some calls of our own above it.
 *
 * A call is `outl %eax, %dx` with
 *
 *     dx  FUZZ_ABI_PORT      eax  FUZZ_ABI_MAGIC
 *     rbx number of the call rcx  its argument; the result comes in rax
 *
 * legal in ring 3 once the process (or one that it descends from) has asked
 * for the port with ioperm(2). Addresses are virtual ones of the caller; what
 * they point at has to be present (mlock), or the call fails.
 *
 * All values are little endian. The executor takes every one of them as
 * hostile.
 */
#ifndef GUEST_FUZZ_ABI_H
#define GUEST_FUZZ_ABI_H

#include <stdint.h>

#define FUZZ_ABI_PORT  0x5658u
#define FUZZ_ABI_MAGIC 0x8080801fu

enum fuzz_abi_call {
    /* Nyx's. */
    FUZZ_ABI_ACQUIRE = 0,     /* a run begins here: the root, if none yet */
    FUZZ_ABI_GET_PAYLOAD = 1, /* rcx: where struct fuzz_abi_payload goes */
    FUZZ_ABI_RELEASE = 4,     /* the run ends, nothing wrong */
    FUZZ_ABI_SUBMIT_CR3 = 5,
    FUZZ_ABI_SUBMIT_PANIC = 6, /* rcx: a function that means a crash */
    FUZZ_ABI_SUBMIT_KASAN = 7,
    FUZZ_ABI_PANIC = 8, /* the run ends with a crash; rcx as Nyx has it */
    FUZZ_ABI_KASAN = 9,
    FUZZ_ABI_LOCK = 10,
    FUZZ_ABI_NEXT_PAYLOAD = 12, /* the root is here */
    FUZZ_ABI_PRINTF = 13,       /* rcx: a string */
    FUZZ_ABI_USER_RANGE_ADVISE = 16,
    FUZZ_ABI_USER_SUBMIT_MODE = 17,
    FUZZ_ABI_USER_FAST_ACQUIRE = 18, /* NEXT_PAYLOAD and ACQUIRE */
    FUZZ_ABI_USER_ABORT = 20,        /* rcx: why the agent cannot go on */
    FUZZ_ABI_RANGE_SUBMIT = 29,
    FUZZ_ABI_REQ_STREAM_DATA = 30, /* rcx: 4 KiB, a name; then the bytes */
    FUZZ_ABI_PANIC_EXTENDED = 32,  /* PANIC; rcx: a string that says why */
    FUZZ_ABI_CREATE_TMP_SNAPSHOT = 33,
    FUZZ_ABI_DEBUG_TMP_SNAPSHOT = 34,
    FUZZ_ABI_GET_HOST_CONFIG = 35,  /* rcx: struct fuzz_abi_host_config */
    FUZZ_ABI_SET_AGENT_CONFIG = 36, /* rcx: struct fuzz_abi_agent_config */
    FUZZ_ABI_DUMP_FILE = 37,        /* rcx: struct fuzz_abi_dump_file */
    FUZZ_ABI_REQ_STREAM_DATA_BULK = 38,
    FUZZ_ABI_PERSIST_PAGE = 39, /* rcx: a page that no reset puts back */

    /* Ours. */
    FUZZ_ABI_HELLO = 0x53500001, /* rcx: struct fuzz_abi_hello; rax 0 or 1 */
    FUZZ_ABI_ROOT = 0x53500002,  /* see below */
    /* rcx: struct fuzz_abi_text: more text. The first one in a run says that
     * there is a report to come, if of 0 bytes: should the time be up before
     * it is complete, the run was a crash and no hang. */
    FUZZ_ABI_REPORT = 0x53500003,
    FUZZ_ABI_DONE = 0x53500004,  /* the run ends; rcx: as wait(2) has it */
    FUZZ_ABI_LEVEL = 0x53500005, /* a snapshot may be taken here, rcx: of
                                    how much of the input was used, bytes */
};

/* ---- ours ---------------------------------------------------------------- */

#define FUZZ_ABI_HELLO_MAGIC   0x46525053u /* "SPRF" */
#define FUZZ_ABI_HELLO_VERSION 1u

/* After ROOT the agent itself gives the FPU and vector registers one state. */
#define FUZZ_ABI_RESTORES_FPU (1u << 0)

#define FUZZ_ABI_INPUT_MAX (1u << 20) /* bytes that an input can have */
#define FUZZ_ABI_MAP_MAX   (8u << 20)
#define FUZZ_ABI_WARM_MAX  4096u

/*
 * What the agent has, each in pages of its own that are mlocked. The executor
 * keeps them from resets: the map is zero and the input in place whenever a
 * run begins. A size of 0: there is none.
 */
struct fuzz_abi_hello {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t reserved;
    uint64_t map; /* the coverage map, page-aligned */
    uint64_t map_size;
    uint64_t input_size;     /* address of a uint32_t: bytes of the input */
    uint64_t input;          /* its bytes, page-aligned */
    uint64_t input_capacity; /* bytes, of whole pages */
    uint64_t cmp_map;        /* AFL++'s struct cmp_map, page-aligned */
    uint64_t cmp_map_size;
    uint64_t warm; /* room for FUZZ_ABI_WARM_MAX uint64_t, page-aligned */
};

/*
 * ROOT: the point that every run begins at, just behind the call. While rax
 * comes back as a number n > 0, no run begins: the first n entries at `warm`
 * are addresses of pages that runs have needed, bit 0 set if they were written
 * to; the agent has the kernel make them present (madvise, MADV_POPULATE_*)
 * and calls ROOT again. With 0 a run has begun.
 */

struct fuzz_abi_text {
    uint64_t at;
    uint64_t size; /* bytes; of any bytes */
};

/* ---- Nyx's --------------------------------------------------------------- */

#define FUZZ_ABI_HOST_MAGIC    0x4878794eu
#define FUZZ_ABI_HOST_VERSION  2u
#define FUZZ_ABI_AGENT_MAGIC   0x4178794eu
#define FUZZ_ABI_AGENT_VERSION 1u

#define FUZZ_ABI_STREAM_BYTES  4096u
#define FUZZ_ABI_STREAM_FAILED UINT64_MAX

/* In rcx of PANIC: signal and address of a crash in ring 3. */
#define FUZZ_ABI_PANIC_USER         (UINT64_C(1) << 63)
#define FUZZ_ABI_PANIC_SIGNAL_SHIFT 47
#define FUZZ_ABI_PANIC_SIGNAL_MASK  UINT64_C(0xf)
#define FUZZ_ABI_PANIC_RIP_MASK     UINT64_C(0x7fffffffffff)

struct fuzz_abi_payload {
    int32_t size;
    uint8_t data[];
};

struct __attribute__((packed)) fuzz_abi_host_config {
    uint32_t magic;
    uint32_t version;
    uint32_t bitmap_size;
    uint32_t ijon_bitmap_size;
    uint32_t payload_buffer_size;
    uint32_t worker_id;
};

struct __attribute__((packed)) fuzz_abi_agent_config {
    uint32_t magic;
    uint32_t version;
    uint8_t agent_timeout_detection;
    uint8_t agent_tracing;
    uint8_t agent_ijon_tracing;
    uint8_t agent_non_reload_mode;
    uint64_t trace_buffer_vaddr;
    uint64_t ijon_trace_buffer_vaddr;
    uint32_t coverage_bitmap_size;
    uint32_t input_buffer_size;
    uint8_t dump_payloads;
};

struct __attribute__((packed)) fuzz_abi_dump_file {
    uint64_t file_name_str_ptr;
    uint64_t data_ptr;
    uint64_t bytes;
    uint8_t append;
};

struct fuzz_abi_ranges {
    uint64_t ip[4];
    uint64_t size[4];
    uint8_t enabled[4];
};

#define FUZZ_ABI_BULK_MAX 479u

struct fuzz_abi_bulk {
    char file_name[256];
    uint64_t num_addresses;
    uint64_t addresses[FUZZ_ABI_BULK_MAX];
};

#endif
