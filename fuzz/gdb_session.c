/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/gdb_session.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz/gdbstub.h"
#include "vmm/base/fd.h"

#define CHUNK 4096u

struct session {
    struct replay *replay;
    struct gdbstub stub;
    int in_fd;
    int out_fd;
    bool is_gone; /* the peer */
};

/* ---- registers, memory, breakpoints -------------------------------------- */

static int get_regs(void *opaque, struct gdbstub_regs *ret_regs)
{
    struct session *s = opaque;
    struct kvm_sregs2 sregs;
    struct kvm_regs r;
    int rc = debugger_get_regs(s->replay->debugger, &r, &sregs, NULL);

    if (rc < 0)
        return rc;
    *ret_regs = (struct gdbstub_regs){
        .general = {r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp,
            r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip},
        .segments = {(uint32_t)r.rflags, sregs.cs.selector, sregs.ss.selector,
            sregs.ds.selector, sregs.es.selector, sregs.fs.selector,
            sregs.gs.selector},
        .fs_base = sregs.fs.base,
        .gs_base = sregs.gs.base,
    };
    return 0;
}

/* Flags that a program can set itself (SDM vol. 1, 3.4.3), without TF. */
#define FLAGS_OF_PROGRAMS UINT64_C(0x240cd5)

static int set_regs(void *opaque, const struct gdbstub_regs *regs)
{
    const uint64_t *g = regs->general;
    struct session *s = opaque;
    struct kvm_sregs2 sregs;
    struct kvm_regs r;
    int rc = debugger_get_regs(s->replay->debugger, &r, &sregs, NULL);

    if (rc < 0)
        return rc;
    r = (struct kvm_regs){.rax = g[0],
        .rbx = g[1],
        .rcx = g[2],
        .rdx = g[3],
        .rsi = g[4],
        .rdi = g[5],
        .rbp = g[6],
        .rsp = g[7],
        .r8 = g[8],
        .r9 = g[9],
        .r10 = g[10],
        .r11 = g[11],
        .r12 = g[12],
        .r13 = g[13],
        .r14 = g[14],
        .r15 = g[15],
        .rip = g[16],
        .rflags = (r.rflags & ~FLAGS_OF_PROGRAMS) |
                  (regs->segments[0] & FLAGS_OF_PROGRAMS)};
    return debugger_set_regs(s->replay->debugger, &r, NULL);
}

static int read_memory(void *opaque, uint64_t at, void *dst, size_t size)
{
    struct session *s = opaque;

    return debugger_read(s->replay->debugger, at, dst, size);
}

static int write_memory(void *opaque, uint64_t at, const void *src, size_t size)
{
    struct session *s = opaque;

    return debugger_write(s->replay->debugger, at, src, size);
}

static int set_break(void *opaque, uint64_t at, bool is_set)
{
    struct session *s = opaque;

    if (is_set)
        return debugger_add_break(s->replay->debugger, at, NULL);
    debugger_remove_break(s->replay->debugger, at);
    return 0;
}

static const struct gdbstub_ops ops = {.get_regs = get_regs,
    .set_regs = set_regs,
    .read = read_memory,
    .write = write_memory,
    .set_break = set_break};

/* ---- the descriptors ----------------------------------------------------- */

/* What there is, at most: 0 at the end. */
static ssize_t read_some(struct session *s, char *buf, size_t size)
{
    ssize_t n;

    do {
        n = read(s->in_fd, buf, size);
    } while (n < 0 && errno == EINTR);
    if (n <= 0)
        s->is_gone = true;
    return n;
}

static void send_output(struct session *s)
{
    size_t size;
    const char *out = gdbstub_output(&s->stub, &size);

    if (size == 0)
        return;
    if (fd_write_full(s->out_fd, out, size) < 0)
        s->is_gone = true;
    gdbstub_sent(&s->stub, size);
}

