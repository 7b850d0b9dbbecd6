/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that is a function: it sleeps until somebody connects to one of its
 * vsock ports (function.h) and answers. It says "ready" on the serial port when
 * it listens. The answer to an HTTP request is how many it has had, which is 1
 * in a machine of its own; a request for
 *
 *     /exit     ends the machine          /hang   is never answered
 *     /fault    ends it by a triple fault /junk   is answered by no HTTP
 *
 * Connections beyond CONNECTIONS are refused.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "driver.h"
#include "function.h"

#define RX_BUFFERS  16u
#define TX_BUFFERS  8u
#define CONNECTIONS 8u
#define SERIAL      0x3f8

enum fault { FAULT_NO_DEVICE = 1, FAULT_BROKEN = 3 };

struct connection {
    bool is_open;
    uint32_t port;
    uint32_t peer;
    uint32_t taken; /* bytes, for the peer's credit */
};

void function_main(void);

static struct queue rx __attribute__((aligned(4096)));
static struct queue tx __attribute__((aligned(4096)));
static struct queue events __attribute__((aligned(4096)));
static struct packet rx_packets[RX_BUFFERS];
static struct packet tx_packets[TX_BUFFERS];
static volatile uint32_t event;
static struct connection connections[CONNECTIONS];
static uint32_t device;
static uint32_t cid;
static uint32_t requests;
static bool is_offered; /* a buffer that the device was not told of */

static void say(const char *text)
{
    for (; *text != '\0'; text++)
        __asm__ volatile("outb %b0, %w1" ::"a"(*text), "d"(SERIAL));
}

static void open_device(void)
{
    device = find(ID_VSOCK);
    if (device == 0)
        fail(FAULT_NO_DEVICE);
    begin(device);
    cid = get(device, REG_CONFIG);
    open_queue(&rx, device, 0);
    open_queue(&tx, device, 1);
    open_queue(&events, device, 2);
    put(device, REG_STATUS, 15);
    for (uint16_t i = 0; i < RX_BUFFERS; i++) {
        set_desc(&rx, i, &rx_packets[i], sizeof(rx_packets[i]), DESC_WRITE, 0);
        submit(&rx, i);
    }
    set_desc(&events, 0, &event, sizeof(event), DESC_WRITE, 0);
    submit(&events, 0);
}

/* Eight bytes an instruction; buffers have room for whole ones. */
static void copy(void *to, const void *from, uint32_t len)
{
    uint64_t count = (len + 7) / 8;

    __asm__ volatile("rep movsq"
                     : "+D"(to), "+S"(from), "+c"(count)::"memory");
}

/* A packet to fill in; the device is quick. */
static uint16_t pick_packet(void)
{
    uint32_t head;
    uint32_t len;

    for (;;) {
        while (take(&tx, &head, &len))
            continue;
        for (uint16_t i = 0; i < TX_BUFFERS; i++) {
            if (!tx.in_flight[i])
                return i;
        }
    }
}

static void send(
    const struct connection *c, uint16_t op, const uint8_t *bytes, uint32_t len)
{
    uint16_t i = pick_packet();
    struct packet *p = &tx_packets[i];

    p->src_cid = cid;
    p->dst_cid = 2;
    p->src_port = c->port;
    p->dst_port = c->peer;
    p->len = len;
    p->type = 1;
    p->op = op;
    p->flags = op == OP_SHUTDOWN ? 3 : 0;
    p->buf_alloc = 65536;
    p->fwd_cnt = c->taken;
    copy(p->bytes, bytes, len);
    set_desc(&tx, i, p, PACKET_HEADER + len, 0, 0);
    submit(&tx, i);
}

/* ---- HTTP ---------------------------------------------------------------- */

static bool begins(const uint8_t *bytes, uint32_t len, const char *text)
{
    uint32_t i = 0;

    while (text[i] != '\0' && i < len && bytes[i] == (uint8_t)text[i])
        i++;
    return text[i] == '\0';
}

static uint32_t append(uint8_t *to, uint32_t at, const char *text)
{
    while (*text != '\0')
        to[at++] = (uint8_t)*text++;
    return at;
}

