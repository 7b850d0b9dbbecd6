/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/debug_file.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define DEBUG_FOLDER "/usr/lib/debug/.build-id"

/* An opened ELF file. */
struct elf_file {
    int fd;
    Elf *elf;
};

struct symbol {
    uint64_t start;
    uint64_t size;
    const char *name;
};

struct unit {
    uint64_t start;
    uint64_t end;
    Dwarf_Off die;
};

struct debug_file {
    struct elf_file main;
    struct elf_file debug; /* .elf is NULL: there is no other */
    Dwarf *dwarf;          /* of either; may be NULL */
    Dwarf_CFI *cfi;        /* libdw's, freed with the ELF file */
    struct symbol *symbols;
    size_t symbol_count;
    struct unit *units;
    size_t unit_count;
    char build_id[DEBUG_FILE_ID_SIZE];
};

/* ---- opening ------------------------------------------------------------- */

static bool is_ours(Elf *elf)
{
    GElf_Ehdr header;

    return elf != NULL && elf_kind(elf) == ELF_K_ELF &&
           gelf_getehdr(elf, &header) != NULL &&
           header.e_machine == EM_X86_64 && gelf_getclass(elf) == ELFCLASS64;
}

static int elf_file_open(
    const char *path, struct elf_file *ret_elf, struct err *err)
{
    struct elf_file f = {.fd = open(path, O_RDONLY | O_CLOEXEC)};

    if (f.fd < 0)
        return err_sys(err, errno, "%s", path);
    (void)elf_version(EV_CURRENT);
    f.elf = elf_begin(f.fd, ELF_C_READ_MMAP, NULL);
    if (!is_ours(f.elf)) {
        (void)elf_end(f.elf);
        fd_closep(&f.fd);
        return err_set(err, ENOEXEC, "%s is no ELF file for x86-64", path);
    }
    *ret_elf = f;
    return 0;
}

static void elf_file_close(struct elf_file *f)
{
    (void)elf_end(f->elf);
    f->elf = NULL;
    fd_closep(&f->fd);
}

/* The build id if it is among the notes in `data`. */
static bool take_build_id(struct debug_file *file, Elf_Data *data)
{
    GElf_Nhdr note;
    size_t name;
    size_t desc;

    for (size_t at = 0; data != NULL && (at = gelf_getnote(data, at, &note,
                                             &name, &desc)) > 0;) {
        const uint8_t *bytes = data->d_buf;

        if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 ||
            memcmp(bytes + name, "GNU", 4) != 0 ||
            note.n_descsz > (DEBUG_FILE_ID_SIZE - 1) / 2)
            continue;
        for (size_t i = 0; i < note.n_descsz; i++)
            (void)snprintf(file->build_id + 2 * i, 3, "%02x", bytes[desc + i]);
        return true;
    }
    return false;
}

static void read_build_id(struct debug_file *file)
{
    Elf *elf = file->main.elf;
    size_t count;

    if (elf_getphdrnum(elf, &count) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr segment;

        if (gelf_getphdr(elf, (int)i, &segment) != NULL &&
            segment.p_type == PT_NOTE &&
            take_build_id(
                file, elf_getdata_rawchunk(elf, (int64_t)segment.p_offset,
                          segment.p_filesz,
                          segment.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR)))
            return;
    }
}

static bool has_section(Elf *elf, const char *name)
{
    Elf_Scn *section = NULL;
    size_t strings;

    if (elf_getshdrstrndx(elf, &strings) < 0)
        return false;
    while ((section = elf_nextscn(elf, section)) != NULL) {
        GElf_Shdr header;
        const char *found;

        if (gelf_getshdr(section, &header) == NULL ||
            header.sh_type == SHT_NOBITS)
            continue;
        found = elf_strptr(elf, strings, header.sh_name);
        if (found != NULL && strcmp(found, name) == 0)
            return true;
    }
    return false;
}

/* Lets .debug be absent: without it there are symbols still. */
static void open_dwarf(struct debug_file *file)
{
    char path[sizeof(DEBUG_FOLDER) + DEBUG_FILE_ID_SIZE + 16];

    if (!has_section(file->main.elf, ".debug_info") &&
        strlen(file->build_id) > 2) {
        (void)snprintf(path, sizeof(path), DEBUG_FOLDER "/%.2s/%s.debug",
            file->build_id, file->build_id + 2);
        if (elf_file_open(path, &file->debug, NULL) < 0)
            file->debug = (struct elf_file){.fd = -1};
    }
    file->dwarf = dwarf_begin_elf(
        file->debug.elf != NULL ? file->debug.elf : file->main.elf,
        DWARF_C_READ, NULL);
}

