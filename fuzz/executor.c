/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/executor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/agent.h"
#include "fuzz/calls.h"
#include "fuzz/entry_pages.h"
#include "fuzz/runner.h"
#include "fuzz/warm.h"
#include "guest/fuzz_image.h"
#include "snapshot/hash.h"
#include "snapshot/reset.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/machine_snapshot.h"

#define HOT_MAX 4096u

/* Rounds in which runs may need pages that those before did not. */
#define WARM_ROUNDS_MAX 6u
#define WARM_TIMEOUT_NS (20 * CLOCK_NS_PER_S)

#define DUMP_FOLDER "dump"

/* Memory that is laid under the guest's pages. */
struct laid {
    uint8_t *bytes;
    bool is_own; /* mapped here */
};

struct executor {
    struct runner *runner;
    char *dir;
    struct agent agent;
    struct calls calls;
    int share_fd;
    int dump_fd;
    struct reset reset;
    bool has_reset;
    bool is_used; /* a run has left the guest somewhere else */
    bool clears;  /* the map, before each run */
    struct laid map;
    struct laid cmp_map;
    uint64_t runs;
};

/* ---- memory that is shared ----------------------------------------------- */

static size_t whole_pages(uint64_t size)
{
    return (size_t)num_div_up(size, NUM_PAGE_SIZE) * NUM_PAGE_SIZE;
}

static void unlay(struct laid *laid, uint64_t size)
{
    if (laid->is_own)
        (void)munmap(laid->bytes, whole_pages(size));
    *laid = (struct laid){0};
}

static int lay(struct executor *ex, const struct agent_range *range,
    struct laid *laid, void *shared, struct err *err)
{
    bool is_own = shared == NULL;

    if (range->count == 0)
        return err_set(err, EINVAL, "the target has no such map");
    if (is_own)
        shared = mmap(NULL, whole_pages(range->size), PROT_READ | PROT_WRITE,
            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return err_sys(err, errno, "the coverage map");
    unlay(laid, range->size);
    *laid = (struct laid){.bytes = shared, .is_own = is_own};
    for (uint32_t i = 0; i < range->count; i++) {
        int rc = gmem_lay_page(&ex->runner->machine.mem, range->pages[i],
            laid->bytes + (size_t)i * NUM_PAGE_SIZE);

        if (rc < 0)
            return err_sys(err, rc, "the coverage map");
    }
    return 0;
}

int executor_lay_map(
    struct executor *ex, void *shared, bool clears, struct err *err)
{
    ex->clears = clears;
    return lay(ex, &ex->agent.map, &ex->map, shared, err);
}

int executor_lay_cmp_map(struct executor *ex, void *shared, struct err *err)
{
    return lay(ex, &ex->agent.cmp_map, &ex->cmp_map, shared, err);
}

uint8_t *executor_map(const struct executor *ex)
{
    return ex->map.bytes;
}

size_t executor_map_size(const struct executor *ex)
{
    return (size_t)ex->agent.map.size;
}

size_t executor_cmp_map_size(const struct executor *ex)
{
    return (size_t)ex->agent.cmp_map.size;
}

size_t executor_input_max(const struct executor *ex)
{
    return (size_t)ex->agent.input.size;
}

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

    rc = agent_kept_pages(&ex->agent, &kept, &config.kept_count);
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
        ex->agent.has_counter |= timer.initial != 0;
        ex->agent.has_deadline |= timer.deadline != 0;
        rc = vcpu_state_set(vcpu, state, parts, err);
    }
    free(state);
    return rc;
}

/* What a run that lasts finds its timer at: due. */
static void hold_timer(struct executor *ex)
{
    ex->runner->held =
        (struct vcpu_timer){.initial = ex->agent.has_counter ? 1 : 0,
            .current = 1,
            .deadline = ex->agent.has_deadline ? 1 : 0};
    ex->runner->is_held = ex->agent.has_counter || ex->agent.has_deadline;
}

/* ---- runs ---------------------------------------------------------------- */

static int put_back(struct executor *ex, struct err *err)
{
    int rc;

    if (!ex->is_used)
        return 0;
    rc = reset_to_top(&ex->reset, err);
    if (rc < 0)
        return rc;
    reset_resume(&ex->reset);
    if (ex->runner->machine.has_ended)
        machine_revive(&ex->runner->machine);
    ex->is_used = false;
    return 0;
}

