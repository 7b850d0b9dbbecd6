/* SPDX-License-Identifier: Apache-2.0 */
/* Says that it runs, then loops for ever. */
#include "pvh.h"

start:
        PRINT   text
.Lspin: jmp     .Lspin

        .section .rodata
text:   .asciz "spinning\n"
