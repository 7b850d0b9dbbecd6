/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds, resets, snapshots, and drivers that break the protocol. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/vsock_guest.h"
#include "virtio/spec.h"
#include "vmm/base/fd.h"

#define GUEST_PORT  3000u
#define HOST_PORT   90u
#define CONNECTIONS 8u
#define ROOM        65536u

struct fixture {
    struct vsock_guest g;
    struct vsock_guest_hosts hosts;
    int near;
};

static struct fixture fixture;

static void begin(const struct vsock_guest_config *config)
{
    fixture = (struct fixture){.near = -1};
    vsock_guest_start(&fixture.g, config);
    vsock_set_accept(&fixture.g.vsock, VSOCK_ACCEPT_BACKEND, vsock_guest_accept,
        &fixture.hosts);
}

static int set_up(void **state)
{
    const struct vsock_guest_config config = {
        .connections_max = CONNECTIONS, .rx_buffers = 64, .event_buffers = 8};

    begin(&config);
    *state = &fixture;
    return 0;
}

static int set_up_event_idx(void **state)
{
    const struct vsock_guest_config config = {.connections_max = CONNECTIONS,
        .rx_buffers = 64,
        .event_buffers = 8,
        .features =
            VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_RESET};

    begin(&config);
    *state = &fixture;
    return 0;
}

static int set_up_eventless(void **state)
{
    const struct vsock_guest_config config = {.rx_buffers = 64};

    begin(&config);
    *state = &fixture;
    return 0;
}

static int set_up_loopless(void **state)
{
    const struct vsock_guest_config config = {
        .rx_buffers = 64, .without_loop = true};

    begin(&config);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vsock_guest_stop(&f->g);
    vsock_guest_close_hosts(&f->hosts);
    fd_closep(&f->near);
    return 0;
}

static void request(struct fixture *f, uint32_t guest_port)
{
    struct vsock_header h =
        vsock_guest_header(guest_port, HOST_PORT, VSOCK_OP_REQUEST);

    h.buf_alloc = le32_put(ROOM);
    vsock_guest_send(&f->g, &h, NULL, 0, 0);
    (void)vsock_guest_run(&f->g);
    assert_int_equal(vsock_guest_sent(&f->g), 1);
}

static void ask_guest(struct fixture *f)
{
    int fds[2];

    vsock_guest_pair(fds);
    f->near = fds[0];
    assert_int_equal(vsock_connect(&f->g.vsock, GUEST_PORT, fds[1], NULL), 0);
    (void)vsock_guest_run(&f->g);
}

static void expect_silence(struct fixture *f)
{
    struct vsock_guest_packet p;

    (void)vsock_guest_run(&f->g);
    assert_false(vsock_guest_receive(&f->g, true, &p));
}

static void expect_eof(int fd)
{
    char got;

    assert_int_equal(recv(fd, &got, 1, MSG_DONTWAIT), 0);
}

static struct device *device_of(struct fixture *f)
{
    return &f->g.vsock.virtio.base;
}

static void quiesce(struct fixture *f)
{
    struct device *dev = device_of(f);

    device_lock(dev);
    assert_int_equal(dev->ops->quiesce(dev, NULL), 0);
    device_unlock(dev);
}

static void resume(struct fixture *f)
{
    struct device *dev = device_of(f);

    device_lock(dev);
    dev->ops->resume(dev);
    device_unlock(dev);
}

static void reload(struct fixture *f)
{
    struct device *dev = device_of(f);
    uint8_t image[1024];
    struct bytes_writer w;
    struct bytes_reader r;

    bytes_writer_init(&w, image, sizeof(image));
    state_save(dev->ops->state, dev->state, &w);
    assert_false(w.failed);
    bytes_reader_init(&r, image, w.pos);
    assert_int_equal(
        state_load(dev->ops->state, dev->ops->state->version, &r, dev->state),
        0);
    device_lock(dev);
    assert_int_equal(dev->ops->post_load(dev, NULL), 0);
    device_unlock(dev);
}

