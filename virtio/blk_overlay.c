/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/blk_overlay.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/blk_overlay_clusters.h"
#include "virtio/blk_overlay_flush.h"
#include "vmm/base/num.h"

/* Requests that are more than one operation, at once; the others wait. */
#define TASKS 32u

/* What a chain can be cut into, and an edge in front and behind. */
#define IOV_MAX_TASK (BLK_QUEUE_SIZE_MAX + 2u)

enum task_step {
    TASK_START,
    TASK_TAIL,      /* write: bring what follows it in its last cluster */
    TASK_WRITE,     /* write: all of it */
    TASK_FILL,      /* zero: the cluster is there, zero part of it */
    TASK_FILLED,    /* zero: change the map */
    TASK_NEXT_EDGE, /* zero: the same for the other end */
    TASK_DONE,      /* write: what is left is the map */
};

struct blk_overlay_task {
    struct blk_overlay *owner;
    struct blk_io *io;
    struct blk_overlay_task *next;
    int (*advance)(struct blk_overlay_task *t);
    enum task_step step;
    uint64_t first; /* clusters */
    uint64_t last;
    bool exclusive; /* no other write touches these clusters */
    bool running;
    bool again;
    int rc;          /* of the child */
    uint64_t at;     /* read: bytes that are there */
    uint64_t iov_at; /* read: in the current iovec of the request */
    unsigned int iov_i;
    unsigned int edge_i; /* zero: which end */
    uint64_t head;       /* write: bytes brought in front and behind */
    uint64_t tail;
    struct blk_io child;
    struct iovec iov[IOV_MAX_TASK];
    uint8_t edges[2][BLK_CLUSTER];
};

static struct blk_overlay *from_backend(struct blk_backend *b)
{
    return container_of(b, struct blk_overlay, backend);
}

static uint64_t disk_bytes(const struct blk_overlay *o)
{
    return o->backend.capacity * BLK_SECTOR;
}

static void pump(struct blk_overlay *o);

/* A request has its result; one that must be durable has a flush to go. */
static void complete(struct blk_overlay *o, struct blk_io *io, int rc)
{
    if (rc == 0 && io->durable)
        blk_overlay_flush_add(o, io);
    else
        io->done(io, rc);
}

static void finish(struct blk_overlay_task *t, int rc)
{
    struct blk_overlay *o = t->owner;
    struct blk_overlay_task **at = &o->active;

    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    t->next = o->free;
    o->free = t;
    complete(o, t->io, rc);
    pump(o);
}

/* advance() says 1: a child is on its way (or `again`), 0 or -errno: done. */
static void run(struct blk_overlay_task *t)
{
    t->again = true;
    /* A backend that completes at once calls back while we are at it. */
    if (t->running)
        return;
    t->running = true;
    while (t->again) {
        int rc;

        t->again = false;
        rc = t->rc < 0 ? t->rc : t->advance(t);
        if (rc <= 0) {
            t->running = false;
            finish(t, rc);
            return;
        }
    }
    t->running = false;
}

static void child_done(struct blk_io *child, int rc)
{
    struct blk_overlay_task *t =
        container_of(child, struct blk_overlay_task, child);

    t->rc = rc;
    if (child->kind == BLK_DISCARD) {
        /* The map says zeroes: whether the space came back is no matter, */
        t->rc = 0;
        /* but for what is counted. */
        if (rc == 0)
            blk_overlay_limit_give_back(t->owner,
                (child->offset - t->owner->config.data_offset) / BLK_CLUSTER,
                child->len / BLK_CLUSTER);
    }
    run(t);
}

static int submit_child(struct blk_overlay_task *t, struct blk_backend *to,
    enum blk_io_kind kind, uint64_t offset, uint64_t len, unsigned int iovs)
{
    if (to == t->owner->config.upper)
        offset += t->owner->config.data_offset;
    t->child = (struct blk_io){.kind = kind,
        .offset = offset,
        .len = len,
        .iov = t->iov,
        .iov_count = iovs,
        .done = child_done};
    to->ops->submit(to, &t->child);
    return 1;
}

