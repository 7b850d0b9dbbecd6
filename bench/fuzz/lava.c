/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader of login records, as who(1) is one, with bugs planted the way LAVA
 * does it: bytes of the input that nothing else looks at are compared with a
 * number of 32 bits, and where they are the same the program ends. Each bug
 * says its number first, so that those found can be counted.
 *
 * A file: "WHO1", four unused bytes, records of 64 bytes, a rest that is
 * shorter. Records have names in fields of fixed size with a zero behind them;
 * what follows the zero is unused, and so is `spare`.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE 8
#define USERS_MAX   16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RUN_LEVEL = 1, BOOT, NEW_TIME, OLD_TIME, INIT, LOGIN, USER, DEAD };

struct record {
    uint8_t type;
    uint8_t unused[3];
    uint32_t pid;
    char line[8];
    char id[4];
    char user[12];
    char host[16];
    uint32_t seconds;
    uint32_t micro;
    uint8_t spare[8];
};

_Static_assert(sizeof(struct record) == 64, "as in the file");

struct who {
    char lines[USERS_MAX][8]; /* with a user */
    size_t users;
    size_t records;
    uint32_t boot;
    uint32_t old_time;
    uint64_t logged_in; /* seconds of all */
};

static volatile uint64_t sink;

static __attribute__((noinline, noreturn)) void bug(unsigned number)
{
    (void)fprintf(stderr, "lava: bug %u\n", number);
    abort();
}

static uint32_t little(const void *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static uint32_t big(const void *at)
{
    return __builtin_bswap32(little(at));
}

/* Each has a compare of its own: one function for all would be one place. */
#define PLANT(number, value, magic)                                            \
    do {                                                                       \
        if ((value) == UINT32_C(magic))                                        \
            bug(number);                                                       \
    } while (0)

/* Bytes of a field without its end, -1: it has none. */
static int length(const char *field, size_t size)
{
    const char *end = memchr(field, '\0', size);

    return end == NULL ? -1 : (int)(end - field);
}

/* ---- records ------------------------------------------------------------- */

static void run_level(const struct record *r)
{
    unsigned level = r->pid & 0xff;
    unsigned before = r->pid >> 8 & 0xff;

    PLANT(1, little(r->spare), 0x6c617601);
    if (level >= '0' && level <= '6')
        PLANT(2, big(r->spare + 4), 0x4c9a3e02);
    if (before == 'N')
        PLANT(3, little(r->host + 12), 0x8d21f703);
}

static void boot(struct who *who, const struct record *r)
{
    who->boot = r->seconds;
    PLANT(4, little(r->spare), 0xd15ea504);
    if (length(r->host, sizeof(r->host)) == 0)
        PLANT(5, little(r->host + 4), 0x3f70b605);
}

static void clock_changes(struct who *who, const struct record *r)
{
    if (r->type == OLD_TIME) {
        who->old_time = r->seconds;
        PLANT(6, big(r->spare), 0x1b4e9d06);
        return;
    }
    PLANT(7, little(r->spare + 4), 0xa6c35807);
    if (who->old_time != 0 && r->seconds > who->old_time)
        PLANT(8, little(r->spare), 0x527fe108);
    who->old_time = 0;
}

static void init(const struct record *r)
{
    PLANT(9, little(r->spare + 2), 0xe8046b09);
    if (r->pid > 1 && length(r->line, sizeof(r->line)) == 0)
        PLANT(10, little(r->line + 4), 0x770d2c10);
}

static void login(const struct record *r)
{
    PLANT(11, big(r->spare), 0x95b1c411);
    if (length(r->user, sizeof(r->user)) == 5 &&
        memcmp(r->user, "LOGIN", 5) == 0)
        PLANT(12, little(r->user + 8), 0x24f86a12);
}

static void user(struct who *who, const struct record *r)
{
    int line = length(r->line, sizeof(r->line));
    int name = length(r->user, sizeof(r->user));
    int host = length(r->host, sizeof(r->host));

    if (line <= 0 || name <= 0)
        return;
    PLANT(13, little(r->spare), 0xbe59d713);
    PLANT(14, big(r->spare + 4), 0x60a2f314);
    if (line < 4)
        PLANT(15, little(r->line + 4), 0xc93e8115);
    if (host > 0 && host < 12)
        PLANT(16, little(r->host + 12), 0x0fd74b16);
    if (r->seconds > who->boot)
        who->logged_in += r->seconds - who->boot;
    if (who->users < USERS_MAX)
        memcpy(who->lines[who->users++], r->line, sizeof(r->line));
}

static void dead(struct who *who, const struct record *r)
{
    PLANT(17, little(r->spare), 0x418c6e17);
    for (size_t i = 0; i < who->users; i++) {
        if (strncmp(who->lines[i], r->line, sizeof(r->line)) != 0)
            continue;
        PLANT(18, big(r->spare + 4), 0xf25a9018);
        who->users--;
        memmove(who->lines[i], who->lines[who->users], sizeof(r->line));
        return;
    }
}

static void record(struct who *who, const struct record *r)
{
    who->records++;
    switch (r->type) {
    case RUN_LEVEL:
        run_level(r);
        break;
    case BOOT:
        boot(who, r);
        break;
    case NEW_TIME:
    case OLD_TIME:
        clock_changes(who, r);
        break;
    case INIT:
        init(r);
        break;
    case LOGIN:
        login(r);
        break;
    case USER:
        user(who, r);
        break;
    case DEAD:
        dead(who, r);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct who who = {0};
    struct record r;

    if (size < HEADER_SIZE || memcmp(data, "WHO1", 4) != 0)
        return 0;
    PLANT(19, little(data + 4), 0x9e41b319);
    data += HEADER_SIZE;
    size -= HEADER_SIZE;
    for (; size >= sizeof(r); data += sizeof(r), size -= sizeof(r)) {
        memcpy(&r, data, sizeof(r));
        record(&who, &r);
    }
    if (who.records > 2 && size >= 4)
        PLANT(20, little(data), 0x7a2be520);
    sink = who.logged_in + who.users;
    return 0;
}
