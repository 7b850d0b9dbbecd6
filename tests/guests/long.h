/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 64-bit mode: segments, an identity map of the first LONG_GIB GiB in 2 MiB
 * pages that ring 3 may use, an interrupt table and a task state.
 */
#ifndef TESTS_GUESTS_LONG_H
#define TESTS_GUESTS_LONG_H

#ifndef LONG_GIB
#define LONG_GIB 4
#endif

#define CODE32 0x08
#define DATA   0x10
#define CODE64 0x18
#define UDATA  0x23
#define UCODE  0x2b
#define TASK   0x30

#define CR0_PE   0x00000001
#define CR0_PG   0x80000000
#define CR4_PAE  0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define EFER_LMA 0x400

/* A task state with a bit for each port (Intel SDM vol. 3, 8.7 and 19.5.2). */
#define TASK_MAP_BASE 102
#define TASK_MAP      104
#define TASK_LIMIT    (TASK_MAP + 0x10000 / 8)

/* present, writable, user; and accessed, dirty, large */
#define TABLE_BITS 0x07
#define PAGE_BITS  0xe7

        .section .data
        .balign 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff
        .quad 0x00cf93000000ffff
        .quad 0x00af9b000000ffff
        .quad 0x00cff3000000ffff
        .quad 0x00affb000000ffff
gdt_task:
        .quad 0x0000890000000000 + TASK_LIMIT, 0
gdt_pointer:
        .word gdt_pointer - gdt - 1
        .quad gdt
idt_pointer:
        .word 256 * 16 - 1
        .quad idt

        .balign 4096
pml4:   .long pdpt + TABLE_BITS, 0
        .balign 4096
pdpt:
        .set i, 0
        .rept LONG_GIB
        .long pds + i * 4096 + TABLE_BITS, 0
        .set i, i + 1
        .endr
        .balign 4096
/* In the image and not written by the guest, which would take milliseconds on a
 * host that interprets it. */
pds:
        .set i, 0
        .rept LONG_GIB * 512
        .quad i * 0x200000 + PAGE_BITS
        .set i, i + 1
        .endr

        .section .bss
        .balign 4096
idt:    .skip 256 * 16
        .balign 8
tss:    .skip TASK_LIMIT + 1

        .text

/* From 32-bit mode with paging off; uses eax, ecx, edx and esp. */
.macro ENTER_LONG
        movl    $stack_top, %esp
        ENABLE_LONG
        ljmpl   $CODE64, $.Llong\@
        .code64
.Llong\@:
        movl    $DATA, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        lidt    idt_pointer
.endm

/* Turns paging on, the tables being there; the code segment is still old. */
.macro ENABLE_LONG
        lgdt    gdt_pointer
        movl    %cr4, %eax
        orl     $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $EFER_LME, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $CR0_PG, %eax
        movl    %eax, %cr0
.endm

/* Interrupt gate `vector`, entered from rings up to `ring`. Uses rax, rdi. */
.macro SET_GATE vector, handler, ring=0
        movl    $idt + \vector * 16, %edi
        movl    $\handler, %eax
        movw    %ax, (%rdi)
        movw    $CODE64, 2(%rdi)
        movw    $0x8e00 + \ring * 0x2000, 4(%rdi)
        shrl    $16, %eax
        movl    %eax, 6(%rdi)
        movl    $0, 10(%rdi)
.endm

/*
 * A task state with the stack of ring 0. It has an I/O permission map, empty,
 * in which TASK_MAP_BASE puts no port yet. Uses rax.
 */
.macro SET_TASK
        movl    $stack_top, tss + 4
        movw    $TASK_LIMIT, tss + TASK_MAP_BASE
        movl    $tss, %eax
        movw    %ax, gdt_task + 2
        shrl    $16, %eax
        movb    %al, gdt_task + 4
        movb    %ah, gdt_task + 7
        movl    $TASK, %eax
        ltr     %ax
.endm

#endif
