/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers of virtio devices for guests in C: who is where, split queues of a
 * few descriptors, and packets of the socket device.
 */
#ifndef TESTS_GUESTS_DRIVER_H
#define TESTS_GUESTS_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOW(n)  (0xc0000000u + (n) * 0x1000u)
#define WINDOWS    16u
#define PORT_EXIT  0xf4
#define QUEUE_SIZE 16u

/* virtio 1.2, 4.2.2 */
enum {
    REG_MAGIC = 0x000,
    REG_DEVICE_ID = 0x008,
    REG_DRIVER_FEATURES = 0x020,
    REG_DRIVER_FEATURES_SEL = 0x024,
    REG_QUEUE_SEL = 0x030,
    REG_QUEUE_NUM_MAX = 0x034,
    REG_QUEUE_NUM = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_QUEUE_NOTIFY = 0x050,
    REG_INTERRUPT_STATUS = 0x060,
    REG_INTERRUPT_ACK = 0x064,
    REG_STATUS = 0x070,
    REG_QUEUE_DESC = 0x080,
    REG_QUEUE_DRIVER = 0x090,
    REG_QUEUE_DEVICE = 0x0a0,
    REG_CONFIG = 0x100,
};

enum { ID_NET = 1, ID_BLK = 2, ID_CONSOLE = 3, ID_BALLOON = 5, ID_VSOCK = 19 };

/* Statuses with which what is here ends the guest. */
enum driver_fault {
    FAULT_FEATURES = 2,
    FAULT_NOT_IN_FLIGHT = 10, /* a chain came back twice, or was never sent */
};

enum { DESC_NEXT = 1, DESC_WRITE = 2 };

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

struct avail {
    uint16_t flags;
    uint16_t idx;
    uint16_t ring[QUEUE_SIZE];
    uint16_t used_event;
};

struct used {
    uint16_t flags;
    uint16_t idx;
    struct {
        uint32_t id;
        uint32_t len;
    } ring[QUEUE_SIZE];
    uint16_t avail_event;
};

struct queue {
    struct desc desc[QUEUE_SIZE] __attribute__((aligned(16)));
    struct avail avail __attribute__((aligned(4)));
    struct used used __attribute__((aligned(4)));
    uint32_t base;
    uint32_t index;
    uint32_t size;
    uint16_t seen; /* of used.idx */
    bool in_flight[QUEUE_SIZE];
};

static inline void fail(uint32_t status)
{
    for (;;)
        __asm__ volatile("outb %b0, $0xf4; hlt" ::"a"(status));
}

static inline void put(uint32_t base, uint32_t reg, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)(base + reg) = value;
}

static inline uint32_t get(uint32_t base, uint32_t reg)
{
    return *(volatile uint32_t *)(uintptr_t)(base + reg);
}

static inline void put64(uint32_t base, uint32_t reg, const void *at)
{
    put(base, reg, (uint32_t)(uintptr_t)at);
    put(base, reg + 4, 0);
}

static inline uint32_t find(uint32_t id)
{
    for (uint32_t i = 0; i < WINDOWS; i++) {
        if (get(WINDOW(i), REG_MAGIC) == 0x74726976 &&
            get(WINDOW(i), REG_DEVICE_ID) == id)
            return WINDOW(i);
    }
    return 0;
}

/* Up to FEATURES_OK, with VIRTIO_F_VERSION_1 and nothing else. */
static inline void begin(uint32_t base)
{
    put(base, REG_STATUS, 0);
    put(base, REG_STATUS, 3);
    put(base, REG_DRIVER_FEATURES_SEL, 0);
    put(base, REG_DRIVER_FEATURES, 0);
    put(base, REG_DRIVER_FEATURES_SEL, 1);
    put(base, REG_DRIVER_FEATURES, 1);
    put(base, REG_STATUS, 11);
    if ((get(base, REG_STATUS) & 8) == 0)
        fail(FAULT_FEATURES);
}

static inline void open_queue(struct queue *q, uint32_t base, uint32_t index)
{
    put(base, REG_QUEUE_SEL, index);
    q->base = base;
    q->index = index;
    q->size = get(base, REG_QUEUE_NUM_MAX);
    if (q->size > QUEUE_SIZE)
        q->size = QUEUE_SIZE;
    put(base, REG_QUEUE_NUM, q->size);
    put64(base, REG_QUEUE_DESC, q->desc);
    put64(base, REG_QUEUE_DRIVER, &q->avail);
    put64(base, REG_QUEUE_DEVICE, &q->used);
    put(base, REG_QUEUE_READY, 1);
}

static inline void set_desc(struct queue *q, uint32_t n, const volatile void *at,
    uint32_t len, uint16_t flags, uint16_t next)
{
    q->desc[n] = (struct desc){(uintptr_t)at, len, flags, next};
}

static inline void kick(struct queue *q)
{
    __asm__ volatile("mfence" ::: "memory");
    put(q->base, REG_QUEUE_NOTIFY, q->index);
}

/* The device is not told yet. */
static inline void offer(struct queue *q, uint16_t head)
{
    volatile uint16_t *idx = &q->avail.idx;

    q->in_flight[head] = true;
    q->avail.ring[*idx % q->size] = head;
    __asm__ volatile("" ::: "memory");
    *idx = (uint16_t)(*idx + 1);
}

static inline void submit(struct queue *q, uint16_t head)
{
    offer(q, head);
    kick(q);
}

/* The next chain that the device has done with. */
static inline bool take(struct queue *q, uint32_t *ret_head, uint32_t *ret_len)
{
    const volatile struct used *used = &q->used;
    uint32_t at = q->seen % q->size;

    if (used->idx == q->seen)
        return false;
    __asm__ volatile("" ::: "memory");
    *ret_head = used->ring[at].id;
    *ret_len = used->ring[at].len;
    if (*ret_head >= QUEUE_SIZE || !q->in_flight[*ret_head])
        fail(FAULT_NOT_IN_FLIGHT);
    q->in_flight[*ret_head] = false;
    q->seen++;
    return true;
}

/* virtio 1.2, 5.2.6 */
struct blk_head {
    uint32_t type; /* 0: in, 1: out */
    uint32_t reserved;
    uint64_t sector;
};

enum { OP_REQUEST = 1, OP_RESPONSE = 2, OP_RST = 3, OP_SHUTDOWN = 4, OP_RW = 5,
    OP_CREDIT_UPDATE = 6, OP_CREDIT_REQUEST = 7 };

#define VSOCK_PAYLOAD 256u

/* virtio 1.2, 5.10.6 */
struct packet {
    uint64_t src_cid;
    uint64_t dst_cid;
    uint32_t src_port;
    uint32_t dst_port;
    uint32_t len;
    uint16_t type;
    uint16_t op;
    uint32_t flags;
    uint32_t buf_alloc;
    uint32_t fwd_cnt;
    uint8_t bytes[VSOCK_PAYLOAD + 20];
} __attribute__((packed));

#define PACKET_HEADER 44u

#endif
