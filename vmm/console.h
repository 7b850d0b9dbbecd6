/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a serial port or a virtio console of the guest leads: to a descriptor,
 * and always into a memory of the last lines, from which a failed boot is
 * explained.
 *
 * Thread rule: the callbacks of console_host and console_end come with the
 * device's lock held, on vCPU threads too; everything else on the loop's
 * thread.
 * Guest-controlled: all bytes; they are kept in bounded memory and passed on
 * as they are.
 */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/vconsole.h"
#include "vmm/core/loop.h"
#include "vmm/core/rate.h"
#include "vmm/hw/serial.h"
#include "vmm/output_limit.h"

#define CONSOLE_TAIL_MAX 8192u

/* The guest's device; its functions are called with its lock held. */
struct console_port {
    struct device *dev;
    void (*sink_ready)(void *opaque);
    size_t (*receive)(void *opaque, const uint8_t *data, size_t len);
    void *opaque;
};

struct console {
    struct loop *loop;
    struct console_port port;   /* set by console_attach */
    int out_fd;                 /* borrowed; -1: the tail only */
    struct output_limit *limit; /* of out_fd; borrowed, NULL: none */
    struct rate rate; /* of the guest's output; beyond it is dropped */
    struct rate_state rate_state;
    uint64_t rate_dropped; /* bytes; under the device's lock */
    struct loop_source out_source;
    struct loop_source in_source; /* standard input, or fd -1 */
    struct loop_call watch_out;   /* from a vCPU thread to the loop */
    struct loop_call watch_in;
    bool out_failed;   /* nobody reads any more: output is dropped */
    bool input_ended;  /* end of file on in_source */
    uint8_t input[64]; /* read and not yet taken by the guest */
    size_t input_at;
    size_t input_end;
    void (*on_escape)(void *opaque); /* the user typed Ctrl-] */
    void *opaque;
    uint64_t tail_count; /* bytes written since console_forget */
    uint8_t tail[CONSOLE_TAIL_MAX];
};

/* `out_fd` and `in_fd` are borrowed and may be -1. */
void console_init(
    struct console *console, struct loop *loop, int out_fd, int in_fd);
void console_fini(struct console *console);

/* Another place for the output; before the machine is built. */
void console_set_output(struct console *console, int out_fd);

/* Limits the output from here on; `limit` is borrowed. */
void console_set_limit(struct console *console, struct output_limit *limit);

/*
 * Drops what the guest writes faster than this, but for the tail: all zero is
 * no limit. Before the machine is built. -EINVAL as rate_check.
 */
CC_MUST_CHECK int console_set_rate(struct console *console,
    const struct rate_bucket_config *bucket, struct err *err);

/* Has Ctrl-] on the input call `on_escape` and not go to the guest. */
void console_set_escape(
    struct console *console, void (*on_escape)(void *opaque), void *opaque);

/* What serial_init is given. */
struct serial_host console_host(struct console *console);

/* Connects the port that was made with console_host; input may flow now. */
CC_MUST_CHECK int console_attach(
    struct console *console, struct serial *serial, struct err *err);

/* The same for a virtio console: what vconsole_init is given, and the rest. */
struct vconsole_host console_end(struct console *console);
CC_MUST_CHECK int console_attach_virtio(
    struct console *console, struct vconsole *vconsole, struct err *err);

/*
 * Copies the last lines written, at most `size` bytes, whole lines where
 * possible; bytes copied. After the vCPUs have stopped.
 */
size_t console_tail(const struct console *console, char *buf, size_t size);

/* What was written so far is in no tail any more. As above. */
void console_forget(struct console *console);

#endif
