/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device gap where no device is: all ones to every width, and writes go
 * nowhere. With no drives there are no virtio windows, so that everything
 * from 0xc0000000 up to the I/O APIC is empty; so is what lies between the
 * APICs and above them.
 */
#include "pvh.h"

start:
        movl    $stack_top, %esp
        movl    $0xc0000000, %ebp
        movl    $IOAPIC, %esi
        movl    $0x00200000, %edi       /* 502 steps */
        call    probe_all
        movl    $IOAPIC + 0x1000, %ebp
        movl    $LAPIC, %esi
        movl    $0x00010000, %edi       /* 32 steps */
        call    probe_all
        movl    $LAPIC + 0x100000, %ebp
        movl    $0xfffb0000, %esi
        movl    $0x00040000, %edi       /* 67 steps */
        call    probe_all
        movl    $0xffffffc0, %ebp
        call    probe
        EXIT    0

/* [ebp, esi) in steps of edi */
probe_all:
        call    probe
        addl    %edi, %ebp
        cmpl    %esi, %ebp
        jb      probe_all
        ret

probe:
        movl    (%ebp), %eax
        cmpl    $-1, %eax
        NEED    e, 1
        movw    2(%ebp), %ax
        cmpw    $-1, %ax
        NEED    e, 2
        movb    7(%ebp), %al
        cmpb    $-1, %al
        NEED    e, 3
        movl    $0, (%ebp)
        movw    $0, 4(%ebp)
        movb    $0, 9(%ebp)
        movl    (%ebp), %eax
        cmpl    $-1, %eax
        NEED    e, 4
        movl    5(%ebp), %eax           /* across two registers */
        cmpl    $-1, %eax
        NEED    e, 5
        ret
