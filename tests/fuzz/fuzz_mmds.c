/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service against a guest that sends any frames: mostly segments
 * of a few connections whose numbers are near to what is expected, with pieces
 * of requests in them, sometimes any bytes at all.
 *
 * What must hold: what comes out is a whole frame with right sums, for that
 * guest; never more than the window has room for, nor a segment longer than
 * was agreed on; what was acknowledged is not sent again; connections, resets
 * and memory are bounded; and at rest nothing more comes.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/clock.h"
#include "vmm/base/num.h"
#include "vmm/mmds_tcp.h"
#include "vmm/mmds_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An assertion that no build is without. */
#define require(ok) ((ok) ? (void)0 : abort())

#define PORTS      3u
#define ADDRESS    UINT32_C(0xa9fea9fe)
#define GUEST      UINT32_C(0xac100002)
#define FRAMES_MAX 4096u

/* A port of the guest's, as far as it knows. */
struct port {
    uint32_t seq;  /* its next */
    uint32_t ack;  /* of the other side's, the next */
    uint32_t sent; /* what it has acknowledged in fact */
    uint32_t window;
    bool is_open;
};

struct run {
    struct mmds mmds;
    struct mmds_tcp tcp;
    struct port ports[PORTS];
    uint64_t now_ns;
    char token[MMDS_TOKEN_CHARS + 1];
    uint8_t frame[MMDS_FRAME_IN_MAX]; /* that is being made */
};

static const char *const pieces[] = {
    "GET / HTTP/1.1\r\n\r\n",
    "GET /a/b HTTP/1.1\r\n",
    "Accept: application/json\r\n",
    "Connection: close\r\n",
    "\r\n",
    "PUT /latest/api/token HTTP/1.0\r\n",
    "X-metadata-token-ttl-seconds: 100\r\n",
    "X-aws-ec2-metadata-token: ",
    "Content-Length: 40\r\n",
    "GET /list/1/~0~1 HTTP/1.1\r\n\r\n",
    "PATCH http://x/ HTTP/1.1\r\n\r\n",
    "Transfer-Encoding: chunked\r\n",
    "GET /long HTTP/1.1\r\nX-Forwarded-For: me\r\n\r\n",
};

static json_t *make_data(void)
{
    json_t *data = json_pack("{s:{s:s,s:i}, s:[i,{s:n}], s:s}", "a", "b", "c",
        "d", 1, "list", 1, "~/", "long",
        "0123456789012345678901234567890123456789012345678901234567890123");

    require(data != NULL);
    return data;
}

static void set_up(struct run *r, uint8_t how)
{
    static json_t *data;

    if (data == NULL)
        data = make_data();
    mmds_init(&r->mmds);
    r->mmds.address = ADDRESS;
    r->mmds.is_v2 = (how & 1) != 0;
    r->mmds.imds_compat = (how & 2) != 0;
    r->mmds.data = json_incref(data);
    r->now_ns = CLOCK_NS_PER_S;
    r->token[0] = '\0';
    if ((how & 4) != 0)
        require(mmds_make_token(&r->mmds, r->now_ns, 100, r->token) == 0);
    mmds_tcp_init(&r->tcp, &r->mmds);
    for (uint32_t i = 0; i < PORTS; i++)
        r->ports[i] = (struct port){.seq = UINT32_MAX - 20 * i};
}

/* ---- frames in ----------------------------------------------------------- */

static size_t put_piece(struct run *r, struct bytes_reader *in, char *to)
{
    uint8_t which = bytes_get_u8(in);
    const char *text;
    size_t n;

    if (which < sizeof(pieces) / sizeof(pieces[0]))
        text = pieces[which];
    else if (which == 0xfe)
        text = r->token;
    else {
        n = num_min(which & 31u, bytes_left(in));
        bytes_get(in, to, n);
        return n;
    }
    n = strlen(text);
    memcpy(to, text, n);
    return n;
}

