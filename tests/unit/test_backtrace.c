/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This program looks at itself: its own maps, its own file, its own stack.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "fuzz/backtrace.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

struct self {
    struct maps maps;
    struct files files;
    struct symbols *symbols;
};

/* What the signal handler saw. */
static struct unwind_frame seen;
static uint8_t stack_copy[64 * 1024];
static uint64_t stack_at;
static sigjmp_buf out;

/* Results are used, so that no call is the last thing its caller does. */
static volatile int sink;

static const struct {
    int greg;
    enum unwind_reg reg;
} gregs[] = {
    {REG_RAX, UNWIND_RAX},
    {REG_RDX, UNWIND_RDX},
    {REG_RCX, UNWIND_RCX},
    {REG_RBX, UNWIND_RBX},
    {REG_RSI, UNWIND_RSI},
    {REG_RDI, UNWIND_RDI},
    {REG_RBP, UNWIND_RBP},
    {REG_RSP, UNWIND_RSP},
    {REG_R8, UNWIND_R8},
    {REG_R9, UNWIND_R9},
    {REG_R10, UNWIND_R10},
    {REG_R11, UNWIND_R11},
    {REG_R12, UNWIND_R12},
    {REG_R13, UNWIND_R13},
    {REG_R14, UNWIND_R14},
    {REG_R15, UNWIND_R15},
    {REG_RIP, UNWIND_RIP},
};

/* Leaves, with the stack as it was kept for later. */
static void take(int number, siginfo_t *info, void *context)
{
    const ucontext_t *c = context;
    struct iovec to = {stack_copy, sizeof(stack_copy)};
    struct iovec from;

    (void)number;
    (void)info;
    seen = (struct unwind_frame){.known = (1u << UNWIND_REGS) - 1};
    for (size_t i = 0; i < ARRAY_SIZE(gregs); i++)
        seen.regs[gregs[i].reg] = (uint64_t)c->uc_mcontext.gregs[gregs[i].greg];
    stack_at = seen.regs[UNWIND_RSP];
    from = (struct iovec){(void *)(uintptr_t)stack_at, sizeof(stack_copy)};
    (void)process_vm_readv(getpid(), &to, 1, &from, 1, 0);
    siglongjmp(out, 1);
}

static bool read_copy(void *opaque, uint64_t at, void *ret_bytes, size_t size)
{
    (void)opaque;
    if (at < stack_at ||
        !num_range_within(at - stack_at, size, sizeof(stack_copy)))
        return false;
    memcpy(ret_bytes, stack_copy + (at - stack_at), size);
    return true;
}

static const struct unwind_memory copy = {.read = read_copy};

/* Its mistake is to reach the processor. */
__attribute__((
    noinline, no_sanitize("address"), no_sanitize("undefined"))) static int
innermost(volatile int *p)
{
    return *p + 1;
}

static inline __attribute__((always_inline)) int inlined(volatile int *p)
{
    int v = innermost(p);

    return v * 3 + 1;
}

__attribute__((noinline)) static int outer(volatile int *p)
{
    return inlined(p) + 7;
}

__attribute__((
    noinline, no_sanitize("address"), no_sanitize("undefined"))) static int
call(int (*volatile *f)(volatile int *))
{
    return (*f)(NULL) + 2;
}

static int begin(void **state)
{
    struct self *s = calloc(1, sizeof(*s));
    char path[4096];
    uint8_t *text;
    size_t size;
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (s == NULL || n < 0 ||
        fd_read_file("/proc/self/maps", MAPS_TEXT_MAX, &text, &size, NULL) < 0)
        return -1;
    path[n] = '\0';
    s->files.entries = calloc(1, sizeof(*s->files.entries));
    s->files.entries[0] =
        (struct files_entry){strdup(path), strdup(path), NULL};
    s->files.count = 1;
    if (maps_parse((char *)text, size, &s->maps, NULL) < 0 ||
        symbols_new(&s->files, &s->maps, NULL, &s->symbols, NULL) < 0)
        return -1;
    free(text);
    *state = s;
    return 0;
}

static int end(void **state)
{
    struct self *s = *state;

    symbols_free(s->symbols);
    files_fini(&s->files);
    maps_fini(&s->maps);
    free(s);
    return 0;
}