/* ---- functions of the symbol table --------------------------------------- */

/* Room for one more in an array that doubles at powers of two. */
static void *grown(void *array, size_t count, size_t each)
{
    if (count != 0 && (count & (count - 1)) != 0)
        return array;
    return reallocarray(array, count == 0 ? 1 : count * 2, each);
}

static int add_symbol(
    struct debug_file *file, Elf *elf, const GElf_Sym *sym, size_t strings)
{
    unsigned int type = GELF_ST_TYPE(sym->st_info);
    const char *name = elf_strptr(elf, strings, sym->st_name);
    struct symbol *symbols;

    if ((type != STT_FUNC && type != STT_GNU_IFUNC) ||
        sym->st_shndx == SHN_UNDEF || name == NULL || *name == '\0')
        return 0;
    symbols = grown(file->symbols, file->symbol_count, sizeof(*symbols));
    if (symbols == NULL)
        return -ENOMEM;
    file->symbols = symbols;
    symbols[file->symbol_count++] =
        (struct symbol){sym->st_value, sym->st_size, name};
    return 0;
}

static int add_symbols(struct debug_file *file, Elf *elf)
{
    Elf_Scn *section = NULL;

    while ((section = elf_nextscn(elf, section)) != NULL) {
        GElf_Shdr header;
        Elf_Data *data;
        GElf_Sym sym;

        if (gelf_getshdr(section, &header) == NULL ||
            (header.sh_type != SHT_SYMTAB && header.sh_type != SHT_DYNSYM))
            continue;
        data = elf_getdata(section, NULL);
        for (int i = 0; data != NULL && gelf_getsym(data, i, &sym) != NULL;
             i++) {
            if (add_symbol(file, elf, &sym, header.sh_link) < 0)
                return -ENOMEM;
        }
    }
    return 0;
}

static int order_symbols(const void *a, const void *b)
{
    const struct symbol *x = a;
    const struct symbol *y = b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    /* The one that find_symbol takes, the last, is the longest; of those of
     * one length the name that comes first. */
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return strcmp(y->name, x->name);
}

static const struct symbol *find_symbol(
    const struct debug_file *file, uint64_t address)
{
    size_t low = 0;
    size_t high = file->symbol_count;
    const struct symbol *s;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (file->symbols[mid].start <= address)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0)
        return NULL;
    s = &file->symbols[low - 1];
    /* Hand-written assembly often has no sizes. */
    return s->size == 0 || address - s->start < s->size ? s : NULL;
}

/* ---- compilation units --------------------------------------------------- */

static int add_units(struct debug_file *file)
{
    Dwarf_CU *cu = NULL;
    Dwarf_Die die;
    uint8_t type;

    while (
        dwarf_get_units(file->dwarf, cu, &cu, NULL, &type, &die, NULL) == 0) {
        Dwarf_Addr base;
        Dwarf_Addr start;
        Dwarf_Addr end;
        ptrdiff_t next = 0;

        if (type != DW_UT_compile)
            continue;
        while ((next = dwarf_ranges(&die, next, &base, &start, &end)) > 0) {
            struct unit *units =
                grown(file->units, file->unit_count, sizeof(*units));

            if (units == NULL)
                return -ENOMEM;
            file->units = units;
            /* Code that the linker left out begins at 0. */
            if (start != 0 && start < end)
                units[file->unit_count++] =
                    (struct unit){start, end, dwarf_dieoffset(&die)};
        }
    }
    return 0;
}

static int order_units(const void *a, const void *b)
{
    const struct unit *x = a;
    const struct unit *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

static bool find_unit(
    const struct debug_file *file, uint64_t address, Dwarf_Die *ret_die)
{
    size_t low = 0;
    size_t high = file->unit_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (file->units[mid].end <= address)
            low = mid + 1;
        else
            high = mid;
    }
    return low < file->unit_count && file->units[low].start <= address &&
           dwarf_offdie(file->dwarf, file->units[low].die, ret_die) != NULL;
}

static int load(struct debug_file *file)
{
    int rc;

    open_dwarf(file);
    rc = add_symbols(file, file->main.elf);
    if (rc == 0 && file->debug.elf != NULL)
        rc = add_symbols(file, file->debug.elf);
    if (rc == 0 && file->dwarf != NULL)
        rc = add_units(file);
    if (rc < 0)
        return rc;
    if (file->symbol_count > 0)
        qsort(file->symbols, file->symbol_count, sizeof(*file->symbols),
            order_symbols);
    if (file->unit_count > 0)
        qsort(file->units, file->unit_count, sizeof(*file->units), order_units);
    file->cfi = dwarf_getcfi_elf(file->main.elf);
    return 0;
}

