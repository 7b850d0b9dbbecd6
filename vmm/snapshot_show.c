/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot_show.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "snapshot/verify.h"
#include "vmm/base/num.h"

#define ID_SHORT 12 /* digits of an id in text for people */

static void json_freep(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}

static int print_json(json_t *json, FILE *out, struct err *err)
{
    if (json == NULL || json_dumpf(json, out, JSON_INDENT(2)) < 0 ||
        fputc('\n', out) == EOF)
        return err_set(err, EIO, "cannot print");
    return 0;
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *text_or_null(const char *text)
{
    return text[0] == '\0' ? json_null() : json_string(text);
}

static json_t *id_or_null(const struct snapshot_id *id)
{
    char text[SNAPSHOT_ID_TEXT_SIZE];

    if (snapshot_id_is_zero(id))
        return json_null();
    snapshot_id_to_text(id, text);
    return json_string(text);
}

static void time_to_text(uint64_t seconds, char text[32])
{
    time_t t = (time_t)seconds;
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL ||
        strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(text, 32, "%llu", (unsigned long long)seconds);
}

static void size_to_text(uint64_t bytes, char text[16])
{
    if (bytes >= 10 * NUM_GIB)
        (void)snprintf(
            text, 16, "%llu GiB", (unsigned long long)(bytes / NUM_GIB));
    else if (bytes >= 10 * NUM_MIB)
        (void)snprintf(
            text, 16, "%llu MiB", (unsigned long long)(bytes / NUM_MIB));
    else
        (void)snprintf(
            text, 16, "%llu KiB", (unsigned long long)(bytes / NUM_KIB));
}

/* Pages of its disks: those it has, and those in its own images. */
struct disk_pages {
    uint64_t data;
    uint64_t own;
};

static struct disk_pages count_disks(const struct snap *snap)
{
    struct disk_pages sum = {0};

    for (uint32_t i = 0; i < snap->disk_count; i++) {
        sum.data += page_index_data_pages(&snap->disks[i].map);
        sum.own += page_index_file_pages(&snap->disks[i].map, 0);
    }
    return sum;
}

static json_t *manifest_to_json(
    const struct manifest *m, const char *name, const struct disk_pages *disks)
{
    char created[32];
    json_t *root;

    time_to_text(m->created, created);
    root = json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "id", id_or_null(&m->id), "name", text_or_null(name), "parent",
        id_or_null(&m->parent), "created", created, "monitor",
        text_or_null(m->monitor), "kernel", text_or_null(m->kernel), "vcpus",
        number(m->vcpus), "memory_bytes", number(m->pages * NUM_PAGE_SIZE),
        "data_bytes", number(m->data_pages * NUM_PAGE_SIZE), "own_bytes",
        number(m->own_pages * NUM_PAGE_SIZE), "state_bytes",
        number(m->state_bytes));
    if (root == NULL)
        return NULL;
    (void)json_object_set_new(
        root, "disk_bytes", number(disks->data * NUM_PAGE_SIZE));
    (void)json_object_set_new(
        root, "disk_own_bytes", number(disks->own * NUM_PAGE_SIZE));
    return root;
}

/* ---- list ---- */

static int read_manifest(const struct store *store,
    const struct snapshot_id *id, struct manifest *ret_manifest,
    struct disk_pages *ret_disks, struct err *err)
{
    struct snap snap;
    int rc = snap_open(store, id, &snap, err);

    if (rc < 0)
        return rc;
    rc = snap_read_manifest(&snap, ret_manifest, err);
    if (rc == 0)
        *ret_disks = count_disks(&snap);
    snap_close(&snap);
    return rc;
}

static void print_line(const struct store_entry *entry,
    const struct manifest *m, const struct disk_pages *disks,
    const char *problem, FILE *out)
{
    char id[SNAPSHOT_ID_TEXT_SIZE];
    char parent[SNAPSHOT_ID_TEXT_SIZE] = "-";
    char created[32];
    char memory[16];
    char disk[16];
    char own[16];
    const char *name = entry->name[0] == '\0' ? "-" : entry->name;

    snapshot_id_to_text(&entry->id, id);
    if (problem != NULL) {
        (void)fprintf(out, "%-16s %.*s  cannot be used: %s\n", name, ID_SHORT,
            id, problem);
        return;
    }
    if (!snapshot_id_is_zero(&m->parent))
        snapshot_id_to_text(&m->parent, parent);
    time_to_text(m->created, created);
    size_to_text(m->pages * NUM_PAGE_SIZE, memory);
    size_to_text(disks->data * NUM_PAGE_SIZE, disk);
    size_to_text((m->own_pages + disks->own) * NUM_PAGE_SIZE, own);
    (void)fprintf(out, "%-16s %.*s  %-20s %10s %10s %10s  %.*s\n", name,
        ID_SHORT, id, created, memory, disk, own, ID_SHORT, parent);
}