static uint32_t append_number(uint8_t *to, uint32_t at, uint32_t value)
{
    char digits[11];
    uint32_t n = sizeof(digits) - 1;

    digits[n] = '\0';
    do {
        digits[--n] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return append(to, at, digits + n);
}

static void answer(const struct connection *c)
{
    static const uint8_t head[72] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
        "Connection: close\r\n\r\n";
    static uint8_t text[VSOCK_PAYLOAD];
    uint32_t len = 64;

    copy(text, head, len);
    len = append_number(text, len, ++requests);
    len = append(text, len, "\n");
    send(c, OP_RW, text, len);
    send(c, OP_SHUTDOWN, NULL, 0);
}

static bool ends_request(const uint8_t *bytes, uint32_t len)
{
    return len >= 4 && begins(bytes + len - 4, 4, "\r\n\r\n");
}

static void serve(const struct connection *c, const uint8_t *bytes, uint32_t len)
{
    static const uint8_t no_table[10];

    if (begins(bytes, len, "GET /exit"))
        fail(0);
    if (begins(bytes, len, "GET /fault"))
        __asm__ volatile("lidt %0; int3" ::"m"(no_table));
    if (begins(bytes, len, "GET /hang"))
        return;
    if (begins(bytes, len, "GET /junk")) {
        send(c, OP_RW, (const uint8_t *)"junk\r\n\r\n", 8);
        send(c, OP_SHUTDOWN, NULL, 0);
    } else if (ends_request(bytes, len)) {
        answer(c);
    }
}

/* ---- connections --------------------------------------------------------- */

static struct connection *find_connection(uint32_t port, uint32_t peer)
{
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        struct connection *c = &connections[i];

        if (c->is_open && c->port == port && c->peer == peer)
            return c;
    }
    return NULL;
}

static void accept(const struct packet *p)
{
    struct connection refused = {.port = p->dst_port, .peer = p->src_port};

    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        struct connection *c = &connections[i];

        if (c->is_open ||
            (p->dst_port != FUNCTION_ECHO && p->dst_port != FUNCTION_HTTP))
            continue;
        *c = refused;
        c->is_open = true;
        send(c, OP_RESPONSE, NULL, 0);
        return;
    }
    send(&refused, OP_RST, NULL, 0);
}

static void take_packet(const struct packet *p)
{
    struct connection *c = find_connection(p->dst_port, p->src_port);

    if (p->op == OP_REQUEST) {
        accept(p);
    } else if (c == NULL) {
        return;
    } else if (p->op == OP_RW) {
        c->taken += p->len;
        if (c->port == FUNCTION_ECHO)
            send(c, OP_RW, p->bytes, p->len);
        else
            serve(c, p->bytes, p->len);
    } else if (p->op == OP_RST || p->op == OP_SHUTDOWN) {
        c->is_open = false;
        if (p->op == OP_SHUTDOWN)
            send(c, OP_RST, NULL, 0);
    } else if (p->op == OP_CREDIT_REQUEST) {
        send(c, OP_CREDIT_UPDATE, NULL, 0);
    }
}

/* Whether there was anything to do. */
static bool step(void)
{
    uint32_t head;
    uint32_t len;

    if (take(&events, &head, &len)) {
        /* VIRTIO_VSOCK_EVENT_TRANSPORT_RESET */
        for (uint32_t i = 0; i < CONNECTIONS; i++)
            connections[i].is_open = false;
        submit(&events, 0);
        return true;
    }
    if (!take(&rx, &head, &len))
        return false;
    take_packet(&rx_packets[head]);
    offer(&rx, (uint16_t)head);
    is_offered = true;
    return true;
}

void function_main(void)
{
    open_device();
    *(volatile uint32_t *)FUNCTION_MAILBOX = 1;
    say("ready\n");
    for (;;) {
        __asm__ volatile("cli");
        if (step())
            continue;
        if (is_offered) {
            is_offered = false;
            kick(&rx);
            continue;
        }
        /* Nothing comes between these two. */
        __asm__ volatile("sti; hlt");
        put(device, REG_INTERRUPT_ACK, 1);
    }
}
