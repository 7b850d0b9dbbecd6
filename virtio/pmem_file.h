/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file that is mapped into the guest's physical address space: what a
 * persistent memory device shows.
 *
 * Owns the descriptor, a lock on the file (a writer shuts out every other
 * user, readers share it) and the mapping. All machines that map one file
 * share its pages in the host's page cache. The mapping is for KVM and for
 * nobody else: others can cut the file while it is mapped, and an access by
 * the monitor would then raise SIGBUS, while KVM only says -EFAULT or hands
 * the access out as one to a device.
 *
 * Thread rule: open and close: no other thread knows the file; the rest from
 * any thread. File-controlled: the length, at any time.
 */
#ifndef VIRTIO_PMEM_FILE_H
#define VIRTIO_PMEM_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/base/num.h"

/*
 * Granule of start and size. Linux takes device memory into its memory map in
 * units of this (a subsection), and it is the size of a large page.
 */
#define PMEM_FILE_ALIGN    (2 * NUM_MIB)
#define PMEM_FILE_SIZE_MAX (UINT64_C(1) << 40)

struct pmem_file_config {
    const char *path; /* opened if `fd` is -1; names the file in errors */
    int fd;           /* already open, taken over, even on failure; or -1 */
    bool read_only;
};

struct pmem_file {
    const char *path;   /* borrowed from the configuration */
    int fd;             /* -1 when closed */
    uint64_t host;      /* address for the memslot; 0: not mapped */
    uint64_t size;      /* bytes mapped, a multiple of PMEM_FILE_ALIGN */
    uint64_t file_size; /* bytes the file had when it was opened */
    bool read_only;
    bool is_private; /* pmem_file_poke has made it so */
};

/*
 * Maps a file. What is behind its end, up to a multiple of PMEM_FILE_ALIGN,
 * reads as zeroes and is this machine's own memory. Errors name the file:
 * -EBUSY if another user has it locked, -EINVAL if it is not a regular file,
 * empty, or larger than PMEM_FILE_SIZE_MAX. *ret_warning is set to a constant
 * text, or NULL, about a file that can be used but deserves a word.
 */
CC_MUST_CHECK int pmem_file_open(struct pmem_file *f,
    const struct pmem_file_config *config, const char **ret_warning,
    struct err *err);

/* No VM may have it as a memslot. Fine on a zeroed one. */
void pmem_file_close(struct pmem_file *f);

/* Whether the file is now shorter than it was when it was opened. */
bool pmem_file_is_cut(const struct pmem_file *f);

/*
 * Changes a byte as this machine alone has it, never the file: for debuggers.
 * The first time, the mapping becomes one of which pages that are written to
 * are copied, so this is for files that are read only (asserted); guests go on
 * seeing it at the same place. *ret_old is what was there. -EFAULT if the file
 * has been cut.
 */
CC_MUST_CHECK int pmem_file_poke(
    struct pmem_file *f, uint64_t offset, uint8_t byte, uint8_t *ret_old);

/* One line on why the guest's access to it failed; returns -EIO. */
int pmem_file_explain(const struct pmem_file *f, struct err *err);

#endif
