/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/gdbstub.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fuzz/gdbstub_target.h"
#include "vmm/base/num.h"

#define INTERRUPT   '\3'
#define SIGNAL_INT  2u
#define SIGNAL_TRAP 5u

/* Behind the segments: x87 registers, which are not shown, and two bases. */
#define X87_FIRST  24u
#define X87_STACK  8u
#define X87_OTHERS 8u
#define FS_BASE    40u
#define GS_BASE    41u

#define REGS 42u

#define SAY_MAX 1024u

/* ---- numbers in packets -------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool take_hex(const char **at, uint64_t *ret_number)
{
    uint64_t value = 0;
    unsigned int count;

    for (count = 0; hex_digit(**at) >= 0; count++, (*at)++) {
        if (count == 16)
            return false;
        value = value << 4 | (unsigned int)hex_digit(**at);
    }
    *ret_number = value;
    return count > 0;
}

static bool take_char(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

/* `size` bytes in memory order. */
static bool take_bytes(const char **at, uint8_t *ret_bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit((*at)[0]);
        int low = high < 0 ? -1 : hex_digit((*at)[1]);

        if (low < 0)
            return false;
        ret_bytes[i] = (uint8_t)(high << 4 | low);
        *at += 2;
    }
    return true;
}

/* ---- output -------------------------------------------------------------- */

static void put_raw(struct gdbstub *stub, char c)
{
    /* A reply is bounded by what fits into a packet. */
    assert(stub->out_size < sizeof(stub->out));
    stub->out[stub->out_size++] = c;
}

static void reply_begin(struct gdbstub *stub)
{
    stub->reply_at = stub->out_size;
    put_raw(stub, '$');
}

static void put_text(struct gdbstub *stub, const char *text)
{
    for (; *text != '\0'; text++)
        put_raw(stub, *text);
}

static void put_hex_bytes(struct gdbstub *stub, const void *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = bytes;

    for (size_t i = 0; i < size; i++) {
        put_raw(stub, digits[from[i] >> 4]);
        put_raw(stub, digits[from[i] & 15]);
    }
}

static void reply_end(struct gdbstub *stub)
{
    uint8_t sum = 0;

    for (size_t i = stub->reply_at + 1; i < stub->out_size; i++)
        sum = (uint8_t)(sum + (uint8_t)stub->out[i]);
    put_raw(stub, '#');
    put_hex_bytes(stub, &sum, 1);
}

static void reply(struct gdbstub *stub, const char *text)
{
    reply_begin(stub);
    put_text(stub, text);
    reply_end(stub);
}

static void reply_result(struct gdbstub *stub, int rc)
{
    char text[8];

    if (rc == 0) {
        reply(stub, "OK");
        return;
    }
    (void)snprintf(text, sizeof(text), "E%02x", (unsigned int)-rc & 0xff);
    reply(stub, text);
}

static void reply_stop(struct gdbstub *stub)
{
    static const char *const reasons[] = {[GDBSTUB_SIGNAL] = "",
        [GDBSTUB_BREAK] = "swbreak:;",
        [GDBSTUB_LOG_BEGIN] = "replaylog:begin;",
        [GDBSTUB_LOG_END] = "replaylog:end;",
        [GDBSTUB_EXITED] = ""};
    char text[64];

    (void)snprintf(text, sizeof(text), "%c%02x%s%s",
        stub->stop.reason == GDBSTUB_EXITED ? 'W' : 'T',
        stub->stop.signal & 0xff,
        stub->stop.reason == GDBSTUB_EXITED ? "" : "thread:1;",
        reasons[stub->stop.reason]);
    reply(stub, text);
}

/* ---- registers ----------------------------------------------------------- */

