/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/nyx.h"
#include "fuzz/nyx_aux.h"
#include "fuzz/nyx_config.h"
#include "fuzz/nyx_handles.h"
#include "fuzz/root.h"
#include "fuzz/target.h"
#include "fuzz/worker.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/jail_options.h"

#define TIMEOUT_US      UINT64_C(2000000) /* until AFL++ sets one */
#define TIMEOUT_NONE_US UINT64_C(3600000000)
/* For a sanitizer's report, where the guest's kernel is interpreted. */
#define REPORT_US UINT64_C(60000000)
/* AFL++ takes a map without a byte that is set for a target that is not
 * instrumented; one that has no map is fuzzed blindly. */
#define BLIND_MAP 64u

struct nyx_runner {
    struct nyx_handle handle;
    struct fuzz_target target;
    struct worker *worker;
    size_t input_size;
    bool is_fed;     /* an input has come since the last run */
    char *trim_path; /* where it is if none has; NULL: the same again */
    uint64_t timeout_us;
    uint64_t next_timeout_us; /* from nyx_option_apply on */
    struct nyx_aux_buffer *aux;
    size_t aux_text_max;
    bool reads_aux; /* somebody has the buffer and may look for text there */
    bool is_new_abi;
    bool is_lost;              /* and that was said */
    struct fuzz_result result; /* of the last run */
    uint8_t blind[BLIND_MAP];
};

/* Some errors begin with the target's directory themselves. */
static void complain(const char *where, const char *text)
{
    bool is_there = strncmp(text, where, strlen(where)) == 0;

    (void)fprintf(stderr, "spore: libnyx: %s%s%s\n", is_there ? "" : where,
        is_there ? "" : ": ", text);
}

static struct nyx_runner *runner_of(void *runner)
{
    /* On the path of every run: as fast as a caller that is right allows. */
    struct nyx_runner *r = runner;

    assert(r != NULL && r->handle.kind == NYX_HANDLE_RUNNER);
    return r;
}

/* ---- making and ending --------------------------------------------------- */

static void destroy(struct nyx_runner *r)
{
    worker_stop(r->worker);
    fuzz_target_fini(&r->target);
    free(r->trim_path);
    free(r->aux);
    free(r);
}

/*
 * When afl-fuzz trims an input, it writes what it wants to try into a file,
 * has libnyx run, and has not told it (write_with_gap of src/afl-fuzz-run.c, in
 * 4.04c as in 4.22a). What comes of the input before then is what it expects,
 * so that it cuts everything away. The file is where it says that its own
 * targets find it.
 */
static int find_trim_path(struct nyx_runner *r, struct err *err)
{
    const char *out = getenv("__AFL_OUT_DIR");
    const char *tmp = getenv("AFL_TMPDIR");

    if (out == NULL)
        return 0;
    if (asprintf(&r->trim_path, "%s/.cur_input", tmp != NULL ? tmp : out) < 0) {
        r->trim_path = NULL;
        return err_sys(err, ENOMEM, "%s", out);
    }
    return 0;
}

static int open_runner(
    struct nyx_runner *r, const struct nyx_config *c, struct err *err)
{
    struct worker_options options = {.print_fd = c->print_fd,
        .number = c->worker,
        .levels = true,
        .stops_at_report = true};
    struct jail_options jail;
    int rc = jail_options_init(&jail, err);

    if (rc == 0)
        rc = fuzz_target_open(c->dir, &r->target, err);
    if (rc == 0)
        rc = nyx_config_prepare(c, err);
    options.jail = &jail.jail;
    if (rc == 0)
        rc = root_start_worker(&r->target, &options, &r->worker, NULL, err);
    if (rc < 0)
        return rc;
    r->aux = calloc(1, c->aux_size);
    if (r->aux == NULL)
        return err_sys(err, ENOMEM, "aux buffer");
    rc = find_trim_path(r, err);
    if (rc < 0)
        return rc;
    r->aux_text_max = num_min(c->aux_size - sizeof(*r->aux), UINT16_MAX);
    nyx_aux_init(
        r->aux, worker_input_max(r->worker), worker_map_size(r->worker));
    return 0;
}

