/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/saver.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "vmm/base/clock.h"
#include "vmm/base/fd.h"
#include "vmm/instance.h"

/* On the loop: the guest stands still for as long as this takes. */
static void do_stop(void *opaque)
{
    struct saver *s = opaque;
    enum instance_phase phase = s->inst->phase;
    int rc;

    if (phase == INSTANCE_RUNNING || phase == INSTANCE_PAUSED)
        rc = machine_save_stop(
            s->save, phase == INSTANCE_RUNNING, &s->result.err);
    else
        rc = err_set(&s->result.err, EBUSY, "the machine has ended meanwhile");
    (void)pthread_mutex_lock(&s->lock);
    s->stop_rc = rc;
    s->is_stopped = true;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

static int wait_stopped(struct saver *s)
{
    int rc;

    loop_post(&s->inst->loop, &s->stop_call);
    (void)pthread_mutex_lock(&s->lock);
    while (!s->is_stopped && !s->is_given_up)
        (void)pthread_cond_wait(&s->changed, &s->lock);
    rc = s->is_stopped ? s->stop_rc
                       : err_set(&s->result.err, ECANCELED,
                             "the machine ended before it was saved");
    (void)pthread_mutex_unlock(&s->lock);
    return rc;
}

/* All but the first step and the last, which differ. */
static int take(struct saver *s)
{
    int rc = machine_save_copy(s->save, true, &s->result.err);

    if (rc == 0)
        rc = wait_stopped(s);
    s->result.stopped_ns = s->save->stopped_ns;
    return rc;
}

/* ---- into a store -------------------------------------------------------- */

static int save_into(struct saver *s, struct store *store)
{
    const struct machine_snapshot_options options = {.name = s->name,
        .diff = s->request.diff,
        .sync = s->request.sync,
        .track = s->request.track,
        .share = s->request.share,
        .is_cancelled = &s->is_cancelled};
    struct err *err = &s->result.err;
    int rc = machine_snapshot_begin(
        &s->snapshot, &s->inst->machine, store, &options, err);

    if (rc < 0)
        return rc;
    s->save = &s->snapshot.save;
    rc = take(s);
    if (rc == 0)
        rc = machine_snapshot_finish(&s->snapshot, &s->result.id, err);
    s->result.pages_written = s->snapshot.assembly.pages_written;
    machine_snapshot_fini(&s->snapshot);
    return rc;
}

static int save_to_store(struct saver *s)
{
    struct store store;
    int rc = store_open(&store, s->store, true, &s->result.err);

    if (rc < 0)
        return rc;
    rc = save_into(s, &store);
    store_close(&store);
    return rc;
}

/* ---- into the files of a client ------------------------------------------ */

static void close_files(struct saver *s)
{
    for (uint32_t i = 0; i < s->capture.fd_count; i++)
        fd_closep(&s->capture.fds[i]);
    s->capture.fd_count = 0;
}

/* What the client makes of it, or that it is gone. */
static int wait_verdict(struct saver *s)
{
    int rc;

    loop_post(&s->inst->loop, &s->captured_call);
    (void)pthread_mutex_lock(&s->lock);
    while (!s->is_committed && !s->is_given_up)
        (void)pthread_cond_wait(&s->changed, &s->lock);
    rc = s->is_committed ? 0
                         : err_set(&s->result.err, ECANCELED,
                               "the client did not make a snapshot of it");
    (void)pthread_mutex_unlock(&s->lock);
    return rc;
}

static int capture_files(struct saver *s)
{
    const struct machine_save_options options = {.parent = s->capture.parent,
        .sync = s->capture.sync,
        .track = s->capture.track,
        .is_cancelled = &s->is_cancelled};
    struct err *err = &s->result.err;
    int rc;

    s->save = &s->snapshot.save;
    rc = machine_save_begin(s->save, &s->inst->machine, s->capture.fds + 1,
        s->capture.fd_count - 1, &options, err);
    if (rc < 0)
        return rc;
    rc = take(s);
    if (rc == 0)
        rc = machine_save_finish(s->save, s->capture.fds[0], err);
    /* The client does not take the files while others can write to them. */
    close_files(s);
    return rc;
}

static int save_to_client(struct saver *s, uint64_t from)
{
    int rc = capture_files(s);

    s->result.took_ns = clock_now_ns() - from;
    if (rc == 0)
        rc = wait_verdict(s);
    if (rc == 0)
        rc = machine_save_commit(s->save, &s->result.id, &s->result.err);
    machine_save_fini(s->save);
    return rc;
}

/* ---- both ---------------------------------------------------------------- */

static void *saver_thread(void *opaque)
{
    struct saver *s = opaque;
    uint64_t from = clock_now_ns();

    (void)prctl(PR_SET_NAME, "saver");
    s->result.rc = s->is_capture ? save_to_client(s, from) : save_to_store(s);
    s->result.took_ns = clock_now_ns() - from;
    loop_post(&s->inst->loop, &s->done_call);
    return NULL;
}

static void clear(struct saver *s)
{
    close_files(s);
    free(s->store);
    free(s->name);
    s->store = NULL;
    s->name = NULL;
    s->inst = NULL;
}

static void do_captured(void *opaque)
{
    struct saver *s = opaque;

    s->on_captured(s->opaque, &s->result);
}

static void do_done(void *opaque)
{
    struct saver *s = opaque;
    struct saver_result result;

    (void)pthread_join(s->thread, NULL);
    /* Its answer is on the way still, and would come behind this one. */
    loop_unpost(&s->inst->loop, &s->captured_call);
    result = s->result;
    clear(s);
    s->on_done(s->opaque, &result);
}

void saver_init(struct saver *saver)
{
    *saver = (struct saver){.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER,
        .changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER};
}

void saver_abort(struct saver *s)
{
    if (s->inst == NULL)
        return;
    __atomic_store_n(&s->is_cancelled, true, __ATOMIC_RELAXED);
    (void)pthread_mutex_lock(&s->lock);
    s->is_given_up = true;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

void saver_commit(struct saver *s, const struct snapshot_id *id)
{
    assert(s->inst != NULL && s->is_capture);
    (void)pthread_mutex_lock(&s->lock);
    s->result.id = *id;
    s->is_committed = true;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

void saver_fini(struct saver *s)
{
    struct loop *loop;

    if (s->inst == NULL)
        return;
    loop = &s->inst->loop;
    saver_abort(s);
    (void)pthread_join(s->thread, NULL);
    loop_unpost(loop, &s->stop_call);
    loop_unpost(loop, &s->captured_call);
    loop_unpost(loop, &s->done_call);
    clear(s);
}

static int check(
    const struct saver *s, const struct instance *inst, struct err *err)
{
    if (s->inst != NULL)
        return err_set(err, EBUSY, "another save is going on");
    if (inst->phase != INSTANCE_RUNNING && inst->phase != INSTANCE_PAUSED)
        return err_set(err, EBUSY, "a machine that is '%s' cannot be saved",
            instance_phase_name(inst->phase));
    if (inst->reset != NULL)
        return err_set(err, EBUSY,
            "a machine that is reset in place keeps its own account of what "
            "was written: save it before the first push");
    return 0;
}

static int start(struct saver *s, struct instance *inst, saver_fn *on_done,
    void *opaque, struct err *err)
{
    int rc;

    s->inst = inst;
    s->on_done = on_done;
    s->opaque = opaque;
    s->stop_call = (struct loop_call){.run = do_stop, .opaque = s};
    s->captured_call = (struct loop_call){.run = do_captured, .opaque = s};
    s->done_call = (struct loop_call){.run = do_done, .opaque = s};
    rc = pthread_create(&s->thread, NULL, saver_thread, s);
    if (rc != 0) {
        s->capture.fd_count = 0;
        clear(s);
        return err_sys(err, rc, "cannot start a thread");
    }
    return 0;
}

int saver_start(struct saver *s, struct instance *inst,
    const struct saver_request *request, saver_fn *on_done, void *opaque,
    struct err *err)
{
    char *store = NULL;
    char *name = NULL;
    int rc = check(s, inst, err);

    if (rc < 0)
        return rc;
    if (inst->outside != NULL)
        return err_set(err, EPERM,
            "a machine in a jail opens no store: spore save does, or start it "
            "with --jail=off");
    if (request->store != NULL)
        store = strdup(request->store);
    if (request->name != NULL)
        name = strdup(request->name);
    if ((request->store != NULL && store == NULL) ||
        (request->name != NULL && name == NULL)) {
        free(store);
        free(name);
        return err_sys(err, ENOMEM, "a save");
    }
    saver_init(s);
    s->store = store;
    s->name = name;
    s->request = *request;
    return start(s, inst, on_done, opaque, err);
}

int saver_capture(struct saver *s, struct instance *inst,
    const struct saver_capture *capture, saver_fn *on_captured,
    saver_fn *on_done, void *opaque, struct err *err)
{
    int rc = check(s, inst, err);

    if (rc < 0)
        return rc;
    assert(capture->fd_count >= 1 && capture->fd_count <= SAVER_FILES_MAX);
    saver_init(s);
    s->is_capture = true;
    s->capture = *capture;
    s->on_captured = on_captured;
    return start(s, inst, on_done, opaque, err);
}
