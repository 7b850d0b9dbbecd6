/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/crowd.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define EVENTS 64
#define FAMILY 16u /* processes of a member that are looked at */

/* ---- starting ------------------------------------------------------------ */

/* What a process gets, in the order of its descriptors. */
struct stdio {
    int in;
    int out;
    int err;
    int marks;
};

static int spawn(char **argv, const struct stdio *io, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    int rc;

    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, io->in, STDIN_FILENO);
    (void)posix_spawn_file_actions_adddup2(&actions, io->out, STDOUT_FILENO);
    if (io->err >= 0)
        (void)posix_spawn_file_actions_adddup2(
            &actions, io->err, STDERR_FILENO);
    if (io->marks >= 0)
        (void)posix_spawn_file_actions_adddup2(&actions, io->marks, CROWD_FD);
    rc = posix_spawnp(ret_pid, argv[0], &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

static int fork_and_exec(char **argv, const struct stdio *io, pid_t *ret_pid)
{
    pid_t pid = fork();

    if (pid < 0)
        return -errno;
    if (pid == 0) {
        (void)dup2(io->in, STDIN_FILENO);
        (void)dup2(io->out, STDOUT_FILENO);
        if (io->err >= 0)
            (void)dup2(io->err, STDERR_FILENO);
        if (io->marks >= 0)
            (void)dup2(io->marks, CROWD_FD);
        (void)execvp(argv[0], argv);
        _exit(127);
    }
    *ret_pid = pid;
    return 0;
}

static int open_stdin(const struct crowd_config *config, int *ret_keep)
{
    /* A machine that reads before its state is there loses what it has read. */
    static const char bytes[256];
    int fds[2];

    if (!config->with_input)
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    (void)!write(fds[1], bytes, sizeof(bytes));
    *ret_keep = fds[1];
    return fds[0];
}

static int start_one(struct crowd *c, struct crowd_member *m, int null_fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = m};
    struct stdio io = {.marks = -1};
    int out[2] = {-1, -1};
    int marks[2] = {-1, -1};
    int rc;

    io.err = c->config.is_quiet ? null_fd : -1;
    io.in = open_stdin(&c->config, &m->in);
    if (io.in < 0 || pipe2(out, O_CLOEXEC) < 0 ||
        (c->config.with_marks && pipe2(marks, O_CLOEXEC) < 0)) {
        rc = -errno;
    } else {
        m->out = out[0];
        m->marks_fd = marks[0];
        io.out = out[1];
        io.marks = marks[1];
        m->asked_ns = clock_now_ns();
        rc = c->config.forks ? fork_and_exec(c->config.argv, &io, &m->pid)
                             : spawn(c->config.argv, &io, &m->pid);
    }
    fd_closep(&io.in);
    fd_closep(&out[1]);
    fd_closep(&marks[1]);
    if (rc == 0 && epoll_ctl(c->epoll, EPOLL_CTL_ADD, m->out, &event) < 0)
        rc = -errno;
    return rc;
}

static int take_byte(struct crowd *c, struct crowd_member *m)
{
    char byte;

    if (read(m->out, &byte, 1) != 1)
        return -ENODATA;
    m->byte_ns = clock_now_ns();
    m->is_there = true;
    c->there++;
    return epoll_ctl(c->epoll, EPOLL_CTL_DEL, m->out, NULL) < 0 ? -errno : 0;
}

/* Takes the bytes that are there, or waits until the end of time for one. */
static int take_bytes(struct crowd *c, uint64_t until_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t now = clock_now_ns();
    int timeout = 0;
    int n;
    int rc = 0;

    if (until_ns > 0 && now >= until_ns)
        return -ETIMEDOUT;
    if (until_ns > 0)
        timeout = (int)((until_ns - now) / CLOCK_NS_PER_MS) + 1;
    n = epoll_wait(c->epoll, events, EVENTS, timeout);
    if (n < 0 && errno != EINTR)
        return -errno;
    for (int i = 0; i < n && rc == 0; i++)
        rc = take_byte(c, events[i].data.ptr);
    return rc;
}

static int read_marks(struct crowd_member *m, uint64_t until_ns)
{
    struct pollfd poll_fd = {.fd = m->marks_fd, .events = POLLIN};
    uint64_t now = clock_now_ns();
    int timeout =
        now < until_ns ? (int)((until_ns - now) / CLOCK_NS_PER_MS) : 0;

    if (poll(&poll_fd, 1, timeout) != 1)
        return -ETIMEDOUT;
    return read(m->marks_fd, m->marks, sizeof(m->marks)) == sizeof(m->marks)
               ? 0
               : -ENODATA;
}

