/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real cgroups of this host, of whichever version: what limits do to those
 * inside, and that nobody else notices. Below /spore-test, for root only.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/cgroup.h"
#include "jail/cgroup_files.h"
#include "jail/cgroup_places.h"
#include "jail/cgroup_text.h"
#include "tests/unit/support/skip.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define PARENT    "/spore-test"
#define HOG_BYTES (128 * NUM_MIB)
#define REFUSED   7 /* the status of a child that could not fork */

static struct cgroup *open_one(const struct cgroup_config *config)
{
    struct cgroup *cgroup = NULL;
    struct err err;

    if (cgroup_open(config, &cgroup, &err) < 0)
        fail_msg("%s", err.text);
    return cgroup;
}

static void remove_one(struct cgroup *cgroup)
{
    struct err err;

    if (cgroup_remove(cgroup, &err) < 0)
        fail_msg("%s", err.text);
}

static bool is_below_parent(pid_t pid, const char *name)
{
    char path[64];
    char text[8192];
    char needle[128];
    FILE *f;
    size_t n;

    (void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    (void)snprintf(needle, sizeof(needle), ":" PARENT "/%s\n", name);
    f = fopen(path, "re");
    assert_non_null(f);
    n = fread(text, 1, sizeof(text) - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    return strstr(text, needle) != NULL;
}

/* A child in the cgroup that runs `body` when told so, and its status. */
struct inmate {
    pid_t pid;
    int go;
};

static struct inmate start_inmate(
    const struct cgroup *cgroup, int (*body)(void), bool by_pid)
{
    struct inmate inmate;
    struct err err;
    int go[2];
    int ready[2];
    char byte = 0;

    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(ready), 0);
    inmate.pid = fork();
    assert_true(inmate.pid >= 0);
    if (inmate.pid == 0) {
        (void)close(go[1]);
        if (!by_pid && cgroup_join(cgroup, true, &err) < 0) {
            (void)fprintf(stderr, "%s\n", err.text);
            _exit(1);
        }
        (void)close(ready[1]);
        _exit(read(go[0], &byte, 1) == 1 ? body() : 1);
    }
    (void)close(go[0]);
    (void)close(ready[1]);
    (void)!read(ready[0], &byte, 1);
    (void)close(ready[0]);
    if (by_pid && cgroup_add(cgroup, inmate.pid, &err) < 0)
        fail_msg("%s", err.text);
    inmate.go = go[1];
    return inmate;
}

static int let_go(struct inmate *inmate)
{
    int status = 0;

    assert_int_equal(write(inmate->go, "", 1), 1);
    (void)close(inmate->go);
    assert_int_equal(waitpid(inmate->pid, &status, 0), inmate->pid);
    return status;
}

static int hog_memory(void)
{
    uint8_t *p = mmap(NULL, HOG_BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return 1;
    for (uint64_t i = 0; i < HOG_BYTES; i += NUM_PAGE_SIZE)
        p[i] = 1;
    return 0;
}

static int fork_some(void)
{
    for (int i = 0; i < 8; i++) {
        pid_t pid = fork();

        if (pid < 0)
            return errno == EAGAIN ? REFUSED : 1;
        if (pid == 0) {
            (void)pause();
            _exit(0);
        }
    }
    return 0;
}

/* Children of children until no more are allowed, none of which ends. */
static int fork_bomb(void)
{
    while (fork() >= 0)
        continue;
    return pause();
}

static int do_nothing(void)
{
    return 0;
}

static int wait_for_ever(void)
{
    return pause();
}

static void test_memory_limit(void **state)
{
    struct cgroup_config tight = {
        .parent = PARENT, .name = "tight", .memory_max = 32 * NUM_MIB};
    struct cgroup_config wide = {
        .parent = PARENT, .name = "wide", .memory_max = 512 * NUM_MIB};
    struct cgroup *one = open_one(&tight);
    struct cgroup *other = open_one(&wide);
    struct inmate victim = start_inmate(one, hog_memory, false);
    struct inmate neighbour = start_inmate(other, hog_memory, true);
    struct cgroup_stats stats;
    int status;

    (void)state;
    assert_true(is_below_parent(victim.pid, "tight"));
    assert_true(is_below_parent(neighbour.pid, "wide"));
    assert_int_equal(cgroup_oom_kills(one), 0);
    status = let_go(&victim);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    assert_int_equal(cgroup_oom_kills(one), 1);
    status = let_go(&neighbour);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(cgroup_oom_kills(other), 0);
    cgroup_get_stats(other, &stats);
    assert_true(stats.has_memory);
    assert_true(stats.has_cpu);
    assert_true(stats.cpu_ns > 0);
    if (stats.has_memory_peak)
        assert_true(stats.memory_peak_bytes >= HOG_BYTES);
    remove_one(one);
    remove_one(other);
}

static void test_pids_limit(void **state)
{
    struct cgroup_config config = {
        .parent = PARENT, .name = "few", .pids_max = 4};
    struct cgroup *cgroup = open_one(&config);
    struct inmate inmate = start_inmate(cgroup, fork_some, false);
    struct cgroup_stats stats;
    int status = let_go(&inmate);

    (void)state;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), REFUSED);
    cgroup_get_stats(cgroup, &stats);
    assert_true(stats.has_pids);
    assert_int_equal(stats.pids, 3);
    /* Its three children are still there, and removed with it. */
    remove_one(cgroup);
}

