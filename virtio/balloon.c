/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/balloon.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "virtio/iov.h"
#include "vmm/base/clock.h"
#include "vmm/base/num.h"

#define QUEUE_SIZE 128u

/* Page frame numbers that are looked at together; Linux sends as many. */
#define BATCH 256u

/*
 * The I/O thread has others to serve. A round ends with the batch or block in
 * which it has come to so many pages, or to so many separate ranges: each is
 * a system call of some microseconds.
 */
#define ROUND_PAGES    4096u
#define ROUND_DISCARDS 256u
#define ROUND_CHAINS   QUEUE_SIZE

/* Entries of statistics that are looked at; the rest are tags to come. */
#define STATS_MAX 64u

struct round {
    uint64_t pages;
    uint64_t discards;
    unsigned int chains;
};

/* What became of a chain. */
enum outcome {
    FINISHED,
    UNFINISHED, /* the round is over; `done` says where to go on */
    KEPT,       /* stays in the queue until the host wants it */
    BROKEN,     /* virtio_fail is called */
};

static struct balloon *from_virtio(struct virtio_device *v)
{
    return container_of(v, struct balloon, virtio);
}

static const uint64_t role_features[BALLOON_ROLES] = {
    [BALLOON_STATS] = BALLOON_F_STATS_VQ,
    [BALLOON_HINT] = BALLOON_F_FREE_PAGE_HINT,
    [BALLOON_REPORT] = BALLOON_F_PAGE_REPORTING,
};

/* What `queue` is for; BALLOON_ROLES if it is not in use. */
static enum balloon_role role_of(const struct balloon *b, unsigned int queue)
{
    enum balloon_role role = BALLOON_INFLATE;

    while (role < BALLOON_ROLES) {
        if (virtio_has(&b->virtio, role_features[role]) && queue-- == 0)
            break;
        role++;
    }
    return role;
}

/* Inflate and deflate come before it, and always are. */
#define STATS_QUEUE 2u

static bool is_over(const struct round *round)
{
    return round->pages >= ROUND_PAGES || round->discards >= ROUND_DISCARDS;
}

/* Counts a discard; a host that cannot do it keeps the pages, no more. */
static bool count_discard(
    struct balloon *b, struct round *round, uint64_t len, int rc)
{
    round->discards++;
    b->stats.discards++;
    if (rc < 0) {
        b->stats.failed++;
        b->virtio.stats.errors++;
        return false;
    }
    b->virtio.stats.bytes += len;
    return true;
}

/*
 * Shell's sort: what a driver sends is in long runs up or down, and qsort(3)
 * may allocate and ask the system how much there is.
 */
static void sort_pfns(uint32_t *pfns, size_t n)
{
    static const size_t gaps[] = {57, 23, 10, 4, 1};

    for (size_t g = 0; g < ARRAY_SIZE(gaps); g++) {
        size_t gap = gaps[g];

        for (size_t i = gap; i < n; i++) {
            uint32_t v = pfns[i];
            size_t k = i;

            for (; k >= gap && pfns[k - gap] > v; k -= gap)
                pfns[k] = pfns[k - gap];
            pfns[k] = v;
        }
    }
}

static bool is_ram(const struct balloon *b, gpa_t at, uint64_t len)
{
    struct gslice slice;

    return gmem_slice(b->virtio.host.mem, at, len, &slice) == 0;
}

/*
 * Works on a batch of page frame numbers, run by run; they may come in any
 * order and more than once. False if one is no page of RAM.
 */
static bool work_on_pfns(struct balloon *b, enum balloon_role role,
    const le32 *wire, size_t n, struct round *round)
{
    uint32_t pfns[BATCH];
    size_t next;

    for (size_t i = 0; i < n; i++)
        pfns[i] = le32_get(wire[i]);
    sort_pfns(pfns, n);
    for (size_t i = 0; i < n; i = next) {
        gpa_t at = gpa((uint64_t)pfns[i] << BALLOON_PFN_SHIFT);
        uint64_t len;

        for (next = i + 1; next < n && pfns[next] - pfns[next - 1] <= 1;)
            next++;
        len = ((uint64_t)pfns[next - 1] - pfns[i] + 1) << BALLOON_PFN_SHIFT;
        if (!is_ram(b, at, len))
            return false;
        if (role == BALLOON_INFLATE)
            (void)count_discard(
                b, round, len, gmem_discard(b->virtio.host.mem, at, len));
    }
    round->pages += n;
    return true;
}

