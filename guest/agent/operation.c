/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/operation.h"

#include <errno.h>
#include <string.h>

#include "guest/agent/report.h"
#include "guest/agent/system.h"

/* ---- requests --------------------------------------------------------- */

static void fail_exec(struct session *s, const struct request_exec *request,
    const struct spawn_failure *failure)
{
    const char *what = "cannot start";
    const char *name = request->strings;
    uint16_t status = 125;

    switch (failure->stage) {
    case AGENT_STAGE_EXEC:
        what = "cannot execute";
        status =
            failure->error == ENOENT || failure->error == ENOTDIR ? 127 : 126;
        break;
    case AGENT_STAGE_USER:
        what = "cannot become user";
        name = request->user;
        break;
    case AGENT_STAGE_CWD:
        what = "cannot enter directory";
        name = request->cwd;
        break;
    case AGENT_STAGE_TTY:
        what = "cannot open a pseudo terminal";
        name = "";
        break;
    case AGENT_STAGE_PROTOCOL:
    case AGENT_STAGE_RESOURCE:
    case AGENT_STAGE_PATH:
    case AGENT_STAGE_SYSTEM:
    default:
        break;
    }
    session_fail_about(s, failure->stage, -failure->error, status, what, name);
}

static int begin_exec(struct session *s, struct session_shared *shared,
    uint32_t slot, const struct frame_view *frame)
{
    struct agent_started started;
    struct spawn_failure failure;
    struct request_exec request;

    if (request_exec(frame, &request) != 0)
        return -EPROTO;
    if (exec_start(&s->exec, &shared->exec, slot, &request, &failure) != 0) {
        fail_exec(s, &request, &failure);
        return 0;
    }
    started.pid = agent_le32_put((uint32_t)s->exec.pid);
    (void)frame_out_put(
        &s->out, AGENT_STARTED, &started, sizeof(started), NULL, 0);
    if ((request.flags & AGENT_EXEC_DETACH) != 0) {
        s->exec.pid = 0;
        session_finish(s, 0, 0);
    } else {
        s->state = SESSION_EXEC;
    }
    return 0;
}

static int begin_copy_in(struct session *s, const struct frame_view *frame)
{
    struct request_copy request;
    int r;

    if (request_copy(frame, &request) != 0)
        return -EPROTO;
    r = copy_in_start(&s->copy_in, &request);
    if (r != 0)
        session_fail_about(
            s, AGENT_STAGE_PATH, r, 0, "cannot copy into", request.path);
    else
        s->state = SESSION_COPY_IN;
    return 0;
}

static int begin_copy_out(struct session *s, const struct frame_view *frame)
{
    struct request_copy request;
    int r;

    if (request_copy(frame, &request) != 0)
        return -EPROTO;
    r = copy_out_start(&s->copy_out, &request, &s->out);
    if (r != 0)
        session_fail_about(
            s, AGENT_STAGE_PATH, r, 0, "cannot copy", request.path);
    else
        s->state = SESSION_COPY_OUT;
    return 0;
}

static int do_set_time(struct session *s, const struct frame_view *frame)
{
    struct request_time request;
    int r;

    if (request_time(frame, &request) != 0)
        return -EPROTO;
    r = system_set_time(&request);
    if (r != 0)
        session_fail_about(
            s, AGENT_STAGE_SYSTEM, r, 0, "cannot set the clock", "");
    else
        session_finish(s, 0, 0);
    return 0;
}

static int do_add_entropy(struct session *s, const struct frame_view *frame)
{
    int r;

    if (frame->length == 0 || frame->length > AGENT_ENTROPY_MAX)
        return -EPROTO;
    r = system_add_entropy(frame->payload, frame->length);
    if (r != 0)
        session_fail_about(
            s, AGENT_STAGE_SYSTEM, r, 0, "cannot add entropy", "");
    else
        session_finish(s, 0, 0);
    return 0;
}

/* Comes before the request and is no answer's subject: what fails is noted. */
static int do_generation(
    struct session_shared *shared, const struct frame_view *frame)
{
    struct request_generation request;
    int r;

    if (request_generation(frame, &request) != 0)
        return -EPROTO;
    r = system_new_generation(&shared->generation, &request);
    if (r != 0)
        report_error("a new generation was not taken up", r);
    return 0;
}

static int do_path(struct session *s, const struct frame_view *frame)
{
    char path[AGENT_PATH_MAX + 1];
    const char *what;
    int r;

    if (request_path(frame, path) != 0)
        return -EPROTO;
    if (frame->type == AGENT_SYNC) {
        what = "cannot sync";
        r = system_sync(path);
    } else {
        what = frame->type == AGENT_THAW ? "cannot thaw" : "cannot freeze";
        r = system_freeze(path, frame->type == AGENT_THAW);
    }
    if (r != 0)
        session_fail_about(s, AGENT_STAGE_PATH, r, 0, what, path);
    else
        session_finish(s, 0, 0);
    return 0;
}

