/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/state_file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/num.h"

#define MAGIC        "SPORESNP"
#define MAGIC_SIZE   8u
#define HEADER_SIZE  64u
#define ENTRY_SIZE   64u /* of the table of sections */
#define RECORD_SIZE  72u
#define NAME_SIZE    48u
#define TRAILER_SIZE sizeof(struct hash128)

_Static_assert(STATE_SECTION_NAME_MAX + 1 == NAME_SIZE, "section name");
_Static_assert(SNAPSHOT_FILE_MAX + 1 == NAME_SIZE, "file name");

static void put_name(struct bytes_writer *w, const char *name)
{
    size_t len = strlen(name);

    bytes_put(w, name, len);
    bytes_put_zero(w, NAME_SIZE - len);
}

/* ---- writing ---- */

void state_writer_init(struct state_writer *w, const struct snapshot_id *id)
{
    *w = (struct state_writer){.id = *id};
}

void state_writer_fini(struct state_writer *w)
{
    for (size_t i = 0; i < w->section_count; i++)
        free((void *)(uintptr_t)w->sections[i].data);
    free(w->sections);
    free(w->records);
    *w = (struct state_writer){0};
}

/* What the file takes; cannot overflow, each part is bounded as it is added. */
static size_t writer_size(const struct state_writer *w)
{
    size_t size = HEADER_SIZE + TRAILER_SIZE + w->section_count * ENTRY_SIZE +
                  w->record_count * RECORD_SIZE;

    for (size_t i = 0; i < w->section_count; i++)
        size += w->sections[i].size;
    return size;
}

/* One more element, zeroed, at the end of an array; NULL without memory. */
static void *grow(void *array, size_t count, size_t width)
{
    uint8_t *bigger = reallocarray(array, count + 1, width);

    if (bigger != NULL)
        memset(bigger + count * width, 0, width);
    return bigger;
}

int state_writer_add(struct state_writer *w, const char *name, uint32_t version,
    uint32_t flags, const void *data, size_t size, struct err *err)
{
    struct state_section *bigger;
    struct state_section *section;
    uint8_t *copy;

    if (!snapshot_file_name_is_valid(name) || version == 0 ||
        (flags & ~STATE_SECTION_REQUIRED) != 0)
        return err_set(err, EINVAL, "section %s: not a valid one", name);
    for (size_t i = 0; i < w->section_count; i++) {
        if (strcmp(w->sections[i].name, name) == 0)
            return err_set(err, EEXIST, "section %s: there already", name);
    }
    if (w->section_count == STATE_FILE_SECTIONS_MAX ||
        size > STATE_FILE_SIZE_MAX - ENTRY_SIZE ||
        writer_size(w) > STATE_FILE_SIZE_MAX - ENTRY_SIZE - size)
        return err_set(err, E2BIG, "section %s: the state is too large", name);
    copy = malloc(size + 1);
    if (copy == NULL)
        return err_sys(err, ENOMEM, "section %s", name);
    bigger = grow(w->sections, w->section_count, sizeof(*bigger));
    if (bigger == NULL) {
        free(copy);
        return err_sys(err, ENOMEM, "section %s", name);
    }
    if (size != 0)
        memcpy(copy, data, size);
    w->sections = bigger;
    section = &bigger[w->section_count++];
    memcpy(section->name, name, strlen(name));
    section->version = version;
    section->flags = flags;
    section->data = copy;
    section->size = size;
    return 0;
}

int state_writer_add_table(struct state_writer *w, const char *name,
    const struct state_desc *desc, const void *state, struct err *err)
{
    size_t size = state_wire_size(desc, desc->version);
    uint8_t *body = malloc(size + 1);
    struct bytes_writer bytes;
    int rc;

    if (body == NULL)
        return err_sys(err, ENOMEM, "section %s", name);
    bytes_writer_init(&bytes, body, size);
    state_save(desc, state, &bytes);
    assert(!bytes.failed && bytes.pos == size);
    rc = state_writer_add(
        w, name, desc->version, STATE_SECTION_REQUIRED, body, size, err);
    free(body);
    return rc;
}

