/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/run_state.h"

/* What an orderly power-off may take before the machine is just dropped. */
#define POWER_OFF_NS (10 * CLOCK_NS_PER_S)

void run_finish(struct run *run, int status)
{
    if (run->is_done)
        return;
    /* The contract has one for all that is none of its others. */
    if (run->options.is_firecracker && status == RUN_STATUS_MONITOR)
        status = 1;
    run->status = status;
    __atomic_store_n(&run->is_done, true, __ATOMIC_RELEASE);
}

/* One line about why there is no command's status. */
void run_complain(struct run *run, const char *text)
{
    if (run->is_done)
        return;
    session_restore_tty(&run->session);
    run_consoles_restore_tty(&run->consoles);
    (void)fprintf(stderr, "%s: %s\n",
        run->options.is_firecracker ? "Error" : "spore: run", text);
}

static void count_emulated(struct run *run, enum timings_phase phase)
{
    uint64_t count;

    if (vcpu_stats_read(&run->inst.machine.emulated, &count) == 0)
        run->timings.emulated[phase] = count;
}

void run_on_exec_started(void *opaque)
{
    struct run *run = opaque;

    timings_mark(&run->timings, TIMINGS_COMMAND);
    count_emulated(run, TIMINGS_COMMAND);
}

void run_settle_later(struct run *run)
{
    if (run_origin_wants_record(&run->origin))
        loop_timer_arm(&run->inst.loop, &run->settled,
            clock_now_ns() + RESTORE_MEMORY_SETTLED_NS);
}

/* What it has touched by now is what the next restore will need. */
void run_on_settled(void *opaque)
{
    struct run *run = opaque;

    /* Of one that is paused this says nothing yet. */
    if (run->inst.phase == INSTANCE_PAUSED)
        run_settle_later(run);
    else
        run_origin_record(&run->origin, &run->inst.machine.mem);
}

void run_on_exec_done(void *opaque, const struct guest_exec_result *result)
{
    struct run *run = opaque;

    timings_mark(&run->timings, TIMINGS_COMMAND_END);
    count_emulated(run, TIMINGS_COMMAND_END);
    if (result->is_error && result->text[0] != '\0')
        run_complain(run, result->text);
    run_finish(run, result->status);
    run_on_settled(run);
    if (!config_has_writable_file(&run->options.config) ||
        instance_stop(&run->inst, POWER_OFF_NS, 0, NULL) < 0)
        loop_stop(&run->inst.loop);
}

/* Who waits for a detached machine is told of it, and we write to a log. */
int run_release(struct run *run, struct err *err)
{
    int rc = detach_release(&run->detach, run->control.id, err);

    if (rc == 0)
        run_jail_released(&run->jail);
    return rc;
}

/* Whether the machine is there for others, and runs nothing of ours. */
static bool is_idle(const struct run_options *o)
{
    return o->command.argv == NULL && (o->detach || o->no_boot || o->stay);
}

/* Who started a machine that stays is told that it is there. */
static int announce(const struct run *run, struct err *err)
{
    char line[RUNDIR_ID_SIZE + 1];
    int n = snprintf(line, sizeof(line), "%s\n", run->control.id);
    int rc = fd_write_full(STDOUT_FILENO, line, (size_t)n);

    return rc < 0 ? err_sys(err, rc, "standard output") : 0;
}

/* The agent is up: a command starts over the connection that says so. */
void run_on_agent(void *opaque, int fd)
{
    struct run *run = opaque;
    struct err err;
    int rc = run_release(run, &err);

    if (rc == 0 && run->options.stay)
        rc = announce(run, &err);
    if (rc == 0 && is_idle(&run->options)) {
        /* What it has been told is on its way yet: closed, it might be lost. */
        (void)shutdown(fd, SHUT_WR);
        fd_closep(&run->agent_fd);
        run->agent_fd = fd;
        return;
    }
    if (rc < 0)
        (void)close(fd);
    else
        rc = session_start(&run->session, fd, &run->options.command, &err);
    if (rc < 0) {
        run_complain(run, err.text);
        run_finish(run, RUN_STATUS_MONITOR);
        loop_stop(&run->inst.loop);
    }
}

