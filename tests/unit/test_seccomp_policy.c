/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compiled filters against the table that they are made of: each is run
 * here as the kernel would, for every system call, with arguments that fit a
 * row and with arguments that just do not.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/unistd.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/bpf_common.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <string.h>

#include "jail/policy.h"
#include "jail/seccomp.h"

#define NR_END   471 /* beyond all that there are */
#define X32_BIT  0x40000000
#define ARGS     6
#define MASK_ALL UINT64_MAX

/* ---- the kernel's side --------------------------------------------------- */

static uint32_t load_word(const struct seccomp_data *data, uint32_t at)
{
    uint32_t word;

    assert_true(at <= sizeof(*data) - sizeof(word) && at % 4 == 0);
    memcpy(&word, (const uint8_t *)data + at, sizeof(word));
    return word;
}

static bool jumps(const struct sock_filter *insn, uint32_t a)
{
    switch (BPF_OP(insn->code)) {
    case BPF_JEQ:
        return a == insn->k;
    case BPF_JGT:
        return a > insn->k;
    case BPF_JGE:
        return a >= insn->k;
    case BPF_JSET:
        return (a & insn->k) != 0;
    default:
        fail_msg("a jump of another kind: 0x%x", insn->code);
        return false;
    }
}

/* What the filter returns. Jumps lead forwards only, so it ends. */
static uint32_t run_filter(enum jail_role role, const struct seccomp_data *data)
{
    const struct seccomp_program *program = &seccomp_programs[role];
    uint32_t a = 0;

    for (size_t pc = 0; pc < program->count; pc++) {
        const struct sock_filter *insn = &program->insns[pc];

        switch (insn->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            a = load_word(data, insn->k);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= insn->k;
            break;
        case BPF_JMP | BPF_JA:
            pc += insn->k;
            break;
        case BPF_RET | BPF_K:
            return insn->k;
        default:
            assert_int_equal(BPF_CLASS(insn->code), BPF_JMP);
            pc += jumps(insn, a) ? insn->jt : insn->jf;
        }
    }
    fail_msg("the filter has no end");
    return 0;
}

/* ---- the table's side ---------------------------------------------------- */

static bool fits(const struct policy_rule *rule, const struct seccomp_data *d)
{
    for (unsigned int i = 0; i < rule->arg_count; i++) {
        const struct policy_arg *arg = &rule->args[i];

        if ((d->args[arg->index] & arg->mask) != arg->value)
            return false;
    }
    return true;
}

static uint32_t expected(enum jail_role role, const struct seccomp_data *d)
{
    for (size_t i = 0; i < policy_rule_count; i++) {
        const struct policy_rule *rule = &policy_rules[i];

        if (rule->nr != d->nr || (rule->roles & (1u << role)) == 0 ||
            !fits(rule, d))
            continue;
        return rule->refusal == 0 ? SECCOMP_RET_ALLOW
                                  : SECCOMP_RET_ERRNO | (uint32_t)rule->refusal;
    }
    return SECCOMP_RET_KILL_PROCESS;
}

static void compare(enum jail_role role, const struct seccomp_data *d)
{
    uint32_t is = run_filter(role, d);
    uint32_t ought = expected(role, d);

    if (is != ought)
        fail_msg("role %s, system call %d (0x%llx, 0x%llx, 0x%llx, 0x%llx): "
                 "0x%x instead of 0x%x",
            policy_role_name(role), d->nr, (unsigned long long)d->args[0],
            (unsigned long long)d->args[1], (unsigned long long)d->args[2],
            (unsigned long long)d->args[3], is, ought);
}

static struct seccomp_data make_call(int nr, uint64_t filler)
{
    struct seccomp_data d = {.nr = nr,
        .arch = AUDIT_ARCH_X86_64,
        .instruction_pointer = UINT64_C(0x7f0123456789)};

    for (unsigned int i = 0; i < ARGS; i++)
        d.args[i] = filler;
    return d;
}

/* Every bit of every argument that a row looks at, and of those it does not. */
static void compare_around(enum jail_role role, const struct policy_rule *rule)
{
    struct seccomp_data d = make_call(rule->nr, 0);

    for (unsigned int i = 0; i < rule->arg_count; i++)
        d.args[rule->args[i].index] = rule->args[i].value;
    compare(role, &d);
    for (unsigned int i = 0; i < ARGS; i++) {
        for (unsigned int bit = 0; bit < 64; bit++) {
            d.args[i] ^= UINT64_C(1) << bit;
            compare(role, &d);
            d.args[i] ^= UINT64_C(1) << bit;
        }
    }
}

