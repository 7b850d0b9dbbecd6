/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/cgroup_places.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "jail/cgroup_mounts.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define OWN_TEXT_MAX    ((size_t)256 << 10)
#define MOUNTS_TEXT_MAX ((size_t)64 << 20)
#define USUAL_FOLDER    "/sys/fs/cgroup"
#define USUAL_MAX       64u
#define WORTH_ALL       7

/* A piece of a text, not ended by a NUL. */
struct piece {
    const char *text;
    size_t len;
};

/* Takes what is before `separator` (or the end) off the front of *rest. */
static struct piece take_until(struct piece *rest, char separator)
{
    struct piece taken = {.text = rest->text, .len = rest->len};
    const char *at =
        rest->len == 0 ? NULL : memchr(rest->text, separator, rest->len);

    if (at != NULL) {
        taken.len = (size_t)(at - rest->text);
        rest->text = at + 1;
        rest->len -= taken.len + 1;
    } else {
        rest->text += rest->len;
        rest->len = 0;
    }
    return taken;
}

static bool piece_is(struct piece p, const char *word)
{
    return p.len == strlen(word) && memcmp(p.text, word, p.len) == 0;
}

bool cgroup_list_has(const char *list, char separator, const char *name)
{
    struct piece rest = {.text = list, .len = strlen(list)};

    while (rest.len > 0) {
        if (piece_is(take_until(&rest, separator), name))
            return true;
    }
    return false;
}

/* Whether a path names one place only: absolute, and nowhere "..". */
static bool is_plain_path(const char *path)
{
    return path[0] == '/' && !cgroup_list_has(path, '/', "..");
}

/* What is behind `root` in `path`, or NULL if it is not below it. */
static const char *below(const char *path, const char *root)
{
    size_t len = strlen(root);

    while (len > 0 && root[len - 1] == '/')
        len--;
    if (strncmp(path, root, len) != 0 || (path[len] != '/' && path[len] != 0))
        return NULL;
    path += len;
    while (*path == '/')
        path++;
    return path;
}

/* A line of /proc/self/cgroup: "4:memory:/a/b", "0::/a". */
static int add_hierarchy(
    struct cgroup_places *places, struct piece line, struct err *err)
{
    struct piece rest = line;
    struct piece number = take_until(&rest, ':');
    struct piece controllers = take_until(&rest, ':');
    struct cgroup_hierarchy *h = &places->list[places->count];

    if (number.len == 0 || rest.len == 0 || rest.text[0] != '/')
        return err_set(err, EINVAL, "/proc/self/cgroup: cannot read '%.*s'",
            (int)num_min(line.len, 64), line.text);
    h->is_v2 = piece_is(number, "0") && controllers.len == 0;
    h->controllers = strndup(controllers.text, controllers.len);
    h->own = strndup(rest.text, rest.len);
    places->count++;
    if (h->controllers == NULL || h->own == NULL)
        return err_sys(err, ENOMEM, "cgroups");
    return 0;
}

static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* A copy without the escapes by which the kernel writes blanks: \040. */
static char *unescape(struct piece p)
{
    char *text = malloc(p.len + 1);
    size_t n = 0;

    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < p.len; i++) {
        char c = p.text[i];

        if (c == '\\' && p.len - i > 3 && is_octal(p.text[i + 1]) &&
            is_octal(p.text[i + 2]) && is_octal(p.text[i + 3])) {
            unsigned int value = (unsigned int)(p.text[i + 1] - '0') << 6 |
                                 (unsigned int)(p.text[i + 2] - '0') << 3 |
                                 (unsigned int)(p.text[i + 3] - '0');

            c = (char)(uint8_t)value;
            i += 3;
        }
        if (c == '\0')
            break;
        text[n++] = c;
    }
    text[n] = '\0';
    return text;
}

/* Whether all of a hierarchy's controllers are among a mount's options. */
static bool mount_has(struct piece options, const char *controllers)
{
    struct piece wanted = {.text = controllers, .len = strlen(controllers)};

    if (wanted.len == 0)
        return false;
    while (wanted.len > 0) {
        struct piece one = take_until(&wanted, ',');
        struct piece rest = options;
        bool found = false;

        while (!found && rest.len > 0) {
            struct piece have = take_until(&rest, ',');

            found = have.len == one.len &&
                    memcmp(have.text, one.text, one.len) == 0;
        }
        if (!found)
            return false;
    }
    return true;
}

