/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/top_rows.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "vmm/api/http_client.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/ps.h"
#include "vmm/rundir.h"
#include "vmm/serve/proc_sample.h"

#define ROWS_MAX  65536u
#define TIMEOUT_S 2

/* A number that no machine can have more of. */
#define NUMBER_MAX (INT64_MAX / 1024)

static const char *const kind_names[] = {
    [TOP_MACHINE] = "machine", [TOP_SERVER] = "server", [TOP_CLONE] = "clone"};

static struct top_row *add_row(struct top_rows *rows, enum top_kind kind)
{
    struct top_row *row;

    if (rows->count == ROWS_MAX)
        return NULL;
    if (rows->count == rows->room) {
        size_t room = rows->room == 0 ? 64 : 2 * rows->room;
        struct top_row *bigger = realloc(rows->rows, room * sizeof(*bigger));

        if (bigger == NULL)
            return NULL;
        rows->rows = bigger;
        rows->room = room;
    }
    row = &rows->rows[rows->count++];
    *row = (struct top_row){.kind = kind};
    return row;
}

static uint64_t number(const json_t *json, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(json, name));

    return value < 0 ? 0 : num_min((uint64_t)value, NUMBER_MAX);
}

static void copy_text(char *to, size_t size, const char *text)
{
    size_t n = 0;

    for (; text[n] != '\0' && n + 1 < size; n++)
        to[n] = isprint((unsigned char)text[n]) ? text[n] : '?';
    to[n] = '\0';
}

/* ---- machines ----------------------------------------------------------- */

static uint64_t device_bytes(const json_t *said)
{
    json_t *devices = json_object_get(said, "devices");
    uint64_t sum = 0;
    const char *name;
    json_t *device;

    json_object_foreach(devices, name, device) sum =
        num_min(sum + number(device, "bytes"), NUMBER_MAX);
    return sum;
}

int top_rows_add_machine(
    struct top_rows *rows, const char *id, const json_t *said)
{
    const char *state = json_string_value(json_object_get(said, "state"));
    struct top_row *row = add_row(rows, TOP_MACHINE);

    if (row == NULL)
        return -ENOMEM;
    copy_text(row->name, sizeof(row->name), id);
    if (said == NULL) {
        copy_text(row->state, sizeof(row->state), "No answer");
        return 0;
    }
    copy_text(row->state, sizeof(row->state), state == NULL ? "?" : state);
    row->pid = (int64_t)number(said, "pid");
    row->age_ms = number(said, "age_ms");
    row->cpu_us = number(said, "cpu_us");
    row->private_bytes = number(said, "private_kib") * NUM_KIB;
    row->has_io = true;
    row->io_bytes = device_bytes(said);
    return 0;
}

static int on_machine(void *opaque, const char *id)
{
    json_t *said = ps_ask(id);
    int rc = top_rows_add_machine(opaque, id, said);

    json_decref(said);
    return rc;
}

/* ---- servers and clones ------------------------------------------------- */

/* What the kernel says of a process of ours. */
static void look_at(struct top_row *row)
{
    struct proc_sample sample;
    uint64_t in;
    uint64_t out;

    if (row->pid <= 0 || row->pid > INT32_MAX)
        return;
    if (proc_sample_take((pid_t)row->pid, &sample) < 0) {
        copy_text(row->state, sizeof(row->state), "gone");
        return;
    }
    row->private_bytes = sample.private_bytes;
    row->cpu_us = sample.cpu_ns / 1000;
    if (proc_sample_io((pid_t)row->pid, &in, &out) == 0) {
        row->has_io = true;
        row->io_bytes = num_min(
            num_min(in, NUMBER_MAX) + num_min(out, NUMBER_MAX), NUMBER_MAX);
    }
}

static int add_clone(
    struct top_rows *rows, const json_t *clone, const char *template)
{
    struct top_row *row = add_row(rows, TOP_CLONE);