static void addresses_have_names(void **state)
{
    struct self *s = *state;
    struct debug_file_place places[DEBUG_FILE_PLACES];
    uint64_t offset = 0;

    assert_int_equal(symbols_find(s->symbols, (uintptr_t)outer, places), 1);
    assert_string_equal(places[0].function, "outer");
    assert_int_equal(places[0].into, 0);
    assert_non_null(strstr(places[0].source, "test_backtrace.c"));
    assert_true(places[0].line > 0 && places[0].line < 400);
    assert_string_equal(symbols_module(s->symbols, (uintptr_t)outer, &offset),
        s->files.entries[0].guest);
    assert_true(offset > 0);
    assert_true(symbols_is_code(s->symbols, (uintptr_t)outer));
    assert_false(symbols_is_code(s->symbols, (uintptr_t)&offset));
    assert_int_equal(symbols_find(s->symbols, 16, places), 0);
    assert_null(symbols_module(s->symbols, 16, &offset));
    assert_string_equal(symbols_note(s->symbols), "");
}

static void functions_have_addresses(void **state)
{
    struct self *s = *state;
    struct debug_file *file =
        symbols_file_named(s->symbols, s->files.entries[0].guest);
    uint64_t address;
    uint64_t bias;

    assert_ptr_equal(symbols_file(s->symbols, (uintptr_t)outer, &bias), file);
    assert_true(debug_file_function(file, "outer", &address));
    assert_int_equal(address + bias, (uintptr_t)outer);
    assert_false(debug_file_function(file, "no such", &address));
}

static void other_files_are_refused(void **state)
{
    struct self *s = *state;
    struct debug_file *file;
    struct err err;

    assert_int_equal(
        debug_file_open("/nonexistent", NULL, &file, &err), -ENOENT);
    assert_int_equal(debug_file_open("/dev/null", NULL, &file, &err), -ENOEXEC);
    assert_int_equal(
        debug_file_open(s->files.entries[0].host, "00", &file, &err), -ESTALE);
    assert_non_null(strstr(err.text, "its build id is another"));
}

struct find_line {
    uint32_t line;
    unsigned int count;
};

static int each_line(void *opaque, const struct debug_file_line *line)
{
    struct find_line *find = opaque;

    if (line->line == find->line && line->is_stmt &&
        strstr(line->source, "test_backtrace.c") != NULL)
        find->count++;
    return 0;
}

static int stop_at_once(void *opaque, const struct debug_file_line *line)
{
    (void)opaque;
    (void)line;
    return -ECANCELED;
}

static void lines_have_addresses(void **state)
{
    struct self *s = *state;
    struct debug_file *file =
        symbols_file_named(s->symbols, s->files.entries[0].guest);
    struct debug_file_place places[DEBUG_FILE_PLACES];
    struct find_line find = {0};
    uint64_t bias;

    assert_true(debug_file_has_lines(file));
    assert_non_null(symbols_file(s->symbols, (uintptr_t)outer, &bias));
    assert_int_equal(debug_file_find(file, (uintptr_t)outer - bias, places), 1);
    find.line = places[0].line;
    assert_int_equal(debug_file_lines(file, each_line, &find), 0);
    assert_true(find.count > 0);
    assert_int_equal(debug_file_lines(file, stop_at_once, NULL), -ECANCELED);
}

static size_t find_function(const struct backtrace *bt, const char *name)
{
    for (size_t i = 0; i < bt->count; i++) {
        if (bt->frames[i].function != NULL &&
            strcmp(bt->frames[i].function, name) == 0)
            return i;
    }
    fail_msg("no frame of %s", name);
    return 0;
}

/* Where cmocka has a handler of its own. */
static void catch_crashes(void)
{
    const struct sigaction action = {
        .sa_sigaction = take, .sa_flags = SA_SIGINFO | SA_NODEFER};

    assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
}

