/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers from the command line, which starts with "NAME=N NAME=N ...". */
#ifndef TESTS_GUESTS_CMDLINE_H
#define TESTS_GUESTS_CMDLINE_H

/*
 * Behind the next '=' at esi there is a decimal number: into eax; esi stays
 * behind it. Uses ecx. For 32-bit code.
 */
.macro NEXT_NUMBER
.Lname\@:
        lodsb
        cmpb    $'=', %al
        jne     .Lname\@
        xorl    %ecx, %ecx
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