static int do_power(struct session *s, const struct session_shared *shared,
    const struct frame_view *frame)
{
    if (request_power(frame, &s->power) != 0)
        return -EPROTO;
    if (shared->position == AGENT_POSITION_DAEMON &&
        (s->power.flags & AGENT_POWER_FORCE) == 0) {
        session_fail(s, AGENT_STAGE_SYSTEM, -EOPNOTSUPP, 0,
            "another init is in charge here: use its command, or force");
        return 0;
    }
    s->wants_power = true;
    s->wants_restart = frame->type == AGENT_REBOOT;
    session_finish(s, 0, 0);
    return 0;
}

/* From here on the bytes are the server's; what came behind is, too. */
static int begin_forward(struct session *s, struct session_shared *shared,
    uint32_t slot, const struct frame_view *frame)
{
    struct request_forward request;
    int r;

    if (request_forward(frame, &request) != 0)
        return -EPROTO;
    r = forward_start(&s->forward, &request, shared->exec.epoll_fd, slot);
    if (r != 0)
        session_fail_about(
            s, AGENT_STAGE_SYSTEM, r, 0, "cannot connect to the server", "");
    else
        s->state = SESSION_FORWARD;
    return 0;
}

static int do_ping(struct session *s, const struct frame_view *frame)
{
    (void)frame_out_put(
        &s->out, AGENT_PONG, frame->payload, frame->length, NULL, 0);
    session_begin_closing(s);
    return 0;
}

static int take_request(struct session *s, struct session_shared *shared,
    uint32_t slot, const struct frame_view *frame)
{
    switch (frame->type) {
    case AGENT_GENERATION:
        return do_generation(shared, frame);
    case AGENT_PING:
        return do_ping(s, frame);
    case AGENT_EXEC:
        return begin_exec(s, shared, slot, frame);
    case AGENT_COPY_IN:
        return begin_copy_in(s, frame);
    case AGENT_COPY_OUT:
        return begin_copy_out(s, frame);
    case AGENT_SET_TIME:
        return do_set_time(s, frame);
    case AGENT_ADD_ENTROPY:
        return do_add_entropy(s, frame);
    case AGENT_SYNC:
    case AGENT_FREEZE:
    case AGENT_THAW:
        return do_path(s, frame);
    case AGENT_POWEROFF:
    case AGENT_REBOOT:
        return do_power(s, shared, frame);
    case AGENT_FORWARD:
        return begin_forward(s, shared, slot, frame);
    default:
        return -EPROTO;
    }
}

/* ---- frames of an operation ------------------------------------------- */

static int take_exec_frame(struct session *s, const struct frame_view *frame)
{
    struct request_winsize winsize;
    struct request_signal signal;

    switch (frame->type) {
    case AGENT_STDIN:
        return exec_stdin(&s->exec, frame->payload, frame->length);
    case AGENT_STDIN_EOF:
        return frame->length != 0 ? -EPROTO : exec_stdin_eof(&s->exec);
    case AGENT_WINSIZE:
        if (request_winsize(frame, &winsize) != 0)
            return -EPROTO;
        return exec_winsize(&s->exec, &winsize);
    case AGENT_SIGNAL:
        if (request_signal(frame, &signal) != 0)
            return -EPROTO;
        exec_signal(&s->exec, &signal);
        return 0;
    default:
        return -EPROTO;
    }
}

/* -EPROTO, or 0 with the file system's own failure in *ret_error. */
static int copy_in_frame(
    struct session *s, const struct frame_view *frame, int *ret_error)
{
    struct request_file_end end;
    struct request_entry entry;
    struct request_data data;

    switch (frame->type) {
    case AGENT_ENTRY:
        if (request_entry(frame, &entry) != 0)
            return -EPROTO;
        *ret_error = copy_in_entry(&s->copy_in, &entry);
        return 0;
    case AGENT_DATA:
        if (request_data(frame, &data) != 0)
            return -EPROTO;
        *ret_error = copy_in_data(&s->copy_in, &data);
        return 0;
    case AGENT_FILE_END:
        if (request_file_end(frame, &end) != 0)
            return -EPROTO;
        *ret_error = copy_in_file_end(&s->copy_in, &end);
        return 0;
    case AGENT_COPY_END:
        if (request_copy_end(frame) != 0 || copy_in_end(&s->copy_in) != 0)
            return -EPROTO;
        session_finish(s, s->copy_in.entries, s->copy_in.bytes);
        return 0;
    default:
        return -EPROTO;
    }
}

static int take_copy_frame(struct session *s, const struct frame_view *frame)
{
    int error = 0;
    int r = copy_in_frame(s, frame, &error);

    if (r != 0 || error == -EPROTO)
        return -EPROTO;
    if (error != 0)
        session_fail_about(
            s, AGENT_STAGE_PATH, error, 0, "cannot write", s->copy_in.name);
    return 0;
}

int operation_take_frame(struct session *s, struct session_shared *shared,
    uint32_t slot, const struct frame_view *frame)
{
    switch (s->state) {
    case SESSION_REQUEST:
        return take_request(s, shared, slot, frame);
    case SESSION_EXEC:
        return take_exec_frame(s, frame);
    case SESSION_COPY_IN:
        return take_copy_frame(s, frame);
    case SESSION_COPY_OUT:
        return -EPROTO;
    case SESSION_FREE:
    case SESSION_FORWARD:
    case SESSION_CLOSING:
    case SESSION_LINGER:
    case SESSION_DYING:
    default:
        return 0;
    }
}
