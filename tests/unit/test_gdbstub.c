/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/gdbstub.h"
#include "vmm/base/num.h"

#define MEM_AT UINT64_C(0x7000)

struct bench {
    struct gdbstub stub;
    struct gdbstub_regs regs;
    uint8_t mem[64]; /* at MEM_AT */
    uint64_t break_at;
    char said[2 * GDBSTUB_PACKET_MAX];
};

static int get_regs(void *opaque, struct gdbstub_regs *ret_regs)
{
    *ret_regs = ((struct bench *)opaque)->regs;
    return 0;
}

static int set_regs(void *opaque, const struct gdbstub_regs *regs)
{
    ((struct bench *)opaque)->regs = *regs;
    return 0;
}

static int read_mem(void *opaque, uint64_t at, void *dst, size_t size)
{
    struct bench *b = opaque;

    if (at < MEM_AT || !num_range_within(at - MEM_AT, size, sizeof(b->mem)))
        return -EFAULT;
    memcpy(dst, b->mem + (at - MEM_AT), size);
    return 0;
}

static int write_mem(void *opaque, uint64_t at, const void *src, size_t size)
{
    struct bench *b = opaque;

    if (at < MEM_AT || !num_range_within(at - MEM_AT, size, sizeof(b->mem)))
        return -EFAULT;
    memcpy(b->mem + (at - MEM_AT), src, size);
    return 0;
}

static int set_break(void *opaque, uint64_t at, bool is_set)
{
    ((struct bench *)opaque)->break_at = is_set ? at : 0;
    return 0;
}

static const struct gdbstub_ops ops = {.get_regs = get_regs,
    .set_regs = set_regs,
    .read = read_mem,
    .write = write_mem,
    .set_break = set_break};

static int begin(void **state)
{
    const struct gdbstub_stop stop = {.reason = GDBSTUB_SIGNAL, .signal = 5};
    struct bench *b = calloc(1, sizeof(*b));

    gdbstub_init(&b->stub, &ops, b, &stop);
    for (unsigned int i = 0; i < GDBSTUB_GENERAL; i++)
        b->regs.general[i] = i + 1;
    b->regs.segments[0] = 0x246;
    b->regs.fs_base = 0x1122334455667788;
    for (unsigned int i = 0; i < sizeof(b->mem); i++)
        b->mem[i] = (uint8_t)i;
    *state = b;
    return 0;
}

static int end(void **state)
{
    free(*state);
    return 0;
}

/* What the stub says now, all of it. */
static const char *take(struct bench *b)
{
    size_t size;
    const char *out = gdbstub_output(&b->stub, &size);

    memcpy(b->said, out, size);
    b->said[size] = '\0';
    gdbstub_sent(&b->stub, size);
    return b->said;
}

static void give_raw(struct bench *b, const char *bytes)
{
    assert_int_equal(
        gdbstub_input(&b->stub, bytes, strlen(bytes)), strlen(bytes));
}

/* A packet around the text, and the reply with its frame taken off. */
static const char *ask(struct bench *b, const char *text)
{
    char packet[2 * GDBSTUB_PACKET_MAX];
    uint8_t sum = 0;
    char *hash;

    for (const char *c = text; *c != '\0'; c++)
        sum = (uint8_t)(sum + (uint8_t)*c);
    (void)snprintf(packet, sizeof(packet), "$%s#%02x", text, sum);
    give_raw(b, packet);
    (void)take(b);
    if (b->said[0] == '+')
        memmove(b->said, b->said + 1, strlen(b->said));
    if (b->said[0] == '\0')
        return "";
    assert_int_equal(b->said[0], '$');
    hash = strrchr(b->said, '#');
    assert_non_null(hash);
    *hash = '\0';
    return b->said + 1;
}

static void beginning_is_as_gdb_wants(void **state)
{
    struct bench *b = *state;

    give_raw(b, "+$?#3f");
    assert_string_equal(take(b), "+$T05thread:1;#d7");
    assert_non_null(strstr(
        ask(b, "qSupported:multiprocess+"), "ReverseStep+;ReverseContinue+"));
    assert_string_equal(ask(b, "QStartNoAckMode"), "OK");
    assert_string_equal(ask(b, "qC"), "QC1");
    give_raw(b, "+$qfThreadInfo#bb");
    assert_string_equal(take(b), "$m1#9e");
    assert_string_equal(ask(b, "qsThreadInfo"), "l");
    assert_string_equal(ask(b, "Hg0"), "OK");
    assert_string_equal(ask(b, "vMustReplyEmpty"), "");
    assert_string_equal(ask(b, "vCont?"), "vCont;c;C;s;S");
}

