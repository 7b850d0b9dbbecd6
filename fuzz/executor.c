/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/executor_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "snapshot/hash.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

/* Bytes that AFL++ rounds a map's size up to. */
#define MAP_UNIT 64u

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

    assert(range->at % NUM_PAGE_SIZE == 0);
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

/* What a run that lasts finds its timer at: due. */
static void hold_timer(struct executor *ex)
{
    ex->runner->held = (struct vcpu_timer){.initial = ex->agent.counter,
        .current = 1,
        .deadline = ex->agent.has_deadline ? 1 : 0};
    ex->runner->is_held = ex->agent.counter != 0 || ex->agent.has_deadline;
}

/* ---- runs ---------------------------------------------------------------- */

/* The machine was put back, and can run from there. */
static void stand_again(struct executor *ex)
{
    reset_resume(&ex->reset);
    if (ex->runner->machine.has_ended)
        machine_revive(&ex->runner->machine);
    ex->is_used = false;
}

int executor_put_back(struct executor *ex, struct err *err)
{
    int rc;

    if (!ex->is_used)
        return 0;
    rc = reset_to_top(&ex->reset, err);
    if (rc < 0)
        return rc;
    stand_again(ex);
    return 0;
}

void executor_add_console(struct executor *ex, const char *why)
{
    char tail[CONSOLE_TAIL_MAX];
    size_t len = console_tail(&ex->runner->console, tail, sizeof(tail));

    calls_add_text(&ex->calls, why, strlen(why));
    calls_add_text(&ex->calls, "\n", 1);
    calls_add_text(&ex->calls, tail, len);
}

int executor_go(struct executor *ex, uint64_t deadline_ns,
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
            /* Reports are long where the guest's kernel is interpreted. */
            result->verdict = ex->calls.reports ? FUZZ_SANITIZER : FUZZ_HANG;
            *ret_outcome = CALLS_END;
            return 0;
        case RUNNER_ENDED:
            result->verdict = FUZZ_CRASH;
            executor_add_console(ex, text);
            *ret_outcome = CALLS_END;
            return 0;
        case RUNNER_DEBUG:
            *ret_outcome = CALLS_DEBUG;
            return 0;
        case RUNNER_FAILED:
        default:
            return -EIO;
        }
    }
}

/* AFL++ takes a map for one of whole words, and writes to all of them: what
 * it leaves behind the last edge would be edges of the next run. */
static void clear_map(struct executor *ex)
{
    if (ex->map.bytes != NULL && ex->clears)
        memset(ex->map.bytes, 0,
            (size_t)num_align_up(ex->agent.map.size, MAP_UNIT));
}

int executor_begin(struct executor *ex, const void *input, size_t size,
    struct fuzz_result *ret_result, struct err *err)
{
    uint64_t pages = ex->reset.stats.pages;
    uint64_t from_ns = clock_now_ns();
    int rc = executor_put_back(ex, err);

    if (rc < 0)
        return rc;
    *ret_result = (struct fuzz_result){
        .pages = (uint32_t)(ex->reset.stats.pages - pages)};
    calls_begin(&ex->calls);
    console_forget(&ex->runner->console);
    fuzz_agent_put_input(&ex->agent, &ex->runner->machine.mem, input, size);
    clear_map(ex);
    hold_timer(ex);
    ex->is_used = true;
    ex->runs++;
    ret_result->reset_ns = clock_now_ns() - from_ns;
    return 0;
}

int executor_run_bare(struct executor *ex, const void *input, size_t size,
    uint64_t timeout_ns, struct fuzz_result *ret_result, struct err *err)
{
    enum calls_outcome outcome;
    uint64_t run_ns;
    int rc = executor_begin(ex, input, size, ret_result, err);

    if (rc < 0)
        return rc;
    run_ns = clock_now_ns();
    do {
        rc = executor_go(ex, run_ns + timeout_ns, ret_result, &outcome, err);
        if (rc < 0)
            return rc;
        if (outcome == CALLS_LEVEL)
            runner_answer(ex->runner, 0);
    } while (outcome == CALLS_LEVEL);
    /* An agent that asks for its next input has done with this one. */
    ret_result->run_ns = clock_now_ns() - run_ns;
    return 0;
}

/* ---- levels -------------------------------------------------------------- */

/* Back to the level that a run is to begin at. */
static int pop_to(struct executor *ex, uint32_t level, struct err *err)
{
    int rc;

    if (level == reset_level(&ex->reset))
        return 0;
    rc = reset_to_level(&ex->reset, level, err);
    if (rc < 0)
        return rc;
    stand_again(ex);
    return 0;
}

/* In a run, which then goes on. */
static int push(struct executor *ex, struct err *err)
{
    int rc = vcpu_settle(&ex->runner->machine.vcpus[0]);

    if (rc < 0)
        return err_sys(err, rc, "the guest at a level");
    rc = reset_push(&ex->reset, err);
    if (rc < 0)
        return rc;
    levels_pushed(&ex->levels, ex->map.bytes);
    ex->pushes++;
    return 0;
}

