/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_server.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "snapshot/pager_wire.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/base/thread.h"

#define STACK_BYTES (256 * NUM_KIB)
#define RETRY_MS    100 /* without descriptors or memory for one more */

enum slot_phase { SLOT_FREE, SLOT_BUSY, SLOT_OVER };

struct server;

struct slot {
    struct server *server;
    enum slot_phase phase; /* under the lock once the thread runs */
    pthread_t thread;
    int socket_fd;
};

struct server {
    const struct page_server_config *config;
    struct page_session_config session;
    int over_fd;          /* eventfd: a slot is over */
    pthread_mutex_t lock; /* and of the callbacks */
    struct slot *slots;
};

static void on_settled(void *opaque, const struct bitmap *touched)
{
    struct server *server = opaque;
    const struct page_session_config *session = &server->config->session;

    (void)pthread_mutex_lock(&server->lock);
    if (session->on_settled != NULL)
        session->on_settled(session->opaque, touched);
    (void)pthread_mutex_unlock(&server->lock);
}

static void *run_slot(void *arg)
{
    struct slot *slot = arg;
    struct server *server = slot->server;
    const struct page_server_config *config = server->config;
    struct page_session_stats stats;
    struct err err = {.text = ""};
    int rc = page_session_run(&server->session, slot->socket_fd, &stats, &err);

    (void)pthread_mutex_lock(&server->lock);
    if (config->on_end != NULL)
        config->on_end(config->session.opaque, &stats, rc, err.text);
    slot->phase = SLOT_OVER;
    (void)pthread_mutex_unlock(&server->lock);
    fd_eventfd_signal(server->over_fd);
    return NULL;
}

static void reap(struct server *server)
{
    (void)fd_eventfd_drain(server->over_fd);
    for (uint32_t i = 0; i < server->config->sessions_max; i++) {
        struct slot *slot = &server->slots[i];
        bool is_over;

        (void)pthread_mutex_lock(&server->lock);
        is_over = slot->phase == SLOT_OVER;
        (void)pthread_mutex_unlock(&server->lock);
        if (!is_over)
            continue;
        (void)pthread_join(slot->thread, NULL);
        slot->phase = SLOT_FREE;
    }
}

static struct slot *find_free(struct server *server)
{
    struct slot *found = NULL;

    (void)pthread_mutex_lock(&server->lock);
    for (uint32_t i = 0; found == NULL && i < server->config->sessions_max;
         i++) {
        if (server->slots[i].phase == SLOT_FREE)
            found = &server->slots[i];
    }
    (void)pthread_mutex_unlock(&server->lock);
    return found;
}

/* Takes `fd` over. */
static int start_slot(struct server *server, struct slot *slot, int fd)
{
    const struct thread_config config = {
        .run = run_slot, .opaque = slot, .stack_bytes = STACK_BYTES};
    int rc;

    *slot =
        (struct slot){.server = server, .phase = SLOT_BUSY, .socket_fd = fd};
    rc = thread_start(&slot->thread, &config);
    if (rc < 0) {
        slot->phase = SLOT_FREE;
        (void)close(fd);
    }
    return rc;
}

/* 0: somebody came, or had gone again. */
static int take_one(struct server *server, int listen_fd)
{
    struct slot *slot;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                      errno == ENOMEM))
        return -errno;
    if (fd < 0)
        return 0;
    slot = find_free(server);
    if (slot != NULL)
        return start_slot(server, slot, fd);
    pager_reason_send(fd, "the page server is serving as many machines as it "
                          "may (--max)");
    (void)close(fd);
    return 0;
}

static int serve(struct server *server, int listen_fd, struct err *err)
{
    bool is_short = false;

    for (;;) {
        struct pollfd fds[] = {
            {.fd = is_short ? -1 : listen_fd, .events = POLLIN},
            {.fd = server->session.stop_fd, .events = POLLIN},
            {.fd = server->over_fd, .events = POLLIN}};
        int n = poll(fds, ARRAY_SIZE(fds), is_short ? RETRY_MS : -1);
        int rc;

        if (n < 0 && errno != EINTR)
            return err_sys(err, errno, "page server");
        is_short = false;
        if (n <= 0)
            continue;
        if (fds[1].revents != 0)
            return 0;
        if (fds[2].revents != 0)
            reap(server);
        if (fds[0].revents == 0)
            continue;
        rc = take_one(server, listen_fd);
        is_short = rc < 0;
        if (rc < 0)
            log_warn("page-server", "a machine has to wait: error %d", -rc);
    }
}

int page_server_run(const struct page_server_config *config, int listen_fd,
    int stop_fd, struct err *err)
{
    struct server server = {.config = config,
        .session = config->session,
        .over_fd = fd_eventfd(),
        .lock = PTHREAD_MUTEX_INITIALIZER};
    int rc;

    assert(config->sessions_max >= 1 &&
           config->sessions_max <= PAGE_SERVER_SESSIONS_MAX);
    server.session.stop_fd = stop_fd;
    server.session.on_settled = on_settled;
    server.session.opaque = &server;
    server.slots = calloc(config->sessions_max, sizeof(server.slots[0]));
    if (server.over_fd < 0 || server.slots == NULL)
        rc = err_sys(err, ENOMEM, "page server");
    else
        rc = serve(&server, listen_fd, err);
    for (uint32_t i = 0; server.slots != NULL && i < config->sessions_max;
         i++) {
        bool is_used;

        (void)pthread_mutex_lock(&server.lock);
        is_used = server.slots[i].phase != SLOT_FREE;
        (void)pthread_mutex_unlock(&server.lock);
        if (is_used)
            (void)pthread_join(server.slots[i].thread, NULL);
    }
    free(server.slots);
    fd_closep(&server.over_fd);
    (void)pthread_mutex_destroy(&server.lock);
    return rc;
}
