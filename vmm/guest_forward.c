/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/guest_forward.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/num.h"
#include "vmm/guest_error.h"

struct guest_forward_request guest_forward_request(uint16_t port)
{
    return (struct guest_forward_request){
        .frame = {.length = agent_le32_put(sizeof(struct agent_forward)),
            .type = agent_le16_put(AGENT_FORWARD)},
        .forward = {.port = agent_le16_put(port)}};
}

static int take_hello(
    struct guest_forward *f, struct bytes_reader *r, struct err *err)
{
    struct agent_hello hello;

    bytes_get(r, &hello, sizeof(hello));
    if (r->failed || agent_le32_get(hello.magic) != AGENT_MAGIC ||
        agent_le16_get(hello.version) != AGENT_VERSION)
        return err_set(err, EPROTO, "the agent sent a malformed greeting");
    if ((agent_le64_get(hello.features) & AGENT_FEATURE_FORWARD) == 0)
        return err_set(err, EPROTO,
            "the agent knows no FORWARD: build the template again");
    f->is_greeted = true;
    return 0;
}

static int take_frame(struct guest_forward *f, uint16_t type,
    struct bytes_reader *r, struct err *err)
{
    struct guest_error error;

    if (!f->is_greeted && type == AGENT_HELLO)
        return take_hello(f, r, err);
    if (f->is_greeted && type == AGENT_OK &&
        bytes_left(r) == sizeof(struct agent_ok)) {
        f->is_open = true;
        return 0;
    }
    if (f->is_greeted && type == AGENT_ERROR && guest_error_parse(r, &error))
        return err_set(err, ECONNREFUSED, "%s", error.text);
    return err_set(err, EPROTO, "the agent sent an unexpected frame");
}

int guest_forward_feed(struct guest_forward *f, const void *data, size_t len,
    size_t *ret_taken, struct err *err)
{
    const uint8_t *at = data;
    size_t taken = 0;

    assert(!f->is_open);
    while (taken < len && !f->is_open) {
        struct agent_frame head = {0};
        struct bytes_reader r;
        size_t want = sizeof(head);
        size_t n;
        int rc;

        if (f->len >= sizeof(head)) {
            memcpy(&head, f->rx, sizeof(head));
            want += agent_le32_get(head.length);
            if (want > sizeof(f->rx))
                return err_set(
                    err, EPROTO, "the agent sent a frame that is too long");
        }
        n = num_min(want - f->len, len - taken);
        memcpy(f->rx + f->len, at + taken, n);
        f->len += n;
        taken += n;
        if (f->len < want || want == sizeof(head))
            continue;
        f->len = 0;
        bytes_reader_init(&r, f->rx + sizeof(head), want - sizeof(head));
        rc = take_frame(f, agent_le16_get(head.type), &r, err);
        if (rc < 0)
            return rc;
    }
    *ret_taken = taken;
    return 0;
}
