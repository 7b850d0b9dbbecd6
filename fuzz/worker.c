/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/worker.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz/worker_serve.h"
#include "fuzz/worker_wire.h"
#include "jail/cell.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"

/* How often a caller that waits looks whether there is still a worker. */
#define LOOK_NS 100000000L
/* Beyond a run's own time: a reset, and whatever the host is busy with. */
#define GRACE_NS (UINT64_C(30) * CLOCK_NS_PER_S)
/* For what opens in milliseconds. */
#define OPEN_NS (UINT64_C(60) * CLOCK_NS_PER_S)

struct worker {
    struct executor *ex; /* in this process; else NULL */
    struct worker_page *page;
    uint8_t *input;
    struct cell cell;
    int pid_fd;
    uint8_t *map;
    size_t map_room; /* bytes of a map of our own */
    size_t map_size;
    size_t input_max;
    size_t text_size;
    uint32_t asked; /* commands; the page's is for the worker */
    int lost;       /* 0, or why there is no worker any more */
    struct err why;
};

/* ---- a worker that ends -------------------------------------------------- */

static int tell_end(const siginfo_t *info, struct err *err)
{
    int status = info->si_status;

    if (info->si_code == CLD_EXITED && status != 128 + SIGSYS)
        return err_set(
            err, ESHUTDOWN, "the worker ended with status %d", status);
    if (info->si_code == CLD_EXITED || status == SIGSYS)
        return err_set(err, ESHUTDOWN,
            "the jail does not allow a system call that the worker made "
            "(SIGSYS; a build that is no release names it): a guest has taken "
            "it over, or set SPORE_JAIL=off and report it");
    if (status == SIGKILL)
        return err_set(err, ESHUTDOWN,
            "the worker was killed (SIGKILL): for lack of memory, if dmesg "
            "says so");
    return err_set(err, ESHUTDOWN, "the worker was ended by signal %d (%s)",
        status, strsignal(status));
}

/* 0: it is there. */
static int look(const struct worker *w, struct err *err)
{
    siginfo_t info = {.si_pid = 0};

    if (waitid(P_PIDFD, (id_t)w->pid_fd, &info, WEXITED | WNOHANG | WNOWAIT) <
        0)
        return err_set(err, ESHUTDOWN, "the worker has ended");
    return info.si_pid == 0 ? 0 : tell_end(&info, err);
}

static void kill_worker(const struct worker *w)
{
    (void)syscall(SYS_pidfd_send_signal, w->pid_fd, SIGKILL, NULL, 0);
}

/* ---- starting ------------------------------------------------------------ */

static int hear_hello(
    const struct worker *w, struct worker_hello *ret_hello, struct err *err)
{
    struct pollfd fd = {.fd = w->cell.link_fd, .events = POLLIN};
    uint64_t until_ns = clock_now_ns() + OPEN_NS;
    ssize_t n;
    int rc;

    do {
        uint64_t now_ns = clock_now_ns();

        rc = now_ns >= until_ns
                 ? 0
                 : poll(&fd, 1,
                       (int)((until_ns - now_ns) / CLOCK_NS_PER_MS) + 1);
    } while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return err_set(err, ETIMEDOUT, "the worker does not start");
    n = recv(w->cell.link_fd, ret_hello, sizeof(*ret_hello), 0);
    if (n == (ssize_t)sizeof(*ret_hello))
        return 0;
    /* Its end of the link is closed a moment before it can be waited for. */
    fd = (struct pollfd){.fd = w->pid_fd, .events = POLLIN};
    (void)poll(&fd, 1, 1000);
    rc = look(w, err);
    return rc < 0 ? rc : err_set(err, EPROTO, "the worker says nothing");
}

/* No guest has run yet; all the same nothing of it is taken unseen. */
static int take_hello(struct worker *w, size_t room, struct worker_hello *hello,
    size_t *ret_need, struct err *err)
{
    if (ret_need != NULL)
        *ret_need = hello->map_size;
    hello->err.text[sizeof(hello->err.text) - 1] = '\0';
    if (hello->rc < 0)
        return err_set(err, hello->rc, "%s", hello->err.text);
    if (hello->map_size > room || hello->input_max > FUZZ_ABI_INPUT_MAX)
        return err_set(err, EPROTO,
            "the worker has a map of %llu bytes, inputs of up to %u",
            (unsigned long long)hello->map_size, hello->input_max);
    w->map_size = hello->map_size;
    w->input_max = hello->input_max;
    return 0;
}

/* One that could not be opened has ended by now: its hello says why. */
static void greet(const struct worker *w)
{
    const struct worker_greeting greeting = {.pid = w->cell.pid};

    (void)!send(w->cell.link_fd, &greeting, sizeof(greeting), MSG_NOSIGNAL);
}

