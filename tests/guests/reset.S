/* SPDX-License-Identifier: Apache-2.0 */
/* Pulses the reset line of the keyboard controller. */
#include "pvh.h"

start:
        movb    $0xfe, %al
        outb    %al, $PORT_I8042 + 4
        EXIT    1
