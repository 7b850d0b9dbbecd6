/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/core/gmem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "vmm/base/fd.h"

/* Keeps the compiler from reading a shared byte twice or late. */
#define COMPILER_BARRIER() __asm__ volatile("" ::: "memory")

/* From here on a copy inside the kernel beats one through the mapping. */
#define BULK_BYTES (UINT64_C(64) * NUM_KIB)

/* MFD_HUGE_2MB of <linux/memfd.h>, which does not go with <sys/mman.h>. */
#define HUGE_2MB (21u << 26)

static void lay_out_regions(struct gmem *mem, uint64_t size)
{
    uint64_t low = num_min(size, GMEM_GAP_START);

    mem->regions[0] = (struct gmem_region){.start = gpa(0), .size = low};
    mem->region_count = 1;
    if (size > low) {
        mem->regions[1] = (struct gmem_region){
            .start = gpa(GMEM_GAP_END), .size = size - low, .offset = low};
        mem->region_count = 2;
    }
    mem->size = size;
}

static int check_size(uint64_t size, struct err *err)
{
    if (size < GMEM_SIZE_MIN || size > GMEM_SIZE_MAX ||
        size % NUM_PAGE_SIZE != 0)
        return err_set(err, EINVAL,
            "guest memory of %llu bytes: it must be whole pages, 1 MiB to "
            "1 TiB",
            (unsigned long long)size);
    return 0;
}

/* Maps all of it: `fd` -1 for private memory. Frees what there is on failure.
 */
static int map_all(struct gmem *mem, uint64_t size, int flags, struct err *err)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, mem->fd, 0);
    int rc;

    if (p == MAP_FAILED && errno == ENOMEM && mem->is_huge) {
        rc = err_set(err, ENOMEM,
            "%llu huge pages of 2 MiB are not free on this host: as root, have "
            "/proc/sys/vm/nr_hugepages say so many more",
            (unsigned long long)(size / GMEM_HUGE_SIZE));
        goto fail;
    }
    if (p == MAP_FAILED) {
        rc = err_sys(err, errno, "cannot map %llu MiB of guest memory",
            (unsigned long long)(size / NUM_MIB));
        goto fail;
    }
    mem->host = p;
    lay_out_regions(mem, size);
    /* A core dump of the monitor must not hold a tenant's memory. */
    (void)madvise(p, size, MADV_DONTDUMP);
    rc = bitmap_init(&mem->dirty, size / NUM_PAGE_SIZE);
    if (rc < 0) {
        rc = err_sys(err, rc, "cannot map the dirty set");
        goto fail;
    }
    return 0;
fail:
    gmem_fini(mem);
    return rc;
}

static int init_memfd(struct gmem *mem, uint64_t size, unsigned int memfd_flags,
    int map_flags, struct err *err)
{
    int rc = check_size(size, err);

    if (rc < 0)
        return rc;
    mem->fd = memfd_create("spore-ram", MFD_CLOEXEC | memfd_flags);
    if (mem->fd < 0)
        return err_sys(err, errno, "cannot create guest memory%s",
            mem->is_huge ? " of huge pages of 2 MiB" : "");
    if (ftruncate(mem->fd, (off_t)size) < 0) {
        rc = err_sys(err, errno, "guest memory of %llu MiB",
            (unsigned long long)(size / NUM_MIB));
        gmem_fini(mem);
        return rc;
    }
    return map_all(mem, size, MAP_SHARED | map_flags, err);
}

int gmem_init(struct gmem *mem, uint64_t size, struct err *err)
{
    *mem = (struct gmem){.fd = -1};
    return init_memfd(mem, size, 0, MAP_NORESERVE, err);
}

/* Without MAP_NORESERVE: what is mapped is the guest's from then on. */
int gmem_init_huge(struct gmem *mem, uint64_t size, struct err *err)
{
    assert(size % GMEM_HUGE_SIZE == 0);
    *mem = (struct gmem){.fd = -1, .is_huge = true};
    return init_memfd(mem, size, MFD_HUGETLB | HUGE_2MB, 0, err);
}

int gmem_init_private(struct gmem *mem, uint64_t size, struct err *err)
{
    int rc;

    *mem = (struct gmem){.fd = -1};
    rc = check_size(size, err);
    if (rc < 0)
        return rc;
    return map_all(mem, size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, err);
}

static bool pages_exist(const struct gmem *mem, uint64_t page, uint64_t count)
{
    return num_range_within(page, count, gmem_page_count(mem));
}

static uint8_t *page_at(const struct gmem *mem, uint64_t page)
{
    return mem->host + (page << NUM_PAGE_SHIFT);
}

