/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the date and time of the CMOS clock: "2031-12-31 23:59:58". */
#include "pvh.h"

#define REG_B       0x0b
#define B_24_HOURS  0x02
#define B_BINARY    0x04
#define REG_A       0x0a
#define A_UPDATING  0x80

start:
        movl    $stack_top, %esp
        /* Not within an update, so that all digits are of one moment. */
.Lupdating:
        movb    $REG_A, %al
        call    get
        testb   $A_UPDATING, %al
        jnz     .Lupdating
        movb    $REG_B, %al
        call    get
        testb   $B_24_HOURS, %al
        NEED    nz, 1
        movb    %al, %bh
        movl    $fields, %esi
.Lfield:
        lodsb
        testb   %al, %al
        js      .Ldone
        call    get
        testb   $B_BINARY, %bh
        jz      .Lbcd
        aam
        shlb    $4, %ah
        orb     %ah, %al
.Lbcd:
        movb    %al, %ah
        shrb    $4, %al
        cmpb    $9, %al
        NEED    be, 2
        call    put_digit
        movb    %ah, %al
        andb    $15, %al
        cmpb    $9, %al
        NEED    be, 3
        call    put_digit
        lodsb                           /* what follows the field */
        testb   %al, %al
        jz      .Lfield
        call    put
        jmp     .Lfield
.Ldone:
        EXIT    0

/* Register al of the clock: into al. */
get:
        outb    %al, $PORT_RTC
        inb     $PORT_RTC + 1, %al
        ret

put_digit:
        addb    $'0', %al
put:
        movw    $PORT_SERIAL, %dx
        outb    %al, %dx
        ret

        .section .rodata
fields: .byte   0x32, 0, 9, '-', 8, '-', 7, ' ', 4, ':', 2, ':', 0, '\n', -1
