/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "vmm/doctor_probe.h"
#include "vmm/doctor_text.h"
#include "vmm/hw/kvm.h"
#include "vmm/hw/probe.h"

#define GROUP "kvm"

/*
 * Hardware runs a ring-0 loop at a thousand million instructions a second and
 * more, an interpreter at a few million.
 */
#define INTERPRETED_BELOW UINT64_C(100000000)

static const char *backend_name(enum probe_backend backend)
{
    static const char *const names[] = {"VMX", "SVM", "software", "unknown"};

    return names[backend];
}

/* Why a host without a good /dev/kvm may lack it. */
static void add_processor(struct doctor_report *report)
{
    char cpuinfo[8192];
    char flags[4096];
    struct doctor_line line = {
        .group = GROUP, .name = "processor", .value = DOCTOR_NO_VALUE};
    bool has_vt;
    bool is_guest;

    if (!doctor_probe_read("/proc/cpuinfo", cpuinfo, sizeof(cpuinfo)) ||
        !doctor_text_field(cpuinfo, "flags", flags, sizeof(flags)))
        return;
    has_vt = doctor_text_has_word(flags, "vmx") ||
             doctor_text_has_word(flags, "svm");
    is_guest = doctor_text_has_word(flags, "hypervisor");
    if (has_vt) {
        doctor_report_add(report, &line, "has virtualisation instructions%s",
            is_guest ? " (nested: this host is a guest itself)" : "");
        return;
    }
    line.state = DOCTOR_SLOW;
    line.cost = "KVM works here only with a back end that interprets guest "
                "kernels";
    line.cure = is_guest ? "turn on nested virtualisation for this machine, "
                           "or choose a machine type that has it"
                         : "turn on VT-x or AMD-V in the firmware";
    doctor_report_add(report, &line, "no virtualisation instructions%s",
        is_guest ? "; this host is a guest itself" : "");
}

/* The loop is the judge: modules and CPU flags only name the back end. */
static void add_backend(struct doctor_report *report, const struct kvm *kvm,
    const struct probe_caps *caps)
{
    struct doctor_line line = {.group = GROUP,
        .name = "backend",
        .is_needed = true,
        .value = DOCTOR_NO_VALUE};
    uint64_t per_second = 0;
    struct err err;

    if (probe_measure_ring0(kvm, &per_second, &err) < 0) {
        line.state = DOCTOR_MISSING;
        line.cost = "no guest runs";
        line.cure = "see the kernel log (dmesg) for messages of kvm";
        doctor_report_add(report, &line, "no guest code runs: %s", err.text);
        return;
    }
    line.value = (int64_t)num_min(per_second, INT64_MAX);
    if (per_second >= INTERPRETED_BELOW) {
        doctor_report_add(report, &line,
            "%s: guest kernels run at %" PRIu64 " M instructions/s",
            backend_name(caps->backend), per_second / 1000000);
        return;
    }
    line.state = DOCTOR_SLOW;
    line.cost = "booting takes seconds instead of milliseconds and every "
                "system call of a guest some 0.3 ms; programs in the guest "
                "run at full speed; stock distribution kernels do not boot";
    line.cure = "boot once and restore from a snapshot; or use a host with "
                "VT-x or AMD-V";
    doctor_report_add(report, &line,
        "%s: guest kernels are interpreted at %" PRIu64 ".%" PRIu64
        " M instructions/s",
        backend_name(caps->backend), per_second / 1000000,
        per_second / 100000 % 10);
}

static void add_extension(struct doctor_report *report, const char *name,
    bool has_it, const char *found, const char *cost)
{
    struct doctor_line line = {.group = GROUP,
        .name = name,
        .state = has_it ? DOCTOR_OK : DOCTOR_MISSING,
        .value = DOCTOR_NO_VALUE,
        .cost = cost,
        .cure = "use a newer kernel"};

    doctor_report_add(report, &line, "%s", has_it ? found : "no");
}

static void add_dirty_tracking(
    struct doctor_report *report, const struct probe_caps *caps)
{
    struct doctor_line log = {.group = GROUP,
        .name = "dirty_log",
        .state = caps->manual_protect != 0 ? DOCTOR_OK : DOCTOR_SLOW,
        .value = caps->manual_protect,
        .cost = "every look at the dirty pages protects all of them again",
        .cure = "use Linux 5.2 or later"};
    struct doctor_line ring = {.group = GROUP,
        .name = "dirty_ring",
        .state = caps->dirty_ring_max != 0 ? DOCTOR_OK : DOCTOR_MISSING,
        .value = caps->dirty_ring_max,
        .cost = "a reset searches a bitmap of all guest memory",
        .cure = "use Linux 5.11 or later"};

