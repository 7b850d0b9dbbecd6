/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/saver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "vmm/base/clock.h"
#include "vmm/instance.h"

/* On the loop: the guest stands still for as long as this takes. */
static void do_stop(void *opaque)
{
    struct saver *s = opaque;
    enum instance_phase phase = s->inst->phase;
    int rc;

    if (phase == INSTANCE_RUNNING || phase == INSTANCE_PAUSED)
        rc = machine_save_stop(
            &s->save, phase == INSTANCE_RUNNING, &s->result.err);
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

static int open_parent(const struct saver *s, const struct store *store,
    struct snap *ret_parent, struct err *err)
{
    const struct snapshot_id *base = &s->inst->machine.base;

    if (snapshot_id_is_zero(base))
        return err_set(err, EINVAL,
            "there is no snapshot that a diff could stand on: save once with "
            "--track first");
    return snap_open(store, base, ret_parent, err);
}

static int save_into(
    struct saver *s, struct store *store, const struct snap *parent)
{
    const struct machine_save_options options = {.name = s->name,
        .parent = parent,
        .sync = s->request.sync,
        .track = s->request.track,
        .share = s->request.share};
    struct err *err = &s->result.err;
    int rc =
        machine_save_begin(&s->save, &s->inst->machine, store, &options, err);

    if (rc < 0)
        return rc;
    rc = machine_save_copy(&s->save, true, err);
    if (rc == 0)
        rc = wait_stopped(s);
    if (rc == 0)
        rc = machine_save_finish(&s->save, &s->result.id, err);
    s->result.stopped_ns = s->save.stopped_ns;
    s->result.pages_written = s->save.image.pages_written;
    machine_save_fini(&s->save);
    return rc;
}

static void *saver_thread(void *opaque)
{
    struct saver *s = opaque;
    struct err *err = &s->result.err;
    uint64_t from = clock_now_ns();
    struct store store;
    struct snap parent;
    int rc;

    (void)prctl(PR_SET_NAME, "saver");
    rc = store_open(&store, s->store, true, err);
    if (rc == 0) {
        if (s->request.diff) {
            rc = open_parent(s, &store, &parent, err);
            if (rc == 0) {
                rc = save_into(s, &store, &parent);
                snap_close(&parent);
            }
        } else {
            rc = save_into(s, &store, NULL);
        }
        store_close(&store);
    }
    s->result.rc = rc;
    s->result.took_ns = clock_now_ns() - from;
    loop_post(&s->inst->loop, &s->done_call);
    return NULL;
}

static void clear(struct saver *s)
{
    free(s->store);
    free(s->name);
    s->store = NULL;
    s->name = NULL;
    s->inst = NULL;
}

static void do_done(void *opaque)
{
    struct saver *s = opaque;
    struct saver_result result;

    (void)pthread_join(s->thread, NULL);
    result = s->result;
    clear(s);
    s->on_done(s->opaque, &result);
}

void saver_init(struct saver *saver)
{
    *saver = (struct saver){.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER,
        .changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER};
}

void saver_fini(struct saver *s)
{
    struct loop *loop;

    if (s->inst == NULL)
        return;
    loop = &s->inst->loop;
    (void)pthread_mutex_lock(&s->lock);
    s->is_given_up = true;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
    loop_unpost(loop, &s->stop_call);
    loop_unpost(loop, &s->done_call);
    clear(s);
}

int saver_start(struct saver *s, struct instance *inst,
    const struct saver_request *request,
    void (*on_done)(void *opaque, const struct saver_result *result),
    void *opaque, struct err *err)
{
    char *store = NULL;
    char *name = NULL;
    int rc;

    if (s->inst != NULL)
        return err_set(err, EBUSY, "another save is going on");
    if (inst->phase != INSTANCE_RUNNING && inst->phase != INSTANCE_PAUSED)
        return err_set(err, EBUSY, "a machine that is '%s' cannot be saved",
            instance_phase_name(inst->phase));
    if (inst->reset != NULL)
        return err_set(err, EBUSY,
            "a machine that is reset in place keeps its own account of what "
            "was written: save it before the first push");
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
    s->inst = inst;
    s->store = store;
    s->name = name;
    s->request = *request;
    s->on_done = on_done;
    s->opaque = opaque;
    s->stop_call = (struct loop_call){.run = do_stop, .opaque = s};
    s->done_call = (struct loop_call){.run = do_done, .opaque = s};
    rc = pthread_create(&s->thread, NULL, saver_thread, s);
    if (rc != 0) {
        clear(s);
        return err_sys(err, rc, "cannot start a thread");
    }
    return 0;
}
