/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "vmm/artifacts.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/guest_exec.h"
#include "vmm/machine.h"
#include "vmm/run_options.h"
#include "vmm/tty.h"

#define STATUS_TIMEOUT 124
#define STATUS_MONITOR 125

/* The same signal so often ends the machine, whatever the command does. */
#define SIGNALS_TO_KILL 3

/* What an orderly power-off may take before the machine is just dropped. */
#define POWER_OFF_NS (10 * CLOCK_NS_PER_S)

struct run {
    struct run_options options;
    struct timings timings;
    struct loop loop;
    struct console console;
    struct kvm kvm;
    struct machine machine;
    struct guest_exec exec;
    struct tty tty;
    char *kernel_path;
    int console_fd;             /* owned; -1: none of our own */
    struct loop_source signals; /* owns its fd */
    sigset_t signals_before;
    bool signals_blocked;
    int last_signal;
    int signal_count;
    struct loop_timer timeout;
    struct loop_timer power_off;
    int power_off_fd; /* our end of the agent's connection; -1 */
    bool wants_tty;
    char term[64]; /* TERM=..., for the command */
    bool has_exec; /* the agent has connected */
    bool is_done;  /* `status` stands */
    int status;
};

static void finish(struct run *run, int status)
{
    if (run->is_done)
        return;
    run->is_done = true;
    run->status = status;
}

/* One line about why there is no command's status. */
static void complain(struct run *run, const char *text)
{
    if (run->is_done)
        return;
    tty_restore(&run->tty);
    (void)fprintf(stderr, "spore: run: %s\n", text);
}

static void show_console_tail(struct run *run)
{
    char tail[2048];
    size_t len;

    if (run->options.console == RUN_CONSOLE_STDIO ||
        run->options.console == RUN_CONSOLE_STDERR)
        return;
    len = console_tail(&run->console, tail, sizeof(tail));
    if (len == 0)
        return;
    (void)fputs("spore: run: last lines of the guest's console:\n", stderr);
    (void)fwrite(tail, 1, len, stderr);
    if (tail[len - 1] != '\n')
        (void)fputc('\n', stderr);
}

static void on_power_off_late(void *opaque)
{
    struct run *run = opaque;

    log_warn("run", "the guest did not power off: what it had not synced to "
                    "its drives is lost");
    loop_stop(&run->loop);
}

/*
 * Asks the agent to sync, unmount and power off. The machine's end stops the
 * loop then; a guest that does not answer is dropped after a while.
 */
