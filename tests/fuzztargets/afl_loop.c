/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AFL++'s persistent mode with shared-memory test cases. What happens before
 * the loop is to happen once, before the root.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__AFL_FUZZ_INIT();

static volatile unsigned int loops;

__attribute__((noinline)) static void look(const unsigned char *buf, int n)
{
    if (n >= 5 && memcmp(buf, "magic", 5) == 0)
        exit(10);
    if (n >= 5 && memcmp(buf, "crash", 5) == 0)
        abort();
    if (loops > 1)
        exit(20); /* the second test case of a process */
}

int main(int argc, char **argv)
{
    unsigned char *buf;

    if (argc > 1 && strcmp(argv[1], "none") == 0)
        return 5;
    if (argc > 1 && strcmp(argv[1], "no_loop") == 0) {
        __AFL_INIT();
        return 6;
    }
    __AFL_INIT();
    buf = __AFL_FUZZ_TESTCASE_BUF;
    while (__AFL_LOOP(1000)) {
        int n = __AFL_FUZZ_TESTCASE_LEN;

        loops++;
        look(buf, n);
    }
    return 0;
}