static void zero_iov(const struct iovec *iov, unsigned int count)
{
    for (unsigned int i = 0; i < count; i++)
        memset(iov[i].iov_base, 0, iov[i].iov_len);
}

/* Gives the task the next `len` bytes of its request's memory. */
static unsigned int take_iov(struct blk_overlay_task *t, uint64_t len)
{
    unsigned int n = 0;

    while (len > 0) {
        const struct iovec *v = &t->io->iov[t->iov_i];
        uint64_t part = num_min(len, v->iov_len - t->iov_at);

        t->iov[n++] = (struct iovec){
            .iov_base = (uint8_t *)v->iov_base + t->iov_at, .iov_len = part};
        t->iov_at += part;
        len -= part;
        if (t->iov_at == v->iov_len) {
            t->iov_i++;
            t->iov_at = 0;
        }
    }
    return n;
}

/* A read of clusters in different places: run by run. */
static int advance_read(struct blk_overlay_task *t)
{
    struct blk_overlay *o = t->owner;
    uint64_t at = t->io->offset + t->at;
    uint64_t cluster = at / BLK_CLUSTER;
    struct blk_source source;
    unsigned int iovs;
    uint64_t len;

    if (t->at == t->io->len)
        return 0;
    len = blk_overlay_locate(o, cluster, t->last - cluster + 1, &source);
    len = num_min((cluster + len) * BLK_CLUSTER, t->io->offset + t->io->len);
    len -= at;
    iovs = take_iov(t, len);
    t->at += len;
    if (source.backend == NULL) {
        zero_iov(t->iov, iovs);
        t->again = true;
        return 1;
    }
    return submit_child(t, source.backend, BLK_READ,
        source.offset + at % BLK_CLUSTER, len, iovs);
}

/*
 * Brings a cluster that is not in the upper into an edge: true if it is there,
 * false if it is being read.
 */
static bool load_edge(
    struct blk_overlay_task *t, unsigned int edge, uint64_t cluster)
{
    struct blk_overlay *o = t->owner;
    uint64_t at = cluster * BLK_CLUSTER;
    uint64_t len = num_min(BLK_CLUSTER, disk_bytes(o) - at);
    struct blk_source source;

    (void)blk_overlay_locate(o, cluster, 1, &source);
    if (source.backend == NULL)
        len = 0;
    memset(t->edges[edge] + len, 0, BLK_CLUSTER - len);
    if (source.backend == NULL)
        return true;
    t->iov[0] = (struct iovec){.iov_base = t->edges[edge], .iov_len = len};
    (void)submit_child(t, source.backend, BLK_READ, source.offset, len, 1);
    return false;
}

/* The bytes of the write, within whole clusters where it makes new ones. */
static int submit_write(struct blk_overlay_task *t)
{
    const struct blk_io *io = t->io;
    unsigned int n = 0;

    if (t->head > 0)
        t->iov[n++] =
            (struct iovec){.iov_base = t->edges[0], .iov_len = t->head};
    memcpy(t->iov + n, io->iov, io->iov_count * sizeof(*io->iov));
    n += io->iov_count;
    if (t->tail > 0)
        t->iov[n++] =
            (struct iovec){.iov_base = t->edges[1] + BLK_CLUSTER - t->tail,
                .iov_len = t->tail};
    return submit_child(t, t->owner->config.upper, BLK_WRITE,
        io->offset - t->head, t->head + io->len + t->tail, n);
}

/* Which edges there are, and the first of them. */
static void begin_write(struct blk_overlay_task *t)
{
    const struct blk_map *map = &t->owner->map;
    const struct blk_io *io = t->io;

    t->head = io->offset % BLK_CLUSTER;
    t->tail = (t->last + 1) * BLK_CLUSTER - (io->offset + io->len);
    if (blk_map_is_data(map, t->first, 1))
        t->head = 0;
    if (blk_map_is_data(map, t->last, 1))
        t->tail = 0;
    t->step = TASK_TAIL;
    if (t->head == 0 || load_edge(t, 0, t->first))
        t->again = true;
}