/*
 * How much of use a mount of a hierarchy is: one that shows where we are, all
 * of the hierarchy, and can be written to.
 */
static int worth_of(const char *root, bool read_only, const char *own)
{
    return (below(own, root) != NULL ? 4 : 0) +
           (strcmp(root, "/") == 0 ? 2 : 0) + (read_only ? 0 : 1);
}

static int offer_mount(struct cgroup_hierarchy *h, const char *root,
    const char *point, bool read_only, struct err *err)
{
    char *root_text = strdup(root);
    char *point_text = strdup(point);

    if (root_text == NULL || point_text == NULL) {
        free(root_text);
        free(point_text);
        return err_sys(err, ENOMEM, "cgroups");
    }
    /* Mounts from outside of this cgroup namespace are "/..". */
    if (!is_plain_path(root_text) ||
        (h->mount != NULL &&
            worth_of(root_text, read_only, h->own) <=
                worth_of(h->mount_root, h->is_read_only, h->own))) {
        free(root_text);
        free(point_text);
        return 0;
    }
    free(h->mount);
    free(h->mount_root);
    h->mount = point_text;
    h->mount_root = root_text;
    h->is_read_only = read_only;
    return 0;
}

/* A mount is offered to the hierarchies that it may be of. */
static int offer_to_all(struct cgroup_places *places, struct piece type,
    const char *root, const char *point, struct piece options, bool read_only,
    struct err *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < places->count; i++) {
        struct cgroup_hierarchy *h = &places->list[i];

        if (h->is_v2 ? !piece_is(type, "cgroup2")
                     : !piece_is(type, "cgroup") ||
                           !mount_has(options, h->controllers))
            continue;
        rc = offer_mount(h, root, point, read_only, err);
    }
    return rc;
}

/*
 * A line of /proc/self/mountinfo (proc_pid_mountinfo(5)): numbers of mount and
 * parent, device, root, mount point, options, tagged fields, "-", type, source,
 * options of the superblock.
 */
static int add_mount(
    struct cgroup_places *places, struct piece line, struct err *err)
{
    struct piece rest = line;
    struct piece root;
    struct piece point;
    struct piece options;
    struct piece type;
    char *root_text;
    char *point_text;
    bool read_only;
    int rc;

    for (size_t i = 0; i < 3; i++)
        (void)take_until(&rest, ' ');
    root = take_until(&rest, ' ');
    point = take_until(&rest, ' ');
    options = take_until(&rest, ' ');
    while (rest.len > 0 && !piece_is(take_until(&rest, ' '), "-"))
        continue;
    type = take_until(&rest, ' ');
    if (type.len == 0)
        return err_set(err, EINVAL, "/proc/self/mountinfo: cannot read '%.*s'",
            (int)num_min(line.len, 64), line.text);
    (void)take_until(&rest, ' ');
    read_only = piece_is(take_until(&options, ','), "ro") ||
                (rest.len >= 2 && memcmp(rest.text, "ro", 2) == 0 &&
                    (rest.len == 2 || rest.text[2] == ','));
    root_text = unescape(root);
    point_text = unescape(point);
    rc = root_text == NULL || point_text == NULL
             ? err_sys(err, ENOMEM, "cgroups")
             : offer_to_all(
                   places, type, root_text, point_text, rest, read_only, err);
    free(root_text);
    free(point_text);
    return rc;
}

static int add_mounts(
    struct cgroup_places *places, const char *text, struct err *err)
{
    struct piece rest = {.text = text, .len = strlen(text)};
    int rc = 0;

    while (rc == 0 && rest.len > 0)
        rc = add_mount(places, take_until(&rest, '\n'), err);
    return rc;
}

/* Whether no mount can be better than those that are known. */
static bool is_complete(const struct cgroup_places *places)
{
    for (size_t i = 0; i < places->count; i++) {
        const struct cgroup_hierarchy *h = &places->list[i];

        /* Those with a name and no controller limit nothing. */
        if (strncmp(h->controllers, "name=", 5) == 0)
            continue;
        if (h->mount == NULL ||
            worth_of(h->mount_root, h->is_read_only, h->own) < WORTH_ALL)
            return false;
    }
    return true;
}

int cgroup_places_parse(const char *own_text, const char *mounts_text,
    struct cgroup_places *ret_places, struct err *err)
{
    struct piece own = {.text = own_text, .len = strlen(own_text)};
    struct cgroup_places places = {0};
    int rc = 0;