int state_writer_add_record(
    struct state_writer *w, const struct state_record *record, struct err *err)
{
    struct state_record *bigger;

    if (!snapshot_file_name_is_valid(record->name))
        return err_set(err, EINVAL, "'%s' is no name for a file of a snapshot",
            record->name);
    for (size_t i = 0; i < w->record_count; i++) {
        if (strcmp(w->records[i].name, record->name) == 0)
            return err_set(err, EEXIST, "%s: recorded already", record->name);
    }
    if (w->record_count == STATE_FILE_RECORDS_MAX ||
        writer_size(w) > STATE_FILE_SIZE_MAX - RECORD_SIZE)
        return err_set(err, E2BIG, "%s: too many files", record->name);
    bigger = grow(w->records, w->record_count, sizeof(*bigger));
    if (bigger == NULL)
        return err_sys(err, ENOMEM, "%s", record->name);
    w->records = bigger;
    bigger[w->record_count++] = *record;
    return 0;
}

int state_writer_seal(const struct state_writer *w, uint8_t **ret_data,
    size_t *ret_size, struct err *err)
{
    size_t size = writer_size(w);
    uint8_t *data = malloc(size);
    struct bytes_writer bytes;
    struct hash128 hash;

    if (data == NULL)
        return err_sys(err, ENOMEM, "%s", STATE_FILE_NAME);
    bytes_writer_init(&bytes, data, size);
    bytes_put(&bytes, MAGIC, MAGIC_SIZE);
    bytes_put_u32(&bytes, STATE_FILE_VERSION);
    bytes_put_u32(&bytes, 0);
    bytes_put_u64(&bytes, size);
    bytes_put_u32(&bytes, (uint32_t)w->section_count);
    bytes_put_u32(&bytes, (uint32_t)w->record_count);
    bytes_put(&bytes, w->id.b, sizeof(w->id.b));
    bytes_put_zero(&bytes, HEADER_SIZE - bytes.pos);
    for (size_t i = 0; i < w->section_count; i++) {
        put_name(&bytes, w->sections[i].name);
        bytes_put_u32(&bytes, w->sections[i].version);
        bytes_put_u32(&bytes, w->sections[i].flags);
        bytes_put_u64(&bytes, w->sections[i].size);
    }
    for (size_t i = 0; i < w->record_count; i++) {
        put_name(&bytes, w->records[i].name);
        bytes_put_u64(&bytes, w->records[i].size);
        bytes_put(&bytes, w->records[i].hash.b, sizeof(hash.b));
    }
    for (size_t i = 0; i < w->section_count; i++)
        bytes_put(&bytes, w->sections[i].data, w->sections[i].size);
    hash = hash_bytes(data, bytes.pos);
    bytes_put(&bytes, hash.b, sizeof(hash.b));
    assert(!bytes.failed && bytes.pos == size);
    *ret_data = data;
    *ret_size = size;
    return 0;
}

/* ---- reading ---- */

static int damaged(struct err *err, const char *what)
{
    return err_set(err, EBADMSG, "%s: damaged: %s", STATE_FILE_NAME, what);
}

/* A name with nothing but zeroes behind it. */
static bool get_name(struct bytes_reader *r, char name[NAME_SIZE])
{
    bytes_get(r, name, NAME_SIZE);
    if (r->failed || !snapshot_file_name_is_valid(name))
        return false;
    for (size_t i = strlen(name); i < NAME_SIZE; i++) {
        if (name[i] != '\0')
            return false;
    }
    return true;
}

static int compare_names(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;

    return strcmp(*x, *y);
}

