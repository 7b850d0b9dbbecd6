/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mmds_tcp.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/num.h"
#include "vmm/mmds_wire.h"

#define PORT 80u

/* Segments of less are of no use to anybody but who wants to keep us busy. */
#define MSS_MIN     100u
#define MSS_MAX     (MMDS_FRAME_OUT_MAX - ETH_BYTES - IP_BYTES - TCP_BYTES)
#define MSS_DEFAULT 536u /* RFC 9293, 3.7.1 */

/* A connection that was not heard of for so long makes way for another. */
#define EVICT_NS (10 * CLOCK_NS_PER_S)

/* Acknowledgements of the same byte that mean that what follows was lost. */
#define DUPS_MAX 3u

static const uint8_t our_mac[MMDS_MAC_BYTES] = {
    0x06, 0x01, 0x23, 0x45, 0x67, 0x01};

/* A segment of the guest's, checked. */
struct segment {
    uint32_t address;
    uint16_t port;
    uint32_t seq;
    uint32_t ack;
    unsigned int flags;
    uint32_t window;
    uint16_t mss; /* of a SYN */
    const uint8_t *data;
    size_t len;
    uint64_t now_ns;
};

/* Sequence numbers wrap (RFC 9293, 3.4). */
static bool is_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

/* ---- connections --------------------------------------------------------- */

static void drop_reply(struct mmds_conn *c)
{
    free(c->reply.data);
    c->reply = (struct mmds_reply){.data = NULL};
}

static void close_conn(struct mmds_tcp *tcp, struct mmds_conn *c)
{
    if (c->state == MMDS_CONN_FREE)
        return;
    drop_reply(c);
    free(c->request);
    *c = (struct mmds_conn){.state = MMDS_CONN_FREE};
    tcp->stats.connections_destroyed++;
}

void mmds_tcp_init(struct mmds_tcp *tcp, struct mmds *mmds)
{
    *tcp = (struct mmds_tcp){.mmds = mmds, .address = mmds->address};
}

void mmds_tcp_reset(struct mmds_tcp *tcp)
{
    for (size_t i = 0; i < MMDS_CONNECTIONS_MAX; i++)
        close_conn(tcp, &tcp->conns[i]);
    tcp->reset_count = 0;
    tcp->owes_arp = false;
}

static struct mmds_conn *find_conn(
    struct mmds_tcp *tcp, const struct segment *s)
{
    for (size_t i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        struct mmds_conn *c = &tcp->conns[i];

        if (c->state != MMDS_CONN_FREE && c->address == s->address &&
            c->port == s->port)
            return c;
    }
    return NULL;
}

static void owe_reset(struct mmds_tcp *tcp, const struct mmds_reset *reset)
{
    unsigned int at = (tcp->reset_first + tcp->reset_count) % MMDS_RESETS_MAX;

    /* Who sends more than it takes is told nothing. */
    if (tcp->reset_count == MMDS_RESETS_MAX)
        return;
    tcp->resets[at] = *reset;
    tcp->reset_count++;
}

/* RFC 9293, 3.10.7.1: one that is for no connection. */
static void refuse(struct mmds_tcp *tcp, const struct segment *s)
{
    bool has_ack = (s->flags & TCP_ACKED) == 0;
    uint32_t len = (uint32_t)s->len + ((s->flags & TCP_SYN) != 0) +
                   ((s->flags & TCP_FIN) != 0);

    if ((s->flags & TCP_RST) != 0)
        return;
    owe_reset(tcp, &(struct mmds_reset){.address = s->address,
                       .port = s->port,
                       .seq = has_ack ? 0 : s->ack,
                       .ack = s->seq + len,
                       .has_ack = has_ack});
}

static void abort_conn(struct mmds_tcp *tcp, struct mmds_conn *c)
{
    owe_reset(tcp, &(struct mmds_reset){.address = c->address,
                       .port = c->port,
                       .seq = c->snd_nxt,
                       .ack = c->rcv_nxt,
                       .has_ack = true});
    close_conn(tcp, c);
}

