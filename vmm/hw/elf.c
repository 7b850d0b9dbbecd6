/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/elf.h"

#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/hw/layout.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18u
#define NOTE_HEADER              12u
#define NOTE_PVH_MAX             24u /* header, name, 8 bytes of address */
#define NOTES_MAX                64u /* looked at in one segment */

struct segment {
    uint32_t type;
    uint64_t offset; /* in the file */
    uint64_t start;  /* physical address */
    uint64_t file_size;
    uint64_t size; /* in memory, >= file_size for PT_LOAD */
    uint64_t align;
};

struct parser {
    const struct image *image;
    struct gmem *mem;
    bool is_64;
    uint64_t entry;
    uint64_t phdrs; /* offset in the file */
    unsigned int segment_count;
    struct segment segments[ELF_PHDRS_MAX];
};

static int broken(const struct parser *p, const char *why, struct err *err)
{
    return err_set(err, EINVAL, "%s: damaged ELF: %s", p->image->name, why);
}

bool elf_detect(const struct image *image)
{
    uint8_t magic[SELFMAG];

    return image_read(image, 0, magic, sizeof(magic), "magic", NULL) == 0 &&
           memcmp(magic, ELFMAG, SELFMAG) == 0;
}

static int parse_header(struct parser *p, struct err *err)
{
    uint8_t raw[sizeof(Elf64_Ehdr)] = {0};
    struct bytes_reader r;
    uint16_t type, machine, phdr_size;
    size_t want;
    int rc;

    rc = image_read(p->image, 0, raw, EI_NIDENT, "ELF header", err);
    if (rc < 0)
        return rc;
    p->is_64 = raw[EI_CLASS] == ELFCLASS64;
    if (memcmp(raw, ELFMAG, SELFMAG) != 0 || raw[EI_DATA] != ELFDATA2LSB ||
        raw[EI_VERSION] != EV_CURRENT ||
        (!p->is_64 && raw[EI_CLASS] != ELFCLASS32))
        return err_set(
            err, ENOEXEC, "%s: not a little-endian ELF file", p->image->name);
    want = p->is_64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
    rc = image_read(p->image, 0, raw, want, "ELF header", err);
    if (rc < 0)
        return rc;
    bytes_reader_init(&r, raw, want);
    bytes_skip(&r, EI_NIDENT);
    type = bytes_get_u16(&r);
    machine = bytes_get_u16(&r);
    bytes_skip(&r, sizeof(uint32_t)); /* e_version */
    p->entry = p->is_64 ? bytes_get_u64(&r) : bytes_get_u32(&r);
    p->phdrs = p->is_64 ? bytes_get_u64(&r) : bytes_get_u32(&r);
    /* e_shoff, e_flags, e_ehsize */
    bytes_skip(&r, (p->is_64 ? 8u : 4u) + 4u + 2u);
    phdr_size = bytes_get_u16(&r);
    p->segment_count = bytes_get_u16(&r);
    assert(!r.failed);
    if (machine != (p->is_64 ? EM_X86_64 : EM_386))
        return err_set(err, ENOEXEC, "%s: an ELF for machine %u, not x86",
            p->image->name, machine);
    if (type != ET_EXEC && type != ET_DYN)
        return err_set(err, ENOEXEC,
            "%s: an ELF of type %u, not a linked "
            "kernel",
            p->image->name, type);
    if (phdr_size != (p->is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
        return broken(p, "program headers of unknown size", err);
    if (p->segment_count == 0 || p->segment_count > ELF_PHDRS_MAX)
        return broken(p, "it must have 1 to 64 program headers", err);
    return 0;
}

static struct segment parse_phdr(struct bytes_reader *r, bool is_64)
{
    struct segment s = {0};

    s.type = bytes_get_u32(r);
    if (is_64) {
        bytes_skip(r, sizeof(uint32_t)); /* p_flags */
        s.offset = bytes_get_u64(r);
        bytes_skip(r, sizeof(uint64_t)); /* p_vaddr */
        s.start = bytes_get_u64(r);
        s.file_size = bytes_get_u64(r);
        s.size = bytes_get_u64(r);
        s.align = bytes_get_u64(r);
    } else {
        s.offset = bytes_get_u32(r);
        bytes_skip(r, sizeof(uint32_t)); /* p_vaddr */
        s.start = bytes_get_u32(r);
        s.file_size = bytes_get_u32(r);
        s.size = bytes_get_u32(r);
        bytes_skip(r, sizeof(uint32_t)); /* p_flags */
        s.align = bytes_get_u32(r);
    }
    return s;
}

static int parse_phdrs(struct parser *p, struct err *err)
{
    uint8_t raw[ELF_PHDRS_MAX * sizeof(Elf64_Phdr)];
    size_t len =
        p->segment_count * (p->is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr));
    struct bytes_reader r;
    int rc;

    rc = image_read(p->image, p->phdrs, raw, len, "program headers", err);
    if (rc < 0)
        return rc;
    bytes_reader_init(&r, raw, len);
    for (unsigned int i = 0; i < p->segment_count; i++)
        p->segments[i] = parse_phdr(&r, p->is_64);
    assert(!r.failed);
    return 0;
}

/*
 * One line on segment `i`, which is not in RAM, with the --mem that would do
 * for all segments.
 */
static int no_room(
    const struct parser *p, unsigned int i, uint64_t end, struct err *err)
{
    const struct segment *s = &p->segments[i];
    uint64_t last = end;
    uint64_t need;

    if (s->start < GMEM_GAP_END && end > GMEM_GAP_START)
        return err_set(err, EINVAL,
            "%s: segment %u, 0x%llx to 0x%llx, lies where devices are "
            "(0x%llx to 0x%llx)",
            p->image->name, i, (unsigned long long)s->start,
            (unsigned long long)end, (unsigned long long)GMEM_GAP_START,
            (unsigned long long)GMEM_GAP_END);
    for (unsigned int j = 0; j < p->segment_count; j++) {
        const struct segment *t = &p->segments[j];
        uint64_t e;

        if (t->type == PT_LOAD && num_add(t->start, t->size, &e))
            last = num_max(last, e);
    }
    if (last > GMEM_GAP_END)
        last -= GMEM_GAP_END - GMEM_GAP_START;
    need = num_div_up(last, NUM_MIB);
    if (need > GMEM_SIZE_MAX / NUM_MIB)
        return err_set(err, EINVAL,
            "%s: segments beyond the memory that any guest can have",
            p->image->name);
    return err_set(err, ENOMEM,
        "%s: segment %u ends at 0x%llx, beyond %llu MiB of guest memory: give "
        "--mem %llu or more",
        p->image->name, i, (unsigned long long)end,
        (unsigned long long)(p->mem->size / NUM_MIB), (unsigned long long)need);
}

static int check_load(const struct parser *p, unsigned int i, struct err *err)
{
    const struct segment *s = &p->segments[i];
    struct gslice slice;
    uint64_t end;

    if (s->file_size > s->size)
        return broken(p, "a segment has more in the file than in memory", err);
    if (!num_range_within(s->offset, s->file_size, p->image->size))
        return err_set(err, ENODATA, "%s: the file ends within segment %u",
            p->image->name, i);
    if (!num_add(s->start, s->size, &end))
        return broken(p, "a segment wraps around the address space", err);
    if (s->start < LAYOUT_KERNEL_MIN)
        return err_set(err, EINVAL,
            "%s: segment %u is at 0x%llx; below 0x%llx is the monitor's: link "
            "it higher",
            p->image->name, i, (unsigned long long)s->start,
            (unsigned long long)LAYOUT_KERNEL_MIN);
    if (gmem_slice(p->mem, gpa(s->start), s->size, &slice) < 0)
        return no_room(p, i, end, err);
    for (unsigned int j = 0; j < i; j++) {
        const struct segment *t = &p->segments[j];

        if (t->type == PT_LOAD && t->size != 0 && t->start < end &&
            s->start < t->start + t->size)
            return err_set(err, EINVAL, "%s: segments %u and %u overlap",
                p->image->name, j, i);
    }
    return 0;
}

/* Whether `address` is in what was loaded. */
static bool is_loaded(const struct parser *p, uint64_t address)
{
    for (unsigned int i = 0; i < p->segment_count; i++) {
        const struct segment *s = &p->segments[i];

        if (s->type == PT_LOAD && address >= s->start &&
            address - s->start < s->size)
            return true;
    }
    return false;
}

static int load_segments(
    struct parser *p, struct elf_loaded *loaded, struct err *err)
{
    loaded->lowest = UINT64_MAX;
    for (unsigned int i = 0; i < p->segment_count; i++) {
        const struct segment *s = &p->segments[i];
        int rc;

        if (s->type != PT_LOAD || s->size == 0)
            continue;
        rc = check_load(p, i, err);
        if (rc < 0)
            return rc;
        loaded->lowest = num_min(loaded->lowest, s->start);
        loaded->highest = num_max(loaded->highest, s->start + s->size);
        if (s->start < GMEM_GAP_START)
            loaded->low_end = num_max(loaded->low_end, s->start + s->size);
    }
    if (loaded->highest == 0)
        return broken(p, "nothing in it is to be loaded", err);
    for (unsigned int i = 0; i < p->segment_count; i++) {
        const struct segment *s = &p->segments[i];
        int rc;

        if (s->type != PT_LOAD || s->size == 0)
            continue;
        rc = image_load(p->image, s->offset, p->mem, gpa(s->start),
            s->file_size, "segments", err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

struct note {
    bool is_pvh;
    uint64_t pvh_entry;
    uint64_t size; /* bytes up to the next note */
};

static struct note parse_note(
    const uint8_t raw[NOTE_PVH_MAX], size_t len, uint64_t align)
{
    static const char owner[4] = "Xen";
    char name[sizeof(owner)];
    struct bytes_reader r;
    struct note note = {0};
    uint32_t name_size, desc_size, type;

    bytes_reader_init(&r, raw, len);
    name_size = bytes_get_u32(&r);
    desc_size = bytes_get_u32(&r);
    type = bytes_get_u32(&r);
    note.size = num_align_up(NOTE_HEADER + (uint64_t)name_size, align) +
                num_align_up(desc_size, align);
    if (type != XEN_ELFNOTE_PHYS32_ENTRY || name_size != sizeof(owner) ||
        (desc_size != sizeof(uint32_t) && desc_size != sizeof(uint64_t)))
        return note;
    /* The name ends at 16, which suits both alignments. */
    bytes_get(&r, name, sizeof(name));
    note.pvh_entry =
        desc_size == sizeof(uint32_t) ? bytes_get_u32(&r) : bytes_get_u64(&r);
    note.is_pvh = !r.failed && memcmp(name, owner, sizeof(owner)) == 0;
    return note;
}

/* Reads each note's head on its own: kernels have a handful of them. */
static int find_note(const struct parser *p, const struct segment *s,
    struct elf_loaded *loaded, struct err *err)
{
    uint64_t align = s->align == 8 ? 8 : 4;
    uint64_t at = 0;

    if (!num_range_within(s->offset, s->file_size, p->image->size))
        return broken(p, "its notes are beyond its end", err);
    for (unsigned int i = 0;
         i < NOTES_MAX && at < s->file_size && s->file_size - at >= NOTE_HEADER;
         i++) {
        uint8_t raw[NOTE_PVH_MAX];
        size_t len = num_min(sizeof(raw), s->file_size - at);
        struct note note;
        int rc;

        rc = image_read(p->image, s->offset + at, raw, len, "notes", err);
        if (rc < 0)
            return rc;
        note = parse_note(raw, len, align);
        if (note.is_pvh) {
            loaded->has_pvh = true;
            loaded->pvh_entry = note.pvh_entry;
            return 0;
        }
        at += note.size;
    }
    return 0;
}

static int find_entries(
    const struct parser *p, struct elf_loaded *loaded, struct err *err)
{
    loaded->entry = p->entry;
    loaded->has_entry = is_loaded(p, p->entry);
    for (unsigned int i = 0; i < p->segment_count && !loaded->has_pvh; i++) {
        int rc;

        if (p->segments[i].type != PT_NOTE)
            continue;
        rc = find_note(p, &p->segments[i], loaded, err);
        if (rc < 0)
            return rc;
    }
    if (loaded->has_pvh &&
        (loaded->pvh_entry > UINT32_MAX || !is_loaded(p, loaded->pvh_entry)))
        return err_set(err, EINVAL,
            "%s: its PVH entry 0x%llx is not in what it loads", p->image->name,
            (unsigned long long)loaded->pvh_entry);
    return 0;
}

int elf_load(const struct image *image, struct gmem *mem,
    struct elf_loaded *ret_loaded, struct err *err)
{
    struct parser p = {.image = image, .mem = mem};
    struct elf_loaded loaded = {0};
    int rc;

    rc = parse_header(&p, err);
    if (rc < 0)
        return rc;
    rc = parse_phdrs(&p, err);
    if (rc < 0)
        return rc;
    loaded.is_64 = p.is_64;
    rc = load_segments(&p, &loaded, err);
    if (rc < 0)
        return rc;
    rc = find_entries(&p, &loaded, err);
    if (rc < 0)
        return rc;
    *ret_loaded = loaded;
    return 0;
}
