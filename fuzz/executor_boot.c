/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/executor_parts.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/entry_pages.h"
#include "fuzz/share_initrd.h"
#include "fuzz/warm.h"
#include "guest/fuzz_image.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/machine_snapshot.h"

#define HOT_MAX 4096u

/* Rounds in which runs may need pages that those before did not. */
#define WARM_ROUNDS_MAX 6u
#define WARM_TIMEOUT_NS (20 * CLOCK_NS_PER_S)

#define ACQUIRE_TIMEOUT_NS CLOCK_NS_PER_S

#define DUMP_FOLDER "dump"

/* In an XSAVE area: which parts of it are used (SDM vol. 1, 13.4.2). */
#define XSTATE_BV_AT 512u

/* ---- the root ------------------------------------------------------------ */

static int init_reset(struct executor *ex, struct err *err)
{
    uint32_t entry_pages[ENTRY_PAGES_MAX];
    struct reset_config config = {.parts = machine_parts(&ex->runner->machine),
        .root = ex->runner->root,
        .vcpu_parts = RESET_VCPU_PARTS_ALL,
        .quiet_parts = ex->agent.restores_fpu ? 0 : VCPU_STATE_XSAVE,
        .static_page_tables = true,
        .spaces = ex->agent.spaces,
        .space_count = ex->agent.space_count,
        .entry_pages = entry_pages,
        .clock = VM_CLOCK_FOLLOW,
        .hot_max = HOT_MAX};
    struct guest_view view;
    uint32_t *kept;
    int rc;

    rc = fuzz_agent_kept_pages(&ex->agent, &kept, &config.kept_count);
    if (rc < 0)
        return err_sys(err, rc, "the pages that are kept");
    config.kept = kept;
    view = runner_view(ex->runner);
    config.entry_page_count =
        entry_pages_find(&view, runner_sregs(ex->runner)->tr.base, entry_pages);
    rc = reset_init(&ex->reset, &config, err);
    free(kept);
    ex->has_reset = rc == 0;
    return rc;
}

/*
 * What the guest finds in rax when it goes on from where it was put back: the
 * registers may be in the vCPU or on their way to it.
 */
static int answer(struct executor *ex, uint64_t value, struct err *err)
{
    struct vcpu *vcpu = &ex->runner->machine.vcpus[0];
    struct vcpu_state *state = calloc(1, sizeof(*state));
    int rc = state == NULL ? -ENOMEM : vcpu_settle(vcpu);

    if (rc < 0) {
        free(state);
        return err_sys(err, rc, "the guest at its root");
    }
    rc = vcpu_state_get(
        vcpu, ex->runner->machine.msrs, VCPU_STATE_REGS, state, err);
    state->regs.rax = value;
    if (rc == 0)
        rc = vcpu_state_set(vcpu, state, VCPU_STATE_REGS, err);
    free(state);
    return rc;
}

/* A timer that does not run: a run of microseconds is not to meet it. */
static int stop_timer(struct executor *ex, struct err *err)
{
    const uint32_t parts =
        VCPU_STATE_SREGS | VCPU_STATE_LAPIC | VCPU_STATE_MSRS;
    struct runner *r = ex->runner;
    struct vcpu *vcpu = &r->machine.vcpus[0];
    struct vcpu_state *state = calloc(1, sizeof(*state));
    struct vcpu_timer timer;
    int rc;

    if (state == NULL)
        return err_sys(err, ENOMEM, "the guest at its root");
    rc = vcpu_state_get(vcpu, r->machine.msrs, parts, state, err);
    if (rc == 0) {
        vcpu_timer_take(state, &timer);
        if (timer.initial != 0)
            ex->agent.counter = timer.initial;
        ex->agent.has_deadline |= timer.deadline != 0;
        rc = vcpu_state_set(vcpu, state, parts, err);
    }
    free(state);
    return rc;
}

static int set_used(struct executor *ex, struct err *err)
{
    struct guest_view view = runner_view(ex->runner);
    int rc = warm_set_used(&view);

    return rc < 0 ? err_sys(err, rc, "the page tables of the root") : 0;
}

static int take_root(struct executor *ex, struct err *err)
{
    int rc;

    if (ex->has_reset)
        reset_fini(&ex->reset);
    ex->has_reset = false;
    ex->is_used = false;
    rc = answer(ex, 0, err);
    if (rc == 0)
        rc = stop_timer(ex, err);
    if (rc == 0)
        rc = set_used(ex, err);
    return rc == 0 ? init_reset(ex, err) : rc;
}

