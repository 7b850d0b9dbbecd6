/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/core/uring.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * The completion queue bounds nothing: with IORING_FEAT_NODROP the kernel
 * keeps what does not fit until there is room.
 */
#define SQ_ENTRIES 128u
#define CQ_ENTRIES 1024u

#define NEEDED_FEATURES (IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE)

_Static_assert(URING_FILES_MAX == 64, "the slots are the bits of a uint64_t");

static void lock(struct uring *u)
{
    (void)pthread_mutex_lock(&u->lock);
}

static void unlock(struct uring *u)
{
    (void)pthread_mutex_unlock(&u->lock);
}

static void list_put(struct uring_op_list *list, struct uring_op *op)
{
    op->next = NULL;
    if (list->head == NULL)
        list->head = op;
    else
        list->tail->next = op;
    list->tail = op;
}

static struct uring_op *list_take(struct uring_op_list *list)
{
    struct uring_op *op = list->head;

    if (op != NULL)
        list->head = op->next;
    return op;
}

/* Moves what the kernel has completed to the clients. */
static void reap(struct uring *u)
{
    struct io_uring_cqe *cqes[64];
    unsigned int n;

    while ((n = io_uring_peek_batch_cqe(
                u->ring, cqes, (unsigned int)ARRAY_SIZE(cqes))) > 0) {
        for (unsigned int i = 0; i < n; i++) {
            struct uring_op *op = io_uring_cqe_get_data(cqes[i]);

            op->res = cqes[i]->res;
            list_put(&op->client->done, op);
        }
        io_uring_cq_advance(u->ring, n);
    }
}

/* The kernel will never see what is staged: it fails. */
static void fail_staged(struct uring *u)
{
    struct uring_op *op;

    u->broken = true;
    while ((op = list_take(&u->staged)) != NULL) {
        op->res = -EIO;
        list_put(&op->client->done, op);
    }
}

/* Hands the staged operations over; `wait`: and waits for a completion. */
static int enter(struct uring *u, bool wait)
{
    struct io_uring_cqe *cqe;

    if (!wait)
        return io_uring_submit(u->ring);
    /* A broken ring still holds what was staged: it must stay there. */
    return u->broken ? io_uring_wait_cqe(u->ring, &cqe)
                     : io_uring_submit_and_wait(u->ring, 1);
}

/*
 * Submits what is staged and, if `wait`, waits for a completion. False if the
 * kernel has no room now: then completions must be reaped first.
 */
static bool flush(struct uring *u, bool wait)
{
    while (u->staged.head != NULL || wait) {
        int n = enter(u, wait);

        if (n == -EINTR)
            continue;
        if (n == -EAGAIN || n == -EBUSY)
            return false;
        if (n < 0) {
            fail_staged(u);
            return true;
        }
        u->submits++;
        for (int i = 0; i < n; i++)
            (void)list_take(&u->staged);
        if (n == 0 && u->staged.head != NULL)
            return false;
        wait = false;
    }
    return true;
}

/*
 * Completes what was reaped for the client, whose device's lock is held.
 * Returns whether there was any.
 */
static bool complete_done(struct uring_client *c)
{
    struct uring_op_list done;
    struct uring_op *op;

    lock(c->uring);
    done = c->done;
    c->done.head = NULL;
    unlock(c->uring);
    if (done.head == NULL)
        return false;
    while ((op = list_take(&done)) != NULL) {
        c->inflight--;
        op->complete(op, op->res);
    }
    if (c->batch_done != NULL)
        c->batch_done(c->opaque);
    return true;
}

/* Some client other than `but` with reaped operations, or NULL. */
static struct uring_client *find_done(
    struct uring *u, const struct uring_client *but)
{
    struct uring_client *c = u->clients;

    while (c != NULL && (c == but || c->done.head == NULL))
        c = c->next;
    return c;
}

/* One pass on the loop's thread, no lock held. */
static void run_completions(struct uring *u)
{
    struct uring_client *c;
    bool retry;

    lock(u);
    if (u->ring == NULL) {
        unlock(u);
        return;
    }
    do {
        reap(u);
        while ((c = find_done(u, NULL)) != NULL) {
            unlock(u);
            device_lock(c->dev);
            (void)complete_done(c);
            device_unlock(c->dev);
            lock(u);
        }
        /* Continuations that were just staged, and what had no room before. */
        retry = !flush(u, false);
    } while (find_done(u, NULL) != NULL);
    unlock(u);
    if (retry)
        loop_post(u->loop, &u->wake);
}

static void on_ring(void *opaque, uint32_t events)
{
    (void)events;
    run_completions(opaque);
}

static void on_wake(void *opaque)
{
    run_completions(opaque);
}