/* Nothing gets away from the removal, however fast it multiplies. */
static void test_fork_bomb(void **state)
{
    struct cgroup_config config = {
        .parent = PARENT, .name = "bomb", .pids_max = 100};
    struct cgroup *cgroup = open_one(&config);
    struct inmate inmate = start_inmate(cgroup, fork_bomb, false);
    struct cgroup_stats stats = {0};

    (void)state;
    assert_int_equal(write(inmate.go, "", 1), 1);
    (void)close(inmate.go);
    while (stats.pids < 50)
        cgroup_get_stats(cgroup, &stats);
    remove_one(cgroup);
    assert_int_equal(waitpid(inmate.pid, NULL, 0), inmate.pid);
}

/* What was left by one that is gone is in the way only while it is used. */
static void test_left_behind(void **state)
{
    struct cgroup_config config = {
        .parent = PARENT, .name = "left", .pids_max = 4};
    struct cgroup *cgroup = open_one(&config);
    struct inmate inmate = start_inmate(cgroup, do_nothing, true);
    struct cgroup *second = NULL;
    struct err err;

    (void)state;
    assert_int_equal(cgroup_open(&config, &second, &err), -EEXIST);
    cgroup_close(cgroup);
    assert_int_equal(cgroup_open(&config, &second, &err), -EEXIST);
    assert_non_null(strstr(err.text, PARENT));
    assert_int_equal(let_go(&inmate), 0);
    second = open_one(&config);
    remove_one(second);
}

static void test_cpu_and_pairs(void **state)
{
    struct cgroup_config config = {.parent = "spore-test", .name = "cpu"};
    struct cgroup_places places;
    struct cgroup *cgroup;
    struct inmate inmate;
    struct err err;

    (void)state;
    assert_int_equal(cgroup_places_read(&places, &err), 0);
    assert_int_equal(cgroup_parse_cpu_max("50%", &config, &err), 0);
    assert_int_equal(cgroup_parse_cpu_weight("50", &config, &err), 0);
    assert_int_equal(cgroup_parse_pair("cpuset.cpus=0", &config, &err), 0);
    cgroup = open_one(&config);
    inmate = start_inmate(cgroup, do_nothing, false);
    assert_int_equal(let_go(&inmate), 0);
    remove_one(cgroup);
    assert_int_equal(cgroup_parse_pair("cpu.nothing=1", &config, &err), 0);
    assert_int_equal(cgroup_open(&config, &cgroup, &err), -EOPNOTSUPP);
    assert_non_null(strstr(err.text, "cpu.nothing"));
    config.pair_count = 0;
    assert_int_equal(cgroup_parse_pair("nothing.max=1", &config, &err), 0);
    assert_true(cgroup_open(&config, &cgroup, &err) < 0);
    assert_non_null(strstr(err.text, "nothing"));
    cgroup_places_fini(&places);
}

