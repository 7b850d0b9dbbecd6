/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/support/fuzz_host.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/cc.h"
#include "vmm/base/num.h"

#define OUT_EAX_DX 0xefu
#define ENV_MAX    32u
#define TIME_MAX_S 60u
#define DICTIONARY "afl_autodict.txt"

struct host {
    const struct fuzz_host_config *config;
    struct fuzz_host_result *result;
    pid_t pid; /* the program's own process */
    bool in_run;
    bool in_call; /* it is in a system call */
    bool over;
    uint32_t warm; /* pages still to be asked for */
};

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz_host: %s: %s\n", what, strerror(errno));
    abort();
}

/* ---- the child -------------------------------------------------------------
 */

CC_NORETURN static void become(const struct fuzz_host_config *config)
{
    static char words[512];
    static char preload[512];
    const char *env[ENV_MAX] = {words, preload, "LD_BIND_NOW=1",
        "ASAN_OPTIONS=abort_on_error=1:symbolize=0:detect_leaks=0:"
        "verify_asan_link_order=0:print_stacktrace=1:halt_on_error=1",
        "UBSAN_OPTIONS=abort_on_error=1:symbolize=0:print_stacktrace=1:"
        "halt_on_error=1",
        "PATH=/usr/bin:/bin"};
    size_t used = 6;
    int in = memfd_create("input", 0);
    int out = memfd_create("output", 0);

    (void)snprintf(words, sizeof(words), "SPORE_FUZZ=%s", config->words);
    (void)snprintf(preload, sizeof(preload), "LD_PRELOAD=%s",
        getenv("SPORE_FUZZ_PRELOAD"));
    for (size_t i = 0; config->env[i] != NULL; i++)
        env[used++] = config->env[i];
    env[used] = NULL;
    (void)fcntl(out, F_SETFL, O_APPEND);
    (void)personality(ADDR_NO_RANDOMIZE);
    (void)alarm(TIME_MAX_S);
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        (getenv("SPORE_FUZZ_STDERR") == NULL && dup2(out, STDERR_FILENO) < 0) ||
        ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(126);
    close(in);
    close(out);
    execve(config->args[0], (char *const *)(uintptr_t)config->args,
        (char *const *)(uintptr_t)env);
    perror(config->args[0]);
    _exit(127);
}

static void start(struct host *h)
{
    const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL |
                         PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                         PTRACE_O_TRACECLONE;
    int status;

    h->pid = fork();
    require(h->pid >= 0, "fork");
    if (h->pid == 0)
        become(h->config);
    require(waitpid(h->pid, &status, 0) == h->pid, "waitpid");
    require(WIFSTOPPED(status), "the program cannot be executed");
    require(ptrace(PTRACE_SETOPTIONS, h->pid, NULL, options) == 0, "options");
}

/* ---- its memory ------------------------------------------------------------
 */

