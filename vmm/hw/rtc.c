/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/rtc.h"

#include <errno.h>
#include <stdbool.h>

#include "vmm/base/clock.h"
#include "vmm/base/num.h"

/* MC146818A, figure 11; the century's place is the PC's own habit. */
enum {
    REG_SECOND = 0x00,
    REG_MINUTE = 0x02,
    REG_HOUR = 0x04,
    REG_WEEKDAY = 0x06,
    REG_DAY = 0x07,
    REG_MONTH = 0x08,
    REG_YEAR = 0x09,
    REG_A = 0x0a,
    REG_B = 0x0b,
    REG_C = 0x0c,
    REG_D = 0x0d,
    REG_CENTURY = 0x32
};

#define PORT_INDEX 0u

#define INDEX_BITS 0x7fu /* bit 7 masks NMIs on a PC */
#define A_UIP      0x80u
#define A_POWER_ON 0x26u /* 32.768 kHz */
#define B_SET      0x80u
#define B_BINARY   0x04u
#define B_24H      0x02u
#define D_VALID    0x80u

#define UIP_NS UINT64_C(244000) /* t_BUC */

#define S_PER_DAY   UINT64_C(86400)
#define YEAR_FIRST  1970u
#define YEAR_LAST   9999u
#define TIME_LAST_S UINT64_C(253402300799) /* the end of YEAR_LAST */

struct moment {
    unsigned int year;
    unsigned int month;   /* 1-12 */
    unsigned int day;     /* 1-31 */
    unsigned int weekday; /* 1-7 from Sunday */
    unsigned int hour;
    unsigned int minute;
    unsigned int second;
};

static const uint8_t time_regs[] = {REG_SECOND, REG_MINUTE, REG_HOUR,
    REG_WEEKDAY, REG_DAY, REG_MONTH, REG_YEAR, REG_CENTURY};

static const struct state_field rtc_fields[] = {
    STATE_SCALAR(struct rtc_state, offset_s, 1),
    STATE_SCALAR(struct rtc_state, index, 1),
    STATE_ARRAY(struct rtc_state, cmos, 1),
};

static const struct state_desc rtc_desc =
    STATE_DESC(struct rtc_state, "rtc", 1, rtc_fields);

static struct rtc *from_device(struct device *dev)
{
    return container_of(dev, struct rtc, dev);
}

/*
 * The calendar is done here because gmtime_r(3) reads the time zone file,
 * which a jailed process cannot.
 */
