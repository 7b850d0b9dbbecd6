/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent that speaks Nyx's calls and looks at every answer. It gets ready as
 * agents do, from the oldest handshake on; a step that fails is told by
 * USER_ABORT. A file "looks" of one byte has it look at its input between
 * NEXT_PAYLOAD and ACQUIRE. Then what the first byte of each input says:
 *
 *   r s   RELEASE, with nothing and with an argument
 *   p g   PANIC in a user's program; PANIC without an address
 *   f     the function that SUBMIT_PANIC named
 *   k e   KASAN; PANIC_EXTENDED
 *   a     USER_ABORT
 *   n     NEXT_PAYLOAD instead of RELEASE
 *   t     CREATE_TMP_SNAPSHOT, then RELEASE
 *   u h   a call that there is none of; one that comes too late
 *   c     PANIC_EXTENDED with how often this page and the page that persists
 *         were counted, and with the input's last byte
 *   l     nothing, for ever
 *   b     REPORT of no bytes, then as p
 */
#include <stddef.h>
#include <stdint.h>

#include "guest/fuzz/abi.h"

#define PAGE         4096u
#define PAYLOAD_SIZE (1u << 20)
#define MAP_SIZE     100u

void nyx_main(void);
void nyx_panic(void);

static uint8_t payload[PAYLOAD_SIZE] __attribute__((aligned(4096)));
static uint8_t map[PAGE] __attribute__((aligned(4096)));
static uint8_t kept[PAGE] __attribute__((aligned(4096)));
static uint8_t page[PAGE] __attribute__((aligned(4096)));
static uint8_t more[PAGE] __attribute__((aligned(4096)));
static struct fuzz_abi_host_config host;
static struct fuzz_abi_agent_config agent;
static struct fuzz_abi_dump_file dump;
static struct fuzz_abi_ranges ranges;
static struct fuzz_abi_bulk bulk;
static const struct fuzz_abi_text no_text;
static uint8_t ordinary;
static uint8_t looks; /* at its input, before it says that a run begins */
static volatile uint8_t seen;
static char text[64];

static uint64_t call(uint64_t number, uint64_t argument)
{
    uint64_t result;

    __asm__ volatile("outl %%eax, %%dx"
                     : "=a"(result)
                     : "a"((uint64_t)FUZZ_ABI_MAGIC), "b"(number),
                     "c"(argument), "d"(FUZZ_ABI_PORT)
                     : "memory");
    return result;
}

static uint64_t call_at(uint64_t number, const void *argument)
{
    return call(number, (uint64_t)(uintptr_t)argument);
}

static void put(void *to, const char *string)
{
    char *c = to;

    while ((*c++ = *string++) != '\0')
        ;
}

static void need(int holds, const char *step)
{
    if (!holds)
        (void)call_at(FUZZ_ABI_USER_ABORT, step);
}

static uint64_t fetch(const char *name)
{
    put(page, name);
    return call_at(FUZZ_ABI_REQ_STREAM_DATA, page);
}

static uint64_t write_dump(const char *name, uint64_t bytes, uint8_t append)
{
    dump.file_name_str_ptr = (uint64_t)(uintptr_t)name;
    dump.data_ptr = (uint64_t)(uintptr_t)page;
    dump.bytes = bytes;
    dump.append = append;
    return call_at(FUZZ_ABI_DUMP_FILE, &dump);
}

/* seed is 5,000 bytes of 's'. */
static void transfer(void)
{
    need(fetch("seed") == PAGE && page[0] == 's' && page[PAGE - 1] == 's',
        "REQ_STREAM_DATA: the first piece");
    need(fetch("seed") == 5000 - PAGE, "REQ_STREAM_DATA: the second piece");
    need(fetch("seed") == 0, "REQ_STREAM_DATA: the end");
    need(fetch("seed") == PAGE, "REQ_STREAM_DATA: once more");
    need(fetch("nothing") == UINT64_MAX, "REQ_STREAM_DATA: no such file");
    need(fetch("../seed") == UINT64_MAX, "REQ_STREAM_DATA: outside");
    put(bulk.file_name, "seed");
    bulk.num_addresses = 2;
    bulk.addresses[0] = (uint64_t)(uintptr_t)page;
    bulk.addresses[1] = (uint64_t)(uintptr_t)more;
    need(call_at(FUZZ_ABI_REQ_STREAM_DATA_BULK, &bulk) == 5000 &&
             more[5000 - PAGE - 1] == 's' && more[5000 - PAGE] == 0,
        "REQ_STREAM_DATA_BULK");
    need(call_at(FUZZ_ABI_REQ_STREAM_DATA_BULK, &bulk) == 0,
        "REQ_STREAM_DATA_BULK: the end");
    need(write_dump("a/maps.txt", 10, 0) == 0, "DUMP_FILE");
    need(write_dump("maps.txt", 10, 1) == 0, "DUMP_FILE: more");
    need(write_dump("one.XXXXXX.txt", 3, 0) == 0, "DUMP_FILE: its own");
    need(write_dump("one.XXXXXX.txt", 4, 0) == 0, "DUMP_FILE: another");
    need(write_dump("..", 1, 0) == UINT64_MAX, "DUMP_FILE: no name");
}