int snapshot_show_list(
    struct store *store, bool is_json, FILE *out, struct err *err)
{
    CC_CLEANUP(json_freep) json_t *list = json_array();
    struct store_entry *entries;
    size_t count;
    int rc = store_list(store, &entries, &count, err);

    if (rc < 0)
        return rc;
    if (!is_json && count > 0)
        (void)fprintf(out, "%-16s %-*s  %-20s %10s %10s %10s  %s\n", "NAME",
            ID_SHORT, "ID", "CREATED", "MEMORY", "DISKS", "OWN", "PARENT");
    for (size_t i = 0; i < count; i++) {
        struct manifest manifest = {.id = entries[i].id};
        struct disk_pages disks = {0};
        struct err problem;
        bool is_good = read_manifest(store, &entries[i].id, &manifest, &disks,
                           &problem) == 0;
        json_t *line;

        if (!is_json) {
            print_line(&entries[i], &manifest, &disks,
                is_good ? NULL : problem.text, out);
            continue;
        }
        line = is_good ? manifest_to_json(&manifest, entries[i].name, &disks)
                       : json_pack("{s:o, s:o, s:s}", "id",
                             id_or_null(&entries[i].id), "name",
                             text_or_null(entries[i].name), "problem",
                             problem.text);
        (void)json_array_append_new(list, line);
    }
    free(entries);
    return is_json ? print_json(list, out, err) : 0;
}

/* ---- one ---- */

static json_t *sections_to_json(const struct state_file *state)
{
    json_t *list = json_array();

    for (size_t i = 0; i < state->section_count; i++) {
        const struct state_section *s = &state->sections[i];

        (void)json_array_append_new(
            list, json_pack("{s:s, s:o, s:b, s:o}", "name", s->name, "version",
                      number(s->version), "required",
                      (s->flags & STATE_SECTION_REQUIRED) != 0, "bytes",
                      number(s->size)));
    }
    return list;
}

static json_t *files_to_json(const struct state_file *state)
{
    json_t *list = json_array();

    for (size_t i = 0; i < state->record_count; i++) {
        const struct state_record *r = &state->records[i];
        char hash[HASH_TEXT_SIZE];

        hash_to_text(&r->hash, hash);
        (void)json_array_append_new(
            list, json_pack("{s:s, s:o, s:s}", "name", r->name, "bytes",
                      number(r->size), "xxh3_128", hash));
    }
    return list;
}

static json_t *images_to_json(const struct page_index *index)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < index->file_count; i++) {
        char name[SNAPSHOT_FILE_MAX + 1];

        page_image_name(&index->files[i], name);
        (void)json_array_append_new(
            list, json_pack("{s:s, s:o, s:b}", "name", name, "used_bytes",
                      number(page_index_file_pages(index, i) * NUM_PAGE_SIZE),
                      "own", i == 0));
    }
    return list;
}

/* What `state` says of the drives; none in a snapshot without. */
static int read_disks(
    const struct snap *snap, struct disks *ret_disks, struct err *err)
{
    const struct state_section *section =
        state_file_find(&snap->state, DISKS_SECTION);

    *ret_disks = (struct disks){0};
    return section == NULL ? 0 : disks_decode(section, ret_disks, err);
}

static json_t *disks_to_json(const struct snap *snap, const struct disks *disks)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < disks->count; i++) {
        const struct snap_disk *disk = snap_find_disk(snap, i);
        json_t *path = json_string(disks->records[i].path);
        /* One that is not UTF-8, which JSON cannot hold, is null. */
        json_t *one = json_pack("{s:o, s:o, s:o}", "drive", number(i), "file",
            path == NULL ? json_null() : path, "bytes",
            number(disks->records[i].bytes));

        if (disk != NULL && one != NULL) {
            (void)json_object_set_new(one, "data_bytes",
                number(page_index_data_pages(&disk->map) * NUM_PAGE_SIZE));
            (void)json_object_set_new(
                one, "images", images_to_json(&disk->map));
        }
        (void)json_array_append_new(list, one);
    }
    return list;
}

