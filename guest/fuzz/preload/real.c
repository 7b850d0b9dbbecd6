/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/real.h"

#include <dlfcn.h>
#include <stddef.h>

static const char *const names[REAL_COUNT] = {
#define X(name) #name,
    REAL_NAMES(X)
#undef X
};

static void *found[REAL_COUNT];

void *real_find(enum real_name name)
{
    if (found[name] == NULL)
        found[name] = dlsym(RTLD_NEXT, names[name]);
    return found[name];
}

void *real_known(enum real_name name)
{
    return found[name];
}

void real_prepare(void)
{
    for (unsigned int i = 0; i < REAL_COUNT; i++)
        (void)real_find((enum real_name)i);
}
