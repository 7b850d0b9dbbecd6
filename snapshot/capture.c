/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/capture.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define MAGIC       "SPORECAP"
#define MAGIC_SIZE  8u
#define VERSION     1u
#define HEADER_SIZE 24u
#define IMAGE_SIZE  32u
#define FLAG_DIFF   1u
#define RUN_SIZE    8u
#define KIND_BITS   2u
#define KIND_MASK   3u

/* Runs, and hashes, that are read or written at once. */
#define RUNS_BATCH   4096u
#define HASHES_BATCH 4096u

_Static_assert(PAGE_INDEX_PAGES_MAX <= UINT32_MAX >> KIND_BITS, "a run's size");

int capture_plan_check(const struct capture_plan *plan, struct err *err)
{
    bool is_valid =
        plan->image_count >= 1 && plan->image_count <= CAPTURE_IMAGES_MAX;

    for (uint32_t i = 0; is_valid && i < plan->image_count; i++) {
        const struct capture_plan_image *image = &plan->images[i];

        is_valid = image->pages >= 1 && image->pages <= PAGE_INDEX_PAGES_MAX &&
                   image->drive < DISKS_MAX &&
                   (i < 2 || image->drive > plan->images[i - 1].drive);
    }
    return is_valid ? 0
                    : err_set(err, EINVAL,
                          "a machine with %u images, or with such ones, cannot "
                          "be saved",
                          plan->image_count);
}

/* ---- writing ------------------------------------------------------------- */

int capture_add_about(struct state_writer *state,
    const struct capture_about *about, struct err *err)
{
    uint8_t data[8 + sizeof(about->kernel)];
    size_t length = strlen(about->kernel);
    struct bytes_writer out;

    bytes_writer_init(&out, data, sizeof(data));
    bytes_put_u32(&out, about->vcpus);
    bytes_put_u32(&out, (uint32_t)length);
    bytes_put(&out, about->kernel, length);
    assert(!out.failed);
    return state_writer_add(state, CAPTURE_SECTION, CAPTURE_SECTION_VERSION,
        STATE_SECTION_REQUIRED, data, out.pos, err);
}

/* The next run of a bitmap that begins or goes on at or after a page. */
struct cursor {
    const struct bitmap *map;
    size_t first;
    size_t end; /* = first: look again */
    bool is_over;
};

/* Moves to the first set page at or after `page`; SIZE_MAX if there is none. */
static size_t move_to(struct cursor *c, size_t page)
{
    size_t count;

    if (!c->is_over && page >= c->end) {
        c->is_over = !bitmap_next_run(c->map, page, &c->first, &count);
        c->end = c->is_over ? c->end : c->first + count;
    }
    return c->is_over ? SIZE_MAX : num_max(c->first, page);
}

/* The account of an image as runs, one after the other. */
struct runs {
    struct cursor put;
    struct cursor data;
    struct cursor below;
    size_t at;
};

static void runs_init(struct runs *r, const struct capture_image *image)
{
    *r = (struct runs){.put = {.map = &image->put},
        .data = {.map = &image->data},
        .below = {.map = &image->below}};
}

static bool next_run(struct runs *r, size_t *ret_first, size_t *ret_count,
    enum page_kind *ret_kind)
{
    size_t first = move_to(&r->put, r->at);
    size_t data;
    size_t below;
    size_t end;

    if (first == SIZE_MAX)
        return false;
    data = move_to(&r->data, first);
    below = move_to(&r->below, first);
    end = r->put.end;
    if (data == first) {
        *ret_kind = PAGE_DATA;
        end = num_min(end, r->data.end);
    } else if (below == first) {
        *ret_kind = PAGE_BELOW;
        end = num_min(end, r->below.end);
    } else {
        *ret_kind = PAGE_ZERO;
        end = num_min(end, num_min(data, below));
    }
    *ret_first = first;
    *ret_count = end - first;
    r->at = end;
    return true;
}

static uint64_t count_runs(const struct capture_image *image)
{
    struct runs r;
    enum page_kind kind;
    uint64_t count = 0;
    size_t first;
    size_t n;

    runs_init(&r, image);
    while (next_run(&r, &first, &n, &kind))
        count++;
    return count;
}