/* What this test ran is known: innermost, called by what is inlined. */
static void crash_is_unwound(void **state)
{
    struct self *s = *state;
    struct backtrace bt;
    struct unwind_frame at = {.known = 0};
    struct backtrace inner;

    catch_crashes();
    if (sigsetjmp(out, 1) == 0)
        sink = outer(NULL);
    backtrace_unwind(s->symbols, &copy, &seen, 0, NULL, &bt);
    assert_int_equal(find_function(&bt, "innermost"), 0);
    assert_int_equal(find_function(&bt, "inlined"), 1);
    assert_true(bt.frames[1].is_inlined);
    assert_int_equal(find_function(&bt, "outer"), 2);
    assert_int_equal(find_function(&bt, "crash_is_unwound"), 3);
    assert_true(bt.frames[2].line > bt.frames[1].line);
    assert_ptr_equal(backtrace_top(&bt), &bt.frames[0]);

    /* Without the frames inside the one at a given place. */
    backtrace_unwind(
        s->symbols, &copy, &seen, bt.frames[2].address, &at, &inner);
    assert_int_equal(at.regs[UNWIND_RIP], bt.frames[2].address);
    assert_true(at.regs[UNWIND_RSP] > seen.regs[UNWIND_RSP]);
    assert_int_equal(find_function(&inner, "inlined"), 0);
    assert_int_equal(inner.count, bt.count - 1);
    assert_int_not_equal(backtrace_hash(&bt, "a"), backtrace_hash(&inner, "a"));
    assert_int_not_equal(backtrace_hash(&bt, "a"), backtrace_hash(&bt, "b"));
    backtrace_fini(&bt);
    backtrace_fini(&inner);
}

static void call_to_nowhere_is_unwound(void **state)
{
    int (*volatile nowhere)(volatile int *) = NULL;
    struct self *s = *state;
    struct backtrace bt;

    catch_crashes();
    if (sigsetjmp(out, 1) == 0)
        sink = call(&nowhere);
    backtrace_unwind(s->symbols, &copy, &seen, 0, NULL, &bt);
    assert_int_equal(bt.frames[0].address, 0);
    assert_null(bt.frames[0].function);
    assert_int_equal(find_function(&bt, "call"), 1);
    backtrace_fini(&bt);
}

static bool read_ones(void *opaque, uint64_t at, void *ret_bytes, size_t size)
{
    (void)opaque;
    (void)at;
    memset(ret_bytes, 1, size);
    return true;
}

static void hostile_stack_ends(void **state)
{
    static const struct unwind_memory ones = {.read = read_ones};
    struct self *s = *state;
    struct unwind_frame frame = seen;
    struct backtrace bt;

    backtrace_unwind(s->symbols, &ones, &frame, 0, NULL, &bt);
    assert_true(bt.count <= BACKTRACE_MAX);
    backtrace_fini(&bt);
    frame.known = 0;
    backtrace_unwind(s->symbols, &ones, &frame, 0, NULL, &bt);
    assert_true(bt.count >= 1);
    backtrace_fini(&bt);
}

/* ---- text ---------------------------------------------------------------- */

static const char report[] =
    "==1==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x602\n"
    "READ of size 1 at 0x602000000011 thread T0\n"
    "    #0 0x55bb in __interceptor_memcpy (/bin/t+0x3a2e8) (BuildId: 12ab)\n"
    "    #1 0x4f12 in parse(char const*, int) /src/t/parse.c:12:5\n"
    "    #2 0x4f12 in main /src/t/main.c:3\n"
    "    #3 0x7f00  (/lib/libc.so.6+0x2409a) (BuildId: aa)\n"
    "\n"
    "0x602 is located 0 bytes to the right of\n"
    "    #0 0x55bb in malloc /x.c:1\n";