static void *make_runner(const struct nyx_config *c, bool is_new_abi)
{
    struct nyx_runner *r = calloc(1, sizeof(*r));
    struct err err;
    int rc =
        r == NULL ? err_sys(&err, ENOMEM, "a runner") : open_runner(r, c, &err);

    if (rc < 0) {
        complain(c->dir, err.text);
        if (r != NULL)
            destroy(r);
        return NULL;
    }
    r->handle.kind = NYX_HANDLE_RUNNER;
    r->is_new_abi = is_new_abi;
    r->timeout_us = TIMEOUT_US;
    r->next_timeout_us = TIMEOUT_US;
    r->blind[0] = 1;
    if (worker_map_size(r->worker) == 0)
        complain(c->dir, "it has no coverage map: it is fuzzed blindly");
    nyx_handles_add(&r->handle);
    return r;
}

static void *make_old(const char *dir, const char *workdir, uint32_t worker)
{
    struct nyx_config *c = nyx_config_make(dir, workdir);
    void *runner = NULL;

    if (c == NULL) {
        complain(dir, "out of memory");
        return NULL;
    }
    c->worker = worker;
    runner = make_runner(c, false);
    nyx_config_destroy(c);
    return runner;
}

void *nyx_new(const char *dir, const char *workdir, uint32_t cpu,
    uint32_t input_size, bool write_protection)
{
    (void)cpu;
    (void)input_size;
    (void)write_protection;
    if (nyx_handles_has(dir, NYX_HANDLE_CONFIG)) {
        struct nyx_config *c = (struct nyx_config *)(uintptr_t)dir;

        c->worker = (uint32_t)(uintptr_t)workdir;
        return make_runner(c, true);
    }
    /* nyx_config_load has said why. */
    return dir == NULL ? NULL : make_old(dir, workdir, 0);
}

void *nyx_new_parent(const char *dir, const char *workdir, uint32_t cpu,
    uint32_t input_size, bool write_protection)
{
    (void)cpu;
    (void)input_size;
    (void)write_protection;
    return make_old(dir, workdir, 0);
}

/* It waits for the root, if the parent is about to make it (fuzz/root.h). */
void *nyx_new_child(
    const char *dir, const char *workdir, uint32_t cpu, uint32_t worker)
{
    (void)cpu;
    return make_old(dir, workdir, worker);
}

void nyx_shutdown(void *runner)
{
    if (nyx_handles_take(runner, NYX_HANDLE_RUNNER))
        destroy(runner);
}

/* ---- options ------------------------------------------------------------- */

void nyx_option_set_reload_mode(void *runner, bool enable)
{
    (void)runner;
    if (!enable)
        complain("NYX_DISABLE_SNAPSHOT_MODE", "guests are reset all the same");
}

void nyx_option_set_timeout(void *runner, uint8_t sec, uint32_t usec)
{
    uint64_t us = UINT64_C(1000000) * sec + usec;

    runner_of(runner)->next_timeout_us = us == 0 ? TIMEOUT_NONE_US : us;
}

void nyx_option_apply(void *runner)
{
    struct nyx_runner *r = runner_of(runner);

    r->timeout_us = r->next_timeout_us;
}

void nyx_set_hprintf_fd(void *runner, int32_t fd)
{
    (void)runner;
    (void)fd;
    complain("nyx_set_hprintf_fd",
        "it is nyx_config_set_hprintf_fd that is heeded, before nyx_new");
}

/* ---- runs ---------------------------------------------------------------- */

void nyx_set_afl_input(void *runner, uint8_t *buf, uint32_t size)
{
    struct nyx_runner *r = runner_of(runner);

    r->is_fed = true;
    r->input_size = num_min(size, worker_input_max(r->worker));
    memcpy(worker_input(r->worker), buf, r->input_size);
}

static void lose(struct nyx_runner *r, const struct err *err)
{
    if (!r->is_lost)
        complain(r->target.dir, err->text);
    r->is_lost = true;
}

/*
 * Of the runs that end in a report few are new to the fuzzer, which asks for
 * the text of those: only they are run to their end.
 */
static void read_on(struct nyx_runner *r)
{
    struct err err;

    if (r->result.verdict == FUZZ_SANITIZER && !r->is_lost &&
        worker_read_on(r->worker, REPORT_US, &err) < 0)
        lose(r, &err);
}

static void keep_text(struct nyx_runner *r)
{
    if (worker_text_size(r->worker) > 0)
        r->aux->text_size =
            (uint16_t)worker_text(r->worker, r->aux->text, r->aux_text_max);
}