/* Whether the peer has asked for a stop, or has gone; while moving. */
static bool is_interrupted(void *opaque)
{
    struct session *s = opaque;
    struct pollfd p = {.fd = s->in_fd, .events = POLLIN};
    char buf[CHUNK];
    ssize_t n;

    if (s->is_gone || poll(&p, 1, 0) <= 0)
        return s->is_gone;
    n = read_some(s, buf, sizeof(buf));
    return s->is_gone || gdbstub_asks_stop(&s->stub, buf, (size_t)n);
}

/* ---- moves --------------------------------------------------------------- */

/* The signal of a run that crashed, as GDB numbers those that there can be. */
static uint32_t signal_of(const struct session *s)
{
    switch (s->replay->signal) {
    case SIGBUS:
        return 10;
    case SIGSYS:
        return 12;
    case 0:
        return SIGTRAP;
    default:
        return s->replay->signal;
    }
}

static struct gdbstub_stop tell(const struct session *s, enum replay_stop stop)
{
    static const enum gdbstub_reason reasons[] = {
        [REPLAY_STEPPED] = GDBSTUB_SIGNAL,
        [REPLAY_HIT] = GDBSTUB_BREAK,
        [REPLAY_BEGIN] = GDBSTUB_LOG_BEGIN,
        [REPLAY_END] = GDBSTUB_LOG_END,
        [REPLAY_CRASH] = GDBSTUB_SIGNAL,
        [REPLAY_INTERRUPTED] = GDBSTUB_SIGNAL};

    return (struct gdbstub_stop){.reason = reasons[stop],
        .signal = stop == REPLAY_CRASH ? signal_of(s) : SIGTRAP};
}

static int move(struct session *s, struct err *err)
{
    enum replay_stop stop = REPLAY_STEPPED;
    struct gdbstub_stop told;
    int rc;

    switch (s->stub.move) {
    case GDBSTUB_STEP:
        rc = replay_step(s->replay, &stop, err);
        break;
    case GDBSTUB_CONTINUE:
        rc = replay_continue(s->replay, &stop, err);
        break;
    case GDBSTUB_STEP_BACK:
        rc = replay_step_back(s->replay, &stop, err);
        break;
    case GDBSTUB_CONTINUE_BACK:
    default:
        rc = replay_continue_back(s->replay, &stop, err);
        break;
    }
    /* It stands somewhere nevertheless. */
    if (rc == -E2BIG || rc == -EPROTO) {
        gdbstub_say(&s->stub, err->text);
        stop = REPLAY_INTERRUPTED;
        rc = 0;
    }
    if (rc < 0)
        return rc;
    told = tell(s, stop);
    gdbstub_stopped(&s->stub, &told);
    return 0;
}

static int talk(struct session *s, struct err *err)
{
    char buf[CHUNK];
    size_t have = 0;
    size_t at = 0;
    int rc = 0;

    while (rc == 0 && !s->is_gone) {
        if (s->stub.state == GDBSTUB_MOVING)
            rc = move(s, err);
        send_output(s);
        if (s->stub.state == GDBSTUB_DONE)
            break;
        if (rc < 0 || s->stub.state == GDBSTUB_MOVING)
            continue;
        if (at == have) {
            ssize_t n = read_some(s, buf, sizeof(buf));

            have = n > 0 ? (size_t)n : 0;
            at = 0;
        }
        at += gdbstub_input(&s->stub, buf + at, have - at);
        send_output(s);
    }
    return rc;
}

int gdb_session_run(
    struct replay *replay, int in_fd, int out_fd, struct err *err)
{
    const struct gdbstub_stop at_root = {
        .reason = GDBSTUB_SIGNAL, .signal = SIGTRAP};
    struct session *s = calloc(1, sizeof(*s));
    int rc;

    if (s == NULL)
        return err_sys(err, ENOMEM, "gdb");
    s->replay = replay;
    s->in_fd = in_fd;
    s->out_fd = out_fd;
    gdbstub_init(&s->stub, &ops, s, &at_root);
    replay->is_interrupted = is_interrupted;
    replay->opaque = s;
    rc = talk(s, err);
    replay->is_interrupted = NULL;
    free(s);
    return rc;
}