static void test_requests_beyond_the_bound_are_refused(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 5 * CONNECTIONS; i++) {
        request(f, i);
        (void)vsock_guest_expect(
            &f->g, i < CONNECTIONS ? VSOCK_OP_RESPONSE : VSOCK_OP_RST, i);
    }
    assert_int_equal(f->g.vsock.table.count, CONNECTIONS);
    assert_int_equal(f->hosts.count, CONNECTIONS);
    assert_int_equal(f->g.vsock.stats.full, 4 * CONNECTIONS);
    {
        int fds[2];

        vsock_guest_pair(fds);
        f->near = fds[0];
        assert_int_equal(
            vsock_connect(&f->g.vsock, GUEST_PORT, fds[1], NULL), -ENOSPC);
        assert_int_equal(close(fds[1]), 0);
    }
    /* One that ends makes room. */
    fd_closep(&f->hosts.fds[3]);
    (void)vsock_guest_run(&f->g);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_SHUTDOWN, 3);
    request(f, 100);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RESPONSE, 100);
    assert_int_equal(f->g.vsock.table.count, CONNECTIONS);
    request(f, 101);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, 101);
}

static void test_flood_before_any_answer_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;
    unsigned int answers = 0;

    /* All rx buffers are away. */
    for (unsigned int i = 0; i < 64; i++) {
        struct vsock_header h =
            vsock_guest_header(i, HOST_PORT, VSOCK_OP_CREDIT_UPDATE);

        vsock_guest_send(&f->g, &h, NULL, 0, 0);
        (void)vsock_guest_run(&f->g);
        (void)vsock_guest_sent(&f->g);
        assert_true(vsock_guest_receive(&f->g, false, &p));
    }
    for (uint32_t i = 0; i < CONNECTIONS + VSOCK_RESETS_MAX; i++)
        request(f, i);
    assert_int_equal(f->g.vsock.table.count, CONNECTIONS);
    assert_int_equal(f->g.vsock.reset_count, VSOCK_RESETS_MAX);
    vsock_guest_post_rx(&f->g, 64);
    (void)vsock_guest_run(&f->g);
    while (vsock_guest_receive(&f->g, true, &p)) {
        answers++;
        (void)vsock_guest_run(&f->g);
    }
    assert_int_equal(answers, CONNECTIONS + VSOCK_RESETS_MAX);
}

static void test_device_reset_closes_everything(void **state)
{
    struct fixture *f = *state;

    request(f, GUEST_PORT);
    ask_guest(f);
    drive_write(device_of(f), VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(f->g.vsock.table.count, 0);
    (void)vsock_guest_run(&f->g);
    expect_eof(f->hosts.fds[0]);
    expect_eof(f->near);
    assert_int_equal(f->g.vsock.state.next_host_port, VSOCK_HOST_PORT_FIRST);
    assert_int_equal(f->g.vsock.state.guest_cid, VSOCK_GUEST_CID);
    /* The acceptors are still there for the next driver. */
    vsock_guest_drive(&f->g);
    vsock_guest_post_rx(&f->g, 16);
    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, ROOM);
    assert_int_equal(f->hosts.count, 2);
}

static void test_events_between_reset_and_closing_are_ignored(void **state)
{
    struct fixture *f = *state;

    request(f, GUEST_PORT);
    assert_int_equal(send(f->hosts.fds[0], "x", 1, 0), 1);
    fd_closep(&f->hosts.fds[0]);
    drive_write(device_of(f), VIRTIO_MMIO_STATUS, 0);
    (void)vsock_guest_run(&f->g);
    assert_true(TAILQ_EMPTY(&f->g.vsock.table.doomed));
}

static void test_queue_reset_closes_everything(void **state)
{
    struct fixture *f = *state;
    struct device *dev = device_of(f);

    for (uint32_t queue = 0; queue < VSOCK_QUEUES; queue++) {
        vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, ROOM);
        drive_write(dev, VIRTIO_MMIO_QUEUE_SEL, queue);
        drive_write(dev, VIRTIO_MMIO_QUEUE_RESET, 1);
        assert_int_equal(f->g.vsock.table.count, 0);
        (void)vsock_guest_run(&f->g);
        expect_eof(f->hosts.fds[queue]);
        vsock_guest_drive(&f->g);
        vsock_guest_post_rx(&f->g, 16);
    }
}

