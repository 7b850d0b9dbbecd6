/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that keeps a disk, a network and a vsock connection busy at once,
 * for ever, and checks what comes back:
 *
 *   disk   SLOTS requests in flight, each slot writing to and reading from
 *          blocks of its own; every block read must hold what was last
 *          written to it, every request must come back once
 *   net    frames with running numbers, which the other side is to send back
 *   vsock  a stream of running bytes to port TRAFFIC_PORT of the host, begun
 *          again on a new connection when the transport or the host resets it
 *
 * It ends with a status only when something is wrong: see enum fault, and that of
 * driver.h. Devices
 * are polled; the timer's interrupts are only counted. struct mailbox tells
 * how far it is.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "driver.h"
#include "traffic.h"

enum fault {
    FAULT_NO_DEVICE = 1,
    FAULT_DISK_BROKEN = 3, /* the device needs a reset */
    FAULT_NET_BROKEN = 4,
    FAULT_VSOCK_BROKEN = 5,
    FAULT_DISK_STATUS = 11,
    FAULT_DISK_DATA = 12,
    FAULT_NET_FRAME = 20,
    FAULT_VSOCK_PACKET = 30,
};

extern volatile uint32_t traffic_ticks;
void traffic_main(void);

static struct traffic_mailbox *const mailbox =
    (struct traffic_mailbox *)TRAFFIC_MAILBOX;

static uint32_t seed = 1;

