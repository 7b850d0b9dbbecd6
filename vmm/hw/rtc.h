/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PC's CMOS clock (Motorola MC146818A data sheet) and its 114 bytes of
 * memory, behind ports 0x70 (index) and 0x71 (data).
 *
 * The time is the host's, UTC, plus an offset in seconds that the guest makes
 * when it sets the clock; a restored guest therefore reads the present time.
 * BCD or binary, 24-hour mode only (the bit reads as one), the century in
 * byte 0x32. Update-in-progress is high for the last 244 us of a second.
 * Alarm registers keep what is written; there are no interrupts, register C
 * reads as zero.
 *
 * Thread rule: that of the device contract; the time source is called with
 * the lock held. Guest-controlled: every register.
 */
#ifndef VMM_HW_RTC_H
#define VMM_HW_RTC_H

#include <stdint.h>

#include "vmm/core/device.h"

#define RTC_PORTS     2u
#define RTC_CMOS_SIZE 128u

struct rtc_state {
    uint64_t offset_s; /* guest minus host time, two's complement */
    uint8_t index;
    uint8_t cmos[RTC_CMOS_SIZE]; /* time bytes: valid while B.SET is one */
};

struct rtc {
    struct device dev;
    struct rtc_state state;
    uint64_t (*now_ns)(void *opaque); /* since the epoch */
    void *opaque;
};

/*
 * A clock at its power-on values; RTC_PORTS ports of the PIO bus. `now_ns`
 * NULL means the host's realtime clock.
 */
void rtc_init(struct rtc *rtc, uint64_t (*now_ns)(void *opaque), void *opaque);

#endif