static bool read_at(const struct host *h, uint64_t at, void *bytes, size_t size)
{
    const struct iovec here = {bytes, size};
    const struct iovec there = {(void *)(uintptr_t)at, size};

    return process_vm_readv(h->pid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

static void write_at(
    const struct host *h, uint64_t at, const void *bytes, size_t size)
{
    const struct iovec here = {(void *)(uintptr_t)bytes, size};
    const struct iovec there = {(void *)(uintptr_t)at, size};

    require(process_vm_writev(h->pid, &here, 1, &there, 1, 0) == (ssize_t)size,
        "the program's memory");
}

static void add_text(struct host *h, uint64_t at, uint64_t size)
{
    struct fuzz_host_result *r = h->result;

    size = num_min(size, FUZZ_HOST_TEXT_MAX - r->text_len);
    require(read_at(h, at, r->text + r->text_len, size), "text");
    r->text_len += size;
    r->text[r->text_len] = '\0';
}

static void add_string(struct host *h, uint64_t at)
{
    char c;

    while (read_at(h, at, &c, 1) && c != '\0')
        add_text(h, at++, 1);
}

/* ---- calls -----------------------------------------------------------------
 */

static void clear_map(const struct host *h)
{
    static const uint8_t zeroes[4096];
    uint64_t left = h->result->hello.map_size;

    for (uint64_t at = h->result->hello.map; left > 0;) {
        size_t n = (size_t)num_min(left, sizeof(zeroes));

        write_at(h, at, zeroes, n);
        at += n;
        left -= n;
    }
}

static void count_edges(struct host *h)
{
    uint8_t part[4096];
    uint64_t left = h->result->hello.map_size;

    h->result->edges = 0;
    for (uint64_t at = h->result->hello.map; left > 0;) {
        size_t n = (size_t)num_min(left, sizeof(part));

        require(read_at(h, at, part, n), "the map");
        for (size_t i = 0; i < n; i++) {
            h->result->edges += part[i] != 0;
            h->result->map_sum = h->result->map_sum * 31 + part[i];
        }
        at += n;
        left -= n;
    }
}

/* A header of 8 bytes for each place, in AFL++ 4.04c. */
static void count_comparisons(struct host *h)
{
    static uint8_t headers[8 * 65536];

    if (h->result->hello.cmp_map_size == 0)
        return;
    require(
        read_at(h, h->result->hello.cmp_map, headers, sizeof(headers)), "map");
    for (size_t i = 0; i < sizeof(headers); i++)
        h->result->comparisons += headers[i] != 0;
}

static void begin_run(struct host *h)
{
    const struct fuzz_abi_hello *hello = &h->result->hello;
    uint32_t size = (uint32_t)h->config->input_size;

    clear_map(h);
    write_at(h, hello->input_size, &size, sizeof(size));
    if (size > 0)
        write_at(h, hello->input, h->config->input, size);
    h->in_run = true;
}

/* The pages are those of the list itself: some that exist. */
static uint64_t ask_for_pages(struct host *h)
{
    uint32_t n = h->warm;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t page = (h->result->hello.warm + i % 2 * 4096) | (i & 1);

        write_at(
            h, h->result->hello.warm + i * sizeof(page), &page, sizeof(page));
    }
    h->warm = 0;
    return n;
}

static uint64_t serve_root(struct host *h)
{
    h->result->roots++;
    if (h->warm > 0)
        return ask_for_pages(h);
    begin_run(h);
    return 0;
}

static void end(struct host *h, enum fuzz_host_end how)
{
    h->result->end = how;
    h->over = true;
    if (how == FUZZ_HOST_ABORT || how == FUZZ_HOST_EXITED)
        return;
    count_edges(h);
    count_comparisons(h);
}

static void serve_dump(struct host *h, uint64_t at)
{
    struct fuzz_abi_dump_file file;
    char name[sizeof(DICTIONARY)];

    require(read_at(h, at, &file, sizeof(file)) &&
                read_at(h, file.file_name_str_ptr, name, sizeof(name)),
        "DUMP_FILE");
    if (memcmp(name, DICTIONARY, sizeof(name)) == 0)
        h->result->dictionary_size = file.bytes;
}

static void serve_report(struct host *h, uint64_t at)
{
    struct fuzz_abi_text text;

    require(read_at(h, at, &text, sizeof(text)), "REPORT");
    if (!h->result->reports)
        h->result->calls_to_report = h->result->system_calls;
    h->result->reports = true;
    add_text(h, text.at, text.size);
}

static void serve_panic(struct host *h, uint64_t arg)
{
    h->result->signal = (uint32_t)(arg >> FUZZ_ABI_PANIC_SIGNAL_SHIFT &
                                   FUZZ_ABI_PANIC_SIGNAL_MASK);
    h->result->rip = arg & FUZZ_ABI_PANIC_RIP_MASK;
    end(h, FUZZ_HOST_PANIC);
}

static uint64_t serve(struct host *h, uint64_t number, uint64_t arg)
{
    struct fuzz_host_result *r = h->result;

    switch (number) {
    case FUZZ_ABI_HELLO:
        require(read_at(h, arg, &r->hello, sizeof(r->hello)), "HELLO");
        r->hellos++;
        break;
    case FUZZ_ABI_ROOT:
        return serve_root(h);
    case FUZZ_ABI_REPORT:
        serve_report(h, arg);
        break;
    case FUZZ_ABI_DUMP_FILE:
        serve_dump(h, arg);
        break;
    case FUZZ_ABI_LEVEL:
        r->levels++;
        r->level_at = arg;
        break;
    case FUZZ_ABI_DONE:
        r->status = (int)(uint32_t)arg;
        end(h, FUZZ_HOST_DONE);
        break;
    case FUZZ_ABI_PANIC:
        serve_panic(h, arg);
        break;
    case FUZZ_ABI_KASAN:
        end(h, FUZZ_HOST_SANITIZER);
        break;
    case FUZZ_ABI_USER_ABORT:
        add_string(h, arg);
        end(h, FUZZ_HOST_ABORT);
        break;
    default:
        require(false, "an unknown call");
    }
    return 0;
}

/* True if that fault is a call, which it was answered then. */
static bool catch_call(struct host *h, pid_t pid)
{
    struct user_regs_struct regs;
    uint8_t byte = 0;

    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) != 0 ||
        !read_at(h, regs.rip, &byte, 1) || byte != OUT_EAX_DX ||
        (regs.rdx & 0xffff) != FUZZ_ABI_PORT ||
        (uint32_t)regs.rax != FUZZ_ABI_MAGIC)
        return false;
    regs.rax = serve(h, regs.rbx, regs.rcx);
    regs.rip++;
    require(ptrace(PTRACE_SETREGS, pid, NULL, &regs) == 0, "registers");
    return true;
}