static void print_images(const struct page_index *index, FILE *out)
{
    for (uint32_t i = 0; i < index->file_count; i++) {
        char name[SNAPSHOT_FILE_MAX + 1];
        char size[16];

        page_image_name(&index->files[i], name);
        size_to_text(page_index_file_pages(index, i) * NUM_PAGE_SIZE, size);
        (void)fprintf(out, "image     %s  %s used\n", name, size);
    }
}

/* A path is a snapshot's word: no control codes of a terminal from it. */
static void print_path(const char *path, FILE *out)
{
    unsigned char before = 0;

    for (; *path != '\0'; path++) {
        unsigned char c = (unsigned char)*path;
        /* Below 0xa0, unless it is the rest of a longer UTF-8 sequence. */
        bool is_control = c < 0x20 || c == 0x7f ||
                          (c >= 0x80 && c < 0xa0 && before <= 0xc2 &&
                              (before < 0x80 || before >= 0xc0));

        (void)fputc(is_control ? '?' : c, out);
        before = c;
    }
}

static void print_disks(
    const struct snap *snap, const struct disks *disks, FILE *out)
{
    for (uint32_t i = 0; i < disks->count; i++) {
        const struct disk_record *record = &disks->records[i];
        const struct snap_disk *disk = snap_find_disk(snap, i);
        char written[32];
        char size[16];

        size_to_text(record->bytes, size);
        time_to_text(record->mtime_s, written);
        (void)fprintf(out, "disk %-4u ", i);
        print_path(record->path, out);
        (void)fprintf(out, ", %s, as of %s", size, written);
        if (disk == NULL) {
            (void)fputc('\n', out);
            continue;
        }
        size_to_text(page_index_data_pages(&disk->map) * NUM_PAGE_SIZE, size);
        (void)fprintf(out, "; %s over it, in %zu extents\n", size,
            disk->map.extent_count);
        print_images(&disk->map, out);
    }
}

static void print_one(const struct snap *snap, const struct manifest *m,
    const struct disks *disks, bool is_trusted, FILE *out)
{
    char id[SNAPSHOT_ID_TEXT_SIZE];
    char parent[SNAPSHOT_ID_TEXT_SIZE] = "none: a full snapshot";
    char created[32];
    char size[16];

    snapshot_id_to_text(&snap->id, id);
    if (!snapshot_id_is_zero(&m->parent))
        snapshot_id_to_text(&m->parent, parent);
    time_to_text(m->created, created);
    (void)fprintf(out,
        "id        %s\nname      %s\nparent    %s\ncreated   %s\n"
        "monitor   %s\nkernel    %s\nvcpus     %u\n",
        id, m->name[0] == '\0' ? "none" : m->name, parent, created, m->monitor,
        m->kernel, m->vcpus);
    size_to_text(m->pages * NUM_PAGE_SIZE, size);
    (void)fprintf(out, "memory    %s", size);
    size_to_text(m->data_pages * NUM_PAGE_SIZE, size);
    (void)fprintf(out, ", %s not zero", size);
    size_to_text(m->own_pages * NUM_PAGE_SIZE, size);
    (void)fprintf(out, ", %s in its own image, in %zu extents\n", size,
        snap->index.extent_count);
    (void)fprintf(out, "pages     %s\n",
        is_trusted ? "verified on this host, and unchanged since"
                   : "not verified on this host: spore snapshot verify");
    print_images(&snap->index, out);
    print_disks(snap, disks, out);
    for (size_t i = 0; i < snap->state.section_count; i++) {
        const struct state_section *s = &snap->state.sections[i];

        (void)fprintf(out, "section   %-24s version %u, %zu bytes%s\n", s->name,
            s->version, s->size,
            (s->flags & STATE_SECTION_REQUIRED) != 0 ? "" : ", optional");
    }
}

