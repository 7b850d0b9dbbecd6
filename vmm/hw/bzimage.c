/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/bzimage.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/le.h"
#include "vmm/base/num.h"
#include "vmm/hw/layout.h"

#define HEADER_OFFSET   offsetof(struct boot_params, hdr)
#define HEADER_MAGIC    0x53726448u /* "HdrS" */
#define BOOT_FLAG       0xaa55u
#define JUMP_OFFSET     0x200u /* of a two-byte jump over the header */
#define SECTOR          512u
#define SETUP_SECTS_OLD 4u /* what a 0 in setup_sects stands for */
#define VERSION_PAYLOAD 0x0208u
#define VERSION_PREF    0x020au
#define VERSION_LINUX64 0x020cu
#define ENTRY_64        0x200u /* from the start of the code */

_Static_assert(HEADER_OFFSET == 0x1f1, "boot.rst: setup_sects is at 0x1f1");
_Static_assert(offsetof(struct setup_header, jump) == JUMP_OFFSET - 0x1f1,
    "boot.rst: jump is at 0x200");
_Static_assert(HEADER_OFFSET + sizeof(struct setup_header) <= IMAGE_HEAD,
    "one read has the whole header");

bool bzimage_detect(const struct image *image)
{
    struct setup_header h;

    return image_read(image, HEADER_OFFSET, &h, sizeof(h), "header", NULL) ==
               0 &&
           h.boot_flag == BOOT_FLAG && h.header == HEADER_MAGIC;
}

static int broken(const struct image *image, const char *why, struct err *err)
{
    return err_set(err, EINVAL, "%s: damaged bzImage: %s", image->name, why);
}

/* Reads the header and blanks what lies behind the end it declares. */
static int read_header(
    const struct image *image, struct setup_header *h, struct err *err)
{
    size_t end;
    int rc;

    rc = image_read(image, HEADER_OFFSET, h, sizeof(*h), "setup header", err);
    if (rc < 0)
        return rc;
    if (h->boot_flag != BOOT_FLAG || h->header != HEADER_MAGIC)
        return err_set(err, ENOEXEC, "%s: not a bzImage", image->name);
    if (h->version < VERSION_PAYLOAD)
        return err_set(err, EINVAL,
            "%s: boot protocol %u.%02u is too old: 2.08 is needed", image->name,
            h->version >> 8, h->version & 0xffu);
    if ((h->loadflags & LOADED_HIGH) == 0)
        return err_set(err, EINVAL, "%s: a zImage, not a bzImage", image->name);
    /* The jump's operand leads to the header's end (boot.rst). */
    end = JUMP_OFFSET + 2u + (h->jump >> 8) - HEADER_OFFSET;
    if (end < offsetof(struct setup_header, payload_length) + sizeof(uint32_t))
        return broken(image, "its setup header is cut short", err);
    if (end < sizeof(*h))
        memset((uint8_t *)h + end, 0, sizeof(*h) - end);
    return 0;
}

static int find_payload(
    const struct image *image, struct bzimage *bz, struct err *err)
{
    const struct setup_header *h = &bz->header;
    uint8_t magic[UNPACK_MAGIC_LEN];
    int rc;

    if (h->payload_length == 0)
        return 0;
    if (!num_range_within(h->payload_offset, h->payload_length, bz->code_size))
        return broken(image, "its payload is beyond its end", err);
    if (h->payload_length <= sizeof(magic) + sizeof(uint32_t))
        return broken(image, "its payload is empty", err);
    bz->payload_offset = bz->code_offset + h->payload_offset;
    bz->payload_size = h->payload_length;
    rc = image_read(
        image, bz->payload_offset, magic, sizeof(magic), "payload", err);
    if (rc < 0)
        return rc;
    bz->format = unpack_detect(magic, sizeof(magic));
    return 0;
}

int bzimage_parse(
    const struct image *image, struct bzimage *ret_bzimage, struct err *err)
{
    struct bzimage bz = {.format = UNPACK_UNKNOWN};
    const struct setup_header *h = &bz.header;
    unsigned int sectors;
    int rc;

    rc = read_header(image, &bz.header, err);
    if (rc < 0)
        return rc;
    sectors = h->setup_sects == 0 ? SETUP_SECTS_OLD : h->setup_sects;
    bz.code_offset = (sectors + 1) * (uint64_t)SECTOR;
    if (bz.code_offset >= image->size)
        return broken(image, "nothing follows its setup part", err);
    bz.code_size = image->size - bz.code_offset;
    /* Signatures may follow the code, whose size is in 16-byte units. */
    if (h->syssize != 0)
        bz.code_size = num_min(bz.code_size, (uint64_t)h->syssize * 16);
    bz.cmdline_max = h->cmdline_size;
    bz.initrd_max = h->initrd_addr_max;
    rc = find_payload(image, &bz, err);
    if (rc < 0)
        return rc;
    *ret_bzimage = bz;
    return 0;
}

