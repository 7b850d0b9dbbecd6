/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine says that it saved, as it is and with a state whose checksum
 * fits: runs that are handed out are in order and within the plan's images,
 * and come with as many hashes as pages of data.
 *
 * The first byte says of what the plan is.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "snapshot/capture.h"
#include "vmm/base/num.h"

#define STATE_SIZE_AT 16u
#define HEADER_SIZE   24u
#define IMAGE_SIZE    32u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

struct seen {
    uint64_t pages; /* of the image */
    uint64_t end;
    uint64_t data;
    unsigned int sum;
    bool is_memory;
};

static int take_run(void *arg, enum page_kind kind, uint64_t page,
    uint64_t count, const struct hash128 *hashes, struct err *err)
{
    struct seen *seen = arg;

    (void)err;
    require(count > 0 && page >= seen->end &&
            num_range_within(page, count, seen->pages));
    require((kind == PAGE_DATA) == (hashes != NULL));
    require(kind != PAGE_BELOW || !seen->is_memory);
    for (uint64_t i = 0; hashes != NULL && i < count; i++)
        seen->sum += hashes[i].b[0];
    seen->data += kind == PAGE_DATA ? count : 0;
    seen->end = page + count;
    return 0;
}

static void read_all(int fd, const struct capture_plan *plan)
{
    struct capture capture;
    struct err err;

    if (capture_open(&capture, fd, plan, &err) < 0) {
        require(strlen(err.text) > 0 && strchr(err.text, '\n') == NULL);
        return;
    }
    require(capture.image_count == plan->image_count);
    require(capture.state.record_count == 0);
    for (uint32_t i = 0; i < capture.image_count; i++) {
        struct seen seen = {
            .pages = plan->images[i].pages, .is_memory = i == 0};

        if (capture_walk(&capture, i, take_run, &seen, &err) == 0)
            require(seen.data == capture.images[i].data);
        else
            require(strlen(err.text) > 0);
    }
    capture_close(&capture);
}

static void write_file(int fd, const uint8_t *data, size_t size)
{
    require(ftruncate(fd, 0) == 0);
    require(pwrite(fd, data, size, 0) == (ssize_t)size);
}

/* The hash at the end of the state is over all before it. */
static bool fix_state(uint8_t *data, size_t size, uint32_t images)
{
    size_t at = HEADER_SIZE + images * IMAGE_SIZE;
    struct hash128 hash;
    uint64_t state;

    if (size < at)
        return false;
    memcpy(&state, data + STATE_SIZE_AT, sizeof(state));
    if (state < sizeof(hash) || state > size - at)
        return false;
    hash = hash_bytes(data + at, state - sizeof(hash));
    memcpy(data + at + state - sizeof(hash), hash.b, sizeof(hash));
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct capture_plan plan = {.image_count = 1, .images = {{.pages = 64}}};
    struct err err;
    uint8_t *copy;
    int fd;

    if (size < 1)
        return 0;
    for (uint32_t i = 0; i < data[0] % CAPTURE_IMAGES_MAX; i++)
        plan.images[plan.image_count++] =
            (struct capture_plan_image){.drive = i, .pages = 16};
    require(capture_plan_check(&plan, &err) == 0);
    data++;
    size--;
    fd = memfd_create("capture", MFD_CLOEXEC);
    require(fd >= 0);
    write_file(fd, data, size);
    read_all(fd, &plan);
    copy = malloc(size + 1);
    require(copy != NULL);
    memcpy(copy, data, size);
    if (fix_state(copy, size, plan.image_count)) {
        write_file(fd, copy, size);
        read_all(fd, &plan);
    }
    free(copy);
    (void)close(fd);
    return 0;
}
