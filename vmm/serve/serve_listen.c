/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/serve_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn */

static bool is_stale(const struct sockaddr_un *addr)
{
    CC_CLEANUP(fd_closep)
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;

    return fd >= 0 && lstat(addr->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
           connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 &&
           errno == ECONNREFUSED;
}

static int open_unix(
    const char *path, struct serve_listen *ret_listen, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct sockaddr_un addr;
    char *copy;
    int rc = fd_unix_address("--listen unix", path, &addr, err);

    if (rc < 0)
        return rc;
    copy = strdup(path);
    if (copy == NULL)
        return err_sys(err, ENOMEM, "%s", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    rc = fd < 0 ? -errno : 0;
    if (rc == 0 && is_stale(&addr))
        (void)unlink(path);
    if (rc == 0 && bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        rc = -errno;
    if (rc < 0) {
        free(copy);
        return rc == -EADDRINUSE
                   ? err_set(err, EADDRINUSE,
                         "%s is there already: remove it, or "
                         "choose another path",
                         path)
                   : err_sys(err, rc, "cannot listen at %s", path);
    }
    if (listen(fd, BACKLOG) < 0) {
        rc = err_sys(err, errno, "cannot listen at %s", path);
        (void)unlink(path);
        free(copy);
        return rc;
    }
    *ret_listen = (struct serve_listen){.fd = fd_steal(&fd), .path = copy};
    return 0;
}

/* "ADDRESS:PORT" to its parts; false if it is not that. */
static bool split(char *text, const char **ret_host, uint16_t *ret_port)
{
    char *colon = strrchr(text, ':');
    uint64_t port;
    const char *end;

    if (colon == NULL || colon == text)
        return false;
    *colon = '\0';
    end = num_take_digits(colon + 1, &port);
    if (end == NULL || *end != '\0' || port > UINT16_MAX)
        return false;
    if (text[0] == '[') {
        if (colon[-1] != ']')
            return false;
        colon[-1] = '\0';
    }
    *ret_host = text[0] == '[' ? text + 1 : text;
    *ret_port = (uint16_t)port;
    return true;
}

static bool parse_address(const char *host, uint16_t port,
    struct sockaddr_storage *ret_addr, socklen_t *ret_size)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port)};

    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(ret_addr, &v4, sizeof(v4));
        *ret_size = sizeof(v4);
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(ret_addr, &v6, sizeof(v6));
        *ret_size = sizeof(v6);
        return true;
    }
    return false;
}

static int listen_tcp(const struct sockaddr_storage *addr, socklen_t size)
{
    CC_CLEANUP(fd_closep)
    int fd =
        socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;

    if (fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *)addr, size) < 0 ||
        listen(fd, BACKLOG) < 0)
        return -errno;
    return fd_steal(&fd);
}

static int open_tcp(
    const char *where, struct serve_listen *ret_listen, struct err *err)
{
    struct sockaddr_storage addr;
    socklen_t size = 0;
    char text[128];
    const char *host;
    uint16_t port;
    int fd;

    if (strlen(where) >= sizeof(text))
        return err_set(err, EINVAL, "tcp:%.40s... is no address", where);
    (void)strcpy(text, where);
    if (!split(text, &host, &port) || !parse_address(host, port, &addr, &size))
        return err_set(err, EINVAL,
            "tcp:%s is no address: tcp:127.0.0.1:8080 and tcp:[::1]:8080 are",
            where);
    fd = listen_tcp(&addr, size);
    if (fd < 0)
        return err_sys(err, fd, "cannot listen at tcp:%s", where);
    *ret_listen = (struct serve_listen){.fd = fd};
    return 0;
}

int serve_listen_take(int fd, struct serve_listen *ret_listen, struct err *err)
{
    int listens = 0;
    int type = 0;
    socklen_t size = sizeof(listens);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || listens == 0 ||
        type != SOCK_STREAM || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_set(err, EBADF,
            "descriptor %d is no stream socket that listens: whoever starts "
            "this must have opened it so (Accept=no for systemd)",
            fd);
    *ret_listen = (struct serve_listen){.fd = fd, .is_inherited = true};
    return 0;
}

int serve_listen_open(
    const char *where, struct serve_listen *ret_listen, struct err *err)
{
    uint64_t number;
    const char *end;

    if (strncmp(where, "unix:", 5) == 0)
        return open_unix(where + 5, ret_listen, err);
    if (strncmp(where, "tcp:", 4) == 0)
        return open_tcp(where + 4, ret_listen, err);
    if (strncmp(where, "fd:", 3) == 0) {
        end = num_take_digits(where + 3, &number);
        if (end != NULL && *end == '\0' && number <= INT32_MAX)
            return serve_listen_take((int)number, ret_listen, err);
    }
    return err_set(err, EINVAL,
        "%s is no place to listen: unix:PATH, tcp:ADDRESS:PORT and fd:N are",
        where);
}

void serve_listen_close(struct serve_listen *listen)
{
    fd_closep(&listen->fd);
    if (listen->path != NULL)
        (void)unlink(listen->path);
    free(listen->path);
    listen->path = NULL;
}
