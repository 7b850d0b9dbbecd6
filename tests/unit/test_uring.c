/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/support/skip.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/core/uring.h"

#define OPS   300u /* more than the submission queue holds */
#define BLOCK 4096u

struct owner {
    struct device dev;
    struct uring_client client;
    unsigned int completed;
    unsigned int batches;
    int64_t last;
};

struct op {
    struct uring_op op;
    struct owner *owner;
    struct iovec iov;
    uint8_t data[BLOCK];
    unsigned int done;
};

struct fixture {
    struct loop loop;
    struct uring u;
    struct owner a;
    struct owner b;
    int fd;
    int slot;
    struct op ops[OPS];
};

static const struct device_ops no_ops;

static void complete(struct uring_op *op, int64_t res)
{
    struct op *o = container_of(op, struct op, op);

    /* The contract: the device's lock is held. */
    assert_int_equal(pthread_mutex_trylock(&o->owner->dev.lock), EBUSY);
    o->done++;
    o->owner->completed++;
    o->owner->last = res;
}

static void batch_done(void *opaque)
{
    struct owner *owner = opaque;

    owner->batches++;
}

static void init_owner(struct owner *owner, struct uring *u)
{
    device_init(&owner->dev, &no_ops, "owner", NULL);
    uring_client_init(&owner->client, u, &owner->dev);
    owner->client.batch_done = batch_done;
    owner->client.opaque = owner;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    uint8_t block[BLOCK];

    assert_non_null(f);
    assert_int_equal(loop_init(&f->loop, NULL), 0);
    uring_init(&f->u, &f->loop);
    init_owner(&f->a, &f->u);
    init_owner(&f->b, &f->u);
    f->fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(f->fd >= 0);
    for (unsigned int i = 0; i < OPS; i++) {
        memset(block, (int)(i % 251), sizeof(block));
        assert_int_equal(pwrite(f->fd, block, BLOCK, i * BLOCK), BLOCK);
    }
    f->slot = uring_add_file(&f->u, f->fd);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    if (f->slot >= 0)
        uring_remove_file(&f->u, f->slot);
    uring_client_fini(&f->a.client);
    uring_client_fini(&f->b.client);
    uring_fini(&f->u);
    loop_fini(&f->loop);
    fd_closep(&f->fd);
    free(f);
    return 0;
}

static void need_ring(const struct fixture *f)
{
    if (f->slot >= 0)
        return;
    if (skip_is_forbidden())
        fail_msg("io_uring: %s", strerror(-f->slot));
    skip();
}

static void set_read(struct fixture *f, unsigned int i, struct owner *owner)
{
    struct op *o = &f->ops[i];

    o->owner = owner;
    o->iov = (struct iovec){.iov_base = o->data, .iov_len = BLOCK};
    o->op = (struct uring_op){.kind = URING_READ,
        .fd = f->fd,
        .slot = f->slot,
        .iov = &o->iov,
        .iov_count = 1,
        .offset = (uint64_t)i * BLOCK,
        .complete = complete};
}

static void start_read(struct fixture *f, unsigned int i, struct owner *owner)
{
    set_read(f, i, owner);
    assert_int_equal(uring_start(&owner->client, &f->ops[i].op), 0);
}

static void expect_block(const struct fixture *f, unsigned int i)
{
    assert_int_equal(f->ops[i].done, 1);
    assert_int_equal(f->ops[i].data[0], i % 251);
    assert_int_equal(f->ops[i].data[BLOCK - 1], i % 251);
}

static void test_drain_completes_everything(void **state)
{
    struct fixture *f = *state;

    need_ring(f);
    device_lock(&f->a.dev);
    for (unsigned int i = 0; i < OPS; i++)
        start_read(f, i, &f->a);
    assert_int_equal(f->a.client.inflight, OPS - f->a.completed);
    uring_drain(&f->a.client);
    device_unlock(&f->a.dev);
    assert_int_equal(f->a.completed, OPS);
    assert_int_equal(f->a.client.inflight, 0);
    for (unsigned int i = 0; i < OPS; i++)
        expect_block(f, i);
}

static void test_a_batch_is_one_system_call(void **state)
{
    struct fixture *f = *state;

    need_ring(f);
    device_lock(&f->a.dev);
    for (unsigned int i = 0; i < 64; i++)
        start_read(f, i, &f->a);
    assert_int_equal(f->u.submits, 0);
    uring_submit(&f->a.client);
    assert_int_equal(f->u.submits, 1);
    uring_drain(&f->a.client);
    device_unlock(&f->a.dev);
    assert_int_equal(f->u.ops, 64);
}