static void test_failed_device_closes_everything(void **state)
{
    struct fixture *f = *state;

    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, ROOM);
    drive_set_avail_idx(&f->g.queues[VSOCK_QUEUE_TX],
        (uint16_t)(f->g.queues[VSOCK_QUEUE_TX].avail_idx + 1000));
    drive_kick(device_of(f), VSOCK_QUEUE_TX);
    (void)vsock_guest_run(&f->g);
    assert_true((drive_read(device_of(f), VIRTIO_MMIO_STATUS) &
                    VIRTIO_STATUS_NEEDS_RESET) != 0);
    expect_eof(f->hosts.fds[0]);
    assert_int_equal(f->g.vsock.table.count, 0);
}

static void test_quiet_device_leaves_the_guest_alone(void **state)
{
    struct fixture *f = *state;
    struct vsock_guest_packet p;

    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, ROOM);
    quiesce(f);
    assert_int_equal(send(f->hosts.fds[0], "later", 5, 0), 5);
    ask_guest(f);
    assert_int_equal(vsock_guest_run(&f->g), 0);
    expect_silence(f);
    assert_int_equal(f->g.vsock.table.count, 2);
    resume(f);
    (void)vsock_guest_run(&f->g);
    for (unsigned int i = 0; i < 2; i++) {
        assert_true(vsock_guest_receive(&f->g, true, &p));
        assert_true(p.op == VSOCK_OP_RW || p.op == VSOCK_OP_REQUEST);
    }
    expect_silence(f);
}

static void test_load_resets_the_transport(void **state)
{
    struct fixture *f = *state;
    struct vsock_header stale =
        vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_RW);
    uint32_t first_port = f->g.vsock.state.next_host_port;
    uint32_t id;

    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, ROOM);
    ask_guest(f);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT);
    fd_closep(&f->near);
    quiesce(f);
    reload(f);
    assert_int_equal(f->g.vsock.table.count, 0);
    resume(f);
    (void)vsock_guest_run(&f->g);
    expect_eof(f->hosts.fds[0]);
    /* Nothing may begin before the guest has forgotten the old ones. */
    ask_guest(f);
    vsock_guest_send(&f->g, &stale, "x", 1, 0);
    (void)vsock_guest_run(&f->g);
    expect_silence(f);
    assert_int_equal(f->g.vsock.event_phase, VSOCK_EVENT_SENT);
    assert_true(vsock_guest_event(&f->g, true, &id));
    assert_int_equal(id, VSOCK_EVENT_TRANSPORT_RESET);
    assert_false(vsock_guest_event(&f->g, true, &id));
    (void)vsock_guest_run(&f->g);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, GUEST_PORT);
    assert_true(
        vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT).src_port >
        first_port);
    assert_int_equal(f->g.vsock.stats.transport_resets, 1);
    assert_int_equal(f->g.vsock.event_phase, VSOCK_EVENT_NONE);
    /* The acceptors are still there. */
    vsock_guest_open(&f->g, GUEST_PORT, HOST_PORT, ROOM);
}

static void test_unrelated_kicks_do_not_acknowledge(void **state)
{
    struct fixture *f = *state;
    uint32_t id;

    quiesce(f);
    reload(f);
    resume(f);
    ask_guest(f);
    for (uint32_t queue = 0; queue < VSOCK_QUEUES; queue++) {
        drive_kick(device_of(f), queue);
        (void)vsock_guest_run(&f->g);
        expect_silence(f);
    }
    assert_true(vsock_guest_event(&f->g, true, &id));
    (void)vsock_guest_run(&f->g);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT);
}

/* With event indices the driver only kicks where it was asked to. */
static void test_acknowledgement_is_asked_for(void **state)
{
    struct fixture *f = *state;
    const struct drive_queue *events = &f->g.queues[VSOCK_QUEUE_EVENT];

    quiesce(f);
    reload(f);
    resume(f);
    (void)vsock_guest_run(&f->g);
    assert_int_equal(f->g.vsock.event_phase, VSOCK_EVENT_SENT);
    assert_int_equal(drive_avail_event(events), events->avail_idx);
}

