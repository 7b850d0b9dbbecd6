/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All processors end the VM at once, each with its APIC id. The command line
 * must have "cpu=N".
 */
#include "pvh.h"
#include "cmdline.h"
#include "smp.h"

start:
        FIND_NUMBER KEY_CPU
        movl    %eax, cpus
        START_OTHERS
        xorl    %eax, %eax
ap_start:
        lock incl ready
.Lwait: movl    ready, %ecx
        cmpl    cpus, %ecx
        jb      .Lwait
        outb    %al, $PORT_EXIT
.Lagain:
        outb    %al, $PORT_EXIT
        jmp     .Lagain

        .section .bss
        .balign 4
cpus:   .skip   4
ready:  .skip   4