static int write_runs(int fd, const struct capture_image *image)
{
    uint8_t *buffer = malloc(RUNS_BATCH * RUN_SIZE);
    struct bytes_writer out;
    enum page_kind kind;
    struct runs r;
    size_t first;
    size_t n;
    int rc = buffer == NULL ? -ENOMEM : 0;

    runs_init(&r, image);
    bytes_writer_init(&out, buffer, RUNS_BATCH * RUN_SIZE);
    while (rc == 0 && next_run(&r, &first, &n, &kind)) {
        bytes_put_u32(&out, (uint32_t)first);
        bytes_put_u32(&out, (uint32_t)n << KIND_BITS | (uint32_t)kind);
        if (out.pos < out.size)
            continue;
        rc = fd_write_full(fd, buffer, out.pos);
        out.pos = 0;
    }
    if (rc == 0)
        rc = fd_write_full(fd, buffer, out.pos);
    free(buffer);
    return rc;
}

static int write_hashes(int fd, const struct capture_image *image)
{
    size_t first = 0;
    size_t count;
    int rc = 0;

    while (rc == 0 && bitmap_next_run(&image->data, first, &first, &count)) {
        rc = fd_write_full(
            fd, &image->hashes.by_page[first], count * sizeof(struct hash128));
        first += count;
    }
    return rc;
}

static int write_header(int fd, const struct capture_part *parts,
    uint32_t count, uint64_t state_size)
{
    uint8_t data[HEADER_SIZE + CAPTURE_IMAGES_MAX * IMAGE_SIZE];
    struct bytes_writer out;

    bytes_writer_init(&out, data, sizeof(data));
    bytes_put(&out, MAGIC, MAGIC_SIZE);
    bytes_put_u32(&out, VERSION);
    bytes_put_u32(&out, count);
    bytes_put_u64(&out, state_size);
    for (uint32_t i = 0; i < count; i++) {
        bytes_put_u32(&out, parts[i].drive);
        bytes_put_u32(&out, parts[i].image->is_diff ? FLAG_DIFF : 0);
        bytes_put_u64(&out, parts[i].image->pages);
        bytes_put_u64(&out, count_runs(parts[i].image));
        bytes_put_u64(&out, bitmap_count(&parts[i].image->data));
    }
    assert(!out.failed);
    return fd_write_full(fd, data, out.pos);
}

int capture_write(int fd, const struct capture_part *parts, uint32_t count,
    const struct state_writer *state, struct err *err)
{
    uint8_t *data;
    size_t size;
    int rc = state_writer_seal(state, &data, &size, err);

    assert(count >= 1 && count <= CAPTURE_IMAGES_MAX);
    if (rc < 0)
        return rc;
    rc = write_header(fd, parts, count, size);
    if (rc == 0)
        rc = fd_write_full(fd, data, size);
    free(data);
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        rc = write_runs(fd, parts[i].image);
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        rc = write_hashes(fd, parts[i].image);
    return rc < 0 ? err_sys(err, rc, "what was saved cannot be noted") : 0;
}

/* ---- reading ------------------------------------------------------------- */

static int damaged(struct err *err, const char *what)
{
    return err_set(err, EBADMSG,
        "the machine does not say what it saved as it should: %s", what);
}

static int read_at(
    int fd, void *data, size_t size, uint64_t offset, struct err *err)
{
    ssize_t n = fd_pread_full(fd, data, size, offset);

    if (n < 0)
        return err_sys(err, (int)n, "what the machine saved");
    return (size_t)n == size ? 0 : damaged(err, "cut short");
}