static void test_event_waits_for_a_buffer(void **state)
{
    struct fixture *f = *state;
    uint32_t id;

    quiesce(f);
    reload(f);
    resume(f);
    (void)vsock_guest_run(&f->g);
    /* A driver that gives no event buffers cannot be told to wait. */
    ask_guest(f);
    (void)vsock_guest_expect(&f->g, VSOCK_OP_REQUEST, GUEST_PORT);
    assert_int_equal(f->g.vsock.event_phase, VSOCK_EVENT_DUE);
    vsock_guest_post_event(&f->g, 1);
    (void)vsock_guest_run(&f->g);
    assert_true(vsock_guest_event(&f->g, true, &id));
    assert_int_equal(id, VSOCK_EVENT_TRANSPORT_RESET);
    (void)vsock_guest_run(&f->g);
    assert_int_equal(f->g.vsock.event_phase, VSOCK_EVENT_NONE);
}

static void test_small_event_buffer_fails_the_device(void **state)
{
    struct fixture *f = *state;
    const struct drive_buffer buf = {
        .addr = 0x20000, .len = 3, .writable = true};

    quiesce(f);
    reload(f);
    resume(f);
    (void)drive_add(&f->g.queues[VSOCK_QUEUE_EVENT], &buf, 1);
    drive_kick(device_of(f), VSOCK_QUEUE_EVENT);
    (void)vsock_guest_run(&f->g);
    assert_true((drive_read(device_of(f), VIRTIO_MMIO_STATUS) &
                    VIRTIO_STATUS_NEEDS_RESET) != 0);
}

static void test_load_before_the_driver_sends_no_event(void **state)
{
    struct fixture *f = *state;

    drive_write(device_of(f), VIRTIO_MMIO_STATUS, 0);
    quiesce(f);
    reload(f);
    resume(f);
    assert_int_equal(f->g.vsock.event_phase, VSOCK_EVENT_NONE);
}

static void test_hostile_state_is_refused(void **state)
{
    struct fixture *f = *state;
    struct vsock_state *s = &f->g.vsock.state;
    struct device *dev = device_of(f);
    const struct {
        uint32_t cid;
        uint32_t port;
    } bad[] = {
        {0, VSOCK_HOST_PORT_FIRST},
        {2, VSOCK_HOST_PORT_FIRST},
        {VSOCK_CID_ANY, VSOCK_HOST_PORT_FIRST},
        {7, 0},
        {7, VSOCK_HOST_PORT_FIRST - 1},
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct err err;

        s->guest_cid = bad[i].cid;
        s->next_host_port = bad[i].port;
        assert_int_equal(dev->ops->post_load(dev, &err), -EINVAL);
        /* As good as new. */
        assert_int_equal(s->guest_cid, VSOCK_GUEST_CID);
        assert_int_equal(s->next_host_port, VSOCK_HOST_PORT_FIRST);
        assert_int_equal(s->virtio.status, 0);
    }
}

