/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/thread.h"

#define PROGRESS_AFTER_S 2

struct progress {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool is_over; /* under lock */
    const char *text;
};

static void *show(void *opaque)
{
    struct progress *p = opaque;
    bool is_terminal = isatty(STDERR_FILENO) == 1;
    struct timespec at = {0};
    bool shown = false;

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += PROGRESS_AFTER_S;
    (void)pthread_mutex_lock(&p->lock);
    for (int s = PROGRESS_AFTER_S; !p->is_over;) {
        if (pthread_cond_timedwait(&p->ended, &p->lock, &at) == 0)
            continue;
        if (is_terminal)
            (void)fprintf(stderr, "\r\033[K%s ... %d s", p->text, s);
        else if (!shown)
            (void)fprintf(stderr, "%s ...\n", p->text);
        shown = true;
        at.tv_sec++;
        s++;
    }
    (void)pthread_mutex_unlock(&p->lock);
    if (shown && is_terminal)
        (void)fputs("\r\033[K", stderr);
    return NULL;
}

struct progress *progress_start(const char *text)
{
    struct progress *p = calloc(1, sizeof(*p));
    struct thread_config config = {.run = show, .opaque = p};
    pthread_condattr_t attr;

    if (p == NULL)
        return NULL;
    p->text = text;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&p->ended, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (thread_start(&p->thread, &config) < 0) {
        free(p);
        return NULL;
    }
    return p;
}

void progress_end(struct progress *p)
{
    if (p == NULL)
        return;
    (void)pthread_mutex_lock(&p->lock);
    p->is_over = true;
    (void)pthread_cond_signal(&p->ended);
    (void)pthread_mutex_unlock(&p->lock);
    (void)pthread_join(p->thread, NULL);
    free(p);
}
