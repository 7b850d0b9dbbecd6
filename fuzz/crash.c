/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/crash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/debugger.h"
#include "fuzz/executor_parts.h"
#include "fuzz/root.h"
#include "fuzz/target.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define TOP_MAX 512u

/* Where guest kernels are interpreted, a sanitizer reads its code in first. */
#define REPORT_US UINT64_C(60000000)

struct crash_runner {
    struct fuzz_target target;
    struct executor *ex;
    struct files files;
    struct maps maps;
    struct bundle_text maps_text;
    struct symbols_memory memory;
    struct symbols *symbols;
    struct backtrace backtrace; /* of the last run */
    char top[TOP_MAX];
    struct err note; /* why there are no names at all */
};

/* As the vCPU saw it last. */
static bool read_guest(void *opaque, uint64_t at, void *ret_bytes, size_t size)
{
    const struct crash_runner *r = opaque;
    struct guest_view view = runner_view(r->ex->runner);

    return guest_view_read(&view, at, ret_bytes, size) == 0;
}

/* ---- the target ---------------------------------------------------------- */

static int open_executor(struct crash_runner *r, struct err *err)
{
    const struct executor_options options = {.print_fd = -1};
    int rc = executor_open(&r->target, &options, &r->ex, err);

    if (rc != -ENOENT)
        return rc;
    rc = root_make(&r->target, err);
    return rc < 0 ? rc : executor_open(&r->target, &options, &r->ex, err);
}

static int read_maps(struct crash_runner *r, struct err *err)
{
    char *path = NULL;
    uint8_t *text;
    int rc;

    if (asprintf(&path, "%s/" CRASH_MAPS_PATH, r->target.dir) < 0)
        return err_sys(err, ENOMEM, "a path");
    rc = fd_read_file(path, MAPS_TEXT_MAX, &text, &r->maps_text.size, err);
    free(path);
    if (rc < 0)
        return rc;
    r->maps_text.text = (char *)text;
    return maps_parse(r->maps_text.text, r->maps_text.size, &r->maps, err);
}

/* Crashes can be told apart without names, if not as well. */
static void read_names(struct crash_runner *r)
{
    struct err err;
    int rc = files_read(r->target.dir, &r->files, &err);
    int maps_rc = read_maps(r, rc < 0 ? NULL : &err);

    if (rc < 0 || maps_rc < 0)
        r->note = err;
}

int crash_open(
    const char *dir, struct crash_runner **ret_runner, struct err *err)
{
    struct crash_runner *r = calloc(1, sizeof(*r));
    int rc;

    if (r == NULL)
        return err_sys(err, ENOMEM, "%s", dir);
    rc = fuzz_target_open(dir, &r->target, err);
    if (rc == 0)
        rc = open_executor(r, err);
    if (rc == 0) {
        read_names(r);
        r->memory = (struct symbols_memory){.read = read_guest, .opaque = r};
        rc = symbols_new(&r->files, &r->maps, &r->memory, &r->symbols, err);
    }
    if (rc < 0) {
        crash_close(r);
        return rc;
    }
    *ret_runner = r;
    return 0;
}

void crash_close(struct crash_runner *runner)
{
    if (runner == NULL)
        return;
    backtrace_fini(&runner->backtrace);
    symbols_free(runner->symbols);
    maps_fini(&runner->maps);
    files_fini(&runner->files);
    free(runner->maps_text.text);
    executor_free(runner->ex);
    fuzz_target_fini(&runner->target);
    free(runner);
}

/* ---- a crash ------------------------------------------------------------- */

/*
 * By what a sanitizer says, or else by registers and stack. *regs, those of the
 * last call, become those of the crash, if they can be found.
 */
static void trace(struct crash_runner *r, const struct fuzz_result *result,
    struct unwind_frame *regs)
{
    struct guest_view view = runner_view(r->ex->runner);
    const struct unwind_memory memory = {.read = read_guest, .opaque = r};
    const struct unwind_frame start = *regs;
    size_t size;
    const char *text = executor_text(r->ex, &size);

    backtrace_fini(&r->backtrace);
    backtrace_parse(text, size, r->symbols, &r->backtrace);
    /* What ended another process than the agent's is not known by its own. */
    if (r->backtrace.count > 0 ||
        (result->rip == 0 && view.regs.cr3 != r->ex->agent.space.cr3))
        return;
    backtrace_unwind(
        r->symbols, &memory, &start, result->rip, regs, &r->backtrace);
}

static void tell_top(struct crash_runner *r, const struct bundle *bundle)
{
    const struct backtrace_frame *top = backtrace_top(&r->backtrace);

    r->top[0] = '\0';
    if (bundle->verdict == FUZZ_OK)
        return;
    if (bundle->verdict == FUZZ_HANG)
        (void)snprintf(r->top, sizeof(r->top), "took too long");
    else if (top == NULL)
        (void)snprintf(r->top, sizeof(r->top), "?");
    else if (top->source != NULL)
        (void)snprintf(r->top, sizeof(r->top), "%s %s:%u",
            top->function != NULL ? top->function : "?", top->source,
            top->line);
    else
        (void)snprintf(r->top, sizeof(r->top), "%s (%s+0x%llx)",
            top->function != NULL ? top->function : "?",
            top->module != NULL ? top->module : "?",
            (unsigned long long)(top->module != NULL ? top->offset
                                                     : top->address));
}

