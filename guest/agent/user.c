/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/user.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "guest/agent/lines.h"
#include "guest/agent/text.h"

struct passwd_line {
    const char *name;
    const char *home;
    const char *shell;
    uid_t uid;
    gid_t gid;
};

/* name:password:uid:gid:comment:home:shell */
static bool parse_passwd(char *line, struct passwd_line *ret)
{
    char *at = line;
    const char *field[7];
    uint64_t uid;
    uint64_t gid;

    for (size_t i = 0; i < 7; i++) {
        field[i] = lines_field(&at, ':');
        if (field[i] == NULL)
            return false;
    }
    if (!text_to_num(field[2], UINT32_MAX - 1, &uid) ||
        !text_to_num(field[3], UINT32_MAX - 1, &gid))
        return false;
    ret->name = field[0];
    ret->home = field[5];
    ret->shell = field[6];
    ret->uid = (uid_t)uid;
    ret->gid = (gid_t)gid;
    return true;
}

static void set_defaults(struct user *u, uid_t uid, gid_t gid)
{
    u->uid = uid;
    u->gid = gid;
    u->name[0] = '\0';
    (void)text_copy(u->home, sizeof(u->home), "/");
    (void)text_copy(u->shell, sizeof(u->shell), "/bin/sh");
    u->group_count = 0;
}

static void set_names(struct user *u, const struct passwd_line *p)
{
    (void)text_copy(u->name, sizeof(u->name), p->name);
    if (p->home[0] == '/')
        (void)text_copy(u->home, sizeof(u->home), p->home);
    if (p->shell[0] == '/')
        (void)text_copy(u->shell, sizeof(u->shell), p->shell);
}

static bool list_has(char *list, const char *name)
{
    for (char *at = list; at != NULL;) {
        if (strcmp(lines_field(&at, ','), name) == 0)
            return true;
    }
    return false;
}

/* name:password:gid:member,member,... */
static void add_groups(struct user *u, const char *group_path)
{
    struct lines l;
    char *line;

    (void)lines_init(&l, group_path);
    while (
        u->group_count < USER_GROUPS_MAX && (line = lines_next(&l)) != NULL) {
        char *at = line;
        uint64_t gid;
        const char *number;

        (void)lines_field(&at, ':');
        (void)lines_field(&at, ':');
        number = lines_field(&at, ':');
        if (number == NULL || at == NULL ||
            !text_to_num(number, UINT32_MAX - 1, &gid) ||
            (gid_t)gid == u->gid || !list_has(at, u->name))
            continue;
        u->groups[u->group_count++] = (gid_t)gid;
    }
    lines_fini(&l);
}

int user_by_name(const char *name, const char *passwd_path,
    const char *group_path, struct user *ret)
{
    bool found = false;
    struct lines l;
    char *line;

    (void)lines_init(&l, passwd_path);
    while (!found && (line = lines_next(&l)) != NULL) {
        struct passwd_line p;

        if (!parse_passwd(line, &p) || strcmp(p.name, name) != 0)
            continue;
        set_defaults(ret, p.uid, p.gid);
        set_names(ret, &p);
        found = true;
    }
    lines_fini(&l);
    if (!found)
        return -ENOENT;
    if (ret->name[0] != '\0')
        add_groups(ret, group_path);
    return 0;
}

void user_by_id(uid_t uid, gid_t gid, const char *passwd_path,
    const char *group_path, struct user *ret)
{
    bool found = false;
    struct lines l;
    char *line;

    set_defaults(ret, uid, gid);
    if (uid == 0 && gid == 0) {
        (void)text_copy(ret->name, sizeof(ret->name), "root");
        (void)text_copy(ret->home, sizeof(ret->home), "/root");
        return;
    }
    (void)lines_init(&l, passwd_path);
    while (!found && (line = lines_next(&l)) != NULL) {
        struct passwd_line p;

        if (!parse_passwd(line, &p) || p.uid != uid)
            continue;
        set_names(ret, &p);
        found = true;
    }
    lines_fini(&l);
    if (ret->name[0] != '\0')
        add_groups(ret, group_path);
}
