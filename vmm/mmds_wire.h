/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers of Ethernet, ARP (RFC 826), IPv4 (RFC 791) and TCP (RFC 9293), as
 * far as the metadata service reads and writes them: offsets into a frame and
 * big-endian numbers.
 */
#ifndef VMM_MMDS_WIRE_H
#define VMM_MMDS_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define ETH_DST       0u
#define ETH_SRC       6u
#define ETH_TYPE      12u
#define ETH_BYTES     14u
#define ETH_TYPE_IPV4 0x0800u
#define ETH_TYPE_ARP  0x0806u

/* Offsets from the ARP packet on, of IPv4 over Ethernet. */
#define ARP_HTYPE   0u
#define ARP_PTYPE   2u
#define ARP_LENS    4u
#define ARP_OP      6u
#define ARP_SHA     8u
#define ARP_SPA     14u
#define ARP_THA     18u
#define ARP_TPA     24u
#define ARP_BYTES   28u
#define ARP_REQUEST 1u
#define ARP_REPLY   2u

/* From the IPv4 packet on. */
#define IP_VERSION_IHL   0u
#define IP_TOTAL         2u
#define IP_ID            4u
#define IP_FRAGMENT      6u
#define IP_TTL           8u
#define IP_PROTO         9u
#define IP_SUM           10u
#define IP_SRC           12u
#define IP_DST           16u
#define IP_BYTES         20u
#define IP_PROTO_TCP     6u
#define IP_DONT_FRAGMENT 0x4000u

/* From the segment on. */
#define TCP_SRC    0u
#define TCP_DST    2u
#define TCP_SEQ    4u
#define TCP_ACK    8u
#define TCP_OFFSET 12u
#define TCP_FLAGS  13u
#define TCP_WINDOW 14u
#define TCP_SUM    16u
#define TCP_BYTES  20u
#define TCP_FIN    0x01u
#define TCP_SYN    0x02u
#define TCP_RST    0x04u
#define TCP_PSH    0x08u
#define TCP_ACKED  0x10u

static inline uint16_t mmds_get16(const uint8_t *p)
{
    return (uint16_t)((unsigned int)p[0] << 8 | p[1]);
}

static inline uint32_t mmds_get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

static inline void mmds_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void mmds_put32(uint8_t *p, uint32_t v)
{
    mmds_put16(p, (uint16_t)(v >> 16));
    mmds_put16(p + 2, (uint16_t)v);
}

/* The sum of RFC 1071 over more bytes, which is not folded yet. */
static inline uint64_t mmds_sum(uint64_t sum, const uint8_t *data, size_t len)
{
    for (; len > 1; data += 2, len -= 2)
        sum += mmds_get16(data);
    return len == 0 ? sum : sum + ((uint64_t)data[0] << 8);
}

/* What belongs in the field; 0 if the field was a part of it, and right. */
static inline uint16_t mmds_fold(uint64_t sum)
{
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* Of a segment between two addresses, the pseudo-header included. */
static inline uint64_t mmds_sum_segment(
    uint32_t from, uint32_t to, const uint8_t *segment, size_t len)
{
    uint64_t sum = (from >> 16) + (from & 0xffff) + (to >> 16) + (to & 0xffff) +
                   IP_PROTO_TCP + len;

    return mmds_sum(sum, segment, len);
}

#endif
