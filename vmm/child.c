/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/words.h"

#define MORE_FOLDERS "/usr/sbin:/sbin"

/* Where programs of the system's administration are, for ordinary users. */
static int find_program(const char *name, char **ret_path, struct err *err)
{
    const char *path = getenv("PATH");
    struct words all = {0};
    int rc = -ENOENT;

    if (strchr(name, '/') != NULL) {
        *ret_path = strdup(name);
        return *ret_path == NULL ? err_sys(err, ENOMEM, "%s", name) : 0;
    }
    words_addf(&all, "%s:" MORE_FOLDERS, path == NULL ? "/usr/bin" : path);
    if (all.failed)
        return err_sys(err, ENOMEM, "%s", name);
    for (const char *dir = all.list[0]; rc == -ENOENT && *dir != '\0';) {
        size_t size = strcspn(dir, ":");
        char *file;

        if (asprintf(&file, "%.*s/%s", (int)size, dir, name) < 0) {
            rc = -ENOMEM;
        } else if (access(file, X_OK) == 0) {
            *ret_path = file;
            rc = 0;
        } else {
            free(file);
        }
        dir += size;
        dir += *dir == ':' ? 1 : 0;
    }
    words_fini(&all);
    return rc < 0 ? err_sys(err, rc, "%s", name) : 0;
}

static size_t name_size(const char *variable)
{
    return strcspn(variable, "=");
}

static bool is_in(char *const *env, const char *variable)
{
    for (size_t i = 0; env != NULL && env[i] != NULL; i++) {
        if (name_size(env[i]) == name_size(variable) &&
            memcmp(env[i], variable, name_size(variable)) == 0)
            return true;
    }
    return false;
}

static void make_env(char *const *more, struct words *env)
{
    for (size_t i = 0; environ != NULL && environ[i] != NULL; i++) {
        if (!is_in(more, environ[i]))
            words_add(env, environ[i]);
    }
    for (size_t i = 0; more != NULL && more[i] != NULL; i++)
        words_add(env, more[i]);
}

/* In the child, where only what is safe in signal handlers is allowed. */
CC_NORETURN static void become(const char *path, char *const *argv,
    char *const *env, pid_t parent, int fds[3], int report_fd)
{
    sigset_t none;
    int code;

    (void)setpgid(0, 0);
    for (int i = 1; i < NSIG; i++)
        (void)signal(i, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
        dup2(fds[0], STDIN_FILENO) >= 0 && dup2(fds[1], STDOUT_FILENO) >= 0 &&
        dup2(fds[2], STDERR_FILENO) >= 0)
        (void)execve(path, argv, env);
    code = errno;
    (void)!write(report_fd, &code, sizeof(code));
    _exit(127);
}

/* What kept it from becoming the program, 0 if nothing did. */
static int read_report(int report_fd)
{
    int code = 0;
    ssize_t n = fd_read_full(report_fd, &code, sizeof(code));

    return n == (ssize_t)sizeof(code) ? -code : n < 0 ? (int)n : 0;
}

static int start(const struct child_options *o, const char *path,
    char *const *env, pid_t *ret_pid)
{
    CC_CLEANUP(fd_closep) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    CC_CLEANUP(fd_closep) int read_fd = -1;
    CC_CLEANUP(fd_closep) int write_fd = -1;
    pid_t parent = getpid();
    int report[2];
    int status;
    pid_t pid;
    int rc;

    if (null_fd < 0 || pipe2(report, O_CLOEXEC) < 0)
        return -errno;
    read_fd = report[0];
    write_fd = report[1];
    pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        become(path, o->argv, env, parent,
            (int[]){o->in_fd < 0 ? null_fd : o->in_fd,
                o->out_fd < 0 ? null_fd : o->out_fd,
                o->err_fd < 0 ? null_fd : o->err_fd},
            write_fd);
    fd_closep(&write_fd);
    rc = read_report(read_fd);
    if (rc < 0)
        (void)waitpid(pid, &status, 0);
    else
        *ret_pid = pid;
    return rc;
}

int child_start(
    const struct child_options *options, pid_t *ret_pid, struct err *err)
{
    struct words env = {0};
    char *path = NULL;
    int rc = find_program(options->argv[0], &path, err);

    if (rc < 0)
        return rc;
    make_env(options->env, &env);
    rc = env.failed ? -ENOMEM : start(options, path, env.list, ret_pid);
    words_fini(&env);
    if (rc < 0)
        rc = err_sys(err, rc, "%s", path);
    free(path);
    return rc;
}

int child_wait(pid_t pid, int *ret_status)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    *ret_status = status;
    return 0;
}

/* The text in a file of memory, cut at CHILD_TEXT_MAX. */
static int take_text(int fd, char **ret_text)
{
    char *text = calloc(1, CHILD_TEXT_MAX + 1);
    ssize_t n;

    if (text == NULL)
        return -ENOMEM;
    n = fd_pread_full(fd, text, CHILD_TEXT_MAX, 0);
    if (n < 0) {
        free(text);
        return (int)n;
    }
    *ret_text = text;
    return 0;
}

int child_run(char *const *argv, char *const *env, int *ret_status,
    char **ret_text, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = memfd_create("output", MFD_CLOEXEC);
    struct child_options options = {
        .argv = argv, .env = env, .in_fd = -1, .out_fd = fd, .err_fd = fd};
    int status = 0;
    pid_t pid;
    int rc;

    if (fd < 0)
        return err_sys(err, errno, "%s", argv[0]);
    rc = child_start(&options, &pid, err);
    if (rc < 0)
        return rc;
    rc = child_wait(pid, &status);
    if (rc == 0)
        rc = take_text(fd, ret_text);
    if (rc < 0)
        return err_sys(err, rc, "%s", argv[0]);
    *ret_status = status;
    return 0;
}