/* Whether all of `count` names, `stride` bytes apart, are different. */
static int check_unique(
    const void *first, size_t count, size_t stride, struct err *err)
{
    const char **names = reallocarray(NULL, count + 1, sizeof(*names));
    bool is_unique = true;

    if (names == NULL)
        return err_sys(err, ENOMEM, "%s", STATE_FILE_NAME);
    for (size_t i = 0; i < count; i++)
        names[i] = (const char *)first + i * stride;
    qsort(names, count, sizeof(*names), compare_names);
    for (size_t i = 1; i < count; i++)
        is_unique = is_unique && strcmp(names[i - 1], names[i]) != 0;
    free(names);
    return is_unique ? 0 : damaged(err, "two of the same name");
}

static int read_sections(
    struct state_file *file, struct bytes_reader *r, struct err *err)
{
    for (size_t i = 0; i < file->section_count; i++) {
        struct state_section *section = &file->sections[i];

        if (!get_name(r, section->name))
            return damaged(err, "a section's name");
        section->version = bytes_get_u32(r);
        section->flags = bytes_get_u32(r);
        section->size = bytes_get_u64(r);
        if (r->failed || section->version == 0)
            return damaged(err, "the table of sections");
        if ((section->flags & ~STATE_SECTION_REQUIRED) != 0)
            return err_set(err, ENOTSUP,
                "section %s has flags %#x, which this version of spore does "
                "not know",
                section->name, section->flags);
    }
    return check_unique(
        file->sections, file->section_count, sizeof(file->sections[0]), err);
}

static int read_records(
    struct state_file *file, struct bytes_reader *r, struct err *err)
{
    for (size_t i = 0; i < file->record_count; i++) {
        struct state_record *record = &file->records[i];

        if (!get_name(r, record->name))
            return damaged(err, "a file's name");
        record->size = bytes_get_u64(r);
        bytes_get(r, record->hash.b, sizeof(record->hash.b));
        if (r->failed || record->size > INT64_MAX)
            return damaged(err, "the table of files");
    }
    return check_unique(
        file->records, file->record_count, sizeof(file->records[0]), err);
}

static int read_header(
    struct state_file *file, struct bytes_reader *r, struct err *err)
{
    uint8_t magic[MAGIC_SIZE];
    struct hash128 hash;
    uint32_t version;
    uint64_t size;

    bytes_get(r, magic, sizeof(magic));
    version = bytes_get_u32(r);
    if (r->failed || memcmp(magic, MAGIC, MAGIC_SIZE) != 0)
        return err_set(err, EBADMSG,
            "%s: not the state of a snapshot, or its first bytes are damaged",
            STATE_FILE_NAME);
    if (file->size < HEADER_SIZE + TRAILER_SIZE)
        return damaged(err, "cut short");
    /*
     * Every version ends with this hash: damage must not be taken for a file
     * of the future.
     */
    hash = hash_bytes(file->data, file->size - TRAILER_SIZE);
    if (memcmp(hash.b, file->data + file->size - TRAILER_SIZE, TRAILER_SIZE) !=
        0)
        return damaged(err, "its checksum does not fit");
    if (version == 0 || version > STATE_FILE_VERSION)
        return err_set(err, ENOTSUP,
            "%s: format %u; this version of spore reads up to %u: use a newer "
            "one",
            STATE_FILE_NAME, version, STATE_FILE_VERSION);
    if (bytes_get_u32(r) != 0)
        return damaged(err, "the header");
    size = bytes_get_u64(r);
    file->section_count = bytes_get_u32(r);
    file->record_count = bytes_get_u32(r);
    bytes_get(r, file->id.b, sizeof(file->id.b));
    while (r->pos < HEADER_SIZE) {
        if (bytes_get_u8(r) != 0)
            return damaged(err, "the header");
    }
    if (size != file->size || snapshot_id_is_zero(&file->id) ||
        file->section_count > STATE_FILE_SECTIONS_MAX ||
        file->record_count > STATE_FILE_RECORDS_MAX ||
        file->section_count * ENTRY_SIZE + file->record_count * RECORD_SIZE >
            size - HEADER_SIZE - TRAILER_SIZE)
        return damaged(err, "the header");
    return 0;
}

