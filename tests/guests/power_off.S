/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enters ACPI's S5: SLP_TYP 5 and SLP_EN in the sleep control register. A
 * sleep state that there is not comes first and must be over at once, which
 * WAK_STS says (ACPI 6.5, 4.8.3.7).
 */
#include "pvh.h"

#define SLP_EN  0x20
#define WAK_STS 0x80

start:
        movw    $PORT_SLEEP, %dx
        movb    $3 << 2 | SLP_EN, %al
        outb    %al, %dx
        incw    %dx
        inb     %dx, %al
        testb   $WAK_STS, %al
        NEED    nz, 1
        movb    $WAK_STS, %al
        outb    %al, %dx
        inb     %dx, %al
        testb   $WAK_STS, %al
        NEED    z, 2
        decw    %dx
        movb    $5 << 2 | SLP_EN, %al
        outb    %al, %dx
        EXIT    3
