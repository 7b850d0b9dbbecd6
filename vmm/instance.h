/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that runs: the machine, its loop and console, what is known of its
 * agent, and the one place where its phase changes.
 *
 * Whatever ends or holds up a machine (the control socket, a signal, the
 * guest itself, a fault) goes through the functions here, and all of them
 * through one table of transitions, so that a request in the wrong phase is an
 * error and never a race.
 *
 * Thread rule: the loop's thread, or before the loop runs. The callbacks come
 * on the loop; instance_fini not from within one.
 */
#ifndef VMM_INSTANCE_H
#define VMM_INSTANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/console.h"
#include "vmm/core/loop.h"
#include "snapshot/reset.h"
#include "vmm/machine.h"
#include "vmm/machine_restore.h"
#include "vmm/mmds.h"
#include "vmm/saver.h"
#include "vmm/timings.h"

enum instance_phase {
    INSTANCE_NEW, /* not started */
    INSTANCE_RUNNING,
    INSTANCE_PAUSED,
    INSTANCE_STOPPED, /* has ended, and stays so */
    INSTANCE_PHASES,
};

/* Who has the instance. */
struct instance_host {
    /*
     * The agent is up. `fd` is our end of the connection on which it said so,
     * good for one operation, and the owner's from then on. NULL: no use.
     */
    void (*on_agent)(void *opaque, int fd);
    /* The machine has ended, whoever asked for it; called once. */
    void (*on_end)(void *opaque, const struct machine_end *end);
    void *opaque;
};

struct instance {
    struct instance_host host;
    enum instance_phase phase;
    struct loop loop;
    struct kvm kvm;
    struct console console;  /* the owner's to console_init before building */
    struct console vconsole; /* the same, if there is a virtio console */
    struct timings *timings;
    struct machine machine;
    const struct config *config; /* borrowed; NULL before building, if nobody
                                  * is to see it earlier */
    bool has_agent;              /* it has connected */
    bool has_own_clock;          /* restored, and not to follow the host's */
    bool is_stopping;            /* instance_stop has been called */
    uint64_t started_ns;         /* on clock_now_ns() */
    struct loop_timer stop_timer;
    int power_off_fd;               /* our end of the agent's connection; -1 */
    enum machine_tracking tracking; /* the owner's to set before building */
    const struct outside *outside;  /* likewise; NULL: there is no jail */
    bool filters_vcpus;             /* likewise (machine.h) */
    struct mmds mmds; /* the owner's to fill, before building and after */
    struct saver saver;
    struct reset *reset; /* NULL before the first instance_push */
    bool is_broken;      /* a reset has failed half-way */
};

/* Opens KVM and makes the loop. instance_fini is due even if it fails. */
CC_MUST_CHECK int instance_init(struct instance *inst,
    const struct instance_host *host, struct timings *timings, struct err *err);

/* Frees the machine and stops it if it runs; the loop stays. */
void instance_close(struct instance *inst);

/* All of it; fine on one that instance_init has not seen or failed on. */
void instance_fini(struct instance *inst);

/* What instance_fini has nothing to do with. */
#define INSTANCE_NONE                                                          \
    {                                                                          \
        .loop = {.epoll_fd = -1,                                               \
            .wake_source = {.fd = -1},                                         \
            .timer_source = {.fd = -1}},                                       \
        .kvm = {.fd = -1}, .power_off_fd = -1, .mmds = {                       \
            .limit = MMDS_LIMIT_DEFAULT                                        \
        }                                                                      \
    }

/*
 * Builds the machine; `config` and `kernel_path` (where config->kernel is
 * NULL) outlive the instance. With an `origin` it is restored and not booted;
 * its agent counts as being there.
 */
CC_MUST_CHECK int instance_build(struct instance *inst,
    const struct config *config, const char *kernel_path,
    const struct machine_origin *origin, struct err *err);

/*
 * The transitions. Starting twice, and anything but an end after the end, is
 * -EBUSY with a text; pausing what is paused and resuming what runs is 0.
 */
CC_MUST_CHECK int instance_start(struct instance *inst, struct err *err);
/* The same, paused before the first instruction. */
CC_MUST_CHECK int instance_start_paused(struct instance *inst, struct err *err);
CC_MUST_CHECK int instance_pause(struct instance *inst, struct err *err);
CC_MUST_CHECK int instance_resume(struct instance *inst, struct err *err);

/*
 * In-place resets (snapshot/reset.h) of a machine that runs or is paused, and
 * goes on as it was: the first push makes the root, level 0, and each later
 * one a level above; *ret_level is the new one. instance_reset goes back to
 * `level`, at or below the top, and ends what the guest had connected since.
 */
CC_MUST_CHECK int instance_push(
    struct instance *inst, uint32_t *ret_level, struct err *err);
CC_MUST_CHECK int instance_reset(
    struct instance *inst, uint32_t level, struct err *err);
/* The top level; -1 before the first push. */
int64_t instance_level(const struct instance *inst);

/*
 * Asks the guest to end in order: its agent to sync, unmount and power off
 * (processes have `grace_ms` from SIGTERM to SIGKILL), or the power button
 * where there is no agent. A paused machine is resumed for it. What has not
 * ended after `timeout_ns` is killed.
 */
CC_MUST_CHECK int instance_stop(struct instance *inst, uint64_t timeout_ns,
    uint32_t grace_ms, struct err *err);

/* Ends it at once; nothing in a phase in which there is nothing to end. */
void instance_kill(struct instance *inst);

CC_MUST_CHECK int instance_power_button(struct instance *inst, struct err *err);

/*
 * A connection to the agent of a guest that was restored, which is up and
 * waits to be called: *ret_fd is our end, for one operation. The agent is
 * told before it that this is a generation of its own (docs/agent-protocol.md,
 * GENERATION).
 */
CC_MUST_CHECK int instance_call_agent(
    struct instance *inst, int *ret_fd, struct err *err);

/*
 * Connects `fd`, a connected stream socket, to a port of the guest; it is the
 * device's from then on. `caller` as vsock_connect has it. On failure the
 * caller keeps `fd`.
 */
CC_MUST_CHECK int instance_connect(struct instance *inst, uint32_t port, int fd,
    const struct vsock_caller *caller, struct err *err);

/* "Not started", "Running", "Paused", "Stopped". */
const char *instance_phase_name(enum instance_phase phase);

#endif
