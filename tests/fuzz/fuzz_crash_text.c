/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts about crashes. The first byte chooses: maps, list of files, result of
 * a bundle, a sanitizer's report.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/backtrace.h"
#include "fuzz/bundle.h"
#include "fuzz/files.h"
#include "fuzz/maps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_maps(const char *text, size_t size)
{
    struct maps maps;

    if (maps_parse(text, size, &maps, NULL) < 0)
        return;
    for (size_t i = 0; i < maps.count; i++) {
        const struct maps_range *r = &maps.ranges[i];

        if (r->start >= r->end || (i > 0 && r[-1].end > r->start) ||
            maps_find(&maps, r->start) != r ||
            maps_find(&maps, r->end - 1) != r)
            abort();
    }
    maps_fini(&maps);
}

/* What was read and written again reads the same. */
static void try_files(const char *text, size_t size)
{
    struct files files;
    struct files again;
    char *json;

    if (files_parse(text, size, &files, NULL) < 0)
        return;
    json = files_to_json(&files);
    if (json == NULL || files_parse(json, strlen(json), &again, NULL) < 0 ||
        again.count != files.count)
        abort();
    free(json);
    files_fini(&files);
    files_fini(&again);
}

static void try_result(const char *text, size_t size)
{
    struct bundle bundle;

    if (bundle_parse_result(text, size, &bundle, NULL) < 0)
        return;
    if (bundle_verdict_name(bundle.verdict) == NULL)
        abort();
    bundle_fini(&bundle);
}

static void try_report(const char *text, size_t size)
{
    struct backtrace bt;

    backtrace_parse(text, size, NULL, &bt);
    if (bt.count > BACKTRACE_MAX)
        abort();
    (void)backtrace_hash(&bt, "");
    for (size_t i = 0; i < bt.count; i++) {
        char line[64];

        backtrace_frame_text(&bt.frames[i], i, line, sizeof(line));
        if (strncmp(line, "#", 1) != 0)
            abort();
    }
    backtrace_fini(&bt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const char *, size_t) = {
        try_maps, try_files, try_result, try_report};
    char *text;

    if (size == 0)
        return 0;
    /* Of exactly this size, for the sanitizer. */
    text = malloc(size - 1 + (size == 1));
    if (text == NULL)
        return 0;
    memcpy(text, data + 1, size - 1);
    tries[data[0] % ARRAY_SIZE(tries)](text, size - 1);
    free(text);
    return 0;
}
