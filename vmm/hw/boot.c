/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/boot.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/hw/bzimage.h"
#include "vmm/hw/elf.h"
#include "vmm/hw/handover.h"
#include "vmm/hw/layout.h"

/* 2 GiB - 1, which boot.rst gives for kernels that do not name a limit. */
#define INITRD_MAX       UINT64_C(0x7fffffff)
#define INITRD_ALIGN     UINT64_C(4) /* of pieces: cpio's own alignment */
#define IDENTITY_MAP_END (4 * NUM_GIB)

/* What loading the kernel told. */
struct kernel {
    bool is_pvh;
    uint64_t entry;
    uint64_t low_end; /* behind the kernel's last byte below the gap */
    uint64_t initrd_max;
    uint64_t cmdline_max; /* bytes without the NUL */
    bool has_header;
    struct setup_header header;
};

static int take_elf(const struct image *image, struct gmem *mem,
    struct kernel *kernel, struct err *err)
{
    struct elf_loaded elf;
    int rc;

    rc = elf_load(image, mem, &elf, err);
    if (rc < 0)
        return rc;
    kernel->low_end = num_max(elf.low_end, LAYOUT_KERNEL_MIN);
    kernel->is_pvh = elf.has_pvh;
    if (elf.has_pvh) {
        kernel->entry = elf.pvh_entry;
        return 0;
    }
    if (!elf.is_64)
        return err_set(err, ENOEXEC,
            "%s: a 32-bit ELF without a PVH note cannot be started",
            image->name);
    if (!elf.has_entry || elf.entry >= IDENTITY_MAP_END)
        return err_set(err, ENOEXEC,
            "%s: no PVH note, and its entry 0x%llx is not a physical address "
            "in what it loads below 4 GiB",
            image->name, (unsigned long long)elf.entry);
    kernel->entry = elf.entry;
    return 0;
}

static int take_bzimage(const struct image *image, struct gmem *mem,
    struct kernel *kernel, struct err *err)
{
    struct bzimage_payload payload;
    struct bzimage_loaded loaded;
    struct image inner;
    struct bzimage bz;
    int rc;

    rc = bzimage_parse(image, &bz, err);
    if (rc < 0)
        return rc;
    kernel->has_header = true;
    kernel->initrd_max = bz.initrd_max;
    kernel->cmdline_max = bz.cmdline_max;
    if (bz.payload_size == 0 || !unpack_supports(bz.format)) {
        rc = bzimage_load(image, &bz, mem, &loaded, err);
        if (rc < 0)
            return rc;
        kernel->header = bz.header;
        kernel->entry = loaded.entry;
        kernel->low_end = loaded.highest;
        return 0;
    }
    kernel->header = bz.header;
    rc = bzimage_unpack(image, &bz, mem->regions[0].size, &payload, err);
    if (rc < 0)
        return rc;
    rc = image_open(&(struct image_source){.kind = IMAGE_BYTES,
                        .name = image->name,
                        .data = payload.data,
                        .size = payload.size},
        &inner, err);
    if (rc == 0)
        rc = take_elf(&inner, mem, kernel, err);
    bzimage_payload_free(&payload);
    return rc;
}

static int load_kernel(const struct image_source *source, struct gmem *mem,
    struct kernel *kernel, struct err *err)
{
    CC_CLEANUP(image_close) struct image image = IMAGE_CLOSED;
    int rc;

    *kernel = (struct kernel){
        .initrd_max = INITRD_MAX, .cmdline_max = LAYOUT_CMDLINE_MAX - 1};
    rc = image_open(source, &image, err);
    if (rc < 0)
        return rc;
    if (elf_detect(&image))
        return take_elf(&image, mem, kernel, err);
    if (bzimage_detect(&image))
        return take_bzimage(&image, mem, kernel, err);
    return err_set(err, ENOEXEC,
        "%s: neither an x86 ELF (vmlinux) nor a bzImage", source->name);
}

static int write_cmdline(struct gmem *mem, const struct boot_config *config,
    const struct kernel *kernel, struct err *err)
{
    size_t len = config->cmdline == NULL ? 0 : strlen(config->cmdline);
    int rc;

    assert(len < LAYOUT_CMDLINE_MAX);
    if (len > kernel->cmdline_max)
        return err_set(err, E2BIG,
            "kernel command line: %zu bytes, %s takes %llu", len,
            config->kernel.name, (unsigned long long)kernel->cmdline_max);
    if (len == 0)
        return 0; /* what is there is a NUL already */
    rc = gmem_write(mem, gpa(LAYOUT_CMDLINE), config->cmdline, len + 1);
    return rc < 0 ? err_sys(err, rc, "cannot write the command line") : 0;
}

