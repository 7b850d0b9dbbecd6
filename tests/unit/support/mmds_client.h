/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's side of the metadata service: frames made and taken apart by hand,
 * so that a test can send what no kernel would.
 *
 * Thread rule: one thread.
 */
#ifndef TESTS_UNIT_SUPPORT_MMDS_CLIENT_H
#define TESTS_UNIT_SUPPORT_MMDS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/mmds_tcp.h"
#include "vmm/mmds_wire.h"

#define MMDS_CLIENT_ADDRESS UINT32_C(0xac100002) /* 172.16.0.2 */
#define MMDS_CLIENT_MAC     "\x02\xfc\x00\x00\x00\x05"

/* A segment, either way. */
struct mmds_client_segment {
    uint16_t port; /* the guest's */
    uint32_t seq;
    uint32_t ack;
    unsigned int flags;
    uint16_t window;
    uint16_t mss; /* 0: no option */
    const char *data;
    size_t len;
};

/* One side of a connection. */
struct mmds_client {
    struct mmds_tcp *tcp;
    uint16_t port;
    uint32_t seq;
    uint32_t ack;
    uint16_t window;
    uint64_t now_ns;
    uint8_t frame[MMDS_FRAME_OUT_MAX]; /* the last that came */
};

/* As a frame in `ret_frame`, all sums right; its bytes. */
size_t mmds_client_make(const struct mmds_tcp *tcp,
    const struct mmds_client_segment *s, uint8_t *ret_frame);

/* Sends one as it is. */
void mmds_client_send(
    struct mmds_client *c, const struct mmds_client_segment *s);

/*
 * Takes the next frame, which must be a good segment, into *ret_segment; its
 * data is good until the next. False if there is none.
 */
bool mmds_client_next(
    struct mmds_client *c, struct mmds_client_segment *ret_segment);

/* A connection, with the handshake made. */
void mmds_client_connect(
    struct mmds_client *c, struct mmds_tcp *tcp, uint16_t port);

/* Sends bytes that are next, in one segment. */
void mmds_client_say(struct mmds_client *c, const char *text);

/*
 * Takes all that comes and acknowledges it: what it said, behind each other,
 * in `ret_text` of `size` bytes. *ret_fin: it has said all.
 */
void mmds_client_hear(
    struct mmds_client *c, char *ret_text, size_t size, bool *ret_fin);

#endif
