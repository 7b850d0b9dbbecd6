/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts all processors; each says once who it is. The command line must have
 * "cpu=N".
 */
#include "pvh.h"
#include "cmdline.h"
#include "smp.h"

start:
        FIND_NUMBER KEY_CPU
        movl    %eax, %ebp
        movl    LAPIC + LAPIC_ID, %eax
        shrl    $24, %eax
        NEED    z, 1
        btsl    $0, seen
        START_OTHERS
.Lwait:
        pause
        movl    count, %eax
        incl    %eax
        cmpl    %ebp, %eax
        jb      .Lwait
        NEED    e, 2
        /* Ids 0 to n - 1, each once. */
        movl    $32, %ecx
        subl    %ebp, %ecx
        movl    $-1, %eax
        shrl    %cl, %eax
        cmpl    %eax, seen
        NEED    e, 3
        EXIT    0

ap_start:
        cmpl    $31, %eax
        NEED    be, 4
        lock btsl %eax, seen
        NEED    nc, 5
        lock incl count
.Lhalt: cli
        hlt
        jmp     .Lhalt

        .section .bss
        .balign 4
seen:   .skip   4
count:  .skip   4