static int ask_power_off(struct run *run)
{
    struct {
        struct agent_frame head;
        struct agent_power body;
    } frame = {.head = {.length = agent_le32_put(sizeof(struct agent_power)),
                   .type = agent_le16_put(AGENT_POWEROFF)}};
    struct device *dev = &run->machine.vsock->virtio.base;
    int fds[2];
    int rc;

    if (socketpair(
            AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -errno;
    run->power_off_fd = fds[0];
    rc = fd_write_full(fds[0], &frame, sizeof(frame));
    if (rc == 0) {
        device_lock(dev);
        rc = vsock_connect(run->machine.vsock, AGENT_PORT, fds[1], NULL);
        device_unlock(dev);
    }
    if (rc < 0) {
        (void)close(fds[1]);
        return rc;
    }
    loop_timer_arm(&run->loop, &run->power_off, clock_now_ns() + POWER_OFF_NS);
    return 0;
}

static void on_exec_started(void *opaque)
{
    struct run *run = opaque;

    timings_mark(&run->timings, TIMINGS_COMMAND);
}

static void on_exec_done(void *opaque, const struct guest_exec_result *result)
{
    struct run *run = opaque;

    timings_mark(&run->timings, TIMINGS_COMMAND_END);
    if (result->is_error && result->text[0] != '\0')
        complain(run, result->text);
    finish(run, result->status);
    tty_restore(&run->tty);
    if (!config_has_writable_file(&run->options.config) ||
        ask_power_off(run) < 0)
        loop_stop(&run->loop);
}

static int start_exec(struct run *run, int fd, struct err *err)
{
    static const char *const shell[] = {"/bin/sh", NULL};
    struct run_options *o = &run->options;
    struct guest_exec_config config = {
        .argv = o->command != NULL ? o->command : shell,
        .env = o->env,
        .tty = run->wants_tty,
        .stdin_fd = STDIN_FILENO,
        .stdout_fd = STDOUT_FILENO,
        .stderr_fd = STDERR_FILENO,
        .on_started = on_exec_started,
        .on_done = on_exec_done,
        .opaque = run};
    const char *term = getenv("TERM");
    int rc;

    if (run->wants_tty) {
        (void)tty_size(STDOUT_FILENO, &config.rows, &config.cols);
        if (term != NULL && o->env_count < RUN_ENV_MAX) {
            (void)snprintf(run->term, sizeof(run->term), "TERM=%s", term);
            o->env[o->env_count++] = run->term;
        }
        if (isatty(STDIN_FILENO)) {
            rc = tty_raw(&run->tty, STDIN_FILENO, err);
            if (rc < 0)
                return rc;
        }
    }
    return guest_exec_start(&run->exec, &run->loop, fd, &config, err);
}

/* The guest connects to one of our ports: the agent says that it is ready. */
static int on_accept(void *opaque, uint32_t guest_port, uint32_t host_port)
{
    struct run *run = opaque;
    struct err err;
    int fds[2];
    int rc;

    if (host_port != AGENT_PORT_READY || guest_port != AGENT_PORT_READY ||
        run->has_exec)
        return VSOCK_NOT_MINE;
    if (socketpair(
            AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -errno;
    timings_mark(&run->timings, TIMINGS_READY);
    run->has_exec = true;
    rc = start_exec(run, fds[0], &err);
    if (rc < 0) {
        complain(run, err.text);
        finish(run, STATUS_MONITOR);
        loop_stop(&run->loop);
        (void)close(fds[1]);
        return rc;
    }
    return fds[1];
}

/* What a machine's end means without an agent's word for it. */
static void on_machine_end(void *opaque, const struct machine_end *end)
{
    struct run *run = opaque;
    bool expected = !run->options.config.has_agent;

    if (!run->is_done) {
        switch (end->kind) {
        case MACHINE_EXITED:
            finish(run, end->status);
            break;
        case MACHINE_POWERED_OFF:
        case MACHINE_RESET:
            if (expected) {
                finish(run, 0);
                break;
            }
            complain(run, run->has_exec
                              ? "the guest ended before the command did"
                              : "the guest ended before its agent was ready");
            show_console_tail(run);
            break;
        case MACHINE_PANICKED:
        case MACHINE_FAULTED:
        default:
            complain(run, end->text);
            show_console_tail(run);
            break;
        }
        finish(run, STATUS_MONITOR);
    }
    loop_stop(&run->loop);
}

static void on_timeout(void *opaque)
{
    struct run *run = opaque;
    char text[96];

    (void)snprintf(text, sizeof(text), "timed out after %.3g s",
        (double)run->options.timeout_ns / (double)CLOCK_NS_PER_S);
    complain(run, text);
    machine_pause(&run->machine);
    if (!run->has_exec) {
        for (uint32_t i = 0; i < run->machine.vcpu_count; i++)
            (void)fprintf(stderr, "spore: run: vCPU %u was at rip 0x%llx\n", i,
                (unsigned long long)vcpu_get_rip(&run->machine.vcpus[i]));
        show_console_tail(run);
    }
    finish(run, STATUS_TIMEOUT);
    loop_stop(&run->loop);
}

static void on_escape(void *opaque)
{
    struct run *run = opaque;

    finish(run, 128 + SIGINT);
    loop_stop(&run->loop);
}

static void on_end_signal(struct run *run, int signal)
{
    run->signal_count = signal == run->last_signal ? run->signal_count + 1 : 1;
    run->last_signal = signal;
    if (run->has_exec && run->exec.phase == GUEST_EXEC_RUNNING &&
        run->signal_count < SIGNALS_TO_KILL) {
        guest_exec_signal(&run->exec, signal);
        return;
    }
    finish(run, 128 + signal);
    loop_stop(&run->loop);
}

static void on_signal(void *opaque, uint32_t events)
{
    struct run *run = opaque;
    struct signalfd_siginfo info;
    uint16_t rows;
    uint16_t cols;

    (void)events;
    if (read(run->signals.fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo != SIGWINCH)
        on_end_signal(run, (int)info.ssi_signo);
    else if (run->wants_tty && run->has_exec &&
             tty_size(STDOUT_FILENO, &rows, &cols))
        guest_exec_resize(&run->exec, rows, cols);
}

static int watch_signals(struct run *run, struct err *err)
{
    sigset_t set;
    int rc;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGQUIT);
    (void)sigaddset(&set, SIGWINCH);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigprocmask(SIG_BLOCK, &set, &run->signals_before);
    run->signals_blocked = true;
    run->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (run->signals.fd < 0)
        return err_sys(err, errno, "cannot create a signalfd");
    rc = loop_add(&run->loop, &run->signals, EPOLLIN);
    return rc < 0 ? err_sys(err, rc, "cannot watch signals") : 0;
}

/* Kernel and root file system, where the user named none. */
static int find_artifacts(struct run *run, struct err *err)
{
    struct run_options *o = &run->options;
    struct config_drive drive = config_drive_default();
    char id[] = "rootfs";
    int rc;

    if (o->config.kernel == NULL) {
        rc = artifacts_find(ARTIFACT_KERNEL, &run->kernel_path, err);
        if (rc < 0)
            return rc;
    }
    if (o->no_root || config_has_root(&o->config) || !o->config.has_agent)
        return 0;
    rc = artifacts_find(ARTIFACT_ROOTFS, &drive.path, err);
    if (rc < 0)
        return rc;
    drive.id = id;
    drive.is_root = true;
    drive.is_read_only = true;
    rc = config_add_drive(&o->config, &drive, err);
    free(drive.path);
    return rc;
}

static int open_console(struct run *run, struct err *err)
{
    const struct run_options *o = &run->options;
    int out = -1;
    int in = -1;

    switch (o->console) {
    case RUN_CONSOLE_STDIO:
        out = STDOUT_FILENO;
        in = STDIN_FILENO;
        break;
    case RUN_CONSOLE_STDERR:
        out = STDERR_FILENO;
        break;
    case RUN_CONSOLE_FILE:
        run->console_fd = open(o->console_file,
            O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
        if (run->console_fd < 0)
            return err_sys(err, errno, "%s", o->console_file);
        out = run->console_fd;
        break;
    case RUN_CONSOLE_TAIL:
    default:
        break;
    }
    console_init(&run->console, &run->loop, out, in);
    if (in >= 0 && isatty(in)) {
        console_set_escape(&run->console, on_escape, run);
        return tty_raw(&run->tty, in, err);
    }
    return 0;
}

static int start(struct run *run, struct err *err)
{
    struct machine_host host = {.kvm = &run->kvm,
        .loop = &run->loop,
        .console = &run->console,
        .timings = &run->timings,
        .on_end = on_machine_end,
        .accept = on_accept,
        .opaque = run};
    int rc = find_artifacts(run, err);

    if (rc == 0)
        rc = kvm_open(&run->kvm, err);
    if (rc == 0)
        rc = loop_init(&run->loop, err);
    if (rc == 0)
        rc = watch_signals(run, err);
    if (rc == 0)
        rc = open_console(run, err);
    if (rc < 0)
        return rc;
    host.kernel_path = run->kernel_path;
    run->timings.wants_emulated = run->options.timings != RUN_TIMINGS_OFF;
    rc = machine_init(&run->machine, &run->options.config, &host, err);
    if (rc < 0)
        return rc;
    if (run->options.timeout_ns != 0)
        loop_timer_arm(&run->loop, &run->timeout,
            run->timings.at_ns[TIMINGS_MAIN] + run->options.timeout_ns);
    return machine_start(&run->machine, err);
}

static void tear_down(struct run *run)
{
    machine_fini(&run->machine);
    guest_exec_fini(&run->exec);
    console_fini(&run->console);
    tty_restore(&run->tty);
    fd_closep(&run->power_off_fd);
    fd_closep(&run->console_fd);
    fd_closep(&run->signals.fd);
    if (run->signals_blocked)
        (void)sigprocmask(SIG_SETMASK, &run->signals_before, NULL);
    loop_fini(&run->loop);
    kvm_close(&run->kvm);
    free(run->kernel_path);
}

static void print_timings(struct run *run)
{
    timings_mark(&run->timings, TIMINGS_EXIT);
    if (run->options.timings == RUN_TIMINGS_JSON)
        timings_print_json(&run->timings, stderr);
    else
        timings_print(&run->timings, stderr);
}

static void run_guest(struct run *run)
{
    struct err err;
    int rc = start(run, &err);

    if (rc == 0) {
        rc = loop_run(&run->loop);
        if (rc < 0)
            rc = err_sys(&err, rc, "the event loop failed");
    }
    if (rc < 0) {
        complain(run, err.text);
        finish(run, STATUS_MONITOR);
    }
    tear_down(run);
    if (run->options.timings != RUN_TIMINGS_OFF)
        print_timings(run);
}

static void init(struct run *run)
{
    run->loop = (struct loop){
        .epoll_fd = -1, .wake_source = {.fd = -1}, .timer_source = {.fd = -1}};
    run->kvm.fd = -1;
    run->tty.fd = -1;
    run->console_fd = -1;
    run->power_off_fd = -1;
    run->signals =
        (struct loop_source){.fd = -1, .handle = on_signal, .opaque = run};
    run->timeout = (struct loop_timer){.fire = on_timeout, .opaque = run};
    run->power_off =
        (struct loop_timer){.fire = on_power_off_late, .opaque = run};
}

int cmd_run(int argc, char **argv)
{
    struct run *run = calloc(1, sizeof(*run));
    struct err err;
    int status;

    if (run == NULL) {
        (void)fputs("spore: run: out of memory\n", stderr);
        return STATUS_MONITOR;
    }
    timings_mark(&run->timings, TIMINGS_MAIN);
    timings_mark_at(&run->timings, TIMINGS_PROCESS,
        run->timings.at_ns[TIMINGS_MAIN] - clock_process_cpu_ns());
    init(run);
    if (run_options_parse(&run->options, argc, argv, &err) < 0) {
        complain(run, err.text);
        finish(run, STATUS_MONITOR);
    } else if (run->options.help) {
        (void)fputs(run_options_help, stdout);
        finish(run, 0);
    } else {
        run->wants_tty = run->options.tty == RUN_TTY_ON ||
                         (run->options.tty == RUN_TTY_AUTO &&
                             isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
        run_guest(run);
    }
    status = run->status;
    run_options_fini(&run->options);
    free(run);
    return status;
}
