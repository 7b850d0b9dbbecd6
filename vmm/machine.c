/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "guest/agent_image.h"
#include "jail/seccomp.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/config_text.h"
#include "vmm/hw/boot.h"
#include "vmm/hw/cpuid_template.h"
#include "vmm/machine_devices.h"
#include "vmm/machine_restore.h"

/*
 * What a guest kernel must do without where ring 0 is emulated. On a busy host
 * RCU waits for longer than its patience, and its report sends NMIs, whose
 * handler begins with an instruction (lsl) that KVM cannot emulate.
 */
#define BOOT_ARGS_RING0_EMULATED                                               \
    "noxsave clearcpuid=popcnt,cx16,smap,erms,fsrm,clwb,395 nokaslr softkvm "  \
    "clocksource=kvm-clock rcupdate.rcu_cpu_stall_suppress=1"

static void do_end(void *opaque)
{
    struct machine *m = opaque;

    m->host.on_end(m->host.opaque, &m->end);
}

/*
 * From any thread, with a device's lock held perhaps. The guest stops at
 * once: every vCPU is told to quit before its next instruction.
 */
static void end_machine(struct machine *m, enum machine_end_kind kind,
    uint8_t status, const char *text)
{
    bool first;

    (void)pthread_mutex_lock(&m->end_lock);
    first = !m->has_ended;
    if (first) {
        m->has_ended = true;
        m->end = (struct machine_end){.kind = kind, .status = status};
        (void)snprintf(m->end.text, sizeof(m->end.text), "%s", text);
    }
    (void)pthread_mutex_unlock(&m->end_lock);
    if (!first)
        return;
    for (uint32_t i = 0; i < m->vcpu_count; i++)
        vcpu_request(&m->vcpus[i], VCPU_QUIT);
    loop_post(m->host.loop, &m->end_call);
}

void machine_kill(struct machine *m)
{
    end_machine(m, MACHINE_KILLED, 0, "the machine was killed");
}

void machine_revive(struct machine *m)
{
    (void)pthread_mutex_lock(&m->end_lock);
    m->has_ended = false;
    (void)pthread_mutex_unlock(&m->end_lock);
    loop_unpost(m->host.loop, &m->end_call);
    for (uint32_t i = 0; i < m->vcpu_count; i++)
        vcpu_request(&m->vcpus[i], VCPU_RUN);
}

static void on_power_off(void *opaque)
{
    end_machine(opaque, MACHINE_POWERED_OFF, 0, "the guest powered off");
}

static void on_reset(void *opaque)
{
    end_machine(opaque, MACHINE_RESET, 0, "the guest asked for a reset");
}

static void on_panic(void *opaque, uint8_t event)
{
    (void)event;
    end_machine(opaque, MACHINE_PANICKED, 0, "the guest's kernel panicked");
}

static void on_exit_port(void *opaque, uint8_t status)
{
    end_machine(opaque, MACHINE_EXITED, status, "the guest ended itself");
}

static void on_host_fault(void *opaque, const char *text)
{
    end_machine(opaque, MACHINE_FAULTED, 0, text);
}

static void on_vcpu_stop(void *opaque, const struct vcpu_stop *stop)
{
    struct machine *m = opaque;
    const char *text = stop->text;
    struct err err;

    /* KVM_RUN fails when the guest touches what is no longer there. */
    if (stop->kind == VCPU_STOP_HOST &&
        machine_pmem_find_cut(m->pmems, m->config->pmem_count, &err))
        text = err.text;
    end_machine(m, MACHINE_FAULTED, 0, text);
}

static int init_tracking(struct machine *m, struct err *err)
{
    struct dirty_config config = {
        .from_start = m->host.tracking != MACHINE_TRACK_LATER};

    if (m->host.tracking == MACHINE_TRACK_RING)
        config.method = DIRTY_RING;
    else if (m->host.tracking == MACHINE_TRACK_BITMAP)
        config.method = DIRTY_BITMAP;
    return dirty_init(&m->dirty, &m->vm, &m->mem, &config, err);
}