static int map_anonymous(uint64_t size, uint8_t **ret_data)
{
    void *p = mmap(
        NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return -errno;
    *ret_data = p;
    return 0;
}

void bzimage_payload_free(struct bzimage_payload *payload)
{
    if (payload->data != NULL)
        (void)munmap(payload->data, payload->mapped);
    *payload = (struct bzimage_payload){0};
}

/*
 * All packers of the kernel's build leave the unpacked size in the payload's
 * last 4 bytes, gzip because its format ends so.
 */
static int unpack_sized(const struct image *image, const struct bzimage *bz,
    const uint8_t *packed, uint64_t max, struct bzimage_payload *payload,
    struct err *err)
{
    size_t body = bz->payload_size - sizeof(le32);
    size_t len, used;
    le32 trailer;
    uint64_t size;
    int rc;

    memcpy(&trailer, packed + body, sizeof(trailer));
    size = le32_get(trailer);
    if (size == 0)
        return broken(image, "its payload is empty", err);
    if (size > max)
        return err_set(err, ENOMEM,
            "%s: unpacks to %llu MiB, more than the guest has: give --mem "
            "%llu or more",
            image->name, (unsigned long long)(size / NUM_MIB),
            (unsigned long long)(num_div_up(size, NUM_MIB) + 1));
    rc = map_anonymous(size, &payload->data);
    if (rc < 0)
        return err_sys(err, rc, "%s: unpacking", image->name);
    payload->mapped = size;
    rc = unpack(bz->format, packed, bz->payload_size, payload->data, size, &len,
        &used, err);
    if (rc < 0)
        return err_wrap(err, rc, "%s", image->name);
    if (used != bz->payload_size && used != body)
        return broken(image, "its payload has something behind its end", err);
    if (len != size)
        return broken(
            image, "its payload unpacks to less than it declares", err);
    payload->size = len;
    return 0;
}

int bzimage_unpack(const struct image *image, const struct bzimage *bzimage,
    uint64_t max, struct bzimage_payload *ret_payload, struct err *err)
{
    struct bzimage_payload packed = {.mapped = bzimage->payload_size};
    struct bzimage_payload payload = {0};
    int rc;

    assert(unpack_supports(bzimage->format));
    rc = map_anonymous(packed.mapped, &packed.data);
    if (rc < 0)
        return err_sys(err, rc, "%s: unpacking", image->name);
    rc = image_read(image, bzimage->payload_offset, packed.data, packed.mapped,
        "payload", err);
    if (rc == 0)
        rc = unpack_sized(image, bzimage, packed.data, max, &payload, err);
    bzimage_payload_free(&packed);
    if (rc < 0) {
        bzimage_payload_free(&payload);
        return rc;
    }
    *ret_payload = payload;
    return 0;
}

int bzimage_load(const struct image *image, struct bzimage *bzimage,
    struct gmem *mem, struct bzimage_loaded *ret_loaded, struct err *err)
{
    struct setup_header *h = &bzimage->header;
    uint64_t start = h->code32_start;
    uint64_t room, end;
    struct gslice slice;
    int rc;

    if (h->version < VERSION_LINUX64 || (h->xloadflags & XLF_KERNEL_64) == 0)
        return err_set(err, EINVAL,
            "%s: its payload is packed as %s and it has no 64-bit entry: give "
            "the kernel's vmlinux",
            image->name, unpack_format_name(bzimage->format));
    if (h->relocatable_kernel != 0 && h->version >= VERSION_PREF)
        start = h->pref_address;
    room = num_max(bzimage->code_size, h->init_size);
    if (start < LAYOUT_KERNEL_MIN || !num_add(start, room, &end) ||
        end > GMEM_GAP_START)
        return err_set(err, EINVAL,
            "%s: asks to be loaded at 0x%llx, where no kernel can be",
            image->name, (unsigned long long)start);
    if (gmem_slice(mem, gpa(start), room, &slice) < 0)
        return err_set(err, ENOMEM,
            "%s: unpacks itself up to 0x%llx, beyond %llu MiB of guest "
            "memory: give --mem %llu or more",
            image->name, (unsigned long long)end,
            (unsigned long long)(mem->size / NUM_MIB),
            (unsigned long long)num_div_up(end, NUM_MIB));
    if (bzimage->code_size <= ENTRY_64)
        return broken(image, "it ends before its 64-bit entry", err);
    rc = image_load(image, bzimage->code_offset, mem, gpa(start),
        bzimage->code_size, "code", err);
    if (rc < 0)
        return rc;
    h->code32_start = (uint32_t)start;
    *ret_loaded = (struct bzimage_loaded){
        .entry = start + ENTRY_64, .lowest = start, .highest = end};
    return 0;
}
