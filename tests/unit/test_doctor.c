/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/doctor_report.h"
#include "vmm/doctor_text.h"

static void test_number(void **state)
{
    static const char *const bad[] = {
        "", "\n", "-1", "+1", "1 2", "0x1", "1.5", "18446744073709551616"};
    uint64_t number = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(doctor_text_number(bad[i], &number));
    assert_int_equal(number, 7);
    assert_true(doctor_text_number("0\n", &number));
    assert_int_equal(number, 0);
    assert_true(doctor_text_number(" 18446744073709551615 \n", &number));
    assert_int_equal(number, UINT64_MAX);
}

static void test_field(void **state)
{
    static const char cpuinfo[] = "processor\t: 0\n"
                                  "model name\t: Some CPU  \n"
                                  "flags\t\t: fpu vme svm\n"
                                  "bugs:\n"
                                  "flags\t\t: second";
    char value[16];
    char tiny[5];

    (void)state;
    assert_true(doctor_text_field(cpuinfo, "model name", value, sizeof(value)));
    assert_string_equal(value, "Some CPU");
    assert_true(doctor_text_field(cpuinfo, "flags", value, sizeof(value)));
    assert_string_equal(value, "fpu vme svm");
    assert_true(doctor_text_field(cpuinfo, "bugs", value, sizeof(value)));
    assert_string_equal(value, "");
    assert_true(doctor_text_field(cpuinfo, "flags", tiny, sizeof(tiny)));
    assert_string_equal(tiny, "fpu ");
    assert_false(doctor_text_field(cpuinfo, "model", value, sizeof(value)));
    assert_false(doctor_text_field(cpuinfo, "flag", value, sizeof(value)));
    assert_false(doctor_text_field("", "flags", value, sizeof(value)));
    assert_false(doctor_text_field("flags", "flags", value, sizeof(value)));
}

static void test_meminfo(void **state)
{
    static const char meminfo[] = "MemTotal:       24684096 kB\n"
                                  "MemFree:  12 MB\n"
                                  "HugePages_Total:       3\n"
                                  "MemAvailable:   kB\n"
                                  "Huge:   18446744073709551615 kB\n";
    uint64_t bytes = 7;

    (void)state;
    assert_true(doctor_text_meminfo(meminfo, "MemTotal", &bytes));
    assert_int_equal(bytes, UINT64_C(24684096) * 1024);
    bytes = 7;
    assert_false(doctor_text_meminfo(meminfo, "MemFree", &bytes));
    assert_false(doctor_text_meminfo(meminfo, "HugePages_Total", &bytes));
    assert_false(doctor_text_meminfo(meminfo, "MemAvailable", &bytes));
    assert_false(doctor_text_meminfo(meminfo, "Huge", &bytes));
    assert_false(doctor_text_meminfo(meminfo, "Mem", &bytes));
    assert_int_equal(bytes, 7);
}

static void test_words(void **state)
{
    (void)state;
    assert_true(doctor_text_has_word("cpu memory\tpids\n", "cpu"));
    assert_true(doctor_text_has_word("cpu memory\tpids\n", "memory"));
    assert_true(doctor_text_has_word("cpu memory\tpids\n", "pids"));
    assert_false(doctor_text_has_word("cpuset memory", "cpu"));
    assert_false(doctor_text_has_word("cpu", "cpuset"));
    assert_false(doctor_text_has_word("", "cpu"));
    assert_false(doctor_text_has_word(" \n", "cpu"));
}

static void test_choice(void **state)
{
    char value[8];

    (void)state;
    assert_true(
        doctor_text_choice("always [madvise] never\n", value, sizeof(value)));
    assert_string_equal(value, "madvise");
    assert_true(doctor_text_choice("[a] [b]", value, sizeof(value)));
    assert_string_equal(value, "a");
    assert_true(doctor_text_choice("[within_size]", value, sizeof(value)));
    assert_string_equal(value, "within_");
    assert_false(doctor_text_choice("always never", value, sizeof(value)));
    assert_false(doctor_text_choice("] [x", value, sizeof(value)));
}

static void test_release(void **state)
{
    (void)state;
    assert_int_equal(doctor_text_release("6.1.0-18-amd64"), 6 << 16 | 1);
    assert_int_equal(doctor_text_release("5.15"), 5 << 16 | 15);
    assert_int_equal(doctor_text_release("linux"), 0);
    assert_int_equal(doctor_text_release(""), 0);
    assert_int_equal(doctor_text_release("6"), 0);
}