static void test_load_brings_its_cid(void **state)
{
    struct fixture *f = *state;
    struct device *dev = device_of(f);

    quiesce(f);
    f->g.vsock.state.guest_cid = 77;
    reload(f);
    resume(f);
    assert_int_equal(drive_read(dev, VIRTIO_MMIO_CONFIG), 77);
    drive_write(dev, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(drive_read(dev, VIRTIO_MMIO_CONFIG), 77);
}

/* Takes every caller, and is gone at once; to some it says a word. */
static int accept_and_leave(
    void *opaque, uint32_t guest_port, uint32_t host_port)
{
    int fds[2];

    (void)opaque;
    (void)guest_port;
    vsock_guest_pair(fds);
    if (host_port % 2 == 0)
        assert_int_equal(send(fds[0], "x", 1, MSG_NOSIGNAL), 1);
    (void)close(fds[0]);
    return fds[1];
}

#define RESETS 300u

static void *run_vcpu(void *opaque)
{
    struct fixture *f = opaque;

    for (uint32_t i = 0; i < RESETS; i++) {
        vsock_guest_drive(&f->g);
        vsock_guest_post_rx(&f->g, 4);
        for (uint32_t k = 0; k < 6; k++) {
            struct vsock_header h = vsock_guest_header(k, k, VSOCK_OP_REQUEST);

            h.buf_alloc = le32_put(ROOM);
            vsock_guest_send(&f->g, &h, NULL, 0, 0);
        }
        if (i % 3 == 0)
            (void)sched_yield();
        drive_write(device_of(f), VIRTIO_MMIO_STATUS, 0);
    }
    loop_stop(&f->g.loop);
    return NULL;
}

/* What the loop watches is closed on its thread, whoever resets. */
static void test_resets_by_a_vcpu_while_the_loop_runs(void **state)
{
    struct fixture *f = *state;
    pthread_t vcpu;

    vsock_set_accept(&f->g.vsock, VSOCK_ACCEPT_BACKEND, accept_and_leave, NULL);
    assert_int_equal(pthread_create(&vcpu, NULL, run_vcpu, f), 0);
    assert_int_equal(loop_run(&f->g.loop), 0);
    assert_int_equal(pthread_join(vcpu, NULL), 0);
    (void)vsock_guest_run(&f->g);
    assert_int_equal(f->g.vsock.table.count, 0);
    assert_true(TAILQ_EMPTY(&f->g.vsock.table.doomed));
}

static void test_without_a_loop_all_is_refused(void **state)
{
    struct fixture *f = *state;
    int fds[2];

    for (uint32_t i = 0; i < 200; i++) {
        struct vsock_header h =
            vsock_guest_header(i, HOST_PORT, VSOCK_OP_REQUEST);

        vsock_guest_send(&f->g, &h, NULL, 0, 0);
        (void)vsock_guest_expect(&f->g, VSOCK_OP_RST, i);
        assert_int_equal(vsock_guest_sent(&f->g), 1);
    }
    assert_int_equal(f->hosts.count, 0);
    vsock_guest_pair(fds);
    f->near = fds[0];
    assert_int_equal(vsock_connect(&f->g.vsock, 1, fds[1], NULL), -EOPNOTSUPP);
    assert_int_equal(close(fds[1]), 0);
}

static void test_without_a_loop_a_stalled_guest_goes_on(void **state)
{
    struct fixture *f = *state;
    struct vsock_header h =
        vsock_guest_header(GUEST_PORT, HOST_PORT, VSOCK_OP_RW);
    struct vsock_guest_packet p;
    unsigned int answers = 0;

    /* 64 rx buffers, 64 places in the ring, and ten that must wait. */
    for (unsigned int i = 0; i < 64 + VSOCK_RESETS_MAX + 10; i++) {
        vsock_guest_send(&f->g, &h, NULL, 0, 44);
        (void)vsock_guest_sent(&f->g);
    }
    assert_true(f->g.vsock.tx_stalled);
    while (vsock_guest_receive(&f->g, true, &p))
        answers++;
    assert_int_equal(answers, 64 + VSOCK_RESETS_MAX + 10);
    assert_false(f->g.vsock.tx_stalled);
}

int main(void)
{
#define CASE(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
#define EVENT_INDEX(t)                                                         \
    cmocka_unit_test_setup_teardown(t, set_up_event_idx, tear_down)
#define EVENTLESS(t)                                                           \
    cmocka_unit_test_setup_teardown(t, set_up_eventless, tear_down)
#define LOOPLESS(t)                                                            \
    cmocka_unit_test_setup_teardown(t, set_up_loopless, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_requests_beyond_the_bound_are_refused),
        CASE(test_flood_before_any_answer_is_bounded),
        CASE(test_device_reset_closes_everything),
        CASE(test_events_between_reset_and_closing_are_ignored),
        EVENT_INDEX(test_queue_reset_closes_everything),
        CASE(test_failed_device_closes_everything),
        CASE(test_quiet_device_leaves_the_guest_alone),
        CASE(test_load_resets_the_transport),
        EVENT_INDEX(test_load_resets_the_transport),
        CASE(test_unrelated_kicks_do_not_acknowledge),
        EVENT_INDEX(test_acknowledgement_is_asked_for),
        EVENTLESS(test_event_waits_for_a_buffer),
        EVENTLESS(test_small_event_buffer_fails_the_device),
        CASE(test_load_before_the_driver_sends_no_event),
        CASE(test_hostile_state_is_refused),
        CASE(test_load_brings_its_cid),
        CASE(test_resets_by_a_vcpu_while_the_loop_runs),
        LOOPLESS(test_without_a_loop_all_is_refused),
        LOOPLESS(test_without_a_loop_a_stalled_guest_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