static void test_clone_into(void **state)
{
    struct cgroup_config config = {.parent = PARENT, .name = "into"};
    struct cgroup *cgroup = open_one(&config);
    struct clone_args args = {
        .exit_signal = SIGCHLD, .flags = CLONE_INTO_CGROUP};
    int fd = cgroup_clone_fd(cgroup);
    int status = 0;
    long pid;

    (void)state;
    if (fd < 0) {
        remove_one(cgroup);
        skip(); /* cgroup v2 is not mounted */
    }
    args.cgroup = (unsigned int)fd;
    pid = syscall(SYS_clone3, &args, sizeof(args));
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(wait_for_ever());
    assert_true(is_below_parent((pid_t)pid, "into"));
    remove_one(cgroup);
    assert_int_equal(waitpid((pid_t)pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

/* One that version 2 has here, and a limit for it; or NULL. */
static const char *pick_v2(int root, const char **ret_pair)
{
    static const struct {
        const char *name;
        const char *pair;
    } known[] = {
        {"pids", "pids.max=9"},
        {"hugetlb", "hugetlb.2MB.max=2097152"},
    };
    char have[512];

    if (cgroup_file_read(root, "cgroup.controllers", have, sizeof(have)) < 0)
        return NULL;
    have[strcspn(have, "\n")] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        *ret_pair = known[i].pair;
        if (cgroup_list_has(have, ' ', known[i].name))
            return known[i].name;
    }
    return NULL;
}

/* Controllers are handed down, but not past processes. */
static void check_v2(int root, const char *pair)
{
    struct cgroup_config config = {.parent = PARENT "/a", .name = "vm"};
    struct cgroup_config other = {.parent = PARENT, .name = "busy"};
    struct cgroup *cgroup;
    struct inmate inmate;
    struct err err;

    assert_int_equal(cgroup_parse_pair(pair, &config, &err), 0);
    cgroup = open_one(&config);
    assert_true(cgroup_uses_version(cgroup, 2));
    assert_false(cgroup_uses_version(cgroup, 1));
    assert_false(cgroup_needs_join(cgroup));
    assert_int_equal(
        faccessat(cgroup_clone_fd(cgroup), config.pairs[0].file, F_OK, 0), 0);
    inmate = start_inmate(cgroup, do_nothing, false);
    assert_int_equal(let_go(&inmate), 0);
    remove_one(cgroup);
    cgroup = open_one(&other);
    inmate = start_inmate(cgroup, do_nothing, false);
    config.parent = PARENT "/busy";
    assert_int_equal(cgroup_open(&config, &cgroup, &err), -EBUSY);
    assert_non_null(strstr(err.text, "processes in it"));
    assert_int_equal(let_go(&inmate), 0);
    /* `cgroup` is still the one that is busy. */
    remove_one(cgroup);
    assert_int_equal(faccessat(root, "spore-test", F_OK, 0), -1);
}

static void test_controllers_v2(void **state)
{
    struct cgroup_places places;
    const struct cgroup_hierarchy *v2;
    const char *pair = NULL;
    const char *name = NULL;
    char before[512] = "";
    struct err err;
    CC_CLEANUP(fd_closep) int root = -1;

    (void)state;
    assert_int_equal(cgroup_places_read(&places, &err), 0);
    v2 = cgroup_places_find_v2(&places);
    if (v2 != NULL && v2->mount != NULL)
        root = open(v2->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cgroup_places_fini(&places);
    if (root >= 0)
        name = pick_v2(root, &pair);
    if (name == NULL)
        skip(); /* version 2 has no controller that is known here */
    assert_true(cgroup_file_read(root, "cgroup.subtree_control", before,
                    sizeof(before)) >= 0);
    before[strcspn(before, "\n")] = '\0';
    check_v2(root, pair);
    if (!cgroup_list_has(before, ' ', name)) {
        char text[64];

        (void)snprintf(text, sizeof(text), "-%s", name);
        assert_int_equal(
            cgroup_file_write(root, "cgroup.subtree_control", text), 0);
    }
}

static void test_enter_v2(void **state)
{
    struct cgroup_config config = {.parent = PARENT, .name = "enter"};
    struct cgroup *cgroup = open_one(&config);
    struct err err;
    int status = 0;
    pid_t pid;

    (void)state;
    if (cgroup_clone_fd(cgroup) < 0) {
        remove_one(cgroup);
        skip(); /* cgroup v2 is not mounted */
    }
    assert_int_equal(cgroup_enter_v2(PARENT "/nothing", &err), -ENOENT);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(cgroup_enter_v2(PARENT "/enter", NULL) == 0 &&
                      is_below_parent(getpid(), "enter")
                  ? 0
                  : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    remove_one(cgroup);
}

static void test_nothing_stays(void **state)
{
    struct cgroup_places places;
    struct err err;

    (void)state;
    assert_int_equal(cgroup_places_read(&places, &err), 0);
    for (size_t i = 0; i < places.count; i++) {
        char path[512];

        (void)snprintf(path, sizeof(path), "%s" PARENT, places.list[i].mount);
        assert_int_equal(access(path, F_OK), -1);
    }
    cgroup_places_fini(&places);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_pids_limit),
        cmocka_unit_test(test_fork_bomb),
        cmocka_unit_test(test_left_behind),
        cmocka_unit_test(test_cpu_and_pairs),
        cmocka_unit_test(test_clone_into),
        cmocka_unit_test(test_enter_v2),
        cmocka_unit_test(test_controllers_v2),
        cmocka_unit_test(test_nothing_stays),
    };
    struct cgroup_config config = {.parent = PARENT,
        .name = "probe",
        .memory_max = NUM_GIB,
        .pids_max = 100};
    struct cgroup *cgroup = NULL;
    struct err err;

    if (cgroup_open(&config, &cgroup, &err) < 0)
        return skip_all(err.text);
    if (cgroup_remove(cgroup, &err) < 0) {
        (void)fprintf(stderr, "FAILED: %s\n", err.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
