/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every processor increments a counter of its own for ever: 32 bits at
 * MAILBOX + 64 * its APIC id.
 */
#include "pvh.h"
#include "smp.h"

start:
        START_OTHERS
        xorl    %eax, %eax
ap_start:
        shll    $6, %eax
        addl    $MAILBOX, %eax
.Lcount:
        incl    (%eax)
        jmp     .Lcount