static void send_segment(struct run *r, struct bytes_reader *in, uint8_t what)
{
    uint8_t *frame = r->frame;
    uint8_t *ip = frame + ETH_BYTES;
    uint8_t *p = ip + IP_BYTES;
    unsigned int n = what % PORTS;
    struct port *port = &r->ports[n];
    uint8_t flags = bytes_get_u8(in);
    uint8_t twist = bytes_get_u8(in);
    size_t head = TCP_BYTES;
    size_t len = 0;
    uint32_t seq = port->seq;
    uint32_t ack = port->ack;

    memset(frame, 0, ETH_BYTES + IP_BYTES + TCP_BYTES);
    if ((twist & 1) != 0)
        seq += bytes_get_u8(in) - 128u;
    if ((twist & 2) != 0)
        ack += bytes_get_u8(in) - 128u;
    if ((twist & 4) != 0)
        port->window = bytes_get_u16(in);
    else if ((flags & TCP_SYN) != 0)
        port->window = 65535;
    if ((twist & 8) != 0) {
        head += 4;
        p[TCP_BYTES] = 2;
        p[TCP_BYTES + 1] = 4;
        mmds_put16(p + TCP_BYTES + 2, bytes_get_u16(in));
    }
    if ((twist & 16) != 0)
        len = put_piece(r, in, (char *)p + head);
    if ((twist & 32) != 0)
        len += put_piece(r, in, (char *)p + head + len);
    memcpy(frame + ETH_SRC, "\x02\0\0\0\0\x01", MMDS_MAC_BYTES);
    mmds_put16(frame + ETH_TYPE, ETH_TYPE_IPV4);
    ip[IP_VERSION_IHL] = 0x45;
    mmds_put16(ip + IP_TOTAL, (uint16_t)(IP_BYTES + head + len));
    ip[IP_PROTO] = IP_PROTO_TCP;
    mmds_put32(ip + IP_SRC, GUEST);
    mmds_put32(ip + IP_DST, ADDRESS);
    mmds_put16(ip + IP_SUM, mmds_fold(mmds_sum(0, ip, IP_BYTES)));
    mmds_put16(p + TCP_SRC, (uint16_t)(n + 1));
    mmds_put16(p + TCP_DST, 80);
    mmds_put32(p + TCP_SEQ, seq);
    mmds_put32(p + TCP_ACK, ack);
    p[TCP_OFFSET] = (uint8_t)(head / 4 << 4);
    p[TCP_FLAGS] = flags;
    mmds_put16(p + TCP_WINDOW, (uint16_t)port->window);
    mmds_tcp_input(
        &r->tcp, frame, ETH_BYTES + IP_BYTES + head + len, false, r->now_ns);
    if (seq == port->seq)
        port->seq +=
            (uint32_t)len + ((flags & (TCP_SYN | TCP_FIN)) != 0 ? 1 : 0);
}

/* Any bytes, behind headers that may be right up to somewhere. */
static void send_any(struct run *r, struct bytes_reader *in, uint8_t what)
{
    uint8_t frame[128] = {0};
    size_t from = (size_t)(what & 0x3f);
    size_t n = num_min(bytes_get_u8(in) & 0x3fu, bytes_left(in));

    mmds_put16(
        frame + ETH_TYPE, (what & 0x40) != 0 ? ETH_TYPE_ARP : ETH_TYPE_IPV4);
    memcpy(frame + ETH_BYTES, "\0\1\x08\0\6\4\0\1", 8);
    if ((what & 0x40) == 0)
        frame[ETH_BYTES] = 0x45;
    mmds_put32(frame + ETH_BYTES + IP_DST, ADDRESS);
    if ((what & 0x40) != 0)
        mmds_put32(frame + ETH_BYTES + ARP_TPA, ADDRESS);
    bytes_get(in, frame + from, n);
    if ((what & 0x80) != 0) {
        mmds_put16(frame + ETH_BYTES + IP_SUM, 0);
        mmds_put16(frame + ETH_BYTES + IP_SUM,
            mmds_fold(mmds_sum(0, frame + ETH_BYTES, IP_BYTES)));
    }
    mmds_tcp_input(&r->tcp, frame, from + n, (what & 1) != 0, r->now_ns);
}

/* ---- frames out ---------------------------------------------------------- */