static void test_cgroups_of_both_versions(void **state)
{
    static const char mounts[] =
        "tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0\n"
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
        "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"
        "cgroup /again cgroup rw,memory 0 0\n"
        "cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n"
        "cgroup2 /other cgroup2 rw 0 0\n";
    struct doctor_cgroups cgroups;

    (void)state;
    doctor_text_cgroups(mounts, &cgroups);
    assert_true(cgroups.has_v1);
    assert_true(cgroups.has_v2);
    assert_string_equal(cgroups.v1, "cpu cpuacct memory");
    assert_string_equal(cgroups.v2_dir, "/sys/fs/cgroup/unified");
    doctor_text_cgroups("proc /proc proc rw 0 0\n", &cgroups);
    assert_false(cgroups.has_v1);
    assert_false(cgroups.has_v2);
    /* The source and the directory may be named anything. */
    doctor_text_cgroups("cgroup2 /cgroup ext4 cgroup,memory 0 0", &cgroups);
    assert_false(cgroups.has_v1);
    assert_false(cgroups.has_v2);
}

static void test_cut_mounts(void **state)
{
    static const char mounts[] =
        "cgroup /c/cpu cgroup rw,cpu,cpuacct,cpuset,memory,devices,pids 0 0\n"
        "cgroup2 /u cgroup2 rw 0 0\n";

    (void)state;
    for (size_t len = 0; len < sizeof(mounts); len++) {
        char *cut = strndup(mounts, len);
        struct doctor_cgroups cgroups;

        assert_non_null(cut);
        doctor_text_cgroups(cut, &cgroups);
        assert_int_equal(cgroups.has_v1, len >= 20);
        assert_int_equal(cgroups.has_v2, len >= strlen(mounts) - 8);
        free(cut);
    }
}

static void test_own_cgroup(void **state)
{
    char path[16];

    (void)state;
    assert_true(doctor_text_own_cgroup(
        "4:memory:/a\n1:cpu:/\n0::/user/1\n", path, sizeof(path)));
    assert_string_equal(path, "/user/1");
    assert_true(doctor_text_own_cgroup("0::/", path, sizeof(path)));
    assert_string_equal(path, "/");
    assert_true(
        doctor_text_own_cgroup("0::/0123456789abcdef", path, sizeof(path)));
    assert_string_equal(path, "/0123456789abcd");
    assert_false(doctor_text_own_cgroup("10::/x\n", path, sizeof(path)));
    assert_false(doctor_text_own_cgroup("0::", path, sizeof(path)));
    assert_false(doctor_text_own_cgroup("", path, sizeof(path)));
}

static void add(struct doctor_report *report, const char *group,
    const char *name, enum doctor_state line_state, bool is_needed,
    const char *found)
{
    struct doctor_line line = {.group = group,
        .name = name,
        .state = line_state,
        .is_needed = is_needed,
        .value = DOCTOR_NO_VALUE,
        .cost = "time",
        .cure = "wait"};

    doctor_report_add(report, &line, "%s", found);
}

static void expect_verdict(
    const struct doctor_report *report, const char *expected)
{
    char verdict[256];

    doctor_report_verdict(report, verdict, sizeof(verdict));
    assert_string_equal(verdict, expected);
}

static void test_verdicts(void **state)
{
    struct doctor_report report = {0};

    (void)state;
    add(&report, "kvm", "device", DOCTOR_OK, true, "opens");
    add(&report, "kernel", "io_uring", DOCTOR_MISSING, false, "no ring");
    add(&report, "host", "memory", DOCTOR_SLOW, false, "little");
    assert_true(doctor_report_can_run(&report));
    expect_verdict(&report, "spore can run here: yes");
    add(&report, "files", "guest_kernel", DOCTOR_MISSING, false, "none");
    assert_true(doctor_report_can_run(&report));
    expect_verdict(
        &report, "spore can run here: yes; no guest kernel is installed yet");
    add(&report, "kvm", "backend", DOCTOR_SLOW, true, "interpreted");
    assert_true(doctor_report_can_run(&report));
    expect_verdict(&report,
        "spore can run here: yes, slowly: interpreted; no guest kernel is "
        "installed yet");
    report.lines[0].state = DOCTOR_MISSING;
    assert_false(doctor_report_can_run(&report));
    expect_verdict(&report, "spore can run here: no: opens");
}

static void test_find(void **state)
{
    struct doctor_report report = {0};

    (void)state;
    add(&report, "kvm", "device", DOCTOR_OK, true, "a");
    add(&report, "host", "device", DOCTOR_OK, true, "b");
    assert_ptr_equal(
        doctor_report_find(&report, "host", "device"), &report.lines[1]);
    assert_null(doctor_report_find(&report, "host", "devices"));
    assert_null(doctor_report_find(&report, "", "device"));
}