/* 5.5.6.1: an array of page frame numbers, readable. */
static enum outcome move_pages(struct balloon *b, enum balloon_role role,
    const struct queue_chain *chain, struct round *round)
{
    struct iov_cursor from = iov_readable(chain);
    uint64_t *count =
        role == BALLOON_INFLATE ? &b->stats.inflated : &b->stats.deflated;
    le32 pfns[BATCH];
    bool ok = true;

    if (chain->writable_count != 0 ||
        chain->readable_bytes % sizeof(pfns[0]) != 0) {
        virtio_fail(&b->virtio, "balloon pages that are no array of numbers");
        return BROKEN;
    }
    /* A chain that became shorter meanwhile has nothing left in it. */
    if (b->state.done[role] % sizeof(pfns[0]) != 0 ||
        !iov_skip(&from, b->state.done[role]))
        return FINISHED;
    while (from.left > 0) {
        size_t bytes = num_min(from.left, sizeof(pfns));
        size_t n = bytes / sizeof(pfns[0]);

        if (is_over(round))
            return UNFINISHED;
        ok = iov_read(&from, pfns, bytes);
        assert(ok);
        if (!work_on_pfns(b, role, pfns, n, round)) {
            virtio_fail(&b->virtio, "balloon page outside RAM");
            return BROKEN;
        }
        *count += n;
        b->state.done[role] += (uint32_t)bytes;
    }
    return FINISHED;
}

/*
 * Gives back what the writable part of a chain covers, in pieces that end a
 * round at the latest when ROUND_PAGES are exceeded by one piece.
 */
static enum outcome discard_writable(struct balloon *b, enum balloon_role role,
    const struct queue_chain *chain, struct round *round)
{
    uint64_t *count =
        role == BALLOON_HINT ? &b->stats.hinted : &b->stats.reported;
    struct iov_cursor at = iov_writable(chain);

    if (!iov_skip(&at, b->state.done[role]))
        return FINISHED;
    while (at.left > 0) {
        uint64_t n =
            num_min(at.slice->len - at.offset, ROUND_PAGES * NUM_PAGE_SIZE);
        bool ok;

        if (is_over(round))
            return UNFINISHED;
        if (count_discard(b, round, n, gslice_discard(at.slice, at.offset, n)))
            *count += n / NUM_PAGE_SIZE;
        round->pages += n / NUM_PAGE_SIZE;
        b->state.done[role] += (uint32_t)n;
        ok = iov_skip(&at, n);
        assert(ok);
        (void)ok;
    }
    return FINISHED;
}

static enum outcome report(
    struct balloon *b, const struct queue_chain *chain, struct round *round)
{
    if (chain->readable_count != 0) {
        virtio_fail(&b->virtio, "report of free pages that is readable");
        return BROKEN;
    }
    return discard_writable(b, BALLOON_REPORT, chain, round);
}

static void set_host_cmd(struct balloon *b, uint32_t cmd)
{
    b->state.host_cmd = cmd;
    if (virtio_has(&b->virtio, BALLOON_F_FREE_PAGE_HINT))
        virtio_config_changed(&b->virtio);
}

/* 5.5.6.5: a command id, readable, starts and ends what is writable. */
static enum outcome hint(
    struct balloon *b, const struct queue_chain *chain, struct round *round)
{
    struct balloon_state *st = &b->state;
    struct iov_cursor from = iov_readable(chain);
    le32 cmd;

    if (chain->readable_count != 0) {
        if (from.left != sizeof(cmd) || !iov_read(&from, &cmd, sizeof(cmd))) {
            virtio_fail(&b->virtio, "hint that is no command id");
            return BROKEN;
        }
        st->guest_cmd = le32_get(cmd);
        if (st->guest_cmd == BALLOON_CMD_STOP && st->ack_stop != 0 &&
            st->host_cmd >= BALLOON_CMD_FIRST)
            set_host_cmd(b, BALLOON_CMD_DONE);
    }
    if (chain->writable_count == 0)
        return FINISHED;
    if (st->host_cmd < BALLOON_CMD_FIRST || st->guest_cmd != st->host_cmd) {
        b->stats.stale++;
        return FINISHED;
    }
    return discard_writable(b, BALLOON_HINT, chain, round);
}

