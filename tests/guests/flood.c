/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does one thing for ever, as fast as it can; which, the word
 * flood= on its command line says:
 *
 *   serial   text to the serial port
 *   end      as much of it as "serial" in its first 64 KiB; then status 0
 *   console  text to the virtio console
 *   disk     writes to the first block of the disk and to another one, in turn
 *   vsock    connections to FLOOD_PORT of the host, each with as much data as
 *            the host gives credit for
 *   balloon  the same pages of 16 MiB into the balloon
 *   memory   writes to all of its memory
 *   nobody   reads and writes of ports and addresses that have no device
 *
 * and one that is to be disturbed by the others:
 *
 *   echo     sleeps until there is a packet, and sends back what comes to
 *            FLOOD_ECHO
 *
 * It ends with a status only when something is wrong, but for "end".
 */
#include "driver.h"
#include "flood.h"

#define PORT_SERIAL 0x3f8
#define BLOCK       4096u
#define RX_BUFFERS  8u
#define END_BYTES   (64u << 10)

enum fault { FAULT_NO_DEVICE = 1, FAULT_NO_WORD = 3, FAULT_BROKEN = 4 };

/* struct hvm_start_info, as far as it is of use. */
struct start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules;
    uint64_t cmdline;
    uint64_t rsdp;
    uint64_t map;
    uint32_t map_count;
};

struct map_entry {
    uint64_t start;
    uint64_t size;
    uint32_t type; /* 1: RAM */
    uint32_t reserved;
};

extern uint8_t image_end[];
void flood_main(const struct start_info *info);

static struct queue first __attribute__((aligned(4096)));
static struct queue second __attribute__((aligned(4096)));
static struct queue third __attribute__((aligned(4096)));
static uint8_t text[BLOCK] __attribute__((aligned(4096)));

static uint32_t need(uint32_t id)
{
    uint32_t base = find(id);

    if (base == 0)
        fail(FAULT_NO_DEVICE);
    begin(base);
    return base;
}

static void check(uint32_t base)
{
    if ((get(base, REG_STATUS) & 0xc0) != 0)
        fail(FAULT_BROKEN);
}

/* Waits for one chain, which is to be the only one. */
static void finish(struct queue *q)
{
    uint32_t head;
    uint32_t len;

    while (!take(q, &head, &len))
        __asm__ volatile("pause");
    check(q->base);
}

static void make_text(void)
{
    for (uint32_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)(i % 64 == 63 ? '\n' : 'a' + i % 26);
}

static void send_serial(void)
{
    const uint8_t *at = text;
    uint64_t n = sizeof(text);

    __asm__ volatile("rep outsb" : "+S"(at), "+c"(n) : "d"(PORT_SERIAL) : "memory");
}

static void flood_serial(uint32_t bytes)
{
    make_text();
    for (uint32_t sent = 0; bytes == 0 || sent < bytes; sent += sizeof(text))
        send_serial();
    fail(0);
}

static void flood_console(void)
{
    uint32_t base = need(ID_CONSOLE);

    make_text();
    open_queue(&first, base, 0);
    open_queue(&second, base, 1);
    put(base, REG_STATUS, 15);
    for (;;) {
        set_desc(&second, 0, text, sizeof(text), 0, 0);
        submit(&second, 0);
        finish(&second);
    }
}

static void flood_disk(void)
{
    static struct blk_head head;
    static volatile uint8_t status;
    uint32_t base = need(ID_BLK);
    uint32_t blocks = get(base, REG_CONFIG) / (BLOCK / 512);

    open_queue(&first, base, 0);
    put(base, REG_STATUS, 15);
    for (uint32_t i = 0;; i++) {
        head = (struct blk_head){.type = 1,
            .sector = i % 2 == 0 ? 0 : i / 2 % blocks * (BLOCK / 512)};
        set_desc(&first, 0, &head, sizeof(head), DESC_NEXT, 1);
        set_desc(&first, 1, text, sizeof(text), DESC_NEXT, 2);
        set_desc(&first, 2, &status, 1, DESC_WRITE, 0);
        submit(&first, 0);
        finish(&first);
    }
}

