/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/elf_needs.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest/fuzz/names.h"
#include "vmm/base/bytes.h"
#include "vmm/base/num.h"

#define PHDRS_MAX    256u
#define DYNAMICS_MAX 4096u
#define PATH_MAX_LEN 4096u

struct file {
    struct bytes_reader all;
    const char *name;
    uint64_t phdrs; /* offset */
    unsigned int phdr_count;
    bool has_dynamic;
    uint64_t strings; /* DT_STRTAB: an address */
    uint64_t strings_size;
    struct bytes_reader text; /* the same in the file */
};

static int damaged(const struct file *f, const char *what, struct err *err)
{
    return err_set(err, EINVAL, "%s: damaged ELF: %s", f->name, what);
}

static int check_ident(const struct file *f, struct err *err)
{
    const uint8_t *ident = f->all.data;

    if (f->all.size < EI_NIDENT || memcmp(ident, ELFMAG, SELFMAG) != 0)
        return err_set(err, ENOEXEC, "%s: not an ELF file", f->name);
    if (ident[EI_CLASS] == ELFCLASS32)
        return err_set(err, ENOTSUP,
            "%s: a 32-bit program: build it for x86-64 (without -m32)",
            f->name);
    if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB)
        return err_set(
            err, ENOTSUP, "%s: not for x86-64: build it for that", f->name);
    return 0;
}

static int read_header(struct file *f, struct err *err)
{
    struct bytes_reader r = f->all;
    uint16_t type;
    uint16_t machine;
    uint16_t size;
    int rc = check_ident(f, err);

    if (rc < 0)
        return rc;
    bytes_skip(&r, EI_NIDENT);
    type = bytes_get_u16(&r);
    machine = bytes_get_u16(&r);
    bytes_skip(&r, sizeof(uint32_t) + sizeof(uint64_t)); /* version, entry */
    f->phdrs = bytes_get_u64(&r);
    bytes_skip(&r, sizeof(uint64_t) + sizeof(uint32_t) + sizeof(uint16_t));
    size = bytes_get_u16(&r);
    f->phdr_count = bytes_get_u16(&r);
    if (r.failed)
        return damaged(f, "its header is cut short", err);
    if (machine != EM_X86_64)
        return err_set(err, ENOTSUP,
            "%s: for another machine (ELF machine %u): build it for x86-64",
            f->name, machine);
    if (type != ET_EXEC && type != ET_DYN)
        return err_set(err, ENOEXEC,
            "%s: neither a program nor a shared library: link it first",
            f->name);
    if (size != sizeof(Elf64_Phdr) || f->phdr_count > PHDRS_MAX)
        return damaged(f, "its program headers", err);
    return 0;
}

/* Header number `i`: false at an end that comes too soon. */
static bool get_phdr(const struct file *f, unsigned int i, Elf64_Phdr *ret)
{
    struct bytes_reader r = f->all;
    uint64_t at;

    if (!num_add(f->phdrs, i * sizeof(Elf64_Phdr), &at))
        return false;
    bytes_seek(&r, at);
    bytes_get(&r, ret, sizeof(*ret));
    return !r.failed;
}

/* The part of the file that is loaded at an address, from there on. */
static bool at_address(const struct file *f, uint64_t address, uint64_t size,
    struct bytes_reader *ret_part)
{
    for (unsigned int i = 0; i < f->phdr_count; i++) {
        Elf64_Phdr p;
        uint64_t offset;

        if (!get_phdr(f, i, &p))
            return false;
        if (p.p_type != PT_LOAD || address < p.p_vaddr ||
            !num_range_within(address - p.p_vaddr, size, p.p_filesz))
            continue;
        return num_add(p.p_offset, address - p.p_vaddr, &offset) &&
               bytes_reader_sub(&f->all, offset, size, ret_part);
    }
    return false;
}

/* A string of at most a path's length that ends within `r`. */
static int take_string(const struct file *f, struct bytes_reader r,
    uint64_t offset, char **ret_text, struct err *err)
{
    const char *text;
    size_t len;

    bytes_seek(&r, offset);
    text = (const char *)r.data + r.pos;
    len = bytes_left(&r) == 0 ? 0 : strnlen(text, bytes_left(&r));
    if (r.failed || len == bytes_left(&r) || len == 0 || len >= PATH_MAX_LEN)
        return damaged(f, "a string of its dynamic section", err);
    free(*ret_text);
    *ret_text = strdup(text);
    return *ret_text == NULL ? err_sys(err, ENOMEM, "%s", f->name) : 0;
}

static int read_interp(struct file *f, const Elf64_Phdr *p,
    struct elf_needs *needs, struct err *err)
{
    struct bytes_reader r;

    if (!bytes_reader_sub(&f->all, p->p_offset, p->p_filesz, &r))
        return damaged(f, "its interpreter", err);
    return take_string(f, r, 0, &needs->interp, err);
}