static void add_console(struct executor *ex, const char *text)
{
    char tail[CONSOLE_TAIL_MAX];
    size_t len = console_tail(&ex->runner->console, tail, sizeof(tail));

    calls_add_text(&ex->calls, text, strlen(text));
    calls_add_text(&ex->calls, "\n", 1);
    calls_add_text(&ex->calls, tail, len);
}

/*
 * Lets the guest run to a call that the caller has to see. A failure of the
 * host is an error; the end of a run is CALLS_END.
 */
static int go(struct executor *ex, uint64_t deadline_ns,
    struct fuzz_result *result, enum calls_outcome *ret_outcome,
    struct err *err)
{
    const struct kvm_regs *regs = runner_regs(ex->runner);

    for (;;) {
        struct guest_view view;
        const char *text;
        uint64_t rax;

        switch (runner_go(ex->runner, deadline_ns, &text, err)) {
        case RUNNER_CALLED:
            view = runner_view(ex->runner);
            *ret_outcome = calls_serve(&ex->calls, &ex->agent, &view, regs->rbx,
                regs->rcx, result, &rax);
            if (*ret_outcome != CALLS_GO_ON)
                return 0;
            runner_answer(ex->runner, rax);
            break;
        case RUNNER_TIME_UP:
            result->verdict = FUZZ_HANG;
            *ret_outcome = CALLS_END;
            return 0;
        case RUNNER_ENDED:
            result->verdict = FUZZ_CRASH;
            add_console(ex, text);
            *ret_outcome = CALLS_END;
            return 0;
        case RUNNER_FAILED:
        default:
            return -EIO;
        }
    }
}

static void clear_map(struct executor *ex)
{
    if (ex->map.bytes != NULL && ex->clears)
        memset(ex->map.bytes, 0, (size_t)ex->agent.map.size);
}

static int run(struct executor *ex, const void *input, size_t size,
    uint64_t timeout_ns, struct fuzz_result *result, struct err *err)
{
    uint64_t pages = ex->reset.stats.pages;
    uint64_t from_ns = clock_now_ns();
    enum calls_outcome outcome;
    uint64_t run_ns;
    int rc = put_back(ex, err);

    if (rc < 0)
        return rc;
    *result = (struct fuzz_result){
        .pages = (uint32_t)(ex->reset.stats.pages - pages)};
    calls_begin(&ex->calls);
    agent_put_input(&ex->agent, &ex->runner->machine.mem, input, size);
    clear_map(ex);
    hold_timer(ex);
    ex->is_used = true;
    ex->runs++;
    run_ns = clock_now_ns();
    result->reset_ns = run_ns - from_ns;
    do {
        rc = go(ex, run_ns + timeout_ns, result, &outcome, err);
        if (rc < 0)
            return rc;
        if (outcome == CALLS_LEVEL)
            runner_answer(ex->runner, 0);
    } while (outcome == CALLS_LEVEL);
    /* An agent that asks for its next input has done with this one. */
    result->run_ns = clock_now_ns() - run_ns;
    return 0;
}

int executor_run(struct executor *ex, const void *input, size_t size,
    uint64_t timeout_us, struct fuzz_result *ret_result, struct err *err)
{
    int rc = 0;

    if (ex->map.bytes == NULL && ex->agent.map.count > 0)
        rc = executor_lay_map(ex, NULL, true, err);
    return rc < 0 ? rc
                  : run(ex, input, size, timeout_us * 1000, ret_result, err);
}

const char *executor_text(const struct executor *ex, size_t *ret_size)
{
    *ret_size = ex->calls.text_len;
    return ex->calls.text;
}

struct executor_stats executor_stats(const struct executor *ex)
{
    return (struct executor_stats){.runs = ex->runs,
        .resets = ex->reset.stats.resets,
        .pages = ex->reset.stats.pages,
        .hot = ex->reset.stats.hot,
        .entered = ex->reset.stats.entered,
        .flushes = ex->reset.stats.flushes};
}

int executor_push(struct executor *ex, struct err *err)
{
    int rc = vcpu_settle(&ex->runner->machine.vcpus[0]);

    if (rc < 0)
        return err_sys(err, rc, "the guest at a level");
    rc = reset_push(&ex->reset, err);
    if (rc == 0)
        ex->is_used = false;
    return rc;
}

int executor_pop_to(struct executor *ex, uint32_t level, struct err *err)
{
    int rc = reset_to_level(&ex->reset, level, err);

    if (rc < 0)
        return rc;
    reset_resume(&ex->reset);
    if (ex->runner->machine.has_ended)
        machine_revive(&ex->runner->machine);
    ex->is_used = false;
    return 0;
}

uint32_t executor_level(const struct executor *ex)
{
    return reset_level(&ex->reset);
}

