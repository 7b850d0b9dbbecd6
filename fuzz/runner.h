/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine of an executor: made from a target, its vCPU run on the calling
 * thread from one call of the guest to the next.
 *
 * Owns the machine, what it was made of and a timer whose ticks bring the
 * guest out now and then: so a run has a deadline and yet no system call of
 * its own for it.
 *
 * Thread rule: one thread, that which made it; signal RUNNER_SIGNAL is for it.
 * Guest-controlled: registers at every stop, console output; file-controlled:
 * the target and its snapshot (vmm/machine_restore.h).
 */
#ifndef FUZZ_RUNNER_H
#define FUZZ_RUNNER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "fuzz/guest_view.h"
#include "fuzz/target.h"
#include "snapshot/snap.h"
#include "snapshot/store.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/config.h"
#include "vmm/console.h"
#include "vmm/core/loop.h"
#include "vmm/hw/kvm.h"
#include "vmm/hw/vcpu_timer.h"
#include "vmm/machine.h"
#include "vmm/timings.h"

#define RUNNER_SIGNAL (SIGRTMIN + 1)

/* Between ticks; a deadline is met to within one. */
#define RUNNER_TICK_NS UINT64_C(5000000)

struct runner {
    struct config config;
    struct kvm kvm;
    struct loop loop; /* never run: only what devices post to */
    struct console console;
    struct timings timings;
    struct machine machine;
    char *kernel_path;
    struct store store; /* of a restored one, as the next */
    struct snap snap;
    bool is_restored;
    const uint8_t *root; /* RAM as it was saved; NULL of one that booted */
    timer_t timer;
    bool has_timer;
    const uint32_t *cancel; /* as executor_options has it */

    struct vcpu_timer held; /* of the guest, for runs that last */
    bool is_held;
};

/*
 * Builds the machine that boots the target: nothing has run. `initrd` is
 * borrowed until runner_free. *ret_runner is to be freed.
 */
CC_MUST_CHECK int runner_boot(const struct fuzz_target *target,
    const struct image_source *initrd, int print_fd, struct runner **ret_runner,
    struct err *err);

/* The machine of the target's snapshot, where it was saved. */
CC_MUST_CHECK int runner_restore(const struct fuzz_target *target, int print_fd,
    struct runner **ret_runner, struct err *err);

void runner_free(struct runner *r); /* NULL is fine */

enum runner_stop {
    RUNNER_CALLED,  /* the guest called: rbx and rcx say what */
    RUNNER_TIME_UP, /* the deadline has passed */
    RUNNER_ENDED,   /* the guest has ended its machine, or itself */
    RUNNER_DEBUG,   /* a step or a breakpoint (vmm/hw/vcpu_debug.h) */
    RUNNER_FAILED,  /* the host cannot run it: err says why */
};

/*
 * Runs the guest until something of that comes to pass, `deadline_ns` being
 * of clock_now_ns. A guest timer that is held is let go once the run has
 * taken as long as a tick. *ret_text: a line about RUNNER_ENDED, for people,
 * good until the next call.
 */
enum runner_stop runner_go(struct runner *r, uint64_t deadline_ns,
    const char **ret_text, struct err *err);

/* Registers of the last stop. */
const struct kvm_regs *runner_regs(const struct runner *r);
const struct kvm_sregs *runner_sregs(const struct runner *r);

/* The guest finds `value` in rax when it goes on behind its call. */
void runner_answer(struct runner *r, uint64_t value);

/* Memory as the vCPU saw it at the last stop. */
struct guest_view runner_view(struct runner *r);

#endif