/* Where register `number` is; NULL for one that is not shown. */
static void *reg_at(
    struct gdbstub_regs *regs, uint64_t number, size_t *ret_size)
{
    *ret_size = sizeof(uint64_t);
    if (number < GDBSTUB_GENERAL)
        return &regs->general[number];
    if (number == FS_BASE)
        return &regs->fs_base;
    if (number == GS_BASE)
        return &regs->gs_base;
    *ret_size = number < X87_FIRST || number >= X87_FIRST + X87_STACK ? 4 : 10;
    return number < X87_FIRST ? &regs->segments[number - GDBSTUB_GENERAL]
                              : NULL;
}

static void put_reg(
    struct gdbstub *stub, struct gdbstub_regs *regs, uint64_t number)
{
    size_t size;
    const void *value = reg_at(regs, number, &size);

    if (value != NULL) {
        put_hex_bytes(stub, value, size);
        return;
    }
    for (size_t i = 0; i < 2 * size; i++)
        put_raw(stub, 'x');
}

static void read_regs(struct gdbstub *stub)
{
    struct gdbstub_regs regs;
    int rc = stub->ops->get_regs(stub->opaque, &regs);

    if (rc < 0) {
        reply_result(stub, rc);
        return;
    }
    reply_begin(stub);
    for (unsigned int i = 0; i < REGS; i++)
        put_reg(stub, &regs, i);
    reply_end(stub);
}

/* Into *regs; x's leave it as it is. */
static bool take_reg(
    const char **at, struct gdbstub_regs *regs, uint64_t number)
{
    size_t size;
    void *value = reg_at(regs, number, &size);
    uint8_t bytes[10];

    if (**at == 'x') {
        for (size_t i = 0; i < 2 * size; i++) {
            if (!take_char(at, 'x'))
                return false;
        }
        return true;
    }
    if (!take_bytes(at, bytes, size))
        return false;
    if (value != NULL)
        memcpy(value, bytes, size);
    return true;
}

static void write_regs(struct gdbstub *stub, const char *at)
{
    struct gdbstub_regs regs;
    int rc = stub->ops->get_regs(stub->opaque, &regs);

    for (unsigned int i = 0; rc == 0 && *at != '\0' && i < REGS; i++) {
        if (!take_reg(&at, &regs, i))
            rc = -EINVAL;
    }
    if (rc == 0 && *at != '\0')
        rc = -EINVAL;
    if (rc == 0)
        rc = stub->ops->set_regs(stub->opaque, &regs);
    reply_result(stub, rc);
}

/* p n, P n=value */
static void one_reg(struct gdbstub *stub, const char *at, bool is_write)
{
    struct gdbstub_regs regs;
    uint64_t number;
    int rc = -EINVAL;

    if (take_hex(&at, &number) && number < REGS &&
        (is_write ? take_char(&at, '=') : *at == '\0'))
        rc = stub->ops->get_regs(stub->opaque, &regs);
    if (rc == 0 && is_write) {
        rc = -EINVAL;
        if (take_reg(&at, &regs, number) && *at == '\0')
            rc = stub->ops->set_regs(stub->opaque, &regs);
    }
    if (rc < 0 || is_write) {
        reply_result(stub, rc);
        return;
    }
    reply_begin(stub);
    put_reg(stub, &regs, number);
    reply_end(stub);
}

/* ---- memory and breakpoints ---------------------------------------------- */

/* As much as is there, but one byte at least. */
static void read_memory(struct gdbstub *stub, const char *at)
{
    uint8_t bytes[GDBSTUB_PACKET_MAX / 2];
    uint64_t address;
    uint64_t size;
    int rc;

    if (!take_hex(&at, &address) || !take_char(&at, ',') ||
        !take_hex(&at, &size) || *at != '\0') {
        reply_result(stub, -EINVAL);
        return;
    }
    size = num_min(size, sizeof(bytes));
    rc = stub->ops->read(stub->opaque, address, bytes, size);
    if (rc == -EFAULT && address % NUM_PAGE_SIZE + size > NUM_PAGE_SIZE) {
        size = NUM_PAGE_SIZE - address % NUM_PAGE_SIZE;
        rc = stub->ops->read(stub->opaque, address, bytes, size);
    }
    if (rc < 0) {
        reply_result(stub, rc);
        return;
    }
    reply_begin(stub);
    put_hex_bytes(stub, bytes, size);
    reply_end(stub);
}

