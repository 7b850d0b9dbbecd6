/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine around a bare guest (tests/guests), with what an owner gives one:
 * loop, console, timings. The guests are found in the folder that the
 * environment variable SPORE_GUESTS names.
 *
 * Thread rule: one thread, which also runs the loop. What cannot be set up is
 * a failed test (cmocka's assertions), and so is a hang. On the heap, because
 * a failed test leaves its function with the vCPUs still running.
 */
#ifndef TESTS_KVM_SUPPORT_BARE_H
#define TESTS_KVM_SUPPORT_BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/page_client.h"
#include "snapshot/snap.h"
#include "vmm/machine.h"

/* Where guests leave what is read from outside: MAILBOX in pvh.h. */
#define BARE_MAILBOX UINT64_C(0x40000)

struct bare_options {
    const char *guest;   /* "hello" */
    uint32_t vcpus;      /* 0: 1 */
    uint64_t mem_bytes;  /* 0: 16 MiB */
    const char *cmdline; /* NULL: empty */
    enum machine_tracking tracking;
};

struct bare {
    struct config config;
    struct kvm kvm;
    struct loop loop;
    struct console console;
    struct timings timings;
    struct machine machine;
    enum machine_tracking tracking;
    bool is_shell;
    const struct machine_origin *origin; /* borrowed; NULL: it boots */
    unsigned int ends;                   /* calls of on_end */
    struct machine_end end;
};

/*
 * What main() returns at once unless it is 0: skip_all's if /dev/kvm cannot be
 * opened.
 */
int bare_need_kvm(void);

/* Everything but the machine; for what machine_init itself is to show. */
struct bare *bare_prepare(const struct bare_options *options);

/* machine_init on what was prepared; its result. */
CC_MUST_CHECK int bare_build(struct bare *b, struct err *err);

/* Both; the machine is not started. */
struct bare *bare_new(const struct bare_options *options);
void bare_free(struct bare *b);

/* A machine out of a snapshot of one; not started. */
struct bare *bare_restore(struct snap *snap, enum machine_tracking tracking);

/* The same with memory from a page server, which outlives it. */
struct bare *bare_restore_paged(struct snap *snap, struct page_client *pages);

/* One made ahead for machine_fill, its memory mapped already or not. */
struct bare *bare_shell(struct snap *snap, bool is_mapped);

void bare_start(struct bare *b);

/* Runs the loop until the machine has ended. */
void bare_wait_end(struct bare *b);

/* A 32-bit number in guest memory. */
uint32_t bare_peek(const struct bare *b, uint64_t address);

/* Waits until that number is another than `old`. */
void bare_wait_change(const struct bare *b, uint64_t address, uint32_t old);

/* Open descriptors of this process. */
unsigned int bare_count_fds(void);

#endif
