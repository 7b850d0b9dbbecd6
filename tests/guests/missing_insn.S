/* SPDX-License-Identifier: Apache-2.0 */
/*
 * popcnt in ring 0, which KVM's instruction emulator lacks: the VM ends there
 * on a host that interprets guest kernels, and with status 0 on any other.
 */
#include "pvh.h"

start:
        movl    $0xf0f0, %ecx
        popcntl %ecx, %eax
        cmpl    $8, %eax
        NEED    e, 1
        EXIT    0
