/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/ends.h"

#include <signal.h>
#include <stdint.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "guest/fuzz/call.h"
#include "guest/fuzz/preload/forkserver.h"
#include "guest/fuzz/preload/input.h"
#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"

void ends_run(int status)
{
    if (preload_in_run())
        (void)call(FUZZ_ABI_DONE, (uint64_t)(status & 0xff) << 8);
}

/* Where leaks are looked for, that happens in the handlers of exit(). */
static bool looks_for_leaks(void)
{
    const char *options = getenv("ASAN_OPTIONS");
    const char *at = NULL;

    if (!preload.sanitized || options == NULL)
        return false;
    /* The last one counts. */
    while ((options = strstr(options, "detect_leaks=")) != NULL) {
        options += strlen("detect_leaks=");
        at = options;
    }
    return at != NULL && *at == '1';
}

_Noreturn void ends_exit(int status)
{
    if (!looks_for_leaks())
        ends_run(status);
    REAL(exit)(status);
    __builtin_unreachable();
}

REAL_EXPORT void exit(int status)
{
    ends_exit(status);
}

REAL_EXPORT void quick_exit(int status)
{
    ends_run(status);
    REAL(quick_exit)(status);
    __builtin_unreachable();
}

REAL_EXPORT void _exit(int status)
{
    ends_run(status);
    REAL(_exit)(status);
    __builtin_unreachable();
}

REAL_EXPORT void _Exit(int status)
{
    _exit(status);
}

/* AFL++'s persistent loop stops itself behind each test case. */
REAL_EXPORT int raise(int signal)
{
    if (signal == SIGSTOP && preload.place == PRELOAD_AT_LOOP)
        ends_run(0);
    return REAL(raise)(signal);
}

/* ---- processes -------------------------------------------------------------
 */

REAL_EXPORT pid_t fork(void)
{
    pid_t pid;

    if (preload_is_on()) {
        if (forkserver_forks())
            return 0;
        /* It may go on with the input where this one is. */
        input_show();
    }
    pid = REAL(fork)();
    if (pid == 0)
        preload.child = true;
    else
        preload.parent = true;
    return pid;
}

/* A child that shares the memory could not be told from its parent. */
REAL_EXPORT pid_t vfork(void)
{
    return fork();
}

/* ---- other programs --------------------------------------------------------
 */

REAL_EXPORT int execve(const char *path, char *const args[], char *const envp[])
{
    input_show();
    return (int)syscall(SYS_execve, path, args, envp);
}

REAL_EXPORT int posix_spawn(pid_t *restrict ret_pid, const char *restrict path,
    const posix_spawn_file_actions_t *restrict actions,
    const posix_spawnattr_t *restrict attributes, char *const args[restrict],
    char *const envp[restrict])
{
    input_show();
    return REAL(posix_spawn)(ret_pid, path, actions, attributes, args, envp);
}

REAL_EXPORT int system(const char *command)
{
    input_show();
    return REAL(system)(command);
}

REAL_EXPORT FILE *popen(const char *command, const char *mode)
{
    input_show();
    return REAL(popen)(command, mode);
}
