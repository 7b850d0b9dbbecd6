/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For measurements of restores: rings port 0x80, at which it is saved, and
 * then sends one byte to the serial port, which is the first thing it does
 * when it is restored.
 */
#include "pvh.h"
#include "long.h"

start:
        ENTER_LONG
        outb    %al, $0x80
        movb    $'!', %al
        movw    $PORT_SERIAL, %dx
        outb    %al, %dx
.Lhalt: hlt
        jmp     .Lhalt