static void test_texts_are_made_harmless(void **state)
{
    struct doctor_report report = {0};
    char text[512];

    (void)state;
    add(&report, "g", "n", DOCTOR_OK, false, "a\x1b[2J\nb\x7f");
    assert_string_equal(report.lines[0].found, "a?[2J?b?");
    assert_null(report.lines[0].cost);
    assert_null(report.lines[0].cure);
    /* A two-byte character astride the end of the field goes as a whole. */
    memset(text, 'x', sizeof(text));
    memcpy(text + sizeof(report.lines[0].found) - 2, "\xc3\xa9", 2);
    text[sizeof(text) - 1] = '\0';
    add(&report, "g", "n", DOCTOR_OK, false, text);
    assert_int_equal(
        strlen(report.lines[1].found), sizeof(report.lines[1].found) - 2);
    assert_null(strchr(report.lines[1].found, '\xc3'));
}

static char *print(const struct doctor_report *report, bool is_json)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    if (is_json)
        assert_int_equal(doctor_report_print_json(report, out), 0);
    else
        doctor_report_print(report, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void test_print(void **state)
{
    struct doctor_report report = {0};
    char *text;

    (void)state;
    add(&report, "kvm", "device", DOCTOR_OK, true, "opens");
    add(&report, "kvm", "backend", DOCTOR_SLOW, true,
        "a text of a good many words, which does not fit into one line of a "
        "terminal");
    add(&report, "host", "tun", DOCTOR_MISSING, false, "none");
    text = print(&report, false);
    assert_string_equal(text,
        "spore can run here: yes, slowly: a text of a good many words, which "
        "does not fit into one line of a terminal\n"
        "\n"
        "kvm\n"
        "  ok      device            opens\n"
        "  slow    backend           a text of a good many words, which does "
        "not fit into\n"
        "                            one line of a terminal\n"
        "                            costs: time\n"
        "                            do: wait\n"
        "\n"
        "host\n"
        "  missing tun               none\n"
        "                            costs: time\n"
        "                            do: wait\n");
    free(text);
}

static void test_print_json(void **state)
{
    struct doctor_report report = {0};
    struct doctor_line line = {
        .group = "kernel", .name = "landlock", .value = 7};
    json_error_t error;
    json_t *root;
    json_t *check;
    char *text;

    (void)state;
    add(&report, "kvm", "device", DOCTOR_SLOW, true, "\"opens\" \xff");
    doctor_report_add(&report, &line, "ABI %d", 7);
    text = print(&report, true);
    root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(root, "version")), 1);
    assert_true(json_is_true(json_object_get(root, "can_run")));
    assert_true(json_is_true(json_object_get(root, "is_slow")));
    assert_string_equal(json_string_value(json_object_get(root, "verdict")),
        "spore can run here: yes, slowly: \"opens\" ?");
    assert_int_equal(json_array_size(json_object_get(root, "checks")), 2);
    check = json_array_get(json_object_get(root, "checks"), 0);
    assert_string_equal(
        json_string_value(json_object_get(check, "group")), "kvm");
    assert_string_equal(
        json_string_value(json_object_get(check, "name")), "device");
    assert_string_equal(
        json_string_value(json_object_get(check, "state")), "slow");
    assert_true(json_is_true(json_object_get(check, "needed")));
    assert_true(json_is_null(json_object_get(check, "value")));
    assert_string_equal(
        json_string_value(json_object_get(check, "found")), "\"opens\" ?");
    assert_string_equal(
        json_string_value(json_object_get(check, "cost")), "time");
    assert_string_equal(
        json_string_value(json_object_get(check, "cure")), "wait");
    check = json_array_get(json_object_get(root, "checks"), 1);
    assert_string_equal(
        json_string_value(json_object_get(check, "state")), "ok");
    assert_int_equal(json_integer_value(json_object_get(check, "value")), 7);
    assert_true(json_is_null(json_object_get(check, "cost")));
    assert_true(json_is_null(json_object_get(check, "cure")));
    json_decref(root);
    free(text);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number),
        cmocka_unit_test(test_field),
        cmocka_unit_test(test_meminfo),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_cgroups_of_both_versions),
        cmocka_unit_test(test_cut_mounts),
        cmocka_unit_test(test_own_cgroup),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_texts_are_made_harmless),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_print_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
