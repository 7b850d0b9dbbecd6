/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crashes in groups: those with one stack hash, of which the smallest input
 * stands for all.
 *
 * Owns its bundles and names. Thread rule: one thread. Names of inputs are the
 * caller's, everything else is the guest's.
 */
#ifndef FUZZ_TRIAGE_H
#define FUZZ_TRIAGE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "fuzz/bundle.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

#define TRIAGE_TOP_MAX 256u

struct triage_group {
    struct bundle bundle; /* of the smallest input, of one size the first */
    size_t smallest;      /* its index in names */
    char **names;
    size_t count;
    char top[TRIAGE_TOP_MAX]; /* where it crashed, one line */
};

struct triage {
    struct triage_group *groups;
    size_t count;
    size_t harmless; /* inputs that did not crash */
};

void triage_fini(struct triage *triage); /* a zeroed one is let be */

/*
 * Adds what an input came to; the bundle is taken over, on failure too. `top`
 * is cut to what there is room for.
 */
CC_MUST_CHECK int triage_add(struct triage *triage, const char *name,
    struct bundle *bundle, const char *top, struct err *err);

/* Most inputs first, then by hash. */
void triage_sort(struct triage *triage);

/* "crash-0123456789abcdef": of the directory of a group's bundle. */
#define TRIAGE_NAME_SIZE 40u
void triage_group_name(
    const struct triage_group *group, char ret_name[TRIAGE_NAME_SIZE]);

/* A table for people. */
void triage_print(const struct triage *triage, FILE *out);

/* The same for programs; NULL without memory. */
json_t *triage_to_json(const struct triage *triage);

#endif