static void report_is_read(void **state)
{
    struct backtrace bt;
    char line[256];

    (void)state;
    backtrace_parse(report, strlen(report), NULL, &bt);
    assert_int_equal(bt.count, 4);
    assert_string_equal(bt.frames[0].function, "__interceptor_memcpy");
    assert_string_equal(bt.frames[0].module, "/bin/t");
    assert_int_equal(bt.frames[0].offset, 0x3a2e8);
    assert_string_equal(bt.frames[1].function, "parse(char const*, int)");
    assert_string_equal(bt.frames[1].source, "/src/t/parse.c");
    assert_int_equal(bt.frames[1].line, 12);
    assert_string_equal(bt.frames[2].function, "main");
    assert_null(bt.frames[3].function);
    assert_string_equal(bt.frames[3].module, "/lib/libc.so.6");
    assert_int_equal(bt.frames[3].offset, 0x2409a);
    assert_ptr_equal(backtrace_top(&bt), &bt.frames[1]);
    backtrace_frame_text(&bt.frames[1], 1, line, sizeof(line));
    assert_string_equal(
        line, "#1 0x000000004f12 in parse(char const*, int) /src/t/parse.c:12");
    backtrace_frame_text(&bt.frames[3], 3, line, sizeof(line));
    assert_string_equal(
        line, "#3 0x000000007f00 in ?? (/lib/libc.so.6+0x2409a)");
    backtrace_fini(&bt);
}

static void offsets_get_names(void **state)
{
    struct self *s = *state;
    struct backtrace bt;
    uint64_t offset;
    const char *module = symbols_module(s->symbols, (uintptr_t)outer, &offset);
    char *text = NULL;

    assert_true(asprintf(&text, "    #0 0x1234  (%s+0x%lx)\n", module,
                    (unsigned long)offset) > 0);
    backtrace_parse(text, strlen(text), s->symbols, &bt);
    assert_int_equal(bt.count, 1);
    assert_string_equal(bt.frames[0].function, "outer");
    assert_true(bt.frames[0].line > 0);
    free(text);
    backtrace_fini(&bt);
}

static uint64_t hash_of(const char *text)
{
    struct backtrace bt;
    uint64_t hash;

    backtrace_parse(text, strlen(text), NULL, &bt);
    hash = backtrace_hash(&bt, "k");
    backtrace_fini(&bt);
    return hash;
}

static void hash_groups(void **state)
{
    uint64_t plain = hash_of("#0 0x1 in f /a.c:1\n#1 0x2 in g /a.c:2\n");

    (void)state;
    /* Neither addresses, nor who reports, nor how deep, nor callers' lines. */
    assert_int_equal(
        plain, hash_of("#0 0x9 in f /a.c:1\n#1 0x7 in g /a.c:8\n"));
    assert_int_equal(plain, hash_of("#0 0x9 in abort\n#1 0x9 in f /a.c:1\n"
                                    "#2 0x7 in g /a.c:8\n"));
    assert_int_equal(plain, hash_of("#0 0x9 in f /a.c:1\n#1 0x9 in f /a.c:4\n"
                                    "#2 0x7 in g /a.c:8\n"));
    assert_int_not_equal(
        plain, hash_of("#0 0x1 in f /a.c:2\n#1 0x2 in g /a.c:2\n"));
    assert_int_not_equal(
        plain, hash_of("#0 0x1 in f /a.c:1\n#1 0x2 in h /a.c:2\n"));
    assert_int_equal(
        hash_of("#0 0x1 (/m+0x1)\n"), hash_of("#0 0x2 (/m+0x1)\n"));
    assert_int_not_equal(
        hash_of("#0 0x1 (/m+0x1)\n"), hash_of("#0 0x1 (/m+0x2)\n"));
    /* No more than five. */
    assert_int_equal(
        hash_of("#0 0x1 in a\n#1 0x1 in b\n#2 0x1 in c\n#3 0x1 in d\n"
                "#4 0x1 in e\n#5 0x1 in f\n"),
        hash_of("#0 0x1 in a\n#1 0x1 in b\n#2 0x1 in c\n#3 0x1 in d\n"
                "#4 0x1 in e\n#5 0x1 in g\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(addresses_have_names, begin, end),
        cmocka_unit_test_setup_teardown(functions_have_addresses, begin, end),
        cmocka_unit_test_setup_teardown(other_files_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(lines_have_addresses, begin, end),
        cmocka_unit_test_setup_teardown(crash_is_unwound, begin, end),
        cmocka_unit_test_setup_teardown(call_to_nowhere_is_unwound, begin, end),
        cmocka_unit_test_setup_teardown(hostile_stack_ends, begin, end),
        cmocka_unit_test(report_is_read),
        cmocka_unit_test_setup_teardown(offsets_get_names, begin, end),
        cmocka_unit_test(hash_groups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
