/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/closure.h"
#include "fuzz/elf_needs.h"
#include "fuzz/ldconf.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"

/* ---- ELF files with nothing in them but what the dynamic linker reads ---- */

#define ELF_BYTES  4096u
#define AT_ADDRESS UINT64_C(0x400000)
#define STRINGS    1024u /* their place in the file */
#define DYNAMIC    2048u
#define INTERP     3072u

struct made {
    uint8_t bytes[ELF_BYTES];
    size_t strings; /* bytes of them so far */
    unsigned int entries;
};

static Elf64_Ehdr *header(struct made *m)
{
    return (Elf64_Ehdr *)(void *)m->bytes;
}

static Elf64_Phdr *phdr(struct made *m, unsigned int i)
{
    return (Elf64_Phdr *)(void *)(m->bytes + sizeof(Elf64_Ehdr)) + i;
}

static void add_entry(struct made *m, int64_t tag, uint64_t value)
{
    Elf64_Dyn *dyn = (Elf64_Dyn *)(void *)(m->bytes + DYNAMIC);

    dyn[m->entries++] = (Elf64_Dyn){.d_tag = tag, .d_un.d_val = value};
    phdr(m, 1)->p_filesz = m->entries * sizeof(*dyn);
}

static void add_text(struct made *m, int64_t tag, const char *text)
{
    size_t at = m->strings;

    memcpy(m->bytes + STRINGS + at, text, strlen(text) + 1);
    m->strings += strlen(text) + 1;
    add_entry(m, tag, at);
}

static void make_elf(struct made *m, const char *interp)
{
    *m = (struct made){.strings = 1};
    *header(m) = (Elf64_Ehdr){
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
            EV_CURRENT},
        .e_type = ET_DYN,
        .e_machine = EM_X86_64,
        .e_phoff = sizeof(Elf64_Ehdr),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = interp == NULL ? 2 : 3,
    };
    *phdr(m, 0) = (Elf64_Phdr){.p_type = PT_LOAD,
        .p_vaddr = AT_ADDRESS,
        .p_filesz = ELF_BYTES,
        .p_memsz = ELF_BYTES};
    *phdr(m, 1) = (Elf64_Phdr){.p_type = PT_DYNAMIC, .p_offset = DYNAMIC};
    if (interp != NULL) {
        *phdr(m, 2) = (Elf64_Phdr){.p_type = PT_INTERP,
            .p_offset = INTERP,
            .p_filesz = strlen(interp) + 1};
        memcpy(m->bytes + INTERP, interp, strlen(interp) + 1);
    }
    add_entry(m, DT_STRTAB, AT_ADDRESS + STRINGS);
    add_entry(m, DT_STRSZ, DYNAMIC - STRINGS);
}

/* ---- one file ------------------------------------------------------------ */

static int needs_of(struct made *m, struct elf_needs *needs, struct err *err)
{
    return elf_needs_read(m->bytes, sizeof(m->bytes), "x", needs, err);
}

static void test_needs(void **state)
{
    struct elf_needs needs;
    struct made m;
    struct err err;

    (void)state;
    make_elf(&m, "/lib64/ld.so");
    add_text(&m, DT_NEEDED, "liba.so.1");
    add_text(&m, DT_SONAME, "libx.so");
    add_text(&m, DT_RUNPATH, "$ORIGIN/../lib:/opt");
    add_text(&m, DT_NEEDED, "libc.so.6");
    assert_int_equal(needs_of(&m, &needs, &err), 0);
    assert_string_equal(needs.interp, "/lib64/ld.so");
    assert_string_equal(needs.soname, "libx.so");
    assert_string_equal(needs.runpath, "$ORIGIN/../lib:/opt");
    assert_null(needs.rpath);
    assert_int_equal(needs.names.count, 2);
    assert_string_equal(needs.names.list[0], "liba.so.1");
    assert_string_equal(needs.names.list[1], "libc.so.6");
    elf_needs_fini(&needs);
    elf_needs_fini(&needs);
}

