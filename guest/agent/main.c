/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's start, in its three positions: process 1 of our initrd, process
 * 1 of a root file system, or a daemon beside another init.
 *
 * On some hosts a system call of the guest costs 0.3 ms, so the order is:
 * what readiness needs, ready, and only then what commands will expect.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "guest/agent/modules.h"
#include "guest/agent/mount.h"
#include "guest/agent/options.h"
#include "guest/agent/report.h"
#include "guest/agent/text.h"
#include "guest/agent/version.h"
#include "guest/agent/vsock.h"

#define CMDLINE_MAX 4096

/* On a file system in memory that every system has. */
#define GENERATION_PATH "/run/spore-generation"

struct start {
    struct options options;
    uint16_t port; /* of the timeline, open; 0: none */
    bool root_is_mounted;
    int listen_fd; /* or -errno */
    int ready_fd;  /* or -errno */
    bool connecting;
    char cmdline[CMDLINE_MAX];
};

static int read_file(const char *path, char *buf, size_t size)
{
    int fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    ssize_t n;
    int error;

    if (fd < 0)
        return -errno;
    n = read(fd, buf, size - 1);
    error = -errno;
    close(fd);
    if (n < 0)
        return error;
    buf[n] = '\0';
    return 0;
}

_Noreturn static void die(const struct start *s, const char *what, int error)
{
    struct power power = {
        .is_init = true,
        .off_is_restart = s->options.off_is_restart,
    };

    (void)mount_dev();
    report_error(what, error);
    power_off_now(&power);
}

static void open_timeline(struct start *s)
{
    uint16_t port = s->options.timeline_port;

    if (port == 0 || s->port != 0 || report_open_port(port) != 0)
        return;
    s->port = port;
    report_phase(port, REPORT_PHASE_START);
}

/*
 * A kernel without a console starts process 1 with no descriptors. Then the
 * listener would be descriptor 0, and a command's input would overlay it.
 */
