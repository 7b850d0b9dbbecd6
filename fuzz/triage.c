/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/triage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define JSON_VERSION 1

static void group_fini(struct triage_group *group)
{
    bundle_fini(&group->bundle);
    for (size_t i = 0; i < group->count; i++)
        free(group->names[i]);
    free(group->names);
}

void triage_fini(struct triage *triage)
{
    for (size_t i = 0; i < triage->count; i++)
        group_fini(&triage->groups[i]);
    free(triage->groups);
    *triage = (struct triage){0};
}

static struct triage_group *find(
    const struct triage *triage, const struct bundle *bundle)
{
    for (size_t i = 0; i < triage->count; i++) {
        if (triage->groups[i].bundle.stack_hash == bundle->stack_hash &&
            triage->groups[i].bundle.verdict == bundle->verdict)
            return &triage->groups[i];
    }
    return NULL;
}

static int add_name(struct triage_group *group, const char *name)
{
    char **names = reallocarray(group->names, group->count + 1, sizeof(*names));
    char *copy = strdup(name);

    if (names != NULL)
        group->names = names;
    if (names == NULL || copy == NULL) {
        free(copy);
        return -ENOMEM;
    }
    names[group->count++] = copy;
    return 0;
}

/* An empty one at the end, not counted yet. */
static struct triage_group *room_for_one(struct triage *triage)
{
    struct triage_group *groups =
        reallocarray(triage->groups, triage->count + 1, sizeof(*groups));

    if (groups == NULL)
        return NULL;
    triage->groups = groups;
    groups[triage->count] = (struct triage_group){0};
    return &groups[triage->count];
}

static void stand_for(
    struct triage_group *group, struct bundle *bundle, const char *top)
{
    bundle_fini(&group->bundle);
    group->bundle = *bundle;
    *bundle = (struct bundle){0};
    group->smallest = group->count - 1;
    (void)snprintf(group->top, sizeof(group->top), "%s", top);
}

int triage_add(struct triage *triage, const char *name, struct bundle *bundle,
    const char *top, struct err *err)
{
    struct triage_group *group;
    bool is_new;
    int rc = -ENOMEM;

    if (bundle->verdict == FUZZ_OK) {
        triage->harmless++;
        bundle_fini(bundle);
        return 0;
    }
    group = find(triage, bundle);
    is_new = group == NULL;
    if (is_new)
        group = room_for_one(triage);
    if (group != NULL)
        rc = add_name(group, name);
    if (rc < 0) {
        bundle_fini(bundle);
        return err_sys(err, rc, "%s", name);
    }
    if (is_new)
        triage->count++;
    if (is_new || bundle->parts[BUNDLE_INPUT].size <
                      group->bundle.parts[BUNDLE_INPUT].size)
        stand_for(group, bundle, top);
    bundle_fini(bundle);
    return 0;
}

static int order(const void *a, const void *b)
{
    const struct triage_group *x = a;
    const struct triage_group *y = b;

    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    if (x->bundle.stack_hash != y->bundle.stack_hash)
        return x->bundle.stack_hash < y->bundle.stack_hash ? -1 : 1;
    return (int)x->bundle.verdict - (int)y->bundle.verdict;
}

void triage_sort(struct triage *triage)
{
    if (triage->count > 0)
        qsort(triage->groups, triage->count, sizeof(*triage->groups), order);
}

void triage_group_name(
    const struct triage_group *group, char ret_name[TRIAGE_NAME_SIZE])
{
    (void)snprintf(ret_name, TRIAGE_NAME_SIZE, "%s-%016" PRIx64,
        bundle_verdict_name(group->bundle.verdict), group->bundle.stack_hash);
}

/* ---- output -------------------------------------------------------------- */

/* Without what would move the cursor: it is the guest's text. */
static void print_clean(const char *text, FILE *out)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        (void)fputc(c < 0x20 || c == 0x7f ? '?' : c, out);
    }
}

void triage_print(const struct triage *triage, FILE *out)
{
    if (triage->count == 0) {
        (void)fprintf(out, "no crash among %zu inputs\n", triage->harmless);
        return;
    }
    (void)fprintf(
        out, "%-28s %7s %8s  %s\n", "GROUP", "INPUTS", "BYTES", "WHERE");
    for (size_t i = 0; i < triage->count; i++) {
        const struct triage_group *g = &triage->groups[i];
        char name[TRIAGE_NAME_SIZE];

        triage_group_name(g, name);
        (void)fprintf(out, "%-28s %7zu %8zu  ", name, g->count,
            g->bundle.parts[BUNDLE_INPUT].size);
        print_clean(g->top, out);
        (void)fputc('\n', out);
    }
    if (triage->harmless > 0)
        (void)fprintf(out, "%zu inputs did not crash\n", triage->harmless);
}

/* Guests' text is not always UTF-8. */
static json_t *text_to_json(const char *text)
{
    json_t *value = json_string(text);

    return value != NULL ? value : json_null();
}

static json_t *group_to_json(const struct triage_group *g)
{
    char name[TRIAGE_NAME_SIZE];
    json_t *names = json_array();

    triage_group_name(g, name);
    for (size_t i = 0; i < g->count; i++)
        (void)json_array_append_new(names, text_to_json(g->names[i]));
    return json_pack("{s:s, s:s, s:i, s:I, s:o, s:o, s:o}", "group", name,
        "verdict", bundle_verdict_name(g->bundle.verdict), "signal",
        (int)g->bundle.signal, "bytes",
        (json_int_t)g->bundle.parts[BUNDLE_INPUT].size, "smallest",
        text_to_json(g->names[g->smallest]), "inputs", names, "where",
        text_to_json(g->top));
}

json_t *triage_to_json(const struct triage *triage)
{
    json_t *groups = json_array();

    for (size_t i = 0; i < triage->count; i++) {
        if (json_array_append_new(groups, group_to_json(&triage->groups[i])) <
            0) {
            json_decref(groups);
            return NULL;
        }
    }
    return json_pack("{s:i, s:o, s:I}", "version", JSON_VERSION, "groups",
        groups, "harmless", (json_int_t)triage->harmless);
}