static void test_loop_completes_with_the_lock_held(void **state)
{
    struct fixture *f = *state;

    need_ring(f);
    device_lock(&f->a.dev);
    for (unsigned int i = 0; i < 10; i++)
        start_read(f, i, &f->a);
    device_unlock(&f->a.dev);
    /* Staged by A, handed over by B: A's are then the loop's to complete. */
    device_lock(&f->b.dev);
    uring_submit(&f->b.client);
    device_unlock(&f->b.dev);
    assert_int_equal(f->b.completed, 0);
    while (f->a.completed < 10)
        assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    for (unsigned int i = 0; i < 10; i++)
        expect_block(f, i);
    assert_true(f->a.batches >= 1);
}

static void test_drain_leaves_other_clients_to_the_loop(void **state)
{
    struct fixture *f = *state;

    need_ring(f);
    device_lock(&f->a.dev);
    for (unsigned int i = 0; i < 20; i += 2)
        start_read(f, i, &f->a);
    device_unlock(&f->a.dev);
    device_lock(&f->b.dev);
    for (unsigned int i = 1; i < 20; i += 2)
        start_read(f, i, &f->b);
    uring_drain(&f->b.client);
    device_unlock(&f->b.dev);
    assert_int_equal(f->b.completed, 10);
    assert_int_equal(f->a.completed, 0);
    while (f->a.completed < 10)
        assert_int_equal(loop_run_once(&f->loop, 1000), 0);
    for (unsigned int i = 0; i < 20; i++)
        expect_block(f, i);
}

struct drainer {
    struct fixture *f;
    struct owner *owner;
    unsigned int first;
};

/* What a vCPU thread does that resets a device with requests in flight. */
static void *run_drainer(void *opaque)
{
    struct drainer *d = opaque;

    for (unsigned int round = 0; round < 200; round++) {
        device_lock(&d->owner->dev);
        for (unsigned int i = 0; i < 16; i++)
            start_read(d->f, d->first + i, d->owner);
        uring_drain(&d->owner->client);
        assert_int_equal(d->owner->client.inflight, 0);
        device_unlock(&d->owner->dev);
    }
    return NULL;
}

static void *run_loop(void *opaque)
{
    struct fixture *f = opaque;

    assert_int_equal(loop_run(&f->loop), 0);
    return NULL;
}

static void test_drains_and_the_loop_do_not_lock_up(void **state)
{
    struct fixture *f = *state;
    struct drainer d[] = {{f, &f->a, 0}, {f, &f->b, 100}};
    pthread_t threads[3];

    need_ring(f);
    assert_int_equal(pthread_create(&threads[0], NULL, run_drainer, &d[0]), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, run_drainer, &d[1]), 0);
    assert_int_equal(pthread_create(&threads[2], NULL, run_loop, f), 0);
    (void)pthread_join(threads[0], NULL);
    (void)pthread_join(threads[1], NULL);
    loop_stop(&f->loop);
    (void)pthread_join(threads[2], NULL);
    assert_int_equal(f->a.completed, 3200);
    assert_int_equal(f->b.completed, 3200);
}

static void run_op(struct fixture *f, struct uring_op *op, bool sync)
{
    struct op *o = container_of(op, struct op, op);

    o->owner = &f->a;
    op->complete = complete;
    device_lock(&f->a.dev);
    if (sync) {
        complete(op, uring_run_sync(op));
    } else {
        assert_int_equal(uring_start(&f->a.client, op), 0);
        uring_drain(&f->a.client);
    }
    device_unlock(&f->a.dev);
}

