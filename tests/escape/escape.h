/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for a monitor that its guest has taken over: what such a process
 * holds, and the ways out of its jail that it tries. Each attempt is a process
 * of its own, which must get through without a jail and must fail in it for
 * the reason that its row gives.
 *
 * Thread rule: `prepare` runs on the only thread of its process, before the
 * jail; `go` in the jail, on a thread of the role: it makes no call but those
 * that the attempt is about, allocates nothing and prints nothing.
 */
#ifndef TESTS_ESCAPE_ESCAPE_H
#define TESTS_ESCAPE_ESCAPE_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "jail/role.h"
#include "vmm/core/uring.h"

struct kvm_run;

/* Bytes of `page`, `ram` and `disk`. */
#define ESCAPE_PAGE  4096u
#define ESCAPE_BYTES (16u * ESCAPE_PAGE)

/* Descriptors that an attempt can prepare. */
#define ESCAPE_FDS 3

enum escape_stage {
    ESCAPE_STAGE_PREPARE,
    ESCAPE_STAGE_ENTER, /* the jail */
    ESCAPE_STAGE_TRY,
    ESCAPE_STAGE_DONE,
};

/* Seen by the driver while the attempt runs, and after it was killed. */
struct escape_report {
    enum escape_stage stage;
    int result;     /* 0, or -errno; of the stage reached */
    long last_call; /* the number of the last call that was tried */
    char why[384];  /* of a failure before ESCAPE_STAGE_TRY */
};

/* What a monitor has open, and what `prepare` adds. */
struct escape {
    struct escape_report *report; /* shared with the driver */
    const char *dir;              /* a folder of the host for files */
    const char *abstract;         /* a stream socket that listens, no @ */
    const char *abstract_dgram;   /* one of datagrams, no @ */
    const char *path_dgram;       /* and one with a path */
    const char *terminal;         /* whose other end is the driver's */
    uint16_t port;                /* a TCP one that listens at 127.0.0.1 */
    pid_t keeper;                 /* the driver, which is outside */
    pid_t victim;                 /* another process of the same user */
    int victim_fd;                /* its pidfd, named to the jail */
    int leak;                     /* a file of the host, and not named */

    int kvm; /* -1 without /dev/kvm, as are the next two */
    int vm;
    int vcpu;
    struct kvm_run *run; /* NULL then */
    int ram;             /* memfd of the guest's memory */
    uint8_t *ram_map;
    int epoll;
    int event;
    int timer;
    int socket; /* to the keeper */
    int api;    /* a Unix socket that listens */
    int disk;
    int tap;               /* -1 where it may not be opened */
    int tty;               /* the controlling terminal */
    struct uring uring;    /* in the jail: restricted */
    struct io_uring *ring; /* NULL where the host has none */

    uint8_t *page;       /* ESCAPE_PAGE bytes, private, not executable */
    char path[PATH_MAX]; /* a name in `dir` that is of no file yet */
    int fds[ESCAPE_FDS]; /* prepared; they stay open in the jail */
    void *map;           /* prepared */
    long number;         /* prepared */
};

/* What a row says of a role instead of an errno. */
#define ESCAPE_KILLED  0 /* by SIGSYS, at `call` or `first`: the default */
#define ESCAPE_ALLOWED 1 /* as without a jail: the row's `gain` is harmless */

#define ESCAPE_EVERY_ROLE(what)                                                \
    {                                                                          \
        what, what, what, what, what                                           \
    }

/* One that runs a guest and resets it needs less than the others. */
#define ESCAPE_EVERY_ROLE_BUT_FUZZ(what)                                       \
    {                                                                          \
        what, what, what, what                                                 \
    }

/* Why an attempt may fail without a jail; it is skipped then. */
struct escape_lack {
    int error; /* what `go` or `prepare` returns; 0: end of the list */
    bool user; /* when it is not root that tries */
    const char *why;
};

#define ESCAPE_ROOT_ONLY                                                       \
    {                                                                          \
        .error = -EPERM, .user = true, .why = "only root may"                  \
    }

struct escape_attempt {
    const char *name;
    const char *gain; /* what an attacker would have of it */
    long call;        /* SYS_... that is to kill it */
    long first;       /* or this one, which comes before it; 0: none does */

    /* 0 or more: it got through; or -errno. */
    int (*go)(struct escape *e);

    /* Before the jail; NULL, or 0 or -errno. */
    int (*prepare)(struct escape *e);

    /*
     * Without a jail: 0, or the -errno by which the kernel shows that it has
     * come to look at the arguments, where doing it would harm the host.
     */
    int outside;
    const struct escape_lack lacks[3];

    /* In the jail, by role: ESCAPE_KILLED, ESCAPE_ALLOWED or -errno. */
    int inside[JAIL_ROLES];

    /*
     * What the rest of the jail comes to in the main role, without the filter
     * that kills it: -errno, or 0 where nothing else holds it.
     */
    int behind;
};

struct escape_list {
    const struct escape_attempt *attempts;
    size_t count;
};

extern const struct escape_list escape_files;
extern const struct escape_list escape_devices;
extern const struct escape_list escape_mounts;
extern const struct escape_list escape_processes;
extern const struct escape_list escape_rights;
extern const struct escape_list escape_others;
extern const struct escape_list escape_memory;
extern const struct escape_list escape_net;
extern const struct escape_list escape_kernel;
extern const struct escape_list escape_ring;
extern const struct escape_list escape_kvm;
extern const struct escape_list escape_controls;

/*
 * Opens what a monitor has, `is_jailed` as it does before it enters its jail.
 * 0 or -errno, with e->report->why. Whatever it leaves goes with the process.
 */
CC_MUST_CHECK int escape_hold(struct escape *e, bool is_jailed);

/* Marks the call that comes next; its result from syscall(). */
static inline void escape_mark(struct escape *e, long number)
{
    __atomic_store_n(&e->report->last_call, number, __ATOMIC_RELAXED);
}

static inline int escape_result(long result)
{
    if (result < 0)
        return -errno;
    return result > INT_MAX ? INT_MAX : (int)result;
}

/*
 * A system call past the C library: a result of 0 or more, or -errno. A call
 * without arguments gets a 0.
 */
#define ESCAPE_CALL(e, number, ...)                                            \
    (escape_mark((e), (number)), escape_result(syscall((number), __VA_ARGS__)))

#endif
