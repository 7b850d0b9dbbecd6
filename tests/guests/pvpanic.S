/* SPDX-License-Identifier: Apache-2.0 */
/* Says through pvpanic, whose events it has asked for, that it panicked. */
#include "pvh.h"

start:
        PRINT   text
        movw    $PORT_PVPANIC, %dx
        inb     %dx, %al
        testb   $1, %al
        NEED    nz, 1
        movb    $1, %al
        outb    %al, %dx
        EXIT    2

        .section .rodata
text:   .asciz "about to panic\n"
