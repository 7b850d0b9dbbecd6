/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hostile agent may say to a host that has asked it for a command. The
 * input is a list of steps: frames, mostly of the protocol, raw bytes, what
 * the host's user does meanwhile, and the agent going away. Whatever comes,
 * the command ends at most once, and once at the latest when the agent has
 * gone and its output is read; what the host says are whole frames in order.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/guest_exec.h"

/* More rounds than this in a row is a busy loop. */
#define ROUNDS_MAX 20000u

#define INPUT_SIZE 5000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    STEP_FRAME,      /* type, length (16 bits), that much of what follows */
    STEP_LONG_FRAME, /* type, length in KiB: zeros */
    STEP_RAW,        /* length, that much of what follows */
    STEP_READ,       /* the outputs are read */
    STEP_SIGNAL,
    STEP_RESIZE,
    STEP_TYPE, /* length: so much is put into the pipe of standard input */
    STEP_HEAR, /* the agent reads what the host has said */
    STEP_COUNT,
};

struct bench {
    struct loop loop;
    struct guest_exec exec;
    struct bytes_reader r;
    int agent;
    int input[2];
    int out[2];
    int err[2];
    unsigned int started;
    unsigned int done;
    uint8_t heard[1 << 20]; /* what the host has said */
    size_t heard_len;
};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void on_started(void *opaque)
{
    struct bench *b = opaque;

    require(b->done == 0);
    b->started++;
}

static void on_done(void *opaque, const struct guest_exec_result *result)
{
    struct bench *b = opaque;

    require(result->status >= 0 && result->status <= 255);
    require(memchr(result->text, 0, sizeof(result->text)) != NULL);
    require(result->is_error || result->text[0] == '\0');
    b->done++;
}

static void run(struct bench *b)
{
    struct pollfd pfd = {.fd = b->loop.epoll_fd, .events = POLLIN};

    for (unsigned int i = 0; poll(&pfd, 1, 0) == 1; i++) {
        require(i < ROUNDS_MAX);
        require(loop_run_once(&b->loop, 0) == 0);
    }
}

static void drain(int fd)
{
    uint8_t buf[65536];

    while (read(fd, buf, sizeof(buf)) > 0)
        ;
}

static void hear(struct bench *b)
{
    for (;;) {
        size_t room = sizeof(b->heard) - b->heard_len;
        ssize_t n = recv(b->agent, b->heard + b->heard_len, room, 0);

        if (n <= 0)
            return;
        b->heard_len += (size_t)n;
    }
}

static void say(struct bench *b, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    while (len > 0) {
        ssize_t n = send(b->agent, bytes, len, MSG_NOSIGNAL);

        /* An agent that is held back goes without the rest. */
        if (n < 0)
            return;
        bytes += n;
        len -= (size_t)n;
        run(b);
    }
}

static void say_frame(
    struct bench *b, uint8_t type, const uint8_t *data, size_t len)
{
    static const uint16_t types[] = {AGENT_HELLO, AGENT_STARTED, AGENT_STDOUT,
        AGENT_STDERR, AGENT_STDIN_ACK, AGENT_EXIT, AGENT_ERROR, AGENT_OK};
    uint8_t bytes[AGENT_FRAME_MAX + 1024] = {0};
    struct agent_frame head = {.length = agent_le32_put((uint32_t)len),
        .type = agent_le16_put(types[type % ARRAY_SIZE(types)])};

    require(sizeof(head) + len <= sizeof(bytes));
    memcpy(bytes, &head, sizeof(head));
    if (data != NULL && len > 0)
        memcpy(bytes + sizeof(head), data, len);
    say(b, bytes, sizeof(head) + len);
}

static void do_step(struct bench *b)
{
    uint8_t step = bytes_get_u8(&b->r) % STEP_COUNT;
    uint8_t arg = bytes_get_u8(&b->r);
    uint8_t typed[256] = {0};
    uint64_t len;

    switch ((enum step)step) {
    case STEP_FRAME:
        len = num_min(bytes_get_u16(&b->r), bytes_left(&b->r));
        say_frame(b, arg, bytes_take(&b->r, len), len);
        break;
    case STEP_LONG_FRAME:
        say_frame(b, arg, NULL, (size_t)(bytes_get_u8(&b->r) % 66) * NUM_KIB);
        break;
    case STEP_RAW:
        len = num_min(arg, bytes_left(&b->r));
        say(b, bytes_take(&b->r, len), len);
        break;
    case STEP_READ:
        drain(b->out[0]);
        drain(b->err[0]);
        break;
    case STEP_SIGNAL:
        guest_exec_signal(&b->exec, arg);
        break;
    case STEP_RESIZE:
        guest_exec_resize(&b->exec, arg, 80);
        break;
    case STEP_TYPE:
        (void)!write(b->input[1], typed, arg);
        break;
    case STEP_HEAR:
        hear(b);
        break;
    case STEP_COUNT:
    default:
        abort();
    }
    run(b);
}

