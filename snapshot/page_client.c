/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_client.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "snapshot/pager_wire.h"
#include "vmm/base/fd.h"
#include "vmm/base/thread.h"
#include "vmm/core/uffd.h"

#define STACK_BYTES (128 * NUM_KIB)

/* How long a server may take to accept us, and to read what we send. */
#define CONNECT_S 10

/* How long the rest of a last word may take. */
#define REASON_MS 1000

int page_client_connect(struct page_client *client,
    const struct page_client_host *host, const char *path, struct err *err)
{
    static const struct timeval patience = {.tv_sec = CONNECT_S};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CC_CLEANUP(fd_closep) int fd = -1;

    if (strlen(path) >= sizeof(addr.sun_path))
        return err_set(err, ENAMETOOLONG,
            "%s: the path of a socket has at most %zu bytes", path,
            sizeof(addr.sun_path) - 1);
    memcpy(addr.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, errno, "page server");
    /* One that does not take us in, or does not read, is no server. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) <
        0)
        return err_sys(err, errno, "page server");
    if (connect(
            fd, (const struct sockaddr *)(const void *)&addr, sizeof(addr)) < 0)
        return err_sys(err, errno, "page server at %s", path);
    page_client_take(client, host, fd_steal(&fd));
    return 0;
}

void page_client_take(
    struct page_client *client, const struct page_client_host *host, int fd)
{
    *client = (struct page_client)PAGE_CLIENT_NONE;
    client->host = *host;
    client->socket_fd = fd;
}

/* ---- the watching thread ------------------------------------------------- */

/* What the server says last, until it hangs up or ends the line. */
static size_t read_reason(int fd, char *buf, size_t size)
{
    struct pollfd more = {.fd = fd, .events = POLLIN};
    size_t len = 0;

    while (len < size) {
        ssize_t n = recv(fd, buf + len, size - len, MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN && poll(&more, 1, REASON_MS) > 0)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
        if (memchr(buf, '\n', len) != NULL)
            break;
    }
    return len;
}

static void *watch(void *arg)
{
    const struct page_client *client = arg;
    const struct page_client_host *host = &client->host;
    struct pollfd fds[] = {{.fd = client->stop_fd, .events = POLLIN},
        {.fd = client->socket_fd, .events = POLLIN}};
    char bytes[PAGER_REASON_SIZE];
    char reason[PAGER_REASON_SIZE];
    char text[PAGER_REASON_SIZE + 80];
    struct err err;
    int n;

    if (host->begin != NULL && host->begin(host->opaque, &err) < 0) {
        host->on_lost(host->opaque, err.text);
        return NULL;
    }
    do {
        n = poll(fds, 2, -1);
    } while (n < 0 && errno == EINTR);
    if (n > 0 && fds[0].revents != 0)
        return NULL;
    if (pager_reason_decode(bytes,
            read_reason(client->socket_fd, bytes, sizeof(bytes)), reason))
        (void)snprintf(
            text, sizeof(text), "the machine's memory is lost: %s", reason);
    else
        (void)snprintf(text, sizeof(text),
            "the machine's memory is lost: its page server has ended");
    host->on_lost(host->opaque, text);
    return NULL;
}

int page_client_watch(struct page_client *client, struct err *err)
{
    const struct thread_config config = {
        .run = watch, .opaque = client, .stack_bytes = STACK_BYTES};
    int rc;

    if (client->socket_fd < 0 || client->is_watching)
        return 0;
    rc = thread_start(&client->watcher, &config);
    if (rc < 0)
        return err_sys(err, rc, "page server");
    client->is_watching = true;
    return 0;
}

/* ---- the memory ---------------------------------------------------------- */

static int register_memory(
    struct page_client *client, struct gmem *mem, struct err *err)
{
    struct iovec all = gmem_pages_iovec(mem, 0, gmem_page_count(mem));
    int rc = uffd_register(client->uffd, all.iov_base, all.iov_len);

    return rc < 0 ? err_sys(err, rc, "cannot have memory served by userfaultfd")
                  : 0;
}

int page_client_attach(
    struct page_client *client, struct gmem *mem, struct err *err)
{
    struct pager_hello hello = {.count = mem->region_count};
    int rc;

    _Static_assert(
        GMEM_REGIONS_MAX <= PAGER_REGIONS_MAX, "room for all of them");
    assert(client->socket_fd >= 0 && client->uffd < 0 && mem->fd < 0);
    for (unsigned int i = 0; i < mem->region_count; i++)
        hello.regions[i] =
            (struct pager_region){.address = gmem_region_host(mem, i),
                .size = mem->regions[i].size,
                .offset = mem->regions[i].offset};
    client->stop_fd = fd_eventfd();
    if (client->stop_fd < 0)
        return err_sys(err, client->stop_fd, "page server");
    rc = uffd_open(&client->uffd, err);
    if (rc == 0)
        rc = register_memory(client, mem, err);
    if (rc == 0)
        rc = pager_hello_send(client->socket_fd, &hello, client->uffd, err);
    return rc == 0 ? page_client_watch(client, err) : rc;
}

void page_client_unwatch(struct page_client *client)
{
    if (!client->is_watching)
        return;
    fd_eventfd_signal(client->stop_fd);
    (void)pthread_join(client->watcher, NULL);
    (void)fd_eventfd_drain(client->stop_fd);
    client->is_watching = false;
}

void page_client_close(struct page_client *client)
{
    page_client_unwatch(client);
    fd_closep(&client->socket_fd);
    fd_closep(&client->uffd);
    fd_closep(&client->stop_fd);
    *client = (struct page_client)PAGE_CLIENT_NONE;
}
