/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/serial.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/num.h"

/* Registers by offset; PC16550D, table II. */
enum {
    REG_DATA, /* RBR, THR; DLL with DLAB */
    REG_IER,  /* DLM with DLAB */
    REG_IIR,  /* read; FCR when written */
    REG_LCR,
    REG_MCR,
    REG_LSR,
    REG_MSR,
    REG_SCR
};

#define IER_RDI  0x01u
#define IER_THRI 0x02u
#define IER_RLSI 0x04u
#define IER_MSI  0x08u
#define IER_BITS 0x0fu

#define IIR_NONE    0x01u
#define IIR_MSI     0x00u
#define IIR_THRI    0x02u
#define IIR_RDI     0x04u
#define IIR_RLSI    0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFO    0xc0u

#define FCR_ENABLE       0x01u
#define FCR_CLEAR_RX     0x02u
#define FCR_CLEAR_TX     0x04u
#define FCR_TRIGGER_BITS 0xc0u
#define FCR_TRIGGER(fcr) ((fcr) >> 6)

#define LCR_DLAB 0x80u

#define MCR_DTR  0x01u
#define MCR_RTS  0x02u
#define MCR_OUT1 0x04u
#define MCR_OUT2 0x08u
#define MCR_LOOP 0x10u
#define MCR_BITS 0x1fu

#define LSR_DR   0x01u
#define LSR_OE   0x02u
#define LSR_THRE 0x20u
#define LSR_TEMT 0x40u

#define MSR_CTS        0x10u
#define MSR_DSR        0x20u
#define MSR_RI         0x40u
#define MSR_DCD        0x80u
#define MSR_DELTA_BITS 0x0fu

#define DLL_9600_BAUD 12u

/* Interrupt conditions, after the enable bits. */
#define COND_RLS  0x01u
#define COND_RX   0x02u /* both of its IIR codes */
#define COND_THRE 0x04u
#define COND_MSI  0x08u

static const struct state_field serial_fields[] = {
    STATE_SCALAR(struct serial_state, ier, 1),
    STATE_SCALAR(struct serial_state, fcr, 1),
    STATE_SCALAR(struct serial_state, lcr, 1),
    STATE_SCALAR(struct serial_state, mcr, 1),
    STATE_SCALAR(struct serial_state, msr_delta, 1),
    STATE_SCALAR(struct serial_state, scr, 1),
    STATE_SCALAR(struct serial_state, dll, 1),
    STATE_SCALAR(struct serial_state, dlm, 1),
    STATE_SCALAR(struct serial_state, overrun, 1),
    STATE_SCALAR(struct serial_state, thre_pending, 1),
    STATE_SCALAR(struct serial_state, rx_count, 1),
    STATE_SCALAR(struct serial_state, tx_count, 1),
    STATE_ARRAY(struct serial_state, rx, 1),
    STATE_ARRAY(struct serial_state, tx, 1),
};

static const struct state_desc serial_desc =
    STATE_DESC(struct serial_state, "serial", 1, serial_fields);

static struct serial *from_device(struct device *dev)
{
    return container_of(dev, struct serial, dev);
}

static bool has_fifo(const struct serial_state *st)
{
    return (st->fcr & FCR_ENABLE) != 0;
}

static bool has_loop(const struct serial_state *st)
{
    return (st->mcr & MCR_LOOP) != 0;
}

/* Takes the oldest `n` of `count` bytes out of a FIFO. */
static void drop_oldest(uint8_t *fifo, uint8_t *count, size_t n)
{
    assert(n <= *count);
    memmove(fifo, fifo + n, *count - n);
    memset(fifo + *count - n, 0, n);
    *count = (uint8_t)(*count - n);
}

static unsigned int conditions(const struct serial_state *st)
{
    unsigned int cond = 0;

    if ((st->ier & IER_RLSI) != 0 && st->overrun != 0)
        cond |= COND_RLS;
    if ((st->ier & IER_RDI) != 0 && st->rx_count > 0)
        cond |= COND_RX;
    if ((st->ier & IER_THRI) != 0 && st->thre_pending != 0)
        cond |= COND_THRE;
    if ((st->ier & IER_MSI) != 0 && st->msr_delta != 0)
        cond |= COND_MSI;
    return cond;
}

