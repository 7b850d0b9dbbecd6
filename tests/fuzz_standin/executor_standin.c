/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz/executor.h"
#include "guest/fuzz/abi.h"
#include "tests/fuzz_standin/standin.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define MAP_SIZE 1000u
/* What a guest's run takes at least. afl-fuzz, which counts in whole
 * microseconds, is lost with inputs that take none. */
#define RUN_NS UINT64_C(20000)

/* As in AFL++ 4.04c. */
struct cmp_header {
    uint64_t bits;
};
struct cmp_operands {
    uint64_t v0, v1, v0_128, v1_128;
};
struct cmp_map {
    struct cmp_header headers[65536];
    struct cmp_operands log[65536][32];
};

struct executor {
    char *dir;
    uint8_t *map;
    size_t map_size;
    bool clears;
    bool owns_map;
    bool has_cmp;
    struct cmp_map *cmp;
    const uint32_t *cancel;
    bool stops_at_report;
    bool is_at_report;
    char *text;
    size_t text_size;
};

static char *path_of(const char *dir, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static size_t read_number(const char *dir, const char *name, size_t otherwise)
{
    char *path = path_of(dir, name);
    uint8_t *text = NULL;
    size_t size;
    uint64_t n = otherwise;

    if (fd_read_file(path, 32, &text, &size, NULL) == 0)
        (void)!num_take_digits((const char *)text, &n);
    free(text);
    free(path);
    return n;
}

static int make(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err)
{
    struct executor *ex = calloc(1, sizeof(*ex));
    char *cmp = path_of(target->dir, "cmp");

    if (ex == NULL)
        return err_sys(err, ENOMEM, "executor");
    ex->dir = strdup(target->dir);
    ex->map_size = read_number(target->dir, "map-size", MAP_SIZE);
    ex->text = malloc(EXECUTOR_TEXT_MAX + 1);
    ex->map = mmap(NULL, ex->map_size + 1, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ex->owns_map = true;
    ex->clears = true;
    ex->has_cmp = access(cmp, F_OK) == 0;
    free(cmp);
    ex->cancel = options->cancel;
    ex->stops_at_report = options->stops_at_report;
    *ret_ex = ex;
    return 0;
}

int executor_boot(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err)
{
    char *path = path_of(target->dir, "never-boots");
    bool never = access(path, F_OK) == 0;

    free(path);
    return never ? err_set(err, ETIMEDOUT, "the stand-in does not boot")
                 : make(target, options, ret_ex, err);
}

int executor_save(struct executor *ex, struct err *err)
{
    char *dir = path_of(ex->dir, FUZZ_TARGET_STORE);
    char *path = path_of(dir, FUZZ_TARGET_ROOT);
    CC_CLEANUP(fd_closep) int fd = -1;

    (void)mkdir(dir, 0700);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    free(path);
    free(dir);
    if (fd < 0 || fd_write_full(fd, "saved\n", 6) < 0)
        return err_sys(err, errno, "stand-in root");
    return 0;
}

int executor_open(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err)
{
    char *path = path_of(target->dir, FUZZ_TARGET_STORE "/" FUZZ_TARGET_ROOT);
    bool is_there = access(path, F_OK) == 0;

    free(path);
    return is_there ? make(target, options, ret_ex, err)
                    : err_set(err, ENOENT, "there is no root");
}

void executor_free(struct executor *ex)
{
    if (ex == NULL)
        return;
    if (ex->owns_map)
        (void)munmap(ex->map, ex->map_size + 1);
    free(ex->text);
    free(ex->dir);
    free(ex);
}

size_t executor_map_size(const struct executor *ex)
{
    return ex->map_size;
}

size_t executor_input_max(const struct executor *ex)
{
    (void)ex;
    return FUZZ_ABI_INPUT_MAX;
}

int executor_lay_map(
    struct executor *ex, void *shared, bool clears, struct err *err)
{
    (void)err;
    if (ex->owns_map)
        (void)munmap(ex->map, ex->map_size + 1);
    ex->owns_map = false;
    ex->map = shared;
    ex->clears = clears;
    return 0;
}

uint8_t *executor_map(const struct executor *ex)
{
    return ex->owns_map ? NULL : ex->map;
}

size_t executor_cmp_map_size(const struct executor *ex)
{
    return ex->has_cmp ? sizeof(struct cmp_map) : 0;
}

int executor_lay_cmp_map(struct executor *ex, void *shared, struct err *err)
{
    (void)err;
    ex->cmp = shared;
    return 0;
}

/* ---- the "guest" --------------------------------------------------------- */

static bool is(const uint8_t *input, size_t size, const char *word)
{
    return size >= strlen(word) && memcmp(input, word, strlen(word)) == 0;
}

/* How much of `word` the input begins with, each byte an edge. */
static size_t match(struct executor *ex, const uint8_t *input, size_t size,
    const char *word, size_t edge)
{
    size_t i = 0;

    while (word[i] != '\0' && i < size && input[i] == (uint8_t)word[i]) {
        if (edge + i < ex->map_size)
            ex->map[edge + i]++;
        i++;
    }
    return i;
}

/* One comparison of four bytes, as AFL++'s runtime logs it. */
static void log_cmp(struct executor *ex, const uint8_t *input, size_t size)
{
    uint32_t word = 0;
    uint32_t wanted;

    if (ex->cmp == NULL)
        return;
    memcpy(&word, input, num_min(size, sizeof(word)));
    memcpy(&wanted, "FUZZ", sizeof(wanted));
    /* hits 24, id 24, shape 5, type 2 (1: an instruction), attribute 4 (==) */
    ex->cmp->headers[7].bits = UINT64_C(1) | UINT64_C(7) << 24 |
                               UINT64_C(3) << 48 | UINT64_C(1) << 53 |
                               UINT64_C(1) << 55;
    ex->cmp->log[7][0] = (struct cmp_operands){.v0 = word, .v1 = wanted};
}

static void report(struct executor *ex, const char *text)
{
    ex->text_size = strlen(text);
    memcpy(ex->text, text, ex->text_size);
}

static void report_at_length(struct executor *ex)
{
    memset(ex->text, 'r', STANDIN_REPORT);
    ex->text_size = STANDIN_REPORT;
}

/* An edge for each line. */
static void run_lines(struct executor *ex, const uint8_t *input, size_t size)
{
    size_t edge = 100;

    for (size_t i = 0; i < size && edge < ex->map_size; i++) {
        if (input[i] == '\n')
            ex->map[edge++]++;
    }
}

static void run(struct executor *ex, const uint8_t *input, size_t size,
    uint64_t until_ns, struct fuzz_result *result)
{
    if (ex->map_size > 0)
        ex->map[0] = 1;
    log_cmp(ex, input, size);
    if (match(ex, input, size, "FUZZ", 10) == 4) {
        result->verdict = FUZZ_CRASH;
        result->signal = SIGSEGV;
        result->status = SIGSEGV;
        result->rip = 0x401234;
        report(ex, "stand-in: crash at 0x401234\n");
    }
    if (match(ex, input, size, "HANG", 20) == 4) {
        result->verdict = FUZZ_HANG;
        while (clock_now_ns() < until_ns &&
               (ex->cancel == NULL ||
                   __atomic_load_n(ex->cancel, __ATOMIC_RELAXED) == 0))
            ;
    }
    if (is(input, size, "asanasan")) {
        result->verdict = FUZZ_SANITIZER;
        result->signal = SIGABRT;
        result->status = SIGABRT;
        ex->is_at_report = ex->stops_at_report;
        if (!ex->is_at_report)
            report_at_length(ex);
    }
    if (is(input, size, "abortion")) {
        result->verdict = FUZZ_ABORT;
        report(ex, "stand-in: cannot go on");
    }
    if (is(input, size, "writtent"))
        result->verdict = FUZZ_INPUT_WRITE;
    if (is(input, size, "nonsense"))
        result->verdict = (enum fuzz_verdict)STANDIN_VERDICT;
    if (is(input, size, "jailfree"))
        (void)!socket(AF_UNIX, SOCK_STREAM, 0);
    if (is(input, size, "killdead"))
        (void)syscall(SYS_exit_group, 3);
    if (is(input, size, "L:"))
        run_lines(ex, input, size);
}

int executor_run(struct executor *ex, const void *input, size_t size,
    uint64_t timeout_us, struct fuzz_result *ret_result, struct err *err)
{
    struct fuzz_result result = {.verdict = FUZZ_OK};
    uint64_t start_ns = clock_now_ns();

    ex->text_size = 0;
    ex->is_at_report = false;
    if (ex->clears)
        memset(ex->map, 0, ex->map_size);
    if (is(input, size, "dyingnow"))
        return err_set(err, EIO, "the stand-in fails");
    run(ex, input, size, start_ns + timeout_us * 1000, &result);
    while (clock_now_ns() - start_ns < RUN_NS)
        ;
    *ret_result = result;
    return 0;
}

int executor_read_on(struct executor *ex, uint64_t timeout_us, struct err *err)
{
    (void)timeout_us;
    (void)err;
    if (ex->is_at_report)
        report_at_length(ex);
    ex->is_at_report = false;
    return 0;
}

const char *executor_text(const struct executor *ex, size_t *ret_size)
{
    ex->text[ex->text_size] = '\0';
    *ret_size = ex->text_size;
    return ex->text;
}

int executor_hash(struct executor *ex, uint64_t *ret_hash, struct err *err)
{
    (void)ex;
    (void)err;
    *ret_hash = 0;
    return 0;
}

struct executor_stats executor_stats(const struct executor *ex)
{
    (void)ex;
    return (struct executor_stats){0};
}
