/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/passt.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/config_text.h"

/* The number of its socket in passt's process. */
#define CHILD_FD 3

#define ARGS_MAX  (32u + 2u * CONFIG_FORWARDS_MAX)
#define WORDS_MAX (8u + CONFIG_FORWARDS_MAX)

/* The command line, and the words of it that had to be written. */
struct command {
    char *argv[ARGS_MAX + 1];
    unsigned int argc;
    char words[WORDS_MAX][CONFIG_TEXT_MAX];
    unsigned int word_count;
};

static void add(struct command *c, const char *word)
{
    assert(c->argc < ARGS_MAX);
    /* posix_spawn takes what it does not change as char *. */
    c->argv[c->argc++] = (char *)(uintptr_t)word;
    c->argv[c->argc] = NULL;
}

static char *new_word(struct command *c)
{
    assert(c->word_count < WORDS_MAX);
    return c->words[c->word_count++];
}

static void add_address(struct command *c, const char *option, uint32_t address)
{
    char *word = new_word(c);

    config_format_ipv4(address, word);
    add(c, option);
    add(c, word);
}

static void add_forwards(
    struct command *c, const struct passt_config *config, bool is_udp)
{
    const char *option = is_udp ? "--udp-ports" : "--tcp-ports";
    bool any = false;

    for (uint32_t i = 0; i < config->forward_count; i++) {
        char *word;

        if (config->forwards[i].is_udp != is_udp)
            continue;
        word = new_word(c);
        config_format_forward(&config->forwards[i], word);
        add(c, option);
        add(c, word);
        any = true;
    }
    if (any)
        return;
    add(c, option);
    add(c, "none");
}

static void build_command(struct command *c, const struct passt_config *config)
{
    char *word = new_word(c);

    add(c, "passt");
    add(c, "--foreground");
    add(c, "--quiet");
    add(c, "--ipv4-only");
    (void)snprintf(word, CONFIG_TEXT_MAX, "%d", CHILD_FD);
    add(c, "--fd");
    add(c, word);
    add_address(c, "--address", config->address);
    word = new_word(c);
    (void)snprintf(word, CONFIG_TEXT_MAX, "%u", (unsigned int)config->prefix);
    add(c, "--netmask");
    add(c, word);
    add_address(c, "--gateway", config->gateway);
    add_address(c, "--dns", config->dns);
    add_address(c, "--dns-forward", config->dns);
    add_forwards(c, config, false);
    add_forwards(c, config, true);
}

/*
 * passt would say so too, but only when the guest is on its way. Somebody
 * else may still be faster; then its message is all there is.
 */
