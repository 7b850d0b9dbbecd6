/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/dirty.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define WORD_PAGES 64u

/* A list that was longer gives its memory back when it fills anew. */
#define LIST_KEEP ((size_t)64 * 1024)

_Static_assert((GMEM_GAP_START >> NUM_PAGE_SHIFT) % WORD_PAGES == 0,
    "a memslot's bitmap and the file's have their words in common");

static uint64_t page_count(const struct dirty *t)
{
    return t->mem->size >> NUM_PAGE_SHIFT;
}

static void *reserve(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static uint64_t log_bytes(const struct dirty *t)
{
    return num_div_up(page_count(t), WORD_PAGES) * sizeof(uint64_t);
}

static uint64_t list_bytes(const struct dirty *t)
{
    return page_count(t) * sizeof(uint32_t);
}

static int choose(const struct dirty_config *config, const struct kvm *kvm,
    enum dirty_method *ret_method, struct err *err)
{
    enum dirty_method want = config->method;
    int manual = kvm_extension(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
    bool has_bitmap = (manual & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0;
    bool has_ring = kvm_extension(kvm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL) > 0;
    bool overflows = kvm->features.ring0_emulated && !config->ring_anyway;

    if (want == DIRTY_AUTO)
        want = has_bitmap || !has_ring ? DIRTY_BITMAP : DIRTY_RING;
    if (want == DIRTY_RING && !has_ring)
        return err_set(err, ENOTSUP,
            "this KVM has no dirty ring: use Linux 6.1 or later, or the "
            "bitmap");
    if (want == DIRTY_RING && overflows)
        return err_set(err, ENOTSUP,
            "this host's KVM interprets guest kernels and its dirty ring "
            "overflows: use the bitmap");
    if (want == DIRTY_BITMAP && !has_bitmap)
        return err_set(err, ENOTSUP,
            "this KVM cannot protect pages on demand: use Linux 5.2 or later, "
            "or the dirty ring");
    *ret_method = want;
    return 0;
}

static int enable(struct dirty *t, struct err *err)
{
    struct kvm_enable_cap cap = {0};
    int room;

    if (t->method == DIRTY_BITMAP) {
        cap.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
        cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
    } else {
        room = kvm_extension(t->vm->kvm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
        if (!num_is_pow2(t->ring_entries) ||
            t->ring_entries > (uint32_t)room / sizeof(struct kvm_dirty_gfn))
            return err_set(err, EINVAL,
                "a dirty ring of %u entries: it must be a power of two, up to "
                "%u",
                t->ring_entries,
                (uint32_t)room / (uint32_t)sizeof(struct kvm_dirty_gfn));
        cap.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
        cap.args[0] = t->ring_entries * sizeof(struct kvm_dirty_gfn);
    }
    if (ioctl(t->vm->fd, KVM_ENABLE_CAP, &cap) < 0)
        return err_sys(err, errno, "KVM does not log dirty pages by %s",
            t->method == DIRTY_RING ? "ring" : "bitmap");
    return 0;
}

int dirty_init(struct dirty *t, struct kvm_vm *vm, struct gmem *mem,
    const struct dirty_config *config, struct err *err)
{
    enum dirty_method method;
    int rc = choose(config, vm->kvm, &method, err);

    *t = (struct dirty){0};
    if (rc < 0)
        return rc;
    assert(!config->from_start || !vm->has_memory);
    *t = (struct dirty){.vm = vm,
        .mem = mem,
        .method = method,
        .ring_entries = config->ring_entries == 0 ? DIRTY_RING_ENTRIES
                                                  : config->ring_entries,
        .lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER};
    rc = enable(t, err);
    if (rc < 0)
        goto fail;
    t->log = reserve(log_bytes(t));
    t->lists[0] = reserve(list_bytes(t));
    t->lists[1] = reserve(list_bytes(t));
    if (t->log == NULL || t->lists[0] == NULL || t->lists[1] == NULL ||
        bitmap_init(&t->hot, page_count(t)) < 0 ||
        bitmap_init(&t->seen, page_count(t)) < 0) {
        rc = err_sys(err, ENOMEM, "cannot map the lists of dirty pages");
        goto fail;
    }
    if (config->from_start) {
        vm->log_dirty = true;
        t->is_on = true;
    }
    return 0;
fail:
    dirty_fini(t);
    return rc;
}

static uint64_t ring_bytes(const struct dirty *t)
{
    return t->ring_entries * sizeof(struct kvm_dirty_gfn);
}

void dirty_fini(struct dirty *t)
{
    if (t->vm == NULL)
        return;
    for (uint32_t i = 0; i < t->ring_count; i++)
        (void)munmap(t->rings[i].entries, ring_bytes(t));
    if (t->log != NULL)
        (void)munmap(t->log, log_bytes(t));
    for (size_t i = 0; i < ARRAY_SIZE(t->lists); i++) {
        if (t->lists[i] != NULL)
            (void)munmap(t->lists[i], list_bytes(t));
    }
    bitmap_fini(&t->hot);
    bitmap_fini(&t->seen);
    *t = (struct dirty){0};
}

int dirty_add_vcpu(struct dirty *t, int vcpu_fd, struct err *err)
{
    void *p;

    if (t->method != DIRTY_RING)
        return 0;
    assert(t->ring_count < LAYOUT_VCPUS_MAX);
    p = mmap(NULL, ring_bytes(t), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd,
        (off_t)(KVM_DIRTY_LOG_PAGE_OFFSET * NUM_PAGE_SIZE));
    if (p == MAP_FAILED)
        return err_sys(err, errno, "cannot map a dirty ring");
    t->rings[t->ring_count++] = (struct dirty_ring){.entries = p};
    return 0;
}

/* Only ever under the lock: no atomics. */
static void note(struct dirty *t, uint64_t page)
{
    uint64_t *word = &t->seen.words[page / WORD_PAGES];
    uint64_t bit = UINT64_C(1) << (page % WORD_PAGES);

    if ((*word & bit) != 0)
        return;
    *word |= bit;
    t->lists[t->filling][t->count++] = (uint32_t)page;
}

static void note_word(struct dirty *t, uint64_t word, uint64_t bits)
{
    while (bits != 0) {
        note(t, word * WORD_PAGES + (uint64_t)__builtin_ctzll(bits));
        bits &= bits - 1;
    }
}

/*
 * Takes what is in one ring: how many entries. Each is given back with the
 * flag that lets KVM protect its page and use the entry anew.
 */
static uint32_t collect(struct dirty *t, struct dirty_ring *ring)
{
    uint32_t mask = t->ring_entries - 1;
    uint32_t n = 0;

    for (; n < t->ring_entries; n++) {
        struct kvm_dirty_gfn *e = &ring->entries[ring->next & mask];
        uint32_t slot;
        uint64_t offset;

        if (__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) !=
            KVM_DIRTY_GFN_F_DIRTY)
            break;
        slot = e->slot;
        offset = e->offset;
        if (slot < t->mem->region_count &&
            offset < t->mem->regions[slot].size >> NUM_PAGE_SHIFT)
            note(t, (t->mem->regions[slot].offset >> NUM_PAGE_SHIFT) + offset);
        __atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
        ring->next++;
    }
    return n;
}

/*
 * Has KVM protect what was collected. Linux 6.16 and later stop at a pending
 * signal, and then leave the last pages that they counted unprotected: so
 * none may come in, and a count that is short is an error.
 */
static int reset_rings(struct dirty *t, uint64_t count)
{
    sigset_t all;
    sigset_t before;
    int rc;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = ioctl(t->vm->fd, KVM_RESET_DIRTY_RINGS, 0L);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc >= 0 && (uint64_t)rc == count ? 0 : -EIO;
}

/*
 * A ring that is full to the brim has been written over: KVM promises to stop
 * the vCPU well before that.
 */
static int drain_rings(struct dirty *t)
{
    uint64_t count = 0;
    int rc = 0;

    for (uint32_t i = 0; i < t->ring_count; i++) {
        uint32_t n = collect(t, &t->rings[i]);

        count += n;
        if (n == t->ring_entries)
            t->has_failed = true;
    }
    if (count > 0 && !t->has_failed)
        rc = reset_rings(t, count);
    if (rc < 0)
        t->has_failed = true;
    return t->has_failed ? -EIO : 0;
}

/*
 * Clears and protects the pages that are set in words [first, last] of the
 * log of slot `i`. One call: what lies between costs KVM a look at a word.
 */
static int protect(struct dirty *t, uint32_t i, uint64_t first, uint64_t last)
{
    uint64_t pages = t->mem->regions[i].size >> NUM_PAGE_SHIFT;
    uint64_t from = first * WORD_PAGES;
    struct kvm_clear_dirty_log clear = {.slot = i,
        .first_page = from,
        .num_pages =
            (uint32_t)num_min((last - first + 1) * WORD_PAGES, pages - from),
        .dirty_bitmap = t->log + first};

    return ioctl(t->vm->fd, KVM_CLEAR_DIRTY_LOG, &clear) < 0 ? -EIO : 0;
}

/* The next word of the log at or after `w` that is not 0, or `words`. */
static uint64_t next_word(const uint64_t *log, uint64_t w, uint64_t words)
{
    while (w + 8 <= words &&
           (log[w] | log[w + 1] | log[w + 2] | log[w + 3] | log[w + 4] |
               log[w + 5] | log[w + 6] | log[w + 7]) == 0)
        w += 8;
    while (w < words && log[w] == 0)
        w++;
    return w;
}

static int harvest_slot(struct dirty *t, uint32_t i)
{
    const struct gmem_region *region = &t->mem->regions[i];
    uint64_t base = (region->offset >> NUM_PAGE_SHIFT) / WORD_PAGES;
    uint64_t words = num_div_up(region->size >> NUM_PAGE_SHIFT, WORD_PAGES);
    struct kvm_dirty_log get = {.slot = i, .dirty_bitmap = t->log};
    uint64_t first = words;
    uint64_t last = 0;

    if (ioctl(t->vm->fd, KVM_GET_DIRTY_LOG, &get) < 0)
        return -EIO;
    for (uint64_t w = next_word(t->log, 0, words); w < words;
         w = next_word(t->log, w + 1, words)) {
        t->log[w] &= ~t->hot.words[base + w];
        if (t->log[w] == 0)
            continue;
        first = num_min(first, w);
        last = w;
        note_word(t, base + w, t->log[w]);
    }
    return first < words ? protect(t, i, first, last) : 0;
}

static int harvest_guest(struct dirty *t)
{
    int rc = 0;

    if (t->method == DIRTY_RING)
        return drain_rings(t);
    for (uint32_t i = 0; rc == 0 && i < t->mem->region_count; i++)
        rc = harvest_slot(t, i);
    return rc;
}

static void harvest_monitor(struct dirty *t)
{
    uint64_t bits;

    for (size_t word = 0; gmem_take_dirty(t->mem, &word, &bits); word++)
        note_word(t, word, bits & ~t->hot.words[word]);
}

/* Lends the list that has filled and begins the other. */
static void swap_lists(struct dirty *t)
{
    const uint32_t *list = t->lists[t->filling];
    size_t before = t->lent;

    for (size_t i = 0; i < t->count; i++)
        t->seen.words[list[i] / WORD_PAGES] &=
            ~(UINT64_C(1) << (list[i] % WORD_PAGES));
    t->filling ^= 1;
    if (before > LIST_KEEP)
        (void)madvise(t->lists[t->filling], list_bytes(t), MADV_DONTNEED);
    t->lent = t->count;
    t->count = 0;
}

int dirty_harvest(
    struct dirty *t, struct dirty_pages *ret_pages, struct err *err)
{
    int rc;

    (void)pthread_mutex_lock(&t->lock);
    assert(t->is_on);
    rc = harvest_guest(t);
    if (rc == 0) {
        harvest_monitor(t);
        swap_lists(t);
        *ret_pages = (struct dirty_pages){
            .pages = t->lists[t->filling ^ 1], .count = t->lent};
    }
    (void)pthread_mutex_unlock(&t->lock);
    if (t->has_failed)
        return err_set(err, EIO,
            "a dirty ring overflowed: save all of memory, and use the bitmap "
            "or larger rings");
    if (rc < 0)
        return err_sys(err, rc, "KVM does not give its dirty pages");
    return 0;
}

/* Forgets all that was counted, the monitor's own writes among it. */
static int forget(struct dirty *t)
{
    int rc = t->method == DIRTY_RING ? drain_rings(t) : 0;

    harvest_monitor(t);
    swap_lists(t);
    t->lent = 0;
    return rc;
}

static int set_logging(struct dirty *t, bool on, struct err *err)
{
    int rc = 0;

    (void)pthread_mutex_lock(&t->lock);
    if (t->is_on != on) {
        rc = kvm_vm_log_memory(t->vm, t->mem, on, err);
        if (rc == 0 && forget(t) < 0)
            rc = err_set(err, EIO, "KVM does not empty its dirty ring");
        if (rc == 0)
            t->is_on = on;
    }
    (void)pthread_mutex_unlock(&t->lock);
    return rc;
}

/*
 * KVM logs first and then the slate is wiped of what the monitor wrote before
 * that; the guest's pages are protected by KVM as it begins to log.
 */
int dirty_start(struct dirty *t, struct err *err)
{
    return set_logging(t, true, err);
}

int dirty_stop(struct dirty *t, struct err *err)
{
    return set_logging(t, false, err);
}

int dirty_set_hot(
    struct dirty *t, const uint32_t *pages, size_t count, struct err *err)
{
    if (t->method != DIRTY_BITMAP)
        return err_set(err, ENOTSUP,
            "a dirty ring cannot leave pages writable: use the bitmap");
    for (size_t i = 0; i < count; i++) {
        if (pages[i] >= page_count(t))
            return err_set(err, EINVAL, "page %u is not RAM", pages[i]);
    }
    (void)pthread_mutex_lock(&t->lock);
    bitmap_clear_all(&t->hot);
    for (size_t i = 0; i < count; i++)
        bitmap_set(&t->hot, pages[i], 1);
    (void)pthread_mutex_unlock(&t->lock);
    return 0;
}

int dirty_ring_full(struct dirty *t)
{
    int rc;

    (void)pthread_mutex_lock(&t->lock);
    t->ring_full++;
    rc = drain_rings(t);
    (void)pthread_mutex_unlock(&t->lock);
    return rc;
}