static void arm(struct balloon *b)
{
    if (b->virtio.host.loop != NULL)
        loop_timer_arm(b->virtio.host.loop, &b->timer,
            clock_now_ns() + b->interval_ms * CLOCK_NS_PER_MS);
}

/* 5.5.6.3: entries of any order; tags that are not known are passed over. */
static enum outcome take_stats(
    struct balloon *b, const struct queue_chain *chain)
{
    struct iov_cursor from = iov_readable(chain);
    struct balloon_stat entry;

    if (chain->writable_count != 0 ||
        chain->readable_bytes % sizeof(entry) != 0) {
        virtio_fail(&b->virtio, "balloon statistics of a bad size");
        return BROKEN;
    }
    b->guest = (struct balloon_guest_stats){.updates = b->guest.updates + 1};
    for (unsigned int i = 0;
         i < STATS_MAX && iov_read(&from, &entry, sizeof(entry)); i++) {
        uint16_t tag = le16_get(entry.tag);

        if (tag >= BALLOON_TAGS)
            continue;
        b->guest.values[tag] = le64_get(entry.value);
        b->guest.present |= UINT32_C(1) << tag;
    }
    if (!b->timer.armed)
        arm(b);
    return KEPT;
}

static enum outcome work_on(struct balloon *b, enum balloon_role role,
    const struct queue_chain *chain, struct round *round)
{
    switch (role) {
    case BALLOON_INFLATE:
    case BALLOON_DEFLATE:
        return move_pages(b, role, chain, round);
    case BALLOON_STATS:
        return take_stats(b, chain);
    case BALLOON_HINT:
        return hint(b, chain, round);
    case BALLOON_REPORT:
        return report(b, chain, round);
    case BALLOON_ROLES:
    default:
        virtio_fail(&b->virtio, "use of a queue that was not negotiated");
        return BROKEN;
    }
}

static void balloon_kick(struct virtio_device *v, unsigned int queue)
{
    struct balloon *b = from_virtio(v);
    enum balloon_role role = role_of(b, queue);
    enum outcome outcome = FINISHED;
    struct queue_chain *chain = NULL;
    struct round round = {0};

    virtio_begin_batch(v, queue);
    while (outcome == FINISHED && round.chains++ < ROUND_CHAINS &&
           (chain = virtio_pop(v, queue)) != NULL) {
        outcome = work_on(b, role, chain, &round);
        if (outcome == FINISHED) {
            b->state.done[role] = 0;
            virtio_push(v, queue, chain, 0);
        } else {
            virtio_unpop(v, queue, chain);
        }
    }
    virtio_notify(v, queue);
    /* A kept chain is work that no kick is wanted for. */
    if (outcome != KEPT)
        virtio_end_batch(v, queue, chain != NULL);
}

bool balloon_poll_stats(struct balloon *b)
{
    struct virtio_device *v = &b->virtio;
    struct queue_chain *chain;

    if (!virtio_has(v, BALLOON_F_STATS_VQ))
        return false;
    chain = virtio_pop(v, STATS_QUEUE);
    if (chain == NULL)
        return false;
    virtio_push(v, STATS_QUEUE, chain, 0);
    virtio_notify(v, STATS_QUEUE);
    virtio_end_batch(v, STATS_QUEUE, false);
    return true;
}

/* Ends when the driver is gone; its next statistics start it again. */
static void on_timer(void *opaque)
{
    struct balloon *b = opaque;

    (void)balloon_poll_stats(b);
    if (!b->timer.armed && virtio_has(&b->virtio, BALLOON_F_STATS_VQ) &&
        virtio_queue_live(&b->virtio, STATS_QUEUE))
        arm(b);
}

