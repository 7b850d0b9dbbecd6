/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a line to the serial port and ends with status 0. */
#include "pvh.h"

start:
        PRINT   text
        EXIT    0

        .section .rodata
text:   .asciz "hello from a bare guest\n"