/* A free place, or that of the one that has been quiet for the longest. */
static struct mmds_conn *make_room(struct mmds_tcp *tcp, uint64_t now_ns)
{
    struct mmds_conn *quiet = &tcp->conns[0];

    for (size_t i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        struct mmds_conn *c = &tcp->conns[i];

        if (c->state == MMDS_CONN_FREE)
            return c;
        if (c->active_ns < quiet->active_ns)
            quiet = c;
    }
    if (now_ns - quiet->active_ns < EVICT_NS)
        return NULL;
    abort_conn(tcp, quiet);
    return quiet;
}

static void accept_conn(struct mmds_tcp *tcp, const struct segment *s)
{
    struct mmds_conn *c = s->mss < MSS_MIN ? NULL : make_room(tcp, s->now_ns);
    char *request = c == NULL ? NULL : malloc(MMDS_REQUEST_MAX);

    if (request == NULL) {
        refuse(tcp, s);
        return;
    }
    tcp->next_isn += 64007u;
    *c = (struct mmds_conn){.state = MMDS_CONN_SYN,
        .address = s->address,
        .port = s->port,
        .mss = (uint16_t)num_min(s->mss, MSS_MAX),
        .window = s->window,
        .snd_una = tcp->next_isn,
        .snd_nxt = tcp->next_isn,
        .snd_max = tcp->next_isn,
        .data_end = tcp->next_isn + 1,
        .rcv_nxt = s->seq + 1,
        .active_ns = s->now_ns,
        .request = request};
    tcp->stats.connections_created++;
}

/* ---- requests and replies ------------------------------------------------ */

/*
 * Answers the next request, if there is one and none is being answered;
 * false: the connection is no more.
 */
static bool answer(struct mmds_tcp *tcp, struct mmds_conn *c, uint64_t now_ns)
{
    size_t used = 0;
    int rc;

    if (c->reply.data != NULL || c->sends_fin)
        return true;
    rc = c->request_len == 0 ? 0
                             : mmds_http_answer(tcp->mmds, c->request,
                                   c->request_len, now_ns, &used, &c->reply);
    if (rc < 0) {
        abort_conn(tcp, c);
        return false;
    }
    if (rc > 0) {
        c->request_len -= used;
        memmove(c->request, c->request + used, c->request_len);
        c->data_end += (uint32_t)c->reply.len;
        c->sends_fin = c->reply.is_last;
        return true;
    }
    /* A request that will not be whole is not waited for. */
    c->sends_fin = c->got_fin;
    return true;
}

/* ---- segments in --------------------------------------------------------- */

/* What the guest has got, and has room for; false: it is not to be. */
static bool take_ack(struct mmds_conn *c, const struct segment *s)
{
    uint32_t una = c->snd_una;
    bool is_news = s->len > 0 || (s->flags & TCP_FIN) != 0 ||
                   s->window != c->window || una == c->snd_max;

    if (is_before(c->snd_max, s->ack)) {
        c->owes_ack = true;
        return false;
    }
    if (is_before(s->ack, una))
        return true;
    c->window = s->window;
    if (s->ack == una) {
        c->dups = is_news ? 0 : c->dups + 1;
        if (c->dups == DUPS_MAX) {
            c->dups = 0;
            c->snd_nxt = una;
        }
        return true;
    }
    c->dups = 0;
    c->still_ns = 0;
    c->resends = 0;
    c->snd_una = s->ack;
    if (is_before(c->snd_nxt, s->ack))
        c->snd_nxt = s->ack;
    c->state = MMDS_CONN_OPEN;
    if (!is_before(s->ack, c->data_end))
        drop_reply(c);
    return true;
}

/*
 * Takes what is new of the data and fits; anything else is told what was
 * expected.
 */
