/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server counts: how long the stages of requests take, how requests
 * end, what clones use. Plain numbers, written as text that Prometheus reads
 * (exposition format 0.0.4).
 *
 * Thread rule: the loop's thread. Nothing in it comes from clients or guests.
 */
#ifndef VMM_SERVE_SERVE_METRICS_H
#define VMM_SERVE_SERVE_METRICS_H

#include <stdint.h>
#include <stdio.h>

#include "vmm/serve/pool.h"

enum serve_stage {
    SERVE_STAGE_ACCEPT, /* from accepting to a whole request's head */
    SERVE_STAGE_WAIT,   /* from there until it has a clone */
    SERVE_STAGE_START,  /* from there to the clone's next instruction */
    SERVE_STAGE_BYTE,   /* from having a clone to the first byte out */
    SERVE_STAGE_TOTAL,  /* from the whole head to the end of all */
    SERVE_STAGE_COUNT,
};

/* How a request ended. */
enum serve_outcome {
    SERVE_OK,
    SERVE_CLIENT_GONE,   /* the client went first */
    SERVE_CLIENT_SLOW,   /* it sent or took too little for too long */
    SERVE_BAD_REQUEST,   /* what it sent is none */
    SERVE_OVERLOAD,      /* refused: as many as may be were there */
    SERVE_QUEUE_TIMEOUT, /* no clone within the time for that */
    SERVE_NO_CLONE,      /* none could be made */
    SERVE_TIMEOUT,       /* the guest took longer than it may */
    SERVE_NOT_CONNECTED, /* the guest closed without a byte */
    SERVE_BAD_RESPONSE,  /* what it sent is none, or cut short */
    SERVE_POWERED_OFF,   /* the guest ended its machine */
    SERVE_FAILED,        /* the machine can go on no further */
    SERVE_KILLED,        /* its process was */
    SERVE_STOPPED,       /* the server ended */
    SERVE_HOST_ERROR,    /* no memory, no descriptors */
    SERVE_OUTCOME_COUNT,
};

/* Bounds of a histogram's buckets; one more is for what is above all. */
#define SERVE_BUCKETS 20u

struct serve_histogram {
    uint64_t buckets[SERVE_BUCKETS + 1];
    uint64_t sum_ns;
};

struct serve_metrics {
    struct serve_histogram stages[SERVE_STAGE_COUNT];
    uint64_t outcomes[SERVE_OUTCOME_COUNT];
    uint64_t accepted;     /* connections */
    uint64_t refused;      /* of them, closed for want of room */
    uint64_t evicted;      /* of them, idle ones closed for others */
    uint64_t out_of_fds;   /* times that accepting had to wait */
    uint64_t samples;      /* of clones' memory */
    uint64_t minor_faults; /* of clones that were sampled, as they grew */
    uint64_t major_faults;
};

/* What is so at the moment. */
struct serve_gauges {
    uint32_t connections;
    uint32_t running;       /* requests that have a clone */
    uint32_t queued;        /* requests that wait for one */
    uint64_t private_bytes; /* of all clones that run, as estimated */
    uint64_t typical_bytes; /* of one */
    bool is_draining;
    struct pool_stats pool;
};

void serve_metrics_time(
    struct serve_metrics *m, enum serve_stage stage, uint64_t ns);

const char *serve_outcome_name(enum serve_outcome outcome);

/* All of it; what the file cannot take is the caller's to see. */
void serve_metrics_write(const struct serve_metrics *m,
    const struct serve_gauges *gauges, FILE *out);

#endif
