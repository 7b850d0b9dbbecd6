/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/cgroup_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* include/uapi/linux/mount.h and stat.h, newer than what we build with. */
#define CALL_STATMOUNT 457
#define ASK_UNIQUE_ID  0x4000u
#define REQUEST_SIZE   24u
#define SAY_SB_BASIC   UINT64_C(0x01)
#define SAY_MNT_BASIC  UINT64_C(0x02)
#define SAY_ROOT       UINT64_C(0x08)
#define SAY_POINT      UINT64_C(0x10)
#define SAY_TYPE       UINT64_C(0x20)
#define SAY_OPTIONS    UINT64_C(0x80)
#define FLAG_READ_ONLY 1u             /* SB_RDONLY */
#define ATTR_READ_ONLY UINT64_C(0x01) /* MOUNT_ATTR_RDONLY */
#define STRINGS        512u

struct request {
    uint32_t size;
    uint32_t spare;
    uint64_t mount_id;
    uint64_t wanted;
};

/* The beginning of struct statmount; its strings are at STRINGS. */
struct answer {
    uint32_t size; /* strings included */
    uint32_t options;
    uint64_t mask;
    uint32_t major;
    uint32_t minor;
    uint64_t magic;
    uint32_t flags;
    uint32_t type;
    uint64_t id;
    uint64_t parent_id;
    uint32_t old_id;
    uint32_t old_parent_id;
    uint64_t attributes;
    uint64_t propagation;
    uint64_t peer_group;
    uint64_t master;
    uint64_t from;
    uint32_t root;
    uint32_t point;
};

_Static_assert(sizeof(struct request) == REQUEST_SIZE, "MNT_ID_REQ_SIZE_VER0");
_Static_assert(sizeof(struct answer) == 112, "as far as it is used");

/* A string of the answer, which ends within it; or NULL. */
static const char *string_at(
    const struct cgroup_mount *m, uint32_t size, uint32_t offset)
{
    const char *text = (const char *)m->buf + STRINGS;
    size_t left = size - STRINGS;

    if (offset >= left || memchr(text + offset, '\0', left - offset) == NULL)
        return NULL;
    return text + offset;
}

int cgroup_mount_describe(
    int dir, const char *name, struct cgroup_mount *ret_mount)
{
    const uint64_t needed =
        SAY_SB_BASIC | SAY_MNT_BASIC | SAY_ROOT | SAY_POINT | SAY_TYPE;
    struct request request = {
        .size = sizeof(request), .wanted = needed | SAY_OPTIONS};
    struct answer a;
    struct statx stx;

    if (statx(dir, name, AT_SYMLINK_NOFOLLOW, ASK_UNIQUE_ID, &stx) < 0)
        return -errno;
    if ((stx.stx_mask & ASK_UNIQUE_ID) == 0)
        return -EOPNOTSUPP;
    request.mount_id = stx.stx_mnt_id;
    memset(ret_mount->buf, 0, sizeof(ret_mount->buf));
    if (syscall(CALL_STATMOUNT, &request, ret_mount->buf,
            sizeof(ret_mount->buf), 0) < 0)
        return -errno;
    memcpy(&a, ret_mount->buf, sizeof(a));
    if (a.size <= STRINGS || a.size > sizeof(ret_mount->buf) ||
        (a.mask & needed) != needed)
        return -EOPNOTSUPP;
    ret_mount->is_read_only =
        (a.flags & FLAG_READ_ONLY) != 0 || (a.attributes & ATTR_READ_ONLY) != 0;
    ret_mount->type = string_at(ret_mount, a.size, a.type);
    ret_mount->root = string_at(ret_mount, a.size, a.root);
    ret_mount->point = string_at(ret_mount, a.size, a.point);
    /* A file system without options says nothing of them. */
    ret_mount->options = (a.mask & SAY_OPTIONS) != 0
                             ? string_at(ret_mount, a.size, a.options)
                             : "";
    return ret_mount->type == NULL || ret_mount->root == NULL ||
                   ret_mount->point == NULL || ret_mount->options == NULL
               ? -EOPNOTSUPP
               : 0;
}
