/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/spawn.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/agent/sys.h"

/* What child_main needs is far less; its path buffer is not on it. */
#define STACK_SIZE 32768

struct child {
    const struct spawn_plan *plan;
    volatile struct spawn_failure *failure;
    char path[AGENT_PATH_MAX + AGENT_NAME_MAX + 2];
};

_Noreturn static void child_fail(
    const struct child *c, enum agent_stage stage, int error)
{
    c->failure->stage = stage;
    c->failure->error = error;
    _exit(127);
}

/* libc's setuid and its kin want to tell other threads: here it is one. */
static void child_switch_user(const struct child *c)
{
    const struct user *u = c->plan->user;

    if (syscall(SYS_setgroups, u->group_count, u->groups) != 0 ||
        syscall(SYS_setgid, u->gid) != 0 || syscall(SYS_setuid, u->uid) != 0)
        child_fail(c, AGENT_STAGE_USER, errno);
}

static void child_enter(const struct child *c)
{
    const struct spawn_plan *p = c->plan;

    if (p->cwd != NULL) {
        if (chdir(p->cwd) != 0)
            child_fail(c, AGENT_STAGE_CWD, errno);
    } else if (chdir(p->user->home) != 0 && chdir("/") != 0) {
        child_fail(c, AGENT_STAGE_CWD, errno);
    }
}

/* dir of n bytes, a slash, name; false if that is too long for a path. */
static bool join(struct child *c, const char *dir, size_t n, const char *name)
{
    size_t name_len = strlen(name);

    if (n > AGENT_PATH_MAX || name_len > AGENT_NAME_MAX)
        return false;
    if (n == 0)
        c->path[n++] = '.';
    else
        memcpy(c->path, dir, n);
    c->path[n++] = '/';
    memcpy(c->path + n, name, name_len + 1);
    return true;
}

/* As a shell does: a file that may not be run is remembered, but sought on. */
static int child_search(struct child *c)
{
    const struct spawn_plan *p = c->plan;
    int error = ENOENT;

    for (const char *dir = p->search;;) {
        size_t n = strcspn(dir, ":");

        if (join(c, dir, n, p->argv[0])) {
            execve(c->path, p->argv, p->envp);
            if (errno == EACCES)
                error = EACCES;
            else if (errno != ENOENT && errno != ENOTDIR)
                return errno;
        }
        if (dir[n] == '\0')
            return error;
        dir += n + 1;
    }
}

/* Shares all memory with the parent, which stands still until it is gone. */
static int child_main(void *argument)
{
    struct child *c = argument;
    const struct spawn_plan *p = c->plan;
    sigset_t none;

    setsid();
    if (p->tty && ioctl(p->stdio[0], TIOCSCTTY, 0) != 0)
        child_fail(c, AGENT_STAGE_TTY, errno);
    for (int i = 0; i < 3; i++) {
        if (dup2(p->stdio[i], i) < 0)
            child_fail(c, AGENT_STAGE_RESOURCE, errno);
    }
    if (p->switch_user)
        child_switch_user(c);
    child_enter(c);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    if (strchr(p->argv[0], '/') == NULL)
        child_fail(c, AGENT_STAGE_EXEC, child_search(c));
    execve(p->argv[0], p->argv, p->envp);
    child_fail(c, AGENT_STAGE_EXEC, errno);
}

int spawn_run(const struct spawn_plan *plan, pid_t *ret_pid,
    struct spawn_failure *ret_failure)
{
    volatile struct spawn_failure failure = {.error = 0};
    _Alignas(16) char stack[STACK_SIZE];
    struct child child;
    pid_t pid;

    child.plan = plan;
    child.failure = &failure;
    pid = clone(child_main, stack + sizeof(stack),
        CLONE_VM | CLONE_VFORK | SIGCHLD, &child);
    if (pid < 0) {
        ret_failure->stage = AGENT_STAGE_RESOURCE;
        ret_failure->error = errno;
        return -ret_failure->error;
    }
    if (failure.error != 0) {
        ret_failure->stage = failure.stage;
        ret_failure->error = failure.error;
        return -ret_failure->error;
    }
    *ret_pid = pid;
    return 0;
}
