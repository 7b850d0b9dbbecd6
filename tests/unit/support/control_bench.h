/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control socket's endpoints before an instance that has no vCPUs, so that
 * requests can be made without /dev/kvm.
 *
 * Thread rule: one thread, as http_bench.h.
 */
#ifndef TESTS_UNIT_SUPPORT_CONTROL_BENCH_H
#define TESTS_UNIT_SUPPORT_CONTROL_BENCH_H

#include "tests/unit/support/http_bench.h"
#include "vmm/config.h"
#include "vmm/control.h"
#include "vmm/run_options.h"

struct control_bench {
    struct http_bench http;
    struct config config;
    struct run_options options; /* of a machine that is to be described */
    struct control_host host;
    struct instance inst;
    struct control control;
};

/* The instance is running, and called "bench". */
void control_bench_init(struct control_bench *b);

/* The same on a listening socket, which is the server's then. */
void control_bench_init_on(struct control_bench *b, int fd);

/*
 * It is not started: `options` is its description, InstanceStart makes it run,
 * and a load is refused.
 */
void control_bench_begin(struct control_bench *b);
void control_bench_fini(struct control_bench *b);

#endif