/* ---- from NEXT_PAYLOAD to ACQUIRE -----------------------------------------
 */

/* Runs to ACQUIRE: whether it comes, and what the guest is like there. */
static int run_to_acquire(struct executor *ex, const char *input,
    struct vcpu_state *state, uint64_t *ret_hash, bool *ret_comes,
    struct err *err)
{
    struct vcpu *vcpu = &ex->runner->machine.vcpus[0];
    struct fuzz_result result = {0};
    enum calls_outcome outcome;
    int rc = executor_put_back(ex, err);

    if (rc < 0)
        return rc;
    fuzz_agent_put_input(&ex->agent, &ex->runner->machine.mem,
        (const uint8_t *)input, strlen(input));
    calls_begin(&ex->calls);
    ex->is_used = true;
    ex->runner->is_held = false;
    rc = executor_go(
        ex, clock_now_ns() + ACQUIRE_TIMEOUT_NS, &result, &outcome, err);
    if (rc < 0)
        return rc;
    *ret_comes = outcome == CALLS_ROOT;
    if (!*ret_comes)
        return 0;
    rc = vcpu_settle(vcpu);
    if (rc < 0)
        return err_sys(err, rc, "the guest at its root");
    rc = vcpu_state_get(vcpu, ex->runner->machine.msrs,
        VCPU_STATE_REGS | VCPU_STATE_XSAVE, state, err);
    /* A part in its initial state may be marked as that or not, as it suits
     * the processor: KVM fills it in either way. */
    memset(state->xsave + XSTATE_BV_AT, 0, sizeof(uint64_t));
    return rc < 0 ? rc : executor_hash_now(ex, ret_hash, err);
}

/*
 * An agent that gets its input in one call and begins its run in another costs
 * an exit more each time, unless its root lies behind both. That is the same
 * as long as it has not looked at its input in between: if it has, two inputs
 * leave their traces.
 */
static int move_root(struct executor *ex, struct err *err)
{
    static const char *const inputs[] = {"spore", "another one"};
    struct vcpu_state *states = calloc(ARRAY_SIZE(inputs), sizeof(*states));
    uint64_t hashes[ARRAY_SIZE(inputs)] = {0};
    bool comes = true;
    int rc = 0;

    if (states == NULL)
        return err_sys(err, ENOMEM, "the guest at its root");
    ex->calls.stops_at_acquire = true;
    for (size_t i = 0; rc == 0 && comes && i < ARRAY_SIZE(inputs); i++)
        rc = run_to_acquire(ex, inputs[i], &states[i], &hashes[i], &comes, err);
    ex->calls.stops_at_acquire = false;
    comes = comes && hashes[0] == hashes[1] &&
            memcmp(&states[0], &states[1], sizeof(states[0])) == 0;
    free(states);
    if (rc < 0)
        return rc;
    return comes ? take_root(ex, err) : executor_put_back(ex, err);
}

/* ---- warming ------------------------------------------------------------- */

/* What the seeds need that is not there yet, in the agent's process. */
static int find_cold(struct executor *ex,
    const struct executor_options *options, struct warm_list *cold,
    struct err *err)
{
    static const struct fuzz_input first = {(const uint8_t *)"INIT", 4};
    const struct fuzz_input *seeds =
        options->seed_count == 0 ? &first : options->seeds;
    size_t count = options->seed_count == 0 ? 1 : options->seed_count;
    struct guest_view view = runner_view(ex->runner);
    struct warm_list before = {0};
    struct warm_list after = {0};
    int rc;

    view.regs = ex->agent.space;
    rc = warm_take(&before, &view);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct fuzz_result result;

        rc = executor_run_bare(
            ex, seeds[i].bytes, seeds[i].size, WARM_TIMEOUT_NS, &result, err);
        if (rc < 0)
            break;
        rc = warm_take(&after, &view);
        if (rc == 0)
            rc = warm_add_new(cold, &before, &after);
    }
    warm_fini(&before);
    warm_fini(&after);
    if (rc == -ENOMEM)
        return err_sys(err, rc, "the pages that runs need");
    return rc < 0 ? rc : executor_put_back(ex, err);
}