int crowd_start(
    struct crowd *c, const struct crowd_config *config, size_t count)
{
    uint64_t until = clock_now_ns() + config->timeout_ns;
    int null_fd;
    int rc = 0;

    *c = (struct crowd){.config = *config, .count = count};
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->members = calloc(count, sizeof(*c->members));
    null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (c->epoll < 0 || c->members == NULL || null_fd < 0) {
        fd_closep(&null_fd);
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        c->members[i].out = -1;
        c->members[i].in = -1;
        c->members[i].marks_fd = -1;
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = start_one(c, &c->members[i], null_fd);
        if (rc == 0)
            rc = take_bytes(c, 0);
    }
    fd_closep(&null_fd);
    while (rc == 0 && c->there < count)
        rc = take_bytes(c, until);
    for (size_t i = 0; i < count && rc == 0 && config->with_marks; i++)
        rc = read_marks(&c->members[i], until);
    return rc;
}

/* ---- what they cost ------------------------------------------------------ */

/* The number behind `name` in a file of lines "Name: N kB". */
static double read_kib(const char *path, const char *name)
{
    char line[256];
    double value = 0;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            value += strtod(line + strlen(name), NULL);
    }
    (void)fclose(file);
    return value;
}

/* proc(5), stat: fields 10 and 12, behind the name in parentheses. */
static void add_faults(pid_t pid, struct crowd_usage *usage)
{
    unsigned long minor;
    unsigned long major;
    char path[64];
    char text[1024];
    const char *rest;
    FILE *file;
    size_t len;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return;
    len = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[len] = '\0';
    rest = strrchr(text, ')');
    if (rest != NULL &&
        sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %lu %*u %lu", &minor,
            &major) == 2) {
        usage->minor_faults += (double)minor;
        usage->major_faults += (double)major;
    }
}

static size_t list_children(pid_t pid, pid_t *list, size_t room)
{
    char path[64];
    size_t count = 0;
    FILE *file;

    (void)snprintf(
        path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return 0;
    while (count < room && fscanf(file, "%d", &list[count]) == 1)
        count++;
    (void)fclose(file);
    return count;
}

void crowd_look_at(pid_t pid, struct crowd_usage *ret_usage)
{
    struct crowd_usage usage = {0};
    pid_t family[FAMILY] = {pid};
    size_t count = 1;
    char path[64];

    for (size_t i = 0; i < count; i++) {
        (void)snprintf(
            path, sizeof(path), "/proc/%d/smaps_rollup", (int)family[i]);
        usage.pss_kib += read_kib(path, "Pss:");
        usage.private_kib +=
            read_kib(path, "Private_Clean:") + read_kib(path, "Private_Dirty:");
        add_faults(family[i], &usage);
        count += list_children(family[i], &family[count], FAMILY - count);
    }
    usage.processes = (unsigned)count;
    *ret_usage = usage;
}

void crowd_look_at_host(struct crowd_host *ret_host)
{
    static const char *const kernel[] = {"Slab:", "KernelStack:", "PageTables:",
        "SecPageTables:", "VmallocUsed:", "Percpu:"};
    const char *path = "/proc/meminfo";

    *ret_host =
        (struct crowd_host){.available_kib = read_kib(path, "MemAvailable:")};
    for (size_t i = 0; i < ARRAY_SIZE(kernel); i++)
        ret_host->kernel_kib += read_kib(path, kernel[i]);
}

void crowd_figures_add(struct crowd_figures *f, const struct crowd *c,
    const struct crowd_host *before)
{
    struct crowd_usage usage;
    struct crowd_host now;
    uint64_t last = 0;

    for (size_t i = 0; i < c->count; i++) {
        const struct crowd_member *m = &c->members[i];

        stats_add(&f->first_byte_ms, (double)(m->byte_ns - m->asked_ns) / 1e6);
        last = m->byte_ns > last ? m->byte_ns : last;
    }
    if (c->count > 1)
        stats_add(&f->all_ms, (double)(last - c->members[0].asked_ns) / 1e6);
    if (before == NULL)
        return;
    crowd_look_at_host(&now);
    stats_add(&f->less_kib,
        (before->available_kib - now.available_kib) / (double)c->count);
    stats_add(&f->kernel_kib,
        (now.kernel_kib - before->kernel_kib) / (double)c->count);
    for (size_t i = 0; i < c->count; i++) {
        crowd_look_at(c->members[i].pid, &usage);
        stats_add(&f->pss_kib, usage.pss_kib);
        stats_add(&f->private_kib, usage.private_kib);
        stats_add(&f->minor_faults, usage.minor_faults);
        stats_add(&f->major_faults, usage.major_faults);
        stats_add(&f->processes, usage.processes);
    }
}

void crowd_figures_print(struct crowd_figures *f, FILE *out)
{
    struct {
        const char *name;
        const char *unit;
        struct stats *stats;
    } all[] = {{"first_byte", "ms", &f->first_byte_ms},
        {"all", "ms", &f->all_ms}, {"pss", "KiB", &f->pss_kib},
        {"private", "KiB", &f->private_kib},
        {"available_less", "KiB", &f->less_kib},
        {"kernel", "KiB", &f->kernel_kib},
        {"minor_faults", "faults", &f->minor_faults},
        {"major_faults", "faults", &f->major_faults},
        {"processes", "processes", &f->processes}};

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        if (all[i].stats->count == 0)
            continue;
        if (i > 0)
            (void)fputs(", ", out);
        stats_print(all[i].stats, all[i].name, all[i].unit, out);
    }
}