/* The strings' place comes anywhere among the entries that need it. */
static int find_strings(struct file *f, struct bytes_reader r, struct err *err)
{
    bool has_strings = false;

    for (unsigned int i = 0; i < DYNAMICS_MAX; i++) {
        uint64_t tag = bytes_get_u64(&r);
        uint64_t value = bytes_get_u64(&r);

        if (r.failed || tag == DT_NULL)
            break;
        if (tag == DT_STRTAB) {
            f->strings = value;
            has_strings = true;
        }
        if (tag == DT_STRSZ)
            f->strings_size = value;
    }
    if (!has_strings || !at_address(f, f->strings, f->strings_size, &f->text))
        return damaged(f, "no strings for its dynamic section", err);
    return 0;
}

static int read_entry(struct file *f, uint64_t tag, uint64_t value,
    struct elf_needs *needs, struct err *err)
{
    char *name = NULL;
    int rc;

    switch (tag) {
    case DT_SONAME:
        return take_string(f, f->text, value, &needs->soname, err);
    case DT_RPATH:
        return take_string(f, f->text, value, &needs->rpath, err);
    case DT_RUNPATH:
        return take_string(f, f->text, value, &needs->runpath, err);
    case DT_NEEDED:
        if (needs->names.count == ELF_NEEDS_MAX)
            return damaged(f, "it needs too many libraries", err);
        rc = take_string(f, f->text, value, &name, err);
        if (rc < 0)
            return rc;
        words_add(&needs->names, name);
        free(name);
        return needs->names.failed ? err_sys(err, ENOMEM, "%s", f->name) : 0;
    default:
        return 0;
    }
}

static int read_dynamic(struct file *f, const Elf64_Phdr *p,
    struct elf_needs *needs, struct err *err)
{
    struct bytes_reader r;
    int rc;

    if (!bytes_reader_sub(&f->all, p->p_offset, p->p_filesz, &r))
        return damaged(f, "its dynamic section", err);
    rc = find_strings(f, r, err);
    for (unsigned int i = 0; rc == 0 && i < DYNAMICS_MAX; i++) {
        uint64_t tag = bytes_get_u64(&r);
        uint64_t value = bytes_get_u64(&r);

        if (r.failed || tag == DT_NULL)
            break;
        rc = read_entry(f, tag, value, needs, err);
    }
    return rc;
}

static int read_all(struct file *f, struct elf_needs *needs, struct err *err)
{
    int rc = read_header(f, err);

    for (unsigned int i = 0; rc == 0 && i < f->phdr_count; i++) {
        Elf64_Phdr p;

        if (!get_phdr(f, i, &p))
            return damaged(f, "its program headers are cut short", err);
        if (p.p_type == PT_INTERP) {
            rc = read_interp(f, &p, needs, err);
        } else if (p.p_type == PT_DYNAMIC && !f->has_dynamic) {
            f->has_dynamic = true;
            rc = read_dynamic(f, &p, needs, err);
        }
    }
    return rc;
}

int elf_needs_read(const uint8_t *data, size_t size, const char *name,
    struct elf_needs *ret_needs, struct err *err)
{
    struct elf_needs needs = {0};
    struct file f = {.name = name};
    int rc;

    bytes_reader_init(&f.all, data, size);
    rc = read_all(&f, &needs, err);
    if (rc < 0) {
        elf_needs_fini(&needs);
        return rc;
    }
    *ret_needs = needs;
    return 0;
}

void elf_needs_fini(struct elf_needs *needs)
{
    free(needs->interp);
    free(needs->soname);
    free(needs->rpath);
    free(needs->runpath);
    words_fini(&needs->names);
    *needs = (struct elf_needs){0};
}

void elf_traits_find(
    const uint8_t *data, size_t size, struct elf_traits *ret_traits)
{
    struct elf_traits t = {0};
    const struct {
        const char *mark;
        bool *trait;
    } marks[] = {
        {"__asan_init", &t.has_asan},
        {"__msan_init", &t.has_msan},
        {"__tsan_init", &t.has_tsan},
        {"__lsan_init", &t.has_lsan},
        {"__AFL_SHM_ID", &t.has_afl},
        {"##SIG_AFL_PERSISTENT##", &t.has_persistent},
        {"##SIG_AFL_DEFER_FORKSRV##", &t.has_deferred},
        {"aflpp_driver", &t.has_driver},
        {FUZZ_NAMES_HARNESS, &t.has_harness},
        {"INFO: libFuzzer ignores flags", &t.has_libfuzzer},
    };

    for (size_t i = 0; size > 0 && i < ARRAY_SIZE(marks); i++)
        *marks[i].trait =
            memmem(data, size, marks[i].mark, strlen(marks[i].mark)) != NULL;
    *ret_traits = t;
}