void gmem_prefault(struct gmem *mem, uint64_t page, uint64_t count, bool write)
{
    assert(pages_exist(mem, page, count));
    (void)madvise(page_at(mem, page), count << NUM_PAGE_SHIFT,
        write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

void gmem_read_ahead(const struct gmem *mem, uint64_t page, uint64_t count)
{
    assert(pages_exist(mem, page, count));
    (void)madvise(page_at(mem, page), count << NUM_PAGE_SHIFT, MADV_WILLNEED);
}

void gmem_copy_pages(
    const struct gmem *mem, uint64_t page, uint64_t count, void *dst)
{
    assert(pages_exist(mem, page, count));
    COMPILER_BARRIER();
    memcpy(dst, page_at(mem, page), count << NUM_PAGE_SHIFT);
    COMPILER_BARRIER();
}

void gmem_restore_pages(
    struct gmem *mem, uint64_t page, uint64_t count, const void *src)
{
    assert(pages_exist(mem, page, count));
    memcpy(page_at(mem, page), src, count << NUM_PAGE_SHIFT);
    COMPILER_BARRIER();
}

void gmem_poke_page(struct gmem *mem, uint64_t page, uint32_t offset,
    const void *src, size_t len)
{
    assert(pages_exist(mem, page, 1));
    assert(num_range_within(offset, len, NUM_PAGE_SIZE));
    memcpy(page_at(mem, page) + offset, src, len);
    COMPILER_BARRIER();
}

void gmem_peek_page(const struct gmem *mem, uint64_t page, uint32_t offset,
    void *dst, size_t len)
{
    assert(pages_exist(mem, page, 1));
    assert(num_range_within(offset, len, NUM_PAGE_SIZE));
    COMPILER_BARRIER();
    memcpy(dst, page_at(mem, page) + offset, len);
    COMPILER_BARRIER();
}

/* An old size of 0 makes a second mapping of shared pages (mremap(2)). */
int gmem_lay_page(struct gmem *mem, uint64_t page, const void *shared)
{
    void *from = (void *)(uintptr_t)shared;

    assert(pages_exist(mem, page, 1));
    if (mremap(from, 0, NUM_PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
            page_at(mem, page)) == MAP_FAILED)
        return -errno;
    return 0;
}

/*
 * hugetlbfs knows of no holes (SEEK_DATA), but what nobody has touched through
 * this mapping, as guest and devices all do, is in no page table of it either.
 */
static bool is_touched(const struct gmem *mem, uint64_t offset)
{
    unsigned char state;

    return mincore(mem->host + offset, NUM_PAGE_SIZE, &state) < 0 ||
           (state & 1) != 0;
}

static bool next_touched(const struct gmem *mem, uint64_t from,
    uint64_t *ret_first, uint64_t *ret_count)
{
    uint64_t at = from << NUM_PAGE_SHIFT;
    uint64_t end;

    while (at < mem->size && !is_touched(mem, at))
        at = num_align_down(at, GMEM_HUGE_SIZE) + GMEM_HUGE_SIZE;
    if (at >= mem->size)
        return false;
    end = num_align_down(at, GMEM_HUGE_SIZE) + GMEM_HUGE_SIZE;
    while (end < mem->size && is_touched(mem, end))
        end += GMEM_HUGE_SIZE;
    *ret_first = at >> NUM_PAGE_SHIFT;
    *ret_count = (end - at) >> NUM_PAGE_SHIFT;
    return true;
}

bool gmem_next_data(const struct gmem *mem, uint64_t from, uint64_t *ret_first,
    uint64_t *ret_count)
{
    uint64_t end = mem->size;
    off_t at = (off_t)(from << NUM_PAGE_SHIFT);
    off_t to;

    if (from >= gmem_page_count(mem))
        return false;
    if (mem->is_huge)
        return next_touched(mem, from, ret_first, ret_count);
    if (mem->fd >= 0) {
        at = lseek(mem->fd, at, SEEK_DATA);
        if (at < 0)
            return false;
        to = lseek(mem->fd, at, SEEK_HOLE);
        if (to >= 0)
            end = (uint64_t)to;
    }
    *ret_first = (uint64_t)at >> NUM_PAGE_SHIFT;
    *ret_count = num_div_up(end, NUM_PAGE_SIZE) - *ret_first;
    return true;
}

bool gmem_page_is_zero(const struct gmem *mem, uint64_t page)
{
    const uint8_t *p = page_at(mem, page);

    assert(pages_exist(mem, page, 1));
    return p[0] == 0 && memcmp(p, p + 1, NUM_PAGE_SIZE - 1) == 0;
}

bool gmem_page_equals(const struct gmem *mem, uint64_t page, const void *bytes)
{
    assert(pages_exist(mem, page, 1));
    return memcmp(page_at(mem, page), bytes, NUM_PAGE_SIZE) == 0;
}

struct iovec gmem_pages_iovec(
    const struct gmem *mem, uint64_t page, uint64_t count)
{
    assert(pages_exist(mem, page, count));
    return (struct iovec){
        .iov_base = page_at(mem, page), .iov_len = count << NUM_PAGE_SHIFT};
}

void gmem_fini(struct gmem *mem)
{
    if (mem->host != NULL)
        (void)munmap(mem->host, mem->size);
    bitmap_fini(&mem->dirty);
    fd_closep(&mem->fd);
    *mem = (struct gmem){.fd = -1};
}

uint64_t gmem_region_host(const struct gmem *mem, unsigned int i)
{
    assert(i < mem->region_count);
    return (uint64_t)(uintptr_t)mem->host + mem->regions[i].offset;
}

/* Offset of the range in the mapping: the one place that checks addresses. */
static bool locate(
    const struct gmem *mem, gpa_t at, uint64_t len, uint64_t *ret_offset)
{
    for (unsigned int i = 0; i < mem->region_count; i++) {
        const struct gmem_region *r = &mem->regions[i];

        if (at.v >= r->start.v &&
            num_range_within(at.v - r->start.v, len, r->size)) {
            *ret_offset = r->offset + (at.v - r->start.v);
            return true;
        }
    }
    return false;
}

bool gmem_page_of(const struct gmem *mem, gpa_t at, uint64_t *ret_page)
{
    uint64_t offset;

    if (!locate(mem, at, 1, &offset))
        return false;
    *ret_page = offset >> NUM_PAGE_SHIFT;
    return true;
}

static void mark(struct gmem *mem, uint64_t offset, uint64_t len)
{
    uint64_t first = offset >> NUM_PAGE_SHIFT;

    if (len != 0)
        bitmap_set(&mem->dirty, first,
            ((offset + len - 1) >> NUM_PAGE_SHIFT) - first + 1);
}

int gmem_read(const struct gmem *mem, gpa_t from, void *dst, size_t len)
{
    uint64_t offset;

    if (!locate(mem, from, len, &offset))
        return -EFAULT;
    COMPILER_BARRIER();
    memcpy(dst, mem->host + offset, len);
    COMPILER_BARRIER();
    return 0;
}

int gmem_write(struct gmem *mem, gpa_t to, const void *src, size_t len)
{
    uint64_t offset;

    if (!locate(mem, to, len, &offset))
        return -EFAULT;
    memcpy(mem->host + offset, src, len);
    COMPILER_BARRIER();
    mark(mem, offset, len);
    return 0;
}

int gmem_zero(struct gmem *mem, gpa_t at, uint64_t len)
{
    uint64_t offset;

    if (!locate(mem, at, len, &offset))
        return -EFAULT;
    memset(mem->host + offset, 0, len);
    mark(mem, offset, len);
    return 0;
}

/*
 * Private memory: giving pages back would bring an image's contents forth
 * again, so the range becomes fresh memory. When the process has no mapping
 * left for that it is zeroed, and keeps its pages.
 */
static void punch_private(struct gmem *mem, uint64_t offset, uint64_t len)
{
    void *p = mmap(mem->host + offset, len, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        memset(mem->host + offset, 0, len);
    else
        (void)madvise(p, len, MADV_DONTDUMP);
}

/*
 * Makes a hole of whole pages. Marked behind it, as every write, and also
 * where it fails half-way.
 */
static int punch(struct gmem *mem, uint64_t offset, uint64_t len)
{
    int rc;

    if (len == 0)
        return 0;
    if (mem->is_huge) {
        memset(mem->host + offset, 0, len);
        mark(mem, offset, len);
        return 0;
    }
    if (mem->fd < 0) {
        punch_private(mem, offset, len);
        mark(mem, offset, len);
        return 0;
    }
    do {
        rc = fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            (off_t)offset, (off_t)len);
    } while (rc < 0 && errno == EINTR);
    rc = rc < 0 ? -errno : 0;
    mark(mem, offset, len);
    return rc;
}

int gmem_discard(struct gmem *mem, gpa_t at, uint64_t len)
{
    uint64_t offset;

    if ((at.v | len) % NUM_PAGE_SIZE != 0)
        return -EINVAL;
    if (!locate(mem, at, len, &offset))
        return -EFAULT;
    return punch(mem, offset, len);
}

/*
 * File to file inside the kernel: half the time of reading into the mapping,
 * which takes a page fault per page (10 MiB: 8 ms against 16 where measured).
 * Bytes copied, or -errno; short at the end of the source.
 */
static ssize_t copy_in_kernel(
    const struct gmem *mem, uint64_t at, int fd, uint64_t offset, uint64_t len)
{
    off_t from = (off_t)offset;
    uint64_t done = 0;

    if (lseek(mem->fd, (off_t)at, SEEK_SET) < 0)
        return -errno;
    while (done < len) {
        ssize_t n = sendfile(mem->fd, fd, &from, len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (uint64_t)n;
    }
    return (ssize_t)done;
}

int gmem_read_file(
    struct gmem *mem, gpa_t to, int fd, uint64_t offset, uint64_t len)
{
    uint64_t at;
    ssize_t n;

    if (!locate(mem, to, len, &at))
        return -EFAULT;
    /* Nothing can be written to a hugetlbfs file but through a mapping. */
    n = len < BULK_BYTES || mem->fd < 0 || mem->is_huge
            ? -EINVAL
            : copy_in_kernel(mem, at, fd, offset, len);
    /* Sources that the kernel cannot splice from can still be read. */
    if (n < 0)
        n = fd_pread_full(fd, mem->host + at, len, offset);
    mark(mem, at, len);
    if (n < 0)
        return (int)n;
    return (uint64_t)n == len ? 0 : -ENODATA;
}

int gmem_slice(
    struct gmem *mem, gpa_t at, uint64_t len, struct gslice *ret_slice)
{
    uint64_t offset;

    if (!locate(mem, at, len, &offset))
        return -EFAULT;
    *ret_slice = (struct gslice){
        .host = mem->host + offset, .len = len, .offset = offset, .owner = mem};
    return 0;
}

void gslice_mark_dirty(const struct gslice *s, uint64_t offset, uint64_t len)
{
    assert(num_range_within(offset, len, s->len));
    mark(s->owner, s->offset + offset, len);
}

void gslice_write(
    const struct gslice *s, uint64_t offset, const void *src, size_t len)
{
    gslice_write_unmarked(s, offset, src, len);
    mark(s->owner, s->offset + offset, len);
}

void gslice_write_unmarked(
    const struct gslice *s, uint64_t offset, const void *src, size_t len)
{
    assert(num_range_within(offset, len, s->len));
    memcpy(s->host + offset, src, len);
    COMPILER_BARRIER();
}

int gslice_discard(const struct gslice *s, uint64_t offset, uint64_t len)
{
    uint64_t from = num_align_up(s->offset + offset, NUM_PAGE_SIZE);
    uint64_t to = num_align_down(s->offset + offset + len, NUM_PAGE_SIZE);

    assert(num_range_within(offset, len, s->len));
    return to > from ? punch(s->owner, from, to - from) : 0;
}

static uint16_t *u16_at(const struct gslice *s, uint64_t offset)
{
    assert(num_range_within(offset, sizeof(uint16_t), s->len));
    assert((uintptr_t)(s->host + offset) % sizeof(uint16_t) == 0);
    return (uint16_t *)(void *)(s->host + offset);
}

uint16_t gslice_load_u16_acquire(const struct gslice *s, uint64_t offset)
{
    return __atomic_load_n(u16_at(s, offset), __ATOMIC_ACQUIRE);
}

void gslice_store_u16_release(
    const struct gslice *s, uint64_t offset, uint16_t value)
{
    __atomic_store_n(u16_at(s, offset), value, __ATOMIC_RELEASE);
    mark(s->owner, s->offset + offset, sizeof(value));
}

void gslice_publish(const struct gslice *s, uint64_t at, const void *entry,
    size_t len, uint64_t index_at, uint16_t index)
{
    uint64_t first = (s->offset + index_at) >> NUM_PAGE_SHIFT;
    uint64_t last = (s->offset + at + len - 1) >> NUM_PAGE_SHIFT;

    assert(index_at < at && num_range_within(at, len, s->len));
    memcpy(s->host + at, entry, len);
    __atomic_store_n(u16_at(s, index_at), index, __ATOMIC_RELEASE);
    /* A large ring has pages between the two. */
    if (last - first <= 1) {
        bitmap_set(&s->owner->dirty, first, last - first + 1);
    } else {
        mark(s->owner, s->offset + index_at, sizeof(index));
        mark(s->owner, s->offset + at, len);
    }
}

bool gmem_take_dirty(struct gmem *mem, size_t *word, uint64_t *ret_bits)
{
    return bitmap_take(&mem->dirty, word, ret_bits);
}
