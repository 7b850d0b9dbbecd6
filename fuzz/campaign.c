/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/campaign.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz/campaign_command.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/child.h"

#define REPORT_EVERY_NS (5 * CLOCK_NS_PER_S)
#define END_PATIENCE_NS (10 * CLOCK_NS_PER_S)

/* How much of a fuzzer's last words is shown. */
#define LAST_WORDS_BYTES 8192u
#define LAST_WORDS_SHOWN 240u

/* What afl-fuzz -X and -Y say where there is no CPU left for them. */
#define NO_CPU "Nyx CPU ID is not set"

struct job {
    pid_t pid; /* 0: ended */
    char *log; /* NULL: on the screen */
};

struct campaign {
    const struct campaign_options *options;
    campaign_report *report;
    void *arg;
    sigset_t signals;
    struct job jobs[CAMPAIGN_JOBS_MAX];
    uint32_t started;
    uint32_t running;
    bool is_ending; /* because somebody asked for it */
    struct err *err;
};

/* ---- starting ------------------------------------------------------------ */

static int make_folder(const char *path, struct err *err)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", path);
    return 0;
}

static int open_log(struct campaign *c, uint32_t number, int *ret_fd)
{
    char *folder;
    int rc;

    if (asprintf(&folder, "%s/" CAMPAIGN_LOGS, c->options->out) < 0)
        return err_sys(c->err, ENOMEM, "%s", c->options->out);
    rc = make_folder(c->options->out, c->err);
    if (rc == 0)
        rc = make_folder(folder, c->err);
    if (rc == 0 &&
        asprintf(&c->jobs[number].log, "%s/%u.log", folder, number) < 0) {
        c->jobs[number].log = NULL;
        rc = err_sys(c->err, ENOMEM, "%s", folder);
    }
    free(folder);
    if (rc < 0)
        return rc;
    *ret_fd = open(c->jobs[number].log,
        O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    return *ret_fd < 0 ? err_sys(c->err, errno, "%s", c->jobs[number].log) : 0;
}

static int start(
    struct campaign *c, const struct campaign_command *command, uint32_t number)
{
    CC_CLEANUP(fd_closep) int log_fd = -1;
    struct child_options child = {.argv = command->argv.list,
        .in_fd = -1,
        .env = command->env.list,
        .out_fd = STDOUT_FILENO,
        .err_fd = STDERR_FILENO};
    int rc = 0;

    if (!c->options->has_screen) {
        rc = open_log(c, number, &log_fd);
        child.out_fd = log_fd;
        child.err_fd = log_fd;
    }
    if (rc == 0)
        rc = child_start(&child, &c->jobs[number].pid, c->err);
    if (rc == -ENOENT)
        return err_set(c->err, ENOENT,
            "%s is not installed: apt-get install afl++", child.argv[0]);
    if (rc < 0)
        return rc;
    c->started++;
    c->running++;
    return 0;
}

static int start_all(struct campaign *c)
{
    for (uint32_t i = 0; i < c->options->jobs; i++) {
        struct campaign_command command;
        int rc = campaign_command_make(c->options, i, &command, c->err);

        if (rc < 0)
            return rc;
        rc = start(c, &command, i);
        campaign_command_fini(&command);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- ends ---------------------------------------------------------------- */

static void signal_all(const struct campaign *c, int sig)
{
    for (uint32_t i = 0; i < c->started; i++) {
        /* With what it has started: it leads a group. */
        if (c->jobs[i].pid > 0)
            (void)kill(-c->jobs[i].pid, sig);
    }
}

/* Without colours and whatever else is no text; in place. */
static void clean(char *text)
{
    char *to = text;

    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\033') {
            while (c[1] != '\0' && !(*c >= '@' && *c <= '~' && *c != '['))
                c++;
        } else if (*c == '\n' || (*c >= ' ' && *c <= '~')) {
            *to++ = *c == '\n' ? ' ' : *c;
        }
    }
    *to = '\0';
}

/* What it said of its failure, or at least last; the caller frees. */
static char *last_words(const char *log)
{
    CC_CLEANUP(fd_closep) int fd = open(log, O_RDONLY | O_CLOEXEC);
    char *text = calloc(1, LAST_WORDS_BYTES + 1);
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    char *from;

    if (text == NULL || size <= 0 ||
        fd_pread_full(fd, text, LAST_WORDS_BYTES,
            size > (off_t)LAST_WORDS_BYTES ? (uint64_t)size - LAST_WORDS_BYTES
                                           : 0) <= 0) {
        free(text);
        return NULL;
    }
    clean(text);
    from = strstr(text, "PROGRAM ABORT");
    if (from == NULL)
        from = strstr(text, "SYSTEM ERROR");
    if (from == NULL && strlen(text) > LAST_WORDS_SHOWN)
        from = text + strlen(text) - LAST_WORDS_SHOWN;
    if (from != NULL)
        memmove(text, from, strlen(from) + 1);
    return text;
}

static int failed(struct campaign *c, uint32_t number, int status)
{
    const char *log = c->jobs[number].log;
    char *words = log == NULL ? NULL : last_words(log);
    int rc;

    if (words != NULL && strstr(words, NO_CPU) != NULL)
        rc = err_set(c->err, EBUSY,
            "afl-fuzz %u finds no CPU that no other process is bound to, which "
            "-X and -Y need: end those, take fewer --jobs, or --with afl",
            number);
    else if (WIFSIGNALED(status))
        rc = err_set(c->err, EIO, "afl-fuzz %u was ended by signal %d", number,
            WTERMSIG(status));
    else
        rc = err_set(c->err, EIO, "afl-fuzz %u failed%s%.240s%s%s%s", number,
            log == NULL     ? ": what it says is above"
            : words == NULL ? ""
                            : ": ",
            words == NULL ? "" : words,
            log == NULL ? "" : " (all of it: ", log == NULL ? "" : log,
            log == NULL ? "" : ")");
    free(words);
    return rc;
}

/* Takes those that have ended: -EIO, with its words, for the first failure. */
static int reap(struct campaign *c)
{
    int rc = 0;

    for (uint32_t i = 0; i < c->started; i++) {
        int status;

        if (c->jobs[i].pid == 0 ||
            waitpid(c->jobs[i].pid, &status, WNOHANG) != c->jobs[i].pid)
            continue;
        c->jobs[i].pid = 0;
        c->running--;
        if (rc == 0 && !c->is_ending &&
            !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
            rc = failed(c, i, status);
    }
    return rc;
}

/* ---- while it runs ------------------------------------------------------- */

static void tell(struct campaign *c)
{
    struct afl_stats all = {0};

    for (uint32_t i = 0; i < c->started; i++) {
        struct afl_stats one;
        char *path;

        if (asprintf(&path, "%s/%s/plot_data", c->options->out,
                campaign_job_name(c->options, i).text) < 0)
            continue;
        if (afl_stats_read(path, &one) == 0) {
            all.seconds = num_max(all.seconds, one.seconds);
            all.execs += one.execs;
            all.corpus += one.corpus;
            all.crashes += one.crashes;
            all.hangs += one.hangs;
            all.edges = num_max(all.edges, one.edges);
        }
        free(path);
    }
    c->report(c->arg, &all, c->running);
}

/* The next signal, or 0 when the time has come. */
static int wait_signal(const struct campaign *c, uint64_t until_ns)
{
    uint64_t now = clock_now_ns();
    uint64_t left = until_ns > now ? until_ns - now : 0;
    struct timespec ts = {.tv_sec = (time_t)(left / CLOCK_NS_PER_S),
        .tv_nsec = (long)(left % CLOCK_NS_PER_S)};
    int sig = sigtimedwait(&c->signals, NULL, &ts);

    return sig < 0 ? 0 : sig;
}

static int watch(struct campaign *c)
{
    uint64_t next = clock_now_ns() + REPORT_EVERY_NS;
    int rc = 0;

    while (rc == 0 && c->running > 0 && !c->is_ending) {
        int sig = wait_signal(c, next);

        if (sig == SIGCHLD) {
            rc = reap(c);
        } else if (sig != 0) {
            c->is_ending = true;
        } else {
            if (!c->options->has_screen)
                tell(c);
            next = clock_now_ns() + REPORT_EVERY_NS;
        }
    }
    return rc;
}

/* In order first, so that they write down what they know. */
static void end_all(struct campaign *c)
{
    uint64_t until = clock_now_ns() + END_PATIENCE_NS;

    c->is_ending = true;
    signal_all(c, SIGTERM);
    while (reap(c) == 0 && c->running > 0 && clock_now_ns() < until)
        (void)wait_signal(c, until);
    signal_all(c, SIGKILL);
    for (uint32_t i = 0; i < c->started; i++) {
        int status;

        if (c->jobs[i].pid > 0)
            (void)waitpid(c->jobs[i].pid, &status, 0);
    }
}

int campaign_run(const struct campaign_options *options,
    campaign_report *report, void *arg, struct err *err)
{
    struct campaign *c = calloc(1, sizeof(*c));
    sigset_t before;
    int rc;

    if (c == NULL)
        return err_sys(err, ENOMEM, "a campaign");
    c->options = options;
    c->report = report;
    c->arg = arg;
    c->err = err;
    (void)sigemptyset(&c->signals);
    (void)sigaddset(&c->signals, SIGINT);
    (void)sigaddset(&c->signals, SIGTERM);
    (void)sigaddset(&c->signals, SIGHUP);
    (void)sigaddset(&c->signals, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &c->signals, &before);
    rc = start_all(c);
    if (rc == 0)
        rc = watch(c);
    end_all(c);
    if (c->started > 0)
        tell(c);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    for (uint32_t i = 0; i < CAMPAIGN_JOBS_MAX; i++)
        free(c->jobs[i].log);
    free(c);
    return rc;
}
