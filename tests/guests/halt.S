/* SPDX-License-Identifier: Apache-2.0 */
/* Says that it stops, then waits for an interrupt that never comes. */
#include "pvh.h"

start:
        PRINT   text
        cli
.Lhalt: hlt
        jmp     .Lhalt

        .section .rodata
text:   .asciz "halted\n"
