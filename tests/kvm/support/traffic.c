/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kvm/support/traffic.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/machine_restore.h"

#define MEM_BYTES (16 * NUM_MIB)

/* Far beyond what any goal takes: a request that is lost ends as a failure. */
#define HANG_NS (60 * CLOCK_NS_PER_S)

/*
 * For the thread sanitizer: a save copies pages while the guest and devices
 * write to them, and copies those again that were written to meanwhile. What
 * it holds is proven by the guest that goes on from it.
 */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:gmem_copy_pages\n";
}

/* ---- the other side ------------------------------------------------------ */

struct stream {
    int fd;
    uint64_t at; /* bytes so far */
    uint8_t word[4];
};

/* Four bytes each say how many came before. */
static void check_stream(
    struct traffic_peer *p, struct stream *s, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t value;

        s->word[s->at % 4] = bytes[i];
        s->at++;
        if (s->at % 4 != 0)
            continue;
        memcpy(&value, s->word, sizeof(value));
        if (value != (uint32_t)(s->at - 4))
            atomic_fetch_add(&p->faults, 1);
        else
            atomic_fetch_add(&p->bytes, 4);
    }
}

static void read_stream(struct traffic_peer *p, struct stream *s)
{
    uint8_t bytes[65536];
    ssize_t n = read(s->fd, bytes, sizeof(bytes));

    if (n <= 0)
        fd_closep(&s->fd);
    else
        check_stream(p, s, bytes, (size_t)n);
}

static void accept_stream(struct traffic_peer *p, struct stream *s)
{
    int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    fd_closep(&s->fd);
    *s = (struct stream){.fd = fd};
    atomic_fetch_add(&p->connections, 1);
}

/* The bytes of a stream of frames, back as they came. */
static bool echo(int fd)
{
    uint8_t bytes[16384];
    ssize_t n = read(fd, bytes, sizeof(bytes));

    return n > 0 && fd_write_full(fd, bytes, (size_t)n) == 0;
}

static void *peer_thread(void *opaque)
{
    struct traffic_peer *p = opaque;
    struct stream stream = {.fd = -1};

    for (;;) {
        struct pollfd fds[] = {{.fd = p->stop_fd, .events = POLLIN},
            {.fd = p->net_fd, .events = POLLIN},
            {.fd = p->listen_fd, .events = POLLIN},
            {.fd = stream.fd, .events = POLLIN}};

        if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents != 0)
            break;
        if (fds[1].revents != 0 && !echo(p->net_fd))
            fd_closep(&p->net_fd);
        if (fds[3].revents != 0)
            read_stream(p, &stream);
        if (fds[2].revents != 0)
            accept_stream(p, &stream);
    }
    fd_closep(&stream.fd);
    return NULL;
}

static int listen_at(const char *folder)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(
        at.sun_path, sizeof(at.sun_path), "%s/vsock_%u", folder, TRAFFIC_PORT);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

/* The machine's end of its network. */
static int start_peer(struct traffic *t)
{
    int fds[2];

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    t->peer.net_fd = fds[0];
    t->peer.listen_fd = listen_at(t->folder);
    t->peer.stop_fd = eventfd(0, EFD_CLOEXEC);
    assert_true(t->peer.stop_fd >= 0);
    assert_int_equal(
        pthread_create(&t->peer.thread, NULL, peer_thread, &t->peer), 0);
    return fds[1];
}

static void stop_peer(struct traffic_peer *p)
{
    uint64_t one = 1;

    assert_int_equal(fd_write_full(p->stop_fd, &one, sizeof(one)), 0);
    assert_int_equal(pthread_join(p->thread, NULL), 0);
    fd_closep(&p->net_fd);
    fd_closep(&p->listen_fd);
    fd_closep(&p->stop_fd);
}

/* ---- the machine --------------------------------------------------------- */

static void on_end(void *opaque, const struct machine_end *end)
{
    struct traffic *t = opaque;

    t->has_ended = true;
    t->end = *end;
}

static char *path_in(const struct traffic *t, const char *name)
{
    char *path = NULL;

    assert_true(asprintf(&path, "%s/%s", t->folder, name) > 0);
    return path;
}

static struct traffic *prepare(enum machine_tracking tracking)
{
    struct traffic *t = calloc(1, sizeof(*t));
    const struct instance_host host = {.on_end = on_end, .opaque = t};
    struct err err;

    assert_non_null(t);
    (void)snprintf(t->folder, sizeof(t->folder), "/tmp/spore-traffic-XXXXXX");
    assert_non_null(mkdtemp(t->folder));
    config_init(&t->config);
    if (instance_init(&t->inst, &host, &t->timings, &err) < 0)
        fail_msg("%s", err.text);
    t->inst.tracking = tracking;
    return t;
}

