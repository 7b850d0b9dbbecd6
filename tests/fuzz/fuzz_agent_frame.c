/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a host may send to the guest agent: the stream is cut into frames in
 * pieces of varying size, and every payload goes to every decoder. What a
 * decoder accepts must keep the promises of guest/agent/request.h.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "guest/agent/frame.h"
#include "guest/agent/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

/* A string that lies in the payload, with its NUL. */
static void require_inside(const struct frame_view *frame, const char *s)
{
    const uint8_t *at = (const uint8_t *)s;

    require(at >= frame->payload && at < frame->payload + frame->length);
    require(
        memchr(at, 0, (size_t)(frame->payload + frame->length - at)) != NULL);
}

static void check_exec(const struct frame_view *frame)
{
    struct request_exec r;
    const char *at;

    if (request_exec(frame, &r) != 0)
        return;
    require(r.argc >= 1 && r.argc + r.envc <= AGENT_EXEC_STRINGS_MAX);
    require_inside(frame, r.user);
    require_inside(frame, r.cwd);
    at = r.strings;
    for (size_t i = 0; i < r.argc + r.envc; i++) {
        require_inside(frame, at);
        at += strlen(at) + 1;
    }
    require((const uint8_t *)at == frame->payload + frame->length);
}

static void check_copy(const struct frame_view *frame)
{
    struct request_entry entry;
    struct request_data data;
    struct request_copy copy;

    if (request_copy(frame, &copy) == 0) {
        require_inside(frame, copy.path);
        require(copy.path[0] == '/');
    }
    if (request_entry(frame, &entry) == 0) {
        require_inside(frame, entry.name);
        require(entry.name[0] != '/' && entry.name[0] != '\0');
        require(strcmp(entry.name, "..") != 0);
        require(strstr(entry.name, "/../") == NULL);
        require(strncmp(entry.name, "../", 3) != 0);
        require((entry.target != NULL) == (entry.type == AGENT_ENTRY_SYMLINK));
        if (entry.target != NULL)
            require_inside(frame, entry.target);
    }
    if (request_data(frame, &data) == 0) {
        require(data.length >= 1);
        require(data.bytes + data.length == frame->payload + frame->length);
        require(data.offset <= INT64_MAX - data.length);
    }
}

static void check_rest(const struct frame_view *frame)
{
    char path[AGENT_PATH_MAX + 1];
    struct request_file_end end;
    struct request_winsize winsize;
    struct request_forward forward;
    struct request_signal signal;
    struct request_generation generation;
    struct request_power power;
    struct request_time time;

    if (request_path(frame, path) == 0)
        require(strlen(path) == frame->length);
    if (request_file_end(frame, &end) == 0)
        require(end.size <= INT64_MAX && end.error >= 0);
    if (request_forward(frame, &forward) == 0)
        require(forward.port >= 1);
    if (request_signal(frame, &signal) == 0)
        require(signal.signal >= 1 && signal.signal <= 64);
    if (request_generation(frame, &generation) == 0)
        require(generation.time.nsec < 1000000000);
    if (request_power(frame, &power) == 0)
        require(power.grace_ms <= AGENT_POWER_GRACE_MAX_MS);
    if (request_time(frame, &time) == 0)
        require(time.sec >= 0 && time.nsec <= 999999999);
    (void)request_winsize(frame, &winsize);
    (void)request_copy_end(frame);
}

/* In memory of its own, so that a sanitizer sees the end of the payload. */
static void check_payload(const struct frame_view *frame)
{
    uint8_t *copy = malloc(frame->length == 0 ? 1 : frame->length);
    struct frame_view exact = *frame;

    require(copy != NULL);
    if (frame->length > 0)
        memcpy(copy, frame->payload, frame->length);
    exact.payload = copy;
    check_exec(&exact);
    check_copy(&exact);
    check_rest(&exact);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame_in *in = malloc(sizeof(*in));
    size_t step = size > 0 ? (size_t)data[0] * 64 + 1 : 1;
    size_t taken = 0;
    size_t at = size > 0 ? 1 : 0;
    int r = 0;

    require(in != NULL);
    frame_in_init(in);
    while (r >= 0 && at < size) {
        struct frame_view frame;
        size_t room;
        uint8_t *space = frame_in_space(in, &room);
        size_t n = size - at < step ? size - at : step;

        /* There is always room once the whole frames were taken. */
        require(room > 0);
        if (n > room)
            n = room;
        memcpy(space, data + at, n);
        frame_in_commit(in, n);
        at += n;
        while ((r = frame_in_next(in, &frame)) > 0) {
            require(frame.length <= AGENT_PAYLOAD_MAX);
            taken += frame.length + sizeof(struct agent_frame);
            require(taken < size);
            check_payload(&frame);
        }
    }
    free(in);
    return 0;
}
