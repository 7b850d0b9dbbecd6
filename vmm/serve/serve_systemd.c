/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/serve_systemd.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define FDS_MAX 1024u

static uint64_t number_of(const char *name)
{
    const char *text = getenv(name);
    uint64_t number = 0;
    const char *end = text == NULL ? NULL : num_take_digits(text, &number);

    return end != NULL && *end == '\0' ? number : 0;
}

uint32_t serve_systemd_listen_fds(void)
{
    uint64_t pid = number_of("LISTEN_PID");
    uint64_t count = number_of("LISTEN_FDS");

    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    return pid == (uint64_t)getpid() && count <= FDS_MAX ? (uint32_t)count : 0;
}

void serve_systemd_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CC_CLEANUP(fd_closep) int fd = -1;
    size_t len = path == NULL ? 0 : strlen(path);

    if (len < 2 || len >= sizeof(addr.sun_path) ||
        (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(addr.sun_path, path, len);
    if (path[0] == '@')
        addr.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    /* Nobody who listens is nobody who minds. */
    if (fd >= 0)
        (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL,
            (const struct sockaddr *)&addr,
            (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}
