/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/levels.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"

int levels_init(
    struct levels *l, size_t input_max, size_t map_size, struct err *err)
{
    *l = (struct levels){.input_max = input_max,
        .map_size = map_size,
        .patience = LEVELS_PATIENCE_MIN};
    l->last = malloc(input_max + 1);
    return l->last == NULL ? err_sys(err, ENOMEM, "the levels of prefixes") : 0;
}

static void drop_to(struct levels *l, uint32_t count)
{
    while (l->count > count)
        free(l->held[--l->count].map);
}

void levels_fini(struct levels *l)
{
    drop_to(l, 0);
    free(l->next_map);
    free(l->last);
    *l = (struct levels){0};
}

/* Blocks first: inputs of a streak are long and alike. */
static size_t common(const uint8_t *a, const uint8_t *b, size_t size)
{
    const size_t block = 64;
    size_t n = 0;

    while (size - n >= block && memcmp(a + n, b + n, block) == 0)
        n += block;
    while (n < size && a[n] == b[n])
        n++;
    return n;
}

static size_t top_at(const struct levels *l)
{
    return l->count == 0 ? 0 : l->held[l->count - 1].at;
}

/* The last place that the streak's inputs share, above all levels. */
static size_t best_place(const struct levels *l)
{
    size_t best = 0;

    for (uint32_t i = 0; i < l->place_count && l->places[i] <= l->shared; i++)
        best = l->places[i];
    return best > top_at(l) ? best : 0;
}

/* Whether the highest level was worth its push tells how soon the next comes.
 */
static void judge(struct levels *l)
{
    l->patience = l->runs_on_top >= LEVELS_WORTH * l->patience
                      ? LEVELS_PATIENCE_MIN
                      : num_min(2 * l->patience, LEVELS_PATIENCE_MAX);
}

/* The places that an input like this has come to are those of the latest run.
 */
static void forget_places(struct levels *l, size_t from)
{
    while (l->place_count > 0 && l->places[l->place_count - 1] > from)
        l->place_count--;
}

/* Goes down to what the input fits. */
static void fit(struct levels *l, size_t same, size_t size)
{
    uint32_t fits = l->count;

    while (fits > 0 &&
           (l->held[fits - 1].at > same || l->held[fits - 1].at >= size))
        fits--;
    if (fits < l->count)
        judge(l);
    drop_to(l, fits);
}

uint32_t levels_begin(struct levels *l, const uint8_t *input, size_t size)
{
    size_t same;
    size_t best;

    size = num_min(size, l->input_max);
    same = common(l->last, input, num_min(size, l->last_size));
    fit(l, same, size);
    forget_places(l, same);
    l->streak++;
    /* There has to be something behind a place. */
    l->shared = num_min(l->shared, num_min(same, size - 1));
    best = best_place(l);
    if (best == 0) {
        l->streak = 1;
        l->shared = size;
    }
    if (size > same)
        memcpy(l->last + same, input + same, size - same);
    l->last_size = size;
    l->runs_on_top++;
    l->wanted = l->streak > l->patience && l->count < LEVELS_MAX ? best : 0;
    /* From the highest level on they are told again. */
    forget_places(l, top_at(l));
    return l->count;
}

/* Room for the map of a level, had before there is the level. */
static bool has_room(struct levels *l)
{
    if (l->next_map == NULL && l->map_size > 0)
        l->next_map = malloc(l->map_size);
    return l->next_map != NULL || l->map_size == 0;
}

bool levels_reach(struct levels *l, uint64_t place)
{
    size_t latest = l->place_count == 0 ? 0 : l->places[l->place_count - 1];

    /* Agents of Nyx do not say where they are. */
    if (place == 0 || place <= latest || place >= l->last_size ||
        place <= top_at(l) || l->place_count == LEVELS_PLACE_MAX)
        return false;
    l->places[l->place_count++] = (size_t)place;
    return place == l->wanted && has_room(l);
}

void levels_pushed(struct levels *l, const uint8_t *map)
{
    assert(l->count < LEVELS_MAX && l->wanted > 0);
    l->held[l->count++] =
        (struct levels_held){.at = l->wanted, .map = l->next_map};
    if (l->map_size > 0)
        memcpy(l->next_map, map, l->map_size);
    l->next_map = NULL;
    l->wanted = 0;
    l->runs_on_top = 0;
    l->streak = 0;
    l->shared = SIZE_MAX;
}

const uint8_t *levels_map(const struct levels *l)
{
    return l->count == 0 ? NULL : l->held[l->count - 1].map;
}
