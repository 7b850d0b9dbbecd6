/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run of one machine, as the files of run*.c share it: run.c brings it up
 * and down, run_events.c says what becomes of it when something happens, and
 * run_noboot.c has a control socket make it.
 *
 * Thread rule: the loop's thread, but for run_on_memory_lost and
 * run_on_watcher, which have one of their own.
 */
#ifndef VMM_RUN_STATE_H
#define VMM_RUN_STATE_H

#include "vmm/control.h"
#include "vmm/detach.h"
#include "vmm/instance.h"
#include "vmm/run_consoles.h"
#include "vmm/run_jail.h"
#include "vmm/run_options.h"
#include "vmm/run_origin.h"
#include "vmm/session.h"

/* Statuses of the process that are not the guest's. */
#define RUN_STATUS_TIMEOUT 124
#define RUN_STATUS_MONITOR 125

struct run {
    struct run_options options;
    struct timings timings;
    struct instance inst;
    struct run_origin origin;
    struct session session;
    struct control control;
    struct run_jail jail;
    struct control_host control_host; /* --no-boot */
    struct control_load load;         /* what the options then point into */
    struct detach detach;
    struct run_consoles consoles;
    int timings_fd; /* of the boot timeline's picture, or -1 */
    char *kernel_path;
    int agent_fd; /* of an operation that asks for nothing; or -1 */
    struct loop_timer timeout;
    struct loop_timer patience; /* with an agent that does not call */
    struct loop_timer serve_later;
    struct loop_timer settled;
    bool is_done; /* `status` stands */
    int status;
};

/* The process ends with this status, unless it has one already. */
void run_finish(struct run *run, int status);

/* One line about why there is no command's status. */
void run_complain(struct run *run, const char *text);

/* Who waits for a detached machine is told of it, and we write to a log. */
CC_MUST_CHECK int run_release(struct run *run, struct err *err);

/* Notes later what the guest has touched, if that is wanted. */
void run_settle_later(struct run *run);

/* What happens; `opaque` is a struct run. */
void run_on_settled(void *opaque);
void run_on_agent(void *opaque, int fd);
void run_on_machine_end(void *opaque, const struct machine_end *end);
void run_on_timeout(void *opaque);
void run_on_patience(void *opaque);
void run_on_escape(void *opaque);
void run_on_signal(void *opaque, int signal);
void run_on_memory_lost(void *opaque, const char *text);
CC_MUST_CHECK int run_on_watcher(void *opaque, struct err *err);
void run_on_exec_started(void *opaque);
void run_on_exec_done(void *opaque, const struct guest_exec_result *result);

/* Opens the snapshot that the options name. */
CC_MUST_CHECK int run_open_origin(struct run *run, struct err *err);

/* Kernel and root file system, where the user named none. */
CC_MUST_CHECK int run_find_artifacts(struct run *run, struct err *err);

/* The control socket of a machine that is there, or is to come. */
CC_MUST_CHECK int run_serve(struct run *run, struct err *err);

/* Builds the machine, which is booted or has its origin open, and starts it. */
CC_MUST_CHECK int run_launch(struct run *run, bool is_paused, struct err *err);

/* In a machine that was restored the agent is up, and waits to be called. */
CC_MUST_CHECK int run_call_agent(struct run *run, struct err *err);

/* The socket is there, and what comes over it makes the machine. */
CC_MUST_CHECK int run_wait_for_machine(struct run *run, struct err *err);

#endif