    while (rc == 0 && own.len > 0 && places.count < CGROUP_HIERARCHY_MAX)
        rc = add_hierarchy(&places, take_until(&own, '\n'), err);
    if (rc == 0)
        rc = add_mounts(&places, mounts_text, err);
    if (rc < 0) {
        cgroup_places_fini(&places);
        return rc;
    }
    *ret_places = places;
    return 0;
}

/* The mount that `name` is in, if it is one of cgroups. */
static int ask_about(
    struct cgroup_places *places, int dir, const char *name, struct err *err)
{
    struct cgroup_mount m;
    struct piece type;
    struct piece options;

    if (cgroup_mount_describe(dir, name, &m) < 0)
        return 0;
    type = (struct piece){.text = m.type, .len = strlen(m.type)};
    options = (struct piece){.text = m.options, .len = strlen(m.options)};
    return offer_to_all(
        places, type, m.root, m.point, options, m.is_read_only, err);
}

/*
 * Looks first where most hosts have them. What is there is what the kernel
 * says of it, and not what its name says.
 */
static int ask_first(struct cgroup_places *places, struct err *err)
{
    DIR *dir = opendir(USUAL_FOLDER);
    const struct dirent *entry;
    int rc = 0;

    if (dir == NULL)
        return 0;
    rc = ask_about(places, dirfd(dir), ".", err);
    for (size_t i = 0; rc == 0 && i < USUAL_MAX && !is_complete(places); i++) {
        entry = readdir(dir);
        if (entry == NULL)
            break;
        if (entry->d_name[0] != '.' && entry->d_type == DT_DIR)
            rc = ask_about(places, dirfd(dir), entry->d_name, err);
    }
    (void)closedir(dir);
    return rc;
}

int cgroup_places_read(struct cgroup_places *ret_places, struct err *err)
{
    struct cgroup_places places = {0};
    uint8_t *own = NULL;
    uint8_t *mounts = NULL;
    size_t size;
    int rc = fd_read_file("/proc/self/cgroup", OWN_TEXT_MAX, &own, &size, err);

    if (rc == 0)
        rc = cgroup_places_parse((const char *)own, "", &places, err);
    if (rc == 0)
        rc = ask_first(&places, err);
    if (rc == 0 && !is_complete(&places)) {
        rc = fd_read_file(
            "/proc/self/mountinfo", MOUNTS_TEXT_MAX, &mounts, &size, err);
        if (rc == 0)
            rc = add_mounts(&places, (const char *)mounts, err);
    }
    free(own);
    free(mounts);
    if (rc < 0) {
        cgroup_places_fini(&places);
        return rc;
    }
    *ret_places = places;
    return 0;
}

void cgroup_places_fini(struct cgroup_places *places)
{
    for (size_t i = 0; i < places->count; i++) {
        struct cgroup_hierarchy *h = &places->list[i];

        free(h->controllers);
        free(h->own);
        free(h->mount);
        free(h->mount_root);
    }
    *places = (struct cgroup_places){0};
}

const struct cgroup_hierarchy *cgroup_places_find_v1(
    const struct cgroup_places *places, const char *controller)
{
    for (size_t i = 0; i < places->count; i++) {
        const struct cgroup_hierarchy *h = &places->list[i];

        if (!h->is_v2 && cgroup_list_has(h->controllers, ',', controller))
            return h;
    }
    return NULL;
}

const struct cgroup_hierarchy *cgroup_places_find_v2(
    const struct cgroup_places *places)
{
    for (size_t i = 0; i < places->count; i++) {
        if (places->list[i].is_v2)
            return &places->list[i];
    }
    return NULL;
}

int cgroup_places_locate(const struct cgroup_hierarchy *h, const char *path,
    const char **ret_below, struct err *err)
{
    const char *name = h->is_v2 ? "cgroup v2" : h->controllers;
    const char *wanted = path != NULL ? path : h->own;
    const char *found;

    if (h->mount == NULL)
        return err_set(err, ENOENT,
            "the cgroups of %s are mounted nowhere: mount them below "
            "/sys/fs/cgroup",
            name);
    if (!is_plain_path(wanted))
        return err_set(err, ENOENT,
            "%s: cgroup '%.128s' is outside of this cgroup namespace", name,
            wanted);
    found = below(wanted, h->mount_root);
    if (found == NULL)
        return err_set(err, ENOENT,
            "%s: cgroup '%.128s' cannot be reached: at %.64s there is only "
            "'%.64s'",
            name, wanted, h->mount, h->mount_root);
    *ret_below = found;
    return 0;
}