/* As high as it fits below the kernel's limit, on a page of its own. */
static int place_initrd(const struct gmem *mem, const struct kernel *kernel,
    const char *name, uint64_t size, gpa_t *ret_at, struct err *err)
{
    uint64_t limit = num_min(kernel->initrd_max, INITRD_MAX) + 1;
    uint64_t top = num_min(mem->regions[0].size, limit);
    uint64_t floor = num_align_up(kernel->low_end, NUM_PAGE_SIZE);
    uint64_t need;

    if (size <= top && num_align_down(top - size, NUM_PAGE_SIZE) >= floor) {
        *ret_at = gpa(num_align_down(top - size, NUM_PAGE_SIZE));
        return 0;
    }
    if (!num_add(floor, num_align_up(size, NUM_PAGE_SIZE), &need) ||
        need > limit)
        return err_set(err, EFBIG,
            "%s: an initrd of %llu bytes does not fit between the kernel's "
            "end at 0x%llx and 0x%llx",
            name, (unsigned long long)size, (unsigned long long)floor,
            (unsigned long long)limit);
    return err_set(err, ENOMEM,
        "%s: an initrd of %llu bytes does not fit above the kernel in %llu "
        "MiB of guest memory: give --mem %llu or more",
        name, (unsigned long long)size,
        (unsigned long long)(mem->size / NUM_MIB),
        (unsigned long long)num_div_up(need, NUM_MIB));
}

/* Opened pieces, all closed at once. */
struct pieces {
    unsigned int count;
    struct image images[BOOT_INITRDS_MAX];
};

static void close_pieces(struct pieces *pieces)
{
    for (unsigned int i = 0; i < pieces->count; i++)
        image_close(&pieces->images[i]);
}

/*
 * The sizes of all pieces decide where the first goes: all are opened before
 * one is copied.
 */
static int load_initrd(struct gmem *mem, const struct boot_config *config,
    const struct kernel *kernel, struct handover *handover, struct err *err)
{
    CC_CLEANUP(close_pieces) struct pieces pieces;
    uint64_t size = 0;
    gpa_t at = gpa(0);
    int rc;

    pieces.count = 0;
    for (unsigned int i = 0; i < config->initrd_count; i++) {
        rc = image_open(&config->initrds[i], &pieces.images[i], err);
        if (rc < 0)
            return rc;
        pieces.count++;
        if (pieces.images[i].size > GMEM_SIZE_MAX)
            return err_set(err, EFBIG, "%s: larger than any guest's memory",
                pieces.images[i].name);
        size = num_align_up(size, INITRD_ALIGN) + pieces.images[i].size;
    }
    if (size == 0)
        return 0;
    rc = place_initrd(
        mem, kernel, pieces.images[pieces.count - 1].name, size, &at, err);
    if (rc < 0)
        return rc;
    handover->initrd = at;
    handover->initrd_size = size;
    for (unsigned int i = 0; i < pieces.count; i++) {
        const struct image *image = &pieces.images[i];

        rc = image_load(image, 0, mem, at, image->size, "contents", err);
        if (rc < 0)
            return rc;
        at = gpa(num_align_up(at.v + image->size, INITRD_ALIGN));
    }
    return 0;
}

int boot_load(struct gmem *mem, const struct boot_config *config,
    struct boot_entry *ret_entry, struct err *err)
{
    struct handover handover = {
        .cmdline = gpa(LAYOUT_CMDLINE), .rsdp = config->rsdp};
    struct kernel kernel;
    int rc;

    assert(config->initrd_count <= BOOT_INITRDS_MAX);
    rc = load_kernel(&config->kernel, mem, &kernel, err);
    if (rc < 0)
        return rc;
    rc = write_cmdline(mem, config, &kernel, err);
    if (rc < 0)
        return rc;
    if (config->initrd_count != 0) {
        rc = load_initrd(mem, config, &kernel, &handover, err);
        if (rc < 0)
            return rc;
    }
    if (kernel.is_pvh) {
        rc = handover_write_pvh(mem, &handover, err);
        if (rc < 0)
            return rc;
        return boot_entry_pvh(
            mem, kernel.entry, gpa(LAYOUT_PVH_INFO), ret_entry, err);
    }
    rc = handover_write_zero_page(
        mem, &handover, kernel.has_header ? &kernel.header : NULL, err);
    if (rc < 0)
        return rc;
    return boot_entry_linux64(
        mem, kernel.entry, gpa(LAYOUT_ZERO_PAGE), ret_entry, err);
}
