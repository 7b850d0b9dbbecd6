/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a template at the first boot to a restore elsewhere: what was hidden
 * the other host need not have, what was not is refused by its name.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshot/store.h"
#include "tests/kvm/support/bare.h"
#include "vmm/hw/cpuid_check.h"
#include "vmm/machine_restore.h"
#include "vmm/machine_snapshot.h"

/* On hosts of both kinds KVM brings it and can hide it. */
#define FEATURE "kvmclock"

/* The table that a guest with `text` as its template was saved with. */
static struct cpuid saved_with(const char *text)
{
    char path[] = "/tmp/spore-test-XXXXXX";
    const struct machine_snapshot_options options = {0};
    const struct state_section *section;
    struct bare *b = bare_prepare(&(struct bare_options){.guest = "halt"});
    struct bytes_reader r;
    struct snapshot_id id;
    struct cpuid cpuid;
    struct store store;
    struct config config;
    struct snap snap;
    struct err err;

    assert_non_null(mkdtemp(path));
    if (text != NULL)
        assert_int_equal(
            config_set_string(&b->config.cpu_template, text, &err), 0);
    if (store_open(&store, path, true, &err) < 0 || bare_build(b, &err) < 0 ||
        machine_snapshot_paused(&b->machine, &store, &options, &id, &err) < 0 ||
        snap_open(&store, &id, &snap, &err) < 0)
        fail_msg("%s", err.text);
    bare_free(b);
    config_init(&config);
    assert_int_equal(machine_restore_config(&snap, &config, &err), 0);
    if (text == NULL)
        assert_null(config.cpu_template);
    else
        assert_string_equal(config.cpu_template, text);
    config_fini(&config);
    assert_int_equal(state_file_require(&snap.state, CPUID_SECTION,
                         CPUID_WIRE_VERSION, &section, &err),
        0);
    bytes_reader_init(&r, section->data, section->size);
    assert_int_equal(cpuid_decode(&r, &cpuid, &err), 0);
    snap_close(&snap);
    assert_int_equal(store_remove(&store, &id, &err), 0);
    store_close(&store);
    assert_int_equal(rmdir(path), 0);
    return cpuid;
}

static void test_hidden_features(void **state)
{
    struct cpuid all = saved_with(NULL);
    struct cpuid less = saved_with(FEATURE);
    struct cpuid host;
    struct bare *b = bare_new(&(struct bare_options){.guest = "halt"});
    struct err err;

    (void)state;
    if (machine_restore_host_cpuid(&b->machine, &host, &err) < 0 ||
        cpuid_check(&all, &host, &err) < 0 ||
        cpuid_check(&less, &host, &err) < 0)
        fail_msg("%s", err.text);
    /* A host that lacks it. */
    assert_int_equal(cpuid_mask(&host, &b->kvm.features, FEATURE, &err), 0);
    assert_int_equal(cpuid_check(&all, &host, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "guest uses: " FEATURE ";"));
    assert_int_equal(cpuid_check(&less, &host, &err), 0);
    cpuid_fini(&host);
    cpuid_fini(&all);
    cpuid_fini(&less);
    bare_free(b);
}

/* Its guest sees it hidden, and so do those that are made of it. */
static void test_guest_does_not_see_it(void **state)
{
    struct bare *b = bare_prepare(&(struct bare_options){.guest = "halt"});
    struct err err;

    (void)state;
    assert_int_equal(
        config_set_string(&b->config.cpu_template, FEATURE, &err), 0);
    if (bare_build(b, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(cpuid_find(&b->machine.cpuid, 0x40000001, 0)->eax & 1, 0);
    bare_free(b);
    b = bare_prepare(&(struct bare_options){.guest = "halt"});
    assert_int_equal(
        config_set_string(&b->config.cpu_template, "avx9", &err), 0);
    assert_int_equal(bare_build(b, &err), -EINVAL);
    bare_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hidden_features),
        cmocka_unit_test(test_guest_does_not_see_it),
    };
    int status = bare_need_kvm();

    return status != 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