/* EXEC first, then what a running command may get, STDIN_EOF as its last. */
static void check_heard(const struct bench *b)
{
    struct bytes_reader r;
    bool first = true;
    bool ended = false;

    bytes_reader_init(&r, b->heard, b->heard_len);
    while (bytes_left(&r) >= sizeof(struct agent_frame)) {
        struct agent_frame head;
        uint32_t len;
        uint16_t type;

        bytes_get(&r, &head, sizeof(head));
        len = agent_le32_get(head.length);
        type = agent_le16_get(head.type);
        require(len <= AGENT_PAYLOAD_MAX && agent_le16_get(head.flags) == 0);
        require(first == (type == AGENT_EXEC));
        require(first || type == AGENT_STDIN || type == AGENT_STDIN_EOF ||
                (type == AGENT_SIGNAL && len == sizeof(struct agent_signal)) ||
                (type == AGENT_WINSIZE && len == sizeof(struct agent_winsize)));
        require(!ended || (type != AGENT_STDIN && type != AGENT_STDIN_EOF));
        require(first || b->started == 1);
        ended = ended || type == AGENT_STDIN_EOF;
        first = false;
        /* A command that has ended may leave half a frame behind. */
        if (len > bytes_left(&r))
            break;
        bytes_skip(&r, len);
    }
}

static void make_pipe(int ret_fds[2])
{
    require(pipe2(ret_fds, O_CLOEXEC) == 0);
    require(fcntl(ret_fds[1], F_SETPIPE_SZ, 4096) >= 0);
    require(fd_set_nonblocking(ret_fds[0], true) == 0);
}

static void close_pipe(int fds[2])
{
    fd_closep(&fds[0]);
    fd_closep(&fds[1]);
}

/* Standard input: none, a pipe, a file, one that is at its end. */
static int open_input(struct bench *b, unsigned int kind)
{
    int fd = -1;

    switch (kind % 4) {
    case 1:
        return b->input[0];
    case 2:
        fd = memfd_create("in", MFD_CLOEXEC);
        require(ftruncate(fd, INPUT_SIZE) == 0);
        return fd;
    case 3:
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    default:
        return fd;
    }
}

static void start(struct bench *b, uint8_t kind, int stdin_fd)
{
    static const char *const argv[] = {"true", NULL};
    struct guest_exec_config config = {.argv = argv,
        .tty = (kind & 4) != 0,
        .detach = (kind & 16) != 0,
        .stdin_fd = stdin_fd,
        .stdout_fd = b->out[1],
        .stderr_fd = b->err[1],
        .on_started = on_started,
        .on_done = on_done,
        .opaque = b};
    int fds[2];

    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                fds) == 0);
    b->agent = fds[0];
    require(guest_exec_start(&b->exec, &b->loop, fds[1], &config, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bench *b = calloc(1, sizeof(*b));
    uint8_t kind;
    int stdin_fd;

    require(b != NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    require(loop_init(&b->loop, NULL) == 0);
    make_pipe(b->input);
    require(fd_set_nonblocking(b->input[1], true) == 0);
    make_pipe(b->out);
    make_pipe(b->err);
    bytes_reader_init(&b->r, data, size);
    kind = bytes_get_u8(&b->r);
    stdin_fd = open_input(b, kind);
    start(b, kind, stdin_fd);
    while (bytes_left(&b->r) > 0)
        do_step(b);
    require(b->started <= 1 && b->done <= 1);
    if ((kind & 8) == 0) {
        hear(b);
        require(shutdown(b->agent, SHUT_RDWR) == 0);
        while (b->done == 0) {
            run(b);
            drain(b->out[0]);
            drain(b->err[0]);
        }
        check_heard(b);
    }
    guest_exec_fini(&b->exec);
    run(b);
    require(b->started <= 1 && b->done <= 1);
    if (stdin_fd >= 0 && stdin_fd != b->input[0])
        (void)close(stdin_fd);
    fd_closep(&b->agent);
    close_pipe(b->input);
    close_pipe(b->out);
    close_pipe(b->err);
    loop_fini(&b->loop);
    free(b);
    return 0;
}