static void take_data(struct mmds_conn *c, const struct segment *s)
{
    uint32_t skip = c->rcv_nxt - s->seq;
    uint32_t len = (uint32_t)s->len;
    uint32_t room = (uint32_t)(MMDS_REQUEST_MAX - c->request_len);
    bool has_fin = (s->flags & TCP_FIN) != 0;
    uint32_t n;

    if (len == 0 && !has_fin) {
        /* A probe, or one that was lost to us on purpose. */
        c->owes_ack |= s->seq != c->rcv_nxt;
        return;
    }
    c->owes_ack = true;
    /* Behind what was expected, or a part of it that was there before. */
    if (is_before(c->rcv_nxt, s->seq) || skip > len)
        return;
    n = len - skip;
    if (c->got_fin)
        return;
    if (c->sends_fin) {
        /* Nobody will look at it. */
        c->rcv_nxt += n + has_fin;
        c->got_fin = has_fin;
        return;
    }
    if (n > room) {
        n = room;
        has_fin = false;
    }
    if (n > 0)
        memcpy(c->request + c->request_len, s->data + skip, n);
    c->request_len += n;
    c->rcv_nxt += n + has_fin;
    c->got_fin = has_fin;
}

/* Whether both sides have said all, and know it. */
static bool is_done(const struct mmds_conn *c)
{
    return c->got_fin && c->sends_fin && c->snd_una == c->data_end + 1 &&
           !c->owes_ack;
}

static void take_segment(
    struct mmds_tcp *tcp, struct mmds_conn *c, const struct segment *s)
{
    if ((s->flags & TCP_RST) != 0) {
        /* RFC 5961, 3.2: only one that is where it is expected. */
        if (s->seq == c->rcv_nxt)
            close_conn(tcp, c);
        return;
    }
    if ((s->flags & TCP_SYN) != 0) {
        /* Once more: so is ours. Or a new one, of a guest that started anew. */
        if (c->state == MMDS_CONN_SYN && s->seq + 1 == c->rcv_nxt) {
            c->snd_nxt = c->snd_una;
            return;
        }
        close_conn(tcp, c);
        if ((s->flags & TCP_ACKED) == 0)
            accept_conn(tcp, s);
        return;
    }
    c->active_ns = s->now_ns;
    if ((s->flags & TCP_ACKED) == 0 || !take_ack(c, s))
        return;
    if (c->state != MMDS_CONN_OPEN)
        return;
    take_data(c, s);
    if (answer(tcp, c, s->now_ns) && is_done(c))
        close_conn(tcp, c);
}

/* ---- the clock ----------------------------------------------------------- */

/* With no room at the guest's there is nothing to hear of but that. */
static bool is_waiting(const struct mmds_conn *c)
{
    return c->state != MMDS_CONN_FREE && c->snd_nxt != c->snd_una;
}

bool mmds_tcp_is_waiting(const struct mmds_tcp *tcp)
{
    for (unsigned int i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        if (is_waiting(&tcp->conns[i]))
            return true;
    }
    return false;
}

/* The first tick only sees that it waits. */
static void tick_conn(
    struct mmds_tcp *tcp, struct mmds_conn *c, uint64_t now_ns)
{
    if (c->still_ns == 0) {
        c->still_ns = now_ns;
        return;
    }
    if (now_ns - c->still_ns < MMDS_TICK_NS << c->resends)
        return;
    if (c->resends == MMDS_RESENDS_MAX) {
        abort_conn(tcp, c);
        tcp->may_have_output = true;
        return;
    }
    c->resends++;
    c->still_ns = now_ns;
    c->snd_nxt = c->snd_una;
    tcp->may_have_output = true;
}

void mmds_tcp_tick(struct mmds_tcp *tcp, uint64_t now_ns)
{
    for (unsigned int i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        if (is_waiting(&tcp->conns[i]))
            tick_conn(tcp, &tcp->conns[i], now_ns);
    }
}

/* ---- frames in ----------------------------------------------------------- */

static uint16_t read_mss(const uint8_t *options, size_t len)
{
    size_t at = 0;

    while (at < len && options[at] != 0) {
        size_t n = options[at] == 1 ? 1 : at + 1 < len ? options[at + 1] : 0;

        if (n == 0 || n > len - at || (n == 1 && options[at] != 1))
            break;
        if (options[at] == 2 && n == 4)
            return mmds_get16(options + at + 2);
        at += n;
    }
    return MSS_DEFAULT;
}

