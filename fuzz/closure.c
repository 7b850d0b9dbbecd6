/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/closure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/ldconf.h"
#include "vmm/base/fd.h"

#define NO_LOADER SIZE_MAX
#define PRELOAD   "the preload library"

/* Where Debian's and other linkers look at the very end. */
static const char *const default_dirs[] = {
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
};

struct finder {
    const struct closure_options *options;
    struct closure closure;
    struct words conf_dirs;
    struct err *err;
};

static size_t folder_size(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? 0 : (size_t)(slash - path);
}

static int no_memory(struct finder *f)
{
    return err_sys(f->err, ENOMEM, "shared libraries");
}

static void file_fini(struct closure_file *file)
{
    free(file->path);
    free(file->guest);
    free(file->name);
    free(file->search);
    elf_needs_fini(&file->needs);
}

void closure_fini(struct closure *closure)
{
    for (size_t i = 0; i < closure->count; i++)
        file_fini(&closure->files[i]);
    free(closure->files);
    *closure = (struct closure){0};
}

/* ---- one file ------------------------------------------------------------ */

static int read_file(struct finder *f, struct closure_file *file)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int rc = fd_read_file(file->path, CLOSURE_FILE_MAX, &data, &size, f->err);

    if (rc < 0)
        return rc;
    if (size >= 2 && memcmp(data, "#!", 2) == 0)
        rc = err_set(f->err, ENOEXEC,
            "%s: a script: pack the program that it runs, with its arguments "
            "behind --",
            file->path);
    else
        rc = elf_needs_read(data, size, file->path, &file->needs, f->err);
    if (rc == 0)
        elf_traits_find(data, size, &file->traits);
    free(data);
    return rc;
}

static bool is_hidden(const struct finder *f, const char *path)
{
    const char *const *hidden = f->options->hidden;

    for (size_t i = 0; hidden != NULL && hidden[i] != NULL; i++) {
        if (strncmp(path, hidden[i], strlen(hidden[i])) == 0)
            return true;
    }
    return false;
}

/* Where it is in the guest, and what the dynamic linker must know of that. */
static int place(struct finder *f, struct closure_file *file)
{
    if (!is_hidden(f, file->path)) {
        file->guest = strdup(file->path);
        return file->guest == NULL ? no_memory(f) : 0;
    }
    if (asprintf(&file->guest, CLOSURE_MOVED "%s", file->path) < 0) {
        file->guest = NULL;
        return no_memory(f);
    }
    if (file->loader == NO_LOADER)
        return 0;
    free(file->search);
    file->search = strndup(file->guest, folder_size(file->guest));
    return file->search == NULL ? no_memory(f) : 0;
}

/* Takes the file, whatever comes of it. */
static int append(struct finder *f, struct closure_file *file)
{
    struct closure *c = &f->closure;
    struct closure_file *files = c->files;
    int rc = place(f, file);

    if (rc < 0) {
        file_fini(file);
        return rc;
    }
    if (c->count == CLOSURE_FILES_MAX) {
        file_fini(file);
        return err_set(f->err, E2BIG, "%s: needs more than %u files",
            c->files[0].path, CLOSURE_FILES_MAX);
    }
    files = reallocarray(files, c->count + 1, sizeof(*files));
    if (files == NULL) {
        file_fini(file);
        return err_sys(f->err, ENOMEM, "shared libraries");
    }
    files[c->count++] = *file;
    c->files = files;
    return 0;
}

/* ---- where libraries are ------------------------------------------------- */

/* `dir` with $ORIGIN and ${ORIGIN} put in; NULL if it is no absolute path. */
static char *expand(const char *dir, size_t size, const char *origin)
{
    static const char *const forms[] = {"$ORIGIN", "${ORIGIN}"};
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < size;) {
        size_t form = 0;

        for (size_t k = 0; k < ARRAY_SIZE(forms); k++) {
            size_t n = strlen(forms[k]);

            if (n <= size - i && memcmp(dir + i, forms[k], n) == 0)
                form = n;
        }
        if (form == 0)
            (void)fputc(dir[i], out);
        else
            (void)fwrite(origin, 1, folder_size(origin), out);
        i += form == 0 ? 1 : form;
    }
    if (fclose(out) != 0 || text[0] != '/') {
        free(text);
        return NULL;
    }
    return text;
}

