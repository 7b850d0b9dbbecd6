/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/symbols.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"

/* Of a file that is read from the guest's memory. */
#define IMAGE_MAX (UINT64_C(64) << 20)

struct module {
    const char *name; /* the maps' or the list's */
    struct debug_file *file;
    uint8_t *image; /* that the file is made of, if it comes from memory */
    uint64_t bias;  /* if it is mapped */
    bool tried;
    bool is_mapped;
};

struct symbols {
    const struct files *files;
    const struct maps *maps;
    const struct symbols_memory *memory;
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
    const struct symbols_memory *memory, struct symbols **ret_symbols,
    struct err *err)
{
    struct symbols *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return err_sys(err, ENOMEM, "symbols");
    s->files = files;
    s->maps = maps;
    s->memory = memory;
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
    for (size_t i = 0; i < symbols->count; i++) {
        debug_file_free(symbols->modules[i].file);
        free(symbols->modules[i].image);
    }
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

/* Our own library, which nobody has to have names for. */
static bool is_ours(const char *name)
{
    return strcmp(name, "/spore/preload.so") == 0;
}

/* Whether a mapping has bytes of the module's file, as they are there. */
static bool is_part(const struct module *m, const struct maps_range *r)
{
    return strcmp(r->name, m->name) == 0 && r->perms[0] == 'r' &&
           r->perms[1] == '-' && r->offset <= IMAGE_MAX &&
           r->end - r->start <= IMAGE_MAX - r->offset;
}

/* Reads what is mapped of a file; what is not in memory stays zero. */
static uint8_t *read_image(
    const struct symbols *s, const struct module *m, size_t *ret_size)
{
    uint8_t *image;
    uint64_t size = 0;

    for (size_t i = 0; i < s->maps->count; i++) {
        const struct maps_range *r = &s->maps->ranges[i];

        if (is_part(m, r))
            size = num_max(size, r->offset + (r->end - r->start));
    }
    image = size >= sizeof(Elf64_Ehdr) ? calloc(1, size) : NULL;
    for (size_t i = 0; image != NULL && i < s->maps->count; i++) {
        const struct maps_range *r = &s->maps->ranges[i];

        for (uint64_t at = r->start; is_part(m, r) && at < r->end;
             at += NUM_PAGE_SIZE)
            (void)s->memory->read(s->memory->opaque, at,
                image + r->offset + (at - r->start), NUM_PAGE_SIZE);
    }
    *ret_size = size;
    return image;
}

/* By its program headers: those of sections are not in memory. */
static int open_from_memory(const struct symbols *s, struct module *m)
{
    Elf64_Ehdr header;
    size_t size;
    int rc;

    if (s->memory == NULL)
        return -ENOENT;
    m->image = read_image(s, m, &size);
    if (m->image == NULL)
        return -ENOENT;
    memcpy(&header, m->image, sizeof(header));
    header.e_shoff = 0;
    header.e_shnum = 0;
    header.e_shstrndx = 0;
    memcpy(m->image, &header, sizeof(header));
    rc = debug_file_open_bytes(m->image, size, &m->file, NULL);
    if (rc < 0) {
        free(m->image);
        m->image = NULL;
    }
    return rc;
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
    if (entry == NULL)
        rc = err_set(&err, ENOENT, "%s is in no list of files", m->name);
    else
        rc = debug_file_open(entry->host, entry->build_id, &m->file, &err);
    if (rc < 0 && s->note.text[0] == '\0' && !is_ours(m->name))
        s->note = err;
    if (rc < 0)
        rc = open_from_memory(s, m);
    if (rc == 0)
        place_module(s, m);
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
