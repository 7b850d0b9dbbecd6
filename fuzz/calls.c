/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define STRING_MAX  4096u       /* of PRINTF and the like, as Nyx has it */
#define DUMP_MAX    (64u << 20) /* bytes of all DUMP_FILEs */
#define DUMPS_MAX   4096u       /* of them */
#define MAP_DEFAULT 65536u      /* Nyx's */

#define DUMP_PATTERN "XXXXXX" /* in a name: what makes it one of its own */
#define DUMP_UNNAMED "tmp." DUMP_PATTERN

/* What stands in the way of panic() and kasan_report(): the call instead. */
static const uint8_t crash_stub[] = {
    0xfa,                         /* cli */
    0xb8, 0x1f, 0x80, 0x80, 0x80, /* mov $FUZZ_ABI_MAGIC, %eax */
    0xbb, 0x00, 0x00, 0x00, 0x00, /* mov $number, %ebx */
    0x31, 0xc9,                   /* xor %ecx, %ecx */
    0xba, 0x58, 0x56, 0x00, 0x00, /* mov $FUZZ_ABI_PORT, %edx */
    0xef,                         /* out %eax, %dx */
    0xf4,                         /* hlt */
};
#define CRASH_STUB_NUMBER 7u

int calls_init(
    struct calls *c, const struct calls_config *config, struct err *err)
{
    *c = (struct calls){.config = *config, .stream_fd = -1};
    c->text = malloc(config->text_max + 1);
    if (c->text == NULL)
        return err_sys(err, ENOMEM, "the text of a run");
    c->text[0] = '\0';
    return 0;
}

void calls_fini(struct calls *c)
{
    fd_closep(&c->stream_fd);
    free(c->text);
    *c = (struct calls){.stream_fd = -1};
}

void calls_begin(struct calls *c)
{
    c->text_len = 0;
    c->text[0] = '\0';
    c->is_fuzzing = true;
    c->reports = false;
    c->report = CALLS_NO_REPORT;
}

void calls_add_text(struct calls *c, const char *text, size_t len)
{
    size_t room = c->config.text_max - c->text_len;

    if (len > room)
        len = room;
    memcpy(c->text + c->text_len, text, len);
    c->text_len += len;
    c->text[c->text_len] = '\0';
}