/* Adds the folders of a list with colons between them. */
static void add_dirs(struct words *dirs, const char *list, const char *origin)
{
    while (list != NULL && *list != '\0') {
        size_t size = strcspn(list, ":");
        char *dir = expand(list, size, origin);

        if (dir != NULL)
            words_add(dirs, dir);
        free(dir);
        list += size;
        list += *list == ':' ? 1 : 0;
    }
}

/* The folders that come in front of those that all programs share. */
static void own_dirs(struct finder *f, size_t loader, struct words *dirs)
{
    const struct closure *c = &f->closure;

    /* An RPATH is for what its libraries load too, a RUNPATH is not. */
    if (c->files[loader].needs.runpath == NULL) {
        for (size_t i = loader; i != NO_LOADER; i = c->files[i].loader) {
            const struct closure_file *file = &c->files[i];

            if (file->needs.runpath == NULL)
                add_dirs(dirs, file->needs.rpath, file->path);
        }
    }
    add_dirs(dirs, f->options->library_path, "");
    add_dirs(dirs, c->files[loader].needs.runpath, c->files[loader].path);
}

/*
 * `path` without "//", "/./" and "/../", by its text alone: that is what it
 * leads to in the guest, which has no links. In place.
 */
static void clean_path(char *path)
{
    char *to = path;

    for (const char *from = path; *from != '\0';) {
        size_t size;

        while (*from == '/')
            from++;
        size = strcspn(from, "/");
        if (size == 2 && memcmp(from, "..", 2) == 0) {
            while (to > path && *--to != '/')
                continue;
        } else if (size > 0 && !(size == 1 && *from == '.')) {
            *to++ = '/';
            memmove(to, from, size);
            to += size;
        }
        from += size;
    }
    if (to == path)
        *to++ = '/';
    *to = '\0';
}

/* -ENOENT where there is no library that could be loaded. */
static int try_path(struct finder *f, const char *path, const char *name,
    size_t loader, const char *search)
{
    struct closure_file file = {.loader = loader};
    int rc;

    if (access(path, R_OK) < 0)
        return -ENOENT;
    file.path = strdup(path);
    file.name = strdup(name);
    if (search != NULL)
        file.search = strdup(search);
    if (file.path == NULL || file.name == NULL ||
        (search != NULL && file.search == NULL)) {
        file_fini(&file);
        return no_memory(f);
    }
    rc = read_file(f, &file);
    if (rc < 0) {
        file_fini(&file);
        /* One of another machine is passed over, as ld.so does. */
        return rc == -ENOEXEC || rc == -ENOTSUP ? -ENOENT : rc;
    }
    clean_path(file.path);
    return append(f, &file);
}

static int try_dirs(struct finder *f, const struct words *dirs,
    const char *name, size_t loader, bool must_be_told)
{
    int rc = -ENOENT;

    for (size_t i = 0; rc == -ENOENT && i < dirs->count; i++) {
        char *path;

        if (asprintf(&path, "%s/%s", dirs->list[i], name) < 0)
            return no_memory(f);
        rc = try_path(
            f, path, name, loader, must_be_told ? dirs->list[i] : NULL);
        free(path);
    }
    return rc;
}

static int try_shared(struct finder *f, const char *name, size_t loader)
{
    struct words dirs = {0};
    int rc;

    for (size_t i = 0; i < ARRAY_SIZE(default_dirs); i++)
        words_add(&dirs, default_dirs[i]);
    rc = try_dirs(f, &dirs, name, loader, false);
    words_fini(&dirs);
    /* The guest has no cache that would lead there. */
    if (rc == -ENOENT)
        rc = try_dirs(f, &f->conf_dirs, name, loader, true);
    return rc;
}

static bool is_there(const struct finder *f, const char *name)
{
    for (size_t i = 0; i < f->closure.count; i++) {
        const struct closure_file *file = &f->closure.files[i];

        if (strcmp(file->name, name) == 0 ||
            (file->needs.soname != NULL &&
                strcmp(file->needs.soname, name) == 0))
            return true;
    }
    return false;
}