static int check_port(const struct config_forward *f, struct err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
        .sin_port = htons(f->host_port),
        .sin_addr.s_addr = htonl(f->address)};
    CC_CLEANUP(fd_closep)
    int fd = socket(
        AF_INET, (f->is_udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    int on = 1;
    char text[CONFIG_TEXT_MAX];

    if (fd < 0)
        return err_sys(err, errno, "cannot create a socket");
    /* passt does not mind connections that are about to end either. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)(const void *)&address,
            sizeof(address)) == 0)
        return 0;
    config_format_ipv4(f->address, text);
    return err_sys(err, errno, "cannot forward %s port %u of %s",
        f->is_udp ? "UDP" : "TCP", f->host_port, text);
}

/* What the child is to have: nothing of ours but what is given here. */
static int spawn(
    struct command *c, int socket_fd, int message_fd, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    char *const env[] = {NULL};
    sigset_t none;
    sigset_t all;
    int rc = posix_spawn_file_actions_init(&actions);

    if (rc != 0)
        return -rc;
    rc = posix_spawnattr_init(&attr);
    if (rc != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return -rc;
    }
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &all);
    (void)posix_spawnattr_setpgroup(&attr, 0);
    (void)posix_spawnattr_setflags(&attr,
        POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    /* Both are above 3: see start_with. */
    rc = posix_spawn_file_actions_addopen(
        &actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(
            &actions, STDIN_FILENO, STDOUT_FILENO);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(
            &actions, message_fd, STDERR_FILENO);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, socket_fd, CHILD_FD);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(&actions, CHILD_FD + 1);
    if (rc == 0)
        rc = posix_spawnp(ret_pid, c->argv[0], &actions, &attr, c->argv, env);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

/* The last line that is not about the log itself, or "". */
static void last_message(int fd, char *text, size_t size)
{
    char buf[4096];
    size_t len = 0;
    ssize_t n;

    text[0] = '\0';
    do {
        char *line = buf;
        char *end;

        n = read(fd, buf + len, sizeof(buf) - 1 - len);
        len += n > 0 ? (size_t)n : 0;
        buf[len] = '\0';
        while ((end = memchr(line, '\n', len)) != NULL) {
            *end = '\0';
            /* Its complaint that there is no syslog. */
            if (line[0] != '\0' && strncmp(line, "Failed to send ", 15) != 0)
                (void)snprintf(text, size, "%.180s", line);
            len -= (size_t)(end - line) + 1;
            line = end + 1;
        }
        memmove(buf, line, len);
        /* A line that fills all of it is not worth keeping. */
        if (len == sizeof(buf) - 1)
            len = 0;
    } while (n > 0);
    for (char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
}

static void forget(struct passt *p)
{
    loop_remove(p->loop, &p->source);
    fd_closep(&p->source.fd);
    fd_closep(&p->message_fd);
    p->pid = 0;
}

static void on_exit_event(void *opaque, uint32_t events)
{
    struct passt *p = opaque;
    char message[200];
    char why[300];
    int status = 0;

    (void)events;
    if (waitpid(p->pid, &status, WNOHANG) != p->pid)
        return;
    last_message(p->message_fd, message, sizeof(message));
    if (WIFSIGNALED(status))
        (void)snprintf(
            why, sizeof(why), "passt was ended by signal %d", WTERMSIG(status));
    else if (message[0] != '\0')
        (void)snprintf(why, sizeof(why), "passt ended with status %d: %s",
            WEXITSTATUS(status), message);
    else
        (void)snprintf(why, sizeof(why), "passt ended with status %d",
            WEXITSTATUS(status));
    forget(p);
    p->on_end(p->opaque, why);
}

static int start_failed(int code, struct err *err)
{
    if (code == -ENOENT)
        return err_set(err, ENOENT,
            "passt is not installed: `apt-get install passt` as root, or use "
            "another network, as --net tap=NAME");
    return err_sys(err, code, "cannot start passt");
}

/* A descriptor that no dup2 to 0 up to CHILD_FD overwrites. */
static int move_up(int *fd)
{
    int high = fcntl(*fd, F_DUPFD_CLOEXEC, CHILD_FD + 1);

    if (high < 0)
        return -errno;
    (void)close(*fd);
    *fd = high;
    return 0;
}

static int start_with(struct passt *p, struct command *c, int *socket_fd,
    int *message_fd, struct err *err)
{
    int rc = move_up(socket_fd);

    if (rc == 0)
        rc = move_up(message_fd);
    if (rc == 0)
        rc = spawn(c, *socket_fd, *message_fd, &p->pid);
    if (rc < 0)
        return start_failed(rc, err);
    p->source.fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    if (p->source.fd < 0)
        return err_sys(err, errno, "cannot watch passt");
    rc = loop_add(p->loop, &p->source, EPOLLIN);
    return rc < 0 ? err_sys(err, rc, "cannot watch passt") : 0;
}

int passt_start(struct passt *passt, const struct passt_config *config,
    struct loop *loop, int *ret_fd, struct err *err)
{
    int sockets[2] = {-1, -1};
    int pipes[2] = {-1, -1};
    struct command command = {.argc = 0};
    int rc = 0;

    assert(config->prefix >= 1 && config->prefix <= PASST_PREFIX_MAX);
    *passt = (struct passt){.loop = loop,
        .message_fd = -1,
        .source = {.fd = -1,
            .handle = on_exit_event,
            .opaque = passt,
            .dev = config->dev},
        .on_end = config->on_end,
        .opaque = config->opaque};
    for (uint32_t i = 0; rc == 0 && i < config->forward_count; i++)
        rc = check_port(&config->forwards[i], err);
    if (rc < 0)
        return rc;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0 ||
        pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0) {
        rc = err_sys(err, errno, "cannot connect passt");
        goto out;
    }
    build_command(&command, config);
    passt->message_fd = pipes[0];
    rc = start_with(passt, &command, &sockets[1], &pipes[1], err);
    if (rc < 0)
        passt_stop(passt);
    else
        *ret_fd = fd_steal(&sockets[0]);
out:
    fd_closep(&sockets[0]);
    fd_closep(&sockets[1]);
    fd_closep(&pipes[1]);
    return rc;
}

void passt_stop(struct passt *passt)
{
    if (passt->loop == NULL)
        return;
    if (passt->pid != 0) {
        /* By descriptor: a jail lets no other process be named. */
        if (passt->source.fd >= 0)
            (void)syscall(
                SYS_pidfd_send_signal, passt->source.fd, SIGKILL, NULL, 0);
        else
            (void)kill(passt->pid, SIGKILL);
        while (waitpid(passt->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    forget(passt);
    passt->loop = NULL;
}
