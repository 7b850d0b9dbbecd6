/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/template.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/dirfile.h"
#include "vmm/serve/template_json.h"
#include "vmm/serve/template_place.h"

static void free_words(char **words)
{
    for (size_t i = 0; words != NULL && words[i] != NULL; i++)
        free(words[i]);
    free(words);
}

void template_fini(struct template *t)
{
    free(t->name);
    free(t->dir);
    free(t->store);
    free_words(t->argv);
    free_words(t->env);
    free(t->cwd);
    free(t->user);
    free(t->source);
    *t = (struct template){0};
}

static int load(const struct template_place *place,
    struct template *ret_template, struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = dirfile_read(
        place->fd, "template.json", TEMPLATE_JSON_MAX, &data, &size, err);

    if (rc < 0)
        return rc;
    rc = template_json_read((const char *)data, size, ret_template, err);
    free(data);
    return rc;
}

int template_open(
    const char *name, struct template *ret_template, struct err *err)
{
    struct template_place place;
    struct template t;
    int rc = template_place_open(name, &place, err);

    if (rc < 0)
        return rc;
    rc = load(&place, &t, err);
    if (rc < 0) {
        template_place_close(&place);
        return err_wrap(err, rc, "template %s", name);
    }
    t.name = strdup(name);
    t.dir = strdup(place.path);
    if (asprintf(&t.store, "%s/snapshots", place.path) < 0)
        t.store = NULL;
    template_place_close(&place);
    if (t.name == NULL || t.dir == NULL || t.store == NULL) {
        template_fini(&t);
        return err_sys(err, ENOMEM, "template %s", name);
    }
    *ret_template = t;
    return 0;
}
