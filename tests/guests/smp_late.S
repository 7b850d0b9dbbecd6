/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot processor counts at MAILBOX and starts the others when MAILBOX +
 * 64 becomes 1; they count at MAILBOX + 128.
 */
#include "pvh.h"
#include "smp.h"

start:
        incl    MAILBOX
        cmpl    $1, MAILBOX + 64
        jne     start
        START_OTHERS
.Lcount:
        incl    MAILBOX
        jmp     .Lcount

ap_start:
        lock incl MAILBOX + 128
        jmp     ap_start
