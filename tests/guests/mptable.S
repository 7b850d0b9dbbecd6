/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MP floating pointer and its table (MultiProcessor Specification 1.4,
 * 4), looked for where it allows: the last KiB of base memory. No ACPI root
 * comes with it. The command line must have "cpu=N".
 */
#include "pvh.h"
#include "cmdline.h"

start:
        movl    $stack_top, %esp
        cmpl    $0, 32(%ebx)
        NEED    e, 1
        FIND_NUMBER KEY_CPU
        movl    %eax, %ebp
        movl    $0x9fc00, %esi
.Lsearch:
        cmpl    $'_' | 'M' << 8 | 'P' << 16 | '_' << 24, (%esi)
        je      .Lfound
        addl    $16, %esi
        cmpl    $0xa0000, %esi
        jb      .Lsearch
        EXIT    2
.Lfound:
        movl    $16, %ecx
        call    sum
        NEED    z, 3
        movl    4(%esi), %esi
        cmpl    $'P' | 'C' << 8 | 'M' << 16 | 'P' << 24, (%esi)
        NEED    e, 4
        movzwl  4(%esi), %ecx
        call    sum
        NEED    z, 5
        cmpl    $LAPIC, 36(%esi)
        NEED    e, 6
        movzwl  34(%esi), %ecx          /* entries */
        addl    $44, %esi
.Lentry:
        movl    $8, %edx
        cmpb    $0, (%esi)              /* a processor */
        jne     .Lother
        movl    $20, %edx
        testb   $1, 3(%esi)
        jz      .Lother
        decl    %ebp
.Lother:
        addl    %edx, %esi
        decl    %ecx
        jnz     .Lentry
        testl   %ebp, %ebp
        NEED    z, 7
        EXIT    0

/* Zero flag: the ecx bytes at esi add up to 0. Uses eax, ecx, edx. */
sum:
        xorl    %eax, %eax
        movl    %esi, %edx
.Lsum:
        addb    (%edx), %al
        incl    %edx
        decl    %ecx
        jnz     .Lsum
        testb   %al, %al
        ret