/*
 * A driver must look at IIR until nothing is pending before it leaves its
 * handler, so one edge is enough for any number of conditions; a condition
 * that is added to others still gets its own, for those that do not.
 */
static void raise_new(const struct serial *serial, unsigned int before)
{
    if ((conditions(&serial->state) & ~before) != 0)
        irq_raise(&serial->irq);
}

static unsigned int rx_limit(const struct serial_state *st)
{
    return has_fifo(st) ? SERIAL_RX_MAX : 1;
}

static void tell_room(struct serial *serial)
{
    const struct serial_state *st = &serial->state;

    if (!serial->rx_refused || has_loop(st) || st->rx_count >= rx_limit(st))
        return;
    serial->rx_refused = false;
    if (serial->host.room != NULL)
        serial->host.room(serial->host.opaque);
}

static size_t give_to_sink(
    const struct serial *serial, const uint8_t *data, size_t len)
{
    size_t taken;

    if (serial->host.write == NULL)
        return len;
    taken = serial->host.write(serial->host.opaque, data, len);
    assert(taken <= len);
    return taken;
}

/* THR and FIFO ran empty: the condition holds until IIR reports it. */
static void set_thre(struct serial_state *st)
{
    if (st->tx_count == 0)
        st->thre_pending = 1;
}

static void transmit(struct serial *serial, const uint8_t *data, size_t len)
{
    struct serial_state *st = &serial->state;
    size_t limit = has_fifo(st) ? SERIAL_TX_MAX : 1;
    size_t sent = 0;
    size_t kept;

    /* Bytes leave in order: none passes those that already wait. */
    if (st->tx_count == 0)
        sent = give_to_sink(serial, data, len);
    kept = limit > st->tx_count ? limit - st->tx_count : 0;
    kept = num_min(kept, len - sent);
    if (kept > 0)
        memcpy(st->tx + st->tx_count, data + sent, kept);
    st->tx_count = (uint8_t)(st->tx_count + kept);
    serial->tx_dropped += len - sent - kept;
    st->thre_pending = 0;
    set_thre(st);
}

static void loop_back(struct serial *serial, uint8_t byte)
{
    struct serial_state *st = &serial->state;
    unsigned int limit = has_fifo(st) ? SERIAL_RX_LOOP : 1;

    if (st->rx_count < limit)
        st->rx[st->rx_count++] = byte;
    else
        st->overrun = 1;
    st->thre_pending = 0;
    set_thre(st);
}

static void write_data(struct serial *serial, const uint8_t *data, size_t len)
{
    if (!has_loop(&serial->state)) {
        transmit(serial, data, len);
        return;
    }
    for (size_t i = 0; i < len; i++)
        loop_back(serial, data[i]);
}

static void write_ier(struct serial_state *st, uint8_t value)
{
    uint8_t changed = (uint8_t)((st->ier ^ value) & IER_BITS);

    st->ier = value & IER_BITS;
    /* Enabling the interrupt of an empty THR makes one: drivers test that. */
    if ((changed & st->ier & IER_THRI) != 0)
        set_thre(st);
}

static void write_fcr(struct serial_state *st, uint8_t value)
{
    bool toggled = ((st->fcr ^ value) & FCR_ENABLE) != 0;

    /* Without the enable bit the others are not programmed. */
    if ((value & FCR_ENABLE) == 0)
        value = 0;
    st->fcr = value & (FCR_ENABLE | FCR_TRIGGER_BITS);
    if (toggled || (value & FCR_CLEAR_RX) != 0)
        drop_oldest(st->rx, &st->rx_count, st->rx_count);
    if ((toggled || (value & FCR_CLEAR_TX) != 0) && st->tx_count != 0) {
        drop_oldest(st->tx, &st->tx_count, st->tx_count);
        set_thre(st);
    }
}

/* The modem lines as MSR bits 4-7 have them. */
static uint8_t modem_lines(uint8_t mcr)
{
    unsigned int lines = 0;

    if ((mcr & MCR_LOOP) == 0)
        return MSR_CTS | MSR_DSR | MSR_DCD;
    lines |= (mcr & MCR_RTS) != 0 ? MSR_CTS : 0;
    lines |= (mcr & MCR_DTR) != 0 ? MSR_DSR : 0;
    lines |= (mcr & MCR_OUT1) != 0 ? MSR_RI : 0;
    lines |= (mcr & MCR_OUT2) != 0 ? MSR_DCD : 0;
    return (uint8_t)lines;
}