void crowd_figures_free(struct crowd_figures *f)
{
    stats_free(&f->first_byte_ms);
    stats_free(&f->all_ms);
    stats_free(&f->pss_kib);
    stats_free(&f->private_kib);
    stats_free(&f->less_kib);
    stats_free(&f->kernel_kib);
    stats_free(&f->minor_faults);
    stats_free(&f->major_faults);
    stats_free(&f->processes);
}

/* ---- their ends ---------------------------------------------------------- */

/* Reads until nobody writes there any more. */
static int drain(int fd, uint64_t until_ns)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    char buf[4096];
    ssize_t n;

    do {
        uint64_t now = clock_now_ns();

        if (now >= until_ns ||
            poll(&poll_fd, 1, (int)((until_ns - now) / CLOCK_NS_PER_MS) + 1) ==
                0)
            return -ETIMEDOUT;
        n = read(fd, buf, sizeof(buf));
    } while (n > 0);
    return n < 0 ? -errno : 0;
}

int crowd_end(struct crowd *c, bool kills)
{
    uint64_t until = clock_now_ns() + c->config.timeout_ns;
    struct rusage usage;

    for (size_t i = 0; i < c->count && kills; i++)
        (void)kill(c->members[i].pid, SIGKILL);
    for (size_t i = 0; i < c->count; i++) {
        struct crowd_member *m = &c->members[i];
        int rc = drain(m->out, until);

        if (rc < 0)
            return rc;
        if (wait4(m->pid, &m->status, 0, &usage) < 0)
            return -errno;
        m->reaped_ns = clock_now_ns();
        m->max_rss_kib = usage.ru_maxrss;
        m->pid = 0;
    }
    return 0;
}

void crowd_free(struct crowd *c)
{
    for (size_t i = 0; c->members != NULL && i < c->count; i++) {
        struct crowd_member *m = &c->members[i];

        if (m->pid > 0) {
            (void)kill(m->pid, SIGKILL);
            (void)waitpid(m->pid, NULL, 0);
        }
        fd_closep(&m->out);
        fd_closep(&m->in);
        fd_closep(&m->marks_fd);
    }
    fd_closep(&c->epoll);
    free(c->members);
    *c = (struct crowd){.epoll = -1};
}

/* ---- a cold page cache --------------------------------------------------- */

static double count_resident_kib(int fd, size_t size)
{
    size_t pages = (size + NUM_PAGE_SIZE - 1) / NUM_PAGE_SIZE;
    unsigned char *map = calloc(pages, 1);
    void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    double count = 0;

    if (map != NULL && at != MAP_FAILED && mincore(at, size, map) == 0) {
        for (size_t i = 0; i < pages; i++)
            count += map[i] & 1;
    }
    if (at != MAP_FAILED)
        (void)munmap(at, size);
    free(map);
    return count * NUM_PAGE_SIZE / 1024;
}

static int cool_one(const char *path, size_t size, double *left_kib)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    (void)fdatasync(fd);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    *left_kib += count_resident_kib(fd, size);
    (void)close(fd);
    return 0;
}

int crowd_cool(const char *folder, double *ret_left_kib)
{
    char *path = strdup(folder);
    char *const paths[] = {path, NULL};
    FTS *tree = path == NULL ? NULL : fts_open(paths, FTS_PHYSICAL, NULL);
    double left_kib = 0;
    FTSENT *entry;
    int rc = tree == NULL ? -errno : 0;

    while (rc == 0 && (entry = fts_read(tree)) != NULL) {
        if (entry->fts_info == FTS_NS)
            rc = -entry->fts_errno;
        else if (entry->fts_info == FTS_F && entry->fts_statp->st_size > 0)
            rc = cool_one(
                entry->fts_path, (size_t)entry->fts_statp->st_size, &left_kib);
    }
    if (tree != NULL)
        (void)fts_close(tree);
    free(path);
    if (rc == 0)
        *ret_left_kib = left_kib;
    return rc;
}