static uint32_t pick(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

/* ---- disk ---------------------------------------------------------------- */

#define SLOTS       4u /* three descriptors each */
#define SLOT_BLOCKS 16u
#define BLOCK       4096u

struct slot {
    struct blk_head head;
    volatile uint8_t status;
    uint32_t block; /* of the request in flight */
    bool is_write;
    uint32_t version[SLOT_BLOCKS]; /* last written; 0: never */
};

static struct queue disk __attribute__((aligned(4096)));
static struct slot slots[SLOTS];
static uint32_t buffers[SLOTS][BLOCK / 4] __attribute__((aligned(4096)));

/* One word in 64: the rest is left, so that ring 0 need not do it all. */
#define STEP 64u

static uint32_t word_of(uint32_t s, uint32_t block, uint32_t version, uint32_t i)
{
    return version == 0 ? 0 : version * 2654435761u + block * 97 + s * 31 + i;
}

static void start_request(uint32_t s)
{
    struct slot *slot = &slots[s];
    uint16_t head = (uint16_t)(3 * s);

    slot->block = pick(SLOT_BLOCKS);
    slot->is_write = pick(2) != 0;
    slot->head = (struct blk_head){.type = slot->is_write,
        .sector = (s * SLOT_BLOCKS + slot->block) * (BLOCK / 512)};
    slot->status = 0xff;
    if (slot->is_write) {
        slot->version[slot->block]++;
        for (uint32_t i = 0; i < BLOCK / 4; i += STEP)
            buffers[s][i] =
                word_of(s, slot->block, slot->version[slot->block], i);
    } else {
        for (uint32_t i = 0; i < BLOCK / 4; i += STEP)
            buffers[s][i] = 0x5a5a5a5a;
    }
    set_desc(&disk, head, &slot->head, sizeof(slot->head), DESC_NEXT,
        (uint16_t)(head + 1));
    set_desc(&disk, head + 1u, buffers[s], BLOCK,
        DESC_NEXT | (slot->is_write ? 0 : DESC_WRITE), (uint16_t)(head + 2));
    set_desc(&disk, head + 2u, &slot->status, 1, DESC_WRITE, 0);
    submit(&disk, head);
}

static void end_request(uint32_t s)
{
    const volatile uint32_t *words = buffers[s];
    const struct slot *slot = &slots[s];

    if (slot->status != 0)
        fail(FAULT_DISK_STATUS);
    if (slot->is_write)
        return;
    for (uint32_t i = 0; i < BLOCK / 4; i += STEP) {
        if (words[i] != word_of(s, slot->block, slot->version[slot->block], i))
            fail(FAULT_DISK_DATA);
    }
}

static void open_disk(void)
{
    uint32_t base = find(ID_BLK);

    if (base == 0)
        fail(FAULT_NO_DEVICE);
    begin(base);
    open_queue(&disk, base, 0);
    put(base, REG_STATUS, 15);
    for (uint32_t s = 0; s < SLOTS; s++)
        start_request(s);
}

static void step_disk(void)
{
    uint32_t head;
    uint32_t len;

    if (take(&disk, &head, &len)) {
        end_request(head / 3);
        mailbox->disk++;
        start_request(head / 3);
    }
}

/* ---- net ----------------------------------------------------------------- */

#define NET_HEADER 12u
#define FRAME      124u /* without it */
#define RX_BUFFERS 8u
#define TX_BUFFERS 4u

/* Turns of the main loop after which frames count as lost. */
#define NET_PATIENCE 20000u

struct frame {
    uint8_t header[NET_HEADER];
    uint8_t ethernet[14];
    uint16_t pad;
    uint32_t number;
    uint32_t inverse;
    uint8_t rest[2048 - NET_HEADER - 24];
};

static struct queue net_rx __attribute__((aligned(4096)));
static struct queue net_tx __attribute__((aligned(4096)));
static struct frame rx_frames[RX_BUFFERS];
static struct frame tx_frames[TX_BUFFERS];
static uint32_t net_next;   /* to be sent */
static uint32_t net_wanted; /* to come back */
static uint32_t net_waited;

static void open_net(void)
{
    uint32_t base = find(ID_NET);

    if (base == 0)
        fail(FAULT_NO_DEVICE);
    begin(base);
    open_queue(&net_rx, base, 0);
    open_queue(&net_tx, base, 1);
    put(base, REG_STATUS, 15);
    for (uint16_t i = 0; i < RX_BUFFERS; i++) {
        set_desc(&net_rx, i, &rx_frames[i], sizeof(rx_frames[i]), DESC_WRITE, 0);
        submit(&net_rx, i);
    }
}

static void send_frame(uint16_t i)
{
    struct frame *frame = &tx_frames[i];

    for (uint32_t k = 0; k < 6; k++)
        frame->ethernet[k] = 0xff;
    frame->ethernet[12] = 0x88;
    frame->ethernet[13] = 0xb5; /* for experiments */
    frame->number = net_next;
    frame->inverse = ~net_next;
    net_next++;
    set_desc(&net_tx, i, frame, NET_HEADER + FRAME, 0, 0);
    submit(&net_tx, i);
}

/* The network is another one: what was on its way is lost with the old. */
static void forget_frames(void)
{
    net_wanted = net_next;
    net_waited = 0;
}

static void take_frame(uint32_t i, uint32_t len)
{
    const volatile struct frame *frame = &rx_frames[i];

    if (len != NET_HEADER + FRAME || frame->inverse != ~frame->number)
        fail(FAULT_NET_FRAME);
    if (frame->number != net_wanted)
        mailbox->net_gaps++;
    net_wanted = frame->number + 1;
    net_waited = 0;
    mailbox->net++;
}

static void step_net(void)
{
    uint32_t head;
    uint32_t len;

    if (take(&net_rx, &head, &len)) {
        take_frame(head, len);
        submit(&net_rx, (uint16_t)head);
    }
    while (take(&net_tx, &head, &len))
        continue;
    if (net_next != net_wanted && ++net_waited > NET_PATIENCE) {
        net_wanted = net_next;
        net_waited = 0;
        mailbox->net_lost++;
    }
    for (uint16_t i = 0; i < TX_BUFFERS; i++) {
        if (!net_tx.in_flight[i] && net_next - net_wanted < TX_BUFFERS)
            send_frame(i);
    }
}

/* ---- vsock --------------------------------------------------------------- */

enum vsock_state { VSOCK_IDLE, VSOCK_CONNECTING, VSOCK_OPEN };

static struct queue vsock_rx __attribute__((aligned(4096)));
static struct queue vsock_tx __attribute__((aligned(4096)));
static struct queue vsock_events __attribute__((aligned(4096)));
static struct packet rx_packets[RX_BUFFERS];
static struct packet tx_packet;
static volatile uint32_t event;
static enum vsock_state vsock_state;
static uint32_t vsock_cid;
static uint32_t vsock_port = 1024;
static uint32_t vsock_sent;  /* bytes on this connection */
static uint32_t vsock_alloc; /* the host's buffer */
static uint32_t vsock_taken; /* of them, by the host */
static uint32_t vsock_waited;

static void open_vsock(void)
{
    uint32_t base = find(ID_VSOCK);

    if (base == 0)
        fail(FAULT_NO_DEVICE);
    begin(base);
    vsock_cid = get(base, REG_CONFIG);
    open_queue(&vsock_rx, base, 0);
    open_queue(&vsock_tx, base, 1);
    open_queue(&vsock_events, base, 2);
    put(base, REG_STATUS, 15);
    for (uint16_t i = 0; i < RX_BUFFERS; i++) {
        set_desc(
            &vsock_rx, i, &rx_packets[i], sizeof(rx_packets[i]), DESC_WRITE, 0);
        submit(&vsock_rx, i);
    }
    set_desc(&vsock_events, 0, &event, sizeof(event), DESC_WRITE, 0);
    submit(&vsock_events, 0);
}

static void send_packet(uint16_t op, uint32_t len)
{
    tx_packet.src_cid = vsock_cid;
    tx_packet.dst_cid = 2;
    tx_packet.src_port = vsock_port;
    tx_packet.dst_port = TRAFFIC_PORT;
    tx_packet.len = len;
    tx_packet.type = 1;
    tx_packet.op = op;
    tx_packet.flags = 0;
    tx_packet.buf_alloc = 65536;
    tx_packet.fwd_cnt = 0;
    set_desc(&vsock_tx, 0, &tx_packet, PACKET_HEADER + len, 0, 0);
    submit(&vsock_tx, 0);
}

static void restart_vsock(void)
{
    vsock_state = VSOCK_IDLE;
    vsock_port++;
    vsock_sent = 0;
    vsock_taken = 0;
    vsock_waited = 0;
    mailbox->vsock_resets++;
}

static void take_packet(const volatile struct packet *p, uint32_t len)
{
    if (len < PACKET_HEADER || p->dst_cid != vsock_cid ||
        p->src_port != TRAFFIC_PORT)
        fail(FAULT_VSOCK_PACKET);
    /* What is left of an earlier connection. */
    if (p->dst_port != vsock_port)
        return;
    vsock_alloc = p->buf_alloc;
    vsock_taken = p->fwd_cnt;
    vsock_waited = 0;
    if (p->op == OP_RESPONSE && vsock_state == VSOCK_CONNECTING)
        vsock_state = VSOCK_OPEN;
    else if (p->op == OP_RST || p->op == OP_SHUTDOWN)
        restart_vsock();
    else if (p->op != OP_CREDIT_UPDATE && p->op != OP_CREDIT_REQUEST)
        fail(FAULT_VSOCK_PACKET);
}

static void send_stream(void)
{
    uint32_t room = vsock_alloc - (vsock_sent - vsock_taken);

    if (room < VSOCK_PAYLOAD)
        return;
    for (uint32_t i = 0; i < VSOCK_PAYLOAD; i += 4)
        *(uint32_t *)(void *)(tx_packet.bytes + i) = vsock_sent + i;
    send_packet(OP_RW, VSOCK_PAYLOAD);
    vsock_sent += VSOCK_PAYLOAD;
    mailbox->vsock++;
}

static void step_vsock(void)
{
    uint32_t head;
    uint32_t len;

    if (take(&vsock_events, &head, &len)) {
        /* VIRTIO_VSOCK_EVENT_TRANSPORT_RESET: every connection is gone. */
        mailbox->vsock_events++;
        restart_vsock();
        forget_frames();
        submit(&vsock_events, 0);
    }
    if (take(&vsock_rx, &head, &len)) {
        take_packet(&rx_packets[head], len);
        submit(&vsock_rx, (uint16_t)head);
    }
    (void)take(&vsock_tx, &head, &len);
    if (vsock_tx.in_flight[0])
        return;
    if (vsock_state == VSOCK_IDLE) {
        vsock_state = VSOCK_CONNECTING;
        send_packet(OP_REQUEST, 0);
    } else if (vsock_state == VSOCK_OPEN) {
        send_stream();
    }
}

/* -------------------------------------------------------------------------- */

static void check_status(const struct queue *q, enum fault fault)
{
    if ((get(q->base, REG_STATUS) & 0xc0) != 0)
        fail(fault);
}

void traffic_main(void)
{
    open_disk();
    open_net();
    open_vsock();
    for (;;) {
        step_disk();
        step_net();
        step_vsock();
        mailbox->ticks = traffic_ticks;
        mailbox->turns++;
        if (mailbox->turns % 1024 == 0) {
            check_status(&disk, FAULT_DISK_BROKEN);
            check_status(&net_rx, FAULT_NET_BROKEN);
            check_status(&vsock_rx, FAULT_VSOCK_BROKEN);
        }
    }
}
