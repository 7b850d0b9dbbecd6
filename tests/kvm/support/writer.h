/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bare guest that writes to pseudo-random pages for ever (writer.S), and
 * what its RAM must hold at any moment.
 *
 * Thread rule: that of bare.h.
 */
#ifndef TESTS_KVM_SUPPORT_WRITER_H
#define TESTS_KVM_SUPPORT_WRITER_H

#include <stdint.h>

#include "tests/kvm/support/bare.h"

#define WRITER_FIRST_PAGE 1024u /* of those that it writes to */
#define WRITER_PAGES      1024u
#define WRITER_MEM        (16 * NUM_MIB)

/* Where it counts its writes. */
#define WRITER_TOLD (BARE_MAILBOX + 4096)

/* Starts one in ring 0 or 3, and returns when it writes. */
struct bare *writer_start(uint32_t ring, enum machine_tracking tracking);

/*
 * All pages as its count says; no vCPU runs. It counts after the write, so
 * that one page more may be new, and that one half.
 */
void writer_expect_pages(const struct bare *b);

#endif