/* Has the agent make pages present, and come back to its root. */
static int give_warm(
    struct executor *ex, const struct warm_list *cold, struct err *err)
{
    const struct agent_range *at = &ex->agent.warm;
    struct guest_view view = runner_view(ex->runner);
    uint64_t count = num_min(cold->count, FUZZ_ABI_WARM_MAX);
    struct fuzz_result result = {0};
    enum calls_outcome outcome = CALLS_END;
    int rc;

    view.regs = ex->agent.space;
    rc = guest_view_write(
        &view, at->at, cold->pages, count * sizeof(cold->pages[0]));
    if (rc < 0)
        return err_set(err, EPROTO, "the agent's list of pages is gone");
    calls_begin(&ex->calls);
    ex->calls.is_fuzzing = false;
    ex->runner->is_held = false;
    rc = answer(ex, count, err);
    if (rc == 0)
        rc = executor_go(
            ex, clock_now_ns() + WARM_TIMEOUT_NS, &result, &outcome, err);
    if (rc < 0)
        return rc;
    if (outcome != CALLS_ROOT)
        return err_set(err, EPROTO,
            "the agent does not come back to its root: %.160s", ex->calls.text);
    return 0;
}

static int warm(struct executor *ex, const struct executor_options *options,
    struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0;
         rc == 0 && ex->agent.warm.count > 0 && i < WARM_ROUNDS_MAX; i++) {
        struct warm_list cold = {0};

        rc = find_cold(ex, options, &cold, err);
        if (rc == 0 && cold.count == 0) {
            warm_fini(&cold);
            break;
        }
        if (rc == 0)
            rc = give_warm(ex, &cold, err);
        if (rc == 0)
            rc = take_root(ex, err);
        warm_fini(&cold);
    }
    return rc;
}

/* ---- making one ---------------------------------------------------------- */

static int prepare(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err)
{
    struct calls_config config = {.print_fd = options->print_fd,
        .share_fd = -1,
        .dump_fd = -1,
        .worker = options->worker,
        .stops_at_report = options->stops_at_report,
        .text_max = EXECUTOR_TEXT_MAX};
    struct executor *ex = calloc(1, sizeof(*ex));
    int rc;

    if (ex == NULL)
        return err_sys(err, ENOMEM, "an executor");
    ex->share_fd = -1;
    ex->dump_fd = -1;
    ex->dir = strdup(target->dir);
    rc = ex->dir == NULL ? err_sys(err, ENOMEM, "an executor")
                         : calls_init(&ex->calls, &config, err);
    if (rc < 0) {
        free(ex->dir);
        free(ex);
        return rc;
    }
    *ret_ex = ex;
    return 0;
}