static void broken_packets_are_asked_for_again(void **state)
{
    struct bench *b = *state;

    give_raw(b, "$?#00");
    assert_string_equal(take(b), "-");
    give_raw(b, "$?#zz");
    assert_string_equal(take(b), "-");
    give_raw(b, "$?#3f");
    assert_string_equal(take(b), "+$T05thread:1;#d7");
    /* And ours, by the peer. */
    give_raw(b, "-");
    assert_string_equal(take(b), "$T05thread:1;#d7");
    /* Nothing more is taken in while there is something to be said. */
    assert_int_equal(gdbstub_input(&b->stub, "$?#3f$?#3f", 10), 5);
    (void)take(b);
}

static void long_packets_are_refused(void **state)
{
    struct bench *b = *state;
    char *text = malloc(GDBSTUB_PACKET_MAX + 10);

    memset(text, 'm', GDBSTUB_PACKET_MAX + 9);
    text[0] = '$';
    text[GDBSTUB_PACKET_MAX + 9] = '\0';
    give_raw(b, text);
    give_raw(b, "#00");
    assert_string_equal(take(b), "-");
    free(text);
    assert_string_equal(ask(b, "qC"), "QC1");
}

static void registers_are_read_and_written(void **state)
{
    struct bench *b = *state;
    char *all = strdup(ask(b, "g"));

    /* 17 of 8 bytes, 7 of 4, 8 of 10 and 8 of 4 that are not shown, 2 of 8. */
    assert_int_equal(strlen(all), 2 * (17 * 8 + 7 * 4 + 80 + 32 + 16));
    assert_memory_equal(all,
        "0100000000000000"
        "0200000000000000",
        32);
    assert_memory_equal(all + 17 * 16, "46020000", 8);
    assert_memory_equal(all + 17 * 16 + 7 * 8, "xxxx", 4);
    assert_string_equal(ask(b, "p10"), "1100000000000000");
    assert_string_equal(ask(b, "p28"), "8877665544332211");
    assert_string_equal(ask(b, "p18"), "xxxxxxxxxxxxxxxxxxxx");
    assert_string_equal(ask(b, "p2a"), "E16");
    assert_string_equal(ask(b, "p"), "E16");
    assert_string_equal(ask(b, "P10=efbeadde00000000"), "OK");
    assert_int_equal(b->regs.general[16], 0xdeadbeef);
    assert_string_equal(ask(b, "P10=ef"), "E16");
    assert_string_equal(ask(b, "P10=efbeadde0000000000"), "E16");
    all[2] = 'f';
    {
        char *set = NULL;

        assert_true(asprintf(&set, "G%s", all) > 0);
        assert_string_equal(ask(b, set), "OK");
        assert_int_equal(b->regs.general[0], 0xf001);
        assert_int_equal(b->regs.general[16], 17);
        set[strlen(set) - 1] = '\0';
        assert_string_equal(ask(b, set), "E16");
        free(set);
    }
    free(all);
}

static void memory_is_read_and_written(void **state)
{
    struct bench *b = *state;

    assert_string_equal(ask(b, "m7001,4"), "01020304");
    assert_string_equal(ask(b, "m703e,4"), "E0e");
    assert_string_equal(ask(b, "m7000"), "E16");
    assert_string_equal(ask(b, "m70000000000000000,1"), "E16");
    assert_string_equal(ask(b, "M7002,2:fffe"), "OK");
    assert_int_equal(b->mem[3], 0xfe);
    assert_string_equal(ask(b, "M7002,2:ff"), "E16");
    assert_string_equal(ask(b, "M9000,1:ff"), "E0e");
    assert_string_equal(ask(b, "Z0,7010,1"), "OK");
    assert_int_equal(b->break_at, 0x7010);
    assert_string_equal(ask(b, "z0,7010,1"), "OK");
    assert_int_equal(b->break_at, 0);
    assert_string_equal(ask(b, "Z2,7010,1"), "");
    assert_string_equal(ask(b, "Z0,"), "E16");
}

static void breakpoints_are_bounded(void **state)
{
    struct bench *b = *state;

    for (unsigned int i = 0; i < GDBSTUB_BREAKS_MAX; i++)
        assert_string_equal(ask(b, "Z0,7010,1"), "OK");
    assert_string_equal(ask(b, "Z0,7010,1"), "E1c");
    assert_string_equal(ask(b, "z0,7010,1"), "OK");
    assert_string_equal(ask(b, "Z0,7010,1"), "OK");
}