int executor_hash(struct executor *ex, uint64_t *ret_hash, struct err *err)
{
    const struct gmem *mem = &ex->runner->machine.mem;
    struct hash_stream stream;
    struct hash128 hash;
    uint8_t page[NUM_PAGE_SIZE];
    int rc = put_back(ex, err);

    if (rc == 0)
        rc = hash_stream_init(&stream);
    if (rc < 0)
        return rc;
    for (uint64_t i = 0; i < gmem_page_count(mem); i++) {
        if (bitmap_test(&ex->reset.kept, i))
            continue;
        gmem_copy_pages(mem, i, 1, page);
        hash_stream_add(&stream, page, sizeof(page));
    }
    hash = hash_stream_end(&stream);
    hash_stream_fini(&stream);
    memcpy(ret_hash, hash.b, sizeof(*ret_hash));
    return 0;
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

        rc = run(
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
    return rc < 0 ? rc : put_back(ex, err);
}

static int make_root(struct executor *ex, struct err *err)
{
    int rc;

    if (ex->has_reset)
        reset_fini(&ex->reset);
    ex->has_reset = false;
    ex->is_used = false;
    rc = answer(ex, 0, err);
    if (rc == 0)
        rc = stop_timer(ex, err);
    return rc == 0 ? init_reset(ex, err) : rc;
}

/* Has the agent make pages present, and come back to its root. */
static int give_warm(
    struct executor *ex, const struct warm_list *cold, struct err *err)
{
    const struct agent_range *at = &ex->agent.warm;
    struct guest_view view = runner_view(ex->runner);
    uint64_t count = num_min(cold->count, FUZZ_ABI_WARM_MAX);
    struct fuzz_result result = {0};
    enum calls_outcome outcome;
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
        rc = go(ex, clock_now_ns() + WARM_TIMEOUT_NS, &result, &outcome, err);
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
            rc = make_root(ex, err);
        warm_fini(&cold);
    }
    return rc;
}

/* ---- making one ---------------------------------------------------------- */

void executor_free(struct executor *ex)
{
    if (ex == NULL)
        return;
    if (ex->has_reset)
        reset_fini(&ex->reset);
    unlay(&ex->map, ex->agent.map.size);
    unlay(&ex->cmp_map, ex->agent.cmp_map.size);
    runner_free(ex->runner);
    agent_fini(&ex->agent);
    calls_fini(&ex->calls);
    fd_closep(&ex->share_fd);
    fd_closep(&ex->dump_fd);
    free(ex->dir);
    free(ex);
}

static int prepare(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err)
{
    struct calls_config config = {.print_fd = options->print_fd,
        .share_fd = -1,
        .dump_fd = -1,
        .worker = options->worker,
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
    enum calls_outcome outcome;
    int rc = go(ex, deadline_ns, &result, &outcome, err);

    if (rc < 0)
        return rc;
    if (outcome == CALLS_ROOT)
        return 0;
    if (result.verdict == FUZZ_HANG) {
        add_console(ex, "");
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

    agent_put_input(&ex->agent, &ex->runner->machine.mem, zeroes, 0);
    for (uint32_t i = 0; i < map->count; i++)
        gmem_poke_page(
            &ex->runner->machine.mem, map->pages[i], 0, zeroes, sizeof(zeroes));
}

int executor_boot(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err)
{
    const struct image_source initrd = {.kind = IMAGE_BYTES,
        .name = "the fuzz guest's initrd",
        .data = fuzz_image_init,
        .size = (size_t)(fuzz_image_init_end - fuzz_image_init)};
    struct executor *ex;
    int rc = prepare(target, options, &ex, err);

    if (rc < 0)
        return rc;
    rc = open_folders(ex, err);
    if (rc == 0)
        rc = runner_boot(target, &initrd, options->print_fd, &ex->runner, err);
    if (rc == 0)
        rc = run_to_root(ex, target, err);
    if (rc == 0)
        rc = make_root(ex, err);
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
    rc = put_back(ex, err);
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
    return rc == 0 ? agent_save(&ex->agent, ex->dir, err) : rc;
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
        rc = agent_load(&ex->agent, ex->dir, &view, err);
    }
    /* Registers of the last stop are there once there was one. */
    if (rc == 0)
        rc = vcpu_settle(&ex->runner->machine.vcpus[0]);
    if (rc == 0)
        rc = init_reset(ex, err);
    if (rc < 0) {
        executor_free(ex);
        return rc;
    }
    *ret_ex = ex;
    return 0;
}
