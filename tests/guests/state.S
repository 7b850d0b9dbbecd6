/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps a value in every kind of register and looks whether it is still
 * there, for ever: what a guest notices of being saved and loaded.
 *
 * In ring 3: general, x87 and SSE registers and the direction flag. By int3
 * in ring 0: debug registers, MSRs, control registers. A periodic local APIC
 * timer interrupts both. At MAILBOX: +0 rounds of ring 3, +4 of ring 0, +8
 * ticks. Ends with the number of the step that failed.
 */
#include "pvh.h"
#include "long.h"
#include "apic.h"

#define BREAKPOINT 3
#define VECTOR     0x40

#define CR0_MP      0x02
#define CR0_EM      0x04
#define CR4_FXSR    0x600           /* OSFXSR, OSXMMEXCPT */
#define DR7_VALUE   0x402           /* GE and the fixed bit, L0 to L3 off */

.macro PUT_MSR index, low, high
        movl    $\index, %ecx
        movl    $\low, %eax
        movl    $\high, %edx
        wrmsr
.endm

.macro NEED_MSR index, low, high
        movl    $\index, %ecx
        rdmsr
        cmpl    $\low, %eax
        NEED    e, 20
        cmpl    $\high, %edx
        NEED    e, 20
.endm

/* KERNEL_GS_BASE, STAR, LSTAR, SFMASK, SYSENTER_CS, PAT */
.macro ALL_MSRS do
        \do     0xc0000102, 0x11223344, 0x00001234
        \do     0xc0000081, 0x00000000, 0x00230010
        \do     0xc0000082, 0x00345678, 0x00000000
        \do     0xc0000084, 0x00000700, 0x00000000
        \do     0x00000174, 0x00000008, 0x00000000
        \do     0x00000277, 0x00070106, 0x00070106
.endm

start:
        ENTER_LONG
        SET_TASK
        movw    $TASK_MAP, tss + TASK_MAP_BASE
        SET_GATE BREAKPOINT, on_call, 3
        SET_GATE VECTOR, on_tick
        movq    %cr0, %rax
        andl    $~CR0_EM, %eax
        orl     $CR0_MP, %eax
        movq    %rax, %cr0
        movq    %cr4, %rax
        orl     $CR4_FXSR, %eax
        movq    %rax, %cr4
        ALL_MSRS PUT_MSR
        movl    $0x1111000, %eax
        movq    %rax, %dr0
        movl    $0x2222000, %eax
        movq    %rax, %dr1
        movl    $0x3333000, %eax
        movq    %rax, %dr2
        movl    $0x4444000, %eax
        movq    %rax, %dr3
        movl    $DR7_VALUE, %eax
        movq    %rax, %dr7
        LAPIC_PUT LAPIC_SPURIOUS, 0x1ff
        LAPIC_PUT LAPIC_DIVIDE, 0x0b
        LAPIC_PUT LAPIC_TIMER, VECTOR | TIMER_PERIODIC
        LAPIC_PUT LAPIC_INITIAL, 5000000
        pushq   $UDATA
        pushq   $user_stack
        pushq   $0x202                  /* interrupts on */
        pushq   $UCODE
        pushq   $in_ring_3
        iretq

in_ring_3:
        fninit
        fldpi
        fld1
        fldl2e
        fldcw   control
        ldmxcsr mxcsr
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movdqu  pattern + 16 * \n, %xmm\n
        .endr
        movabsq $0x0123456789abcdef, %r8
        movabsq $0xfedcba9876543210, %r9
        movabsq $0x5555aaaa5555aaaa, %r10
        movl    $0x600df00d, %r12d
        movl    $0x77777777, %r13d
        movl    $0x88888888, %r14d
        movl    $0x99999999, %r15d
.Lround:
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movdqu  %xmm\n, scratch + 16 * \n
        .endr
        cld
        movl    $pattern, %esi
        movl    $scratch, %edi
        movl    $256 / 8, %ecx
        repe cmpsq
        NEED    e, 1
        fstl    number                  /* st0: log2(e) */
        movabsq $0x3ff71547652b82fe, %rax
        cmpq    %rax, number
        NEED    e, 2
        fxch    %st(2)
        fstl    number                  /* pi */
        movabsq $0x400921fb54442d18, %rax
        cmpq    %rax, number
        NEED    e, 3
        fxch    %st(2)
        fnstcw  number
        movzwl  control, %eax
        cmpw    %ax, number
        NEED    e, 4
        stmxcsr number
        movl    mxcsr, %eax
        cmpl    %eax, number
        NEED    e, 5
        movabsq $0x0123456789abcdef, %rax
        cmpq    %rax, %r8
        NEED    e, 6
        movabsq $0xfedcba9876543210, %rax
        cmpq    %rax, %r9
        NEED    e, 7
        movabsq $0x5555aaaa5555aaaa, %rax
        cmpq    %rax, %r10
        NEED    e, 8
        cmpl    $0x600df00d, %r12d
        NEED    e, 9
        cmpl    $0x77777777, %r13d
        NEED    e, 10
        cmpl    $0x88888888, %r14d
        NEED    e, 11
        cmpl    $0x99999999, %r15d
        NEED    e, 12
        movl    %cs, %eax
        andl    $3, %eax
        cmpl    $3, %eax
        NEED    e, 13
        incl    MAILBOX
        testl   $15, MAILBOX
        jnz     .Lround
        int3
        jmp     .Lround

on_call:
        ALL_MSRS NEED_MSR
        movq    %dr0, %rax
        cmpq    $0x1111000, %rax
        NEED    e, 30
        movq    %dr1, %rax
        cmpq    $0x2222000, %rax
        NEED    e, 31
        movq    %dr2, %rax
        cmpq    $0x3333000, %rax
        NEED    e, 32
        movq    %dr3, %rax
        cmpq    $0x4444000, %rax
        NEED    e, 33
        movq    %cr4, %rax
        andl    $CR4_FXSR, %eax
        cmpl    $CR4_FXSR, %eax
        NEED    e, 34
        movq    %cr3, %rax
        cmpq    $pml4, %rax
        NEED    e, 35
        strw    %ax
        cmpw    $TASK, %ax
        NEED    e, 36
        incl    MAILBOX + 4
        iretq

on_tick:
        pushq   %rax
        incl    MAILBOX + 8
        LAPIC_PUT LAPIC_EOI, 0
        popq    %rax
        iretq

        .section .data
        .balign 16
pattern:
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        .quad   0x1000000000000001 * \n + 0x0f0f, 0x0102030405060708 + \n
        .endr
control:
        .word   0x0f7f                  /* round to zero, extended */
        .balign 4
mxcsr:  .long   0x7f80                  /* round to zero, all masked */

        .section .bss
        .balign 16
scratch:
        .skip   256
number: .skip   8
        .skip   1024
user_stack:
