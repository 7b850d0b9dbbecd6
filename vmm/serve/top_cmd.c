/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/top_cmd.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/serve/top_rows.h"
#include "vmm/tty.h"
#include "vmm/vm_client.h"

#define DELAY_MIN_S 0.1
#define DELAY_MAX_S 3600.0

static const char help[] =
    "usage: spore top [options]\n"
    "\n"
    "Shows the machines and servers of this user that run, and the VMs that\n"
    "serve, again and again: state, CPU time, memory that is theirs alone, "
    "and\n"
    "what they read and write. On a terminal: q ends; c, m, i, a, n sort by\n"
    "CPU, memory, I/O, age, name. Elsewhere it is plain text.\n"
    "\n"
    "  -d, --delay SECONDS     between two looks (2)\n"
    "  -1, --once              once only\n"
    "      --json              a JSON array a line\n"
    "  -h, --help              this text\n";

struct top {
    double delay_s;
    bool once;
    bool is_json;
    bool is_terminal;
    enum top_order order;
    struct top_rows before;
    struct tty tty;
    int signals_fd;
};

/* ---- printing ----------------------------------------------------------- */

static void print_age(uint64_t ms)
{
    unsigned long long s = ms / 1000;

    if (s < 60)
        (void)printf("%4llu.%llus", s, (unsigned long long)(ms % 1000 / 100));
    else if (s < 3600)
        (void)printf("%4llum%02llu", s / 60, s % 60);
    else
        (void)printf("%4lluh%02llu", s / 3600, s / 60 % 60);
}

static void print_row(const struct top_row *r, const char *end)
{
    (void)printf("%s%-*.*s  %-9.9s  %7lld  ", r->kind == TOP_CLONE ? "  " : "",
        r->kind == TOP_CLONE ? 18 : 20, r->kind == TOP_CLONE ? 18 : 20, r->name,
        r->state, (long long)r->pid);
    print_age(r->age_ms);
    (void)printf("  %6.1f  %9.1f  ", r->cpu_percent,
        (double)r->private_bytes / (double)NUM_MIB);
    if (r->has_io)
        (void)printf("%9.2f", r->io_per_s / (double)NUM_MIB);
    else
        (void)printf("%9s", "-");
    if (r->kind == TOP_SERVER)
        (void)printf("  %llu serving, %llu waiting, %llu ready",
            (unsigned long long)r->running, (unsigned long long)r->queued,
            (unsigned long long)r->ready);
    (void)fputs(end, stdout);
}

static void print_table(
    const struct top_rows *rows, size_t most, const char *end)
{
    (void)printf("%-20s  %-9s  %7s  %7s  %6s  %9s  %9s%s", "NAME", "STATE",
        "PID", "AGE", "CPU %", "PRIV MiB", "I/O MiB/s", end);
    for (size_t i = 0; i < rows->count && i < most; i++)
        print_row(&rows->rows[i], end);
}

static int print_json(const struct top_rows *rows, struct err *err)
{
    json_t *json = top_rows_json(rows);

    if (json == NULL || json_dumpf(json, stdout, JSON_COMPACT) < 0) {
        json_decref(json);
        return err_set(err, ENOMEM, "cannot print JSON");
    }
    json_decref(json);
    (void)putchar('\n');
    return 0;
}

static int print(
    const struct top *top, const struct top_rows *rows, struct err *err)
{
    uint16_t lines = 0;
    uint16_t columns = 0;
    int rc = 0;

    if (top->is_json) {
        rc = print_json(rows, err);
    } else if (!top->is_terminal) {
        print_table(rows, SIZE_MAX, "\n");
        if (!top->once)
            (void)putchar('\n');
    } else {
        /* From the top; each line, and then what is below, is wiped. */
        if (!tty_size(STDOUT_FILENO, &lines, &columns))
            lines = 24;
        (void)fputs("\033[H", stdout);
        print_table(rows, lines > 2 ? lines - 2u : 1, "\033[K\r\n");
        (void)fputs("\033[J", stdout);
    }
    if (fflush(stdout) == EOF && rc == 0)
        rc = err_sys(err, errno, "standard output");
    return rc;
}

/* ---- looking again ------------------------------------------------------ */

static int look(struct top *top, struct err *err)
{
    struct top_rows rows;
    int rc = top_rows_gather(&rows, err);

    if (rc == 0) {
        top_rows_compare(
            &rows, top->before.taken_ns == 0 ? NULL : &top->before);
        top_rows_sort(&rows, top->order);
        rc = print(top, &rows, err);
    }
    top_rows_fini(&top->before);
    top->before = rows;
    return rc;
}

