/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_fork [-n RUNS] [-b SECONDS] [-m MIB]
 *
 * What plain processes cost where a machine is cloned or put back: a process
 * with MIB (64) of memory of its own forks, the child writes to d pages of it
 * and ends; from before the fork until it is reaped, in us, by d. Prints JSON.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/stats.h"
#include "vmm/base/cc.h"
#include "vmm/base/clock.h"
#include "vmm/base/num.h"

static int run_once(volatile unsigned char *memory, size_t pages, uint64_t mark)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        for (size_t i = 0; i < pages; i++)
            memory[i * NUM_PAGE_SIZE] = (unsigned char)mark;
        _exit(0);
    }
    return pid < 0 || waitpid(pid, &status, 0) != pid || status != 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    static const size_t pages[] = {0, 1, 10, 100, 1000, 10000};
    struct stats trips_us[ARRAY_SIZE(pages)] = {0};
    uint64_t end_ns = UINT64_MAX;
    unsigned char *memory;
    size_t mib = 64;
    int runs = 500;
    int opt;

    while ((opt = getopt(argc, argv, "n:b:m:")) != -1) {
        if (opt == 'n')
            runs = atoi(optarg);
        else if (opt == 'b')
            end_ns =
                clock_now_ns() + strtoull(optarg, NULL, 10) * CLOCK_NS_PER_S;
        else if (opt == 'm')
            mib = strtoull(optarg, NULL, 10);
        else
            return 2;
    }
    memory = mmap(NULL, mib * NUM_MIB, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mib * NUM_MIB / NUM_PAGE_SIZE < 10000) {
        (void)fputs("bench_fork: from 40 MiB on\n", stderr);
        return 1;
    }
    for (size_t at = 0; at < mib * NUM_MIB; at += NUM_PAGE_SIZE)
        memory[at] = 1;
    for (int i = 0; i < runs && clock_now_ns() < end_ns; i++) {
        for (size_t k = 0; k < ARRAY_SIZE(pages); k++) {
            uint64_t from = clock_now_ns();

            if (run_once(memory, pages[k], from) < 0) {
                (void)fputs("bench_fork: a child has failed\n", stderr);
                return 1;
            }
            stats_add(&trips_us[k], (double)(clock_now_ns() - from) / 1e3);
        }
    }
    (void)printf("{\"bench\": \"fork\", \"mib\": %zu", mib);
    for (size_t k = 0; k < ARRAY_SIZE(pages); k++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "pages_%zu", pages[k]);
        (void)fputs(", ", stdout);
        stats_print(&trips_us[k], name, "us", stdout);
        stats_free(&trips_us[k]);
    }
    (void)fputs("}\n", stdout);
    (void)munmap(memory, mib * NUM_MIB);
    return 0;
}