static int above_stdio(int fd)
{
    int higher;

    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (higher < 0)
        higher = -errno;
    close(fd);
    do {
        fd = openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd < STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
    return higher;
}

static void become_ready(struct start *s)
{
    s->ready_fd = -ENODEV;
    s->listen_fd = above_stdio(vsock_listen(AGENT_BACKLOG));
    if (s->listen_fd < 0)
        return;
    s->ready_fd = vsock_connect_ready(&s->connecting);
    report_phase(s->port, REPORT_PHASE_READY);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 32 hexadecimal digits with hyphens; zeros if it cannot be read. */
static void read_boot_id(uint8_t id[16])
{
    char text[64] = "";
    size_t digits = 0;

    memset(id, 0, 16);
    if (read_file("/proc/sys/kernel/random/boot_id", text, sizeof(text)) != 0)
        return;
    for (const char *c = text; *c != '\0' && digits < 32; c++) {
        int value = hex_value(*c);

        if (value < 0)
            continue;
        id[digits / 2] = (uint8_t)(id[digits / 2] << 4 | value);
        digits++;
    }
}

static void complain(const struct start *s)
{
    if (s->listen_fd == -EAFNOSUPPORT)
        report_line("no host can reach this agent: the kernel has no vsock "
                    "(CONFIG_VSOCKETS and CONFIG_VIRTIO_VSOCKETS, or their "
                    "modules in the initrd)");
    else if (s->listen_fd < 0)
        report_error("no host can reach this agent: cannot listen on vsock",
            s->listen_fd);
    else if (s->ready_fd == -ENODEV || s->ready_fd == -ENETUNREACH)
        report_line("no host can reach this agent: the machine has no vsock "
                    "device");
    else if (s->ready_fd < 0)
        report_error("cannot announce this agent to the host", s->ready_fd);
}

/* Serves until a daemon is told to end. Negative errno if it cannot. */
static int serve(struct agent *a, struct start *s)
{
    int r = 0;

    if (s->listen_fd >= 0)
        r = agent_set_listener(a, s->listen_fd);
    if (r == 0 && s->ready_fd >= 0)
        r = agent_add(a, s->ready_fd, s->connecting);
    report_phase(s->port, REPORT_PHASE_SETTLED);
    while (r == 0 && !a->stop)
        r = agent_step(a);
    return r;
}

static int run_daemon(struct agent *a, struct start *s)
{
    int r;

    become_ready(s);
    complain(s);
    if (s->listen_fd < 0)
        return 1;
    read_boot_id(a->shared.boot_id);
    r = agent_init(a, AGENT_POSITION_DAEMON);
    if (r != 0) {
        report_error("cannot start", r);
        return 1;
    }
    r = serve(a, s);
    if (r != 0)
        report_error("cannot go on", r);
    agent_fini(a);
    return r != 0 ? 1 : 0;
}

/* The environment that the kernel gave, and what commands get besides. */
static void make_init_env(const struct start *s, char **env, size_t size)
{
    static char no_avx[] = EXEC_NO_AVX_NAME "=" EXEC_NO_AVX_VALUE;
    size_t n = 0;

    if (s->options.softkvm)
        env[n++] = no_avx;
    for (char **from = environ; *from != NULL && n < size - 1; from++)
        env[n++] = *from;
    env[n] = NULL;
}

/*
 * The other init becomes process 1, the agent its child. Returns in the
 * agent.
 */
static void start_other_init(const struct start *s)
{
    static char path[256];
    char *argv[2] = {path, NULL};
    char *env[64];
    pid_t pid;

    if (!text_copy(path, sizeof(path), s->options.init))
        die(s, "spore.init= is too long", -ENAMETOOLONG);
    pid = fork();
    if (pid < 0)
        die(s, "cannot fork for spore.init=", -errno);
    if (pid > 0) {
        make_init_env(s, env, sizeof(env) / sizeof(env[0]));
        execve(path, argv, env);
        die(s, path, -errno);
    }
    setsid();
}

static void enter_root(struct start *s)
{
    const char *step;
    int r = mount_switch_root(&s->options, &step);

    if (r != 0) {
        char what[320];
        struct text t;

        text_init(&t, what, sizeof(what));
        text_str(&t, step);
        text_str(&t, " root=");
        text_str(&t, s->options.root);
        die(s, what, r);
    }
    s->root_is_mounted = true;
    report_phase(s->port, REPORT_PHASE_ROOT);
}

static enum agent_position find_root(struct start *s)
{
    int r = mount_proc();

    if (r != 0)
        die(s, "cannot mount /proc", r);
    if (read_file("/proc/cmdline", s->cmdline, sizeof(s->cmdline)) == 0)
        options_take_line(&s->options, s->cmdline);
    open_timeline(s);
    if (!mount_root_is_initrd())
        return AGENT_POSITION_INIT;
    modules_load();
    if (s->options.root == NULL)
        return AGENT_POSITION_INITRD;
    enter_root(s);
    return AGENT_POSITION_INIT;
}

static void settle(const struct start *s, enum agent_position position)
{
    const char *hostname = s->options.hostname;

    if (!s->root_is_mounted)
        (void)mount_dev();
    mount_rest(position == AGENT_POSITION_INITRD || s->options.writable ||
               s->options.overlay);
    if (s->options.kernel_resolver)
        mount_resolver();
    /* Control-Alt-Delete becomes SIGINT to process 1. */
    (void)reboot(RB_DISABLE_CAD);
    if (hostname != NULL)
        (void)sethostname(hostname, strlen(hostname));
}

_Noreturn static void run_init(struct agent *a, struct start *s)
{
    enum agent_position position = find_root(s);
    int r;

    a->shared.exec.no_avx = s->options.softkvm;
    if (s->options.init != NULL && position == AGENT_POSITION_INIT &&
        s->root_is_mounted) {
        start_other_init(s);
        _exit(run_daemon(a, s));
    }
    become_ready(s);
    settle(s, position);
    complain(s);
    read_boot_id(a->shared.boot_id);
    a->shared.power.off_is_restart = s->options.off_is_restart;
    r = agent_init(a, position);
    if (r == 0)
        r = serve(a, s);
    die(s, "cannot go on", r);
}

static void print(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0)
        return;
}

int main(int argc, char **argv)
{
    static struct agent agent;
    static struct start start;

    agent.shared.generation.path = GENERATION_PATH;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--daemon") == 0)
            return run_daemon(&agent, &start);
        if (strcmp(argv[i], "--version") == 0) {
            print(STDOUT_FILENO, "spore-agent " AGENT_VERSION_TEXT "\n");
            return 0;
        }
        options_take_word(&start.options, argv[i]);
    }
    open_timeline(&start);
    if (getpid() != 1) {
        print(STDERR_FILENO,
            "spore-agent: not process 1: start it as the guest's init, or "
            "with --daemon\n");
        return 2;
    }
    run_init(&agent, &start);
}
