/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that is described over its control socket before it is started,
 * with the endpoints of the contract: what they may hold, and what they make
 * of the description.
 *
 * Thread rule: the loop's thread. Each request works on a copy of the
 * description, which takes its place only if it is good as a whole: one that
 * is refused has changed nothing. Files are opened to see that they are there,
 * and again when the machine is built.
 */
#ifndef VMM_CONTROL_CONFIG_H
#define VMM_CONTROL_CONFIG_H

#include <jansson.h>
#include <stdint.h>

#include "vmm/api/router.h"
#include "vmm/base/cc.h"
#include "vmm/config.h"
#include "vmm/run_options.h"

struct control;

/* What guests get as arguments that were given none. */
#define CONTROL_BOOT_ARGS                                                      \
    "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux "       \
    "i8042.dumbkbd swiotlb=noforce"

/* Bodies, named as the contract names their types. */
extern const struct schema_field control_machine_fields[];
extern const struct schema_field control_machine_patch_fields[];
extern const struct schema_field control_boot_fields[];
extern const struct schema_field control_cpu_fields[];
extern const struct schema_field control_vsock_fields[];
extern const struct schema_field control_entropy_fields[];
extern const struct schema_field control_serial_fields[];
extern const struct schema_field control_balloon_put_fields[];
extern const struct schema_field control_drive_put_fields[];
extern const struct schema_field control_net_put_fields[];
extern const struct schema_field control_pmem_put_fields[];
extern const struct schema_field control_pmem_patch_fields[];
extern const struct schema_field control_mmds_fields[];
extern const struct schema_field control_hotplug_fields[];
extern const struct schema_field control_hotplug_patch_fields[];

/* Handlers; `opaque` is a struct control. */
int control_machine_put(void *opaque, struct router_call *call);
int control_machine_patch(void *opaque, struct router_call *call);
int control_machine_get(void *opaque, struct router_call *call);
int control_boot_put(void *opaque, struct router_call *call);
int control_cpu_put(void *opaque, struct router_call *call); /* _cpu.c */
int control_vsock_put(void *opaque, struct router_call *call);
int control_entropy_put(void *opaque, struct router_call *call);
int control_serial_put(void *opaque, struct router_call *call);
int control_balloon_put(void *opaque, struct router_call *call);
int control_drive_put(void *opaque, struct router_call *call);
int control_net_put(void *opaque, struct router_call *call);
int control_pmem_put(void *opaque, struct router_call *call);

/* The metadata service, in control_mmds.c: its data, before and after. */
int control_mmds_config_put(void *opaque, struct router_call *call);
int control_mmds_get(void *opaque, struct router_call *call);
int control_mmds_put(void *opaque, struct router_call *call);
int control_mmds_patch(void *opaque, struct router_call *call);

/* GET /balloon before the start. */
int control_config_balloon_get(
    const struct control *control, struct router_call *call);

/* GET /vm/config: all of it, in the contract's order, ours as "spore". */
int control_config_get(void *opaque, struct router_call *call);

/* The members of GET /machine-config; NULL without memory. */
json_t *control_machine_json(const struct control *control);

/*
 * A copy of the description that a request is to change, to be given to one
 * of the two others. -EBUSY while the machine is being made.
 */
CC_MUST_CHECK int control_config_begin(
    const struct control *control, struct config *ret_copy, struct err *err);

/*
 * The copy takes the description's place, which has `given` (of enum
 * run_given) from then on.
 */
CC_MUST_CHECK int control_config_commit(struct control *control,
    struct config *copy, uint32_t given, struct err *err);
void control_config_abort(struct config *copy);

/* err_set with what the contract says of an errno: "TEXT (os error N)". */
int control_config_os_error(struct err *err, int code, const char *fmt, ...)
    CC_PRINTF(3, 4);

/* Whether the file can be opened: 0 or -errno. */
CC_MUST_CHECK int control_config_probe(const char *path, bool is_read_only);

#endif
