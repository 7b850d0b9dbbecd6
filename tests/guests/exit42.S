/* SPDX-License-Identifier: Apache-2.0 */
/* Ends with status 42, by a 32-bit write whose other bytes do not count. */
#include "pvh.h"

start:
        movl    $0x1234002a, %eax
        outl    %eax, $PORT_EXIT
.Lhalt: hlt
        jmp     .Lhalt