static void balloon_read_config(const struct virtio_device *v, uint64_t offset,
    uint8_t *ret_data, uint32_t len)
{
    const struct balloon_state *st = v->base.state;
    const struct balloon_config_space image = {
        .num_pages = le32_put(st->target),
        .actual = le32_put(st->actual),
        .free_page_hint_cmd_id = le32_put(st->host_cmd)};

    virtio_config_copy(&image, sizeof(image), offset, ret_data, len);
}

/* 5.5.4: `actual` is the driver's, all else is not. */
static void balloon_write_config(
    struct virtio_device *v, uint64_t offset, const uint8_t *data, uint32_t len)
{
    struct balloon *b = from_virtio(v);
    uint64_t at = offsetof(struct balloon_config_space, actual);
    le32 actual;

    if (offset != at || len != sizeof(actual))
        return;
    memcpy(actual.b, data, sizeof(actual));
    b->state.actual = le32_get(actual);
}

/*
 * No chain is kept, but some may be half done. A queue that is taken away
 * takes that along; for the others it means to do a part twice, which is
 * harmless as long as the chain is still the device's.
 */
static void balloon_drain(struct virtio_device *v)
{
    struct balloon *b = from_virtio(v);

    if (!v->quiesced)
        memset(b->state.done, 0, sizeof(b->state.done));
}

static uint64_t ram_pages(const struct balloon *b)
{
    return b->virtio.host.mem->size >> BALLOON_PFN_SHIFT;
}

/*
 * The target is the host's and stays, unless it came with a state that was
 * refused and can be none.
 */
static void balloon_reset(struct virtio_device *v)
{
    struct balloon *b = from_virtio(v);

    if (b->state.target > ram_pages(b))
        b->state.target = 0;
    b->state.reserved = 0;
    memset(b->state.done, 0, sizeof(b->state.done));
    b->state.actual = 0;
    b->state.host_cmd = BALLOON_CMD_STOP;
    b->state.guest_cmd = BALLOON_CMD_STOP;
    b->state.ack_stop = 0;
    b->guest = (struct balloon_guest_stats){.updates = b->guest.updates};
}

/* guest_cmd, actual and `done` may be anything a driver can make them. */
static int balloon_post_load(struct virtio_device *v, struct err *err)
{
    struct balloon *b = from_virtio(v);
    const struct balloon_state *st = &b->state;
    const char *fault = NULL;

    if (st->target > ram_pages(b))
        fault = "its target is beyond the memory of the guest";
    else if (st->ack_stop > 1 || st->reserved != 0)
        fault = "unknown bits in its state";
    else if (st->host_cmd >= BALLOON_CMD_FIRST && st->host_cmd != st->last_cmd)
        fault = "a run of hints that was never started";
    b->guest = (struct balloon_guest_stats){0};
    if (fault == NULL)
        return 0;
    return err_set(err, EINVAL, "device %s: %s", v->base.id, fault);
}

static const struct virtio_ops balloon_ops = {
    .device_id = VIRTIO_ID_BALLOON,
    .queue_count = BALLOON_ROLES,
    .request_size = sizeof(struct queue_chain),
    .kick = balloon_kick,
    .read_config = balloon_read_config,
    .write_config = balloon_write_config,
    .drain = balloon_drain,
    .reset = balloon_reset,
    .post_load = balloon_post_load,
};

static const struct state_field balloon_fields[] = {
    VIRTIO_STATE_FIELDS(struct balloon_state, virtio),
    STATE_SCALAR(struct balloon_state, target, 1),
    STATE_SCALAR(struct balloon_state, actual, 1),
    STATE_SCALAR(struct balloon_state, host_cmd, 1),
    STATE_SCALAR(struct balloon_state, guest_cmd, 1),
    STATE_SCALAR(struct balloon_state, last_cmd, 1),
    STATE_SCALAR(struct balloon_state, ack_stop, 1),
    STATE_ARRAY(struct balloon_state, done, 1),
    STATE_SCALAR(struct balloon_state, reserved, 1),
};

static const struct state_desc balloon_desc =
    STATE_DESC(struct balloon_state, "virtio-balloon", 1, balloon_fields);

static const struct device_ops balloon_device_ops = {
    .state = &balloon_desc,
    VIRTIO_DEVICE_OPS,
};

