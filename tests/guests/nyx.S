/* SPDX-License-Identifier: Apache-2.0 */
/* The entry of nyx.c: 64-bit mode, a task state, nyx_main. */
#include "pvh.h"
#include "long.h"

start:
        ENTER_LONG
        SET_TASK
        call    nyx_main
        EXIT    250

/* A function to be overwritten: longer than what takes its place. */
        .globl  nyx_panic
nyx_panic:
        .fill   64, 1, 0x90
        ret