static void load_tail(struct blk_overlay_task *t)
{
    bool is_there = t->tail == 0;

    t->step = TASK_WRITE;
    if (t->head > 0 && t->first == t->last) {
        memcpy(t->edges[1], t->edges[0], BLK_CLUSTER);
        is_there = true;
    }
    if (is_there || load_edge(t, 1, t->last))
        t->again = true;
}

static int advance_write(struct blk_overlay_task *t)
{
    struct blk_map *map = &t->owner->map;
    uint64_t count = t->last - t->first + 1;

    if (t->step == TASK_START) {
        begin_write(t);
        return 1;
    }
    if (t->step == TASK_TAIL) {
        load_tail(t);
        return 1;
    }
    if (t->step == TASK_WRITE) {
        t->step = TASK_DONE;
        return submit_write(t);
    }
    if (!blk_map_is_data(map, t->first, count))
        blk_map_set(map, t->first, count, BLK_CLUSTER_DATA);
    return 0;
}

/*
 * The part of a range of zeroes that covers its first (0) or last (1) cluster
 * in part; false if there is none.
 */
static bool edge_of(const struct blk_overlay_task *t, unsigned int which,
    uint64_t *ret_from, uint64_t *ret_to)
{
    uint64_t from = t->io->offset;
    uint64_t to = from + t->io->len;
    bool has_head = from % BLK_CLUSTER != 0;
    bool has_tail = to % BLK_CLUSTER != 0 && to != disk_bytes(t->owner);

    if (which == 0) {
        *ret_from = from;
        *ret_to = num_min(to, (t->first + 1) * BLK_CLUSTER);
        return has_head;
    }
    *ret_from = t->last * BLK_CLUSTER;
    *ret_to = to;
    return has_tail && !(has_head && t->first == t->last);
}

static int submit_edge(struct blk_overlay_task *t, uint64_t at, uint64_t len)
{
    t->iov[0] = (struct iovec){.iov_base = t->edges[0], .iov_len = len};
    return submit_child(t, t->owner->config.upper, BLK_WRITE, at, len, 1);
}

/* An end that is in part of a cluster; DISCARD leaves those alone. */
static int zero_edge(struct blk_overlay_task *t)
{
    struct blk_overlay *o = t->owner;
    enum blk_cluster_state state;
    uint64_t from;
    uint64_t to;

    if (t->io->kind == BLK_DISCARD || !edge_of(t, t->edge_i, &from, &to))
        return 0;
    state = blk_map_get(&o->map, from / BLK_CLUSTER);
    if (state == BLK_CLUSTER_ZERO)
        return 0;
    if (state == BLK_CLUSTER_DATA) {
        memset(t->edges[0], 0, to - from);
        t->step = TASK_NEXT_EDGE;
        return submit_edge(t, from, to - from);
    }
    t->step = TASK_FILL;
    if (load_edge(t, 0, from / BLK_CLUSTER))
        t->again = true;
    return 1;
}

/* The clusters that are covered in whole. */
static int zero_middle(struct blk_overlay_task *t)
{
    struct blk_overlay *o = t->owner;
    const struct blk_io *io = t->io;
    uint64_t to = io->offset + io->len;
    uint64_t first = num_div_up(io->offset, BLK_CLUSTER);
    uint64_t end = to == disk_bytes(o) ? o->map.clusters : to / BLK_CLUSTER;
    bool unmap = io->kind == BLK_DISCARD || io->may_unmap;

    t->step = TASK_DONE;
    if (first >= end)
        return 0;
    unmap = unmap && o->config.upper->can_discard &&
            (blk_map_may_have_data(&o->map, first, end - first) ||
                blk_overlay_limit_holds(o, first, end - first));
    blk_map_set(&o->map, first, end - first, BLK_CLUSTER_ZERO);
    if (!unmap)
        return 0;
    return submit_child(t, o->config.upper, BLK_DISCARD, first * BLK_CLUSTER,
        (end - first) * BLK_CLUSTER, 0);
}