static int build_vm(struct machine *m, struct err *err)
{
    uint64_t bytes = m->config->mem_bytes;
    int rc;

    if (m->host.origin != NULL)
        rc = machine_restore_memory(m, err);
    else if (m->host.is_shell)
        rc = gmem_init_private(&m->mem, bytes, err);
    else if (m->config->has_huge_pages)
        rc = gmem_init_huge(&m->mem, bytes, err);
    else
        rc = gmem_init(&m->mem, bytes, err);
    if (rc == 0)
        rc = kvm_vm_init(&m->vm, m->host.kvm, err);
    if (rc == 0)
        rc = init_tracking(m, err);
    if (rc == 0)
        rc = kvm_vm_add_memory(&m->vm, &m->mem, err);
    if (rc == 0)
        rc = machine_pmem_map_all(m->config, &m->vm, &m->mem, m->pmems, err);
    if (rc == 0)
        rc = kvm_vm_add_irqchip(&m->vm, err);
    return rc;
}

static int append_root(
    const struct config *config, struct cmdline *line, struct err *err)
{
    for (uint32_t i = 0; i < config->drive_count; i++) {
        const struct config_drive *drive = &config->drives[i];
        const char *mode = drive->is_read_only ? "ro" : "rw";
        char words[CONFIG_PARTUUID_MAX + 32];

        if (!drive->is_root)
            continue;
        if (drive->partuuid != NULL)
            (void)snprintf(words, sizeof(words), "root=PARTUUID=%s %s",
                drive->partuuid, mode);
        else
            (void)snprintf(words, sizeof(words), "root=/dev/vd%c %s",
                (char)('a' + (int)i), mode);
        return cmdline_append(line, words, err);
    }
    for (uint32_t i = 0; i < config->pmem_count; i++) {
        const struct config_pmem *pmem = &config->pmems[i];
        char words[48];

        if (!pmem->is_root)
            continue;
        /* DAX: the file's pages themselves, and no copy in the guest. */
        (void)snprintf(words, sizeof(words),
            "root=/dev/pmem%u %s rootflags=dax", i,
            pmem->is_read_only ? "ro" : "rw");
        return cmdline_append(line, words, err);
    }
    return 0;
}

/*
 * The kernel sets up one interface by itself, before init: the one with an
 * address, or the first that passt has one for. A link that is down must not
 * hold up the boot for the two minutes that the kernel would wait.
 */
static int append_ip(
    const struct config *config, struct cmdline *line, struct err *err)
{
    const struct config_net *given = config_addressed_net(config);

    for (uint32_t i = 0; i < config->net_count; i++) {
        struct machine_net_address a;
        char address[CONFIG_TEXT_MAX];
        char gateway[CONFIG_TEXT_MAX] = "";
        char mask[CONFIG_TEXT_MAX];
        char dns[CONFIG_TEXT_MAX] = "";
        char words[256];

        if ((given != NULL && given != &config->nets[i]) ||
            !machine_net_address(&config->nets[i], &a))
            continue;
        config_format_ipv4(a.address, address);
        config_format_ipv4(
            (uint32_t)(UINT64_C(0xffffffff00000000) >> a.prefix), mask);
        if (a.gateway != 0)
            config_format_ipv4(a.gateway, gateway);
        if (a.dns != 0)
            config_format_ipv4(a.dns, dns);
        (void)snprintf(words, sizeof(words),
            "ip=%s::%s:%s::eth%u:off:%s carrier_timeout=2%s", address, gateway,
            mask, i, dns,
            a.dns != 0 && config->has_agent ? " spore.resolver" : "");
        return cmdline_append(line, words, err);
    }
    return 0;
}

/*
 * Linux reports 32 free blocks at a time, and nothing at all until so much is
 * free above its low watermark; a kernel without huge pages takes blocks of
 * 4 MiB for it, which is 128 MiB. Smaller ones for smaller guests, so that 32
 * are at most a sixteenth of RAM; from 1 GiB up, 2 MiB, a huge page of the
 * host's.
 */