static void configure(void)
{
    need(call_at(FUZZ_ABI_GET_HOST_CONFIG, &host) == 0 &&
             host.magic == FUZZ_ABI_HOST_MAGIC &&
             host.version == FUZZ_ABI_HOST_VERSION &&
             host.payload_buffer_size == PAYLOAD_SIZE &&
             host.ijon_bitmap_size == PAGE,
        "GET_HOST_CONFIG");
    agent.magic = FUZZ_ABI_AGENT_MAGIC;
    agent.version = FUZZ_ABI_AGENT_VERSION;
    agent.agent_tracing = 1;
    agent.agent_ijon_tracing = 1;
    agent.trace_buffer_vaddr = (uint64_t)(uintptr_t)map;
    agent.ijon_trace_buffer_vaddr = (uint64_t)(uintptr_t)more;
    agent.coverage_bitmap_size = MAP_SIZE;
    (void)call_at(FUZZ_ABI_SET_AGENT_CONFIG, &agent);
    (void)call_at(FUZZ_ABI_GET_PAYLOAD, payload);
    ranges.enabled[0] = 1;
    ranges.ip[3] = 1;
    (void)call_at(FUZZ_ABI_USER_RANGE_ADVISE, &ranges);
    need(ranges.enabled[0] == 0 && ranges.ip[3] == 0, "USER_RANGE_ADVISE");
    (void)call(FUZZ_ABI_USER_SUBMIT_MODE, 0);
    (void)call_at(FUZZ_ABI_RANGE_SUBMIT, page);
    (void)call(FUZZ_ABI_SUBMIT_CR3, 0);
    (void)call_at(FUZZ_ABI_SUBMIT_PANIC, (const void *)nyx_panic);
    (void)call_at(FUZZ_ABI_PERSIST_PAGE, kept);
}

static void tell_counts(uint8_t last)
{
    put(text, "o=. k=. l=.");
    text[2] = (char)('0' + ordinary);
    text[6] = (char)('0' + kept[0]);
    text[10] = (char)last;
    (void)call_at(FUZZ_ABI_PANIC_EXTENDED, text);
}

static void run(uint8_t what, uint8_t last)
{
    switch (what) {
    case 's':
        (void)call(FUZZ_ABI_RELEASE, 1);
        break;
    case 'b':
        (void)call_at(FUZZ_ABI_REPORT, &no_text);
        __attribute__((fallthrough));
    case 'p':
        (void)call(FUZZ_ABI_PANIC, FUZZ_ABI_PANIC_USER |
                       UINT64_C(11) << FUZZ_ABI_PANIC_SIGNAL_SHIFT | 0x1234);
        break;
    case 'g':
        (void)call(FUZZ_ABI_PANIC, 1);
        break;
    case 'f':
        nyx_panic();
        break;
    case 'k':
        (void)call(FUZZ_ABI_KASAN, 0);
        break;
    case 'e':
        (void)call_at(FUZZ_ABI_PANIC_EXTENDED, "what it says");
        break;
    case 'a':
        (void)call_at(FUZZ_ABI_USER_ABORT, "why it cannot");
        break;
    case 'n':
        (void)call(FUZZ_ABI_NEXT_PAYLOAD, 0);
        break;
    case 't':
        (void)call(FUZZ_ABI_CREATE_TMP_SNAPSHOT, 0);
        break;
    case 'u':
        (void)call(0xabc, 0);
        break;
    case 'h':
        (void)call_at(FUZZ_ABI_SET_AGENT_CONFIG, &agent);
        break;
    case 'c':
        tell_counts(last);
        break;
    case 'l':
        for (;;)
            __asm__ volatile("pause");
    default:
        break;
    }
    (void)call(FUZZ_ABI_RELEASE, 0);
}

void nyx_main(void)
{
    const struct fuzz_abi_payload *input = (const void *)payload;

    (void)call(FUZZ_ABI_LOCK, 0);
    transfer();
    (void)call(FUZZ_ABI_ACQUIRE, 0);
    (void)call(FUZZ_ABI_RELEASE, 0);
    configure();
    looks = fetch("looks") == 1;
    (void)call_at(FUZZ_ABI_PRINTF, "it is ready\n");
    (void)call(FUZZ_ABI_NEXT_PAYLOAD, 0);
    if (looks)
        seen = input->data[0];
    (void)call_at(FUZZ_ABI_PRINTF, "it acquires\n");
    (void)call(FUZZ_ABI_ACQUIRE, 0);
    ordinary++;
    kept[0]++;
    map[0] = 1;
    map[MAP_SIZE - 1] = 2;
    run(input->data[0], input->data[input->size - 1]);
}