static int advance_zero(struct blk_overlay_task *t)
{
    uint64_t from;
    uint64_t to;
    int rc = 0;

    if (t->step == TASK_DONE)
        return 0;
    if (t->step == TASK_FILL) {
        (void)edge_of(t, t->edge_i, &from, &to);
        memset(t->edges[0] + from % BLK_CLUSTER, 0, to - from);
        t->step = TASK_FILLED;
        return submit_edge(t, num_align_down(from, BLK_CLUSTER), BLK_CLUSTER);
    }
    if (t->step == TASK_FILLED) {
        (void)edge_of(t, t->edge_i, &from, &to);
        blk_map_set(&t->owner->map, from / BLK_CLUSTER, 1, BLK_CLUSTER_DATA);
    }
    if (t->step != TASK_START)
        t->edge_i++;
    t->step = TASK_NEXT_EDGE;
    for (; rc == 0 && t->edge_i < 2; t->edge_i += rc == 0)
        rc = zero_edge(t);
    return rc != 0 ? rc : zero_middle(t);
}

static bool is_excluded(
    const struct blk_overlay *o, uint64_t first, uint64_t last)
{
    for (const struct blk_overlay_task *t = o->active; t != NULL; t = t->next) {
        if (t->exclusive && t->first <= last && first <= t->last)
            return true;
    }
    return false;
}

static bool start_task(struct blk_overlay *o, struct blk_io *io,
    int (*advance)(struct blk_overlay_task *t), bool exclusive)
{
    struct blk_overlay_task *t = o->free;

    if (t == NULL)
        return false;
    o->free = t->next;
    t->io = io;
    t->advance = advance;
    t->step = TASK_START;
    t->first = io->offset / BLK_CLUSTER;
    t->last = (io->offset + io->len - 1) / BLK_CLUSTER;
    t->exclusive = exclusive;
    t->rc = 0;
    t->at = 0;
    t->iov_at = 0;
    t->iov_i = 0;
    t->edge_i = 0;
    t->next = o->active;
    o->active = t;
    if (exclusive)
        blk_map_mark_dirty(&o->map, t->first, t->last - t->first + 1);
    run(t);
    return true;
}

/* `source` is of the request's first cluster. */
static void forward(
    struct blk_overlay *o, struct blk_io *io, const struct blk_source *source)
{
    struct blk_backend *to = source->backend;

    if (to == NULL) {
        zero_iov(io->iov, io->iov_count);
        io->done(io, 0);
        return;
    }
    io->offset = source->offset + io->offset % BLK_CLUSTER;
    if (to == o->config.upper)
        io->offset += o->config.data_offset;
    to->ops->submit(to, io);
}

/* Starts a request; false, nothing done, if it has to wait for another. */
static bool try_start(struct blk_overlay *o, struct blk_io *io)
{
    uint64_t first = io->offset / BLK_CLUSTER;
    uint64_t last = (io->offset + io->len - 1) / BLK_CLUSTER;
    uint64_t count = last - first + 1;
    struct blk_source source;

    if (io->kind == BLK_READ) {
        if (blk_overlay_locate(o, first, count, &source) != count)
            return start_task(o, io, advance_read, false);
        forward(o, io, &source);
        return true;
    }
    if (is_excluded(o, first, last))
        return false;
    if (!blk_overlay_limit_take(o, io)) {
        io->done(io, -EDQUOT);
        return true;
    }
    if (io->kind != BLK_WRITE)
        return start_task(o, io, advance_zero, true);
    /* Data and map of a write that must be durable are flushed together. */
    if (io->durable || !blk_map_is_data(&o->map, first, count))
        return start_task(o, io, advance_write, true);
    blk_map_mark_dirty(&o->map, first, count);
    (void)blk_overlay_locate(o, first, 1, &source);
    forward(o, io, &source);
    return true;
}

/* Has what waits try again. */
static void pump(struct blk_overlay *o)
{
    o->pump_again = true;
    if (o->pumping)
        return;
    o->pumping = true;
    while (o->pump_again) {
        struct blk_io_list list = o->waiting;
        struct blk_io *io;

        o->pump_again = false;
        o->waiting.head = NULL;
        while ((io = blk_io_list_take(&list)) != NULL) {
            if (!try_start(o, io))
                blk_io_list_put(&o->waiting, io);
        }
    }
    o->pumping = false;
}