static int show_json(const struct snap *snap, const struct manifest *manifest,
    const struct disks *disks, bool is_trusted, FILE *out, struct err *err)
{
    CC_CLEANUP(json_freep) json_t *root = NULL;
    const struct disk_pages pages = count_disks(snap);

    root = manifest_to_json(manifest, manifest->name, &pages);
    if (root == NULL)
        return err_sys(err, ENOMEM, "inspect");
    (void)json_object_set_new(root, "verified", json_boolean(is_trusted));
    (void)json_object_set_new(
        root, "extents", number(snap->index.extent_count));
    (void)json_object_set_new(root, "images", images_to_json(&snap->index));
    (void)json_object_set_new(root, "disks", disks_to_json(snap, disks));
    (void)json_object_set_new(root, "sections", sections_to_json(&snap->state));
    (void)json_object_set_new(root, "files", files_to_json(&snap->state));
    return print_json(root, out, err);
}

int snapshot_show_one(
    const struct snap *snap, bool is_json, FILE *out, struct err *err)
{
    bool is_trusted = verify_is_trusted(snap);
    struct manifest manifest;
    struct disks disks;
    int rc = snap_read_manifest(snap, &manifest, err);

    if (rc == 0)
        rc = read_disks(snap, &disks, err);
    if (rc < 0)
        return rc;
    if (is_json)
        rc = show_json(snap, &manifest, &disks, is_trusted, out, err);
    else
        print_one(snap, &manifest, &disks, is_trusted, out);
    disks_fini(&disks);
    return rc;
}

/* ---- difference ---- */

struct diff {
    const struct page_hashes *a;
    const struct page_hashes *b;
    json_t *ranges;   /* NULL: text */
    const char *what; /* that the pages are of, in text */
    FILE *out;
    uint64_t moved;   /* the same contents in another place */
    uint64_t changed; /* pages */
    uint64_t start;   /* of the run of changed pages that is open */
    uint64_t end;
};

static void close_run(struct diff *d)
{
    if (d->start == d->end)
        return;
    if (d->ranges != NULL)
        (void)json_array_append_new(d->ranges,
            json_pack("{s:o, s:o}", "offset", number(d->start * NUM_PAGE_SIZE),
                "bytes", number((d->end - d->start) * NUM_PAGE_SIZE)));
    else
        (void)fprintf(d->out, "%-9s %#014llx  %llu pages\n", d->what,
            (unsigned long long)(d->start * NUM_PAGE_SIZE),
            (unsigned long long)(d->end - d->start));
    d->start = d->end;
}

static int add_difference(
    void *arg, const struct page_extent *a, const struct page_extent *b)
{
    struct diff *d = arg;

    for (uint64_t page = a->page; page < a->page + a->count; page++) {
        if (a->kind == PAGE_DATA && b->kind == PAGE_DATA &&
            hash_equal(&d->a->by_page[page], &d->b->by_page[page])) {
            d->moved++;
            continue;
        }
        if (page != d->end || d->start == d->end) {
            close_run(d);
            d->start = page;
        }
        d->end = page + 1;
        d->changed++;
    }
    return 0;
}

/* 'added' and so on, or NULL if the two sections are the same. */
static const char *compare_section(
    const struct state_section *a, const struct state_section *b)
{
    if (a == NULL)
        return "added";
    if (b == NULL)
        return "removed";
    return a->version == b->version && a->size == b->size &&
                   memcmp(a->data, b->data, a->size) == 0
               ? NULL
               : "changed";
}

static size_t show_section(
    const char *name, const char *how, json_t *list, FILE *out)
{
    if (how == NULL)
        return 0;
    if (list != NULL)
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s}", "name", name, "change", how));
    else
        (void)fprintf(out, "section   %-24s %s\n", name, how);
    return 1;
}

static size_t diff_sections(const struct state_file *a,
    const struct state_file *b, json_t *list, FILE *out)
{
    size_t count = 0;

    for (size_t i = 0; i < a->section_count; i++)
        count += show_section(a->sections[i].name,
            compare_section(
                &a->sections[i], state_file_find(b, a->sections[i].name)),
            list, out);
    for (size_t i = 0; i < b->section_count; i++) {
        if (state_file_find(a, b->sections[i].name) == NULL)
            count += show_section(b->sections[i].name, "added", list, out);
    }
    return count;
}

