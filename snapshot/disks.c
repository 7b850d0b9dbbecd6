/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/disks.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_SIZE 32u /* of a record, without its path */
#define NS_PER_S    1000000000u

void disks_fini(struct disks *disks)
{
    for (uint32_t i = 0; i < disks->count; i++)
        free(disks->records[i].path);
    *disks = (struct disks){0};
}

bool disks_path_is_valid(const char *path)
{
    size_t length = 0;

    for (; path[length] != '\0'; length++) {
        unsigned char c = (unsigned char)path[length];

        if (c < 0x20 || c == 0x7f)
            return false;
    }
    return path[0] == '/' && length <= DISKS_PATH_MAX;
}

void disks_map_name(uint32_t n, char ret_name[SNAPSHOT_FILE_MAX + 1])
{
    (void)snprintf(ret_name, SNAPSHOT_FILE_MAX + 1, DISKS_MAP_PREFIX "%u", n);
}

void disks_hashes_name(uint32_t n, char ret_name[SNAPSHOT_FILE_MAX + 1])
{
    (void)snprintf(
        ret_name, SNAPSHOT_FILE_MAX + 1, DISKS_HASHES_PREFIX "%u", n);
}

int disks_store(
    const struct disks *disks, struct state_writer *w, struct err *err)
{
    struct bytes_writer out;
    size_t size = 8;
    uint8_t *data;
    int rc;

    assert(disks->count <= DISKS_MAX);
    for (uint32_t i = 0; i < disks->count; i++)
        size += RECORD_SIZE + strlen(disks->records[i].path);
    data = malloc(size);
    if (data == NULL)
        return err_sys(err, ENOMEM, "%s", DISKS_SECTION);
    bytes_writer_init(&out, data, size);
    bytes_put_u32(&out, disks->count);
    bytes_put_u32(&out, 0);
    for (uint32_t i = 0; i < disks->count; i++) {
        const struct disk_record *r = &disks->records[i];

        assert(disks_path_is_valid(r->path));
        bytes_put_u32(&out, r->kind);
        bytes_put_u32(&out, (uint32_t)strlen(r->path));
        bytes_put_u64(&out, r->bytes);
        bytes_put_u64(&out, r->mtime_s);
        bytes_put_u32(&out, r->mtime_ns);
        bytes_put_u32(&out, 0);
        bytes_put(&out, r->path, strlen(r->path));
    }
    assert(!out.failed && out.pos == size);
    rc = state_writer_add(w, DISKS_SECTION, DISKS_SECTION_VERSION,
        STATE_SECTION_REQUIRED, data, size, err);
    free(data);
    return rc;
}

static int damaged(struct err *err)
{
    return err_set(
        err, EBADMSG, "section %s: not a table of disks", DISKS_SECTION);
}

static int decode_record(
    struct bytes_reader *in, struct disk_record *record, struct err *err)
{
    uint32_t kind = bytes_get_u32(in);
    uint32_t length = bytes_get_u32(in);
    const uint8_t *path;
    uint32_t zero;

    record->bytes = bytes_get_u64(in);
    record->mtime_s = bytes_get_u64(in);
    record->mtime_ns = bytes_get_u32(in);
    zero = bytes_get_u32(in);
    if (in->failed || zero != 0 || record->mtime_ns >= NS_PER_S ||
        (kind != DISK_FILE && kind != DISK_OVERLAY) || length == 0 ||
        length > DISKS_PATH_MAX)
        return damaged(err);
    record->kind = (enum disk_kind)kind;
    path = bytes_take(in, length);
    if (path == NULL || memchr(path, '\0', length) != NULL)
        return damaged(err);
    record->path = strndup((const char *)path, length);
    if (record->path == NULL)
        return err_sys(err, ENOMEM, "%s", DISKS_SECTION);
    if (disks_path_is_valid(record->path))
        return 0;
    free(record->path);
    return damaged(err);
}

static int decode(struct bytes_reader *in, struct disks *disks, struct err *err)
{
    uint32_t count = bytes_get_u32(in);

    if (bytes_get_u32(in) != 0 || in->failed || count > DISKS_MAX)
        return damaged(err);
    for (uint32_t i = 0; i < count; i++) {
        int rc = decode_record(in, &disks->records[i], err);

        if (rc < 0)
            return rc;
        disks->count = i + 1;
    }
    return bytes_left(in) == 0 ? 0 : damaged(err);
}

int disks_decode(const struct state_section *section, struct disks *ret_disks,
    struct err *err)
{
    struct disks disks = {0};
    struct bytes_reader in;
    int rc;

    if (section->version != DISKS_SECTION_VERSION)
        return err_set(err, ENOTSUP,
            "section %s: version %u; this version of spore reads up to %u",
            DISKS_SECTION, section->version, DISKS_SECTION_VERSION);
    bytes_reader_init(&in, section->data, section->size);
    rc = decode(&in, &disks, err);
    if (rc < 0) {
        disks_fini(&disks);
        return rc;
    }
    *ret_disks = disks;
    return 0;
}
