/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/echo_device.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "virtio/iov.h"
#include "vmm/base/fd.h"

/* Of one go: rings that overlap feed themselves. */
#define BATCH 64u

static struct echo *from_virtio(struct virtio_device *v)
{
    return container_of(v, struct echo, virtio);
}

static void finish(struct echo *e, unsigned int queue, struct queue_chain *c)
{
    struct iov_cursor in = iov_readable(c);
    struct iov_cursor out = iov_writable(c);
    uint32_t n = (uint32_t)num_min(in.left, out.left);
    bool ok = true;
    uint8_t some[256];

    for (uint32_t left = n; left > 0 && ok;) {
        uint32_t len = (uint32_t)num_min(left, sizeof(some));

        ok = iov_read(&in, some, len) && iov_write(&out, some, len);
        left -= len;
    }
    assert(ok);
    (void)ok;
    e->state.echoed++;
    virtio_push(&e->virtio, queue, c, n);
}

static void echo_kick(struct virtio_device *v, unsigned int queue)
{
    struct echo *e = from_virtio(v);
    struct queue_chain *c = NULL;
    unsigned int n = 0;

    virtio_begin_batch(v, queue);
    while (n++ < BATCH && (c = virtio_pop(v, queue)) != NULL) {
        if (!e->holds) {
            finish(e, queue, c);
            continue;
        }
        assert(e->held_count < ECHO_HELD_MAX);
        e->held_from[e->held_count] = queue;
        e->held[e->held_count++] = c;
    }
    virtio_notify(v, queue);
    virtio_end_batch(v, queue, c != NULL);
}

static void echo_drain(struct virtio_device *v)
{
    struct echo *e = from_virtio(v);
    unsigned int n = e->held_count;

    e->held_count = 0;
    for (unsigned int i = 0; i < n; i++)
        finish(e, e->held_from[i], e->held[i]);
    for (unsigned int i = 0; i < ECHO_QUEUES && n > 0; i++)
        virtio_notify(v, i);
}

static void echo_read_config(const struct virtio_device *v, uint64_t offset,
    uint8_t *ret_data, uint32_t len)
{
    const struct echo *e =
        container_of((struct virtio_device *)(uintptr_t)v, struct echo, virtio);

    virtio_config_copy(e->config, sizeof(e->config), offset, ret_data, len);
}

static void echo_write_config(
    struct virtio_device *v, uint64_t offset, const uint8_t *data, uint32_t len)
{
    struct echo *e = from_virtio(v);

    if (num_range_within(offset, len, sizeof(e->config)))
        memcpy(e->config + offset, data, len);
}

static void echo_activate(struct virtio_device *v)
{
    from_virtio(v)->activated++;
}

static void echo_reset(struct virtio_device *v)
{
    from_virtio(v)->state.echoed = 0;
    from_virtio(v)->state.spare = 0;
}

static int echo_post_load(struct virtio_device *v, struct err *err)
{
    return from_virtio(v)->state.spare == 0
               ? 0
               : err_set(err, EINVAL, "spare field is in use");
}

static void echo_resume(struct virtio_device *v)
{
    from_virtio(v)->resumed++;
}

static const struct virtio_ops echo_ops = {.device_id = 42,
    .queue_count = ECHO_QUEUES,
    .request_size = sizeof(struct queue_chain),
    .kick = echo_kick,
    .read_config = echo_read_config,
    .write_config = echo_write_config,
    .activate = echo_activate,
    .drain = echo_drain,
    .reset = echo_reset,
    .post_load = echo_post_load,
    .resume = echo_resume};

static const struct state_field echo_fields[] = {
    VIRTIO_STATE_FIELDS(struct echo_state, virtio),
    STATE_SCALAR(struct echo_state, echoed, 1),
    STATE_SCALAR(struct echo_state, spare, 1),
};
const struct state_desc echo_desc =
    STATE_DESC(struct echo_state, "echo", 1, echo_fields);
static const struct device_ops echo_device_ops = {
    .state = &echo_desc, VIRTIO_DEVICE_OPS};

static int bind_kick(
    void *opaque, uint64_t address, uint32_t queue, int eventfd)
{
    struct echo_bench *f = opaque;

    f->bound_address = address;
    f->bound_queue = queue;
    f->binds++;
    f->bound_fd = eventfd;
    return f->bind_result;
}

static void unbind_kick(
    void *opaque, uint64_t address, uint32_t queue, int eventfd)
{
    struct echo_bench *f = opaque;

    assert(address == f->bound_address && queue == f->bound_queue);
    assert(eventfd == f->bound_fd);
    (void)address;
    (void)queue;
    (void)eventfd;
    f->unbinds++;
}

void echo_init(struct echo_bench *f, struct echo *e, struct loop *loop)
{
    static const uint16_t sizes[ECHO_QUEUES] = {ECHO_SIZE, 16};
    const struct virtio_config config = {.ops = &echo_ops,
        .device_ops = &echo_device_ops,
        .id = "echo0",
        .state = &e->state.virtio,
        .features = ECHO_F,
        .queue_sizes = sizes};
    const struct virtio_host host = {.mem = &f->mem,
        .loop = loop,
        .irq = {.fd = f->irq},
        .base = UINT64_C(0xc0001000),
        .bind_kick = bind_kick,
        .unbind_kick = unbind_kick,
        .opaque = f};

    int rc;

    *e = (struct echo){.config = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}};
    rc = virtio_init(&e->virtio, &config, &host, NULL);
    assert(rc == 0);
    (void)rc;
}

void echo_bench_init(struct echo_bench *f)
{
    int rc;

    *f = (struct echo_bench){0};
    rc = gmem_init(&f->mem, ECHO_RAM, NULL);
    assert(rc == 0);
    rc = loop_init(&f->loop, NULL);
    assert(rc == 0);
    (void)rc;
    f->irq = fd_eventfd();
    assert(f->irq >= 0);
    echo_init(f, &f->e, NULL);
    f->dev = &f->e.virtio.base;
    drive_queue_init(&f->d[0], &f->mem, ECHO_RINGS, ECHO_SIZE);
    drive_queue_init(&f->d[1], &f->mem, ECHO_RINGS + 0x10000, 2 * ECHO_SIZE);
}

void echo_bench_fini(struct echo_bench *f)
{
    f->dev->ops->reset(f->dev);
    virtio_fini(&f->e.virtio);
    loop_fini(&f->loop);
    fd_closep(&f->irq);
    gmem_fini(&f->mem);
}
