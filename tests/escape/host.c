/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/escape/host.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "vmm/base/fd.h"

#define LEAK_FD 200

/* The addresses of Unix sockets are short. */
#define TMP_MAX_BYTES 40u

/* It stays from attempt to attempt. */
#define DGRAM_NAME "dgram"

/* A Unix socket at an abstract name, or a path. */
static int open_unix(
    int type, bool is_abstract, const char *name, struct err *err)
{
    CC_CLEANUP(fd_closep)
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t at = is_abstract ? 1 : 0;
    size_t len = strlen(name);

    if (fd < 0)
        return err_sys(err, errno, "a Unix socket");
    memcpy(addr.sun_path + at, name, len);
    if (bind(fd, (const struct sockaddr *)&addr,
            (socklen_t)(offsetof(struct sockaddr_un, sun_path) + at + len)) <
            0 ||
        (type == SOCK_STREAM && listen(fd, 16) < 0))
        return err_sys(err, errno, "a Unix socket at %s", name);
    return fd_steal(&fd);
}

static int open_tcp(struct run_host *host, struct err *err)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);

    host->tcp_fd =
        socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (host->tcp_fd < 0 ||
        bind(host->tcp_fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(host->tcp_fd, 16) < 0 ||
        getsockname(host->tcp_fd, (struct sockaddr *)&addr, &len) < 0)
        return err_sys(err, errno, "a TCP socket at 127.0.0.1");
    host->port = ntohs(addr.sin_port);
    return 0;
}

/* One that this user can write to: TMPDIR may be of another. */
static int make_folder(struct run_host *host, struct err *err)
{
    const char *tmp = getenv("TMPDIR");

    if (tmp != NULL && strlen(tmp) <= TMP_MAX_BYTES) {
        (void)snprintf(host->dir, sizeof(host->dir), "%s/escape-XXXXXX", tmp);
        if (mkdtemp(host->dir) != NULL)
            return 0;
    }
    (void)snprintf(host->dir, sizeof(host->dir), "/tmp/escape-XXXXXX");
    if (mkdtemp(host->dir) != NULL)
        return 0;
    host->dir[0] = '\0';
    return err_sys(err, errno, "a folder in /tmp");
}

/* Of a number that nothing which is opened later gets. */
static int open_leak(struct run_host *host, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

    host->leak = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, LEAK_FD);
    return host->leak < 0 ? err_sys(err, errno, "/etc/passwd") : 0;
}

static int open_all(struct run_host *host, struct err *err)
{
    int rc = make_folder(host, err);

    if (rc < 0)
        return rc;
    (void)snprintf(host->abstract, sizeof(host->abstract), "escape-%d-stream",
        (int)getpid());
    (void)snprintf(host->abstract_dgram, sizeof(host->abstract_dgram),
        "escape-%d-dgram", (int)getpid());
    (void)snprintf(host->path_dgram, sizeof(host->path_dgram), "%s/%s",
        host->dir, DGRAM_NAME);
    rc = open_unix(SOCK_STREAM, true, host->abstract, err);
    if (rc < 0)
        return rc;
    host->listen_fd = rc;
    rc = open_unix(SOCK_DGRAM, true, host->abstract_dgram, err);
    if (rc < 0)
        return rc;
    host->dgram_fd = rc;
    rc = open_unix(SOCK_DGRAM, false, host->path_dgram, err);
    if (rc < 0)
        return rc;
    host->path_fd = rc;
    rc = open_leak(host, err);
    return rc < 0 ? rc : open_tcp(host, err);
}

int run_host_init(struct run_host *host, struct err *err)
{
    int rc;

    *host = (struct run_host){.listen_fd = -1,
        .dgram_fd = -1,
        .path_fd = -1,
        .tcp_fd = -1,
        .leak = -1,
        .terminal_fd = -1};
    host->report = mmap(NULL, ESCAPE_PAGE, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (host->report == MAP_FAILED) {
        host->report = NULL;
        return err_sys(err, errno, "a page to share");
    }
    rc = open_all(host, err);
    if (rc < 0)
        run_host_fini(host);
    return rc;
}

/*
 * Attempts mount and make what they like at a few names, and no deeper: what
 * is left in a mount goes with it.
 */
static int clean(const struct run_host *host, bool all)
{
    CC_CLEANUP(fd_closep)
    int fd = open(host->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct dirent *entry;
    char path[PATH_MAX];
    DIR *dir;
    int rc = 0;

    dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL)
        return -errno;
    fd = -1;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0 ||
            (!all && strcmp(entry->d_name, DGRAM_NAME) == 0))
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", host->dir, entry->d_name);
        while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
            ;
        if (unlink(path) < 0 && rmdir(path) < 0)
            rc = -errno;
    }
    (void)closedir(dir);
    return rc;
}

void run_host_fini(struct run_host *host)
{
    fd_closep(&host->listen_fd);
    fd_closep(&host->dgram_fd);
    fd_closep(&host->path_fd);
    fd_closep(&host->tcp_fd);
    fd_closep(&host->leak);
    fd_closep(&host->terminal_fd);
    if (host->dir[0] != '\0') {
        (void)clean(host, true);
        (void)rmdir(host->dir);
    }
    if (host->report != NULL)
        (void)munmap(host->report, ESCAPE_PAGE);
    host->report = NULL;
}

static void drain(int fd)
{
    char byte;

    while (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
        ;
}

static void turn_away(int fd)
{
    int peer;

    while ((peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        (void)close(peer);
}

int host_begin_attempt(struct run_host *host, struct err *err)
{
    fd_closep(&host->terminal_fd);
    host->terminal_fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (host->terminal_fd < 0 || unlockpt(host->terminal_fd) < 0 ||
        ptsname_r(host->terminal_fd, host->terminal, sizeof(host->terminal)) !=
            0)
        return err_sys(err, errno, "a terminal (/dev/ptmx, /dev/pts)");
    drain(host->dgram_fd);
    drain(host->path_fd);
    turn_away(host->listen_fd);
    turn_away(host->tcp_fd);
    *host->report = (struct escape_report){.last_call = -1};
    return 0;
}

int host_end_attempt(struct run_host *host, struct err *err)
{
    int rc = clean(host, false);

    return rc < 0 ? err_sys(err, rc, "%s cannot be cleaned", host->dir) : 0;
}