int debug_file_open(const char *path, const char *build_id,
    struct debug_file **ret_file, struct err *err)
{
    struct debug_file *file = calloc(1, sizeof(*file));
    int rc;

    if (file == NULL)
        return err_sys(err, ENOMEM, "%s", path);
    file->main.fd = -1;
    file->debug.fd = -1;
    rc = elf_file_open(path, &file->main, err);
    if (rc == 0) {
        read_build_id(file);
        if (build_id != NULL && strcmp(build_id, file->build_id) != 0)
            rc = err_set(err, ESTALE,
                "%s is not the file that was packed: its build id is another",
                path);
    }
    if (rc == 0 && (rc = load(file)) < 0)
        (void)err_sys(err, rc, "%s", path);
    if (rc < 0) {
        debug_file_free(file);
        return rc;
    }
    *ret_file = file;
    return 0;
}

int debug_file_open_bytes(const void *bytes, size_t size,
    struct debug_file **ret_file, struct err *err)
{
    struct debug_file *file = calloc(1, sizeof(*file));
    int rc;

    if (file == NULL)
        return err_sys(err, ENOMEM, "an ELF file");
    file->main.fd = -1;
    file->debug.fd = -1;
    (void)elf_version(EV_CURRENT);
    /* For reading alone: libelf takes it as something it might change. */
    file->main.elf = elf_memory((char *)(uintptr_t)bytes, size);
    rc = is_ours(file->main.elf)
             ? load(file)
             : err_set(err, ENOEXEC, "no ELF file for x86-64");
    if (rc < 0) {
        debug_file_free(file);
        return rc;
    }
    *ret_file = file;
    return 0;
}

void debug_file_free(struct debug_file *file)
{
    if (file == NULL)
        return;
    if (file->cfi != NULL)
        (void)dwarf_cfi_end(file->cfi);
    (void)dwarf_end(file->dwarf);
    elf_file_close(&file->debug);
    elf_file_close(&file->main);
    free(file->symbols);
    free(file->units);
    free(file);
}

/* ---- what it tells ------------------------------------------------------- */

const char *debug_file_build_id(const struct debug_file *file)
{
    return file->build_id;
}

bool debug_file_has_lines(const struct debug_file *file)
{
    return file->unit_count > 0;
}

bool debug_file_bias(const struct debug_file *file, uint64_t start,
    uint64_t offset, uint64_t *ret_bias)
{
    size_t count;

    if (elf_getphdrnum(file->main.elf, &count) < 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr segment;
        uint64_t first;

        if (gelf_getphdr(file->main.elf, (int)i, &segment) == NULL ||
            segment.p_type != PT_LOAD)
            continue;
        first = num_align_down(segment.p_offset, NUM_PAGE_SIZE);
        if (offset < first ||
            offset - first >= segment.p_filesz + segment.p_offset - first)
            continue;
        *ret_bias = start - (segment.p_vaddr + (offset - segment.p_offset));
        return true;
    }
    return false;
}

static const char *source_of_line(
    Dwarf_Die *unit, uint64_t address, uint32_t *ret_line)
{
    Dwarf_Line *row = dwarf_getsrc_die(unit, address);
    int line;

    if (row == NULL || dwarf_lineno(row, &line) < 0 || line <= 0)
        return NULL;
    *ret_line = (uint32_t)line;
    return dwarf_linesrc(row, NULL, NULL);
}

/* Where an inlined function was called. */
static const char *source_of_call(
    Dwarf_Die *unit, Dwarf_Die *call, uint32_t *ret_line)
{
    Dwarf_Attribute attr;
    Dwarf_Files *files;
    Dwarf_Word number;
    Dwarf_Word line;
    size_t count;

    if (dwarf_formudata(dwarf_attr(call, DW_AT_call_line, &attr), &line) < 0 ||
        dwarf_formudata(dwarf_attr(call, DW_AT_call_file, &attr), &number) <
            0 ||
        dwarf_getsrcfiles(unit, &files, &count) < 0 || number >= count ||
        line > UINT32_MAX)
        return NULL;
    *ret_line = (uint32_t)line;
    return dwarf_filesrc(files, number, NULL, NULL);
}