/* False: it is to end. */
static bool take_key(struct top *top)
{
    char key;
    ssize_t n = read(STDIN_FILENO, &key, 1);

    if (n <= 0 || key == 'q' || key == 3 || key == 4)
        return false;
    switch (key) {
    case 'c':
        top->order = TOP_BY_CPU;
        break;
    case 'm':
        top->order = TOP_BY_MEMORY;
        break;
    case 'i':
        top->order = TOP_BY_IO;
        break;
    case 'a':
        top->order = TOP_BY_AGE;
        break;
    case 'n':
        top->order = TOP_BY_NAME;
        break;
    default:
        break;
    }
    return true;
}

/* Until the next look is due or a key was pressed; false: it is to end. */
static bool wait_next(struct top *top)
{
    struct pollfd pfds[2] = {{.fd = top->signals_fd, .events = POLLIN},
        {.fd = top->is_terminal ? STDIN_FILENO : -1, .events = POLLIN}};
    int n = poll(pfds, 2, (int)(top->delay_s * 1e3));

    if (n < 0)
        return errno == EINTR;
    if (pfds[0].revents != 0)
        return false;
    return pfds[1].revents == 0 || take_key(top);
}

static int open_signals(struct top *top, struct err *err)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_sys(err, errno, "cannot block signals");
    top->signals_fd = signalfd(-1, &set, SFD_CLOEXEC);
    return top->signals_fd < 0 ? err_sys(err, errno, "cannot create a signalfd")
                               : 0;
}

static int run(struct top *top, struct err *err)
{
    int rc = open_signals(top, err);

    if (rc == 0 && top->is_terminal) {
        rc = tty_raw(&top->tty, STDIN_FILENO, err);
        /* The other screen, without a cursor. */
        if (rc == 0)
            (void)fputs("\033[?1049h\033[?25l", stdout);
    }
    if (rc == 0)
        rc = look(top, err);
    while (rc == 0 && !top->once && wait_next(top))
        rc = look(top, err);
    if (top->tty.fd >= 0) {
        (void)fputs("\033[?25h\033[?1049l", stdout);
        (void)fflush(stdout);
        tty_restore(&top->tty);
    }
    fd_closep(&top->signals_fd);
    top_rows_fini(&top->before);
    return rc;
}

/* ---- the command line --------------------------------------------------- */

static int parse_delay(const char *text, double *ret_s, struct err *err)
{
    char *end;
    double s;

    errno = 0;
    s = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' ||
        !(s >= DELAY_MIN_S && s <= DELAY_MAX_S))
        return err_set(
            err, EINVAL, "--delay %s: it must be 0.1 to 3600 seconds", text);
    *ret_s = s;
    return 0;
}

/* 0, or 1 for help, or -EINVAL. */
static int parse(struct top *top, int argc, char **argv, struct err *err)
{
    static const struct option options[] = {
        {"delay", required_argument, NULL, 'd'},
        {"once", no_argument, NULL, '1'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int opt;
    int rc = 0;

    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while (rc == 0 &&
           (opt = getopt_long(argc, argv, "d:1h", options, NULL)) != -1) {
        switch (opt) {
        case 'd':
            rc = parse_delay(optarg, &top->delay_s, err);
            break;
        case '1':
            top->once = true;
            break;
        case 'j':
            top->is_json = true;
            break;
        case 'h':
            return 1;
        default:
            return err_set(err, EINVAL,
                "%s is unknown, or lacks its value: see spore top --help",
                argv[optind - 1]);
        }
    }
    if (rc == 0 && optind < argc)
        return err_set(err, EINVAL, "it takes no arguments");
    return rc;
}

int cmd_top(int argc, char **argv)
{
    struct top top = {.delay_s = 2, .tty = {.fd = -1}, .signals_fd = -1};
    struct err err;
    int rc = parse(&top, argc, argv, &err);

    if (rc > 0) {
        (void)fputs(help, stdout);
        return 0;
    }
    top.is_terminal = !top.once && !top.is_json && isatty(STDIN_FILENO) == 1 &&
                      isatty(STDOUT_FILENO) == 1;
    if (rc == 0)
        rc = run(&top, &err);
    if (rc < 0)
        (void)fprintf(stderr, "spore: top: %s\n", err.text);
    return rc < 0 ? VM_CLIENT_STATUS_FAILED : 0;
}
