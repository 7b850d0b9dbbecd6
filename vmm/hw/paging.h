/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page tables as processors have them (Intel SDM vol. 3, 4.3 to 4.5), for who
 * walks those of a guest.
 *
 * Thread rule: constants.
 */
#ifndef VMM_HW_PAGING_H
#define VMM_HW_PAGING_H

#include <stdint.h>

#define PAGING_CR0_PG   (UINT64_C(1) << 31)
#define PAGING_CR4_PAE  (UINT64_C(1) << 5)
#define PAGING_CR4_LA57 (UINT64_C(1) << 12)
#define PAGING_EFER_LMA (UINT64_C(1) << 10)

#define PAGING_PRESENT  UINT64_C(1)
#define PAGING_WRITABLE (UINT64_C(1) << 1)
#define PAGING_USER     (UINT64_C(1) << 2)
#define PAGING_ACCESSED (UINT64_C(1) << 5)
#define PAGING_DIRTY    (UINT64_C(1) << 6)
#define PAGING_LARGE    (UINT64_C(1) << 7)

#define PAGING_ADDRESS UINT64_C(0x000ffffffffff000) /* 51:12 */

/* Of a table with entries of 8 bytes. */
#define PAGING_LEVEL_BITS 9u
#define PAGING_ENTRIES    (1u << PAGING_LEVEL_BITS)
#define PAGING_LEVELS_MAX 5u

#endif