static void check_move(struct bench *b, const char *text, enum gdbstub_move how)
{
    struct gdbstub_stop stop = {.reason = GDBSTUB_BREAK, .signal = 5};

    assert_string_equal(ask(b, text), "");
    assert_int_equal(b->stub.state, GDBSTUB_MOVING);
    assert_int_equal(b->stub.move, how);
    assert_int_equal(gdbstub_input(&b->stub, "$?#3f", 5), 0);
    gdbstub_stopped(&b->stub, &stop);
    assert_string_equal(take(b), "$T05thread:1;swbreak:;#3b");
}

static void moves_are_the_owners(void **state)
{
    struct bench *b = *state;

    check_move(b, "c", GDBSTUB_CONTINUE);
    check_move(b, "s", GDBSTUB_STEP);
    check_move(b, "C0b", GDBSTUB_CONTINUE);
    check_move(b, "vCont;c", GDBSTUB_CONTINUE);
    check_move(b, "vCont;s:1;c", GDBSTUB_STEP);
    check_move(b, "bs", GDBSTUB_STEP_BACK);
    check_move(b, "bc", GDBSTUB_CONTINUE_BACK);
    check_move(b, "s1234", GDBSTUB_STEP);
    assert_int_equal(b->regs.general[16], 0x1234);
    assert_string_equal(ask(b, "vCont;x"), "E16");
    assert_string_equal(ask(b, "sxx"), "E16");
}

static void stops_are_told(void **state)
{
    struct bench *b = *state;
    struct gdbstub_stop stop = {.reason = GDBSTUB_LOG_END, .signal = 11};

    (void)ask(b, "c");
    gdbstub_stopped(&b->stub, &stop);
    assert_string_equal(take(b), "$T0bthread:1;replaylog:end;#7f");
    (void)ask(b, "c");
    assert_false(gdbstub_asks_stop(&b->stub, "ab", 2));
    assert_true(gdbstub_asks_stop(&b->stub, "\3", 1));
    stop = (struct gdbstub_stop){.reason = GDBSTUB_SIGNAL, .signal = 5};
    gdbstub_stopped(&b->stub, &stop);
    assert_string_equal(take(b), "$T02thread:1;#d4");
    (void)ask(b, "c");
    gdbstub_say(&b->stub, "hm");
    assert_string_equal(take(b), "$O686d0a#e8");
    stop = (struct gdbstub_stop){.reason = GDBSTUB_EXITED, .signal = 3};
    gdbstub_stopped(&b->stub, &stop);
    assert_string_equal(take(b), "$W03#ba");
}

static void description_is_read_in_pieces(void **state)
{
    struct bench *b = *state;
    char all[8192] = "";
    char text[64];
    const char *piece;

    do {
        (void)snprintf(text, sizeof(text),
            "qXfer:features:read:target.xml:%zx,100", strlen(all));
        piece = ask(b, text);
        (void)strncat(all, piece + 1, sizeof(all) - strlen(all) - 1);
    } while (piece[0] == 'm');
    assert_int_equal(piece[0], 'l');
    assert_non_null(strstr(all, "org.gnu.gdb.i386.core"));
    assert_string_equal(all + strlen(all) - 9, "</target>");
    assert_string_equal(
        ask(b, "qXfer:features:read:target.xml:ffff,10"), "E16");
    assert_string_equal(ask(b, "qXfer:features:read:target.xml:0"), "E16");
}

static void ends_are_ends(void **state)
{
    struct bench *b = *state;

    assert_string_equal(ask(b, "D"), "OK");
    assert_int_equal(b->stub.state, GDBSTUB_DONE);
    assert_false(b->stub.was_killed);
    assert_int_equal(gdbstub_input(&b->stub, "$?#3f", 5), 0);
}

static void killed_is_an_end(void **state)
{
    struct bench *b = *state;

    assert_string_equal(ask(b, "k"), "");
    assert_int_equal(b->stub.state, GDBSTUB_DONE);
    assert_true(b->stub.was_killed);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        T(beginning_is_as_gdb_wants),
        T(broken_packets_are_asked_for_again),
        T(long_packets_are_refused),
        T(registers_are_read_and_written),
        T(memory_is_read_and_written),
        T(breakpoints_are_bounded),
        T(moves_are_the_owners),
        T(stops_are_told),
        T(description_is_read_in_pieces),
        T(ends_are_ends),
        T(killed_is_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
