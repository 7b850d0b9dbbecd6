/* SPDX-License-Identifier: Apache-2.0 */
/* Who listens, by what a kernel writes of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "vmm/serve/listeners.h"

static const char text[] =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when "
    "retrnsmt   uid  timeout inode\n"
    "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 "
    "00000000     0        0 814 1 ffff 100 0 0 10 0\n"
    "  12: 0100007F:0050 0100007F:9C40 01 00000000:00000000 00:00000000 "
    "00000000     0        0 815 1 ffff 100 0 0 10 0\n"
    "   2: 00000000000000000000000001000000:0016 "
    "00000000000000000000000000000000:0000 0A 00000000:00000000\n";

static void test_listeners(void **state)
{
    (void)state;
    assert_true(listeners_have(text, strlen(text), 8080));
    assert_true(listeners_have(text, strlen(text), 22));
    /* Connected, and not listening. */
    assert_false(listeners_have(text, strlen(text), 80));
    assert_false(listeners_have(text, strlen(text), 40000));
    assert_false(listeners_have("", 0, 80));
    assert_false(listeners_have("\n\n 0: :50 0A", 12, 80));
    /* A line that is cut says nothing. */
    assert_false(listeners_have(text, 130, 8080));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_listeners)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