/* ---- tests --------------------------------------------------------------- */

static void test_every_call(void **state)
{
    static const uint64_t fillers[] = {0, 1, 2, 0x5401, UINT32_MAX, MASK_ALL};

    (void)state;
    for (unsigned int role = 0; role < JAIL_ROLES; role++) {
        for (int nr = 0; nr < NR_END; nr++) {
            for (size_t i = 0; i < ARRAY_SIZE(fillers); i++) {
                struct seccomp_data d = make_call(nr, fillers[i]);

                compare((enum jail_role)role, &d);
            }
        }
    }
}

static void test_every_row(void **state)
{
    (void)state;
    for (unsigned int role = 0; role < JAIL_ROLES; role++) {
        for (size_t i = 0; i < policy_rule_count; i++)
            compare_around((enum jail_role)role, &policy_rules[i]);
    }
}

/* What is allowed to x86-64 is not to its other ABIs, whose numbers differ. */
static void test_other_abis(void **state)
{
    static const uint32_t archs[] = {
        0, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, AUDIT_ARCH_X86_64 ^ 1};

    (void)state;
    for (unsigned int role = 0; role < JAIL_ROLES; role++) {
        for (int nr = 0; nr < NR_END; nr++) {
            struct seccomp_data d = make_call(nr | X32_BIT, 0);

            assert_int_equal(
                run_filter((enum jail_role)role, &d), SECCOMP_RET_KILL_PROCESS);
            d.nr = nr;
            for (size_t i = 0; i < ARRAY_SIZE(archs); i++) {
                d.arch = archs[i];
                assert_int_equal(run_filter((enum jail_role)role, &d),
                    SECCOMP_RET_KILL_PROCESS);
            }
        }
    }
}

static void test_numbers_beyond(void **state)
{
    static const int numbers[] = {
        NR_END, 1024, 0x3fffffff, -1, INT32_MIN, INT32_MAX};

    (void)state;
    for (unsigned int role = 0; role < JAIL_ROLES; role++) {
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
            struct seccomp_data d = make_call(numbers[i], 0);

            assert_int_equal(
                run_filter((enum jail_role)role, &d), SECCOMP_RET_KILL_PROCESS);
        }
    }
}

/* What would undo the rest of the jail, whatever the table becomes. */
static void test_what_no_role_has(void **state)
{
    static const int calls[] = {__NR_open, __NR_openat, __NR_openat2,
        __NR_open_by_handle_at, __NR_execve, __NR_execveat, __NR_fork,
        __NR_vfork, __NR_clone3, __NR_ptrace, __NR_process_vm_writev,
        __NR_pidfd_getfd, __NR_kill, __NR_socket, __NR_connect, __NR_bind,
        __NR_unshare, __NR_setns, __NR_mount, __NR_move_mount, __NR_pivot_root,
        __NR_chroot, __NR_bpf, __NR_perf_event_open, __NR_keyctl,
        __NR_io_uring_setup, __NR_userfaultfd, __NR_memfd_create, __NR_setuid,
        __NR_capset, __NR_init_module, __NR_finit_module, __NR_shmget,
        __NR_mknodat};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        for (size_t j = 0; j < policy_rule_count; j++)
            assert_true(
                policy_rules[j].nr != calls[i] || policy_rules[j].refusal != 0);
    }
}

/* The table itself: masks that can match, names that are there, no row twice.
 */
static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < policy_rule_count; i++) {
        const struct policy_rule *rule = &policy_rules[i];

        assert_in_range(rule->nr, 0, NR_END - 1);
        assert_true(rule->name[0] != '\0' && rule->reason[0] != '\0');
        assert_true(rule->roles != 0 && rule->roles >> JAIL_ROLES == 0);
        assert_true((rule->arg_count > 0) == (rule->with != NULL));
        for (unsigned int j = 0; j < rule->arg_count; j++) {
            assert_in_range(rule->args[j].index, 0, ARGS - 1);
            assert_true((rule->args[j].value & ~rule->args[j].mask) == 0);
        }
        for (size_t j = 0; j < i; j++)
            assert_false(policy_rules[j].nr == rule->nr &&
                         (policy_rules[j].roles & rule->roles) != 0 &&
                         policy_rules[j].arg_count == rule->arg_count &&
                         memcmp(policy_rules[j].args, rule->args,
                             sizeof(rule->args)) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call),
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_other_abis),
        cmocka_unit_test(test_numbers_beyond),
        cmocka_unit_test(test_what_no_role_has),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