static void flood_balloon(void)
{
    static uint32_t pages[BLOCK / 4] __attribute__((aligned(4096)));
    uint32_t base = need(ID_BALLOON);
    uint32_t page = 0;

    open_queue(&first, base, 0);
    open_queue(&second, base, 1);
    put(base, REG_STATUS, 15);
    for (;;) {
        /* From 8 to 16 MiB. */
        for (uint32_t i = 0; i < BLOCK / 4; i++, page++)
            pages[i] = 2048 + page % 2048;
        set_desc(&first, 0, pages, sizeof(pages), 0, 0);
        submit(&first, 0);
        finish(&first);
    }
}

static void flood_memory(const struct start_info *info)
{
    const struct map_entry *map =
        (const struct map_entry *)(uintptr_t)info->map;

    for (uint64_t round = 1;; round++) {
        for (uint32_t i = 0; i < info->map_count; i++) {
            uint64_t at = map[i].start;

            if (map[i].type != 1 || map[i].start < 0x100000)
                continue;
            if (at < (uintptr_t)image_end)
                at = ((uintptr_t)image_end + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
            for (; at < map[i].start + map[i].size; at += BLOCK)
                *(volatile uint64_t *)at = round;
        }
    }
}

static void flood_nobody(void)
{
    volatile uint32_t *at = (volatile uint32_t *)0xd0000000;

    for (uint32_t i = 0;; i++) {
        uint32_t value = i;

        __asm__ volatile("outl %0, %w1" ::"a"(value), "d"(0x700));
        __asm__ volatile("inl %w1, %0" : "=a"(value) : "d"(0x704));
        at[0] = value + at[1];
    }
}

/* ---- vsock --------------------------------------------------------------- */

static struct packet rx_packets[RX_BUFFERS];
static struct packet tx_packet;
static uint32_t cid;

static uint32_t open_vsock(void)
{
    uint32_t base = need(ID_VSOCK);

    cid = get(base, REG_CONFIG);
    open_queue(&first, base, 0);
    open_queue(&second, base, 1);
    open_queue(&third, base, 2);
    put(base, REG_STATUS, 15);
    for (uint16_t i = 0; i < RX_BUFFERS; i++) {
        set_desc(&first, i, &rx_packets[i], sizeof(rx_packets[i]), DESC_WRITE, 0);
        submit(&first, i);
    }
    return base;
}

/* One packet, with `len` bytes at `data` behind it. */
static void send(uint32_t from, uint32_t to, uint16_t op, const void *data,
    uint32_t len, uint32_t fwd_cnt)
{
    tx_packet.src_cid = cid;
    tx_packet.dst_cid = 2;
    tx_packet.src_port = from;
    tx_packet.dst_port = to;
    tx_packet.len = len;
    tx_packet.type = 1;
    tx_packet.op = op;
    tx_packet.flags = 0;
    tx_packet.buf_alloc = 65536;
    tx_packet.fwd_cnt = fwd_cnt;
    set_desc(&second, 0, &tx_packet, PACKET_HEADER, len > 0 ? DESC_NEXT : 0, 1);
    set_desc(&second, 1, data, len, 0, 0);
    submit(&second, 0);
    finish(&second);
}

/* The connection of `port`: how much the host has taken and may be given. */
struct credit {
    uint32_t port;
    uint32_t sent;
    uint32_t taken;
    uint32_t room;
    bool is_over;
};

static bool read_answer(struct credit *c)
{
    const volatile struct packet *p;
    uint32_t head;
    uint32_t len;

    if (!take(&first, &head, &len))
        return false;
    p = &rx_packets[head];
    if (p->dst_port == c->port) {
        c->room = p->buf_alloc;
        c->taken = p->fwd_cnt;
        c->is_over = p->op == OP_RST || p->op == OP_SHUTDOWN;
    }
    submit(&first, (uint16_t)head);
    return true;
}

static void flood_vsock(void)
{
    uint32_t base = open_vsock();

    for (uint32_t port = 1024;; port++) {
        struct credit c = {.port = port};

        send(port, FLOOD_PORT, OP_REQUEST, NULL, 0, 0);
        while (!c.is_over && c.room == 0)
            (void)read_answer(&c);
        while (!c.is_over && c.room - (c.sent - c.taken) >= BLOCK) {
            send(port, FLOOD_PORT, OP_RW, text, BLOCK, 0);
            c.sent += BLOCK;
            while (read_answer(&c))
                continue;
        }
        check(base);
    }
}

/* What comes in `p` is answered at once. */
static void answer(const struct packet *p)
{
    static uint32_t received;

    if (p->dst_port != FLOOD_ECHO || p->op == OP_RST)
        return;
    if (p->op == OP_REQUEST) {
        received = 0;
        send(FLOOD_ECHO, p->src_port, OP_RESPONSE, NULL, 0, 0);
    } else if (p->op == OP_RW) {
        received += p->len;
        send(FLOOD_ECHO, p->src_port, OP_RW, p->bytes, p->len, received);
    } else if (p->op == OP_CREDIT_REQUEST) {
        send(FLOOD_ECHO, p->src_port, OP_CREDIT_UPDATE, NULL, 0, received);
    } else if (p->op == OP_SHUTDOWN) {
        send(FLOOD_ECHO, p->src_port, OP_RST, NULL, 0, received);
    }
}

/* The I/O APIC's pin, which is that of the device's window, at our vector. */
static void route(uint32_t base)
{
    volatile uint32_t *index = (volatile uint32_t *)0xfec00000;
    volatile uint32_t *data = (volatile uint32_t *)0xfec00010;
    uint32_t pin = 16 + (base - WINDOW(0)) / 0x1000;

    *index = 0x11 + 2 * pin;
    *data = 0;
    *index = 0x10 + 2 * pin;
    *data = FLOOD_VECTOR;
}

static void echo(void)
{
    uint32_t base = open_vsock();
    uint32_t head;
    uint32_t len;

    route(base);
    for (;;) {
        put(base, REG_INTERRUPT_ACK, get(base, REG_INTERRUPT_STATUS));
        while (take(&first, &head, &len)) {
            answer(&rx_packets[head]);
            submit(&first, (uint16_t)head);
        }
        check(base);
        /* What comes between the look at the queue and here wakes it. */
        if (((volatile struct used *)&first.used)->idx == first.seen)
            __asm__ volatile("sti; hlt; cli" ::: "memory");
    }
}

/* -------------------------------------------------------------------------- */

static bool starts_with(const char *at, const char *word)
{
    while (*word != '\0') {
        if (*at++ != *word++)
            return false;
    }
    return true;
}

static const char *find_word(const char *cmdline)
{
    for (; *cmdline != '\0'; cmdline++) {
        if (starts_with(cmdline, "flood="))
            return cmdline + 6;
    }
    return cmdline;
}

void flood_main(const struct start_info *info)
{
    const char *word = find_word((const char *)(uintptr_t)info->cmdline);

    if (starts_with(word, "serial"))
        flood_serial(0);
    else if (starts_with(word, "end"))
        flood_serial(END_BYTES);
    else if (starts_with(word, "console"))
        flood_console();
    else if (starts_with(word, "disk"))
        flood_disk();
    else if (starts_with(word, "vsock"))
        flood_vsock();
    else if (starts_with(word, "balloon"))
        flood_balloon();
    else if (starts_with(word, "memory"))
        flood_memory(info);
    else if (starts_with(word, "nobody"))
        flood_nobody();
    else if (starts_with(word, "echo"))
        echo();
    fail(FAULT_NO_WORD);
}