static int copy_text(
    struct bundle_text *to, const void *text, size_t size, struct err *err)
{
    to->text = malloc(size + 1);
    if (to->text == NULL)
        return err_sys(err, ENOMEM, "a crash");
    if (size > 0)
        memcpy(to->text, text, size);
    to->text[size] = '\0';
    to->size = size;
    return 0;
}

static int print_trace(
    const struct backtrace *backtrace, struct bundle_text *to, struct err *err)
{
    FILE *out = open_memstream(&to->text, &to->size);

    if (out == NULL)
        return err_sys(err, ENOMEM, "a backtrace");
    backtrace_print(backtrace, out);
    return fclose(out) == 0 ? 0 : err_sys(err, ENOMEM, "a backtrace");
}

static int fill_texts(struct crash_runner *r, const void *input, size_t size,
    struct bundle *b, struct err *err)
{
    size_t text_size;
    const char *text = executor_text(r->ex, &text_size);
    int rc = copy_text(&b->parts[BUNDLE_INPUT], input, size, err);

    if (rc == 0)
        rc = copy_text(&b->parts[BUNDLE_REPORT], text, text_size, err);
    if (rc == 0)
        rc = print_trace(&r->backtrace, &b->parts[BUNDLE_BACKTRACE], err);
    if (rc == 0 && r->maps_text.text != NULL)
        rc = copy_text(
            &b->parts[BUNDLE_MAPS], r->maps_text.text, r->maps_text.size, err);
    return rc;
}

/* What must not be one group: how it ended, and what a sanitizer calls it. */
static void tell_kind(const struct crash_runner *r, const struct bundle *b,
    char *ret_kind, size_t size)
{
    static const char mark[] = "Sanitizer: ";
    size_t text_size;
    const char *text = executor_text(r->ex, &text_size);
    const char *word = memmem(text, text_size, mark, sizeof(mark) - 1);
    size_t length = 0;

    if (word != NULL) {
        word += sizeof(mark) - 1;
        length = num_min(strcspn(word, " \n"), size / 2);
    }
    (void)snprintf(ret_kind, size, "%s %u %.*s",
        bundle_verdict_name(b->verdict), b->signal, (int)length,
        word != NULL ? word : "");
}

/* Of a run that has ended, where the guest still lies. */
static int fill(struct crash_runner *r, const struct fuzz_result *result,
    struct bundle *b, struct err *err)
{
    char id[SNAPSHOT_ID_TEXT_SIZE];
    struct unwind_frame regs;
    char kind[64];

    b->verdict = result->verdict;
    b->status = result->status;
    b->signal = result->signal <= 64 ? result->signal : 0;
    b->rip = result->rip;
    debugger_to_frame(runner_regs(r->ex->runner), &regs);
    if (r->ex->runner->is_restored) {
        snapshot_id_to_text(&r->ex->runner->snap.id, id);
        b->snapshot = strdup(id);
        if (b->snapshot == NULL)
            return err_sys(err, ENOMEM, "a crash");
    }
    if (b->verdict == FUZZ_OK || b->verdict == FUZZ_HANG)
        backtrace_fini(&r->backtrace);
    else
        trace(r, result, &regs);
    memcpy(b->regs, regs.regs, sizeof(b->regs));
    b->has_regs = true;
    tell_kind(r, b, kind, sizeof(kind));
    b->stack_hash = backtrace_hash(&r->backtrace, kind);
    tell_top(r, b);
    return 0;
}

static bool is_cut_off(
    const struct crash_runner *r, const struct fuzz_result *result)
{
    size_t size;
    const char *text = executor_text(r->ex, &size);

    return result->verdict == FUZZ_SANITIZER &&
           memmem(text, size, "#0 0x", 5) == NULL;
}

int crash_run(struct crash_runner *runner, const void *input, size_t size,
    uint64_t timeout_us, struct bundle *ret_bundle, struct err *err)
{
    struct fuzz_result result;
    struct bundle b = {0};
    int rc = executor_run(runner->ex, input, size, timeout_us, &result, err);

    /* A report that was cut off is waited for: the first takes seconds. */
    if (rc == 0 && is_cut_off(runner, &result) && timeout_us < REPORT_US)
        rc = executor_run(runner->ex, input, size, REPORT_US, &result, err);
    if (rc == 0)
        rc = fill(runner, &result, &b, err);
    if (rc == 0)
        rc = fill_texts(runner, input, size, &b, err);
    if (rc < 0) {
        bundle_fini(&b);
        return rc;
    }
    *ret_bundle = b;
    return 0;
}

const char *crash_top(const struct crash_runner *runner)
{
    return runner->top;
}

const char *crash_note(const struct crash_runner *runner)
{
    return runner->note.text[0] != '\0' ? runner->note.text
                                        : symbols_note(runner->symbols);
}

struct executor *crash_executor(struct crash_runner *runner)
{
    return runner->ex;
}

struct symbols *crash_symbols(struct crash_runner *runner)
{
    return runner->symbols;
}

const struct files *crash_files(const struct crash_runner *runner)
{
    return &runner->files;
}

const struct maps *crash_maps(const struct crash_runner *runner)
{
    return &runner->maps;
}