static void *make_shared(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

/* The options with a map, and who clears it. */
static struct worker_setup set_up(const struct worker *w,
    const struct fuzz_target *target, const struct worker_options *options,
    struct worker_options *with_map)
{
    *with_map = *options;
    if (with_map->map.at == NULL)
        with_map->map = (struct worker_area){.at = w->map, .size = w->map_room};
    return (struct worker_setup){.target = target,
        .options = with_map,
        .clears = options->map.at == NULL,
        .page = w->page,
        .cell = &w->cell};
}

static int start_process(struct worker *w, const struct fuzz_target *target,
    const struct worker_options *options, size_t *ret_need, struct err *err)
{
    struct worker_options with_map;
    const struct worker_setup setup = set_up(w, target, options, &with_map);
    const struct cell_options cell = {
        .strict = options->jail->level == JAIL_STRICT, .cgroup_fd = -1};
    struct worker_hello hello;
    int rc = cell_fork(&w->cell, &cell, err);

    if (rc == 0)
        worker_serve(&setup);
    if (rc < 0)
        return rc;
    w->pid_fd = (int)syscall(SYS_pidfd_open, w->cell.pid, 0);
    if (w->pid_fd < 0) {
        rc = err_sys(err, errno, "cannot watch the worker");
        (void)kill(w->cell.pid, SIGKILL);
        (void)waitpid(w->cell.pid, NULL, 0);
        return rc;
    }
    greet(w);
    rc = hear_hello(w, &hello, err);
    return rc < 0
               ? rc
               : take_hello(w, setup.options->map.size, &hello, ret_need, err);
}

static int start_here(struct worker *w, const struct fuzz_target *target,
    const struct worker_options *options, size_t *ret_need, struct err *err)
{
    struct worker_options with_map;
    const struct worker_setup setup = set_up(w, target, options, &with_map);
    size_t need = 0;
    int rc = worker_open_executor(&setup, &w->ex, &need, err);

    if (ret_need != NULL)
        *ret_need = need;
    if (rc < 0)
        return rc;
    w->map_size = need;
    w->input_max = num_min(executor_input_max(w->ex), FUZZ_ABI_INPUT_MAX);
    return 0;
}

static int make_areas(
    struct worker *w, const struct worker_options *options, struct err *err)
{
    w->page = make_shared(WORKER_BYTES);
    w->map = options->map.at;
    if (w->map == NULL) {
        w->map = make_shared(FUZZ_ABI_MAP_MAX);
        w->map_room = w->map != NULL ? FUZZ_ABI_MAP_MAX : 0;
    }
    if (w->page == NULL || w->map == NULL)
        return err_sys(err, errno, "no memory for a worker");
    w->input = (uint8_t *)w->page + WORKER_INPUT_AT;
    return 0;
}

int worker_start(const struct fuzz_target *target,
    const struct worker_options *options, struct worker **ret_worker,
    size_t *ret_need, struct err *err)
{
    struct worker *w = malloc(sizeof(*w));
    int rc;

    if (w == NULL)
        return err_sys(err, ENOMEM, "a worker");
    *w = (struct worker){.cell = CELL_NONE, .pid_fd = -1};
    rc = make_areas(w, options, err);
    if (rc == 0)
        rc = options->jail->level == JAIL_OFF
                 ? start_here(w, target, options, ret_need, err)
                 : start_process(w, target, options, ret_need, err);
    if (rc < 0)
        worker_stop(w);
    else
        *ret_worker = w;
    return rc;
}

void worker_stop(struct worker *w)
{
    if (w == NULL)
        return;
    executor_free(w->ex);
    if (w->pid_fd >= 0) {
        kill_worker(w);
        while (waitid(P_PIDFD, (id_t)w->pid_fd, NULL, WEXITED) < 0 &&
               errno == EINTR)
            ;
    }
    fd_closep(&w->pid_fd);
    fd_closep(&w->cell.link_fd);
    if (w->page != NULL)
        (void)munmap(w->page, WORKER_BYTES);
    if (w->map_room > 0)
        (void)munmap(w->map, w->map_room);
    free(w);
}

/* ---- what it has --------------------------------------------------------- */

uint8_t *worker_input(struct worker *w)
{
    return w->input;
}

size_t worker_input_max(const struct worker *w)
{
    return w->input_max;
}

size_t worker_map_size(const struct worker *w)
{
    return w->map_size;
}

uint8_t *worker_map(struct worker *w)
{
    return w->map;
}

size_t worker_text_size(const struct worker *w)
{
    return w->text_size;
}

size_t worker_text(struct worker *w, void *buf, size_t size)
{
    const char *from = (const char *)w->page + WORKER_TEXT_AT;
    size_t n = num_min(size, w->text_size);
    size_t have = 0;

    if (w->ex != NULL) {
        from = executor_text(w->ex, &have);
        n = num_min(n, have);
    }
    if (n > 0)
        memcpy(buf, from, n);
    return n;
}

/* ---- commands ------------------------------------------------------------ */

static int wait_for_answer(
    const struct worker *w, uint32_t before, uint64_t until_ns, struct err *err)
{
    const struct timespec slice = {.tv_nsec = LOOK_NS};
    struct worker_page *page = w->page;

    for (;;) {
        uint32_t now = __atomic_load_n(&page->answered, __ATOMIC_ACQUIRE);

        if (now == before + 1)
            return 0;
        if (now != before)
            return err_set(err, EPROTO, "the worker answers what nobody asked");
        if (syscall(SYS_futex, &page->answered, FUTEX_WAIT, before, &slice,
                NULL, 0) < 0 &&
            errno != EAGAIN) {
            int rc = look(w, err);

            if (rc < 0)
                return rc;
            if (clock_now_ns() > until_ns)
                return err_set(
                    err, ESHUTDOWN, "the worker does not answer any more");
        }
    }
}

static int take_error(const struct worker *w, int rc, struct err *err)
{
    struct err copy;

    memcpy(&copy, &w->page->err, sizeof(copy));
    copy.text[sizeof(copy.text) - 1] = '\0';
    for (char *p = copy.text; *p != '\0'; p++) {
        if (*p < ' ' || *p > '~')
            *p = '?';
    }
    return err_set(err, rc > -4096 ? rc : -EPROTO, "%s", copy.text);
}

/* Has the worker do what the page says. */
static int ask(struct worker *w, enum worker_command command,
    uint64_t timeout_us, struct err *err)
{
    struct worker_page *page = w->page;
    uint32_t before = w->asked;
    uint64_t wait_ns;
    int32_t worker_rc;

    if (w->lost < 0)
        return err_set(err, w->lost, "%s", w->why.text);
    if (!num_mul(timeout_us, 1000, &wait_ns) ||
        !num_add(wait_ns, clock_now_ns() + GRACE_NS, &wait_ns))
        wait_ns = UINT64_MAX;
    page->command = command;
    page->timeout_us = timeout_us;
    w->asked = before + 1;
    __atomic_store_n(&page->asked, w->asked, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, &page->asked, FUTEX_WAKE, 1, NULL, NULL, 0);
    w->lost = wait_for_answer(w, before, wait_ns, &w->why);
    if (w->lost < 0) {
        kill_worker(w);
        return err_set(err, w->lost, "%s", w->why.text);
    }
    worker_rc = __atomic_load_n(&page->rc, __ATOMIC_RELAXED);
    return worker_rc < 0 ? take_error(w, worker_rc, err) : 0;
}

static int take_text_size(struct worker *w, struct err *err)
{
    uint32_t size = __atomic_load_n(&w->page->text_size, __ATOMIC_RELAXED);

    if (size > EXECUTOR_TEXT_MAX)
        return err_set(err, EPROTO, "the worker answers with nonsense");
    w->text_size = size;
    return 0;
}

/* The worker may write while it is looked at, so it is a copy that counts. */
static int take_result(
    struct worker *w, struct fuzz_result *ret_result, struct err *err)
{
    struct fuzz_result result;
    uint32_t verdict;

    memcpy(&result, &w->page->result, sizeof(result));
    memcpy(&verdict, &result.verdict, sizeof(verdict));
    if (verdict >= FUZZ_VERDICTS)
        return err_set(err, EPROTO, "the worker answers with nonsense");
    *ret_result = result;
    return take_text_size(w, err);
}

int worker_run(struct worker *w, const void *input, size_t size,
    uint64_t timeout_us, struct fuzz_result *ret_result, struct err *err)
{
    int rc;

    size = num_min(size, w->input_max);
    w->text_size = 0;
    __atomic_store_n(&w->page->cancel, 0, __ATOMIC_RELAXED);
    if (w->ex != NULL) {
        rc = executor_run(w->ex, input, size, timeout_us, ret_result, err);
        if (rc == 0)
            (void)executor_text(w->ex, &w->text_size);
        return rc;
    }
    if (input != w->input)
        memcpy(w->input, input, size);
    w->page->size = (uint32_t)size;
    rc = ask(w, WORKER_RUN, timeout_us, err);
    return rc < 0 ? rc : take_result(w, ret_result, err);
}

int worker_read_on(struct worker *w, uint64_t timeout_us, struct err *err)
{
    int rc;

    __atomic_store_n(&w->page->cancel, 0, __ATOMIC_RELAXED);
    if (w->ex != NULL) {
        rc = executor_read_on(w->ex, timeout_us, err);
        if (rc == 0)
            (void)executor_text(w->ex, &w->text_size);
        return rc;
    }
    rc = ask(w, WORKER_READ_ON, timeout_us, err);
    return rc < 0 ? rc : take_text_size(w, err);
}

void worker_cancel(const struct worker *w)
{
    __atomic_store_n(&w->page->cancel, 1, __ATOMIC_RELAXED);
}