static void take_tcp(struct mmds_tcp *tcp, const uint8_t *p, size_t len,
    struct segment *s, bool is_summed)
{
    size_t head = len < TCP_BYTES ? 0 : (size_t)(p[TCP_OFFSET] >> 4) * 4;
    struct mmds_conn *c;

    if (head < TCP_BYTES || head > len || mmds_get16(p + TCP_DST) != PORT ||
        (is_summed && mmds_fold(mmds_sum_segment(
                          s->address, tcp->address, p, len)) != 0)) {
        tcp->stats.rx_accepted_err++;
        return;
    }
    s->port = mmds_get16(p + TCP_SRC);
    s->seq = mmds_get32(p + TCP_SEQ);
    s->ack = mmds_get32(p + TCP_ACK);
    s->flags = p[TCP_FLAGS];
    s->window = mmds_get16(p + TCP_WINDOW);
    s->mss = read_mss(p + TCP_BYTES, head - TCP_BYTES);
    s->data = p + head;
    s->len = len - head;
    tcp->stats.rx_count++;
    c = find_conn(tcp, s);
    if (c != NULL)
        take_segment(tcp, c, s);
    else if ((s->flags & (TCP_SYN | TCP_ACKED | TCP_RST | TCP_FIN)) == TCP_SYN)
        accept_conn(tcp, s);
    else
        refuse(tcp, s);
}

static void take_ip(struct mmds_tcp *tcp, const uint8_t *frame, size_t len,
    bool is_summed, uint64_t now_ns)
{
    const uint8_t *p = frame + ETH_BYTES;
    size_t left = len - ETH_BYTES;
    size_t head = left < IP_BYTES ? 0 : (size_t)(p[IP_VERSION_IHL] & 15) * 4;
    size_t total = left < IP_BYTES ? 0 : mmds_get16(p + IP_TOTAL);
    struct segment s = {.now_ns = now_ns};

    /* A fragment is none of ours: segments are no longer than an MTU. */
    if (head < IP_BYTES || p[IP_VERSION_IHL] >> 4 != 4 || total < head ||
        total > left || mmds_fold(mmds_sum(0, p, head)) != 0 ||
        (mmds_get16(p + IP_FRAGMENT) & ~IP_DONT_FRAGMENT) != 0) {
        tcp->stats.rx_accepted_err++;
        return;
    }
    if (p[IP_PROTO] != IP_PROTO_TCP) {
        tcp->stats.rx_unusual++;
        return;
    }
    s.address = mmds_get32(p + IP_SRC);
    memcpy(tcp->guest_mac, frame + ETH_SRC, MMDS_MAC_BYTES);
    take_tcp(tcp, p + head, total - head, &s, is_summed);
}

bool mmds_tcp_wants(const struct mmds_tcp *tcp, const uint8_t *head, size_t len)
{
    static const uint8_t ethernet_ipv4[] = {0, 1, 8, 0, 6, 4, 0, ARP_REQUEST};
    const uint8_t *p = head + ETH_BYTES;

    if (len < ETH_BYTES + IP_BYTES)
        return false;
    if (mmds_get16(head + ETH_TYPE) == ETH_TYPE_IPV4)
        return mmds_get32(p + IP_DST) == tcp->address;
    return mmds_get16(head + ETH_TYPE) == ETH_TYPE_ARP &&
           len >= ETH_BYTES + ARP_BYTES &&
           memcmp(p, ethernet_ipv4, sizeof(ethernet_ipv4)) == 0 &&
           mmds_get32(p + ARP_TPA) == tcp->address;
}

