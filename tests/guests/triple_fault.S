/* SPDX-License-Identifier: Apache-2.0 */
/* Faults where no interrupt table is. */
#include "pvh.h"

start:
        lidt    no_table
        ud2
        EXIT    1

        .section .rodata
no_table:
        .word   0
        .long   0