static int append_reporting(
    const struct config *config, struct cmdline *line, struct err *err)
{
    uint64_t most = config->mem_bytes / 16 / 32;
    unsigned int order = 0;
    char words[64];

    if (!config->has_balloon || !config->balloon.page_reporting)
        return 0;
    while (order < 9 && (UINT64_C(2) << order) * NUM_PAGE_SIZE <= most)
        order++;
    (void)snprintf(
        words, sizeof(words), "page_reporting.page_reporting_order=%u", order);
    return cmdline_append(line, words, err);
}

/*
 * The user's words come last, so that they win over ours, and so that what
 * follows a "--" in them is init's.
 */
static int build_cmdline(
    struct machine *m, struct cmdline *line, gpa_t *ret_rsdp, struct err *err)
{
    const char *args = m->config->boot_args;
    int rc = 0;

    cmdline_init(line);
    if (m->host.kvm->features.ring0_emulated)
        rc = cmdline_append(line, BOOT_ARGS_RING0_EMULATED, err);
    if (rc == 0)
        rc = append_root(m->config, line, err);
    if (rc == 0)
        rc = append_ip(m->config, line, err);
    if (rc == 0)
        rc = append_reporting(m->config, line, err);
    if (rc == 0 && m->config->has_agent) {
        char words[32];

        (void)snprintf(
            words, sizeof(words), "spore.timeline=0x%x", LAYOUT_PORT_TIMELINE);
        rc = cmdline_append(line, words, err);
    }
    if (rc == 0)
        rc = machine_devices_describe(m, line, ret_rsdp, err);
    if (rc == 0)
        rc = cmdline_append(
            line, args == NULL ? CONFIG_BOOT_ARGS_DEFAULT : args, err);
    if (rc == 0 && line->len > CMDLINE_LINUX_MAX)
        log_warn("machine",
            "the kernel command line has %zu bytes: Linux drops all but %u",
            line->len, CMDLINE_LINUX_MAX);
    return rc;
}

static int load_guest(
    struct machine *m, struct boot_entry *ret_entry, struct err *err)
{
    struct image_source initrds[3];
    struct cmdline line;
    struct boot_config boot = {.initrds = initrds, .cmdline = line.text};
    int rc;

    boot.kernel = (struct image_source){.kind = IMAGE_PATH,
        .name = m->config->kernel != NULL ? m->config->kernel
                                          : m->host.kernel_path};
    if (m->config->initrd != NULL)
        initrds[boot.initrd_count++] = (struct image_source){
            .kind = IMAGE_PATH, .name = m->config->initrd};
    if (m->host.initrd.name != NULL)
        initrds[boot.initrd_count++] = m->host.initrd;
    /* Last, so that its /init is the one that counts. */
    if (m->config->has_agent)
        initrds[boot.initrd_count++] =
            (struct image_source){.kind = IMAGE_BYTES,
                .name = "agent",
                .data = agent_image,
                .size = (size_t)(agent_image_end - agent_image)};
    rc = build_cmdline(m, &line, &boot.rsdp, err);
    if (rc == 0)
        rc = boot_load(&m->mem, &boot, ret_entry, err);
    return rc;
}

static int confine_vcpu(void *opaque, struct err *err)
{
    const struct machine_host *host = &((const struct machine *)opaque)->host;
    int rc;

    if (host->outside != NULL)
        return host->outside->confine(
            host->outside->opaque, JAIL_ROLE_VCPU, err);
    if (!host->filters_vcpus)
        return 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_sys(err, errno, "no_new_privs");
    rc = seccomp_confine(JAIL_ROLE_VCPU, err);
    return rc < 0 ? err_wrap(err, rc, "without --no-seccomp") : 0;
}