static void refuse(struct made *m, int code, const char *part)
{
    struct elf_needs needs;
    struct err err;

    assert_int_equal(needs_of(m, &needs, &err), -code);
    if (strstr(err.text, part) == NULL)
        fail_msg("'%s' is not in '%s'", part, err.text);
}

static void test_needs_refusals(void **state)
{
    struct elf_needs needs;
    struct made m;
    struct err err;

    (void)state;
    make_elf(&m, NULL);
    header(&m)->e_ident[0] = 'x';
    refuse(&m, ENOEXEC, "not an ELF");
    make_elf(&m, NULL);
    header(&m)->e_ident[EI_CLASS] = ELFCLASS32;
    refuse(&m, ENOTSUP, "-m32");
    make_elf(&m, NULL);
    header(&m)->e_machine = EM_AARCH64;
    refuse(&m, ENOTSUP, "another machine");
    make_elf(&m, NULL);
    header(&m)->e_type = ET_REL;
    refuse(&m, ENOEXEC, "link it");
    make_elf(&m, NULL);
    header(&m)->e_phoff = UINT64_MAX;
    refuse(&m, EINVAL, "program headers");
    make_elf(&m, NULL);
    header(&m)->e_phnum = 1000;
    refuse(&m, EINVAL, "program headers");
    make_elf(&m, "/ld");
    phdr(&m, 2)->p_filesz = 3; /* without its NUL */
    refuse(&m, EINVAL, "string");
    make_elf(&m, "/ld");
    phdr(&m, 2)->p_offset = UINT64_MAX - 1;
    refuse(&m, EINVAL, "interpreter");
    make_elf(&m, NULL);
    phdr(&m, 0)->p_filesz = STRINGS; /* the strings are not in it */
    refuse(&m, EINVAL, "no strings");
    make_elf(&m, NULL);
    add_entry(&m, DT_NEEDED, DYNAMIC - STRINGS);
    refuse(&m, EINVAL, "string");
    make_elf(&m, NULL);
    add_entry(&m, DT_NEEDED, UINT64_MAX);
    refuse(&m, EINVAL, "string");
    make_elf(&m, NULL);
    add_entry(&m, DT_STRSZ, UINT64_MAX);
    refuse(&m, EINVAL, "no strings");
    make_elf(&m, NULL);
    phdr(&m, 0)->p_offset = UINT64_MAX - 8;
    refuse(&m, EINVAL, "no strings");
    assert_int_equal(elf_needs_read(m.bytes, 4, "x", &needs, &err), -ENOEXEC);
    make_elf(&m, NULL);
    assert_int_equal(
        elf_needs_read(m.bytes, EI_NIDENT, "x", &needs, &err), -EINVAL);
}

static void test_traits(void **state)
{
    static const char text[] = "xx__AFL_SHM_ID\0##SIG_AFL_PERSISTENT##";
    struct elf_traits t;

    (void)state;
    elf_traits_find((const uint8_t *)text, sizeof(text), &t);
    assert_true(t.has_afl);
    assert_true(t.has_persistent);
    assert_false(t.has_deferred);
    assert_false(t.has_asan);
    elf_traits_find(NULL, 0, &t);
    assert_false(t.has_afl);
}

/* ---- a tree of them ------------------------------------------------------ */

static char tree[32];

static int make_tree(void **state)
{
    (void)state;
    (void)strcpy(tree, "/tmp/test_closure.XXXXXX");
    return mkdtemp(tree) == NULL ? -1 : 0;
}

static int remove_tree(void **state)
{
    char command[64];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r %s", tree);
    return system(command);
}

static const char *in_tree(const char *name, char path[128])
{
    (void)snprintf(path, 128, "%s/%s", tree, name);
    return path;
}

static void put(const char *name, const void *bytes, size_t size)
{
    char path[128];
    int fd;

    (void)in_tree(name, path);
    for (char *slash = strchr(path + strlen(tree) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, bytes, size), 0);
    assert_int_equal(close(fd), 0);
}

