/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doorbell: one call of abi.h. Legal in ring 3 once the process, or one
 * that it descends from, has the port (ioperm).
 *
 * Any thread; touches no memory of its own. The answer comes from the
 * executor, which the guest trusts.
 */
#ifndef GUEST_FUZZ_CALL_H
#define GUEST_FUZZ_CALL_H

#include <stdint.h>

#include "guest/fuzz/abi.h"

static inline uint64_t call(uint64_t number, uint64_t argument)
{
    uint64_t result;

    __asm__ volatile("outl %%eax, %%dx"
                     : "=a"(result)
                     : "a"((uint64_t)FUZZ_ABI_MAGIC), "b"(number),
                     "c"(argument), "d"(FUZZ_ABI_PORT)
                     : "memory");
    return result;
}

static inline uint64_t call_at(uint64_t number, const void *argument)
{
    return call(number, (uint64_t)(uintptr_t)argument);
}

#endif