static void write_mcr(struct serial_state *st, uint8_t value)
{
    unsigned int before = modem_lines(st->mcr);
    unsigned int after;
    unsigned int delta;

    st->mcr = value & MCR_BITS;
    after = modem_lines(st->mcr);
    /* The ring indicator counts only when it ends (TERI). */
    delta = (before ^ after) & ~(after & MSR_RI);
    st->msr_delta = (uint8_t)(st->msr_delta | delta >> 4);
}

static void write_byte(struct serial *serial, uint64_t reg, uint8_t value)
{
    struct serial_state *st = &serial->state;
    bool dlab = (st->lcr & LCR_DLAB) != 0;

    switch (reg) {
    case REG_DATA:
        if (dlab)
            st->dll = value;
        else
            write_data(serial, &value, 1);
        break;
    case REG_IER:
        if (dlab)
            st->dlm = value;
        else
            write_ier(st, value);
        break;
    case REG_IIR:
        write_fcr(st, value);
        break;
    case REG_LCR:
        st->lcr = value;
        break;
    case REG_MCR:
        write_mcr(st, value);
        break;
    case REG_SCR:
        st->scr = value;
        break;
    default:
        /* LSR and MSR: for factory tests only. */
        break;
    }
}

/*
 * The character time-out of the FIFO mode is over at once: bytes below the
 * trigger level would otherwise wait for a timer that is not kept here.
 */
static bool is_below_trigger(const struct serial_state *st)
{
    static const uint8_t triggers[] = {1, 4, 8, 14};

    return has_fifo(st) && st->rx_count < triggers[FCR_TRIGGER(st->fcr)];
}

static uint8_t read_iir(struct serial_state *st)
{
    unsigned int cond = conditions(st);
    uint8_t fifo = has_fifo(st) ? IIR_FIFO : 0;

    if ((cond & COND_RLS) != 0)
        return fifo | IIR_RLSI;
    if ((cond & COND_RX) != 0)
        return fifo | (is_below_trigger(st) ? IIR_TIMEOUT : IIR_RDI);
    if ((cond & COND_THRE) != 0) {
        st->thre_pending = 0;
        return fifo | IIR_THRI;
    }
    if ((cond & COND_MSI) != 0)
        return fifo | IIR_MSI;
    return fifo | IIR_NONE;
}

static uint8_t read_data(struct serial_state *st)
{
    uint8_t byte = st->rx[0];

    if (st->rx_count > 0)
        drop_oldest(st->rx, &st->rx_count, 1);
    return byte;
}

static uint8_t read_lsr(struct serial_state *st)
{
    unsigned int lsr = st->tx_count == 0 ? LSR_THRE | LSR_TEMT : 0;

    lsr |= st->rx_count > 0 ? LSR_DR : 0;
    lsr |= st->overrun != 0 ? LSR_OE : 0;
    st->overrun = 0;
    return (uint8_t)lsr;
}

static uint8_t read_msr(struct serial_state *st)
{
    uint8_t msr = modem_lines(st->mcr) | st->msr_delta;

    st->msr_delta = 0;
    return msr;
}

static uint8_t read_byte(struct serial_state *st, uint64_t reg)
{
    bool dlab = (st->lcr & LCR_DLAB) != 0;

    switch (reg) {
    case REG_DATA:
        return dlab ? st->dll : read_data(st);
    case REG_IER:
        return dlab ? st->dlm : st->ier;
    case REG_IIR:
        return read_iir(st);
    case REG_LCR:
        return st->lcr;
    case REG_MCR:
        return st->mcr;
    case REG_LSR:
        return read_lsr(st);
    case REG_MSR:
        return read_msr(st);
    default:
        return st->scr;
    }
}