static void put_elf(const char *name, const struct made *m)
{
    put(name, m->bytes, sizeof(m->bytes));
}

/* A library without needs. */
static void put_leaf(const char *name, const char *soname)
{
    struct made m;

    make_elf(&m, NULL);
    add_text(&m, DT_SONAME, soname);
    put_elf(name, &m);
}

static int find(
    const struct closure_options *o, struct closure *c, struct err *err)
{
    char path[128];

    return closure_find(in_tree("bin/prog", path), o, c, err);
}

/* Index of the file, by its path in the tree. */
static size_t index_of(const struct closure *c, const char *name)
{
    char path[128];

    (void)in_tree(name, path);
    for (size_t i = 0; i < c->count; i++) {
        if (strcmp(c->files[i].path, path) == 0)
            return i;
    }
    fail_msg("%s is not there", name);
    return 0;
}

static void test_closure(void **state)
{
    struct closure_options o = {0};
    char conf[128];
    char path[128];
    char text[256];
    struct closure c;
    struct made m;
    struct err err;

    (void)state;
    make_elf(&m, in_tree("ld.so", path));
    add_text(&m, DT_NEEDED, "libown.so");
    add_text(&m, DT_NEEDED, "libconf.so");
    add_text(&m, DT_NEEDED, "libgiven.so");
    add_text(&m, DT_NEEDED, "ld.so");
    add_text(&m, DT_RUNPATH, "/nowhere:${ORIGIN}/../lib");
    put_elf("bin/prog", &m);
    put_leaf("ld.so", "ld.so");
    put_leaf("given/libgiven.so", "libgiven.so");

    /* A RUNPATH is not for what a library loads; a ring is no trouble. */
    make_elf(&m, NULL);
    add_text(&m, DT_NEEDED, "libdeep.so");
    add_text(&m, DT_NEEDED, "libown.so");
    add_text(&m, DT_RPATH, "$ORIGIN/deep");
    put_elf("bin/../lib/libown.so", &m);
    put_leaf("lib/deep/libdeep.so", "libdeep.so");

    /* One of another machine is passed over. */
    make_elf(&m, NULL);
    header(&m)->e_machine = EM_AARCH64;
    put_elf("first/libconf.so", &m);
    put_leaf("second/libconf.so", "libconf.so");
    (void)snprintf(text, sizeof(text), "%s/second\n", tree);
    put("conf.d/a.conf", text, strlen(text));
    (void)snprintf(text, sizeof(text),
        "# no\n  %s/first # yes\nhwcap 1 x\ninclude conf.d/*.conf conf\n",
        tree);
    put("conf", text, strlen(text));

    o.conf = in_tree("conf", conf);
    o.library_path = in_tree("given", path);
    assert_int_equal(find(&o, &c, &err), 0);
    assert_int_equal(c.count, 6);
    assert_false(c.is_static);
    assert_int_equal(index_of(&c, "bin/prog"), 0);
    assert_int_equal(index_of(&c, "ld.so"), 1);
    assert_int_equal(c.files[index_of(&c, "lib/deep/libdeep.so")].loader, 2);
    assert_null(c.files[index_of(&c, "given/libgiven.so")].search);
    assert_string_equal(c.files[index_of(&c, "second/libconf.so")].search,
        in_tree("second", path));
    closure_fini(&c);
    closure_fini(&c);
}

static void refuse_prog(int code, const char *part)
{
    struct closure_options o = {.conf = "/nonexistent"};
    struct closure c;
    struct err err;

    assert_int_equal(find(&o, &c, &err), -code);
    if (strstr(err.text, part) == NULL)
        fail_msg("'%s' is not in '%s'", part, err.text);
}

