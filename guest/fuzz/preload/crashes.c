/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/crashes.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "guest/fuzz/call.h"
#include "guest/fuzz/preload/input.h"
#include "guest/fuzz/preload/output.h"
#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"

#define STACK_SIZE (64u << 10)
#define REPORT_MAX (64u << 20) /* bytes of one report that are read */

static int report_fd = -1;
static bool report_is_told;

static void panic(int signal, uintptr_t rip)
{
    uint64_t argument = FUZZ_ABI_PANIC_USER |
                        ((uint64_t)signal & FUZZ_ABI_PANIC_SIGNAL_MASK)
                            << FUZZ_ABI_PANIC_SIGNAL_SHIFT |
                        ((uint64_t)rip & FUZZ_ABI_PANIC_RIP_MASK);

    output_report();
    (void)call(FUZZ_ABI_PANIC, argument);
}

/* ---- signals ---------------------------------------------------------------
 */

/* Does not come back; if it does, the signal comes again and kills. */
static void on_signal(int signal, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;

    (void)info;
    panic(signal, (uintptr_t)uc->uc_mcontext.gregs[REG_RIP]);
}

static void install(int signal)
{
    struct sigaction old;
    struct sigaction action = {
        .sa_sigaction = on_signal,
        .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND,
    };

    if (sigaction(signal, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
        (void)sigaction(signal, &action, NULL);
}

static void make_stack(void)
{
    static uint8_t stack[STACK_SIZE] __attribute__((aligned(16)));
    const stack_t ours = {.ss_sp = stack, .ss_size = sizeof(stack)};
    stack_t old;

    if (sigaltstack(NULL, &old) == 0 && (old.ss_flags & SS_DISABLE) != 0)
        (void)sigaltstack(&ours, NULL);
}

/* ---- sanitizers ------------------------------------------------------------
 */

/* The report is complete by then, however long it is. */
static void on_sanitizer_death(void)
{
    static char part[64u << 10];
    off_t at = 0;
    ssize_t n;

    if (!preload_in_run())
        return;
    output_report();
    while (report_fd >= 0 && at < (off_t)REPORT_MAX &&
           (n = pread(report_fd, part, sizeof(part), at)) > 0) {
        output_say(part, (size_t)n);
        at += n;
    }
    (void)call(FUZZ_ABI_KASAN, 0);
}

/*
 * A sanitizer asks whether its report goes to a terminal, first of all and for
 * each of its colours. That is when the executor is to know: a report is
 * hundreds of system calls.
 */
REAL_EXPORT int isatty(int fd)
{
    static const char none[1];

    bool is_report = fd >= 0 && fd == report_fd;

    if (!is_report && !input_is(fd) && !output_takes(fd))
        return REAL(isatty)(fd);
    if (is_report && preload_in_run() && !report_is_told) {
        report_is_told = true;
        output_say(none, 0);
    }
    errno = ENOTTY;
    return 0;
}

static void listen_to_sanitizer(void)
{
    union {
        void *symbol;
        void (*set_fd)(void *);
        void (*set_death)(void (*)(void));
    } u;

    u.symbol = dlsym(RTLD_DEFAULT, "__sanitizer_set_report_fd");
    if (u.symbol != NULL) {
        int fd = memfd_create("report", MFD_CLOEXEC);

        if (fd >= 0) {
            report_fd = fcntl(fd, F_DUPFD_CLOEXEC, 190);
            (void)REAL(close)(fd);
        }
        if (report_fd >= 0)
            u.set_fd((void *)(intptr_t)report_fd);
    }
    u.symbol = dlsym(RTLD_DEFAULT, "__sanitizer_set_death_callback");
    if (u.symbol != NULL)
        u.set_death(on_sanitizer_death);
}

void crashes_install(void)
{
    static const int signals[] = {
        SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

    make_stack();
    for (unsigned int i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        install(signals[i]);
    if (preload.sanitized)
        listen_to_sanitizer();
}

/* ---- calls that mean a crash -----------------------------------------------
 */

/* Has the program asked for the signal itself? Then it is to get it. */
static bool abort_is_ours(void)
{
    struct sigaction now;

    return preload_in_run() && sigaction(SIGABRT, NULL, &now) == 0 &&
           now.sa_sigaction == on_signal;
}

REAL_EXPORT void abort(void)
{
    if (abort_is_ours())
        panic(SIGABRT, (uintptr_t)__builtin_return_address(0));
    REAL(abort)();
    __builtin_unreachable();
}

REAL_EXPORT void __assert_fail(const char *assertion, const char *file,
    unsigned int line, const char *function)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "%s:%u: %s: Assertion `%s' failed.\n",
        file, line, function != NULL ? function : "?", assertion);

    if (n > (int)sizeof(text) - 1)
        n = (int)sizeof(text) - 1;
    if (preload_in_run() && n > 0)
        output_take(text, (size_t)n);
    else
        (void)fputs(text, stderr);
    if (abort_is_ours())
        panic(SIGABRT, (uintptr_t)__builtin_return_address(0));
    REAL(abort)();
    __builtin_unreachable();
}
