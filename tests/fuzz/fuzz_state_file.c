/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a snapshot, as it is and with a checksum that fits: what is
 * accepted lies within the file, and writes back as the same bytes.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/state_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void write_back(const struct state_file *file)
{
    struct state_writer w;
    struct err err;
    uint8_t *again;
    size_t size;

    state_writer_init(&w, &file->id);
    for (size_t i = 0; i < file->section_count; i++) {
        const struct state_section *s = &file->sections[i];

        require(s->data >= file->data &&
                s->size <= (size_t)(file->data + file->size - s->data));
        require(state_writer_add(&w, s->name, s->version, s->flags, s->data,
                    s->size, &err) == 0);
    }
    for (size_t i = 0; i < file->record_count; i++)
        require(state_writer_add_record(&w, &file->records[i], &err) == 0);
    require(state_writer_seal(&w, &again, &size, &err) == 0);
    require(size == file->size && memcmp(again, file->data, size) == 0);
    free(again);
    state_writer_fini(&w);
}

static void decode(uint8_t *data, size_t size)
{
    struct state_file file;
    struct err err;

    if (state_file_decode(data, size, &file, &err) < 0) {
        require(strlen(err.text) > 0 && strchr(err.text, '\n') == NULL);
        return;
    }
    write_back(&file);
    (void)state_file_take(&file, "machine");
    if (state_file_check_all_taken(&file, &err) < 0)
        require(strlen(err.text) > 0);
    (void)state_file_find_record(&file, "index");
    state_file_fini(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    struct hash128 hash;

    require(copy != NULL);
    if (size != 0)
        memcpy(copy, data, size);
    decode(copy, size);
    if (size < sizeof(hash))
        return 0;
    copy = malloc(size);
    require(copy != NULL);
    memcpy(copy, data, size);
    hash = hash_bytes(copy, size - sizeof(hash));
    memcpy(copy + size - sizeof(hash), hash.b, sizeof(hash));
    decode(copy, size);
    return 0;
}
