/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/symbols.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct module {
    const char *name; /* the maps' or the list's */
    struct debug_file *file;
    uint64_t bias; /* if it is mapped */
    bool tried;
    bool is_mapped;
};

struct symbols {
    const struct files *files;
    const struct maps *maps;
    const struct symbols_builtin *builtin;
    struct module *modules;
    size_t count;
    struct err note;
};

static struct module *find_module(struct symbols *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(s->modules[i].name, name) == 0)
            return &s->modules[i];
    }
    return NULL;
}

int symbols_new(const struct files *files, const struct maps *maps,
    const struct symbols_builtin *builtin, struct symbols **ret_symbols,
    struct err *err)
{
    struct symbols *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return err_sys(err, ENOMEM, "symbols");
    s->files = files;
    s->maps = maps;
    s->builtin = builtin;
    s->modules = calloc(maps->count + files->count + 1, sizeof(*s->modules));
    if (s->modules == NULL) {
        free(s);
        return err_sys(err, ENOMEM, "symbols");
    }
    for (size_t i = 0; i < maps->count; i++) {
        const char *name = maps->ranges[i].name;

        if (*name == '/' && find_module(s, name) == NULL)
            s->modules[s->count++].name = name;
    }
    for (size_t i = 0; i < files->count; i++) {
        if (find_module(s, files->entries[i].guest) == NULL)
            s->modules[s->count++].name = files->entries[i].guest;
    }
    *ret_symbols = s;
    return 0;
}

void symbols_free(struct symbols *symbols)
{
    if (symbols == NULL)
        return;
    for (size_t i = 0; i < symbols->count; i++)
        debug_file_free(symbols->modules[i].file);
    free(symbols->modules);
    free(symbols);
}

/* The bias comes from the first mapping that is one of a segment. */
static void place_module(const struct symbols *s, struct module *m)
{
    for (size_t i = 0; !m->is_mapped && i < s->maps->count; i++) {
        const struct maps_range *r = &s->maps->ranges[i];

        m->is_mapped = strcmp(r->name, m->name) == 0 &&
                       debug_file_bias(m->file, r->start, r->offset, &m->bias);
    }
}

static struct debug_file *open_module(struct symbols *s, struct module *m)
{
    const struct files_entry *entry;
    struct err err = {""};
    int rc;

    if (m->tried)
        return m->file;
    m->tried = true;
    entry = files_find(s->files, m->name);
    if (s->builtin != NULL && strcmp(m->name, s->builtin->name) == 0)
        rc = debug_file_open_bytes(
            s->builtin->bytes, s->builtin->size, &m->file, &err);
    else if (entry == NULL)
        rc = err_set(&err, ENOENT, "%s is in no list of files", m->name);
    else
        rc = debug_file_open(entry->host, entry->build_id, &m->file, &err);
    if (rc == 0)
        place_module(s, m);
    else if (s->note.text[0] == '\0')
        s->note = err;
    return m->file;
}

struct debug_file *symbols_file(
    struct symbols *symbols, uint64_t address, uint64_t *ret_bias)
{
    const struct maps_range *range = maps_find(symbols->maps, address);
    struct module *m = range != NULL ? find_module(symbols, range->name) : NULL;
    struct debug_file *file = m != NULL ? open_module(symbols, m) : NULL;

    if (file == NULL || !m->is_mapped)
        return NULL;
    *ret_bias = m->bias;
    return file;
}

struct debug_file *symbols_file_named(struct symbols *symbols, const char *name)
{
    struct module *m = find_module(symbols, name);

    return m != NULL ? open_module(symbols, m) : NULL;
}

bool symbols_is_code(const struct symbols *symbols, uint64_t address)
{
    const struct maps_range *range = maps_find(symbols->maps, address);

    return range != NULL && range->perms[2] == 'x';
}

size_t symbols_find(struct symbols *symbols, uint64_t address,
    struct debug_file_place ret_places[DEBUG_FILE_PLACES])
{
    uint64_t bias;
    struct debug_file *file = symbols_file(symbols, address, &bias);

    return file != NULL ? debug_file_find(file, address - bias, ret_places) : 0;
}

const char *symbols_module(
    struct symbols *symbols, uint64_t address, uint64_t *ret_offset)
{
    const struct maps_range *range = maps_find(symbols->maps, address);
    uint64_t bias;

    if (range == NULL || *range->name != '/')
        return NULL;
    if (symbols_file(symbols, address, &bias) != NULL)
        *ret_offset = address - bias;
    else
        *ret_offset = address - range->start + range->offset;
    return range->name;
}

const char *symbols_note(const struct symbols *symbols)
{
    return symbols->note.text;
}
