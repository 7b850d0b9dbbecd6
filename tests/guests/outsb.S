/* SPDX-License-Identifier: Apache-2.0 */
/* 4 KiB through the serial port with rep outsb; byte i is i ^ (i >> 8). */
#include "pvh.h"

#define LEN 4096

start:
        xorl    %ecx, %ecx
.Lfill: movl    %ecx, %eax
        xorb    %ah, %al
        movb    %al, data(%ecx)
        incl    %ecx
        cmpl    $LEN, %ecx
        jb      .Lfill
        movl    $data, %esi
        movw    $PORT_SERIAL, %dx
        rep outsb
        cmpl    $data + LEN, %esi
        NEED    e, 1
        EXIT    0

        .section .bss
data:   .skip   LEN
