/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a command runs as: /etc/passwd and /etc/group, read without libc's
 * machinery for them. One thread. The files are the guest's and not trusted:
 * what does not fit is cut off or passed over.
 */
#ifndef GUEST_AGENT_USER_H
#define GUEST_AGENT_USER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define USER_GROUPS_MAX 64u

struct user {
    uid_t uid;
    gid_t gid;
    char name[64];   /* empty: unknown to the system */
    char home[256];  /* absolute; "/" when unknown */
    char shell[128]; /* "/bin/sh" when unknown */
    size_t group_count;
    gid_t groups[USER_GROUPS_MAX]; /* supplementary, gid not among them */
};

/*
 * A user by name, with the groups of /etc/group. 0, or -ENOENT when
 * passwd_path has no such name, and *ret untouched.
 */
int user_by_name(const char *name, const char *passwd_path,
    const char *group_path, struct user *ret);

/*
 * A user by number: always succeeds. Name, home, shell and supplementary
 * groups are found if the files know the uid, and gid is taken as given. Uid
 * 0 with gid 0 is root in /root, without a look at the files: that is the
 * common case, and three system calls less.
 */
void user_by_id(uid_t uid, gid_t gid, const char *passwd_path,
    const char *group_path, struct user *ret);

#endif