static int build_vcpus(struct machine *m, struct err *err)
{
    uint32_t count = m->config->vcpus;
    int rc;

    m->vcpus = calloc(count, sizeof(m->vcpus[0]));
    if (m->vcpus == NULL)
        return err_sys(err, ENOMEM, "%u vCPUs", count);
    for (uint32_t i = 0; i < count; i++) {
        struct vcpu_config config = {.id = i,
            .vcpus = count,
            .pio = &m->pio,
            .mmio = &m->mmio,
            .dirty = &m->dirty,
            .on_stop = on_vcpu_stop,
            .begin = confine_vcpu,
            .opaque = m};

        rc = vcpu_init(&m->vcpus[i], &m->vm, &m->cpuid, &config, err);
        if (rc < 0)
            return rc;
        m->vcpu_count = i + 1;
    }
    return 0;
}

static int build_devices(
    struct machine *m, const struct machine_events *events, struct err *err)
{
    int rc = build_vm(m, err);

    if (rc < 0)
        return rc;
    timings_mark(m->host.timings, TIMINGS_KVM);
    return machine_devices_init(m, events, err);
}

/* KVM is asked for the CPUID beside building the rest. */
static int boot_machine(
    struct machine *m, const struct machine_events *events, struct err *err)
{
    struct cpuid_job cpuid_job;
    struct boot_entry entry;
    int joined;
    int rc = cpuid_begin(&cpuid_job, m->host.kvm, err);

    if (rc < 0)
        return rc;
    rc = build_devices(m, events, err);
    if (rc == 0)
        rc = load_guest(m, &entry, err);
    joined = cpuid_finish(&cpuid_job, &m->cpuid, rc < 0 ? NULL : err);
    if (rc == 0)
        rc = joined;
    if (rc == 0 && m->config->cpu_template != NULL)
        rc = cpuid_template_apply(
            &m->cpuid, &m->host.kvm->features, m->config->cpu_template, err);
    if (rc == 0 && m->config->cpu_modifiers != NULL)
        rc = cpu_modifiers_check_caps(
            m->config->cpu_modifiers, m->host.kvm, err);
    if (rc == 0 && m->config->cpu_modifiers != NULL)
        rc =
            cpu_modifiers_apply_cpuid(m->config->cpu_modifiers, &m->cpuid, err);
    if (rc == 0 && m->host.cpu_brand != NULL)
        cpuid_set_brand(&m->cpuid, m->host.cpu_brand);
    if (rc == 0)
        rc = build_vcpus(m, err);
    for (uint32_t i = 0;
         rc == 0 && m->config->cpu_modifiers != NULL && i < m->vcpu_count; i++)
        rc = cpu_modifiers_apply_msrs(
            m->config->cpu_modifiers, m->vcpus[i].fd, err);
    return rc < 0 ? rc : vcpu_set_boot_state(&m->vcpus[0], &entry, err);
}

static int restore_machine(
    struct machine *m, const struct machine_events *events, struct err *err)
{
    int rc = build_devices(m, events, err);

    if (rc == 0)
        rc = machine_restore_cpuid(m, err);
    if (rc == 0)
        rc = build_vcpus(m, err);
    if (rc == 0)
        rc = machine_restore_state(m, err);
    return rc;
}

static int build_shell(
    struct machine *m, const struct machine_events *events, struct err *err)
{
    int rc = build_devices(m, events, err);

    if (m->host.origin != NULL)
        m->mapped = m->host.origin->snap->id;
    if (rc == 0)
        rc = machine_restore_host_cpuid(m, &m->cpuid, err);
    return rc == 0 ? build_vcpus(m, err) : rc;
}

int machine_init(struct machine *m, const struct config *config,
    const struct machine_host *host, struct err *err)
{
    const struct machine_events events = {.power_off = on_power_off,
        .reset = on_reset,
        .panic = on_panic,
        .exit = on_exit_port,
        .host_fault = on_host_fault,
        .opaque = m};
    int rc;

    *m = (struct machine){.host = *host,
        .config = config,
        .mem = {.fd = -1},
        .vm = {.fd = -1},
        .power_button = {.fd = -1},
        .emulated = VCPU_STATS_NONE,
        .end_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER,
        .end_call = {.run = do_end, .opaque = m}};
    bus_init(&m->pio);
    bus_init(&m->mmio);
    if (host->is_shell)
        rc = build_shell(m, &events, err);
    else if (host->origin != NULL)
        rc = restore_machine(m, &events, err);
    else
        rc = boot_machine(m, &events, err);
    if (rc < 0) {
        machine_fini(m);
        return rc;
    }
    machine_describe_init(&m->description, config);
    timings_mark(m->host.timings, TIMINGS_KERNEL);
    m->is_restored = host->origin != NULL && !host->is_shell;
    m->host.origin = NULL;
    /* That a kernel does not count is no error; others see nothing then. */
    if (host->timings->wants_emulated && m->vcpu_count == 1)
        (void)!vcpu_stats_open(&m->vcpus[0], VCPU_STATS_EMULATED, &m->emulated);
    return 0;
}

