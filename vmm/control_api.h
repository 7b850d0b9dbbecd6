/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a control socket serves: Firecracker's endpoints, and ours below
 * /spore (docs/api.md). One table; what it lacks is answered as Firecracker
 * answers what it does not know.
 *
 * Thread rule: the loop's thread. Devices are entered with their lock held.
 */
#ifndef VMM_CONTROL_API_H
#define VMM_CONTROL_API_H

#include "vmm/api/router.h"
#include "vmm/core/rate.h"

struct control;
struct saver_result;

/* What Firecracker's clients are told it is. */
#define CONTROL_API_VERSION "1.17.0"

/* A router over the table, for `control`. */
struct router control_api_router(struct control *control);

/* Handlers below /spore, in control_spore.c; `opaque` is a struct control. */
int control_spore_get(void *opaque, struct router_call *call);
int control_spore_stop(void *opaque, struct router_call *call);
int control_spore_kill(void *opaque, struct router_call *call);
int control_spore_vsock(void *opaque, struct router_call *call);

/* Snapshots and resets, in control_snapshot.c, and the bodies they take. */
extern const struct schema_field control_save_fields[];
extern const struct schema_field control_reset_fields[];
int control_spore_snapshot(void *opaque, struct router_call *call);
int control_spore_push(void *opaque, struct router_call *call);
int control_spore_reset(void *opaque, struct router_call *call);

/*
 * Answers who waits for a save, if it is there still: with `json` (NULL: with
 * nothing), which is released, or with what went wrong.
 */
void control_save_ended(
    struct control *control, const struct saver_result *result, json_t *json);
extern const struct schema_field control_create_fields[];
int control_snapshot_create(void *opaque, struct router_call *call);

/* Captures for clients that make the snapshot, in control_capture.c. */
extern const struct schema_field control_capture_fields[];
extern const struct schema_field control_commit_fields[];
int control_capture_plan(void *opaque, struct router_call *call);
int control_capture(void *opaque, struct router_call *call);
int control_capture_commit(void *opaque, struct router_call *call);

/* How a machine comes to be, in control_load.c. */
extern const struct schema_field control_load_fields[];
int control_snapshot_load(void *opaque, struct router_call *call);
int control_boot(struct control *control, struct router_call *call);

/*
 * "STORE/NAME" as a path; the caller frees both. -EINVAL if it has no name.
 */
CC_MUST_CHECK int control_split_snapshot(
    const char *path, char **ret_store, char **ret_name, struct err *err);

/*
 * -EINVAL unless `path`, of the memory of the snapshot at `snapshot_path`, is
 * NULL or that of a file in it.
 */
CC_MUST_CHECK int control_check_mem_path(
    const char *path, const char *snapshot_path, struct err *err);

/* Whether requests before or after the start have their place now. */
enum router_phase control_api_phase(const struct control *control);

/* Devices, in control_devices.c, and the bodies they take. */
extern const struct schema_field control_drive_fields[];
extern const struct schema_field control_net_fields[];
extern const struct schema_field control_balloon_fields[];
extern const struct schema_field control_balloon_stats_fields[];
extern const struct schema_field control_balloon_hint_fields[];
int control_drive_patch(void *opaque, struct router_call *call);
int control_pmem_patch(void *opaque, struct router_call *call);
int control_net_patch(void *opaque, struct router_call *call);
int control_balloon_get(void *opaque, struct router_call *call);
int control_balloon_patch(void *opaque, struct router_call *call);
int control_balloon_stats_get(void *opaque, struct router_call *call);
int control_balloon_stats_patch(void *opaque, struct router_call *call);
int control_balloon_hint_start(void *opaque, struct router_call *call);
int control_balloon_hint_stop(void *opaque, struct router_call *call);
int control_balloon_hint_status(void *opaque, struct router_call *call);

/* Limits, and what buckets of `body`.`name` say: those not there keep theirs.
 */
extern const struct schema_field control_bucket_fields[];
extern const struct schema_field control_limiter_fields[];
struct rate_change control_get_limits(const json_t *body, const char *name);

/* One bucket, as control_bucket_fields has it; NULL: no limit. */
struct rate_bucket_config control_get_bucket(const json_t *bucket);

/* JSON of a handler's reply; takes `json` over. -ENOMEM. */
CC_MUST_CHECK int control_api_reply(struct router_call *call, json_t *json);

#endif