static void say_abort(struct nyx_runner *r)
{
    char text[512];
    size_t size = worker_text(r->worker, text, sizeof(text) - 1);

    text[size] = '\0';
    complain("the agent in the guest gave up", text);
}

/* AFL++ up to 4.05c ends when it hears of a write to the input. */
static enum NyxReturnValue tell(
    struct nyx_runner *r, const struct fuzz_result *result)
{
    switch (result->verdict) {
    case FUZZ_OK:
        return NYX_NORMAL;
    case FUZZ_CRASH:
        return NYX_CRASH;
    case FUZZ_SANITIZER:
        return NYX_ASAN;
    case FUZZ_HANG:
        return NYX_TIMEOUT;
    case FUZZ_INPUT_WRITE:
        return r->is_new_abi ? NYX_INVALID_WRITE_TO_PAYLOAD : NYX_CRASH;
    case FUZZ_ABORT:
        say_abort(r);
        return NYX_ABORT;
    case FUZZ_VERDICTS:
        break;
    }
    return NYX_ERROR;
}

/* What is tried in trimming; false: it cannot be had. */
static bool take_trimmed(struct nyx_runner *r)
{
    CC_CLEANUP(fd_closep) int fd = open(r->trim_path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1
                       : fd_read_full(fd, worker_input(r->worker),
                             worker_input_max(r->worker));

    if (n <= 0)
        return false;
    r->input_size = (size_t)n;
    return true;
}

enum NyxReturnValue nyx_exec(void *runner)
{
    struct nyx_runner *r = runner_of(runner);
    bool is_wrong = !r->is_fed && r->trim_path != NULL && !take_trimmed(r);
    struct fuzz_result result;
    struct err err;
    int rc = worker_run(r->worker, worker_input(r->worker), r->input_size,
        r->timeout_us, &result, &err);

    r->is_fed = false;
    if (rc < 0) {
        lose(r, &err);
        return rc == -ESHUTDOWN ? NYX_IO_ERROR : NYX_ERROR;
    }
    /* Another map than that of the whole: nothing is cut away then. */
    if (CC_UNLIKELY(is_wrong))
        nyx_get_bitmap_buffer(r)[nyx_get_bitmap_buffer_size(r) - 1] ^= 0xff;
    nyx_aux_set(r->aux, &result);
    r->result = result;
    if (CC_LIKELY(result.verdict == FUZZ_OK))
        return NYX_NORMAL;
    if (r->reads_aux)
        read_on(r);
    keep_text(r);
    return tell(r, &result);
}

/* ---- what came of it ----------------------------------------------------- */

uint8_t *nyx_get_bitmap_buffer(void *runner)
{
    struct nyx_runner *r = runner_of(runner);

    return worker_map_size(r->worker) > 0 ? worker_map(r->worker) : r->blind;
}

size_t nyx_get_bitmap_buffer_size(void *runner)
{
    struct nyx_runner *r = runner_of(runner);
    size_t size = worker_map_size(r->worker);

    return size > 0 ? size : sizeof(r->blind);
}

/* A crash that nobody has put into words is one of a signal. */
static uint32_t describe(
    const struct fuzz_result *result, uint8_t *buf, uint32_t size)
{
    char text[96];
    int n = snprintf(text, sizeof(text), "signal %u (%s) at 0x%llx\n",
        result->signal, strsignal((int)result->signal),
        (unsigned long long)result->rip);

    n = (int)num_min((uint64_t)n, num_min(size, sizeof(text) - 1));
    memcpy(buf, text, (size_t)n);
    return (uint32_t)n;
}

uint32_t nyx_get_aux_string(void *runner, uint8_t *buf, uint32_t size)
{
    struct nyx_runner *r = runner_of(runner);

    read_on(r);
    keep_text(r);
    if (worker_text_size(r->worker) == 0 && r->result.signal != 0)
        return describe(&r->result, buf, size);
    return (uint32_t)worker_text(r->worker, buf, size);
}

void *nyx_get_aux_buffer(void *runner)
{
    struct nyx_runner *r = runner_of(runner);

    r->reads_aux = true;
    return r->aux;
}

void nyx_print_aux_buffer(void *runner)
{
    const struct nyx_aux_buffer *aux = runner_of(runner)->aux;

    (void)fprintf(stderr,
        "spore: libnyx: result %u, %u pages, %u.%06u s, %u bytes of text\n",
        aux->exec_result_code, aux->dirty_pages, aux->runtime_sec,
        aux->runtime_usec, aux->text_size);
}
