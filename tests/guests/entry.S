/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state in which a PVH guest begins (Xen, docs/misc/pvh.pandoc) and what
 * it is handed: start info, memory map, command line, ACPI tables. The
 * command line must have "mem=MIB cpu=N", which the tables have to agree with.
 */
#include "pvh.h"
#include "cmdline.h"

/* struct hvm_start_info */
#define INFO_VERSION     4
#define INFO_MODULES     12
#define INFO_RSDP        32
#define INFO_MAP         40
#define INFO_MAP_ENTRIES 48

#define MSR_EFER 0xc0000080

start:
        movl    $stack_top, %esp
        pushfl
        cmpl    $0x336ec578, (%ebx)
        NEED    e, 1
        cmpl    $1, INFO_VERSION(%ebx)
        NEED    e, 2
        movl    %cr0, %eax
        andl    $0x80000001, %eax
        cmpl    $1, %eax
        NEED    e, 3
        movl    %cr4, %eax
        testl   %eax, %eax
        NEED    z, 4
        movl    $MSR_EFER, %ecx
        rdmsr
        testl   %eax, %eax
        NEED    z, 5
        popl    %eax
        testl   $0x20300, %eax          /* VM, IF, TF */
        NEED    z, 6
        cmpl    $-1, 0xfffffffc         /* within the segment's limit */
        NEED    e, 7
        cmpl    $0, INFO_MODULES(%ebx)
        NEED    e, 8

        FIND_NUMBER KEY_MEM
        testl   %eax, %eax
        NEED    nz, 9
        movl    %eax, want_mib
        FIND_NUMBER KEY_CPU
        movl    %eax, want_cpus
        call    check_map
        call    check_acpi
        EXIT    0

/* Ranges in order and disjoint; RAM as much as was asked for. */
check_map:
        movl    INFO_MAP(%ebx), %esi
        movl    INFO_MAP_ENTRIES(%ebx), %ebp
        leal    -2(%ebp), %eax
        cmpl    $14, %eax
        NEED    be, 20
.Lrange:
        movl    (%esi), %eax
        movl    4(%esi), %edx
        subl    range_end, %eax
        sbbl    range_end + 4, %edx
        NEED    ae, 21
        movl    8(%esi), %eax
        orl     12(%esi), %eax
        NEED    nz, 22
        movl    (%esi), %eax
        movl    4(%esi), %edx
        addl    8(%esi), %eax
        adcl    12(%esi), %edx
        NEED    ae, 23
        movl    %eax, range_end
        movl    %edx, range_end + 4
        movl    16(%esi), %eax
        cmpl    $2, %eax
        je      .Lreserved
        cmpl    $1, %eax
        NEED    e, 24
        movl    8(%esi), %eax
        addl    %eax, ram
        movl    12(%esi), %eax
        adcl    %eax, ram + 4
.Lreserved:
        addl    $24, %esi
        decl    %ebp
        jnz     .Lrange
        /* Less than 1 MiB of it is reserved. */
        movl    ram, %eax
        movl    ram + 4, %edx
        addl    $0xfffff, %eax
        adcl    $0, %edx
        shrdl   $20, %edx, %eax
        cmpl    want_mib, %eax
        NEED    e, 25
        ret

check_acpi:
        movl    INFO_RSDP(%ebx), %esi
        testl   %esi, %esi
        NEED    nz, 30
        cmpl    $0, INFO_RSDP + 4(%ebx)
        NEED    e, 31
        cmpl    $'R' | 'S' << 8 | 'D' << 16 | ' ' << 24, (%esi)
        NEED    e, 32
        cmpl    $'P' | 'T' << 8 | 'R' << 16 | ' ' << 24, 4(%esi)
        NEED    e, 33
        movl    $20, %ecx
        call    sum
        NEED    z, 34
        cmpb    $2, 15(%esi)
        NEED    ae, 35
        movl    20(%esi), %ecx
        cmpl    $36, %ecx
        NEED    e, 36
        call    sum
        NEED    z, 37
        movl    24(%esi), %esi
        cmpl    $'X' | 'S' << 8 | 'D' << 16 | 'T' << 24, (%esi)
        NEED    e, 38
        movl    4(%esi), %ecx
        call    sum
        NEED    z, 39
        leal    36(%esi), %ebp
        addl    4(%esi), %esi
        movl    %esi, %edi
.Ltable:
        movl    (%ebp), %esi
        movl    4(%esi), %ecx
        call    sum
        NEED    z, 40
        cmpl    $'A' | 'P' << 8 | 'I' << 16 | 'C' << 24, (%esi)
        jne     .Lnext_table
        call    count_cpus
.Lnext_table:
        addl    $8, %ebp
        cmpl    %edi, %ebp
        jb      .Ltable
        movl    cpus, %eax
        cmpl    want_cpus, %eax
        NEED    e, 41
        cmpl    $1, ioapics
        NEED    e, 42
        ret

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

/* The MADT at esi (ACPI 6.5, 5.2.12): enabled local APICs, and I/O APICs. */
count_cpus:
        movl    %esi, %ecx
        addl    4(%esi), %ecx
        leal    44(%esi), %edx
.Lentry:
        cmpb    $0, (%edx)
        jne     .Lno_lapic
        testl   $1, 4(%edx)
        jz      .Lno_lapic
        incl    cpus
.Lno_lapic:
        cmpb    $1, (%edx)
        jne     .Lno_ioapic
        cmpl    $IOAPIC, 4(%edx)
        NEED    e, 43
        incl    ioapics
.Lno_ioapic:
        movzbl  1(%edx), %eax
        testl   %eax, %eax
        NEED    nz, 44
        addl    %eax, %edx
        cmpl    %ecx, %edx
        jb      .Lentry
        ret

        .section .bss
        .balign 8
range_end:
        .skip   8
ram:    .skip   8
want_mib:
        .skip   4
want_cpus:
        .skip   4
cpus:   .skip   4
ioapics:
        .skip   4