static int read_images(struct capture *c, struct bytes_reader *in,
    const struct capture_plan *plan, struct err *err)
{
    for (uint32_t i = 0; i < c->image_count; i++) {
        struct capture_account *image = &c->images[i];
        uint32_t drive = bytes_get_u32(in);
        uint32_t flags = bytes_get_u32(in);

        image->pages = bytes_get_u64(in);
        image->runs = bytes_get_u64(in);
        image->data = bytes_get_u64(in);
        image->is_diff = (flags & FLAG_DIFF) != 0;
        if (drive != plan->images[i].drive || (flags & ~FLAG_DIFF) != 0 ||
            image->pages != plan->images[i].pages ||
            image->runs > image->pages || image->data > image->pages)
            return damaged(err, "an image that was not asked for");
    }
    return in->failed ? damaged(err, "cut short") : 0;
}

/* Header and table; *ret_state: bytes of what follows. */
static int read_header(struct capture *c, const struct capture_plan *plan,
    uint64_t *ret_state, struct err *err)
{
    uint8_t data[HEADER_SIZE + CAPTURE_IMAGES_MAX * IMAGE_SIZE];
    size_t size = HEADER_SIZE + plan->image_count * IMAGE_SIZE;
    struct bytes_reader in;
    uint8_t magic[MAGIC_SIZE];
    uint64_t state;
    int rc = read_at(c->fd, data, size, 0, err);

    if (rc < 0)
        return rc;
    bytes_reader_init(&in, data, size);
    bytes_get(&in, magic, sizeof(magic));
    if (memcmp(magic, MAGIC, MAGIC_SIZE) != 0)
        return damaged(err, "not a capture");
    if (bytes_get_u32(&in) != VERSION)
        return damaged(err, "it is another version of spore");
    c->image_count = bytes_get_u32(&in);
    state = bytes_get_u64(&in);
    if (c->image_count != plan->image_count)
        return damaged(err, "more or fewer images than were asked for");
    if (state > STATE_FILE_SIZE_MAX)
        return damaged(err, "its state is too large");
    *ret_state = state;
    return read_images(c, &in, plan, err);
}

static int place_runs(struct capture *c, uint64_t offset, struct err *err)
{
    struct stat st;

    for (uint32_t i = 0; i < c->image_count; i++) {
        c->images[i].offset = offset;
        /* No more than 2^28 runs or hashes each. */
        offset += c->images[i].runs * RUN_SIZE;
    }
    for (uint32_t i = 0; i < c->image_count; i++) {
        c->images[i].hashes_offset = offset;
        offset += c->images[i].data * sizeof(struct hash128);
    }
    if (fstat(c->fd, &st) < 0)
        return err_sys(err, errno, "what the machine saved");
    return (uint64_t)st.st_size == offset ? 0 : damaged(err, "its size");
}

static int read_about(struct capture *c, struct err *err)
{
    const struct state_section *section =
        state_file_take(&c->state, CAPTURE_SECTION);
    struct bytes_reader in;
    const uint8_t *kernel;
    uint32_t length;

    if (section == NULL || section->version != CAPTURE_SECTION_VERSION)
        return damaged(err, "a section");
    bytes_reader_init(&in, section->data, section->size);
    c->about.vcpus = bytes_get_u32(&in);
    length = bytes_get_u32(&in);
    if (in.failed || length >= sizeof(c->about.kernel))
        return damaged(err, "a section");
    kernel = bytes_take(&in, length);
    if (kernel == NULL || bytes_left(&in) != 0 ||
        memchr(kernel, '\0', length) != NULL)
        return damaged(err, "a section");
    memcpy(c->about.kernel, kernel, length);
    c->about.kernel[length] = '\0';
    return 0;
}

static int read_state(
    struct capture *c, uint64_t offset, uint64_t size, struct err *err)
{
    uint8_t *data = malloc(size + 1);
    int rc;

    if (data == NULL)
        return err_sys(err, ENOMEM, "what the machine saved");
    rc = read_at(c->fd, data, size, offset, err);
    if (rc < 0) {
        free(data);
        return rc;
    }
    rc = state_file_decode(data, size, &c->state, err);
    if (rc < 0)
        return rc;
    return c->state.record_count == 0 ? read_about(c, err)
                                      : damaged(err, "a file of its own");
}

