/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of the kernel that a monitor has no need of. What would change or stop
 * the host is called with arguments that no kernel takes: its refusal of them
 * shows that the call had come that far.
 */
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/perf_event.h>
#include <sys/timex.h>
#include <time.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

#define NR_LSM_LIST_MODULES 461

#define BAD_ADDRESS 8L /* of the first page, which is never mapped */

static int try_add_key(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_add_key, "user", "escape", "x", 1L, KEY_SPEC_PROCESS_KEYRING);
}

static int try_request_key(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_request_key, "user", "escape-none", NULL,
        KEY_SPEC_PROCESS_KEYRING);
}

static int try_keyctl(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_keyctl, KEYCTL_GET_KEYRING_ID,
        KEY_SPEC_PROCESS_KEYRING, 1L, 0L, 0L);
}

static int try_bpf_map(struct escape *e)
{
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY,
        .key_size = 4,
        .value_size = 8,
        .max_entries = 1};

    return ESCAPE_CALL(e, SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
}

static int try_bpf_program(struct escape *e)
{
    struct bpf_insn code[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
        .insn_cnt = ARRAY_SIZE(code),
        .insns = (uintptr_t)code,
        .license = (uintptr_t) "GPL"};

    return ESCAPE_CALL(e, SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

static int try_perf(struct escape *e)
{
    struct perf_event_attr attr = {.size = sizeof(attr),
        .type = PERF_TYPE_SOFTWARE,
        .config = PERF_COUNT_SW_DUMMY,
        .exclude_kernel = 1,
        .exclude_hv = 1};

    return ESCAPE_CALL(e, SYS_perf_event_open, &attr, 0, -1, -1, 0L);
}

static int try_landlock_create(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_landlock_create_ruleset, NULL, 0L,
        LANDLOCK_CREATE_RULESET_VERSION);
}

/* A ruleset is needed for that: -1 is none. */
static int try_landlock_restrict(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_landlock_restrict_self, -1, 0);
}

static int try_landlock_rule(struct escape *e)
{
    return ESCAPE_CALL(
        e, SYS_landlock_add_rule, -1, LANDLOCK_RULE_PATH_BENEATH, e->page, 0);
}

static int try_reboot(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_reboot, 0, 0, 0, NULL);
}

static int try_kexec(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_kexec_load, 0L, 0L, NULL, ~0L);
}

static int try_kexec_file(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_kexec_file_load, -1, -1, 0L, NULL, ~0L);
}

static int try_init_module(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_init_module, BAD_ADDRESS, 64L, BAD_ADDRESS);
}

static int try_finit_module(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_finit_module, -1, BAD_ADDRESS, ~0);
}

static int try_delete_module(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_delete_module, BAD_ADDRESS, 0);
}

/* How much there is to read. */
static int try_syslog(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_syslog, 9, NULL, 0);
}

static int try_sethostname(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_sethostname, BAD_ADDRESS, 1L);
}

static int try_setdomainname(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_setdomainname, BAD_ADDRESS, 1L);
}

static int try_settimeofday(struct escape *e)
{
    struct timeval never = {.tv_sec = 0, .tv_usec = -1};

    return ESCAPE_CALL(e, SYS_settimeofday, &never, NULL);
}

static int try_clock_settime(struct escape *e)
{
    struct timespec never = {.tv_sec = 0, .tv_nsec = -1};

    return ESCAPE_CALL(e, SYS_clock_settime, CLOCK_REALTIME, &never);
}

/* To read it is allowed to all, to change it is the same call. */
static int try_adjtimex(struct escape *e)
{
    struct timex request = {.modes = 0};

    return ESCAPE_CALL(e, SYS_adjtimex, &request);
}

static int try_clock_adjtime(struct escape *e)
{
    struct timex request = {.modes = 0};

    return ESCAPE_CALL(e, SYS_clock_adjtime, CLOCK_REALTIME, &request);
}

static int try_lookup_dcookie(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_lookup_dcookie, 0L, e->page, (long)ESCAPE_PAGE);
}

/* The stand-in's terminal is the driver's other end. */
static int try_vhangup(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_vhangup, 0);
}

static int try_sysfs(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_sysfs, 3, 0L, 0L);
}

static int try_sysinfo(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_sysinfo, e->page);
}

static int try_uname(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_uname, e->page);
}

static int try_times(struct escape *e)
{
    int rc = ESCAPE_CALL(e, SYS_getrusage, -1, e->page);

    return rc;
}

static int try_aio(struct escape *e)
{
    unsigned long context = 0;

    return ESCAPE_CALL(e, SYS_io_setup, 1, &context);
}

static int try_membarrier(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_membarrier, 1, 0, 0); /* of all processes */
}

static int try_lsm(struct escape *e)
{
    uint32_t size = ESCAPE_PAGE;

    return ESCAPE_CALL(e, NR_LSM_LIST_MODULES, e->page, &size, 0);
}