static void test_closure_refusals(void **state)
{
    struct closure_options o = {.conf = "/nonexistent"};
    char path[128];
    struct closure c;
    struct made m;
    struct err err;

    (void)state;
    refuse_prog(ENOENT, "bin/prog");
    put("bin/prog", "#!/bin/sh\n", 10);
    refuse_prog(ENOEXEC, "a script");
    assert_int_equal(chmod(in_tree("bin/prog", path), 0600), 0);
    refuse_prog(EACCES, "chmod");
    assert_int_equal(closure_find(tree, &o, &c, &err), -ENOEXEC);
    assert_int_equal(unlink(path), 0);

    make_elf(&m, in_tree("ld.so", path));
    put_elf("bin/prog", &m);
    refuse_prog(ENOENT, "dynamic linker");
    make_elf(&m, "ld.so");
    put_elf("bin/prog", &m);
    refuse_prog(ENOENT, "no absolute path");
    make_elf(&m, NULL);
    add_text(&m, DT_NEEDED, "libnone.so.7");
    put_elf("bin/prog", &m);
    refuse_prog(ENOENT, "needs libnone.so.7");
}

static void test_static(void **state)
{
    struct closure_options o = {.conf = "/nonexistent"};
    struct closure c;
    struct made m;
    struct err err;

    (void)state;
    make_elf(&m, NULL);
    put_elf("bin/prog", &m);
    assert_int_equal(find(&o, &c, &err), 0);
    assert_int_equal(c.count, 1);
    assert_true(c.is_static);
    closure_fini(&c);
}

/* What the guest has something over is elsewhere there, and told of. */
static void test_hidden(void **state)
{
    char folder[128];
    const char *hidden[] = {folder, NULL};
    struct closure_options o = {.conf = "/nonexistent", .hidden = hidden};
    char path[128];
    struct closure c;
    struct made m;
    struct err err;

    (void)state;
    make_elf(&m, in_tree("ld.so", path));
    add_text(&m, DT_NEEDED, "libown.so");
    add_text(&m, DT_RPATH, "$ORIGIN/lib");
    put_elf("bin/prog", &m);
    put_leaf("ld.so", "ld.so");
    put_leaf("bin/lib/libown.so", "libown.so");
    (void)in_tree("bin/", folder);
    assert_int_equal(find(&o, &c, &err), 0);
    assert_int_equal(c.count, 3);
    assert_int_equal(strncmp(c.files[0].guest, "/target/tmp/", 12), 0);
    assert_null(c.files[0].search);
    assert_string_equal(c.files[1].guest, c.files[1].path);
    assert_string_equal(c.files[2].guest + strlen("/target"), c.files[2].path);
    assert_int_equal(strncmp(c.files[2].search, "/target/tmp/", 12), 0);
    closure_fini(&c);
    (void)in_tree("", folder);
    assert_int_equal(find(&o, &c, &err), -EINVAL);
    assert_non_null(strstr(err.text, "dynamic linker"));
}

/* The test itself is a program that runs here: all of it is found. */
static void test_real(void **state)
{
    struct closure_options o = {0};
    struct closure c;
    struct err err;

    (void)state;
    assert_int_equal(closure_find("/proc/self/exe", &o, &c, &err), 0);
    assert_true(c.is_static || c.count >= 3);
    closure_fini(&c);
}

static void test_ldconf_bounds(void **state)
{
    static const char line[] = "/a\ninclude b c\n";
    size_t size = (sizeof(line) - 1) * 400;
    char *text = malloc(size);
    struct words dirs = {0};
    struct words includes = {0};

    (void)state;
    for (size_t i = 0; i < 400; i++)
        memcpy(text + i * (sizeof(line) - 1), line, sizeof(line) - 1);
    ldconf_take(text, size, &dirs, &includes);
    assert_int_equal(dirs.count, LDCONF_DIRS_MAX);
    assert_int_equal(includes.count, LDCONF_FILES_MAX);
    words_fini(&dirs);
    words_fini(&includes);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needs),
        cmocka_unit_test(test_needs_refusals),
        cmocka_unit_test(test_traits),
        cmocka_unit_test_setup_teardown(test_closure, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(
            test_closure_refusals, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_static, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_hidden, make_tree, remove_tree),
        cmocka_unit_test(test_real),
        cmocka_unit_test(test_ldconf_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
