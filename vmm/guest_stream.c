/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/guest_stream.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/guest_error.h"

/* An errno of the guest's that is none of ours is EIO. */
#define ERRNO_MAX 4095u

struct guest_stream *guest_stream_new(int fd, struct err *err)
{
    struct guest_stream *s = malloc(sizeof(*s));

    if (s == NULL) {
        (void)err_sys(err, ENOMEM, "buffers of the agent's connection");
        return NULL;
    }
    s->fd = fd;
    s->greeted = false;
    return s;
}

int guest_stream_send(struct guest_stream *s, uint16_t type, const void *head,
    size_t head_len, const void *data, size_t len, struct err *err)
{
    struct agent_frame frame = {
        .length = agent_le32_put((uint32_t)(head_len + len)),
        .type = agent_le16_put(type)};
    size_t size = sizeof(frame) + head_len + len;
    size_t at = 0;

    assert(size <= sizeof(s->tx));
    memcpy(s->tx, &frame, sizeof(frame));
    if (head_len > 0)
        memcpy(s->tx + sizeof(frame), head, head_len);
    if (len > 0)
        memcpy(s->tx + sizeof(frame) + head_len, data, len);
    while (at < size) {
        ssize_t n = send(s->fd, s->tx + at, size - at, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno == ECONNRESET ? EPIPE : errno,
                "cannot write to the agent");
        at += (size_t)n;
    }
    return 0;
}

static int recv_full(
    struct guest_stream *s, void *buf, size_t len, struct err *err)
{
    ssize_t n = fd_read_full(s->fd, buf, len);

    if (n < 0 && n != -ECONNRESET)
        return err_sys(err, (int)n, "cannot read from the agent");
    if (n != (ssize_t)len)
        return err_set(
            err, ECONNRESET, "the guest closed the connection to its agent");
    return 0;
}

static int recv_any(
    struct guest_stream *s, struct guest_frame *ret_frame, struct err *err)
{
    struct agent_frame head;
    uint32_t len;
    int rc = recv_full(s, &head, sizeof(head), err);

    if (rc < 0)
        return rc;
    len = agent_le32_get(head.length);
    if (len > sizeof(s->rx))
        return err_set(err, EPROTO, "the agent sent a frame that is too long");
    rc = recv_full(s, s->rx, len, err);
    if (rc < 0)
        return rc;
    ret_frame->type = agent_le16_get(head.type);
    bytes_reader_init(&ret_frame->payload, s->rx, len);
    return 0;
}

static int take_greeting(struct guest_stream *s, struct err *err)
{
    struct guest_frame frame;
    struct agent_hello hello;
    int rc = recv_any(s, &frame, err);

    if (rc < 0)
        return rc;
    bytes_get(&frame.payload, &hello, sizeof(hello));
    if (frame.type != AGENT_HELLO || frame.payload.failed ||
        agent_le32_get(hello.magic) != AGENT_MAGIC)
        return err_set(err, EPROTO, "the agent did not greet");
    if (agent_le16_get(hello.version) != AGENT_VERSION)
        return err_set(
            err, EPROTO, "the agent speaks another version of the protocol");
    s->greeted = true;
    return 0;
}

int guest_stream_recv(
    struct guest_stream *s, struct guest_frame *ret_frame, struct err *err)
{
    struct guest_frame frame;
    struct guest_error error;
    int rc = 0;

    if (!s->greeted)
        rc = take_greeting(s, err);
    if (rc == 0)
        rc = recv_any(s, &frame, err);
    if (rc < 0)
        return rc;
    if (frame.type != AGENT_ERROR) {
        *ret_frame = frame;
        return 0;
    }
    if (!guest_error_parse(&frame.payload, &error))
        return err_set(err, EPROTO, "the agent sent a malformed error");
    if (error.error == 0 || error.error > ERRNO_MAX)
        error.error = EIO;
    return err_set(err, (int)error.error, "%s", error.text);
}

int guest_stream_explain(struct guest_stream *s, int rc, struct err *err)
{
    struct guest_frame frame;
    struct err reason;
    int said;

    if (rc != -EPIPE)
        return rc;
    do {
        said = guest_stream_recv(s, &frame, &reason);
    } while (said == 0);
    return said == -ECONNRESET ? rc : err_set(err, said, "%s", reason.text);
}