static const struct escape_attempt attempts[] = {
    {.name = "add_key",
        .gain = "memory of the kernel, and its parsers",
        .call = SYS_add_key,
        .go = try_add_key},
    {.name = "request_key of what is not there",
        .gain = "has the host run a helper program",
        .call = SYS_request_key,
        .go = try_request_key,
        .outside = -ENOKEY},
    {.name = "keyctl",
        .gain = "the keys of the host",
        .call = SYS_keyctl,
        .go = try_keyctl},
    {.name = "bpf: a map",
        .gain = "the kernel's verifier and compiler",
        .call = SYS_bpf,
        .go = try_bpf_map,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "bpf: a program",
        .gain = "the kernel's verifier and compiler",
        .call = SYS_bpf,
        .go = try_bpf_program,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "perf_event_open",
        .gain = "learns what others do, by counters",
        .call = SYS_perf_event_open,
        .go = try_perf,
        .lacks = {{.error = -EACCES, .user = true, .why = "only root may"}}},
    {.name = "landlock_create_ruleset",
        .gain = "a part of the kernel that it has no need of",
        .call = SYS_landlock_create_ruleset,
        .go = try_landlock_create,
        .lacks = {{.error = -EOPNOTSUPP, .why = "Landlock is off here"}}},
    {.name = "landlock_add_rule to no ruleset",
        .gain = "a part of the kernel that it has no need of",
        .call = SYS_landlock_add_rule,
        .go = try_landlock_rule,
        .outside = -EBADF,
        .lacks = {{.error = -EOPNOTSUPP, .why = "Landlock is off here"}}},
    {.name = "landlock_restrict_self with no ruleset",
        .gain = "a part of the kernel that it has no need of",
        .call = SYS_landlock_restrict_self,
        .go = try_landlock_restrict,
        .outside = -EBADF,
        .lacks = {ESCAPE_ROOT_ONLY,
            {.error = -EOPNOTSUPP, .why = "Landlock is off here"}}},
    {.name = "reboot with wrong numbers",
        .gain = "stops the host",
        .call = SYS_reboot,
        .go = try_reboot,
        .behind = -EPERM,
        .outside = -EINVAL,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "kexec_load with wrong flags",
        .gain = "another kernel",
        .call = SYS_kexec_load,
        .go = try_kexec,
        .outside = -EINVAL,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "kexec_file_load with wrong flags",
        .gain = "another kernel",
        .call = SYS_kexec_file_load,
        .go = try_kexec_file,
        .outside = -EINVAL,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "init_module of no memory",
        .gain = "code in the kernel",
        .call = SYS_init_module,
        .go = try_init_module,
        .outside = -EFAULT,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "finit_module with wrong flags",
        .gain = "code in the kernel",
        .call = SYS_finit_module,
        .go = try_finit_module,
        .outside = -EINVAL,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "delete_module of no memory",
        .gain = "takes parts of the kernel away",
        .call = SYS_delete_module,
        .go = try_delete_module,
        .outside = -EFAULT,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "syslog",
        .gain = "what the kernel has logged",
        .call = SYS_syslog,
        .go = try_syslog,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "sethostname from no memory",
        .gain = "another name for the host",
        .call = SYS_sethostname,
        .go = try_sethostname,
        .behind = -EPERM,
        .outside = -EFAULT,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "setdomainname from no memory",
        .gain = "another name for the host",
        .call = SYS_setdomainname,
        .go = try_setdomainname,
        .behind = -EPERM,
        .outside = -EFAULT,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "settimeofday to no time",
        .gain = "another time for the host",
        .call = SYS_settimeofday,
        .go = try_settimeofday,
        .outside = -EINVAL},
    {.name = "clock_settime to no time",
        .gain = "another time for the host",
        .call = SYS_clock_settime,
        .go = try_clock_settime,
        .outside = -EINVAL},
    {.name = "adjtimex",
        .gain = "another time for the host",
        .call = SYS_adjtimex,
        .go = try_adjtimex},
    {.name = "clock_adjtime",
        .gain = "another time for the host",
        .call = SYS_clock_adjtime,
        .go = try_clock_adjtime},
    {.name = "lookup_dcookie of none",
        .gain = "the paths that others use",
        .call = SYS_lookup_dcookie,
        .go = try_lookup_dcookie,
        .outside = -EINVAL,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "vhangup",
        .gain = "ends the user's session",
        .call = SYS_vhangup,
        .go = try_vhangup,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "sysfs",
        .gain = "learns of the kernel's file systems",
        .call = SYS_sysfs,
        .go = try_sysfs},
    {.name = "sysinfo",
        .gain = "learns what others use",
        .call = SYS_sysinfo,
        .go = try_sysinfo},
    {.name = "uname",
        .gain = "learns which kernel to attack",
        .call = SYS_uname,
        .go = try_uname},
    {.name = "getrusage of its children",
        .gain = "learns what others use",
        .call = SYS_getrusage,
        .go = try_times},
    {.name = "io_setup",
        .gain = "a second way to files, with memory of the kernel",
        .call = SYS_io_setup,
        .go = try_aio},
    {.name = "membarrier of all processes",
        .gain = "interrupts all processors",
        .call = SYS_membarrier,
        .go = try_membarrier},
    {.name = "lsm_list_modules",
        .gain = "learns what holds it",
        .call = NR_LSM_LIST_MODULES,
        .go = try_lsm},
};

const struct escape_list escape_kernel = {attempts, ARRAY_SIZE(attempts)};
