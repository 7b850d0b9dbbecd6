/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/thread.h"

#include <signal.h>

int thread_start(pthread_t *ret_thread, const struct thread_config *config)
{
    pthread_attr_t attr;
    sigset_t blocked;
    sigset_t before;
    int rc = pthread_attr_init(&attr);

    if (rc != 0)
        return -rc;
    if (config->stack_bytes != 0)
        rc = pthread_attr_setstacksize(&attr, config->stack_bytes);
    if (rc == 0) {
        (void)sigfillset(&blocked);
        (void)sigdelset(&blocked, SIGSYS);
        if (config->signal != 0)
            (void)sigdelset(&blocked, config->signal);
        /* The new thread inherits the mask. */
        (void)pthread_sigmask(SIG_SETMASK, &blocked, &before);
        rc = pthread_create(ret_thread, &attr, config->run, config->opaque);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    (void)pthread_attr_destroy(&attr);
    return -rc;
}