int capture_open(struct capture *ret_capture, int fd,
    const struct capture_plan *plan, struct err *err)
{
    struct capture c = {.fd = fd};
    uint64_t offset = HEADER_SIZE + plan->image_count * IMAGE_SIZE;
    uint64_t size = 0;
    int rc = read_header(&c, plan, &size, err);

    if (rc == 0)
        rc = place_runs(&c, offset + size, err);
    if (rc == 0)
        rc = read_state(&c, offset, size, err);
    if (rc < 0) {
        capture_close(&c);
        return rc;
    }
    *ret_capture = c;
    return 0;
}

void capture_close(struct capture *capture)
{
    state_file_fini(&capture->state);
    *capture = (struct capture){.fd = -1};
}

/* A walk over one image. */
struct walk {
    int fd;
    const struct capture_account *account;
    bool is_memory;
    capture_run_fn *take;
    void *arg;
    uint64_t end;  /* of the runs so far */
    uint64_t data; /* pages of them that are data */
    struct hash128 hashes[HASHES_BATCH];
    size_t hash_at; /* hashes [at, end) were read and not handed out */
    size_t hash_end;
    uint8_t runs[RUNS_BATCH * RUN_SIZE];
};

/* A run of data, in pieces of as many hashes as are at hand. */
static int take_data(
    struct walk *w, uint64_t page, uint64_t count, struct err *err)
{
    int rc = 0;

    if (count > w->account->data - w->data)
        return damaged(err, "more pages than it has hashes of");
    while (rc == 0 && count > 0) {
        uint64_t n;

        if (w->hash_at == w->hash_end) {
            uint64_t left = w->account->data - w->data;

            w->hash_at = 0;
            w->hash_end = num_min(left, HASHES_BATCH);
            rc = read_at(w->fd, w->hashes, w->hash_end * sizeof(struct hash128),
                w->account->hashes_offset + w->data * sizeof(struct hash128),
                err);
            if (rc < 0)
                return rc;
        }
        n = num_min(count, w->hash_end - w->hash_at);
        rc = w->take(w->arg, PAGE_DATA, page, n, &w->hashes[w->hash_at], err);
        w->hash_at += n;
        w->data += n;
        page += n;
        count -= n;
    }
    return rc;
}

static int take_runs(struct walk *w, struct bytes_reader *in, struct err *err)
{
    int rc = 0;

    while (rc == 0 && bytes_left(in) > 0) {
        uint64_t first = bytes_get_u32(in);
        uint32_t word = bytes_get_u32(in);
        uint64_t count = word >> KIND_BITS;
        uint32_t kind = word & KIND_MASK;

        if (first < w->end || count == 0 ||
            !num_range_within(first, count, w->account->pages) ||
            kind > PAGE_BELOW || (kind == PAGE_BELOW && w->is_memory))
            return damaged(err, "pages that are not there");
        w->end = first + count;
        rc = kind == PAGE_DATA ? take_data(w, first, count, err)
                               : w->take(w->arg, (enum page_kind)kind, first,
                                     count, NULL, err);
    }
    return rc;
}

static int walk(struct walk *w, struct err *err)
{
    uint64_t done = 0;

    while (done < w->account->runs) {
        uint64_t n = num_min(w->account->runs - done, RUNS_BATCH);
        struct bytes_reader in;
        int rc = read_at(w->fd, w->runs, n * RUN_SIZE,
            w->account->offset + done * RUN_SIZE, err);

        if (rc < 0)
            return rc;
        bytes_reader_init(&in, w->runs, n * RUN_SIZE);
        rc = take_runs(w, &in, err);
        if (rc < 0)
            return rc;
        done += n;
    }
    return w->data == w->account->data
               ? 0
               : damaged(err, "fewer pages than it has hashes of");
}

int capture_walk(const struct capture *capture, uint32_t image,
    capture_run_fn *take, void *arg, struct err *err)
{
    struct walk *w = calloc(1, sizeof(*w));
    int rc;

    assert(image < capture->image_count);
    if (w == NULL)
        return err_sys(err, ENOMEM, "what the machine saved");
    w->fd = capture->fd;
    w->account = &capture->images[image];
    w->is_memory = image == 0;
    w->take = take;
    w->arg = arg;
    rc = walk(w, err);
    free(w);
    return rc;
}