/* What the agent sends for and leaves behind while it gets ready. */
static int open_folders(struct executor *ex, struct err *err)
{
    ex->share_fd = open(ex->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (ex->share_fd < 0)
        return err_sys(err, errno, "'%s'", ex->dir);
    (void)mkdirat(ex->share_fd, DUMP_FOLDER, 0700);
    ex->dump_fd = openat(ex->share_fd, DUMP_FOLDER,
        O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (ex->dump_fd < 0)
        return err_sys(err, errno, "'%s/%s'", ex->dir, DUMP_FOLDER);
    ex->calls.config.share_fd = ex->share_fd;
    ex->calls.config.dump_fd = ex->dump_fd;
    return 0;
}

static int run_to_root(
    struct executor *ex, const struct fuzz_target *target, struct err *err)
{
    uint64_t deadline_ns =
        clock_now_ns() + target->boot_timeout_ms * (CLOCK_NS_PER_S / 1000);
    struct fuzz_result result = {0};
    enum calls_outcome outcome = CALLS_END;
    int rc = executor_go(ex, deadline_ns, &result, &outcome, err);

    if (rc < 0)
        return rc;
    if (outcome == CALLS_ROOT)
        return 0;
    if (result.verdict == FUZZ_HANG) {
        executor_add_console(ex, "");
        return err_set(err, ETIMEDOUT,
            "the target has not come to its root after %llu ms: %.300s",
            (unsigned long long)target->boot_timeout_ms, ex->calls.text);
    }
    return err_set(err, EPROTO, "the target does not come to its root: %.400s",
        ex->calls.text);
}

/* The map and the input are in the snapshot, and empty there. */
static void clear_kept(struct executor *ex)
{
    static const uint8_t zeroes[NUM_PAGE_SIZE];
    const struct agent_range *map = &ex->agent.map;

    fuzz_agent_put_input(&ex->agent, &ex->runner->machine.mem, zeroes, 0);
    for (uint32_t i = 0; i < map->count; i++)
        gmem_poke_page(
            &ex->runner->machine.mem, map->pages[i], 0, zeroes, sizeof(zeroes));
}

/* What the guest starts from: a share directory of Nyx needs a shell. */
static int make_initrd(struct executor *ex, const struct fuzz_target *target,
    struct image_source *ret_initrd, struct err *err)
{
    struct image_source initrd = {.kind = IMAGE_BYTES,
        .name = "the fuzz guest's initrd",
        .data = fuzz_image_init,
        .size = (size_t)(fuzz_image_init_end - fuzz_image_init)};

    if (target->is_nyx) {
        int rc =
            share_initrd_make(ex->share_fd, &ex->initrd, &initrd.size, err);

        if (rc < 0)
            return rc;
        initrd.data = ex->initrd;
    }
    *ret_initrd = initrd;
    return 0;
}

int executor_boot(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err)
{
    struct image_source initrd;
    struct executor *ex;
    int rc = prepare(target, options, &ex, err);

    if (rc < 0)
        return rc;
    rc = open_folders(ex, err);
    if (rc == 0)
        rc = make_initrd(ex, target, &initrd, err);
    if (rc == 0)
        rc = runner_boot(target, &initrd, options->print_fd, &ex->runner, err);
    if (rc == 0)
        rc = run_to_root(ex, target, err);
    if (rc == 0)
        rc = take_root(ex, err);
    if (rc == 0 && ex->calls.has_acquire)
        rc = move_root(ex, err);
    if (rc == 0)
        rc = warm(ex, options, err);
    if (rc < 0) {
        executor_free(ex);
        return rc;
    }
    clear_kept(ex);
    *ret_ex = ex;
    return 0;
}

int executor_save(struct executor *ex, struct err *err)
{
    const struct machine_snapshot_options options = {
        .name = FUZZ_TARGET_ROOT, .sync = true};
    char path[4096];
    struct snapshot_id id;
    struct store store;
    int rc;

    assert(ex->map.bytes == NULL && ex->cmp_map.bytes == NULL);
    if (snprintf(path, sizeof(path), "%s/%s", ex->dir, FUZZ_TARGET_STORE) >=
        (int)sizeof(path))
        return err_set(err, ENAMETOOLONG, "'%.200s...'", ex->dir);
    rc = executor_put_back(ex, err);
    if (rc == 0)
        rc = vcpu_settle(&ex->runner->machine.vcpus[0]);
    if (rc < 0)
        return rc;
    rc = store_open(&store, path, true, err);
    if (rc < 0)
        return rc;
    if (store_find(&store, FUZZ_TARGET_ROOT, &id, err) == 0)
        rc = store_remove(&store, &id, err);
    if (rc == 0)
        rc = machine_snapshot_paused(
            &ex->runner->machine, &store, &options, &id, err);
    store_close(&store);
    return rc == 0 ? fuzz_agent_save(&ex->agent, ex->dir, err) : rc;
}

int executor_open(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err)
{
    struct guest_view view;
    struct executor *ex;
    int rc = prepare(target, options, &ex, err);

    if (rc < 0)
        return rc;
    rc = runner_restore(target, options->print_fd, &ex->runner, err);
    if (rc == 0) {
        view = runner_view(ex->runner);
        rc = fuzz_agent_load(&ex->agent, ex->dir, &view, err);
    }
    if (rc == 0)
        ex->runner->cancel = options->cancel;
    /* Registers of the last stop are there once there was one. */
    if (rc == 0)
        rc = vcpu_settle(&ex->runner->machine.vcpus[0]);
    if (rc == 0)
        rc = init_reset(ex, err);
    ex->has_levels = rc == 0 && options->levels && target->levels;
    if (ex->has_levels)
        rc = levels_init(
            &ex->levels, executor_input_max(ex), executor_map_size(ex), err);
    if (rc < 0) {
        executor_free(ex);
        return rc;
    }
    *ret_ex = ex;
    return 0;
}
