/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page table that changes: ring 3 reads a byte at WINDOW and writes it to
 * port 0x80, has ring 0 exchange what is behind WINDOW (FIRST or SECOND, with
 * an 'a' and a 'b' in it), reads and writes again; for ever. The first write
 * to the port comes before the first read.
 */
#include "pvh.h"
#include "long.h"

#define BREAKPOINT 3
#define WINDOW     0x40000000
#define FIRST      0x800000
#define SECOND     0xa00000
#define ENTRY      (pds + WINDOW / 0x200000 * 8)

start:
        ENTER_LONG
        SET_TASK
        movw    $TASK_MAP, tss + TASK_MAP_BASE
        SET_GATE BREAKPOINT, on_call, 3
        movb    $'a', FIRST
        movb    $'b', SECOND
        movq    $FIRST + PAGE_BITS, ENTRY
        movq    %cr3, %rax
        movq    %rax, %cr3
        pushq   $UDATA
        pushq   $stack_top
        pushq   $2
        pushq   $UCODE
        pushq   $in_ring_3
        iretq

in_ring_3:
        xorl    %eax, %eax
.Lround:
        outb    %al, $0x80
        movb    WINDOW, %al
        outb    %al, $0x80
        int3
        movb    WINDOW, %al
        jmp     .Lround

on_call:
        xorq    $(FIRST ^ SECOND), ENTRY
        invlpg  WINDOW
        iretq
