/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <sys/signalfd.h>

#include "vmm/base/fd.h"

int interrupt_begin(struct interrupt *i, struct err *err)
{
    sigset_t signals;
    int rc = 0;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &signals, &i->before);
    i->fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (i->fd < 0) {
        rc = err_sys(err, errno, "signals");
        (void)sigprocmask(SIG_SETMASK, &i->before, NULL);
    }
    return rc;
}

void interrupt_end(struct interrupt *i)
{
    fd_closep(&i->fd);
    (void)sigprocmask(SIG_SETMASK, &i->before, NULL);
}

int interrupt_check(const struct interrupt *i, struct err *err)
{
    int rc = interrupt_wait(i, -1, 0, err);

    return rc < 0 ? rc : 0;
}

int interrupt_wait(
    const struct interrupt *i, int fd, int timeout_ms, struct err *err)
{
    struct pollfd p[2] = {
        {.fd = i->fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

    while (poll(p, 2, timeout_ms) < 0) {
        if (errno != EINTR)
            return err_sys(err, errno, "cannot wait");
    }
    if (p[0].revents != 0)
        return err_set(err, ECANCELED, "interrupted");
    return p[1].revents != 0 ? 1 : 0;
}