    if (row == NULL)
        return -ENOMEM;
    copy_text(row->name, sizeof(row->name), template);
    copy_text(row->state, sizeof(row->state), "serving");
    row->pid = (int64_t)number(clone, "pid");
    row->age_ms = number(clone, "age_ms");
    look_at(row);
    return 0;
}

int top_rows_add_server(struct top_rows *rows, const json_t *said)
{
    const char *name = json_string_value(json_object_get(said, "template"));
    const json_t *clones = json_object_get(said, "clones");
    bool drains = json_is_true(json_object_get(said, "draining"));
    struct top_row *row = add_row(rows, TOP_SERVER);
    int rc = 0;
    size_t i;
    const json_t *clone;

    if (row == NULL)
        return -ENOMEM;
    if (name == NULL)
        name = "?";
    copy_text(row->name, sizeof(row->name), name);
    copy_text(
        row->state, sizeof(row->state), drains ? "draining" : "listening");
    row->pid = (int64_t)number(said, "pid");
    row->age_ms = number(said, "age_ms");
    row->running = number(said, "running");
    row->queued = number(said, "queued");
    row->ready = number(said, "ready");
    look_at(row);
    json_array_foreach(clones, i, clone)
    {
        if (rc == 0)
            rc = add_clone(rows, clone, name);
    }
    return rc;
}

static json_t *ask_server(const struct rundir *dir, const char *name)
{
    const struct timeval limit = {.tv_sec = TIMEOUT_S};
    struct sockaddr_un addr = rundir_address(dir, name);
    CC_CLEANUP(fd_closep)
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct http_reply reply;
    json_t *json = NULL;

    if (fd < 0)
        return NULL;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
        /* Of one that was killed. */
        if (errno == ECONNREFUSED)
            (void)unlinkat(dir->fd, name, 0);
        return NULL;
    }
    if (http_client_request(fd, HTTP_VERB_GET, "/status", NULL, &reply, NULL) <
        0)
        return NULL;
    if (reply.status == 200 && reply.body != NULL)
        json = json_loadb(reply.body, reply.body_len, 0, NULL);
    http_reply_fini(&reply);
    if (json_is_object(json))
        return json;
    json_decref(json);
    return NULL;
}

static bool is_number(const char *text)
{
    size_t len = strspn(text, "0123456789");

    return len > 0 && len < 16 && text[len] == '\0';
}

