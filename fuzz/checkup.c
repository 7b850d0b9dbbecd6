/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/checkup.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fuzz/bundle.h"
#include "vmm/base/clock.h"
#include "vmm/base/num.h"

/* Runs of each input that are not measured: they find the hot pages. */
#define WARMUP_RUNS 3u

/* Beyond these it is said. */
#define PAGES_MANY 1000u
#define MAP_LARGE  (UINT64_C(256) * NUM_KIB)
#define RUN_SLOW   (20 * CLOCK_NS_PER_MS)

struct numbers {
    uint64_t *pages;
    uint64_t *run_ns;
    uint64_t *reset_ns;
    uint32_t count;
};

/* What the first run of an input left behind. */
struct first {
    uint8_t *map; /* NULL: not yet, or there is no map */
    uint64_t ram;
    bool has_ram;
};

struct probe {
    struct executor *ex;
    const struct checkup_options *options;
    struct checkup *c;
    struct numbers numbers;
    struct first *firsts; /* one for each input */
    uint8_t *map;
    size_t map_bytes; /* of whole pages */
    struct err *err;
};

static void add_finding(struct checkup *c, bool is_wrong, const char *fmt, ...)
    CC_PRINTF(3, 4);

static void add_finding(struct checkup *c, bool is_wrong, const char *fmt, ...)
{
    struct checkup_finding *f;
    va_list args;

    if (c->finding_count == CHECKUP_FINDINGS_MAX)
        return;
    f = &c->findings[c->finding_count++];
    f->is_wrong = is_wrong;
    va_start(args, fmt);
    (void)vsnprintf(f->text, sizeof(f->text), fmt, args);
    va_end(args);
}

/* ---- numbers ------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static struct checkup_spread spread(uint64_t *numbers, uint32_t count)
{
    struct checkup_spread s = {0};

    if (count == 0)
        return s;
    qsort(numbers, count, sizeof(*numbers), by_size);
    s.median = numbers[count / 2];
    s.p99 = numbers[(uint64_t)count * 99 / 100];
    return s;
}

static bool make_numbers(struct numbers *n, uint32_t count)
{
    n->pages = calloc(count, sizeof(*n->pages));
    n->run_ns = calloc(count, sizeof(*n->run_ns));
    n->reset_ns = calloc(count, sizeof(*n->reset_ns));
    return n->pages != NULL && n->run_ns != NULL && n->reset_ns != NULL;
}

static void free_numbers(struct numbers *n)
{
    free(n->pages);
    free(n->run_ns);
    free(n->reset_ns);
}

/* ---- runs ---------------------------------------------------------------- */

static uint32_t count_edges(const uint8_t *map, size_t size)
{
    uint32_t count = 0;

    for (size_t i = 0; i < size; i++)
        count += map[i] != 0 ? 1 : 0;
    return count;
}

static int compare_map(struct probe *p, struct first *first)
{
    struct checkup *c = p->c;
    uint32_t edges;

    if (c->map_size == 0)
        return 0;
    edges = count_edges(p->map, c->map_size);
    if (edges > c->map_edges)
        c->map_edges = edges;
    if (first->map == NULL) {
        first->map = malloc(c->map_size);
        if (first->map == NULL)
            return err_sys(p->err, ENOMEM, "a coverage map");
        memcpy(first->map, p->map, c->map_size);
        return 0;
    }
    c->map_compared++;
    c->map_differs += memcmp(first->map, p->map, c->map_size) != 0 ? 1 : 0;
    return 0;
}

static int compare_ram(struct probe *p, struct first *first)
{
    uint64_t hash = 0;
    int rc = executor_hash(p->ex, &hash, p->err);

    if (rc < 0)
        return rc;
    if (first->has_ram) {
        p->c->ram_compared++;
        p->c->ram_differs += first->ram != hash ? 1 : 0;
    }
    first->ram = hash;
    first->has_ram = true;
    return 0;
}

static int run(struct probe *p, size_t i, struct fuzz_result *ret_result)
{
    const struct fuzz_input *input = &p->options->inputs->list[i];
    int rc =
        executor_run(p->ex, input->bytes, num_min(input->size, p->c->input_max),
            p->options->timeout_us, ret_result, p->err);

    return rc < 0 ? err_wrap(p->err, rc, "%s", p->options->inputs->names[i])
                  : 0;
}

/* The first runs of each input; one that ends badly is told of. */
static int warm_up(struct probe *p)
{
    const struct inputs *inputs = p->options->inputs;

    for (size_t i = 0; i < inputs->count; i++) {
        struct fuzz_result result = {0};
        size_t text_size;

        for (uint32_t k = 0; k < WARMUP_RUNS; k++) {
            int rc = run(p, i, &result);

            if (rc < 0)
                return rc;
        }
        if (result.verdict != FUZZ_OK)
            add_finding(p->c, true,
                "%.100s ends as %s (%.120s): afl-fuzz wants inputs that do "
                "not; spore fuzz repro shows all of it",
                inputs->names[i], bundle_verdict_name(result.verdict),
                executor_text(p->ex, &text_size));
    }
    return 0;
}