static void build(struct traffic *t, const struct machine_origin *origin)
{
    struct err err;

    free(t->config.vsock_path);
    t->config.vsock_path = path_in(t, "vsock");
    t->config.nets[0].fd = start_peer(t);
    if (config_check(&t->config, &err) < 0)
        fail_msg("%s", err.text);
    console_init(&t->inst.console, &t->inst.loop, -1, -1);
    if (instance_build(&t->inst, &t->config, NULL, origin, &err) < 0)
        fail_msg("%s", err.text);
}

static void add_devices(struct traffic *t)
{
    struct config_drive drive = config_drive_default();
    struct config_net net = config_net_default();
    char id[] = "one";
    struct err err;
    int fd;

    drive.id = id;
    drive.path = path_in(t, "disk");
    drive.overlay = CONFIG_OVERLAY_MEMORY;
    fd = open(drive.path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, TRAFFIC_DISK_BYTES), 0);
    (void)close(fd);
    net.id = id;
    net.backend = CONFIG_NET_FD;
    if (config_add_drive(&t->config, &drive, &err) < 0 ||
        config_add_net(&t->config, &net, &err) < 0)
        fail_msg("%s", err.text);
    free(drive.path);
}

struct traffic *traffic_new(enum machine_tracking tracking)
{
    struct traffic *t = prepare(tracking);
    const char *folder = getenv("SPORE_GUESTS");

    if (folder == NULL)
        fail_msg("SPORE_GUESTS is not set");
    assert_true(asprintf(&t->config.kernel, "%s/traffic.elf", folder) > 0);
    t->config.boot_args = strdup("");
    t->config.mem_bytes = MEM_BYTES;
    t->config.has_agent = false;
    t->config.has_exit_port = true;
    add_devices(t);
    build(t, NULL);
    return t;
}

struct traffic *traffic_restore(struct snap *snap)
{
    const struct machine_origin origin = {
        .snap = snap, .clock = VM_CLOCK_FOLLOW};
    struct traffic *t = prepare(MACHINE_TRACK_LATER);
    struct err err;

    if (machine_restore_config(snap, &t->config, &err) < 0)
        fail_msg("%s", err.text);
    build(t, &origin);
    return t;
}

void traffic_free(struct traffic *t)
{
    char *disk = path_in(t, "disk");
    char *stream = path_in(t, "vsock_" TRAFFIC_PORT_TEXT);

    instance_fini(&t->inst);
    stop_peer(&t->peer);
    config_fini(&t->config);
    (void)unlink(disk);
    assert_int_equal(unlink(stream), 0);
    assert_int_equal(rmdir(t->folder), 0);
    free(disk);
    free(stream);
    free(t);
}

void traffic_start(struct traffic *t)
{
    struct err err;

    if (instance_start(&t->inst, &err) < 0)
        fail_msg("%s", err.text);
}

void traffic_read(const struct traffic *t, struct traffic_mailbox *ret_mailbox)
{
    assert_int_equal(gmem_read(&t->inst.machine.mem, gpa(TRAFFIC_MAILBOX),
                         ret_mailbox, sizeof(*ret_mailbox)),
        0);
}

void traffic_turn(struct traffic *t)
{
    int rc = loop_run_once(&t->inst.loop, 1);

    assert_true(rc >= 0);
    traffic_expect_sound(t);
}

static bool has_done(const struct traffic_mailbox *from,
    const struct traffic_mailbox *now, const struct traffic_count *more)
{
    return now->ticks - from->ticks >= more->ticks &&
           now->disk - from->disk >= more->disk &&
           now->net - from->net >= more->net &&
           now->vsock - from->vsock >= more->vsock;
}

void traffic_run(struct traffic *t, const struct traffic_count *more)
{
    uint64_t deadline = clock_now_ns() + HANG_NS;
    struct traffic_mailbox from;
    struct traffic_mailbox now;

    traffic_read(t, &from);
    for (;;) {
        traffic_turn(t);
        traffic_read(t, &now);
        if (has_done(&from, &now, more))
            return;
        if (clock_now_ns() > deadline)
            fail_msg("nothing more after %u ticks, %u requests, %u frames, %u "
                     "packets",
                now.ticks - from.ticks, now.disk - from.disk,
                now.net - from.net, now.vsock - from.vsock);
    }
}

void traffic_expect_sound(const struct traffic *t)
{
    if (t->has_ended)
        fail_msg("the guest ended with %u: %s", t->end.status, t->end.text);
    assert_int_equal(atomic_load(&t->peer.faults), 0);
}