static int check_target(const struct gmem *mem, uint64_t pages, struct err *err)
{
    uint64_t most = mem->size >> BALLOON_PFN_SHIFT;

    if (pages <= most)
        return 0;
    return err_set(err, EINVAL, "a balloon of %llu pages: the guest has %llu",
        (unsigned long long)pages, (unsigned long long)most);
}

static int check_interval(uint64_t interval_ms, struct err *err)
{
    if (interval_ms <= BALLOON_INTERVAL_MS_MAX)
        return 0;
    return err_set(err, EINVAL,
        "balloon statistics every %llu ms: the longest is a day",
        (unsigned long long)interval_ms);
}

int balloon_init(struct balloon *b, const struct balloon_config *config,
    const struct virtio_host *host, struct err *err)
{
    static const uint16_t sizes[BALLOON_ROLES] = {
        QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE};
    struct virtio_config virtio = {.ops = &balloon_ops,
        .device_ops = &balloon_device_ops,
        .id = config->id,
        .state = &b->state.virtio,
        .queue_sizes = sizes};
    int rc = check_target(host->mem, config->target, err);

    *b = (struct balloon){.interval_ms = config->stats_interval_ms,
        .timer = {.fire = on_timer, .opaque = b, .dev = &b->virtio.base}};
    if (rc == 0)
        rc = check_interval(config->stats_interval_ms, err);
    if (rc < 0)
        return rc;
    if (config->stats_interval_ms != 0)
        virtio.features |= BALLOON_F_STATS_VQ;
    if (config->deflate_on_oom)
        virtio.features |= BALLOON_F_DEFLATE_ON_OOM;
    if (config->page_hinting)
        virtio.features |= BALLOON_F_FREE_PAGE_HINT;
    if (config->page_reporting)
        virtio.features |= BALLOON_F_PAGE_REPORTING;
    b->state.target = (uint32_t)config->target;
    return virtio_init(&b->virtio, &virtio, host, err);
}

void balloon_fini(struct balloon *b)
{
    if (b->virtio.host.loop != NULL)
        loop_timer_disarm(b->virtio.host.loop, &b->timer);
    virtio_fini(&b->virtio);
}

int balloon_set_target(struct balloon *b, uint64_t pages, struct err *err)
{
    int rc = check_target(b->virtio.host.mem, pages, err);

    if (rc < 0)
        return rc;
    if (b->state.target != pages) {
        b->state.target = (uint32_t)pages;
        virtio_config_changed(&b->virtio);
    }
    return 0;
}

int balloon_set_interval(
    struct balloon *b, uint64_t interval_ms, struct err *err)
{
    int rc = check_interval(interval_ms, err);

    if (rc < 0)
        return rc;
    if ((b->virtio.features & BALLOON_F_STATS_VQ) == 0)
        return err_set(
            err, EOPNOTSUPP, "the balloon was made without statistics");
    if (interval_ms == 0)
        return err_set(err, EINVAL,
            "balloon statistics cannot be switched off while the guest runs");
    b->interval_ms = interval_ms;
    if (b->timer.armed)
        arm(b);
    return 0;
}

int balloon_start_hinting(struct balloon *b, bool ack_stop, struct err *err)
{
    struct balloon_state *st = &b->state;

    if (!virtio_is_live(&b->virtio) ||
        !virtio_has(&b->virtio, BALLOON_F_FREE_PAGE_HINT))
        return err_set(err, EOPNOTSUPP,
            "the guest's balloon gives no hints of free pages");
    /* 5.5.6.5: another id than that of the run before, and no reserved one. */
    st->last_cmd =
        st->last_cmd < BALLOON_CMD_FIRST || st->last_cmd == UINT32_MAX
            ? BALLOON_CMD_FIRST
            : st->last_cmd + 1;
    st->ack_stop = ack_stop;
    set_host_cmd(b, st->last_cmd);
    return 0;
}

void balloon_stop_hinting(struct balloon *b)
{
    if (b->state.host_cmd >= BALLOON_CMD_FIRST)
        set_host_cmd(b, BALLOON_CMD_DONE);
}