struct parts machine_parts(struct machine *m)
{
    return (struct parts){.mem = &m->mem,
        .vm = &m->vm,
        .dirty = &m->dirty,
        .vcpus = m->vcpus,
        .vcpu_count = m->vcpu_count,
        .msrs = m->msrs,
        .devices = m->devices,
        .device_count = m->device_count};
}

int machine_prepare_parts(struct machine *m, struct err *err)
{
    struct vcpu_msrs *msrs;
    int rc;

    if (m->msrs != NULL)
        return 0;
    msrs = malloc(sizeof(*msrs));
    if (msrs == NULL)
        return err_sys(err, ENOMEM, "list of registers");
    rc = vcpu_msrs_init(msrs, m->host.kvm, m->vcpus[0].fd, err);
    if (rc < 0) {
        free(msrs);
        return rc;
    }
    m->msrs = msrs;
    return 0;
}

void machine_fini(struct machine *m)
{
    /* All are told first, so that they end side by side. */
    for (uint32_t i = 0; i < m->vcpu_count; i++)
        vcpu_request(&m->vcpus[i], VCPU_QUIT);
    for (uint32_t i = 0; i < m->vcpu_count; i++)
        vcpu_fini(&m->vcpus[i]);
    if (m->host.loop != NULL)
        loop_unpost(m->host.loop, &m->end_call);
    free(m->vcpus);
    free(m->msrs);
    dirty_fini(&m->dirty);
    bitmap_fini(&m->changed);
    machine_describe_fini(&m->description);
    cpuid_fini(&m->cpuid);
    machine_devices_fini(m);
    irqchip_fini(&m->irqchip);
    if (m->vm.kvm != NULL)
        kvm_vm_fini(&m->vm);
    if (m->config != NULL) {
        gmem_fini(&m->mem);
        vcpu_stats_close(&m->emulated);
    }
    *m = (struct machine){
        .mem = {.fd = -1}, .vm = {.fd = -1}, .emulated = VCPU_STATS_NONE};
}

int machine_start(struct machine *m, struct err *err)
{
    int rc = vcpu_install_kick(err);

    assert(!m->host.is_shell);
    if (rc < 0)
        return rc;
    rc = vmgenid_bump(&m->vmgenid, err);
    if (rc < 0)
        return rc;
    if (m->is_restored) {
        struct parts parts = machine_parts(m);

        parts_resume(&parts);
    }
    timings_mark(m->host.timings, TIMINGS_GUEST);
    for (uint32_t i = 0; i < m->vcpu_count; i++) {
        rc = vcpu_start(&m->vcpus[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A vCPU that was told to quit must not be told otherwise. */
static void request_all(struct machine *m, enum vcpu_request request)
{
    (void)pthread_mutex_lock(&m->end_lock);
    for (uint32_t i = 0; !m->has_ended && i < m->vcpu_count; i++)
        vcpu_request(&m->vcpus[i], request);
    (void)pthread_mutex_unlock(&m->end_lock);
    for (uint32_t i = 0; i < m->vcpu_count; i++)
        vcpu_wait(&m->vcpus[i]);
}

void machine_pause(struct machine *m)
{
    request_all(m, VCPU_PAUSE);
}

void machine_resume(struct machine *m)
{
    request_all(m, VCPU_RUN);
}

void machine_power_button(struct machine *m)
{
    irq_raise(&m->power_button);
}
