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

struct control_bench {
    struct http_bench http;
    struct config config;
    struct instance inst;
    struct control control;
};

/* The instance is running, and called "bench". */
void control_bench_init(struct control_bench *b);
void control_bench_fini(struct control_bench *b);

#endif