static int find_library(struct finder *f, const char *name, size_t loader)
{
    const char *by = f->closure.files[loader].path;
    struct words dirs = {0};
    char *path;
    int rc;

    if (is_there(f, name))
        return 0;
    if (strchr(name, '/') != NULL) {
        path = expand(name, strlen(name), by);
        rc = path == NULL ? -ENOENT : try_path(f, path, name, loader, NULL);
        free(path);
    } else {
        own_dirs(f, loader, &dirs);
        rc = dirs.failed ? no_memory(f)
                         : try_dirs(f, &dirs, name, loader, false);
        words_fini(&dirs);
        if (rc == -ENOENT)
            rc = try_shared(f, name, loader);
    }
    if (rc == -ENOENT)
        return err_set(f->err, ENOENT,
            "%s needs %s, which is nowhere: install it, or give its folder by "
            "--env LD_LIBRARY_PATH=DIR",
            by, name);
    return rc;
}

/* ---- all ----------------------------------------------------------------- */

static int add_program(struct finder *f, const char *program)
{
    struct closure_file file = {.loader = NO_LOADER};
    struct stat st;
    int rc;

    file.path = realpath(program, NULL);
    if (file.path == NULL)
        return err_sys(f->err, errno, "%s", program);
    file.name = strdup(program);
    if (file.name == NULL || stat(file.path, &st) < 0)
        rc = err_sys(f->err, errno, "%s", program);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(
            f->err, ENOEXEC, "%s: not a file: name the program", program);
    else if ((st.st_mode & 0111) == 0)
        rc = err_set(f->err, EACCES,
            "%s: cannot be executed: chmod +x it, if it is a program", program);
    else
        rc = read_file(f, &file);
    if (rc < 0) {
        file_fini(&file);
        return rc;
    }
    return append(f, &file);
}

static int add_interp(struct finder *f)
{
    const struct closure_file *program = &f->closure.files[0];
    const char *interp = program->needs.interp;
    const char *slash;
    int rc;

    if (interp == NULL) {
        f->closure.is_static = true;
        return 0;
    }
    slash = strrchr(interp, '/');
    if (interp[0] != '/')
        return err_set(f->err, ENOENT,
            "%s: its dynamic linker is %s, which is no absolute path: link the "
            "program again",
            program->path, interp);
    rc = try_path(f, interp, slash + 1, 0, NULL);
    if (rc == -ENOENT)
        return err_set(f->err, ENOENT,
            "%s: its dynamic linker %s is not here: install it, or link the "
            "program for this system",
            f->closure.files[0].path, f->closure.files[0].needs.interp);
    if (rc == 0 && is_hidden(f, interp))
        return err_set(f->err, EINVAL,
            "%s: its dynamic linker %s is in a folder that the guest has "
            "something else in: install it elsewhere",
            f->closure.files[0].path, f->closure.files[0].needs.interp);
    return rc;
}

/* What the preload library needs is looked for as if the program did. */
static int add_preload(struct finder *f)
{
    struct elf_needs needs;
    int rc;

    if (f->options->preload_size == 0 || f->closure.is_static)
        return 0;
    rc = elf_needs_read(
        f->options->preload, f->options->preload_size, PRELOAD, &needs, f->err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < needs.names.count; i++)
        rc = find_library(f, needs.names.list[i], 0);
    elf_needs_fini(&needs);
    return rc;
}

static int find_all(struct finder *f, const char *program)
{
    int rc = add_program(f, program);

    if (rc == 0)
        rc = add_interp(f);
    if (rc == 0)
        rc = add_preload(f);
    /* Grows as libraries need others. */
    for (size_t i = 0; rc == 0 && i < f->closure.count; i++) {
        for (size_t k = 0; rc == 0 && k < f->closure.files[i].needs.names.count;
             k++)
            rc = find_library(f, f->closure.files[i].needs.names.list[k], i);
    }
    return rc;
}

int closure_find(const char *program, const struct closure_options *options,
    struct closure *ret_closure, struct err *err)
{
    struct finder f = {.options = options, .err = err};
    int rc;

    ldconf_read(
        options->conf != NULL ? options->conf : LDCONF_PATH, &f.conf_dirs);
    rc = find_all(&f, program);
    words_fini(&f.conf_dirs);
    if (rc < 0)
        closure_fini(&f.closure);
    else
        *ret_closure = f.closure;
    return rc;
}