/* What a machine's end means without an agent's word for it. */
void run_on_machine_end(void *opaque, const struct machine_end *end)
{
    struct run *run = opaque;
    bool expected = !run->options.config.has_agent || run->options.no_boot;

    if (!run->is_done) {
        switch (end->kind) {
        case MACHINE_EXITED:
            run_finish(run, end->status);
            break;
        case MACHINE_POWERED_OFF:
        case MACHINE_RESET:
            if (expected) {
                run_finish(run, 0);
                break;
            }
            if (run->inst.is_stopping) {
                run_finish(run, 128 + SIGTERM);
                break;
            }
            run_complain(
                run, run->inst.has_agent
                         ? "the guest ended before the command did"
                         : "the guest ended before its agent was ready");
            run_consoles_show_tail(&run->options, &run->inst);
            break;
        case MACHINE_KILLED:
            run_finish(run, 128 + SIGKILL);
            break;
        case MACHINE_PANICKED:
        case MACHINE_FAULTED:
        default:
            run_complain(run, end->text);
            run_consoles_show_tail(&run->options, &run->inst);
            break;
        }
        run_finish(run, RUN_STATUS_MONITOR);
    }
    loop_stop(&run->inst.loop);
}

void run_on_timeout(void *opaque)
{
    struct run *run = opaque;
    char text[96];

    (void)snprintf(text, sizeof(text), "timed out after %.3g s",
        (double)run->options.timeout_ns / (double)CLOCK_NS_PER_S);
    run_complain(run, text);
    if (!run->inst.has_agent && instance_pause(&run->inst, NULL) == 0) {
        const struct machine *m = &run->inst.machine;

        for (uint32_t i = 0; i < m->vcpu_count; i++)
            (void)fprintf(stderr, "spore: run: vCPU %u was at rip 0x%llx\n", i,
                (unsigned long long)vcpu_get_rip(&m->vcpus[i]));
        run_consoles_show_tail(&run->options, &run->inst);
    }
    run_finish(run, RUN_STATUS_TIMEOUT);
    loop_stop(&run->inst.loop);
}

/* A guest that has no agent, or does not get that far, says nothing itself. */
void run_on_patience(void *opaque)
{
    const struct run *run = opaque;

    if (!run->inst.has_agent && !run->is_done)
        (void)fprintf(stderr,
            "spore: run: still waiting for the guest's agent; a guest that has "
            "none is run with --console, and --timeout ends one that hangs\n");
}

void run_on_escape(void *opaque)
{
    struct run *run = opaque;

    run_finish(run, 128 + SIGINT);
    loop_stop(&run->inst.loop);
}

void run_on_signal(void *opaque, int signal)
{
    struct run *run = opaque;

    run_finish(run, 128 + signal);
    loop_stop(&run->inst.loop);
}

/*
 * On a thread of its own, while others wait for memory that will never come
 * (page_client.h): says so, leaves nothing behind, and ends the process. That
 * of a command which has ended already keeps its status.
 */
void run_on_memory_lost(void *opaque, const char *text)
{
    struct run *run = opaque;

    if (__atomic_load_n(&run->is_done, __ATOMIC_ACQUIRE)) {
        run_jail_abandon(&run->jail);
        _exit(run->status);
    }
    session_restore_tty(&run->session);
    run_consoles_restore_tty(&run->consoles);
    /* Not stderr: whoever has its lock may be one of those that wait. */
    (void)dprintf(STDERR_FILENO, "spore: run: %s\n", text);
    run_jail_abandon(&run->jail);
    _exit(RUN_STATUS_MONITOR);
}

int run_on_watcher(void *opaque, struct err *err)
{
    struct run *run = opaque;

    return run_jail_confine_watcher(&run->jail, err);
}
