/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/serve_metrics.h"

#include <inttypes.h>

#include "vmm/base/clock.h"

#define US UINT64_C(1000)
#define MS CLOCK_NS_PER_MS
#define S  CLOCK_NS_PER_S

static const uint64_t bounds_ns[SERVE_BUCKETS] = {50 * US, 100 * US, 200 * US,
    500 * US, 1 * MS, 2 * MS, 3 * MS, 5 * MS, 10 * MS, 20 * MS, 50 * MS,
    100 * MS, 200 * MS, 500 * MS, 1 * S, 2 * S, 5 * S, 10 * S, 30 * S, 60 * S};

static const char *const stage_names[SERVE_STAGE_COUNT] = {
    [SERVE_STAGE_ACCEPT] = "accept",
    [SERVE_STAGE_WAIT] = "clone",
    [SERVE_STAGE_START] = "first_instruction",
    [SERVE_STAGE_BYTE] = "first_byte",
    [SERVE_STAGE_TOTAL] = "total",
};

static const char *const outcome_names[SERVE_OUTCOME_COUNT] = {
    [SERVE_OK] = "ok",
    [SERVE_CLIENT_GONE] = "client_gone",
    [SERVE_CLIENT_SLOW] = "client_slow",
    [SERVE_BAD_REQUEST] = "bad_request",
    [SERVE_OVERLOAD] = "overload",
    [SERVE_QUEUE_TIMEOUT] = "queue_timeout",
    [SERVE_NO_CLONE] = "no_clone",
    [SERVE_TIMEOUT] = "timeout",
    [SERVE_NOT_CONNECTED] = "not_connected",
    [SERVE_BAD_RESPONSE] = "bad_response",
    [SERVE_POWERED_OFF] = "powered_off",
    [SERVE_FAILED] = "vm_failed",
    [SERVE_KILLED] = "vm_killed",
    [SERVE_STOPPED] = "stopped",
    [SERVE_HOST_ERROR] = "host_error",
};

const char *serve_outcome_name(enum serve_outcome outcome)
{
    return outcome_names[outcome];
}

void serve_metrics_time(
    struct serve_metrics *m, enum serve_stage stage, uint64_t ns)
{
    struct serve_histogram *h = &m->stages[stage];
    unsigned int i = 0;

    while (i < SERVE_BUCKETS && ns > bounds_ns[i])
        i++;
    h->buckets[i]++;
    h->sum_ns += ns;
}

static void write_head(
    FILE *out, const char *name, const char *type, const char *help)
{
    (void)fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_one(FILE *out, const char *name, const char *type,
    const char *help, uint64_t value)
{
    write_head(out, name, type, help);
    (void)fprintf(out, "%s %" PRIu64 "\n", name, value);
}

static void write_histogram(
    FILE *out, const char *stage, const struct serve_histogram *h)
{
    uint64_t below = 0;

    for (unsigned int i = 0; i < SERVE_BUCKETS; i++) {
        below += h->buckets[i];
        (void)fprintf(out,
            "spore_serve_stage_seconds_bucket{stage=\"%s\",le=\"%g\"} %" PRIu64
            "\n",
            stage, (double)bounds_ns[i] / 1e9, below);
    }
    below += h->buckets[SERVE_BUCKETS];
    (void)fprintf(out,
        "spore_serve_stage_seconds_bucket{stage=\"%s\",le=\"+Inf\"} %" PRIu64
        "\n"
        "spore_serve_stage_seconds_sum{stage=\"%s\"} %.9f\n"
        "spore_serve_stage_seconds_count{stage=\"%s\"} %" PRIu64 "\n",
        stage, below, stage, (double)h->sum_ns / 1e9, stage, below);
}

static void write_pool(FILE *out, const struct pool_stats *p)
{
    static const char name[] = "spore_serve_pool_clones";

    write_head(out, name, "gauge", "Clones, by state.");
    (void)fprintf(out,
        "%s{state=\"ready\"} %" PRIu32 "\n%s{state=\"starting\"} %" PRIu32 "\n"
        "%s{state=\"taken\"} %" PRIu32 "\n",
        name, p->ready, name, p->starting, name, p->taken);
    write_one(out, "spore_serve_pool_alive", "gauge",
        "Clones, in whatever state.", p->alive);
    write_one(out, "spore_serve_pool_waiting", "gauge",
        "Who waits for a clone.", p->waiting);
    write_one(
        out, "spore_serve_pool_made_total", "counter", "Clones made.", p->made);
    write_one(out, "spore_serve_pool_dropped_total", "counter",
        "Clones that were taken and thrown away.", p->dropped);
    write_one(out, "spore_serve_pool_ended_total", "counter",
        "Clones that ended by themselves.", p->ended);
    write_one(out, "spore_serve_pool_failures_total", "counter",
        "Clones that could not be made.", p->failures);
    write_one(out, "spore_serve_pool_resets_total", "counter",
        "Clones put back to where they were made.", p->resets);
    write_one(out, "spore_serve_pool_reset_errors_total", "counter",
        "Clones that could not be put back.", p->reset_errors);
}

void serve_metrics_write(
    const struct serve_metrics *m, const struct serve_gauges *gauges, FILE *out)
{
    write_head(out, "spore_serve_stage_seconds", "histogram",
        "How long the stages of requests took.");
    for (unsigned int i = 0; i < SERVE_STAGE_COUNT; i++)
        write_histogram(out, stage_names[i], &m->stages[i]);
    write_head(
        out, "spore_serve_requests_total", "counter", "Requests, by end.");
    for (unsigned int i = 0; i < SERVE_OUTCOME_COUNT; i++)
        (void)fprintf(out,
            "spore_serve_requests_total{outcome=\"%s\"} %" PRIu64 "\n",
            outcome_names[i], m->outcomes[i]);
    write_one(out, "spore_serve_connections_accepted_total", "counter",
        "Connections of clients.", m->accepted);
    write_one(out, "spore_serve_connections_refused_total", "counter",
        "Connections closed at once, for want of room.", m->refused);
    write_one(out, "spore_serve_connections_evicted_total", "counter",
        "Idle connections closed to make room.", m->evicted);
    write_one(out, "spore_serve_accept_stalls_total", "counter",
        "Times that no connection could be accepted.", m->out_of_fds);
    write_one(out, "spore_serve_connections", "gauge",
        "Connections of clients that are open.", gauges->connections);
    write_one(out, "spore_serve_requests_running", "gauge",
        "Requests that have a clone.", gauges->running);
    write_one(out, "spore_serve_requests_queued", "gauge",
        "Requests that wait for one.", gauges->queued);
    write_one(out, "spore_serve_draining", "gauge", "1 while the server ends.",
        gauges->is_draining ? 1 : 0);
    write_one(out, "spore_serve_clone_private_bytes", "gauge",
        "Private memory of all clones that serve, as estimated.",
        gauges->private_bytes);
    write_one(out, "spore_serve_clone_private_bytes_typical", "gauge",
        "Private memory of one clone, a moving average.",
        gauges->typical_bytes);
    write_one(out, "spore_serve_clone_samples_total", "counter",
        "Times that a clone's memory was looked at.", m->samples);
    write_head(out, "spore_serve_clone_faults_total", "counter",
        "Page faults of clones, as far as they were seen.");
    (void)fprintf(out,
        "spore_serve_clone_faults_total{kind=\"minor\"} %" PRIu64 "\n"
        "spore_serve_clone_faults_total{kind=\"major\"} %" PRIu64 "\n",
        m->minor_faults, m->major_faults);
    write_pool(out, &gauges->pool);
}
