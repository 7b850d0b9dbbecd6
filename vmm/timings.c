/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/timings.h"

#include <stdbool.h>

#include "vmm/base/clock.h"

static const struct {
    const char *key;
    const char *text;
} names[TIMINGS_COUNT] = {
    [TIMINGS_PROCESS] = {"process_start", "process start"},
    [TIMINGS_MAIN] = {"main", "main"},
    [TIMINGS_KVM] = {"kvm_ready", "KVM ready"},
    [TIMINGS_KERNEL] = {"kernel_loaded", "kernel loaded"},
    [TIMINGS_GUEST] = {"first_guest_instruction", "first guest instruction"},
    [TIMINGS_INIT] = {"init", "init"},
    [TIMINGS_ROOT] = {"root_mounted", "root mounted"},
    [TIMINGS_READY] = {"agent_ready", "agent ready"},
    [TIMINGS_COMMAND] = {"command", "command started"},
    [TIMINGS_COMMAND_END] = {"command_end", "command ended"},
    [TIMINGS_EXIT] = {"exit", "exit"},
};

const char *timings_text(enum timings_phase phase)
{
    return names[phase].text;
}

void timings_mark_at(
    struct timings *t, enum timings_phase phase, uint64_t at_ns)
{
    uint64_t unset = 0;

    (void)__atomic_compare_exchange_n(&t->at_ns[phase], &unset, at_ns, false,
        __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void timings_mark(struct timings *t, enum timings_phase phase)
{
    timings_mark_at(t, phase, clock_now_ns());
}

static int64_t since_main(const struct timings *t, size_t phase)
{
    return (int64_t)(t->at_ns[phase] - t->at_ns[TIMINGS_MAIN]);
}

void timings_print(const struct timings *t, FILE *out)
{
    int64_t before = 0;

    (void)fprintf(out, "%-26s %12s %12s\n", "phase", "at ms", "took ms");
    for (size_t i = 0; i < TIMINGS_COUNT; i++) {
        int64_t at = since_main(t, i);

        if (t->at_ns[i] == 0)
            continue;
        (void)fprintf(out, "%-26s %12.3f %12.3f", names[i].text,
            (double)at / 1e6, i == 0 ? 0.0 : (double)(at - before) / 1e6);
        if (t->emulated[i] != 0)
            (void)fprintf(out, "  %.2f M instructions emulated",
                (double)t->emulated[i] / 1e6);
        (void)fputc('\n', out);
        before = at;
    }
}

void timings_print_json(const struct timings *t, FILE *out)
{
    const char *comma = "";

    (void)fputs("{\"unit\":\"ns\"", out);
    for (size_t i = 0; i < TIMINGS_COUNT; i++) {
        if (t->at_ns[i] == 0)
            (void)fprintf(out, ",\"%s\":null", names[i].key);
        else
            (void)fprintf(
                out, ",\"%s\":%lld", names[i].key, (long long)since_main(t, i));
    }
    (void)fputs(",\"emulated_instructions\":{", out);
    for (size_t i = 0; i < TIMINGS_COUNT; i++) {
        if (t->emulated[i] == 0)
            continue;
        (void)fprintf(out, "%s\"%s\":%llu", comma, names[i].key,
            (unsigned long long)t->emulated[i]);
        comma = ",";
    }
    (void)fputs("}}\n", out);
}