static void write_memory(struct gdbstub *stub, const char *at)
{
    uint8_t bytes[GDBSTUB_PACKET_MAX / 2];
    uint64_t address;
    uint64_t size;
    int rc = -EINVAL;

    if (take_hex(&at, &address) && take_char(&at, ',') &&
        take_hex(&at, &size) && take_char(&at, ':') && size <= sizeof(bytes) &&
        take_bytes(&at, bytes, size) && *at == '\0')
        rc = size == 0 ? 0
                       : stub->ops->write(stub->opaque, address, bytes, size);
    reply_result(stub, rc);
}

/* Z0 and Z1: to the guest they are the same. */
static void change_break(struct gdbstub *stub, const char *at, bool is_set)
{
    uint64_t address;
    uint64_t kind;
    int rc;

    if (*at != '0' && *at != '1') {
        reply(stub, "");
        return;
    }
    at++;
    if (!take_char(&at, ',') || !take_hex(&at, &address) ||
        !take_char(&at, ',') || !take_hex(&at, &kind)) {
        reply_result(stub, -EINVAL);
        return;
    }
    if (is_set && stub->breaks == GDBSTUB_BREAKS_MAX) {
        reply_result(stub, -ENOSPC);
        return;
    }
    rc = stub->ops->set_break(stub->opaque, address, is_set);
    if (rc == 0 && is_set)
        stub->breaks++;
    else if (rc == 0 && stub->breaks > 0)
        stub->breaks--;
    reply_result(stub, rc);
}

/* ---- moving -------------------------------------------------------------- */

static void move(struct gdbstub *stub, enum gdbstub_move how)
{
    stub->state = GDBSTUB_MOVING;
    stub->move = how;
    stub->is_interrupted = false;
}

/* c, s, and with a signal that is not delivered C and S; from `at`, if said. */
static void move_from(struct gdbstub *stub, const char *at, char what)
{
    bool has_signal = what == 'C' || what == 'S';
    bool is_step = what == 's' || what == 'S';
    struct gdbstub_regs regs;
    uint64_t number;
    int rc = 0;

    if (has_signal && !take_hex(&at, &number))
        rc = -EINVAL;
    if (rc == 0 && has_signal && *at == ';')
        at++;
    if (rc == 0 && *at != '\0') {
        rc = take_hex(&at, &number) && *at == '\0' ? 0 : -EINVAL;
        if (rc == 0)
            rc = stub->ops->get_regs(stub->opaque, &regs);
        if (rc == 0) {
            regs.general[GDBSTUB_GENERAL - 1] = number;
            rc = stub->ops->set_regs(stub->opaque, &regs);
        }
    }
    if (rc < 0)
        reply_result(stub, rc);
    else
        move(stub, is_step ? GDBSTUB_STEP : GDBSTUB_CONTINUE);
}

/* vCont;action[:thread]...: there is one thread, so the first one counts. */
static void vcont(struct gdbstub *stub, const char *at)
{
    switch (*at) {
    case 'c':
    case 'C':
        move(stub, GDBSTUB_CONTINUE);
        break;
    case 's':
    case 'S':
        move(stub, GDBSTUB_STEP);
        break;
    default:
        reply_result(stub, -EINVAL);
        break;
    }
}

/* ---- queries ------------------------------------------------------------- */

