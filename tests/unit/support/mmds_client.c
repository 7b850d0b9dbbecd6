/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/mmds_client.h"

#include <assert.h>
#include <string.h>

#include "vmm/base/clock.h"

static void require(bool ok)
{
    assert(ok);
    (void)ok;
}

size_t mmds_client_make(const struct mmds_tcp *tcp,
    const struct mmds_client_segment *s, uint8_t *frame)
{
    uint8_t *ip = frame + ETH_BYTES;
    uint8_t *p = ip + IP_BYTES;
    size_t head = TCP_BYTES + (s->mss != 0 ? 4 : 0);
    size_t total = IP_BYTES + head + s->len;

    memset(frame, 0, ETH_BYTES + IP_BYTES + head);
    memset(frame + ETH_DST, 0xff, MMDS_MAC_BYTES);
    memcpy(frame + ETH_SRC, MMDS_CLIENT_MAC, MMDS_MAC_BYTES);
    mmds_put16(frame + ETH_TYPE, ETH_TYPE_IPV4);
    ip[IP_VERSION_IHL] = 0x45;
    mmds_put16(ip + IP_TOTAL, (uint16_t)total);
    ip[IP_TTL] = 64;
    ip[IP_PROTO] = IP_PROTO_TCP;
    mmds_put32(ip + IP_SRC, MMDS_CLIENT_ADDRESS);
    mmds_put32(ip + IP_DST, tcp->address);
    mmds_put16(ip + IP_SUM, mmds_fold(mmds_sum(0, ip, IP_BYTES)));
    mmds_put16(p + TCP_SRC, s->port);
    mmds_put16(p + TCP_DST, 80);
    mmds_put32(p + TCP_SEQ, s->seq);
    mmds_put32(p + TCP_ACK, s->ack);
    p[TCP_OFFSET] = (uint8_t)(head / 4 << 4);
    p[TCP_FLAGS] = (uint8_t)s->flags;
    mmds_put16(p + TCP_WINDOW, s->window);
    if (s->mss != 0) {
        p[TCP_BYTES] = 2;
        p[TCP_BYTES + 1] = 4;
        mmds_put16(p + TCP_BYTES + 2, s->mss);
    }
    if (s->len > 0)
        memcpy(p + head, s->data, s->len);
    mmds_put16(p + TCP_SUM, mmds_fold(mmds_sum_segment(MMDS_CLIENT_ADDRESS,
                                tcp->address, p, head + s->len)));
    return ETH_BYTES + total;
}

void mmds_client_send(
    struct mmds_client *c, const struct mmds_client_segment *s)
{
    uint8_t frame[ETH_BYTES + IP_BYTES + TCP_BYTES + 4 + MMDS_REQUEST_MAX + 1];

    require(s->len <= MMDS_REQUEST_MAX + 1);
    mmds_tcp_input(
        c->tcp, frame, mmds_client_make(c->tcp, s, frame), true, c->now_ns);
}

bool mmds_client_next(
    struct mmds_client *c, struct mmds_client_segment *ret_segment)
{
    size_t n = mmds_tcp_output(c->tcp, c->frame);
    const uint8_t *ip = c->frame + ETH_BYTES;
    const uint8_t *p = ip + IP_BYTES;
    size_t head;

    if (n == 0)
        return false;
    require(n >= ETH_BYTES + IP_BYTES + TCP_BYTES);
    require(memcmp(c->frame, MMDS_CLIENT_MAC, MMDS_MAC_BYTES) == 0);
    require(mmds_get16(c->frame + ETH_TYPE) == ETH_TYPE_IPV4);
    require(mmds_get16(ip + IP_TOTAL) == n - ETH_BYTES);
    require(mmds_fold(mmds_sum(0, ip, IP_BYTES)) == 0);
    require(mmds_get32(ip + IP_SRC) == c->tcp->address);
    require(mmds_get32(ip + IP_DST) == MMDS_CLIENT_ADDRESS);
    require(mmds_fold(mmds_sum_segment(c->tcp->address, MMDS_CLIENT_ADDRESS, p,
                n - ETH_BYTES - IP_BYTES)) == 0);
    head = (size_t)(p[TCP_OFFSET] >> 4) * 4;
    *ret_segment = (struct mmds_client_segment){.port = mmds_get16(p + TCP_DST),
        .seq = mmds_get32(p + TCP_SEQ),
        .ack = mmds_get32(p + TCP_ACK),
        .flags = p[TCP_FLAGS],
        .window = mmds_get16(p + TCP_WINDOW),
        .mss = head > TCP_BYTES ? mmds_get16(p + TCP_BYTES + 2) : 0,
        .data = (const char *)p + head,
        .len = n - ETH_BYTES - IP_BYTES - head};
    return true;
}

void mmds_client_connect(
    struct mmds_client *c, struct mmds_tcp *tcp, uint16_t port)
{
    struct mmds_client_segment s;

    *c = (struct mmds_client){.tcp = tcp,
        .port = port,
        .seq = 1000,
        .window = 65535,
        .now_ns = CLOCK_NS_PER_S};
    mmds_client_send(c, &(struct mmds_client_segment){.port = port,
                            .seq = c->seq,
                            .flags = TCP_SYN,
                            .window = c->window,
                            .mss = 1460});
    require(mmds_client_next(c, &s));
    require(s.flags == (TCP_SYN | TCP_ACKED) && s.ack == c->seq + 1);
    require(s.mss == 1460 && s.window == MMDS_REQUEST_MAX);
    c->seq++;
    c->ack = s.seq + 1;
    mmds_client_send(c, &(struct mmds_client_segment){.port = port,
                            .seq = c->seq,
                            .ack = c->ack,
                            .flags = TCP_ACKED,
                            .window = c->window});
    require(!mmds_client_next(c, &s));
}

void mmds_client_say(struct mmds_client *c, const char *text)
{
    mmds_client_send(c, &(struct mmds_client_segment){.port = c->port,
                            .seq = c->seq,
                            .ack = c->ack,
                            .flags = TCP_ACKED | TCP_PSH,
                            .window = c->window,
                            .data = text,
                            .len = strlen(text)});
    c->seq += (uint32_t)strlen(text);
}

void mmds_client_hear(
    struct mmds_client *c, char *ret_text, size_t size, bool *ret_fin)
{
    struct mmds_client_segment s;
    size_t len = 0;

    *ret_fin = false;
    while (mmds_client_next(c, &s)) {
        require(s.port == c->port && (s.flags & TCP_ACKED) != 0);
        require((s.flags & (TCP_RST | TCP_SYN)) == 0);
        require(s.ack == c->seq && s.seq == c->ack);
        require(len + s.len < size);
        memcpy(ret_text + len, s.data, s.len);
        len += s.len;
        c->ack += (uint32_t)s.len;
        if ((s.flags & TCP_FIN) != 0) {
            *ret_fin = true;
            c->ack++;
        }
        if (s.len == 0 && (s.flags & TCP_FIN) == 0)
            continue;
        mmds_client_send(c, &(struct mmds_client_segment){.port = c->port,
                                .seq = c->seq,
                                .ack = c->ack,
                                .flags = TCP_ACKED,
                                .window = c->window});
    }
    ret_text[len] = '\0';
}