/* ---- the loop --------------------------------------------------------------
 */

static void note_system_call(struct host *h)
{
    struct user_regs_struct regs;

    require(ptrace(PTRACE_GETREGS, h->pid, NULL, &regs) == 0, "registers");
    h->result->system_calls++;
    h->result->system_call = regs.orig_rax;
}

/* The signal to go on with. */
static int handle_stop(struct host *h, pid_t pid, int status)
{
    int signal = WSTOPSIG(status);

    if (signal == (SIGTRAP | 0x80)) {
        h->in_call = !h->in_call;
        if (h->in_run && h->in_call && pid == h->pid)
            note_system_call(h);
        return 0;
    }
    if (status >> 16 != 0)
        return 0;
    if (signal == SIGSEGV && catch_call(h, pid))
        return 0;
    /* A new process stops before it does anything. */
    return signal == SIGSTOP && pid != h->pid ? 0 : signal;
}

static void go_on(struct host *h, pid_t pid, int signal)
{
    bool counts = h->in_run && pid == h->pid;

    (void)ptrace(counts ? PTRACE_SYSCALL : PTRACE_CONT, pid, NULL, signal);
}

void fuzz_host_run(
    const struct fuzz_host_config *config, struct fuzz_host_result *ret_result)
{
    struct host h = {
        .config = config, .result = ret_result, .warm = config->warm};
    int status = 0;
    pid_t pid;

    memset(ret_result, 0, sizeof(*ret_result));
    start(&h);
    go_on(&h, h.pid, 0);
    while (!h.over) {
        pid = waitpid(-1, &status, __WALL);
        require(pid > 0, "waitpid");
        if (WIFSTOPPED(status)) {
            int signal = handle_stop(&h, pid, status);

            if (!h.over)
                go_on(&h, pid, signal);
        } else if (pid == h.pid) {
            ret_result->status = status;
            end(&h, FUZZ_HOST_EXITED);
            h.pid = 0;
        }
    }
    if (h.pid != 0)
        (void)kill(h.pid, SIGKILL);
    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        /* What the program has started goes with it. */
        if (WIFSTOPPED(status))
            (void)kill(pid, SIGKILL);
    }
}