/* offset,length of the description; its bytes need no escapes. */
static void read_target_xml(struct gdbstub *stub, const char *at)
{
    const uint64_t all = strlen(gdbstub_target_xml);
    uint64_t offset;
    uint64_t size;

    if (!take_hex(&at, &offset) || !take_char(&at, ',') ||
        !take_hex(&at, &size) || *at != '\0' || offset > all) {
        reply_result(stub, -EINVAL);
        return;
    }
    size = num_min(num_min(size, GDBSTUB_PACKET_MAX - 1), all - offset);
    reply_begin(stub);
    put_raw(stub, offset + size < all ? 'm' : 'l');
    for (uint64_t i = 0; i < size; i++)
        put_raw(stub, gdbstub_target_xml[offset + i]);
    reply_end(stub);
}

static const char *behind(const char *text, const char *beginning)
{
    size_t size = strlen(beginning);

    return strncmp(text, beginning, size) == 0 ? text + size : NULL;
}

static void query(struct gdbstub *stub, const char *text)
{
    const char *rest = behind(text, "qXfer:features:read:target.xml:");

    if (rest != NULL)
        read_target_xml(stub, rest);
    else if (behind(text, "qSupported") != NULL)
        reply(stub, "PacketSize=4000;QStartNoAckMode+;swbreak+;vContSupported+;"
                    "qXfer:features:read+;ReverseStep+;ReverseContinue+");
    else if (strcmp(text, "qC") == 0)
        reply(stub, "QC1");
    else if (strcmp(text, "qAttached") == 0)
        reply(stub, "1");
    else if (strcmp(text, "qfThreadInfo") == 0)
        reply(stub, "m1");
    else if (strcmp(text, "qsThreadInfo") == 0)
        reply(stub, "l");
    else
        reply(stub, "");
}

static void verbose(struct gdbstub *stub, const char *text)
{
    const char *rest = behind(text, "vCont;");

    if (rest != NULL) {
        vcont(stub, rest);
    } else if (strcmp(text, "vCont?") == 0) {
        reply(stub, "vCont;c;C;s;S");
    } else if (behind(text, "vKill") != NULL) {
        stub->was_killed = true;
        stub->state = GDBSTUB_DONE;
        reply(stub, "OK");
    } else {
        reply(stub, "");
    }
}

/* bs and bc. */
static void backward(struct gdbstub *stub, const char *text)
{
    if (strcmp(text, "bs") == 0)
        move(stub, GDBSTUB_STEP_BACK);
    else if (strcmp(text, "bc") == 0)
        move(stub, GDBSTUB_CONTINUE_BACK);
    else
        reply(stub, "");
}

static void handle(struct gdbstub *stub, const char *text)
{
    switch (text[0]) {
    case '?':
        reply_stop(stub);
        break;
    case 'g':
        read_regs(stub);
        break;
    case 'G':
        write_regs(stub, text + 1);
        break;
    case 'p':
    case 'P':
        one_reg(stub, text + 1, text[0] == 'P');
        break;
    case 'm':
        read_memory(stub, text + 1);
        break;
    case 'M':
        write_memory(stub, text + 1);
        break;
    case 'Z':
    case 'z':
        change_break(stub, text + 1, text[0] == 'Z');
        break;
    case 'c':
    case 's':
    case 'C':
    case 'S':
        move_from(stub, text + 1, text[0]);
        break;
    case 'b':
        backward(stub, text);
        break;
    case 'v':
        verbose(stub, text);
        break;
    case 'q':
        query(stub, text);
        break;
    case 'Q':
        stub->no_ack_next = strcmp(text, "QStartNoAckMode") == 0;
        reply(stub, stub->no_ack_next ? "OK" : "");
        break;
    case 'H':
    case 'T':
        reply(stub, "OK");
        break;
    case 'D':
        stub->state = GDBSTUB_DONE;
        reply(stub, "OK");
        break;
    case 'k':
        stub->was_killed = true;
        stub->state = GDBSTUB_DONE;
        break;
    default:
        reply(stub, "");
        break;
    }
}

/* ---- input --------------------------------------------------------------- */

