/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiled by AFL++, without a word about it in the source; with -DDEFERRED
 * the start of the fork server is told, and what comes before it counted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef DEFERRED
__AFL_FUZZ_INIT();
#endif

int main(int argc, char **argv)
{
    static volatile unsigned int prepared;
    char buf[64];
    ssize_t n;

    for (int i = 0; i < 1000; i++)
        prepared++;
#ifdef DEFERRED
    __AFL_INIT();
#endif
    if (argc > 1 && strcmp(argv[1], "none") == 0)
        return 5;
    n = read(0, buf, sizeof(buf));
    if (n >= 5 && memcmp(buf, "magic", 5) == 0)
        return prepared == 1000 ? 10 : 1;
    if (n >= 5 && memcmp(buf, "crash", 5) == 0)
        abort();
    return n > 0 ? 11 : 12;
}
