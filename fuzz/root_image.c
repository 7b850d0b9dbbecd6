/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be in an image.
 */
#include "fuzz/root_image.h"

#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/num.h"

static struct root_image_entry *find(
    const struct root_image *image, const char *guest, size_t size)
{
    for (size_t i = 0; i < image->count; i++) {
        const char *other = image->entries[i].guest;

        if (strncmp(other, guest, size) == 0 && other[size] == '\0')
            return &image->entries[i];
    }
    return NULL;
}

/* Whether the part of a path that begins here is one that leads on. */
static bool is_good_part(const char *part, size_t size)
{
    return size > 0 && size <= 255 &&
           !(part[0] == '.' && (size == 1 || (size == 2 && part[1] == '.')));
}

static int check_path(const char *guest, struct err *err)
{
    for (const char *c = guest; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == '"' || *c == 0x7f)
            return err_set(err, EINVAL,
                "%s: has a character that e2fsprogs does not take: rename it",
                guest);
    }
    if (guest[0] != '/' || guest[1] == '\0')
        return err_set(
            err, EINVAL, "%s: must be an absolute path in the guest", guest);
    for (const char *part = guest; *part == '/';) {
        size_t size = strcspn(part + 1, "/");

        if (!is_good_part(part + 1, size))
            return err_set(err, EINVAL,
                "%s: must have neither \"//\" nor \".\" nor \"..\" in it",
                guest);
        part += 1 + size;
    }
    return 0;
}

static int append(struct root_image *image,
    const struct root_image_entry *entry, struct err *err)
{
    if (image->count == ROOT_IMAGE_ENTRIES_MAX)
        return err_set(err, E2BIG, "more than %u files: pack fewer",
            ROOT_IMAGE_ENTRIES_MAX);
    if (image->count == image->room) {
        size_t room = image->room == 0 ? 64 : image->room * 2;
        struct root_image_entry *entries =
            reallocarray(image->entries, room, sizeof(*entries));

        if (entries == NULL)
            return err_sys(err, ENOMEM, "%s", entry->guest);
        image->entries = entries;
        image->room = room;
    }
    image->entries[image->count++] = *entry;
    return 0;
}

/* The folders above a path whose form was checked. */
static int add_parents(
    struct root_image *image, const char *guest, struct err *err)
{
    for (const char *slash = strchr(guest + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        size_t size = (size_t)(slash - guest);
        const struct root_image_entry *there = find(image, guest, size);
        struct root_image_entry dir = {0};
        int rc;

        if (there != NULL && (there->host != NULL || there->bytes != NULL))
            return err_set(
                err, ENOTDIR, "%s: %s is a file", guest, there->guest);
        if (there != NULL)
            continue;
        dir.guest = strndup(guest, size);
        if (dir.guest == NULL)
            return err_sys(err, ENOMEM, "%s", guest);
        rc = append(image, &dir, err);
        if (rc < 0) {
            free(dir.guest);
            return rc;
        }
    }
    return 0;
}

/* Takes the entry's strings and bytes, whatever comes of it. */
static int add(
    struct root_image *image, struct root_image_entry *entry, struct err *err)
{
    int rc;

    if (entry->guest == NULL)
        rc = err_sys(err, ENOMEM, "a file of the image");
    else
        rc = check_path(entry->guest, err);
    if (rc == 0)
        rc = add_parents(image, entry->guest, err);
    if (rc == 0 && find(image, entry->guest, strlen(entry->guest)) != NULL)
        rc = -EEXIST;
    if (rc == 0)
        rc = append(image, entry, err);
    if (rc < 0) {
        free(entry->guest);
        free(entry->host);
        free(entry->bytes);
    }
    return rc;
}

int root_image_add_file(struct root_image *image, const char *host,
    const char *guest, struct err *err)
{
    struct root_image_entry entry = {0};
    struct stat st;

    if (stat(host, &st) < 0 || access(host, R_OK) < 0)
        return err_sys(err, errno, "%s", host);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%s: not a regular file", host);
    if (strpbrk(host, "\"\n") != NULL)
        return err_set(err, EINVAL,
            "%s: has a character that e2fsprogs does not take: rename it",
            host);
    entry.size = (uint64_t)st.st_size;
    entry.is_executable = (st.st_mode & 0111) != 0;
    entry.guest = strdup(guest);
    entry.host = realpath(host, NULL);
    if (entry.host == NULL) {
        free(entry.guest);
        return err_sys(err, errno, "%s", host);
    }
    return add(image, &entry, err);
}

int root_image_add_bytes(struct root_image *image, const void *bytes,
    size_t size, const char *guest, bool is_executable, struct err *err)
{
    struct root_image_entry entry = {
        .size = size, .is_executable = is_executable};

    entry.bytes = malloc(size + 1);
    if (entry.bytes == NULL)
        return err_sys(err, ENOMEM, "%s", guest);
    if (size > 0)
        memcpy(entry.bytes, bytes, size);
    entry.guest = strdup(guest);
    return add(image, &entry, err);
}

int root_image_add_dir(
    struct root_image *image, const char *guest, struct err *err)
{
    struct root_image_entry entry = {.guest = strdup(guest)};

    return add(image, &entry, err);
}

static int add_found(struct root_image *image, const FTSENT *found,
    const char *path, struct err *err)
{
    switch (found->fts_info) {
    case FTS_D:
        return root_image_add_dir(image, path, err);
    case FTS_F:
        return root_image_add_file(image, found->fts_accpath, path, err);
    case FTS_DP:
        return 0;
    case FTS_DC:
        return err_set(
            err, ELOOP, "%s: a link to a folder above it", found->fts_path);
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return err_sys(err, found->fts_errno, "%s", found->fts_path);
    default:
        return err_set(err, EINVAL,
            "%s: neither a file nor a folder: leave it out", found->fts_path);
    }
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

int root_image_add_tree(struct root_image *image, const char *host,
    const char *guest, struct err *err)
{
    char *roots[] = {(char *)(uintptr_t)host, NULL};
    FTS *walk =
        fts_open(roots, FTS_LOGICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
    FTSENT *found;
    int rc = 0;

    if (walk == NULL)
        return err_sys(err, errno, "%s", host);
    while (rc == 0 && (found = fts_read(walk)) != NULL) {
        char *path;

        if (asprintf(&path, "%s%s", guest, found->fts_path + strlen(host)) <
            0) {
            rc = err_sys(err, ENOMEM, "%s", host);
            break;
        }
        rc = add_found(image, found, path, err);
        free(path);
        /* Folders may be there; what was added first is a file's place. */
        if (rc == -EEXIST)
            rc = 0;
    }
    (void)fts_close(walk);
    return rc;
}

void root_image_fini(struct root_image *image)
{
    for (size_t i = 0; i < image->count; i++) {
        free(image->entries[i].guest);
        free(image->entries[i].host);
        free(image->entries[i].bytes);
    }
    free(image->entries);
    *image = (struct root_image){0};
}