static void packet_done(struct gdbstub *stub)
{
    bool is_good = !stub->is_bad && stub->sum == stub->sum_told;

    stub->at = GDBSTUB_IDLE;
    if (!stub->no_ack)
        put_raw(stub, is_good ? '+' : '-');
    if (!is_good)
        return;
    stub->no_ack |= stub->no_ack_next;
    /* A NUL in a packet ends it: no packet of ours has one. */
    stub->in[stub->in_size] = '\0';
    handle(stub, stub->in);
}

static void send_again(struct gdbstub *stub)
{
    if (stub->reply_at < stub->out_size)
        stub->out_at = stub->reply_at;
}

static void take_data(struct gdbstub *stub, char c)
{
    if (c == '#') {
        stub->at = GDBSTUB_SUM_1;
        return;
    }
    stub->sum = (uint8_t)(stub->sum + (uint8_t)c);
    if (stub->in_size == GDBSTUB_PACKET_MAX)
        stub->is_bad = true;
    else
        stub->in[stub->in_size++] = c;
}

static void take_sum(struct gdbstub *stub, char c)
{
    int digit = hex_digit(c);

    stub->is_bad |= digit < 0;
    stub->sum_told = (uint8_t)((unsigned int)stub->sum_told << 4 |
                               (unsigned int)(digit & 15));
    if (stub->at == GDBSTUB_SUM_1)
        stub->at = GDBSTUB_SUM_2;
    else
        packet_done(stub);
}

static void take_idle(struct gdbstub *stub, char c)
{
    if (c == '-' && !stub->no_ack)
        send_again(stub);
    if (c != '$')
        return;
    stub->at = GDBSTUB_DATA;
    stub->in_size = 0;
    stub->sum = 0;
    stub->sum_told = 0;
    stub->is_bad = false;
    /* What was said before has been heard. */
    stub->out_at = 0;
    stub->out_size = 0;
    stub->reply_at = 0;
}

void gdbstub_init(struct gdbstub *stub, const struct gdbstub_ops *ops,
    void *opaque, const struct gdbstub_stop *stop)
{
    *stub = (struct gdbstub){.ops = ops, .opaque = opaque, .stop = *stop};
}

size_t gdbstub_input(struct gdbstub *stub, const char *bytes, size_t size)
{
    size_t i;

    for (i = 0; i < size && stub->state == GDBSTUB_STOPPED &&
                stub->out_at == stub->out_size;
         i++) {
        if (stub->at == GDBSTUB_DATA)
            take_data(stub, bytes[i]);
        else if (stub->at == GDBSTUB_IDLE)
            take_idle(stub, bytes[i]);
        else
            take_sum(stub, bytes[i]);
    }
    return i;
}

bool gdbstub_asks_stop(struct gdbstub *stub, const char *bytes, size_t size)
{
    if (memchr(bytes, INTERRUPT, size) != NULL)
        stub->is_interrupted = true;
    return stub->is_interrupted;
}

const char *gdbstub_output(const struct gdbstub *stub, size_t *ret_size)
{
    *ret_size = stub->out_size - stub->out_at;
    return stub->out + stub->out_at;
}

void gdbstub_sent(struct gdbstub *stub, size_t size)
{
    assert(size <= stub->out_size - stub->out_at);
    stub->out_at += size;
}

void gdbstub_say(struct gdbstub *stub, const char *text)
{
    assert(stub->state == GDBSTUB_MOVING);
    reply_begin(stub);
    put_raw(stub, 'O');
    put_hex_bytes(stub, text, num_min(strlen(text), SAY_MAX));
    put_hex_bytes(stub, "\n", 1);
    reply_end(stub);
}

void gdbstub_stopped(struct gdbstub *stub, const struct gdbstub_stop *stop)
{
    assert(stub->state == GDBSTUB_MOVING);
    stub->state = GDBSTUB_STOPPED;
    stub->stop = *stop;
    if (stub->is_interrupted && stop->reason == GDBSTUB_SIGNAL &&
        stop->signal == SIGNAL_TRAP)
        stub->stop.signal = SIGNAL_INT;
    reply_stop(stub);
}