static int gather_servers(struct top_rows *rows, struct err *err)
{
    const struct dirent *entry;
    struct rundir dir;
    DIR *names;
    int rc = rundir_open(&dir, RUNDIR_SERVERS, err);
    int copy;

    if (rc < 0)
        return rc;
    copy = openat(dir.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    names = copy < 0 ? NULL : fdopendir(copy);
    if (names == NULL) {
        rc = err_sys(err, errno, "%s", dir.path);
        fd_closep(&copy);
        rundir_close(&dir);
        return rc;
    }
    while (rc == 0 && (entry = readdir(names)) != NULL) {
        json_t *said =
            is_number(entry->d_name) ? ask_server(&dir, entry->d_name) : NULL;

        if (said != NULL)
            rc = top_rows_add_server(rows, said);
        json_decref(said);
    }
    (void)closedir(names);
    rundir_close(&dir);
    return rc < 0 ? err_sys(err, rc, "servers") : 0;
}

int top_rows_gather(struct top_rows *ret_rows, struct err *err)
{
    int rc;

    *ret_rows = (struct top_rows){.taken_ns = clock_now_ns()};
    (void)err_sys(err, ENOMEM, "machines");
    rc = rundir_walk(on_machine, ret_rows, err);
    return rc < 0 ? rc : gather_servers(ret_rows, err);
}

void top_rows_fini(struct top_rows *rows)
{
    free(rows->rows);
    *rows = (struct top_rows){0};
}

/* ---- comparing and sorting ---------------------------------------------- */

static const struct top_row *find(
    const struct top_rows *rows, const struct top_row *like)
{
    for (size_t i = 0; rows != NULL && i < rows->count; i++) {
        const struct top_row *row = &rows->rows[i];

        if (row->kind == like->kind && row->pid == like->pid &&
            strcmp(row->name, like->name) == 0)
            return row;
    }
    return NULL;
}

static double rate(uint64_t now, uint64_t before, double seconds)
{
    return now > before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

void top_rows_compare(struct top_rows *rows, const struct top_rows *before)
{
    double passed =
        before == NULL ? 0 : (double)(rows->taken_ns - before->taken_ns) / 1e9;

    for (size_t i = 0; i < rows->count; i++) {
        struct top_row *row = &rows->rows[i];
        const struct top_row *old = find(before, row);
        double seconds = old == NULL ? (double)row->age_ms / 1e3 : passed;

        row->cpu_percent =
            rate(row->cpu_us, old == NULL ? 0 : old->cpu_us, seconds) / 1e4;
        row->io_per_s =
            rate(row->io_bytes, old == NULL ? 0 : old->io_bytes, seconds);
    }
}

static int by_number(double a, double b)
{
    return a > b ? -1 : a < b ? 1 : 0;
}

static int by_order(
    const struct top_row *a, const struct top_row *b, enum top_order order)
{
    int rc = 0;

    switch (order) {
    case TOP_BY_CPU:
        rc = by_number(a->cpu_percent, b->cpu_percent);
        break;
    case TOP_BY_MEMORY:
        rc = by_number((double)a->private_bytes, (double)b->private_bytes);
        break;
    case TOP_BY_IO:
        rc = by_number(a->io_per_s, b->io_per_s);
        break;
    case TOP_BY_AGE:
        rc = by_number((double)a->age_ms, (double)b->age_ms);
        break;
    case TOP_BY_NAME:
    default:
        break;
    }
    if (rc == 0)
        rc = strcmp(a->name, b->name);
    return rc != 0 ? rc : (a->pid > b->pid) - (a->pid < b->pid);
}

static int compare_rows(const void *a, const void *b, void *opaque)
{
    const enum top_order *order = opaque;

    return by_order(a, b, *order);
}

void top_rows_sort(struct top_rows *rows, enum top_order order)
{
    size_t at = 0;

    /* They come machines first, then each server and its clones. */
    while (at < rows->count) {
        enum top_kind kind = rows->rows[at].kind;
        size_t end = at + 1;

        while (end < rows->count && kind != TOP_SERVER &&
               rows->rows[end].kind == kind)
            end++;
        qsort_r(&rows->rows[at], end - at, sizeof(rows->rows[0]), compare_rows,
            &order);
        at = end;
    }
}

json_t *top_rows_json(const struct top_rows *rows)
{
    json_t *list = json_array();

    for (size_t i = 0; i < rows->count; i++) {
        const struct top_row *r = &rows->rows[i];
        json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f}",
            "kind", kind_names[r->kind], "name", r->name, "state", r->state,
            "pid", (json_int_t)r->pid, "age_ms", (json_int_t)r->age_ms,
            "private_bytes", (json_int_t)r->private_bytes, "cpu_us",
            (json_int_t)r->cpu_us, "cpu_percent", r->cpu_percent);

        if (r->has_io) {
            (void)json_object_set_new(
                json, "io_bytes", json_integer((json_int_t)r->io_bytes));
            (void)json_object_set_new(
                json, "io_bytes_per_s", json_real(r->io_per_s));
        }
        if (r->kind == TOP_SERVER) {
            (void)json_object_set_new(
                json, "running", json_integer((json_int_t)r->running));
            (void)json_object_set_new(
                json, "queued", json_integer((json_int_t)r->queued));
            (void)json_object_set_new(
                json, "ready", json_integer((json_int_t)r->ready));
        }
        if (json_array_append_new(list, json) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