static void children_done(void *opaque)
{
    struct blk_overlay *o = opaque;

    if (o->backend.batch_done != NULL)
        o->backend.batch_done(o->backend.opaque);
}

static void adopt(struct blk_overlay *o, struct blk_backend *child)
{
    child->dev = o->backend.dev;
    child->batch_done = children_done;
    child->opaque = o;
}

void blk_overlay_adopt(struct blk_overlay *o)
{
    if (o->adopted)
        return;
    o->adopted = true;
    adopt(o, o->config.base);
    adopt(o, o->config.upper);
    if (o->below != NULL)
        blk_below_adopt(o->below, o->config.base);
}

void blk_overlay_set_below(struct blk_overlay *o, struct blk_below *below)
{
    assert(!o->config.persistent && o->active == NULL);
    assert(o->below == NULL);
    o->below = below;
    if (o->adopted)
        blk_below_adopt(below, o->config.base);
}

static void overlay_submit(struct blk_backend *b, struct blk_io *io)
{
    struct blk_overlay *o = from_backend(b);

    blk_overlay_adopt(o);
    if (io->kind == BLK_FLUSH) {
        if (o->config.persistent)
            blk_overlay_flush_add(o, io);
        else
            io->done(io, 0);
        return;
    }
    assert(io->len > 0 && num_range_within(io->offset, io->len, disk_bytes(o)));
    io->durable = io->durable && o->config.persistent;
    if (!try_start(o, io))
        blk_io_list_put(&o->waiting, io);
}

static void overlay_drain(struct blk_backend *b)
{
    struct blk_overlay *o = from_backend(b);

    /* Each round ends the child that every task under way is waiting for. */
    do {
        o->config.base->ops->drain(o->config.base);
        o->config.upper->ops->drain(o->config.upper);
        if (o->below != NULL)
            blk_below_drain(o->below);
    } while (o->active != NULL || o->waiting.head != NULL ||
             blk_overlay_flush_is_busy(o));
}

static void overlay_commit(struct blk_backend *b)
{
    struct blk_overlay *o = from_backend(b);

    o->config.base->ops->commit(o->config.base);
    o->config.upper->ops->commit(o->config.upper);
    if (o->below != NULL)
        blk_below_commit(o->below);
    if (o->config.inline_only)
        overlay_drain(b);
}

static const struct blk_backend_ops overlay_ops = {
    .submit = overlay_submit,
    .commit = overlay_commit,
    .drain = overlay_drain,
};

int blk_overlay_init(struct blk_overlay *o,
    const struct blk_overlay_config *config, struct err *err)
{
    const struct blk_backend *base = config->base;
    int rc;

    assert(config->data_offset % BLK_CLUSTER == 0 && !config->upper->read_only);
    *o = (struct blk_overlay){.config = *config,
        .backend = {.ops = &overlay_ops,
            .capacity = base->capacity,
            .block_size = base->block_size,
            .physical_size =
                (uint32_t)num_max(base->physical_size, BLK_CLUSTER),
            .can_discard = true,
            .can_zero = true}};
    rc = blk_map_init(&o->map, num_div_up(disk_bytes(o), BLK_CLUSTER));
    if (rc < 0)
        return err_sys(err, rc, "overlay");
    assert(num_range_within(config->data_offset, o->map.clusters * BLK_CLUSTER,
        config->upper->capacity * BLK_SECTOR));
    if (config->persistent)
        rc = blk_overlay_flush_init(o);
    o->tasks = calloc(TASKS, sizeof(*o->tasks));
    if (rc < 0 || o->tasks == NULL) {
        blk_overlay_fini(o);
        return err_sys(err, ENOMEM, "overlay");
    }
    for (unsigned int i = TASKS; i-- > 0;) {
        o->tasks[i].owner = o;
        o->tasks[i].next = o->free;
        o->free = &o->tasks[i];
    }
    return 0;
}

void blk_overlay_fini(struct blk_overlay *o)
{
    assert(o->active == NULL && o->waiting.head == NULL);
    blk_overlay_flush_fini(o);
    blk_overlay_limit_fini(o);
    blk_map_fini(&o->map);
    free(o->tasks);
    *o = (struct blk_overlay){0};
}
