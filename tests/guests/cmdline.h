/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers from the command line, where the test put "cpu=N" or "mem=MIB". */
#ifndef TESTS_GUESTS_CMDLINE_H
#define TESTS_GUESTS_CMDLINE_H

#define KEY_CPU ('c' | 'p' << 8 | 'u' << 16 | '=' << 24)
#define KEY_MEM ('m' | 'e' << 8 | 'm' << 16 | '=' << 24)

/*
 * The decimal number behind `key` into eax, 0 without one; ebx: start info.
 * Uses ecx and esi. For 32-bit code.
 */
.macro FIND_NUMBER key
        movl    24(%ebx), %esi
        xorl    %ecx, %ecx
.Lsearch\@:
        cmpb    $0, (%esi)
        je      .Lend\@
        cmpl    $\key, (%esi)
        leal    1(%esi), %esi
        jne     .Lsearch\@
        addl    $3, %esi
.Ldigit\@:
        movzbl  (%esi), %eax
        subl    $'0', %eax
        cmpl    $9, %eax
        ja      .Lend\@
        imull   $10, %ecx
        addl    %eax, %ecx
        incl    %esi
        jmp     .Ldigit\@
.Lend\@:
        movl    %ecx, %eax
.endm

#endif
