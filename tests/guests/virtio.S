/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window of the first drive (VIRTIO 1.2, 4.2.2): who it is, its status
 * register, the features it insists on, and that a reset forgets all.
 */
#include "pvh.h"

#define WINDOW 0xc0000000

#define MAGIC           0x000
#define VERSION         0x004
#define DEVICE_ID       0x008
#define FEATURES        0x010
#define FEATURES_SEL    0x014
#define DRIVER_FEATURES 0x020
#define DRIVER_SEL      0x024
#define QUEUE_SEL       0x030
#define QUEUE_MAX       0x034
#define QUEUE_READY     0x044
#define INTERRUPT       0x060
#define STATUS          0x070

#define ACKNOWLEDGE 1
#define DRIVER      2
#define FEATURES_OK 8

start:
        movl    $WINDOW, %ebp
        cmpl    $'v' | 'i' << 8 | 'r' << 16 | 't' << 24, MAGIC(%ebp)
        NEED    e, 1
        cmpl    $2, VERSION(%ebp)
        NEED    e, 2
        cmpl    $2, DEVICE_ID(%ebp)     /* block device */
        NEED    e, 3
        cmpl    $0, STATUS(%ebp)
        NEED    e, 4
        cmpl    $0, INTERRUPT(%ebp)
        NEED    e, 5
        movl    $0, QUEUE_SEL(%ebp)
        cmpl    $0, QUEUE_MAX(%ebp)
        NEED    ne, 6
        cmpl    $0, QUEUE_READY(%ebp)
        NEED    e, 7

        movl    $ACKNOWLEDGE, STATUS(%ebp)
        movl    $ACKNOWLEDGE | DRIVER, STATUS(%ebp)
        cmpl    $ACKNOWLEDGE | DRIVER, STATUS(%ebp)
        NEED    e, 8
        movl    $1, FEATURES_SEL(%ebp)
        testl   $1, FEATURES(%ebp)      /* VIRTIO_F_VERSION_1 */
        NEED    nz, 9
        /* Without that feature the device does not agree. */
        movl    $1, DRIVER_SEL(%ebp)
        movl    $0, DRIVER_FEATURES(%ebp)
        movl    $ACKNOWLEDGE | DRIVER | FEATURES_OK, STATUS(%ebp)
        testl   $FEATURES_OK, STATUS(%ebp)
        NEED    z, 10

        movl    $0, STATUS(%ebp)
        cmpl    $0, STATUS(%ebp)
        NEED    e, 11
        movl    $ACKNOWLEDGE | DRIVER, STATUS(%ebp)
        movl    $1, DRIVER_SEL(%ebp)
        movl    $1, DRIVER_FEATURES(%ebp)
        movl    $ACKNOWLEDGE | DRIVER | FEATURES_OK, STATUS(%ebp)
        testl   $FEATURES_OK, STATUS(%ebp)
        NEED    nz, 12
        movl    $0, STATUS(%ebp)
        cmpl    $0, STATUS(%ebp)
        NEED    e, 13
        EXIT    0
