/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/save_client.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "snapshot/assembly.h"
#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/vm_client.h"

/* For the rest of a message, and for requests that are answered at once. */
#define TIMEOUT_MS 10000u

struct saving {
    const struct save_client_request *request;
    int fd;        /* the connection */
    int signal_fd; /* readable: a signal waits */
    struct capture_plan plan;
    struct assembly assembly;
    struct save_client_result result;
};

/* ---- talking ------------------------------------------------------------- */

static int check_signal(void *arg, struct err *err)
{
    const struct saving *s = arg;
    struct pollfd p = {.fd = s->signal_fd, .events = POLLIN};

    return poll(&p, 1, 0) > 0 ? err_set(err, ECANCELED, "interrupted") : 0;
}

/* Waits as long as it takes, or until a signal comes. */
static int wait_reply(const struct saving *s, struct err *err)
{
    struct pollfd p[2] = {{.fd = s->fd, .events = POLLIN},
        {.fd = s->signal_fd, .events = POLLIN}};

    while (poll(p, 2, -1) < 0) {
        if (errno != EINTR)
            return err_sys(err, errno, "cannot wait for the machine");
    }
    return p[1].revents != 0 ? err_set(err, ECANCELED, "interrupted") : 0;
}

/* One request; *ret_json is its reply's body, or NULL where that is empty. */
static int call(const struct saving *s, enum http_verb verb, const char *path,
    json_t *body, const int *fds, uint32_t fd_count, json_t **ret_json,
    struct err *err)
{
    char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
    struct http_reply reply = {0};
    int rc;

    json_decref(body);
    rc = http_client_send(s->fd, verb, path, text, fds, fd_count, err);
    free(text);
    if (rc == 0)
        rc = wait_reply(s, err);
    if (rc == 0)
        rc = http_client_receive(s->fd, &reply, err);
    if (rc == 0)
        rc = http_reply_check(&reply, err);
    if (rc == 0 && reply.body != NULL) {
        *ret_json = json_loadb(reply.body, reply.body_len, 0, NULL);
        if (*ret_json == NULL)
            rc = err_set(err, EPROTO, "the machine answers with no JSON");
    } else {
        *ret_json = NULL;
    }
    http_reply_fini(&reply);
    return rc;
}

/* ---- the plan ------------------------------------------------------------ */

/* An unsigned number of a reply; UINT64_MAX, which none is, if it is not. */
static uint64_t get_number(const json_t *json, const char *key)
{
    const json_t *value = json_object_get(json, key);

    return json_is_integer(value) && json_integer_value(value) >= 0
               ? (uint64_t)json_integer_value(value)
               : UINT64_MAX;
}

static int read_plan(
    const json_t *json, struct capture_plan *ret_plan, struct err *err)
{
    const json_t *disks = json_object_get(json, "disks");
    const char *base = json_string_value(json_object_get(json, "base"));
    struct capture_plan plan = {.image_count = 1};

    if (json_array_size(disks) > CAPTURE_IMAGES_MAX - 1 ||
        (base != NULL && !snapshot_id_from_text(base, &plan.base)))
        return err_set(
            err, EPROTO, "the machine does not say what a save of it needs");
    plan.images[0].pages = get_number(json, "pages");
    for (size_t i = 0; i < json_array_size(disks); i++) {
        const json_t *disk = json_array_get(disks, i);
        struct capture_plan_image *image = &plan.images[plan.image_count++];

        image->drive = (uint32_t)num_min(get_number(disk, "drive"), UINT32_MAX);
        image->pages = get_number(disk, "pages");
    }
    *ret_plan = plan;
    return capture_plan_check(ret_plan, err);
}

static int get_plan(struct saving *s, struct err *err)
{
    json_t *json;
    int rc =
        call(s, HTTP_VERB_GET, "/spore/capture", NULL, NULL, 0, &json, err);

    if (rc == 0) {
        rc = read_plan(json, &s->plan, err);
        json_decref(json);
    }
    return rc;
}

/* ---- the capture --------------------------------------------------------- */

static int capture(struct saving *s, struct err *err)
{
    const struct save_client_request *r = s->request;
    int fds[1 + CAPTURE_IMAGES_MAX] = {s->assembly.capture_fd};
    char base[SNAPSHOT_ID_TEXT_SIZE];
    uint64_t stopped_us;
    json_t *body;
    json_t *json;
    int rc;

    memcpy(
        fds + 1, s->assembly.image_fds, s->plan.image_count * sizeof(fds[0]));
    snapshot_id_to_text(&s->plan.base, base);
    body = json_pack("{s:s*, s:b, s:b}", "base", r->diff ? base : NULL, "sync",
        (int)r->sync, "track", (int)r->track);
    rc = call(s, HTTP_VERB_PUT, "/spore/capture", body, fds,
        1 + s->plan.image_count, &json, err);
    if (rc < 0)
        return rc;
    stopped_us = get_number(json, "stopped_us");
    json_decref(json);
    if (stopped_us > INT64_MAX)
        return err_set(
            err, EPROTO, "the machine does not say how it was saved");
    s->result.stopped_us = stopped_us;
    return assembly_reclaim(&s->assembly, err);
}

/* The snapshot is there, whatever becomes of the machine now. */
static void commit(struct saving *s)
{
    char id[SNAPSHOT_ID_TEXT_SIZE];
    struct err err;
    json_t *json;

    snapshot_id_to_text(&s->result.id, id);
    if (call(s, HTTP_VERB_PUT, "/spore/capture/commit",
            json_pack("{s:s}", "id", id), NULL, 0, &json, &err) == 0)
        json_decref(json);
    else
        log_warn("save",
            "snapshot %s is made, but the machine has not taken note: no diff "
            "can stand on it: %s",
            id, err.text);
}

static int save(struct saving *s, struct store *store, struct err *err)
{
    const struct save_client_request *r = s->request;
    const struct assembly_options options = {.name = r->name,
        .diff = r->diff,
        .sync = r->sync,
        .share = r->share,
        .monitor = "spore " SPORE_VERSION,
        .check = check_signal,
        .arg = s};
    int rc = get_plan(s, err);

    if (rc == 0)
        rc = assembly_begin(&s->assembly, store, &s->plan, &options, err);
    if (rc < 0)
        return rc;
    rc = capture(s, err);
    if (rc == 0)
        rc = check_signal(s, err);
    if (rc == 0)
        rc = assembly_finish(&s->assembly, &s->result.id, err);
    s->result.pages_written = s->assembly.pages_written;
    assembly_fini(&s->assembly);
    if (rc == 0)
        commit(s);
    return rc;
}

static int save_to(struct saving *s, struct err *err)
{
    struct store store;
    int rc = vm_client_connect(s->request->id, TIMEOUT_MS, &s->fd, err);

    if (rc < 0)
        return rc;
    rc = store_open(&store, s->request->store, true, err);
    if (rc == 0) {
        rc = save(s, &store, err);
        store_close(&store);
    }
    fd_closep(&s->fd);
    return rc;
}

int save_client_run(const struct save_client_request *request,
    struct save_client_result *ret_result, struct err *err)
{
    struct saving s = {.request = request, .fd = -1};
    uint64_t from = clock_now_ns();
    sigset_t signals;
    sigset_t before;
    int rc;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &signals, &before);
    s.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    rc = s.signal_fd < 0 ? err_sys(err, errno, "signals") : save_to(&s, err);
    fd_closep(&s.signal_fd);
    /* One that came ends the process here. */
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    if (rc < 0)
        return rc;
    s.result.took_us = (clock_now_ns() - from) / 1000;
    *ret_result = s.result;
    return 0;
}