/* Every kind of operation, by the ring and by system calls. */
static void all_kinds(struct fixture *f, bool sync)
{
    struct op *o = &f->ops[0];
    struct stat st;
    uint8_t byte = 1;

    memset(o->data, 0x77, BLOCK);
    o->iov = (struct iovec){.iov_base = o->data, .iov_len = 100};
    o->op = (struct uring_op){.kind = URING_WRITE,
        .fd = f->fd,
        .slot = f->slot,
        .iov = &o->iov,
        .iov_count = 1,
        .durable = true,
        .offset = 5000};
    run_op(f, &o->op, sync);
    assert_int_equal(f->a.last, 100);
    assert_int_equal(pread(f->fd, &byte, 1, 5099), 1);
    assert_int_equal(byte, 0x77);

    o->op.kind = URING_FDATASYNC;
    run_op(f, &o->op, sync);
    assert_int_equal(f->a.last, 0);

    o->op.kind = URING_FALLOCATE;
    o->op.mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
    o->op.offset = BLOCK;
    o->op.len = BLOCK;
    run_op(f, &o->op, sync);
    assert_int_equal(f->a.last, 0);
    assert_int_equal(pread(f->fd, &byte, 1, 5099), 1);
    assert_int_equal(byte, 0);
    assert_int_equal(fstat(f->fd, &st), 0);
    assert_int_equal(st.st_size, OPS * BLOCK);

    /* Past the end: a read of nothing, and a mode that does not exist. */
    o->op.kind = URING_READ;
    o->op.offset = OPS * BLOCK;
    run_op(f, &o->op, sync);
    assert_int_equal(f->a.last, 0);
    o->op.kind = URING_FALLOCATE;
    o->op.mode = 0x4000;
    run_op(f, &o->op, sync);
    assert_int_equal(f->a.last, -EOPNOTSUPP);
}

static void test_all_kinds_through_the_ring(void **state)
{
    struct fixture *f = *state;

    need_ring(f);
    all_kinds(f, false);
}

static void test_all_kinds_by_system_calls(void **state)
{
    all_kinds(*state, true);
}

/* The descriptor is open in the process, but not registered. */
static void test_ring_reaches_registered_files_only(void **state)
{
    struct fixture *f = *state;

    need_ring(f);
    set_read(f, 0, &f->a);
    f->ops[0].op.slot = f->slot + 1;
    run_op(f, &f->ops[0].op, false);
    assert_int_equal(f->a.last, -EBADF);
}

/* What code that got at the ring itself would get out of it. */
static int32_t submit_raw(struct fixture *f, int how)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(f->u.ring);
    struct io_uring_cqe *cqe;
    int32_t res;

    assert_non_null(sqe);
    set_read(f, 0, &f->a);
    if (how == 0)
        io_uring_prep_readv(sqe, f->slot, &f->ops[0].iov, 1, 0);
    else if (how == 1)
        io_uring_prep_readv(sqe, f->fd, &f->ops[0].iov, 1, 0);
    else
        io_uring_prep_openat(sqe, AT_FDCWD, "/", O_RDONLY, 0);
    if (how == 0)
        io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    assert_int_equal(io_uring_submit_and_wait(f->u.ring, 1), 1);
    assert_int_equal(io_uring_peek_cqe(f->u.ring, &cqe), 0);
    res = cqe->res;
    io_uring_cqe_seen(f->u.ring, cqe);
    return res;
}

static void test_kernel_holds_the_ring_to_its_limits(void **state)
{
    struct fixture *f = *state;

    need_ring(f);
    assert_int_equal(submit_raw(f, 0), BLOCK);
    assert_int_equal(submit_raw(f, 1), -EACCES);
    assert_int_equal(submit_raw(f, 2), -EACCES);
}

static void test_slots_are_counted_and_reused(void **state)
{
    struct fixture *f = *state;
    int slots[URING_FILES_MAX];
    int n = 0;
    int slot;

    need_ring(f);
    while ((slot = uring_add_file(&f->u, f->fd)) >= 0)
        slots[n++] = slot;
    assert_int_equal(slot, -ENFILE);
    assert_int_equal(n, URING_FILES_MAX - 1);
    uring_remove_file(&f->u, slots[7]);
    assert_int_equal(uring_add_file(&f->u, f->fd), slots[7]);
    while (n-- > 0)
        uring_remove_file(&f->u, slots[n]);
    start_read(f, 3, &f->a);
    device_lock(&f->a.dev);
    uring_drain(&f->a.client);
    device_unlock(&f->a.dev);
    expect_block(f, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_drain_completes_everything),
        T(test_a_batch_is_one_system_call),
        T(test_loop_completes_with_the_lock_held),
        T(test_drain_leaves_other_clients_to_the_loop),
        T(test_drains_and_the_loop_do_not_lock_up),
        T(test_all_kinds_through_the_ring),
        T(test_all_kinds_by_system_calls),
        T(test_ring_reaches_registered_files_only),
        T(test_kernel_holds_the_ring_to_its_limits),
        T(test_slots_are_counted_and_reused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
