/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kvm/support/bare.h"

#include <stdarg.h>
#include <setjmp.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/support/skip.h"
#include "vmm/base/clock.h"
#include "vmm/machine_restore.h"

#define MEM_DEFAULT (16 * NUM_MIB)

/* Far beyond what any guest takes: a hang is to end as a failure. */
#define HANG_NS (60 * CLOCK_NS_PER_S)

int bare_need_kvm(void)
{
    struct kvm kvm;
    struct err err;

    if (kvm_open(&kvm, &err) < 0)
        return skip_all(err.text);
    kvm_close(&kvm);
    return 0;
}

static void on_end(void *opaque, const struct machine_end *end)
{
    struct bare *b = opaque;

    b->ends++;
    b->end = *end;
    loop_stop(&b->loop);
}

/* The same as an owner's string: config_fini frees it. */
static char *copy(const char *text)
{
    char *p = strdup(text);

    assert_non_null(p);
    return p;
}

static char *guest_path(const char *guest)
{
    const char *folder = getenv("SPORE_GUESTS");
    char *path = NULL;

    if (folder == NULL)
        fail_msg("SPORE_GUESTS is not set");
    assert_true(asprintf(&path, "%s/%s.elf", folder, guest) > 0);
    return path;
}

static struct bare *prepare(enum machine_tracking tracking)
{
    struct bare *b = calloc(1, sizeof(*b));
    struct err err;

    assert_non_null(b);
    config_init(&b->config);
    b->tracking = tracking;
    if (kvm_open(&b->kvm, &err) < 0)
        fail_msg("%s", err.text);
    if (loop_init(&b->loop, &err) < 0)
        fail_msg("%s", err.text);
    return b;
}

struct bare *bare_prepare(const struct bare_options *options)
{
    struct bare *b = prepare(options->tracking);

    b->config.has_agent = false;
    b->config.has_exit_port = true;
    b->config.kernel = guest_path(options->guest);
    b->config.boot_args =
        copy(options->cmdline == NULL ? "" : options->cmdline);
    b->config.mem_bytes =
        options->mem_bytes == 0 ? MEM_DEFAULT : options->mem_bytes;
    b->config.vcpus = options->vcpus == 0 ? 1 : options->vcpus;
    return b;
}

int bare_build(struct bare *b, struct err *err)
{
    const struct machine_host host = {.kvm = &b->kvm,
        .loop = &b->loop,
        .console = &b->console,
        .timings = &b->timings,
        .origin = b->origin,
        .is_shell = b->is_shell,
        .tracking = b->tracking,
        .on_end = on_end,
        .opaque = b};
    int rc = config_check(&b->config, err);

    if (rc < 0)
        return rc;
    console_init(&b->console, &b->loop, -1, -1);
    return machine_init(&b->machine, &b->config, &host, err);
}

struct bare *bare_new(const struct bare_options *options)
{
    struct bare *b = bare_prepare(options);
    struct err err;

    if (bare_build(b, &err) < 0)
        fail_msg("%s", err.text);
    return b;
}

static struct bare *restore(
    const struct machine_origin *origin, enum machine_tracking tracking)
{
    struct bare *b = prepare(tracking);
    struct err err;

    b->origin = origin;
    if (machine_restore_config(origin->snap, &b->config, &err) < 0 ||
        bare_build(b, &err) < 0)
        fail_msg("%s", err.text);
    b->origin = NULL;
    return b;
}

struct bare *bare_restore(struct snap *snap, enum machine_tracking tracking)
{
    return restore(
        &(struct machine_origin){.snap = snap, .clock = VM_CLOCK_FOLLOW},
        tracking);
}

struct bare *bare_restore_paged(struct snap *snap, struct page_client *pages)
{
    return restore(
        &(struct machine_origin){
            .snap = snap, .clock = VM_CLOCK_FOLLOW, .pages = pages},
        MACHINE_TRACK_LATER);
}

struct bare *bare_shell(struct snap *snap, bool is_mapped)
{
    const struct machine_origin origin = {.snap = snap};
    struct bare *b = prepare(MACHINE_TRACK_LATER);
    struct err err;

    b->is_shell = true;
    b->origin = is_mapped ? &origin : NULL;
    if (machine_restore_config(snap, &b->config, &err) < 0 ||
        bare_build(b, &err) < 0)
        fail_msg("%s", err.text);
    b->origin = NULL;
    return b;
}

void bare_free(struct bare *b)
{
    machine_fini(&b->machine);
    console_fini(&b->console);
    loop_fini(&b->loop);
    kvm_close(&b->kvm);
    config_fini(&b->config);
    free(b);
}

void bare_start(struct bare *b)
{
    struct err err;

    if (machine_start(&b->machine, &err) < 0)
        fail_msg("%s", err.text);
}

static void on_hang(void *opaque)
{
    (void)opaque;
    fail_msg("the guest does not end");
}

void bare_wait_end(struct bare *b)
{
    struct loop_timer hang = {.fire = on_hang};

    loop_timer_arm(&b->loop, &hang, clock_now_ns() + HANG_NS);
    assert_int_equal(loop_run(&b->loop), 0);
    loop_timer_disarm(&b->loop, &hang);
    assert_int_equal(b->ends, 1);
}

uint32_t bare_peek(const struct bare *b, uint64_t address)
{
    uint32_t value = 0;

    assert_int_equal(
        gmem_read(&b->machine.mem, gpa(address), &value, sizeof(value)), 0);
    return value;
}

void bare_wait_change(const struct bare *b, uint64_t address, uint32_t old)
{
    uint64_t deadline = clock_now_ns() + HANG_NS;

    while (bare_peek(b, address) == old) {
        if (clock_now_ns() > deadline)
            fail_msg("0x%llx stays %u", (unsigned long long)address, old);
        (void)sched_yield();
    }
}

unsigned int bare_count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned int count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}