void mmds_tcp_input(struct mmds_tcp *tcp, const uint8_t *frame, size_t len,
    bool is_summed, uint64_t now_ns)
{
    if (!mmds_tcp_wants(tcp, frame, len))
        return;
    tcp->may_have_output = true;
    if (mmds_get16(frame + ETH_TYPE) == ETH_TYPE_IPV4) {
        take_ip(tcp, frame, len, is_summed, now_ns);
        return;
    }
    memcpy(tcp->guest_mac, frame + ETH_BYTES + ARP_SHA, MMDS_MAC_BYTES);
    tcp->arp_to = mmds_get32(frame + ETH_BYTES + ARP_SPA);
    tcp->owes_arp = true;
}

/* ---- frames out ---------------------------------------------------------- */

/* What a segment says besides its data. */
struct outgoing {
    uint32_t address;
    uint16_t port;
    uint32_t seq;
    uint32_t ack;
    unsigned int flags;
    uint16_t window;
};

static void put_ethernet(
    const struct mmds_tcp *tcp, uint8_t *frame, uint16_t type)
{
    memcpy(frame + ETH_DST, tcp->guest_mac, MMDS_MAC_BYTES);
    memcpy(frame + ETH_SRC, our_mac, MMDS_MAC_BYTES);
    mmds_put16(frame + ETH_TYPE, type);
}

static size_t put_arp(struct mmds_tcp *tcp, uint8_t *frame)
{
    uint8_t *p = frame + ETH_BYTES;

    put_ethernet(tcp, frame, ETH_TYPE_ARP);
    mmds_put16(p + ARP_HTYPE, 1);
    mmds_put16(p + ARP_PTYPE, ETH_TYPE_IPV4);
    mmds_put16(p + ARP_LENS, MMDS_MAC_BYTES << 8 | 4);
    mmds_put16(p + ARP_OP, ARP_REPLY);
    memcpy(p + ARP_SHA, our_mac, MMDS_MAC_BYTES);
    mmds_put32(p + ARP_SPA, tcp->address);
    memcpy(p + ARP_THA, tcp->guest_mac, MMDS_MAC_BYTES);
    mmds_put32(p + ARP_TPA, tcp->arp_to);
    tcp->owes_arp = false;
    return ETH_BYTES + ARP_BYTES;
}

/* A SYN has one option; nothing else has any. */
static size_t put_segment(struct mmds_tcp *tcp, uint8_t *frame,
    const struct outgoing *o, const char *data, size_t len)
{
    uint8_t *ip = frame + ETH_BYTES;
    uint8_t *p = ip + IP_BYTES;
    size_t options = (o->flags & TCP_SYN) != 0 ? 4 : 0;
    size_t head = TCP_BYTES + options;
    size_t total = IP_BYTES + head + len;

    assert(ETH_BYTES + total <= MMDS_FRAME_OUT_MAX);
    put_ethernet(tcp, frame, ETH_TYPE_IPV4);
    memset(ip, 0, IP_BYTES + head);
    ip[IP_VERSION_IHL] = 0x45;
    mmds_put16(ip + IP_TOTAL, (uint16_t)total);
    mmds_put16(ip + IP_ID, tcp->next_ip_id++);
    mmds_put16(ip + IP_FRAGMENT, IP_DONT_FRAGMENT);
    ip[IP_TTL] = 1; /* it goes no further than to the guest */
    ip[IP_PROTO] = IP_PROTO_TCP;
    mmds_put32(ip + IP_SRC, tcp->address);
    mmds_put32(ip + IP_DST, o->address);
    mmds_put16(ip + IP_SUM, mmds_fold(mmds_sum(0, ip, IP_BYTES)));
    mmds_put16(p + TCP_SRC, PORT);
    mmds_put16(p + TCP_DST, o->port);
    mmds_put32(p + TCP_SEQ, o->seq);
    mmds_put32(p + TCP_ACK, o->ack);
    p[TCP_OFFSET] = (uint8_t)(head / 4 << 4);
    p[TCP_FLAGS] = (uint8_t)o->flags;
    mmds_put16(p + TCP_WINDOW, o->window);
    if (options != 0) {
        p[TCP_BYTES] = 2;
        p[TCP_BYTES + 1] = 4;
        mmds_put16(p + TCP_BYTES + 2, MSS_MAX);
    }
    if (len > 0)
        memcpy(p + head, data, len);
    mmds_put16(p + TCP_SUM,
        mmds_fold(mmds_sum_segment(tcp->address, o->address, p, head + len)));
    return ETH_BYTES + total;
}

