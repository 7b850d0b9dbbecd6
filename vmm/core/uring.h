/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File I/O of the devices: one io_uring per I/O loop, and the same operations
 * as plain system calls for hosts that have no io_uring.
 *
 * Owns the ring, made when the first file is added, and counts what is in
 * flight. Operations are embedded in their owner's request; the ring allocates
 * nothing per operation. The ring may touch registered files only, and only
 * with the operations below: what goes through a ring does not pass the
 * process's seccomp filter, so the kernel is told to hold the ring to that.
 *
 * Thread rule: a client's functions are called with its device's lock held,
 * from any thread; completions come with that lock held, on the loop's thread
 * or within uring_submit and uring_drain. The ring's own lock comes after a
 * device's lock. init and fini: no other thread. Nothing here is
 * guest-controlled but lengths and offsets, which the device has checked.
 */
#ifndef VMM_CORE_URING_H
#define VMM_CORE_URING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/cc.h"
#include "vmm/core/device.h"
#include "vmm/core/loop.h"

struct io_uring;

/* Files that can be registered at once. */
#define URING_FILES_MAX 64

enum uring_kind { URING_READ, URING_WRITE, URING_FDATASYNC, URING_FALLOCATE };

struct uring_client;

struct uring_op {
    /* Filled in by the owner, constant until `complete`. */
    enum uring_kind kind;
    int fd;                  /* for uring_run_sync */
    int slot;                /* of uring_add_file, for uring_start */
    const struct iovec *iov; /* READ, WRITE: stay until then, and */
    unsigned int iov_count;  /* at most IOV_MAX of them */
    bool durable;            /* WRITE: on disk before it completes */
    int mode;                /* FALLOCATE: fallocate(2) */
    uint64_t offset;         /* bytes; offset + length < 2^63 */
    uint64_t len;            /* FALLOCATE: bytes */

    /* `res`: bytes for READ and WRITE, 0 for the others, or -errno. */
    void (*complete)(struct uring_op *op, int64_t res);

    struct uring_client *client; /* ring's own, as is the rest */
    struct uring_op *next;
    int64_t res;
};

struct uring_op_list {
    struct uring_op *head;
    struct uring_op *tail; /* of no meaning while head is NULL */
};

struct uring {
    pthread_mutex_t lock;
    struct loop *loop;           /* borrowed, may be NULL */
    struct loop_source source;   /* the ring's descriptor */
    struct loop_call wake;       /* completions found by another thread */
    struct io_uring *ring;       /* NULL until opened */
    int open_error;              /* why it could not be, or 0 */
    bool broken;                 /* the kernel refuses submissions */
    struct uring_op_list staged; /* in the ring, not yet submitted */
    uint64_t files;              /* bit per slot in use */
    struct uring_client *clients;
    uint64_t ops;     /* started since the start */
    uint64_t submits; /* system calls that handed them over */
};

/* One device's view of the ring. */
struct uring_client {
    struct uring *uring;
    struct device *dev; /* locked around completions */

    /* Called after a run of completions, lock held; may be NULL. */
    void (*batch_done)(void *opaque);
    void *opaque;

    uint32_t inflight;         /* started, not completed */
    struct uring_op_list done; /* reaped, not completed; ring's lock */
    struct uring_client *next;
};

/* Nothing is opened. `loop` NULL: completions come by submit and drain only. */
void uring_init(struct uring *u, struct loop *loop);

/* Nothing may be in flight. */
void uring_fini(struct uring *u);

/*
 * Opens the ring ahead of its first file, for a process that may not later. A
 * host that offers none says so again to uring_add_file.
 */
void uring_open(struct uring *u);

/*
 * Registers a file, opening the ring if it is not: the slot, or -errno. A
 * ring that the host does not offer is -ENOSYS, -EPERM or what the kernel
 * says, every time; then the caller uses uring_run_sync. -ENFILE: no slot.
 */
CC_MUST_CHECK int uring_add_file(struct uring *u, int fd);

/* No operation on it may be in flight. */
void uring_remove_file(struct uring *u, int slot);

void uring_client_init(
    struct uring_client *client, struct uring *u, struct device *dev);
void uring_client_fini(struct uring_client *client);

/*
 * Stages an operation: 0, or -EAGAIN when the ring takes no more now, and
 * then it was not started.
 */
CC_MUST_CHECK int uring_start(struct uring_client *client, struct uring_op *op);

/*
 * Hands what is staged to the kernel in one system call, and completes what
 * of the client's is done by then.
 */
void uring_submit(struct uring_client *client);

/* Completes all of the client's operations, waiting for them. */
void uring_drain(struct uring_client *client);

/* The operation by system calls on op->fd; what `res` would be. */
CC_MUST_CHECK int64_t uring_run_sync(const struct uring_op *op);

#endif
