/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory.
 *
 * Owns the host mapping of the guest's RAM, the file behind it, and the set
 * of pages that the monitor itself wrote (KVM's dirty log does not see them).
 * A booted guest's RAM is a memfd, of huge pages if that was asked for. A
 * restored one's is private: page ranges
 * of image files mapped copy-on-write, so that guests share every page that
 * they have not written to.
 * A guest address is a gpa_t, which cannot be dereferenced; the only ways to
 * the bytes are the functions here, each of which checks the whole range and
 * records writes. A struct gslice is a checked range; its host pointer may
 * only feed an iovec, never be parsed in place, because the guest can change
 * the bytes at any time.
 *
 * Thread rule: after gmem_init any thread may read and write; the bytes are
 * shared with running vCPUs, so a value is copied once and then used.
 * Guest-controlled: every address and length passed in, and all bytes.
 */
#ifndef VMM_CORE_GMEM_H
#define VMM_CORE_GMEM_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include "vmm/base/bitmap.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"
#include "vmm/base/num.h"

/* A guest-physical address. */
typedef struct {
    uint64_t v;
} gpa_t;

static inline gpa_t gpa(uint64_t v)
{
    return (gpa_t){v};
}

/* Wraps around at 2^64, which every access function then refuses. */
static inline gpa_t gpa_add(gpa_t a, uint64_t n)
{
    return gpa(a.v + n);
}

/*
 * RAM is [0, GMEM_GAP_START) and, what does not fit there, from GMEM_GAP_END
 * up; the gap holds the MMIO devices, the I/O APIC and the local APICs.
 */
#define GMEM_GAP_START   UINT64_C(0xc0000000)
#define GMEM_GAP_END     UINT64_C(0x100000000)
#define GMEM_SIZE_MIN    NUM_MIB
#define GMEM_SIZE_MAX    (UINT64_C(1) << 40)
#define GMEM_REGIONS_MAX 2
#define GMEM_HUGE_SIZE   (UINT64_C(2) * NUM_MIB)

struct gmem_region {
    gpa_t start;
    uint64_t size;   /* bytes, a multiple of the page size */
    uint64_t offset; /* of the first byte in the file and in the mapping */
};

struct gmem {
    uint8_t *host; /* one mapping of all regions in order; private to gmem.c */
    uint64_t size; /* bytes of RAM in all */
    int fd;        /* the memfd behind it; -1: private memory */
    bool is_huge;  /* in pages of GMEM_HUGE_SIZE, which it keeps to its end */
    unsigned int region_count;
    struct gmem_region regions[GMEM_REGIONS_MAX];
    struct bitmap dirty; /* a bit per page of the file: written by us */
};

/*
 * `size` bytes of zeroed RAM in a fresh memfd; a multiple of the page size
 * within [GMEM_SIZE_MIN, GMEM_SIZE_MAX].
 */
CC_MUST_CHECK int gmem_init(struct gmem *mem, uint64_t size, struct err *err);

/*
 * The same in huge pages of the host's pool, which must have enough of them
 * that nobody has or was promised: -ENOMEM, else none of them can lack later.
 * `size` is a multiple of GMEM_HUGE_SIZE. Written pages are still counted by
 * NUM_PAGE_SIZE.
 */
CC_MUST_CHECK int gmem_init_huge(
    struct gmem *mem, uint64_t size, struct err *err);

/*
 * The same as private memory, all zero until files are mapped over its pages
 * (snapshot/ram.h).
 */
CC_MUST_CHECK int gmem_init_private(
    struct gmem *mem, uint64_t size, struct err *err);
void gmem_fini(struct gmem *mem);

/* Has pages that are about to be written to made private now: a hint. */
void gmem_prefault(struct gmem *mem, uint64_t page, uint64_t count, bool write);

/* Has the kernel read what is behind mapped pages, without waiting: a hint. */
void gmem_read_ahead(const struct gmem *mem, uint64_t page, uint64_t count);

/* The host address KVM is told for region `i`; for memslots only. */
uint64_t gmem_region_host(const struct gmem *mem, unsigned int i);

/* Copies; 0, or -EFAULT if the range is not wholly RAM of one region. */
CC_MUST_CHECK int gmem_read(
    const struct gmem *mem, gpa_t from, void *dst, size_t len);
CC_MUST_CHECK int gmem_write(
    struct gmem *mem, gpa_t to, const void *src, size_t len);
CC_MUST_CHECK int gmem_zero(struct gmem *mem, gpa_t at, uint64_t len);

/*
 * Gives whole pages back to the host: they are zero from then on and take no
 * memory until they are next touched, if only to be read. Huge pages are only
 * zeroed: they stay promised to this guest. They count as written to. 0,
 * -EINVAL for a range that is not whole pages, -EFAULT as above, or what
 * fallocate(2) says: then some may still have their contents.
 */
CC_MUST_CHECK int gmem_discard(struct gmem *mem, gpa_t at, uint64_t len);

/*
 * Reads `len` bytes at `offset` of the open file into guest memory. 0, -errno,
 * -EFAULT for a bad range, -ENODATA if the file ends early. Before vCPUs run.
 */
CC_MUST_CHECK int gmem_read_file(
    struct gmem *mem, gpa_t to, int fd, uint64_t offset, uint64_t len);

/* A checked range of RAM, good for as long as the gmem is. */
struct gslice {
    uint8_t *host;      /* never NULL in a slice that gmem_slice made */
    uint64_t len;       /* bytes */
    uint64_t offset;    /* in the file: what the dirty set counts in */
    struct gmem *owner; /* borrowed */
};

/* 0, or -EFAULT as above. A slice of 0 bytes is allowed within RAM. */
CC_MUST_CHECK int gmem_slice(
    struct gmem *mem, gpa_t at, uint64_t len, struct gslice *ret_slice);

/* The slice as an iovec, for system calls and io_uring only. */
static inline struct iovec gslice_iovec(const struct gslice *s)
{
    return (struct iovec){.iov_base = s->host, .iov_len = s->len};
}

/*
 * Records that [offset, offset + len) of the slice was written through its
 * iovec. For DMA: after the data is there and before the guest is told.
 */
void gslice_mark_dirty(const struct gslice *s, uint64_t offset, uint64_t len);

/*
 * Copies between a slice and private memory; the range is asserted. Reading is
 * here, for the sake of descriptors, of which there are many: the compiler
 * must not look at the guest's copy again.
 */
static inline void gslice_read(
    const struct gslice *s, uint64_t offset, void *dst, size_t len)
{
    assert(num_range_within(offset, len, s->len));
    __asm__ volatile("" ::: "memory");
    memcpy(dst, s->host + offset, len);
    __asm__ volatile("" ::: "memory");
}
void gslice_write(
    const struct gslice *s, uint64_t offset, const void *src, size_t len);

/*
 * gmem_discard for those pages that lie wholly in [offset, offset + len) of
 * the slice, which is asserted to be in it. 0 or -errno.
 */
CC_MUST_CHECK int gslice_discard(
    const struct gslice *s, uint64_t offset, uint64_t len);

/*
 * Ring indices: single atomic accesses of an aligned 16-bit field. Acquire
 * pairs with the guest's write barrier before it moves its index, release
 * with its read barrier after it saw ours.
 */
uint16_t gslice_load_u16_acquire(const struct gslice *s, uint64_t offset);
void gslice_store_u16_release(
    const struct gslice *s, uint64_t offset, uint16_t value);

/* gslice_write without the mark, which is the caller's to make behind it. */
void gslice_write_unmarked(
    const struct gslice *s, uint64_t offset, const void *src, size_t len);

/*
 * Writes an entry of a ring and then, as above, the index that has the guest
 * see it: gslice_write and gslice_store_u16_release, but marked at once. The
 * index lies in front of the entry.
 */
void gslice_publish(const struct gslice *s, uint64_t at, const void *entry,
    size_t len, uint64_t index_at, uint16_t index);

/*
 * For the snapshot engine, which counts pages as the file and the dirty set
 * do: page `page` is asserted to exist. gmem_restore_pages does not count as
 * a write: it puts back what tracking starts from.
 */
static inline uint64_t gmem_page_count(const struct gmem *mem)
{
    return mem->size >> NUM_PAGE_SHIFT;
}

/* The page that holds a guest address; false if that is not RAM. */
CC_MUST_CHECK bool gmem_page_of(
    const struct gmem *mem, gpa_t at, uint64_t *ret_page);

void gmem_copy_pages(
    const struct gmem *mem, uint64_t page, uint64_t count, void *dst);
void gmem_restore_pages(
    struct gmem *mem, uint64_t page, uint64_t count, const void *src);

/*
 * Bytes within one page, for a page that its owner shares with the guest and
 * keeps no account of; as gmem_restore_pages.
 */
void gmem_poke_page(struct gmem *mem, uint64_t page, uint32_t offset,
    const void *src, size_t len);
void gmem_peek_page(const struct gmem *mem, uint64_t page, uint32_t offset,
    void *dst, size_t len);

/*
 * Has page `page` be that of `shared`: page-aligned, in a MAP_SHARED mapping,
 * of the same memory from then on, whether or not that mapping goes on to
 * exist. What the page held is lost. 0 or -errno.
 */
CC_MUST_CHECK int gmem_lay_page(
    struct gmem *mem, uint64_t page, const void *shared);

/*
 * The first run of pages at or after `from` that may hold anything but
 * zeroes; false if there is none. A memfd's holes are passed over, and huge
 * pages that nobody has touched.
 */
CC_MUST_CHECK bool gmem_next_data(const struct gmem *mem, uint64_t from,
    uint64_t *ret_first, uint64_t *ret_count);

bool gmem_page_is_zero(const struct gmem *mem, uint64_t page);
bool gmem_page_equals(const struct gmem *mem, uint64_t page, const void *bytes);

/* The pages as iovecs of system calls may have them; as gslice_iovec. */
struct iovec gmem_pages_iovec(
    const struct gmem *mem, uint64_t page, uint64_t count);

/*
 * The pages that the monitor wrote, for whoever keeps the account: takes the
 * first word of them at or after *word, as bitmap_take does. Bytes that are
 * read afterwards have all writes that were marked before; what is marked
 * later is taken by the next round.
 */
CC_MUST_CHECK bool gmem_take_dirty(
    struct gmem *mem, size_t *word, uint64_t *ret_bits);

#endif