/*
 * Not once the run has reported something, which a run from the level would
 * not, nor with a timer of the guest's running.
 */
static bool may_push(const struct executor *ex)
{
    return !ex->calls.reports && ex->calls.text_len == 0 &&
           (ex->runner->is_held ||
               (ex->agent.counter == 0 && !ex->agent.has_deadline));
}

/* The coverage of what is not run again. */
static void begin_map(struct executor *ex)
{
    const uint8_t *map = levels_map(&ex->levels);

    if (map != NULL && ex->map.bytes != NULL)
        memcpy(ex->map.bytes, map, (size_t)ex->agent.map.size);
}

/* As executor_run_bare, but from the highest level that there is. */
static int run_on_level(struct executor *ex, const void *input, size_t size,
    uint64_t timeout_ns, struct fuzz_result *ret_result, struct err *err)
{
    uint32_t level = levels_begin(&ex->levels, input, size);
    enum calls_outcome outcome = CALLS_LEVEL;
    uint64_t deadline_ns;
    uint64_t run_ns;
    int rc = pop_to(ex, level, err);

    if (rc == 0)
        rc = executor_begin(ex, input, size, ret_result, err);
    if (rc < 0)
        return rc;
    begin_map(ex);
    ex->runs_on_levels += level > 0;
    run_ns = clock_now_ns();
    deadline_ns = run_ns + timeout_ns;
    while (outcome == CALLS_LEVEL) {
        uint64_t from_ns;

        rc = executor_go(ex, deadline_ns, ret_result, &outcome, err);
        if (rc < 0)
            return rc;
        if (outcome != CALLS_LEVEL)
            break;
        runner_answer(ex->runner, 0);
        if (!levels_reach(&ex->levels, ex->calls.level) || !may_push(ex))
            continue;
        from_ns = clock_now_ns();
        rc = push(ex, err);
        if (rc < 0)
            return rc;
        /* That is no time of the guest's. */
        deadline_ns += clock_now_ns() - from_ns;
    }
    ret_result->run_ns = clock_now_ns() - run_ns;
    return 0;
}

int executor_run(struct executor *ex, const void *input, size_t size,
    uint64_t timeout_us, struct fuzz_result *ret_result, struct err *err)
{
    int rc = 0;

    if (ex->map.bytes == NULL && ex->agent.map.count > 0)
        rc = executor_lay_map(ex, NULL, true, err);
    if (rc < 0)
        return rc;
    /* What CmpLog has written down of a beginning would have to be kept, too.
     */
    if (ex->has_levels && ex->cmp_map.bytes == NULL)
        return run_on_level(
            ex, input, size, timeout_us * 1000, ret_result, err);
    return executor_run_bare(
        ex, input, size, timeout_us * 1000, ret_result, err);
}

int executor_read_on(struct executor *ex, uint64_t timeout_us, struct err *err)
{
    uint64_t deadline_ns = clock_now_ns() + timeout_us * 1000;
    enum calls_outcome outcome;
    struct fuzz_result unused = {.verdict = FUZZ_OK};
    int rc;

    if (ex->calls.report != CALLS_AT_REPORT)
        return 0;
    ex->calls.report = CALLS_READ_ON;
    do {
        runner_answer(ex->runner, 0);
        rc = executor_go(ex, deadline_ns, &unused, &outcome, err);
    } while (rc == 0 && outcome == CALLS_LEVEL);
    return rc;
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
        .flushes = ex->reset.stats.flushes,
        .levels = ex->pushes,
        .runs_on_levels = ex->runs_on_levels};
}

int executor_hash_now(struct executor *ex, uint64_t *ret_hash, struct err *err)
{
    const struct gmem *mem = &ex->runner->machine.mem;
    struct hash_stream stream;
    struct hash128 hash;
    uint8_t page[NUM_PAGE_SIZE];
    int rc = hash_stream_init(&stream);

    if (rc < 0)
        return err_sys(err, rc, "a hash of the guest's memory");
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

int executor_hash(struct executor *ex, uint64_t *ret_hash, struct err *err)
{
    int rc = executor_put_back(ex, err);

    return rc < 0 ? rc : executor_hash_now(ex, ret_hash, err);
}

void executor_free(struct executor *ex)
{
    if (ex == NULL)
        return;
    if (ex->has_reset)
        reset_fini(&ex->reset);
    levels_fini(&ex->levels);
    unlay(&ex->map, ex->agent.map.size);
    unlay(&ex->cmp_map, ex->agent.cmp_map.size);
    runner_free(ex->runner);
    fuzz_agent_fini(&ex->agent);
    calls_fini(&ex->calls);
    fd_closep(&ex->share_fd);
    fd_closep(&ex->dump_fd);
    free(ex->initrd);
    free(ex->dir);
    free(ex);
}
