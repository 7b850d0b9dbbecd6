/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/nyx_handles.h"

#include <pthread.h>
#include <stddef.h>

static struct {
    pthread_mutex_t lock;
    struct nyx_handle *first;
} handles = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Where it hangs, or NULL; under the lock. */
static struct nyx_handle **find(const void *pointer, enum nyx_handle_kind kind)
{
    for (struct nyx_handle **at = &handles.first; *at != NULL;
         at = &(*at)->next) {
        if (*at == pointer && (*at)->kind == kind)
            return at;
    }
    return NULL;
}

void nyx_handles_add(struct nyx_handle *handle)
{
    (void)pthread_mutex_lock(&handles.lock);
    handle->next = handles.first;
    handles.first = handle;
    (void)pthread_mutex_unlock(&handles.lock);
}

bool nyx_handles_has(const void *pointer, enum nyx_handle_kind kind)
{
    bool has;

    (void)pthread_mutex_lock(&handles.lock);
    has = find(pointer, kind) != NULL;
    (void)pthread_mutex_unlock(&handles.lock);
    return has;
}

bool nyx_handles_take(const void *pointer, enum nyx_handle_kind kind)
{
    struct nyx_handle **at;

    (void)pthread_mutex_lock(&handles.lock);
    at = find(pointer, kind);
    if (at != NULL)
        *at = (*at)->next;
    (void)pthread_mutex_unlock(&handles.lock);
    return at != NULL;
}