static CC_PRINTF(2, 3) void say(struct calls *c, const char *fmt, ...)
{
    char line[256];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (n > 0)
        calls_add_text(
            c, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static CC_PRINTF(3, 4) enum calls_outcome
    abort_run(struct calls *c, struct fuzz_result *result, const char *fmt, ...)
{
    char line[256];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    say(c, "%s\n", line);
    result->verdict = FUZZ_ABORT;
    return CALLS_END;
}

static void take_string(
    struct calls *c, const struct guest_view *view, uint64_t at)
{
    char text[STRING_MAX];
    size_t len = guest_view_string(view, at, text, sizeof(text));

    calls_add_text(c, text, len);
}

/* Whether it is of no bytes, which says that a sanitizer's report begins. */
static bool take_text(
    struct calls *c, const struct guest_view *view, uint64_t arg)
{
    struct fuzz_abi_text text;
    char piece[STRING_MAX];

    if (guest_view_read(view, arg, &text, sizeof(text)) < 0)
        return false;
    if (text.size == 0)
        return true;
    text.size = num_min(text.size, c->config.text_max - c->text_len);
    while (text.size > 0) {
        size_t n = (size_t)num_min(text.size, sizeof(piece));

        if (guest_view_read(view, text.at, piece, n) < 0)
            break;
        calls_add_text(c, piece, n);
        text.at += n;
        text.size -= n;
    }
    return false;
}

static void print(struct calls *c, const struct guest_view *view, uint64_t at)
{
    char text[STRING_MAX];
    size_t len = guest_view_string(view, at, text, sizeof(text));

    calls_add_text(c, text, len);
    /* Nobody waits for a reader: what it does not take is lost. */
    if (c->config.print_fd >= 0 && write(c->config.print_fd, text, len) < 0)
        return;
}

/* ---- ends of runs -------------------------------------------------------- */

static enum calls_outcome crash(struct calls *c, struct fuzz_result *result)
{
    if (!c->is_fuzzing)
        return abort_run(
            c, result, "%s", "the agent has crashed in front of its root");
    result->verdict = FUZZ_CRASH;
    return CALLS_END;
}

static enum calls_outcome panic(
    struct calls *c, uint64_t arg, struct fuzz_result *result)
{
    if ((arg & FUZZ_ABI_PANIC_USER) != 0) {
        result->signal = (uint32_t)((arg >> FUZZ_ABI_PANIC_SIGNAL_SHIFT) &
                                    FUZZ_ABI_PANIC_SIGNAL_MASK);
        result->rip = arg & FUZZ_ABI_PANIC_RIP_MASK;
        say(c, "signal %u at 0x%llx\n", result->signal,
            (unsigned long long)result->rip);
    } else if (arg == 0) {
        say(c, "the guest's kernel panicked\n");
    } else {
        say(c, "a program of the guest has crashed\n");
    }
    return crash(c, result);
}

static enum calls_outcome done(uint64_t arg, struct fuzz_result *result)
{
    int status = (int)(uint32_t)arg;

    result->status = status;
    result->verdict = FUZZ_OK;
    if (WIFSIGNALED(status)) {
        result->signal = (uint32_t)WTERMSIG(status);
        result->verdict = FUZZ_CRASH;
    }
    return CALLS_END;
}

/* ---- configuration ------------------------------------------------------- */

static enum calls_outcome hello(struct calls *c, struct fuzz_agent *agent,
    const struct guest_view *view, uint64_t arg, struct fuzz_result *result)
{
    struct fuzz_abi_hello hello;
    struct err err = {.text = "it is not in memory"};
    int rc = guest_view_read(view, arg, &hello, sizeof(hello));

    if (rc == 0)
        rc = fuzz_agent_hello(agent, view, &hello, &err);
    return rc < 0 ? abort_run(c, result, "the agent's hello: %s", err.text)
                  : CALLS_GO_ON;
}

static enum calls_outcome give_host_config(struct calls *c,
    const struct guest_view *view, uint64_t arg, struct fuzz_result *result)
{
    const struct fuzz_abi_host_config config = {.magic = FUZZ_ABI_HOST_MAGIC,
        .version = FUZZ_ABI_HOST_VERSION,
        .bitmap_size =
            c->config.map_size == 0 ? MAP_DEFAULT : c->config.map_size,
        .ijon_bitmap_size = NUM_PAGE_SIZE,
        .payload_buffer_size = FUZZ_ABI_INPUT_MAX,
        .worker_id = c->config.worker};

    if (guest_view_write(view, arg, &config, sizeof(config)) < 0)
        return abort_run(c, result, "no memory for the host's configuration");
    c->has_host_config = true;
    return CALLS_GO_ON;
}

static enum calls_outcome take_agent_config(struct calls *c,
    struct fuzz_agent *agent, const struct guest_view *view, uint64_t arg,
    struct fuzz_result *result)
{
    struct fuzz_abi_agent_config config;
    struct err err;
    uint64_t size;

    if (guest_view_read(view, arg, &config, sizeof(config)) < 0 ||
        config.magic != FUZZ_ABI_AGENT_MAGIC ||
        config.version != FUZZ_ABI_AGENT_VERSION ||
        config.input_buffer_size != 0)
        return abort_run(c, result, "the agent's configuration is not Nyx's");
    if (c->has_agent_config)
        return abort_run(c, result, "the agent configures itself twice");
    c->has_agent_config = true;
    agent->space = view->regs;
    if (fuzz_agent_add_space(agent, &view->regs) < 0)
        return abort_run(c, result, "too many processes call");
    if (config.agent_tracing == 0)
        return CALLS_GO_ON;
    size = config.coverage_bitmap_size == 0 ? MAP_DEFAULT
                                            : config.coverage_bitmap_size;
    if (config.trace_buffer_vaddr % NUM_PAGE_SIZE != 0)
        return abort_run(c, result, "the agent's map is not page-aligned");
    if (fuzz_agent_set_range(&agent->map, view, config.trace_buffer_vaddr, size,
            FUZZ_ABI_MAP_MAX, &err) < 0)
        return abort_run(c, result, "the agent's map: %s", err.text);
    return CALLS_GO_ON;
}

/* The agent has locked as much as it was told, and the size in front. */
static enum calls_outcome take_payload(struct calls *c,
    struct fuzz_agent *agent, const struct guest_view *view, uint64_t arg,
    struct fuzz_result *result)
{
    const uint64_t head = sizeof(struct fuzz_abi_payload);
    struct err err;
    int rc;

    if (!c->has_host_config)
        return abort_run(c, result, "%s",
            "the agent gives room for inputs and has not asked how much they "
            "need (GET_HOST_CONFIG)");
    if (arg % NUM_PAGE_SIZE != 0)
        return abort_run(c, result, "the agent's payload is not page-aligned");
    rc = fuzz_agent_set_range(
        &agent->input_size, view, arg, head, sizeof(uint32_t), &err);
    if (rc == 0)
        rc = fuzz_agent_set_range(&agent->input, view, arg + head,
            FUZZ_ABI_INPUT_MAX - head, FUZZ_ABI_INPUT_MAX, &err);
    if (rc < 0)
        return abort_run(c, result, "the agent's payload: %s", err.text);
    agent->space = view->regs;
    if (fuzz_agent_add_space(agent, &view->regs) < 0)
        return abort_run(c, result, "too many processes call");
    agent->has_spoken = true;
    return CALLS_GO_ON;
}

/* There is no processor trace, so no ranges of it either. */
static enum calls_outcome give_ranges(struct calls *c,
    const struct guest_view *view, uint64_t arg, struct fuzz_result *result)
{
    const struct fuzz_abi_ranges ranges = {0};

    if (guest_view_write(view, arg, &ranges, sizeof(ranges)) < 0)
        return abort_run(c, result, "no memory for the ranges to trace");
    return CALLS_GO_ON;
}

static enum calls_outcome keep_page(struct calls *c, struct fuzz_agent *agent,
    const struct guest_view *view, uint64_t arg, struct fuzz_result *result)
{
    int rc = agent_keep_page(agent, view, arg);

    if (rc == -ENOSPC)
        return abort_run(
            c, result, "more than %u pages are to persist", AGENT_KEPT_MAX);
    if (rc < 0)
        return abort_run(c, result,
            "the page at 0x%llx, which is to persist, "
            "is not in memory",
            (unsigned long long)arg);
    return CALLS_GO_ON;
}

static enum calls_outcome patch(struct calls *c, const struct guest_view *view,
    uint64_t at, enum fuzz_abi_call number, struct fuzz_result *result)
{
    uint8_t stub[sizeof(crash_stub)];

    memcpy(stub, crash_stub, sizeof(stub));
    stub[CRASH_STUB_NUMBER] = (uint8_t)number;
    if (guest_view_write(view, at, stub, sizeof(stub)) < 0)
        return abort_run(c, result, "there is no function at 0x%llx",
            (unsigned long long)at);
    return CALLS_GO_ON;
}

/* ---- files --------------------------------------------------------------- */

/* A regular file below the folder, whatever links lie in it. */
static int open_beneath(int dir_fd, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};

    if (dir_fd < 0)
        return -ENOENT;
    return (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
}

/* Opens what is asked for, unless it is what is being sent already. */
static int find_stream(struct calls *c, const char *name)
{
    if (c->stream_fd >= 0 && strcmp(name, c->stream) == 0)
        return 0;
    fd_closep(&c->stream_fd);
    c->stream_fd = open_beneath(c->config.share_fd, name);
    if (c->stream_fd < 0) {
        c->stream_fd = -1;
        return -ENOENT;
    }
    (void)snprintf(c->stream, sizeof(c->stream), "%s", name);
    return 0;
}

static uint64_t send_page(
    struct calls *c, const struct guest_view *view, uint64_t to)
{
    uint8_t bytes[FUZZ_ABI_STREAM_BYTES];
    ssize_t n = fd_read_full(c->stream_fd, bytes, sizeof(bytes));

    if (n < 0 || guest_view_write(view, to, bytes, (size_t)n) < 0) {
        fd_closep(&c->stream_fd);
        return FUZZ_ABI_STREAM_FAILED;
    }
    if (n == 0)
        fd_closep(&c->stream_fd);
    return (uint64_t)n;
}

static uint64_t send_stream(
    struct calls *c, const struct guest_view *view, uint64_t arg)
{
    char name[sizeof(c->stream)];

    (void)guest_view_string(view, arg, name, sizeof(name));
    if (find_stream(c, name) < 0)
        return FUZZ_ABI_STREAM_FAILED;
    return send_page(c, view, arg);
}

static uint64_t send_bulk(
    struct calls *c, const struct guest_view *view, uint64_t arg)
{
    struct fuzz_abi_bulk bulk;
    uint64_t total = 0;

    if (guest_view_read(view, arg, &bulk, sizeof(bulk)) < 0)
        return FUZZ_ABI_STREAM_FAILED;
    bulk.file_name[sizeof(bulk.file_name) - 1] = '\0';
    if (find_stream(c, bulk.file_name) < 0)
        return FUZZ_ABI_STREAM_FAILED;
    for (uint64_t i = 0;
         i < num_min(bulk.num_addresses, ARRAY_SIZE(bulk.addresses)); i++) {
        uint64_t n = send_page(c, view, bulk.addresses[i]);

        if (n == FUZZ_ABI_STREAM_FAILED)
            return n;
        total += n;
        if (n < FUZZ_ABI_STREAM_BYTES)
            break;
    }
    return total;
}

static int write_dump(const struct guest_view *view,
    const struct fuzz_abi_dump_file *dump, int fd)
{
    uint8_t bytes[FUZZ_ABI_STREAM_BYTES];
    uint64_t at = dump->data_ptr;
    uint64_t left = dump->bytes;
    int rc = 0;

    while (rc == 0 && left > 0) {
        size_t n = (size_t)num_min(left, sizeof(bytes));

        rc = guest_view_read(view, at, bytes, n);
        if (rc == 0)
            rc = fd_write_full(fd, bytes, n);
        at += n;
        left -= n;
    }
    return rc;
}

static int open_dump(int dir_fd, const char *name, int flags)
{
    return openat(dir_fd, name,
        O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | flags, 0600);
}

/* As mkstemps(3) makes a name of a pattern, but in order. */
static int open_unique(struct calls *c, char *name, char *pattern)
{
    for (; c->dumps < DUMPS_MAX; c->dumps++) {
        char digits[sizeof(DUMP_PATTERN)];
        int fd;

        (void)snprintf(digits, sizeof(digits), "%06u", c->dumps);
        memcpy(pattern, digits, sizeof(digits) - 1);
        fd = open_dump(c->config.dump_fd, name, O_EXCL);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* The name's last part alone, so that it stays in the folder. */
static uint64_t dump_file(
    struct calls *c, const struct guest_view *view, uint64_t arg)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct fuzz_abi_dump_file dump;
    char text[sizeof(c->stream)];
    char *pattern;
    char *name;

    if (c->config.dump_fd < 0 || c->dumps == DUMPS_MAX ||
        guest_view_read(view, arg, &dump, sizeof(dump)) < 0 ||
        dump.bytes > DUMP_MAX - c->dumped)
        return FUZZ_ABI_STREAM_FAILED;
    c->dumped += dump.bytes;
    (void)guest_view_string(view, dump.file_name_str_ptr, text, sizeof(text));
    if (text[0] == '\0')
        (void)snprintf(text, sizeof(text), "%s", DUMP_UNNAMED);
    name = strrchr(text, '/') == NULL ? text : strrchr(text, '/') + 1;
    if (name[0] == '\0' || name[0] == '.')
        return FUZZ_ABI_STREAM_FAILED;
    pattern = strstr(name, DUMP_PATTERN);
    if (pattern != NULL)
        fd = open_unique(c, name, pattern);
    else
        fd = open_dump(
            c->config.dump_fd, name, dump.append != 0 ? O_APPEND : O_TRUNC);
    c->dumps++;
    if (fd < 0 || write_dump(view, &dump, fd) < 0)
        return FUZZ_ABI_STREAM_FAILED;
    return 0;
}

/* ---- all of them --------------------------------------------------------- */

static enum calls_outcome configure(struct calls *c, struct fuzz_agent *agent,
    const struct guest_view *view, uint64_t number, uint64_t arg,
    struct fuzz_result *result, uint64_t *ret_rax)
{
    if (c->is_fuzzing)
        return abort_run(c, result, "call %llu belongs in front of the root",
            (unsigned long long)number);
    switch (number) {
    case FUZZ_ABI_HELLO:
        return hello(c, agent, view, arg, result);
    case FUZZ_ABI_GET_HOST_CONFIG:
        return give_host_config(c, view, arg, result);
    case FUZZ_ABI_SET_AGENT_CONFIG:
        return take_agent_config(c, agent, view, arg, result);
    case FUZZ_ABI_GET_PAYLOAD:
        return take_payload(c, agent, view, arg, result);
    case FUZZ_ABI_USER_RANGE_ADVISE:
        return give_ranges(c, view, arg, result);
    case FUZZ_ABI_PERSIST_PAGE:
        return keep_page(c, agent, view, arg, result);
    case FUZZ_ABI_SUBMIT_PANIC:
        return patch(c, view, arg, FUZZ_ABI_PANIC, result);
    case FUZZ_ABI_SUBMIT_KASAN:
        return patch(c, view, arg, FUZZ_ABI_KASAN, result);
    case FUZZ_ABI_REQ_STREAM_DATA:
        *ret_rax = send_stream(c, view, arg);
        return CALLS_GO_ON;
    case FUZZ_ABI_REQ_STREAM_DATA_BULK:
    default:
        *ret_rax = send_bulk(c, view, arg);
        return CALLS_GO_ON;
    }
}

enum calls_outcome calls_serve(struct calls *c, struct fuzz_agent *agent,
    const struct guest_view *view, uint64_t number, uint64_t arg,
    struct fuzz_result *result, uint64_t *ret_rax)
{
    *ret_rax = 0;
    switch (number) {
    case FUZZ_ABI_RELEASE:
        /* In front of the root it ends a handshake that means nothing now. */
        result->verdict = FUZZ_OK;
        return c->is_fuzzing ? CALLS_END : CALLS_GO_ON;
    case FUZZ_ABI_DONE:
        return done(arg, result);
    case FUZZ_ABI_PANIC:
        return panic(c, arg, result);
    case FUZZ_ABI_PANIC_EXTENDED:
        take_string(c, view, arg);
        return crash(c, result);
    case FUZZ_ABI_KASAN:
        /* As Nyx has it, what is found on the way to the root is no end. */
        result->verdict = FUZZ_SANITIZER;
        return c->is_fuzzing ? CALLS_END : CALLS_GO_ON;
    case FUZZ_ABI_USER_ABORT:
        take_string(c, view, arg);
        return abort_run(c, result, "%s", "");
    case FUZZ_ABI_PRINTF:
        print(c, view, arg);
        return CALLS_GO_ON;
    case FUZZ_ABI_REPORT:
        c->reports = true;
        if (!take_text(c, view, arg) || !c->is_fuzzing ||
            !c->config.stops_at_report || c->report == CALLS_READ_ON)
            return CALLS_GO_ON;
        c->report = CALLS_AT_REPORT;
        result->verdict = FUZZ_SANITIZER;
        return CALLS_END;
    case FUZZ_ABI_DUMP_FILE:
        *ret_rax = dump_file(c, view, arg);
        return CALLS_GO_ON;
    case FUZZ_ABI_ROOT:
        return CALLS_ROOT;
    case FUZZ_ABI_NEXT_PAYLOAD:
    case FUZZ_ABI_USER_FAST_ACQUIRE:
        if (!agent->has_spoken)
            return abort_run(c, result, "%s",
                "the agent asks for an input before it has told where that "
                "goes (GET_PAYLOAD)");
        if (!c->is_fuzzing)
            c->has_acquire = number == FUZZ_ABI_NEXT_PAYLOAD;
        return CALLS_ROOT;
    case FUZZ_ABI_ACQUIRE:
        if (c->is_fuzzing)
            return c->stops_at_acquire ? CALLS_ROOT : CALLS_GO_ON;
        /* The same handshake, or an agent without NEXT_PAYLOAD. */
        return agent->has_spoken ? CALLS_ROOT : CALLS_GO_ON;
    case FUZZ_ABI_LEVEL:
        c->level = arg;
        return CALLS_LEVEL;
    case FUZZ_ABI_CREATE_TMP_SNAPSHOT:
        /* Nyx's says nothing of the input. */
        c->level = 0;
        return c->is_fuzzing ? CALLS_LEVEL : CALLS_GO_ON;
    case FUZZ_ABI_SUBMIT_CR3:
        if (!c->is_fuzzing && fuzz_agent_add_space(agent, &view->regs) < 0)
            return abort_run(c, result, "too many processes call");
        return CALLS_GO_ON;
    case FUZZ_ABI_LOCK:
    case FUZZ_ABI_USER_SUBMIT_MODE:
    case FUZZ_ABI_RANGE_SUBMIT:
    case FUZZ_ABI_DEBUG_TMP_SNAPSHOT:
        return CALLS_GO_ON;
    case FUZZ_ABI_USER_RANGE_ADVISE:
    case FUZZ_ABI_PERSIST_PAGE:
    case FUZZ_ABI_HELLO:
    case FUZZ_ABI_GET_HOST_CONFIG:
    case FUZZ_ABI_SET_AGENT_CONFIG:
    case FUZZ_ABI_GET_PAYLOAD:
    case FUZZ_ABI_SUBMIT_PANIC:
    case FUZZ_ABI_SUBMIT_KASAN:
    case FUZZ_ABI_REQ_STREAM_DATA:
    case FUZZ_ABI_REQ_STREAM_DATA_BULK:
        return configure(c, agent, view, number, arg, result, ret_rax);
    default:
        return abort_run(c, result, "the agent makes an unknown call, 0x%llx",
            (unsigned long long)number);
    }
}