/* The pages of two disks, of which one may not be there. */
static int diff_disk(const struct snap *a, const struct snap *b, uint32_t drive,
    json_t *list, FILE *out, uint64_t *changed, struct err *err)
{
    const struct snap_disk *x = snap_find_disk(a, drive);
    const struct snap_disk *y = snap_find_disk(b, drive);
    struct page_hashes hashes_a = {0};
    struct page_hashes hashes_b = {0};
    char what[16];
    struct diff d = {.a = &hashes_a, .b = &hashes_b, .what = what, .out = out};
    int rc;

    if (x == NULL && y == NULL)
        return 0;
    if (x == NULL || y == NULL || x->map.pages != y->map.pages)
        return err_set(err, EINVAL,
            "they have other disks as drive %u: not of one machine", drive);
    (void)snprintf(what, sizeof(what), "disk %u", drive);
    if (list != NULL) {
        d.ranges = json_array();
        (void)json_array_append_new(
            list, json_pack("{s:o, s:o}", "drive", number(drive), "ranges",
                      d.ranges));
    }
    rc = snap_read_disk_hashes(a, x, &hashes_a, err);
    if (rc == 0)
        rc = snap_read_disk_hashes(b, y, &hashes_b, err);
    if (rc == 0) {
        (void)page_index_diff(&x->map, &y->map, add_difference, &d);
        close_run(&d);
        *changed += d.changed;
    }
    page_hashes_fini(&hashes_a);
    page_hashes_fini(&hashes_b);
    return rc;
}

static int diff_disks(const struct snap *a, const struct snap *b, json_t *list,
    FILE *out, uint64_t *ret_changed, struct err *err)
{
    uint64_t changed = 0;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < DISKS_MAX; i++)
        rc = diff_disk(a, b, i, list, out, &changed, err);
    *ret_changed = changed;
    return rc;
}

static int print_diff(const struct snap *a, const struct snap *b,
    struct diff *d, bool is_json, bool *ret_differs, struct err *err)
{
    CC_CLEANUP(json_freep) json_t *root = NULL;
    uint64_t disk_changed;
    json_t *sections = NULL;
    json_t *disks = NULL;
    size_t count;
    int rc;

    if (is_json) {
        root = json_pack("{s:[], s:[], s:[]}", "memory", "disks", "sections");
        if (root == NULL)
            return err_sys(err, ENOMEM, "diff");
        d->ranges = json_object_get(root, "memory");
        disks = json_object_get(root, "disks");
        sections = json_object_get(root, "sections");
    }
    (void)page_index_diff(&a->index, &b->index, add_difference, d);
    close_run(d);
    rc = diff_disks(a, b, disks, d->out, &disk_changed, err);
    if (rc < 0)
        return rc;
    count = diff_sections(&a->state, &b->state, sections, d->out);
    *ret_differs = d->changed > 0 || disk_changed > 0 || count > 0;
    if (is_json) {
        (void)json_object_set_new(
            root, "changed_bytes", number(d->changed * NUM_PAGE_SIZE));
        (void)json_object_set_new(
            root, "moved_bytes", number(d->moved * NUM_PAGE_SIZE));
        (void)json_object_set_new(
            root, "disk_changed_bytes", number(disk_changed * NUM_PAGE_SIZE));
        return print_json(root, d->out, err);
    }
    (void)fprintf(d->out, "%llu of %llu pages differ, ",
        (unsigned long long)d->changed, (unsigned long long)a->index.pages);
    if (a->disk_count > 0)
        (void)fprintf(
            d->out, "%llu of disks, ", (unsigned long long)disk_changed);
    (void)fprintf(d->out, "%zu sections\n", count);
    return 0;
}

int snapshot_show_diff(const struct snap *a, const struct snap *b, bool is_json,
    FILE *out, bool *ret_differs, struct err *err)
{
    struct page_hashes hashes_a = {0};
    struct page_hashes hashes_b = {0};
    struct diff d = {
        .a = &hashes_a, .b = &hashes_b, .what = "memory", .out = out};
    int rc = 0;

    if (a->index.pages != b->index.pages)
        return err_set(err, EINVAL,
            "they have memories of %llu and %llu bytes: not of one machine",
            (unsigned long long)(a->index.pages * NUM_PAGE_SIZE),
            (unsigned long long)(b->index.pages * NUM_PAGE_SIZE));
    rc = snap_read_hashes(a, &hashes_a, err);
    if (rc == 0)
        rc = snap_read_hashes(b, &hashes_b, err);
    if (rc == 0)
        rc = print_diff(a, b, &d, is_json, ret_differs, err);
    page_hashes_fini(&hashes_a);
    page_hashes_fini(&hashes_b);
    return rc;
}