/* The scopes around `address`, innermost first, as the code has them. */
static int get_scopes(Dwarf_Die *unit, uint64_t address, Dwarf_Die **ret_scopes)
{
    Dwarf_Die *lexical = NULL;
    int count = dwarf_getscopes(unit, address, &lexical);

    if (count > 0)
        count = dwarf_getscopes_die(&lexical[0], ret_scopes);
    free(lexical);
    return count;
}

static size_t find_in_unit(Dwarf_Die *unit, uint64_t address,
    struct debug_file_place places[DEBUG_FILE_PLACES])
{
    struct debug_file_place place = {0};
    Dwarf_Die *scopes = NULL;
    int scope_count = get_scopes(unit, address, &scopes);
    size_t count = 0;

    place.source = source_of_line(unit, address, &place.line);
    for (int i = 0; i < scope_count && count < DEBUG_FILE_PLACES; i++) {
        int tag = dwarf_tag(&scopes[i]);
        Dwarf_Addr entry;

        if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_subprogram)
            continue;
        place.function = dwarf_diename(&scopes[i]);
        if (tag == DW_TAG_subprogram &&
            dwarf_entrypc(&scopes[i], &entry) == 0 && entry <= address)
            place.into = address - entry;
        places[count++] = place;
        if (tag == DW_TAG_subprogram)
            break;
        place = (struct debug_file_place){0};
        place.source = source_of_call(unit, &scopes[i], &place.line);
    }
    free(scopes);
    if (count == 0 && place.source != NULL)
        places[count++] = place;
    return count;
}

size_t debug_file_find(struct debug_file *file, uint64_t address,
    struct debug_file_place ret_places[DEBUG_FILE_PLACES])
{
    const struct symbol *symbol = find_symbol(file, address);
    size_t count = 0;
    Dwarf_Die unit;

    if (find_unit(file, address, &unit))
        count = find_in_unit(&unit, address, ret_places);
    if (symbol == NULL)
        return count;
    if (count == 0)
        ret_places[count++] = (struct debug_file_place){0};
    if (ret_places[count - 1].function == NULL) {
        ret_places[count - 1].function = symbol->name;
        ret_places[count - 1].into = address - symbol->start;
    }
    return count;
}

bool debug_file_function(
    const struct debug_file *file, const char *name, uint64_t *ret_address)
{
    for (size_t i = 0; i < file->symbol_count; i++) {
        if (strcmp(file->symbols[i].name, name) == 0) {
            *ret_address = file->symbols[i].start;
            return true;
        }
    }
    return false;
}

static int lines_of_unit(Dwarf_Die *unit,
    int (*each)(void *opaque, const struct debug_file_line *line), void *opaque)
{
    Dwarf_Lines *rows;
    size_t count;
    int rc = 0;

    if (dwarf_getsrclines(unit, &rows, &count) < 0)
        return 0;
    for (size_t i = 0; rc >= 0 && i < count; i++) {
        Dwarf_Line *row = dwarf_onesrcline(rows, i);
        struct debug_file_line line = {0};
        Dwarf_Addr address;
        bool is_end;
        int number;

        if (dwarf_lineaddr(row, &address) < 0 || address == 0 ||
            dwarf_lineno(row, &number) < 0 || number <= 0 ||
            dwarf_linebeginstatement(row, &line.is_stmt) < 0 ||
            dwarf_lineendsequence(row, &is_end) < 0 || is_end)
            continue;
        line.address = address;
        line.line = (uint32_t)number;
        line.source = dwarf_linesrc(row, NULL, NULL);
        if (line.source != NULL)
            rc = each(opaque, &line);
    }
    return rc;
}

int debug_file_lines(struct debug_file *file,
    int (*each)(void *opaque, const struct debug_file_line *line), void *opaque)
{
    Dwarf_Off done = UINT64_MAX;
    Dwarf_CU *cu = NULL;
    Dwarf_Die die;
    uint8_t type;
    int rc = 0;

    if (file->dwarf == NULL)
        return 0;
    while (rc >= 0 && dwarf_get_units(
                          file->dwarf, cu, &cu, NULL, &type, &die, NULL) == 0) {
        Dwarf_Off offset = dwarf_dieoffset(&die);

        if (type == DW_UT_compile && offset != done)
            rc = lines_of_unit(&die, each, opaque);
        done = offset;
    }
    return rc < 0 ? rc : 0;
}

struct Dwarf_CFI_s *debug_file_cfi(struct debug_file *file, unsigned int which)
{
    if (which == 0)
        return file->cfi;
    return file->dwarf != NULL ? dwarf_getcfi(file->dwarf) : NULL;
}