void uring_init(struct uring *u, struct loop *loop)
{
    *u = (struct uring){
        .loop = loop, .lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER};
    u->wake = (struct loop_call){.run = on_wake, .opaque = u};
    u->source = (struct loop_source){.fd = -1, .handle = on_ring, .opaque = u};
}

static void close_ring(struct uring *u)
{
    if (u->ring == NULL)
        return;
    if (u->loop != NULL)
        loop_remove(u->loop, &u->source);
    io_uring_queue_exit(u->ring);
    free(u->ring);
    u->ring = NULL;
}

void uring_fini(struct uring *u)
{
    assert(u->clients == NULL && u->staged.head == NULL);
    if (u->loop != NULL)
        loop_unpost(u->loop, &u->wake);
    close_ring(u);
}

/* liburing 2.3 does not export its own functions for these two operations. */
static int register_op(const struct io_uring *ring, unsigned int op,
    const void *arg, unsigned int count)
{
    long rc = syscall(__NR_io_uring_register, ring->ring_fd, op, arg, count);

    return rc < 0 ? -errno : 0;
}

/* The ring is disabled so far: what it may do is laid down once, for good. */
static int restrict_ring(const struct io_uring *ring)
{
    static const uint8_t ops[] = {IORING_OP_READV, IORING_OP_WRITEV,
        IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
    struct io_uring_restriction r[ARRAY_SIZE(ops) + 3] = {0};
    unsigned int n = 0;
    int rc;

    for (; n < ARRAY_SIZE(ops); n++) {
        r[n].opcode = IORING_RESTRICTION_SQE_OP;
        r[n].sqe_op = ops[n];
    }
    r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    r[n++].sqe_flags = IOSQE_FIXED_FILE;
    r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
    r[n++].sqe_flags = IOSQE_FIXED_FILE;
    r[n].opcode = IORING_RESTRICTION_REGISTER_OP;
    r[n++].register_op = IORING_REGISTER_FILES_UPDATE;
    rc = register_op(ring, IORING_REGISTER_RESTRICTIONS, r, n);
    if (rc == 0)
        rc = register_op(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    return rc;
}

static int set_up(struct io_uring *ring)
{
    struct io_uring_params p = {.flags = IORING_SETUP_R_DISABLED |
                                         IORING_SETUP_CQSIZE |
                                         IORING_SETUP_COOP_TASKRUN,
        .cq_entries = CQ_ENTRIES};
    int files[URING_FILES_MAX];
    int rc = io_uring_queue_init_params(SQ_ENTRIES, ring, &p);

    if (rc == -EINVAL) {
        /* Before Linux 5.19: completions may interrupt the loop's thread. */
        p = (struct io_uring_params){
            .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
            .cq_entries = CQ_ENTRIES};
        rc = io_uring_queue_init_params(SQ_ENTRIES, ring, &p);
    }
    if (rc < 0)
        return rc;
    for (unsigned int i = 0; i < URING_FILES_MAX; i++)
        files[i] = -1;
    rc = (p.features & NEEDED_FEATURES) == NEEDED_FEATURES ? 0 : -ENOSYS;
    if (rc == 0)
        rc = io_uring_register_files(ring, files, URING_FILES_MAX);
    if (rc == 0)
        rc = restrict_ring(ring);
    if (rc < 0)
        io_uring_queue_exit(ring);
    return rc;
}

/* Tried once: the answer of the host does not change while we run. */
static int open_ring(struct uring *u)
{
    int rc;

    if (u->ring != NULL || u->open_error != 0)
        return u->open_error;
    u->ring = calloc(1, sizeof(*u->ring));
    rc = u->ring == NULL ? -ENOMEM : set_up(u->ring);
    if (rc < 0) {
        free(u->ring);
        u->ring = NULL;
        u->open_error = rc;
        return rc;
    }
    u->source.fd = u->ring->ring_fd;
    if (u->loop != NULL)
        rc = loop_add(u->loop, &u->source, EPOLLIN);
    if (rc < 0) {
        close_ring(u);
        u->open_error = rc;
    }
    return rc;
}

void uring_open(struct uring *u)
{
    lock(u);
    (void)open_ring(u);
    unlock(u);
}

int uring_add_file(struct uring *u, int fd)
{
    int slot;
    int rc;

    lock(u);
    rc = open_ring(u);
    if (rc < 0)
        goto out;
    rc = -ENFILE;
    if (u->files == UINT64_MAX)
        goto out;
    slot = __builtin_ctzll(~u->files);
    rc = io_uring_register_files_update(u->ring, (unsigned int)slot, &fd, 1);
    if (rc < 0)
        goto out;
    u->files |= UINT64_C(1) << slot;
    rc = slot;
out:
    unlock(u);
    return rc;
}

void uring_remove_file(struct uring *u, int slot)
{
    const int none = -1;

    assert(slot >= 0 && slot < URING_FILES_MAX);
    lock(u);
    (void)io_uring_register_files_update(u->ring, (unsigned int)slot, &none, 1);
    u->files &= ~(UINT64_C(1) << slot);
    unlock(u);
}

void uring_client_init(
    struct uring_client *client, struct uring *u, struct device *dev)
{
    *client = (struct uring_client){.uring = u, .dev = dev};
    lock(u);
    client->next = u->clients;
    u->clients = client;
    unlock(u);
}

void uring_client_fini(struct uring_client *client)
{
    struct uring *u = client->uring;

    if (u == NULL)
        return;
    assert(client->inflight == 0);
    lock(u);
    for (struct uring_client **at = &u->clients; *at != NULL;
         at = &(*at)->next) {
        if (*at == client) {
            *at = client->next;
            break;
        }
    }
    unlock(u);
    client->uring = NULL;
}

/*
 * One piece goes without a vector, which the kernel would have to fetch and
 * keep.
 */
static bool is_one_piece(const struct uring_op *op)
{
    return op->iov_count == 1 && op->iov[0].iov_len <= INT_MAX;
}

static void prepare(struct io_uring_sqe *sqe, const struct uring_op *op)
{
    switch (op->kind) {
    case URING_READ:
        if (is_one_piece(op))
            io_uring_prep_read(sqe, op->slot, op->iov[0].iov_base,
                (unsigned int)op->iov[0].iov_len, op->offset);
        else
            io_uring_prep_readv(
                sqe, op->slot, op->iov, op->iov_count, op->offset);
        break;
    case URING_WRITE:
        if (is_one_piece(op))
            io_uring_prep_write(sqe, op->slot, op->iov[0].iov_base,
                (unsigned int)op->iov[0].iov_len, op->offset);
        else
            io_uring_prep_writev(
                sqe, op->slot, op->iov, op->iov_count, op->offset);
        sqe->rw_flags = op->durable ? RWF_DSYNC : 0;
        break;
    case URING_FDATASYNC:
        io_uring_prep_fsync(sqe, op->slot, IORING_FSYNC_DATASYNC);
        break;
    case URING_FALLOCATE:
        io_uring_prep_fallocate(
            sqe, op->slot, op->mode, (off_t)op->offset, (off_t)op->len);
        break;
    }
}

int uring_start(struct uring_client *client, struct uring_op *op)
{
    struct uring *u = client->uring;
    struct io_uring_sqe *sqe;

    lock(u);
    assert(u->ring != NULL);
    sqe = u->broken ? NULL : io_uring_get_sqe(u->ring);
    if (sqe == NULL && !u->broken && flush(u, false) && !u->broken)
        sqe = io_uring_get_sqe(u->ring);
    if (sqe != NULL) {
        prepare(sqe, op);
        io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
        io_uring_sqe_set_data(sqe, op);
        op->client = client;
        list_put(&u->staged, op);
        client->inflight++;
        u->ops++;
    }
    unlock(u);
    return sqe == NULL ? -EAGAIN : 0;
}

/*
 * Submits and reaps, waiting for at least one completion if `wait`. What is
 * found to be done for others is left to the loop's thread: their devices'
 * locks must not be taken under ours.
 */
static void turn(struct uring_client *c, bool wait)
{
    struct uring *u = c->uring;
    bool retry;
    bool others;

    lock(u);
    retry = !flush(u, false);
    reap(u);
    if (wait && c->done.head == NULL) {
        (void)flush(u, true);
        reap(u);
    }
    others = find_done(u, c) != NULL;
    unlock(u);
    if ((retry || others) && u->loop != NULL)
        loop_post(u->loop, &u->wake);
}

void uring_submit(struct uring_client *client)
{
    /* A continuation that a completion staged is submitted as well. */
    do {
        turn(client, false);
    } while (complete_done(client));
}

void uring_drain(struct uring_client *client)
{
    while (client->inflight > 0) {
        turn(client, true);
        (void)complete_done(client);
    }
}

static int64_t run_once(const struct uring_op *op)
{
    ssize_t n = -1;

    switch (op->kind) {
    case URING_READ:
        n = preadv(op->fd, op->iov, (int)op->iov_count, (off_t)op->offset);
        break;
    case URING_WRITE:
        n = pwritev2(op->fd, op->iov, (int)op->iov_count, (off_t)op->offset,
            op->durable ? RWF_DSYNC : 0);
        break;
    case URING_FDATASYNC:
        n = fdatasync(op->fd);
        break;
    case URING_FALLOCATE:
        n = fallocate(op->fd, op->mode, (off_t)op->offset, (off_t)op->len);
        break;
    }
    return n < 0 ? -errno : n;
}

int64_t uring_run_sync(const struct uring_op *op)
{
    int64_t res;

    do {
        res = run_once(op);
    } while (res == -EINTR);
    return res;
}
