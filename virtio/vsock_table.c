/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vsock_table.h"

#include <assert.h>

#include "vmm/base/fd.h"

void vsock_table_init(struct vsock_table *table)
{
    table->count = 0;
    table->granted = 0;
    table->errors = 0;
    TAILQ_INIT(&table->idle);
    TAILQ_INIT(&table->ready);
    TAILQ_INIT(&table->lingering);
    TAILQ_INIT(&table->doomed);
    for (unsigned int i = 0; i < ARRAY_SIZE(table->buckets); i++)
        LIST_INIT(&table->buckets[i]);
}

static struct vsock_bucket *bucket_of(
    struct vsock_table *table, uint32_t guest_port, uint32_t host_port)
{
    uint64_t key = (uint64_t)host_port << 32 | guest_port;

    /* The top bits of a multiplication by 2^64 / golden ratio. */
    _Static_assert(VSOCK_CONNECTIONS_MAX == 1 << 10, "ten bits of hash");
    return &table->buckets[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 54];
}

struct vsock_conn *vsock_table_find(
    struct vsock_table *table, uint32_t guest_port, uint32_t host_port)
{
    struct vsock_conn *conn =
        LIST_FIRST(bucket_of(table, guest_port, host_port));

    while (conn != NULL &&
           (conn->guest_port != guest_port || conn->host_port != host_port))
        conn = LIST_NEXT(conn, bucket);
    return conn;
}

static void move_to(struct vsock_conn *conn, struct vsock_conn_list *list)
{
    if (conn->list != NULL)
        TAILQ_REMOVE(conn->list, conn, link);
    TAILQ_INSERT_TAIL(list, conn, link);
    conn->list = list;
}

static void unhash(struct vsock_conn *conn)
{
    if (conn->hashed)
        LIST_REMOVE(conn, bucket);
    conn->hashed = false;
}

bool vsock_table_has_room(struct vsock_table *table)
{
    struct vsock_conn *oldest = TAILQ_FIRST(&table->lingering);

    /* It has had everything; what it still sends is answered with RST. */
    if (table->count == table->max && oldest != NULL)
        vsock_table_remove(table, oldest);
    return table->count < table->max;
}

/*
 * Watches the descriptor for what the connection can do with it now. Data
 * known to be there need not be watched for, but usually it is on its way at
 * once; so that is left as it is until epoll reports it again (`exactly`).
 */
static void watch(
    struct vsock_table *table, struct vsock_conn *conn, bool exactly)
{
    uint32_t events = vsock_conn_events(conn);
    int rc = 0;

    if (!exactly && conn->readable && conn->source.added &&
        vsock_conn_uses_fd(conn) &&
        (events == VSOCK_CONN_UNWATCHED || (events & ~conn->watched) == 0))
        return;
    if (events == VSOCK_CONN_UNWATCHED)
        loop_remove(table->loop, &conn->source);
    else if (!conn->source.added)
        rc = loop_add(table->loop, &conn->source, events);
    else if (events != conn->watched)
        rc = loop_change(table->loop, &conn->source, events);
    conn->watched = events;
    if (rc == 0)
        return;
    table->errors++;
    loop_remove(table->loop, &conn->source);
    vsock_conn_reset(conn);
}

static void settle(
    struct vsock_table *table, struct vsock_conn *conn, bool exactly)
{
    struct vsock_conn_list *list = &table->idle;

    watch(table, conn, exactly);
    if (conn->state == VSOCK_CONN_DEAD) {
        vsock_table_remove(table, conn);
        return;
    }
    if (!vsock_conn_uses_fd(conn)) {
        loop_remove(table->loop, &conn->source);
        vsock_conn_close_fd(conn);
    }
    if (conn->orphan)
        unhash(conn);
    if (vsock_conn_has_packet(conn))
        list = &table->ready;
    else if (conn->state == VSOCK_CONN_LINGERING)
        list = &table->lingering;
    if (conn->list != list)
        move_to(conn, list);
}

void vsock_table_settle(struct vsock_table *table, struct vsock_conn *conn)
{
    settle(table, conn, false);
}

void vsock_table_rotate(struct vsock_table *table, struct vsock_conn *conn)
{
    move_to(conn, &table->idle);
    settle(table, conn, false);
}

static void on_host_event(void *opaque, uint32_t events)
{
    struct vsock_conn *conn = opaque;
    struct vsock_table *table = conn->table;
    bool again = conn->readable;

    if (conn->list == &table->doomed)
        return;
    vsock_conn_host_event(conn, events);
    settle(table, conn, again);
    table->changed(table->opaque);
}

int vsock_table_add(struct vsock_table *table, struct vsock_conn *conn)
{
    int rc;

    conn->table = table;
    conn->source = (struct loop_source){.fd = conn->fd,
        .handle = on_host_event,
        .opaque = conn,
        .dev = table->dev};
    rc = loop_add(table->loop, &conn->source, 0);
    if (rc < 0)
        return rc;
    conn->watched = 0;
    LIST_INSERT_HEAD(
        bucket_of(table, conn->guest_port, conn->host_port), conn, bucket);
    conn->hashed = true;
    table->count++;
    table->granted += conn->buf_alloc;
    move_to(conn, &table->idle);
    return 0;
}

void vsock_table_remove(struct vsock_table *table, struct vsock_conn *conn)
{
    unhash(conn);
    loop_remove(table->loop, &conn->source);
    TAILQ_REMOVE(conn->list, conn, link);
    table->count--;
    table->granted -= conn->buf_alloc;
    vsock_conn_free(conn);
}

static void doom_list(struct vsock_table *table, struct vsock_conn_list *list)
{
    struct vsock_conn *conn;

    while ((conn = TAILQ_FIRST(list)) != NULL) {
        unhash(conn);
        move_to(conn, &table->doomed);
        table->count--;
        table->granted -= conn->buf_alloc;
    }
}

bool vsock_table_doom(struct vsock_table *table)
{
    doom_list(table, &table->idle);
    doom_list(table, &table->ready);
    doom_list(table, &table->lingering);
    assert(table->count == 0);
    return !TAILQ_EMPTY(&table->doomed);
}

void vsock_table_free_doomed(struct vsock_table *table)
{
    struct vsock_conn *conn;

    while ((conn = TAILQ_FIRST(&table->doomed)) != NULL) {
        TAILQ_REMOVE(&table->doomed, conn, link);
        loop_remove(table->loop, &conn->source);
        vsock_conn_free(conn);
    }
}