static void check_conns(const struct run *r)
{
    require(r->tcp.reset_count <= MMDS_RESETS_MAX);
    for (size_t i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        const struct mmds_conn *c = &r->tcp.conns[i];

        if (c->state == MMDS_CONN_FREE) {
            require(c->request == NULL && c->reply.data == NULL);
            continue;
        }
        require(c->request != NULL && c->request_len <= MMDS_REQUEST_MAX);
        require((int32_t)(c->snd_nxt - c->snd_una) >= 0);
        require((int32_t)(c->snd_max - c->snd_nxt) >= 0);
        require((int32_t)(c->data_end + 1 - c->snd_max) >= 0);
        require(c->reply.data != NULL || c->state == MMDS_CONN_SYN ||
                (int32_t)(c->snd_una - c->data_end) >= 0);
    }
}

static void check_segment(struct run *r, const uint8_t *ip, size_t len)
{
    const uint8_t *p = ip + IP_BYTES;
    size_t head = (size_t)(p[TCP_OFFSET] >> 4) * 4;
    uint32_t port = mmds_get16(p + TCP_DST);
    uint32_t end;

    require(len >= IP_BYTES + TCP_BYTES && head >= TCP_BYTES);
    require(mmds_get16(ip + IP_TOTAL) == len);
    require(mmds_fold(mmds_sum(0, ip, IP_BYTES)) == 0);
    require(mmds_fold(mmds_sum_segment(mmds_get32(ip + IP_SRC),
                mmds_get32(ip + IP_DST), p, len - IP_BYTES)) == 0);
    require(mmds_get32(ip + IP_SRC) == ADDRESS);
    len -= IP_BYTES + head;
    require(len <= 1460);
    if ((p[TCP_FLAGS] & TCP_RST) != 0 || port == 0 || port > PORTS ||
        mmds_get32(ip + IP_DST) != GUEST)
        return;
    end = mmds_get32(p + TCP_SEQ) + (uint32_t)len +
          ((p[TCP_FLAGS] & (TCP_SYN | TCP_FIN)) != 0 ? 1 : 0);
    r->ports[port - 1].ack = end;
}

/* Up to `max` frames; true if there are no more. */
static bool fetch(struct run *r, unsigned int max)
{
    uint8_t frame[MMDS_FRAME_OUT_MAX];

    for (unsigned int i = 0; i < max; i++) {
        size_t n = mmds_tcp_output(&r->tcp, frame);

        require(n > 0 || !mmds_tcp_has_output(&r->tcp));
        if (n == 0)
            return true;
        require(n <= sizeof(frame) && n >= ETH_BYTES + ARP_BYTES);
        if (mmds_get16(frame + ETH_TYPE) == ETH_TYPE_ARP)
            require(n == ETH_BYTES + ARP_BYTES);
        else
            check_segment(r, frame + ETH_BYTES, n - ETH_BYTES);
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run *r;
    struct bytes_reader in;

    if (r == NULL)
        r = calloc(1, sizeof(*r));
    require(r != NULL);
    bytes_reader_init(&in, data, size);
    set_up(r, bytes_get_u8(&in));
    while (bytes_left(&in) > 0) {
        uint8_t step = bytes_get_u8(&in);

        switch (step & 7) {
        case 0:
            send_any(r, &in, bytes_get_u8(&in));
            break;
        case 1:
            (void)fetch(r, step >> 3);
            break;
        case 2:
            r->now_ns += (uint64_t)(step >> 3) * CLOCK_NS_PER_S;
            mmds_tcp_tick(&r->tcp, r->now_ns);
            break;
        case 3:
            if (step == 0xfb)
                mmds_tcp_reset(&r->tcp);
            break;
        default:
            send_segment(r, &in, step >> 3);
        }
        check_conns(r);
    }
    /* What is owed ends. */
    require(fetch(r, FRAMES_MAX));
    mmds_tcp_reset(&r->tcp);
    require(
        r->tcp.stats.connections_created == r->tcp.stats.connections_destroyed);
    mmds_fini(&r->mmds);
    return 0;
}