static int measure_one(struct probe *p, uint32_t i)
{
    size_t which = i % p->options->inputs->count;
    struct numbers *n = &p->numbers;
    struct fuzz_result result = {0};
    int rc = run(p, which, &result);

    if (rc < 0)
        return rc;
    n->pages[n->count] = result.pages;
    n->run_ns[n->count] = result.run_ns;
    n->reset_ns[n->count++] = result.reset_ns;
    p->c->bad_ends += result.verdict != FUZZ_OK ? 1 : 0;
    return compare_map(p, &p->firsts[which]);
}

/* Hashes take long, and are no part of what runs cost. */
static int compare_runs(struct probe *p)
{
    size_t inputs = num_min(p->options->inputs->count, p->options->ram_runs);

    for (uint32_t i = 0; inputs > 0 && i < p->options->ram_runs; i++) {
        struct fuzz_result result = {0};
        int rc = run(p, i % inputs, &result);

        if (rc == 0)
            rc = compare_ram(p, &p->firsts[i % inputs]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int measure(struct probe *p)
{
    struct executor_stats before;
    uint64_t begin;
    int rc = warm_up(p);

    before = executor_stats(p->ex);
    begin = clock_now_ns();
    for (uint32_t i = 0; rc == 0 && i < p->options->runs; i++)
        rc = measure_one(p, i);
    p->c->wall_ns = clock_now_ns() - begin;
    p->c->entered = (uint32_t)(executor_stats(p->ex).entered - before.entered);
    return rc == 0 ? compare_runs(p) : rc;
}

static int lay_map(struct probe *p)
{
    void *map;

    if (p->c->map_size == 0)
        return 0;
    p->map_bytes = num_align_up(p->c->map_size, NUM_PAGE_SIZE);
    map = mmap(NULL, p->map_bytes, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return err_sys(p->err, errno, "a coverage map");
    p->map = map;
    return executor_lay_map(p->ex, map, true, p->err);
}

int checkup_run(struct executor *ex, const struct checkup_options *options,
    struct checkup *ret_checkup, struct err *err)
{
    size_t inputs = options->inputs->count;
    struct probe p = {.ex = ex, .options = options, .err = err};
    int rc = 0;

    p.c = calloc(1, sizeof(*p.c));
    p.firsts = calloc(inputs, sizeof(*p.firsts));
    if (p.c == NULL || p.firsts == NULL ||
        !make_numbers(&p.numbers, options->runs))
        rc = err_sys(err, ENOMEM, "measurements");
    if (rc == 0) {
        p.c->map_size = executor_map_size(ex);
        p.c->input_max = executor_input_max(ex);
        rc = lay_map(&p);
    }
    if (rc == 0)
        rc = measure(&p);
    if (rc == 0) {
        p.c->runs = p.numbers.count;
        p.c->pages = spread(p.numbers.pages, p.numbers.count);
        p.c->run_ns = spread(p.numbers.run_ns, p.numbers.count);
        p.c->reset_ns = spread(p.numbers.reset_ns, p.numbers.count);
        checkup_judge(p.c);
        *ret_checkup = *p.c;
    }
    for (size_t i = 0; p.firsts != NULL && i < inputs; i++)
        free(p.firsts[i].map);
    free(p.firsts);
    free_numbers(&p.numbers);
    free(p.c);
    return rc;
}

/* ---- judgement ----------------------------------------------------------- */

static void judge_map(struct checkup *c)
{
    if (c->map_size == 0)
        add_finding(c, true,
            "there is no coverage map, so that afl-fuzz is blind: build the "
            "program with afl-clang-fast and pack it again");
    else if (c->map_edges == 0)
        add_finding(c, true,
            "the map is empty after runs: no instrumented code is behind the "
            "root; instrument the code that reads the input, or call "
            "__AFL_INIT before it");
    if (c->map_size > MAP_LARGE)
        add_finding(c, false,
            "the map has %zu KiB, which afl-fuzz goes through for each run: "
            "instrument only what is to be fuzzed (AFL_LLVM_ALLOWLIST)",
            c->map_size / 1024);
    if (c->map_differs > 0)
        add_finding(c, true,
            "the map differs in %u of %u runs of the same input: something "
            "outside the input decides, such as threads or what was computed "
            "before the root; make it the same (--conf clock=, one thread)",
            c->map_differs, c->map_compared);
    else if (c->ram_differs > 0)
        add_finding(c, false,
            "memory differs after %u of %u runs of the same input, though the "
            "map does not: clocks of the guest's kernel do that",
            c->ram_differs, c->ram_compared);
}

void checkup_judge(struct checkup *c)
{
    judge_map(c);
    if (c->runs == 0)
        return;
    if (c->entered > c->runs / 100)
        add_finding(c, false,
            "%u of %u runs may have entered the guest's kernel, by system "
            "calls or memory that was not there: take the input from memory "
            "(AFL++'s test cases), print nothing, and give inputs by --seed "
            "when you pack",
            c->entered, c->runs);
    if (c->pages.median > PAGES_MANY)
        add_finding(c, false,
            "%llu pages are put back for a run: begin later (__AFL_INIT), or "
            "have the program write to less memory",
            (unsigned long long)c->pages.median);
    if (c->run_ns.median > RUN_SLOW)
        add_finding(c, false,
            "a run takes %llu ms: begin later (__AFL_INIT), or with smaller "
            "inputs",
            (unsigned long long)(c->run_ns.median / CLOCK_NS_PER_MS));
}
