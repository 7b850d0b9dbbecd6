/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that HTTP requests come in on: what its two sides share. For
 * server_http*.c only.
 */
#ifndef VMM_SERVE_SERVER_HTTP_H
#define VMM_SERVE_SERVER_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/loop.h"
#include "vmm/guest_forward.h"
#include "vmm/serve/relay_out.h"
#include "vmm/serve/serve_buf.h"
#include "vmm/serve/server_conn.h"

/* Bytes that wait for one side, above which the other is not read from. */
#define WEB_HIGH      65536u
#define WEB_READ_SIZE 16384u

enum web_phase {
    WEB_READING,   /* a request, as far as it is waited for */
    WEB_WAITING,   /* for a clone */
    WEB_RELAYING,  /* to and from it */
    WEB_ANSWERING, /* all there is to be sent is in `out` */
};

struct web_conn {
    struct server_conn base;
    enum web_phase phase;
    struct serve_buf in;          /* from the client, not parsed yet */
    struct serve_buf out;         /* to it */
    struct serve_buf to_guest;    /* the request, written anew */
    struct loop_source guest;     /* owns the connection to it; -1 */
    bool guest_takes;             /* it still reads */
    struct guest_forward forward; /* with a TCP port: what comes first */
    struct relay_in request;
    struct relay_in response;
    enum relay_framing framing;
    unsigned int interims;
    bool has_begun;    /* a byte of the request is here */
    bool has_answered; /* some of a response is in `out` or beyond */
    bool keeps_alive;  /* the client's connection, after this response */
    bool is_over;      /* to be closed */
    uint64_t body_bytes;
    uint64_t served;          /* requests before this one */
    enum serve_outcome ended; /* how its clone did; SERVE_OK: not */

    uint64_t since_ns; /* of what is waited for: a request, its rest */
    uint64_t moved;    /* bytes from and to the client */
    uint64_t stall_mark;
    uint64_t stall_ns; /* since when the client is waited for; 0: it is not */
};

/* ---- server_http.c ------------------------------------------------------ */

bool web_is_head(const struct web_conn *c);

/* Whether the client's connection may go on behind this request. */
bool web_may_keep_alive(const struct web_conn *c);

/*
 * The request comes to nothing: its clone goes, and the client is told, if
 * that can be.
 */
void web_fail(struct web_conn *c, enum serve_outcome outcome, int status,
    const char *text);

/* The whole response is in `out`: the clone goes. */
void web_finish(struct web_conn *c);

/* The last thing that an entry does: the connection may be gone behind it. */
void web_settle(struct web_conn *c);

/* ---- server_http_guest.c ------------------------------------------------ */

/* The first bytes of a request, if something comes before its head. */
void web_begin_request(struct web_conn *c);

/* Goes on in c->job's clone; or fails. */
void web_connect(struct web_conn *c);

/* Sends what it takes now of to_guest. */
void web_send_request(struct web_conn *c);

/* Has the loop watch the guest for what is wanted of it; -errno. */
CC_MUST_CHECK int web_watch_guest(struct web_conn *c);

void web_close_guest(struct web_conn *c);

#endif
