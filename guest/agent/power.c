/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/power.h"

#include <signal.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

/* How long killed processes may take to vanish. */
#define KILL_WAIT_MS 1000

_Noreturn static void leave(const struct power *p, bool restart)
{
    reboot(restart || p->off_is_restart ? RB_AUTOBOOT : RB_POWER_OFF);
    /*
     * Nothing is left to do or to tell. Process 1 must not exit: that is a
     * panic, and another process has no business here any more.
     */
    if (!p->is_init)
        _exit(1);
    for (;;)
        pause();
}

_Noreturn void power_off_now(const struct power *p)
{
    sync();
    leave(p, false);
}

static void kill_all(struct power *p, int64_t now_ms)
{
    kill(-1, SIGKILL);
    p->stage = POWER_KILL;
    p->deadline_ms = now_ms + KILL_WAIT_MS;
}

void power_start(struct power *p, const struct request_power *request,
    bool restart, int64_t now_ms)
{
    if (p->stage != POWER_NONE)
        return;
    p->restart = restart;
    p->flags = request->flags;
    if ((request->flags & AGENT_POWER_NOSYNC) != 0)
        leave(p, restart);
    if (!p->is_init) {
        sync();
        leave(p, restart);
    }
    if (request->grace_ms == 0) {
        kill_all(p, now_ms);
        return;
    }
    kill(-1, SIGTERM);
    /* A stopped process would sleep through its chance. */
    kill(-1, SIGCONT);
    p->stage = POWER_TERM;
    p->deadline_ms = now_ms + (int64_t)request->grace_ms;
}

void power_step(struct power *p, bool nobody_left, int64_t now_ms)
{
    if (p->stage == POWER_NONE || (!nobody_left && now_ms < p->deadline_ms))
        return;
    if (p->stage == POWER_TERM && !nobody_left) {
        kill_all(p, now_ms);
        return;
    }
    sync();
    (void)mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
    leave(p, p->restart);
}