static size_t put_reset(struct mmds_tcp *tcp, uint8_t *frame)
{
    const struct mmds_reset *r = &tcp->resets[tcp->reset_first];
    const struct outgoing o = {.address = r->address,
        .port = r->port,
        .seq = r->seq,
        .ack = r->has_ack ? r->ack : 0,
        .flags = TCP_RST | (r->has_ack ? TCP_ACKED : 0)};

    tcp->reset_first = (tcp->reset_first + 1) % MMDS_RESETS_MAX;
    tcp->reset_count--;
    return put_segment(tcp, frame, &o, NULL, 0);
}

/* The next segment of a connection; 0 if it has none. */
static size_t put_conn(
    struct mmds_tcp *tcp, struct mmds_conn *c, uint8_t *frame)
{
    bool is_syn = c->state == MMDS_CONN_SYN;
    uint32_t flown = c->snd_nxt - c->snd_una;
    uint32_t room = flown < c->window ? c->window - flown : 0;
    uint32_t left = c->data_end - c->snd_nxt;
    struct outgoing o = {.address = c->address,
        .port = c->port,
        .seq = c->snd_nxt,
        .ack = c->rcv_nxt,
        .flags = TCP_ACKED,
        .window = (uint16_t)(MMDS_REQUEST_MAX - c->request_len)};
    uint32_t n = 0;

    if (is_syn && c->snd_nxt == c->snd_una)
        o.flags |= TCP_SYN;
    /* At data_end + 1 all was sent, the FIN included. */
    if (!is_syn && !is_before(c->data_end, c->snd_nxt))
        n = (uint32_t)num_min(num_min(left, room), c->mss);
    if (n > 0 && n == left)
        o.flags |= TCP_PSH;
    if (!is_syn && c->sends_fin && n == left && room > n &&
        c->snd_nxt != c->data_end + 1)
        o.flags |= TCP_FIN;
    if (n == 0 && (o.flags & (TCP_SYN | TCP_FIN)) == 0 && !c->owes_ack)
        return 0;
    c->snd_nxt += n + ((o.flags & (TCP_SYN | TCP_FIN)) != 0);
    if (is_before(c->snd_max, c->snd_nxt))
        c->snd_max = c->snd_nxt;
    c->owes_ack = false;
    /* A reply is there as long as any byte before data_end may be sent. */
    assert(n == 0 || left <= c->reply.len);
    return put_segment(tcp, frame, &o,
        n == 0 ? NULL : c->reply.data + (c->reply.len - left), n);
}

static size_t put_next(struct mmds_tcp *tcp, uint8_t *frame)
{
    if (tcp->owes_arp)
        return put_arp(tcp, frame);
    if (tcp->reset_count > 0)
        return put_reset(tcp, frame);
    for (unsigned int i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        unsigned int at = (tcp->turn + i) % MMDS_CONNECTIONS_MAX;
        struct mmds_conn *c = &tcp->conns[at];
        size_t n = c->state == MMDS_CONN_FREE ? 0 : put_conn(tcp, c, frame);

        if (n == 0)
            continue;
        tcp->turn = at + 1;
        if (is_done(c))
            close_conn(tcp, c);
        return n;
    }
    return 0;
}

size_t mmds_tcp_output(
    struct mmds_tcp *tcp, uint8_t ret_frame[MMDS_FRAME_OUT_MAX])
{
    size_t n = tcp->may_have_output ? put_next(tcp, ret_frame) : 0;

    tcp->may_have_output = n > 0;
    if (n > 0) {
        tcp->stats.tx_frames++;
        tcp->stats.tx_bytes += n;
    }
    return n;
}
