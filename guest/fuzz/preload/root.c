/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/fuzz/preload/root.h"

#include <cpuid.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest/fuzz/call.h"
#include "guest/fuzz/names.h"
#include "guest/fuzz/preload/crashes.h"
#include "guest/fuzz/preload/determinism.h"
#include "guest/fuzz/preload/forkserver.h"
#include "guest/fuzz/preload/input.h"
#include "guest/fuzz/preload/output.h"
#include "guest/fuzz/preload/preload.h"
#include "guest/fuzz/preload/real.h"
#include "guest/fuzz/preload/sockets.h"
#include "guest/fuzz/preload/warm.h"

/* Of XGETBV: the kernel keeps SSE and AVX registers. */
#define XCR0_SSE_AVX 6u

#define HEAP_READY (1u << 20)

/* What settle_sanitizer allocates. */
#define SIZES_MAX     128u
#define SIZE_MAX_WARM (96u << 10)

/* More than qsort(3) sorts on the stack: 1 KiB. */
#define SORT_WORDS 512u

static uint8_t fpu_at_root[512] __attribute__((aligned(16)));
/* Or the compiler leaves out a block that nobody uses. */
static void *volatile heap_ready;
static struct fuzz_abi_hello hello __attribute__((aligned(64)));

static bool has_avx(void)
{
    const unsigned int both = bit_AVX | bit_OSXSAVE;
    uint32_t a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & both) != both)
        return false;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & XCR0_SSE_AVX) == XCR0_SSE_AVX;
}

static void fpu_put_back(bool avx)
{
    if (avx)
        __asm__ volatile("vzeroall" ::: "memory");
    __asm__ volatile("fxrstor64 %0" : : "m"(fpu_at_root) : "memory");
}

/*
 * A sanitizer's allocator asks the kernel for memory at the first allocation
 * of each size, and for its books at the first that is freed: that is to be
 * behind it. Its sizes lie an eighth apart at most.
 */
static void settle_sanitizer(void)
{
    static void *blocks[SIZES_MAX];
    size_t count = 0;

    for (size_t size = 1; size <= SIZE_MAX_WARM && count < SIZES_MAX;
         size += size < 256 ? 16 : size / 8)
        blocks[count++] = malloc(size);
    while (count > 0)
        free(blocks[--count]);
}

/* Memory of runs comes from a heap that is there already and stays. */
static void settle_malloc(void)
{
    if (preload.sanitized) {
        settle_sanitizer();
        return;
    }
    (void)mallopt(M_MMAP_MAX, 0);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_TOP_PAD, 1 << 20);
    heap_ready = malloc(HEAP_READY);
    free(heap_ready);
}

static int compare_words(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* What libc asks the kernel for once: how much memory there is, before it sorts
 * what is large. */
static void settle_libc(void)
{
    int words[SORT_WORDS] = {1};

    qsort(words, SORT_WORDS, sizeof(words[0]), compare_words);
}

static void mark_rooted(void)
{
    pid_t pid = getpid();

    (void)REAL(write)(FUZZ_NAMES_ROOTED_FD, &pid, sizeof(pid));
    (void)REAL(close)(FUZZ_NAMES_ROOTED_FD);
}

static void prepare_hello(void)
{
    hello.magic = FUZZ_ABI_HELLO_MAGIC;
    hello.version = FUZZ_ABI_HELLO_VERSION;
    hello.flags = FUZZ_ABI_RESTORES_FPU;
    forkserver_tell(&hello);
    input_tell(&hello);
    hello.warm = (uintptr_t)warm_list();
}

void root_take(void)
{
    bool avx = has_avx();
    uint64_t n;

    preload.rooted = true;
    crashes_install();
    settle_malloc();
    settle_libc();
    clock_hold();
    random_prepare();
    process_hold();
    output_mark();
    input_prepare();
    sockets_prepare();
    mark_rooted();
    /* Before the rest is made present: the map is made shorter. */
    prepare_hello();
    warm_all();
    (void)call_at(FUZZ_ABI_HELLO, &hello);
    forkserver_give_dictionary();
    __asm__ volatile("fxsave64 %0" : "=m"(fpu_at_root) : : "memory");
    while ((n = call(FUZZ_ABI_ROOT, 0)) != 0)
        warm_pages(n);
    fpu_put_back(avx);
    input_begin();
}

void root_fail(const char *why)
{
    (void)call_at(FUZZ_ABI_USER_ABORT, why);
    REAL(_exit)(1);
    __builtin_unreachable();
}