    if (caps->manual_protect != 0)
        doctor_report_add(
            report, &log, "manual protect, modes 0x%x", caps->manual_protect);
    else
        doctor_report_add(report, &log, "without manual protect");
    if (caps->dirty_ring_max != 0)
        doctor_report_add(report, &ring, "up to %u entries for each vCPU",
            caps->dirty_ring_max);
    else
        doctor_report_add(report, &ring, "no");
}

static void add_registers(
    struct doctor_report *report, const struct probe_caps *caps)
{
    uint32_t wanted = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    struct doctor_line line = {.group = GROUP,
        .name = "sync_regs",
        .state = (caps->sync_regs & wanted) == wanted ? DOCTOR_OK : DOCTOR_SLOW,
        .value = caps->sync_regs,
        .cost = "registers take two system calls more for each reset",
        .cure = "use Linux 4.17 or later"};

    doctor_report_add(report, &line, "mask 0x%x%s%s%s", caps->sync_regs,
        (caps->sync_regs & KVM_SYNC_X86_REGS) != 0 ? " general" : "",
        (caps->sync_regs & KVM_SYNC_X86_SREGS) != 0 ? " system" : "",
        (caps->sync_regs & KVM_SYNC_X86_EVENTS) != 0 ? " events" : "");
}

static void add_limits(
    struct doctor_report *report, const struct probe_caps *caps)
{
    struct doctor_line vcpus = {
        .group = GROUP, .name = "vcpus", .value = caps->vcpus_max};
    struct doctor_line slots = {
        .group = GROUP, .name = "memslots", .value = caps->memslots_max};

    doctor_report_add(report, &vcpus, "at most %u, %u recommended",
        caps->vcpus_max, caps->vcpus_recommended);
    doctor_report_add(report, &slots, "at most %u", caps->memslots_max);
}

static void add_nested(
    struct doctor_report *report, const struct probe_caps *caps)
{
    struct doctor_line line = {.group = GROUP,
        .name = "nested",
        .state = DOCTOR_MISSING,
        .value = DOCTOR_NO_VALUE,
        .cost = "guests cannot run virtual machines of their own"};
    const char *path = caps->backend == PROBE_VMX
                           ? "/sys/module/kvm_intel/parameters/nested"
                           : "/sys/module/kvm_amd/parameters/nested";
    char text[16];

    if (caps->backend == PROBE_SOFTWARE || caps->backend == PROBE_UNKNOWN) {
        doctor_report_add(report, &line, "not with this back end");
        return;
    }
    if (doctor_probe_read(path, text, sizeof(text)) &&
        (text[0] == 'Y' || text[0] == '1'))
        line.state = DOCTOR_OK;
    line.cure = "load the KVM module with nested=1, if guests need it";
    doctor_report_add(
        report, &line, "%s", line.state == DOCTOR_OK ? "on" : "off");
}

void doctor_probe_kvm(struct doctor_report *report)
{
    struct doctor_line device = {.group = GROUP,
        .name = "device",
        .is_needed = true,
        .value = DOCTOR_NO_VALUE,
        .cost = "no guest runs"};
    struct probe_caps caps;
    struct kvm kvm;
    struct err err;

    if (kvm_open(&kvm, &err) < 0) {
        device.state = DOCTOR_MISSING;
        doctor_report_add(report, &device, "%s", err.text);
        add_processor(report);
        return;
    }
    probe_read_caps(&kvm, &caps);
    device.value = caps.api_version;
    doctor_report_add(
        report, &device, "/dev/kvm opens, API version %d", caps.api_version);
    add_backend(report, &kvm, &caps);
    add_processor(report);
    add_extension(report, "split_irqchip", caps.split_irqchip, "yes",
        "closing a machine waits tens of milliseconds");
    add_extension(report, "immediate_exit", caps.immediate_exit, "yes",
        "a running vCPU cannot be stopped reliably");
    add_extension(report, "irqfd", caps.irqfd, "yes",
        "each interrupt is a system call of the device's thread");
    add_extension(report, "ioeventfd", caps.ioeventfd, "yes",
        "each notification of a device stops the vCPU for longer");
    add_dirty_tracking(report, &caps);
    add_registers(report, &caps);
    add_extension(report, "tsc_deadline", caps.tsc_deadline, "yes",
        "guest timers are coarser and cost more exits");
    add_extension(report, "tsc_control", caps.tsc_control, "yes",
        "a snapshot keeps time only on hosts of the same TSC frequency");
    report->lines[report->count - 1].cure = NULL;
    add_limits(report, &caps);
    add_nested(report, &caps);
    kvm_close(&kvm);
}