static bool is_leap(unsigned int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static unsigned int days_in_month(unsigned int year, unsigned int month)
{
    static const uint8_t days[] = {
        31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[month - 1] + (month == 2 && is_leap(year) ? 1u : 0u);
}

/* Days from the epoch to the first of January. */
static uint64_t days_to_year(unsigned int year)
{
    unsigned int last = year - 1;
    unsigned int leaps = last / 4 - last / 100 + last / 400;
    const unsigned int leaps_before_epoch = 1969 / 4 - 1969 / 100 + 1969 / 400;

    return (uint64_t)365 * (year - YEAR_FIRST) + leaps - leaps_before_epoch;
}

static struct moment moment_of(uint64_t time_s)
{
    uint64_t days = time_s / S_PER_DAY;
    unsigned int rest = (unsigned int)(time_s % S_PER_DAY);
    /* Never too late, and a handful of years too early at the most. */
    struct moment m = {.year = YEAR_FIRST + (unsigned int)(days / 366),
        .month = 1,
        .weekday = (unsigned int)((days + 4) % 7) + 1,
        .hour = rest / 3600,
        .minute = rest / 60 % 60,
        .second = rest % 60};

    while (days_to_year(m.year + 1) <= days)
        m.year++;
    days -= days_to_year(m.year);
    while (days >= days_in_month(m.year, m.month))
        days -= days_in_month(m.year, m.month++);
    m.day = (unsigned int)days + 1;
    return m;
}

/* False if there is no such moment; the weekday does not count. */
static bool time_of(const struct moment *m, uint64_t *ret_time_s)
{
    uint64_t days;

    if (m->year < YEAR_FIRST || m->year > YEAR_LAST || m->month < 1 ||
        m->month > 12 || m->day < 1 ||
        m->day > days_in_month(m->year, m->month) || m->hour > 23 ||
        m->minute > 59 || m->second > 59)
        return false;
    days = days_to_year(m->year) + m->day - 1;
    for (unsigned int month = 1; month < m->month; month++)
        days += days_in_month(m->year, month);
    *ret_time_s = days * S_PER_DAY + (uint64_t)m->hour * 3600 +
                  (uint64_t)m->minute * 60 + m->second;
    return true;
}

static uint64_t host_ns(const struct rtc *rtc)
{
    return rtc->now_ns != NULL ? rtc->now_ns(rtc->opaque) : clock_realtime_ns();
}

/* Within the calendar whatever the host's clock did since the guest set its. */
static uint64_t guest_time_s(const struct rtc *rtc)
{
    int64_t s = (int64_t)(host_ns(rtc) / CLOCK_NS_PER_S + rtc->state.offset_s);

    return s < 0 ? 0 : num_min((uint64_t)s, TIME_LAST_S);
}

static bool is_binary(const struct rtc_state *st)
{
    return (st->cmos[REG_B] & B_BINARY) != 0;
}

static bool is_set_mode(const struct rtc_state *st)
{
    return (st->cmos[REG_B] & B_SET) != 0;
}

static uint8_t encode(const struct rtc_state *st, unsigned int v)
{
    return (uint8_t)(is_binary(st) ? v : v / 10 << 4 | v % 10);
}

/* 255 for what is no number. */
static unsigned int decode(const struct rtc_state *st, uint8_t byte)
{
    if (is_binary(st))
        return byte;
    if (byte >> 4 > 9 || (byte & 0x0f) > 9)
        return UINT8_MAX;
    return (byte >> 4) * 10u + (byte & 0x0f);
}

static void fill_time_regs(struct rtc *rtc)
{
    struct rtc_state *st = &rtc->state;
    struct moment m = moment_of(guest_time_s(rtc));

    st->cmos[REG_SECOND] = encode(st, m.second);
    st->cmos[REG_MINUTE] = encode(st, m.minute);
    st->cmos[REG_HOUR] = encode(st, m.hour);
    st->cmos[REG_WEEKDAY] = encode(st, m.weekday);
    st->cmos[REG_DAY] = encode(st, m.day);
    st->cmos[REG_MONTH] = encode(st, m.month);
    st->cmos[REG_YEAR] = encode(st, m.year % 100);
    st->cmos[REG_CENTURY] = encode(st, m.year / 100);
}

static void clear_time_regs(struct rtc_state *st)
{
    for (size_t i = 0; i < ARRAY_SIZE(time_regs); i++)
        st->cmos[time_regs[i]] = 0;
}

/* Sets the clock from the time registers; a date that is none is dropped. */
static void take_time_regs(struct rtc *rtc)
{
    struct rtc_state *st = &rtc->state;
    unsigned int in_century = decode(st, st->cmos[REG_YEAR]);
    struct moment m = {
        .year = decode(st, st->cmos[REG_CENTURY]) * 100 + in_century,
        .month = decode(st, st->cmos[REG_MONTH]),
        .day = decode(st, st->cmos[REG_DAY]),
        .hour = decode(st, st->cmos[REG_HOUR]),
        .minute = decode(st, st->cmos[REG_MINUTE]),
        .second = decode(st, st->cmos[REG_SECOND])};
    uint64_t time_s;

    if (in_century < 100 && time_of(&m, &time_s))
        st->offset_s = time_s - host_ns(rtc) / CLOCK_NS_PER_S;
    clear_time_regs(st);
}

static bool is_time_reg(uint8_t reg)
{
    for (size_t i = 0; i < ARRAY_SIZE(time_regs); i++) {
        if (time_regs[i] == reg)
            return true;
    }
    return false;
}

static uint8_t read_time(struct rtc *rtc, uint8_t reg)
{
    struct rtc_state *st = &rtc->state;
    uint8_t byte;

    if (is_set_mode(st))
        return st->cmos[reg];
    fill_time_regs(rtc);
    byte = st->cmos[reg];
    clear_time_regs(st);
    return byte;
}

static void write_time(struct rtc *rtc, uint8_t reg, uint8_t byte)
{
    bool set_mode = is_set_mode(&rtc->state);

    if (!set_mode)
        fill_time_regs(rtc);
    rtc->state.cmos[reg] = byte;
    if (!set_mode)
        take_time_regs(rtc);
}

static void write_b(struct rtc *rtc, uint8_t byte)
{
    struct rtc_state *st = &rtc->state;
    bool was_set_mode = is_set_mode(st);

    st->cmos[REG_B] = byte | B_24H;
    if (!was_set_mode && is_set_mode(st))
        fill_time_regs(rtc);
    else if (was_set_mode && !is_set_mode(st))
        take_time_regs(rtc);
}

static bool is_updating(const struct rtc *rtc)
{
    return !is_set_mode(&rtc->state) &&
           host_ns(rtc) % CLOCK_NS_PER_S >= CLOCK_NS_PER_S - UIP_NS;
}

static uint8_t read_reg(struct rtc *rtc, uint8_t reg)
{
    if (is_time_reg(reg))
        return read_time(rtc, reg);
    switch (reg) {
    case REG_A:
        return rtc->state.cmos[REG_A] | (is_updating(rtc) ? A_UIP : 0);
    case REG_C:
        return 0;
    case REG_D:
        return D_VALID;
    default:
        return rtc->state.cmos[reg];
    }
}

static void write_reg(struct rtc *rtc, uint8_t reg, uint8_t byte)
{
    if (is_time_reg(reg)) {
        write_time(rtc, reg, byte);
        return;
    }
    switch (reg) {
    case REG_A:
        rtc->state.cmos[REG_A] = byte & (uint8_t)~A_UIP;
        break;
    case REG_B:
        write_b(rtc, byte);
        break;
    case REG_C:
    case REG_D:
        break;
    default:
        rtc->state.cmos[reg] = byte;
        break;
    }
}

/* A 16-bit access is one of two bytes, index first, as on ISA. */
static void rtc_access(struct device *dev, struct bus_access *access)
{
    struct rtc *rtc = from_device(dev);

    for (unsigned int i = 0; i < access->len; i++) {
        bool is_index = access->offset + i == PORT_INDEX;
        uint8_t byte = (uint8_t)(access->value >> 8 * i);

        if (access->is_write && is_index) {
            rtc->state.index = byte & INDEX_BITS;
        } else if (access->is_write) {
            write_reg(rtc, rtc->state.index, byte);
        } else if (!is_index) {
            byte = read_reg(rtc, rtc->state.index);
            access->value &= ~((uint64_t)UINT8_MAX << 8 * i);
            access->value |= (uint64_t)byte << 8 * i;
        }
    }
}

/* Battery-backed on a PC, but a VM's reset makes a new PC. */
static void rtc_reset(struct device *dev)
{
    struct rtc_state *st = &from_device(dev)->state;

    *st = (struct rtc_state){0};
    st->cmos[REG_A] = A_POWER_ON;
    st->cmos[REG_B] = B_24H;
}

static int rtc_post_load(struct device *dev, struct err *err)
{
    const struct rtc_state *st = &from_device(dev)->state;
    uint64_t distance = num_min(st->offset_s, UINT64_C(0) - st->offset_s);

    if (distance > TIME_LAST_S || (st->index & ~INDEX_BITS) != 0 ||
        (st->cmos[REG_A] & A_UIP) != 0 || (st->cmos[REG_B] & B_24H) == 0) {
        rtc_reset(dev);
        return err_set(err, EINVAL, "rtc: state is inconsistent");
    }
    return 0;
}

static const struct device_ops rtc_ops = {
    .state = &rtc_desc,
    .access = rtc_access,
    .reset = rtc_reset,
    .post_load = rtc_post_load,
};

void rtc_init(struct rtc *rtc, uint64_t (*now_ns)(void *opaque), void *opaque)
{
    *rtc = (struct rtc){.now_ns = now_ns, .opaque = opaque};
    device_init(&rtc->dev, &rtc_ops, "rtc", &rtc->state);
    rtc_reset(&rtc->dev);
}