static int decode(struct state_file *file, struct err *err)
{
    struct bytes_reader r;
    int rc;

    bytes_reader_init(&r, file->data, file->size);
    rc = read_header(file, &r, err);
    if (rc < 0)
        return rc;
    file->sections = calloc(file->section_count + 1, sizeof(*file->sections));
    file->records = calloc(file->record_count + 1, sizeof(*file->records));
    if (file->sections == NULL || file->records == NULL)
        return err_sys(err, ENOMEM, "%s", STATE_FILE_NAME);
    rc = read_sections(file, &r, err);
    if (rc == 0)
        rc = read_records(file, &r, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < file->section_count; i++)
        file->sections[i].data = bytes_take(&r, file->sections[i].size);
    if (r.failed || bytes_left(&r) != TRAILER_SIZE)
        return damaged(err, "the sections do not fill it");
    return 0;
}

int state_file_decode(
    uint8_t *data, size_t size, struct state_file *ret_file, struct err *err)
{
    struct state_file file = {.data = data, .size = size};
    int rc = size > STATE_FILE_SIZE_MAX
                 ? err_set(err, EBADMSG, "%s: too large", STATE_FILE_NAME)
                 : decode(&file, err);

    if (rc < 0) {
        state_file_fini(&file);
        return rc;
    }
    *ret_file = file;
    return 0;
}

void state_file_fini(struct state_file *file)
{
    free(file->sections);
    free(file->records);
    free(file->data);
    *file = (struct state_file){0};
}

static struct state_section *find(
    const struct state_file *file, const char *name)
{
    for (size_t i = 0; i < file->section_count; i++) {
        if (strcmp(file->sections[i].name, name) == 0)
            return &file->sections[i];
    }
    return NULL;
}

const struct state_section *state_file_find(
    const struct state_file *file, const char *name)
{
    return find(file, name);
}

const struct state_section *state_file_take(
    struct state_file *file, const char *name)
{
    struct state_section *section = find(file, name);

    if (section != NULL)
        section->is_taken = true;
    return section;
}

int state_file_require(struct state_file *file, const char *name,
    uint32_t version_max, const struct state_section **ret_section,
    struct err *err)
{
    const struct state_section *section = state_file_take(file, name);

    if (section == NULL)
        return err_set(err, ENOENT,
            "the snapshot has no section %s: it is of another kind of machine",
            name);
    if (section->version > version_max)
        return err_set(err, ENOTSUP,
            "section %s has version %u; this version of spore reads up to %u: "
            "use a newer one",
            name, section->version, version_max);
    *ret_section = section;
    return 0;
}

int state_file_load_table(struct state_file *file, const char *name,
    const struct state_desc *desc, void *ret_state, struct err *err)
{
    const struct state_section *section;
    struct bytes_reader r;
    int rc = state_file_require(file, name, desc->version, &section, err);

    if (rc < 0)
        return rc;
    if (section->size != state_wire_size(desc, section->version))
        return err_set(err, EBADMSG,
            "section %s has %zu bytes, which is not what version %u of it "
            "takes",
            name, section->size, section->version);
    bytes_reader_init(&r, section->data, section->size);
    rc = state_load(desc, section->version, &r, ret_state);
    if (rc < 0)
        return err_sys(err, rc, "section %s", name);
    return 0;
}

int state_file_check_all_taken(const struct state_file *file, struct err *err)
{
    for (size_t i = 0; i < file->section_count; i++) {
        const struct state_section *section = &file->sections[i];

        if ((section->flags & STATE_SECTION_REQUIRED) != 0 &&
            !section->is_taken)
            return err_set(err, ENOTSUP,
                "the snapshot needs section %s, which this version of spore "
                "or this machine does not know: use a newer one",
                section->name);
    }
    return 0;
}

const struct state_record *state_file_find_record(
    const struct state_file *file, const char *name)
{
    for (size_t i = 0; i < file->record_count; i++) {
        if (strcmp(file->records[i].name, name) == 0)
            return &file->records[i];
    }
    return NULL;
}
