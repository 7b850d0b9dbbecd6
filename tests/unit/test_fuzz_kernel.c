/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "guest/fuzz/conf.h"
#include "guest/fuzz/kernel.h"
#include "vmm/base/num.h"

/* ---- edges --------------------------------------------------------------- */

#define MAP_BYTES 4096u
#define PC(n)     (UINT64_C(0xffffffff81000000) + (n)*16)

static size_t count_edges(
    const uint64_t *pcs, size_t count, uint8_t map[MAP_BYTES])
{
    size_t edges = 0;

    memset(map, 0, MAP_BYTES);
    kernel_count_edges(pcs, count, map, MAP_BYTES);
    for (size_t i = 0; i < MAP_BYTES; i++)
        edges += map[i] != 0 ? 1 : 0;
    return edges;
}

static void each_way_is_an_edge(void **state)
{
    static const uint64_t there[] = {PC(1), PC(2), PC(3)};
    static const uint64_t back[] = {PC(3), PC(2), PC(1)};
    uint8_t one[MAP_BYTES];
    uint8_t other[MAP_BYTES];

    (void)state;
    assert_int_equal(count_edges(NULL, 0, one), 0);
    assert_int_equal(count_edges(there, ARRAY_SIZE(there), one), 3);
    assert_int_equal(count_edges(back, ARRAY_SIZE(back), other), 3);
    assert_memory_not_equal(one, other, MAP_BYTES);
    /* Again, and all is as it was. */
    assert_int_equal(count_edges(there, ARRAY_SIZE(there), other), 3);
    assert_memory_equal(one, other, MAP_BYTES);
}

static void a_loop_is_counted(void **state)
{
    uint8_t map[MAP_BYTES];
    uint64_t pcs[1000];
    uint8_t most = 0;

    (void)state;
    for (size_t i = 0; i < 5; i++)
        pcs[i] = PC(7);
    /* The first one is reached from nowhere. */
    assert_int_equal(count_edges(pcs, 5, map), 2);
    for (size_t i = 0; i < MAP_BYTES; i++)
        most = map[i] > most ? map[i] : most;
    assert_int_equal(most, 4);
    for (size_t i = 0; i < ARRAY_SIZE(pcs); i++)
        pcs[i] = PC(7);
    assert_int_equal(count_edges(pcs, ARRAY_SIZE(pcs), map), 2);
    for (size_t i = 0; i < MAP_BYTES; i++)
        most = map[i] > most ? map[i] : most;
    assert_int_equal(most, UINT8_MAX);
}

/* Places of a driver lie close to one another, and must not share a count. */
static void neighbours_do_not_meet(void **state)
{
    uint8_t map[MAP_BYTES];
    uint64_t pcs[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pcs); i++)
        pcs[i] = UINT64_C(0xffffffff814a3b00) + i * 7;
    assert_true(count_edges(pcs, ARRAY_SIZE(pcs), map) >= 62);
}

/* ---- fuzz.conf ----------------------------------------------------------- */

static int parse(struct conf *c, const char *bytes, size_t size)
{
    static char file[256];
    const char *wrong;

    assert_true(size <= sizeof(file));
    memcpy(file, bytes, size);
    return conf_parse(c, file, size, &wrong);
}

static void a_device_is_enough(void **state)
{
    static const char device[] = "device=/dev/spore-demo\0map=8192";
    static const char program[] = "arg=/bin/true";
    static const char elsewhere[] = "device=/etc/passwd";
    static const char none[] = "map=8192";
    struct conf *c = malloc(sizeof(*c));

    (void)state;
    assert_non_null(c);
    assert_int_equal(parse(c, device, sizeof(device)), 0);
    assert_string_equal(c->device, "/dev/spore-demo");
    assert_int_equal(c->map_size, 8192);
    assert_int_equal(parse(c, program, sizeof(program)), 0);
    assert_null(c->device);
    assert_int_not_equal(parse(c, elsewhere, sizeof(elsewhere)), 0);
    assert_int_not_equal(parse(c, none, sizeof(none)), 0);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_way_is_an_edge),
        cmocka_unit_test(a_loop_is_counted),
        cmocka_unit_test(neighbours_do_not_meet),
        cmocka_unit_test(a_device_is_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
