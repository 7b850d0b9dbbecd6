/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run by the build: writes the filters of all roles, as libseccomp compiles
 * them out of the policy, as a C file to standard output. Loading a ready
 * filter costs some 20 us; compiling one took 0.6 ms.
 */
#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jail/policy.h"

static int add_rule(scmp_filter_ctx ctx, const struct policy_rule *rule)
{
    struct scmp_arg_cmp args[POLICY_ARGS_MAX];
    uint32_t action = rule->refusal != 0
                          ? SCMP_ACT_ERRNO((uint32_t)rule->refusal)
                          : SCMP_ACT_ALLOW;

    for (unsigned int i = 0; i < rule->arg_count; i++)
        args[i] = SCMP_CMP64(rule->args[i].index, SCMP_CMP_MASKED_EQ,
            rule->args[i].mask, rule->args[i].value);
    return seccomp_rule_add_exact_array(
        ctx, action, rule->nr, rule->arg_count, args);
}

/* A file that libseccomp wrote a program into, as an array. */
static int print_program(int fd, enum jail_role role)
{
    struct sock_filter insn;
    unsigned int count = 0;

    if (lseek(fd, 0, SEEK_SET) < 0)
        return -errno;
    (void)printf("static const struct sock_filter insns_%d[] = {\n", role);
    while (read(fd, &insn, sizeof(insn)) == (ssize_t)sizeof(insn)) {
        (void)printf("    {0x%02x, %u, %u, 0x%08x},\n", insn.code, insn.jt,
            insn.jf, insn.k);
        count++;
    }
    (void)printf("};\n\n");
    return count == 0 ? -EIO : 0;
}

static int generate(enum jail_role role)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    FILE *file = tmpfile();
    int rc = ctx == NULL || file == NULL ? -ENOMEM : 0;

    /* A system call of another ABI ends the process too. */
    if (rc == 0)
        rc = seccomp_attr_set(
            ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* A binary tree instead of a list. */
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; rc == 0 && i < policy_rule_count; i++) {
        if ((policy_rules[i].roles & (1u << role)) != 0)
            rc = add_rule(ctx, &policy_rules[i]);
        if (rc < 0)
            (void)fprintf(stderr, "policy_gen: %s: %s\n", policy_rules[i].name,
                strerror(-rc));
    }
    if (rc == 0)
        rc = seccomp_export_bpf(ctx, fileno(file));
    if (rc == 0)
        rc = print_program(fileno(file), role);
    if (file != NULL)
        (void)fclose(file);
    seccomp_release(ctx);
    return rc;
}

int main(void)
{
    (void)puts("/* SPDX-License-Identifier: Apache-2.0 */\n"
               "/* Made by jail/policy_gen.c. */\n"
               "#include \"jail/seccomp.h\"\n");
    for (unsigned int role = 0; role < JAIL_ROLES; role++) {
        int rc = generate((enum jail_role)role);

        if (rc < 0) {
            (void)fprintf(stderr, "policy_gen: %s: %s\n",
                policy_role_name((enum jail_role)role), strerror(-rc));
            return EXIT_FAILURE;
        }
    }
    (void)puts("const struct seccomp_program seccomp_programs[JAIL_ROLES] = {");
    for (unsigned int role = 0; role < JAIL_ROLES; role++)
        (void)printf(
            "    {insns_%u, sizeof(insns_%u) / sizeof(insns_%u[0])},\n", role,
            role, role);
    (void)puts("};");
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