/* A wider access is one of bytes at the ports that follow, as on ISA. */
static void serial_access(struct device *dev, struct bus_access *access)
{
    struct serial *serial = from_device(dev);
    unsigned int before = conditions(&serial->state);

    if (!access->is_write)
        access->value = 0;
    for (unsigned int i = 0; i < access->len; i++) {
        uint64_t reg = access->offset + i;

        if (access->is_write)
            write_byte(serial, reg, (uint8_t)(access->value >> 8 * i));
        else
            access->value |= (uint64_t)read_byte(&serial->state, reg) << 8 * i;
    }
    raise_new(serial, before);
    tell_room(serial);
}

static void serial_reset(struct device *dev)
{
    struct serial *serial = from_device(dev);

    serial->state =
        (struct serial_state){.dll = DLL_9600_BAUD, .thre_pending = 1};
    tell_room(serial);
}

static bool is_clear(const uint8_t *fifo, size_t count, size_t size)
{
    while (count < size) {
        if (fifo[count++] != 0)
            return false;
    }
    return true;
}

static bool is_valid(const struct serial_state *st)
{
    return (st->ier & ~IER_BITS) == 0 &&
           (st->fcr & ~(FCR_ENABLE | FCR_TRIGGER_BITS)) == 0 &&
           (has_fifo(st) || st->fcr == 0) && (st->mcr & ~MCR_BITS) == 0 &&
           (st->msr_delta & ~MSR_DELTA_BITS) == 0 && st->overrun <= 1 &&
           st->thre_pending <= 1 && st->rx_count <= rx_limit(st) &&
           st->tx_count <= (has_fifo(st) ? SERIAL_TX_MAX : 1) &&
           (st->tx_count == 0 || st->thre_pending == 0) &&
           is_clear(st->rx, st->rx_count, SERIAL_RX_MAX) &&
           is_clear(st->tx, st->tx_count, SERIAL_TX_MAX);
}

static int serial_post_load(struct device *dev, struct err *err)
{
    struct serial *serial = from_device(dev);

    if (!is_valid(&serial->state)) {
        serial_reset(dev);
        return err_set(err, EINVAL, "serial: state is inconsistent");
    }
    return 0;
}

/* An edge that was on its way when the state was saved may be lost. */
static void serial_resume(struct device *dev)
{
    struct serial *serial = from_device(dev);

    raise_new(serial, 0);
    serial_sink_ready(serial);
    tell_room(serial);
}

static const struct device_ops serial_ops = {
    .state = &serial_desc,
    .access = serial_access,
    .reset = serial_reset,
    .post_load = serial_post_load,
    .resume = serial_resume,
};

void serial_init(
    struct serial *serial, const struct serial_host *host, struct irq_line irq)
{
    *serial = (struct serial){.host = *host, .irq = irq};
    device_init(&serial->dev, &serial_ops, "serial", &serial->state);
    serial_reset(&serial->dev);
}

void serial_sink_ready(struct serial *serial)
{
    struct serial_state *st = &serial->state;
    unsigned int before = conditions(st);

    if (st->tx_count == 0)
        return;
    drop_oldest(
        st->tx, &st->tx_count, give_to_sink(serial, st->tx, st->tx_count));
    set_thre(st);
    raise_new(serial, before);
}

size_t serial_receive(struct serial *serial, const uint8_t *data, size_t len)
{
    struct serial_state *st = &serial->state;
    unsigned int limit = rx_limit(st);
    size_t taken = 0;

    /* The loop cuts the port off from its cable. */
    if (!has_loop(st) && st->rx_count < limit)
        taken = num_min(len, limit - st->rx_count);
    if (taken > 0)
        memcpy(st->rx + st->rx_count, data, taken);
    st->rx_count = (uint8_t)(st->rx_count + taken);
    serial->rx_refused = taken < len;
    /* Fresh input raises an edge even if older input still waits for one. */
    if (taken > 0)
        raise_new(serial, conditions(st) & ~COND_RX);
    return taken;
}

void serial_write_run(struct serial *serial, const uint8_t *data, size_t len)
{
    struct serial_state *st = &serial->state;
    unsigned int before = conditions(st);

    if (len == 0)
        return;
    if ((st->lcr & LCR_DLAB) != 0)
        st->dll = data[len - 1];
    else
        write_data(serial, data, len);
    raise_new(serial, before);
}
