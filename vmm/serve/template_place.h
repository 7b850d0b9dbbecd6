/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where templates are: the folder of all, a folder for each, and the names
 * that lead to them (template.h).
 *
 * Whoever makes a folder holds a flock on it until a name leads there. One
 * that is neither locked nor named was left behind, and is removed by the next
 * who makes or removes a template.
 *
 * Thread rule: no state, any thread, any number of processes. Not trusted:
 * what is in the folder of all. Links are read and never followed.
 */
#ifndef VMM_SERVE_TEMPLATE_PLACE_H
#define VMM_SERVE_TEMPLATE_PLACE_H

#include <stdbool.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/serve/template.h"

/* A template's folder. */
struct template_place {
    int fd; /* locked while it is being made */
    char *path;
};

#define TEMPLATE_PLACE_NONE ((struct template_place){.fd = -1})

/* The folder that `name` leads to; -ENOENT. */
CC_MUST_CHECK int template_place_open(
    const char *name, struct template_place *ret_place, struct err *err);
void template_place_close(struct template_place *place);

/*
 * An empty folder for a template that is to be called `name`. -EEXIST if one
 * is, unless that is to be replaced.
 */
CC_MUST_CHECK int template_place_begin(const char *name, bool replaces,
    struct template_place *ret_place, struct err *err);

/* Writes template.json, durably. */
CC_MUST_CHECK int template_place_describe(const struct template_place *place,
    const struct template *t, struct err *err);

/*
 * Has the name lead there from now on, when all that is in the folder is on
 * the disk; what it led to before is removed.
 */
CC_MUST_CHECK int template_place_publish(const struct template_place *place,
    const char *name, bool replaces, struct err *err);

/* Removes a folder that has no name yet, and closes it. */
void template_place_abandon(struct template_place *place);

/* Removes the name, and what it leads to; -ENOENT. */
CC_MUST_CHECK int template_place_remove(const char *name, struct err *err);

/* The names, sorted; the caller frees them and the list, NULL-terminated. */
CC_MUST_CHECK int template_place_list(char ***ret_names, struct err *err);

#endif
