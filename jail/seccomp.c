/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/seccomp.h"

#include <assert.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/policy.h"

#ifdef SPORE_NAME_CALLS
#define FILTER_MAX 4096u

static const char *call_name(int nr)
{
    for (size_t i = 0; i < policy_rule_count; i++) {
        if (policy_rules[i].nr == nr)
            return policy_rules[i].name;
    }
    return "system call";
}

static size_t put_text(char *to, size_t at, const char *text)
{
    size_t len = strlen(text);

    memcpy(to + at, text, len);
    return at + len;
}

static size_t put_number(char *to, size_t at, unsigned long n)
{
    char digits[20];
    size_t count = 0;

    do {
        digits[count++] = (char)('0' + n % 10);
        n /= 10;
    } while (n != 0);
    while (count > 0)
        to[at++] = digits[--count];
    return at;
}

/* Only what a signal handler may do, and every role's policy has. */
static void on_sigsys(int signal, siginfo_t *info, void *context)
{
    char text[160];
    size_t at = put_text(text, 0, "spore: the jail does not allow ");

    (void)signal;
    (void)context;
    at = put_text(text, at, call_name(info->si_syscall));
    at = put_text(text, at, " (number ");
    at = put_number(text, at, (unsigned long)info->si_syscall);
    at = put_text(text, at, ")\n");
    (void)!write(STDERR_FILENO, text, at);
    /* At _exit the address sanitizer asks for a signal stack: not allowed. */
    (void)syscall(SYS_exit_group, 128 + SIGSYS);
}

/* The same filter, which raises a signal where it would end the process. */
static int load(const struct seccomp_program *program)
{
    struct sock_filter copy[FILTER_MAX];
    struct sock_fprog prog = {.len = program->count, .filter = copy};

    assert(program->count <= FILTER_MAX);
    memcpy(copy, program->insns, program->count * sizeof(copy[0]));
    for (unsigned int i = 0; i < program->count; i++) {
        if (copy[i].code == (BPF_RET | BPF_K) &&
            copy[i].k == SECCOMP_RET_KILL_PROCESS)
            copy[i].k = SECCOMP_RET_TRAP;
    }
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
}

void seccomp_name_calls(void)
{
    struct sigaction action = {
        .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_NODEFER};

    (void)sigaction(SIGSYS, &action, NULL);
}
#else
static int load(const struct seccomp_program *program)
{
    struct sock_fprog prog = {.len = program->count,
        .filter = (struct sock_filter *)(uintptr_t)program->insns};

    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
}

void seccomp_name_calls(void)
{
}
#endif

int seccomp_confine(enum jail_role role, struct err *err)
{
    assert(role < JAIL_ROLES);
    if (load(&seccomp_programs[role]) < 0)
        return err_sys(err, errno,
            "the kernel takes no seccomp filter (CONFIG_SECCOMP_FILTER)");
    return 0;
}
