/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hw/aml.h"

#include <assert.h>
#include <string.h>

/* ACPI 6.4, 20.3: byte values of the encoding. */
#define OP_NAME       0x08u
#define PREFIX_BYTE   0x0au
#define PREFIX_WORD   0x0bu
#define PREFIX_DWORD  0x0cu
#define PREFIX_STRING 0x0du
#define PREFIX_QWORD  0x0eu
#define OP_SCOPE      0x10u
#define OP_BUFFER     0x11u
#define OP_PACKAGE    0x12u
#define OP_METHOD     0x14u
#define OP_ARG0       0x68u
#define OP_NOTIFY     0x86u
#define OP_LEQUAL     0x93u
#define OP_IF         0xa0u
#define EXT_PREFIX    0x5bu
#define OP_EXT_DEVICE 0x5b82u

/* ACPI 6.4, 6.4.2 and 6.4.3: resource descriptors. */
#define TAG_IO        0x47u
#define TAG_END       0x79u
#define TAG_MEMORY32  0x86u
#define TAG_INTERRUPT 0x89u
#define IO_DECODE16   1u
#define MEMORY_WRITE  1u
#define IRQ_CONSUMER  1u
#define IRQ_EDGE      2u /* active high and exclusive are zeroes */

#define NAME_LEN 4u
#define ARGS_MAX 7u
/* An opcode of two bytes, a package length of three, an integer of nine. */
#define PREAMBLE_MAX 14u

static void put_name(struct bytes_writer *w, const char *name)
{
    size_t len = strlen(name);

    assert(len >= 1 && len <= NAME_LEN);
    bytes_put(w, name, len);
    for (; len < NAME_LEN; len++)
        bytes_put_u8(w, '_');
}

static struct aml_block open_block(const struct bytes_writer *w, uint16_t op)
{
    return (struct aml_block){.start = w->pos, .op = op};
}

struct aml_block aml_open_scope(struct bytes_writer *w, const char *name)
{
    struct aml_block block = open_block(w, OP_SCOPE);

    put_name(w, name);
    return block;
}

struct aml_block aml_open_device(struct bytes_writer *w, const char *name)
{
    struct aml_block block = open_block(w, OP_EXT_DEVICE);

    put_name(w, name);
    return block;
}

struct aml_block aml_open_method(
    struct bytes_writer *w, const char *name, unsigned int args)
{
    struct aml_block block = open_block(w, OP_METHOD);

    assert(args <= ARGS_MAX);
    put_name(w, name);
    bytes_put_u8(w, (uint8_t)args);
    return block;
}

struct aml_block aml_open_package(struct bytes_writer *w, unsigned int count)
{
    struct aml_block block = open_block(w, OP_PACKAGE);

    assert(count <= UINT8_MAX);
    bytes_put_u8(w, (uint8_t)count);
    return block;
}

struct aml_block aml_open_crs(struct bytes_writer *w)
{
    aml_name(w, "_CRS");
    return open_block(w, OP_BUFFER);
}

struct aml_block aml_open_if_arg0(struct bytes_writer *w, uint64_t value)
{
    struct aml_block block = open_block(w, OP_IF);

    bytes_put_u8(w, OP_LEQUAL);
    bytes_put_u8(w, OP_ARG0);
    aml_integer(w, value);
    return block;
}

/* ACPI 6.4, 20.2.4: the length counts its own bytes. */
static void put_package_length(struct bytes_writer *w, size_t body)
{
    if (body + 1 < 1u << 6) {
        bytes_put_u8(w, (uint8_t)(body + 1));
    } else if (body + 2 < 1u << 12) {
        body += 2;
        bytes_put_u8(w, (uint8_t)(1u << 6 | (body & 0xf)));
        bytes_put_u8(w, (uint8_t)(body >> 4));
    } else {
        body += 3;
        assert(body < 1u << 20);
        bytes_put_u8(w, (uint8_t)(2u << 6 | (body & 0xf)));
        bytes_put_u8(w, (uint8_t)(body >> 4 & 0xff));
        bytes_put_u8(w, (uint8_t)(body >> 12));
    }
}

/*
 * What goes before the body depends on its length: the body is moved up. All
 * of a DSDT is a few KiB, so that this costs less than measuring first would.
 */
void aml_close(struct bytes_writer *w, struct aml_block block)
{
    uint8_t preamble[PREAMBLE_MAX];
    uint8_t size[PREAMBLE_MAX];
    struct bytes_writer p, s;
    size_t body;

    bytes_writer_init(&s, size, sizeof(size));
    if (block.op == OP_BUFFER) {
        bytes_put_u8(w, TAG_END);
        bytes_put_u8(w, 0); /* no checksum */
        aml_integer(&s, w->pos - block.start);
    }
    if (w->failed)
        return;
    body = w->pos - block.start;
    bytes_writer_init(&p, preamble, sizeof(preamble));
    if (block.op >> 8 == EXT_PREFIX)
        bytes_put_u8(&p, EXT_PREFIX);
    bytes_put_u8(&p, (uint8_t)block.op);
    put_package_length(&p, s.pos + body);
    bytes_put(&p, size, s.pos);
    assert(!p.failed && !s.failed);
    bytes_put_zero(w, p.pos);
    if (w->failed)
        return;
    memmove(w->data + block.start + p.pos, w->data + block.start, body);
    memcpy(w->data + block.start, preamble, p.pos);
}

void aml_integer(struct bytes_writer *w, uint64_t value)
{
    if (value <= 1) {
        bytes_put_u8(w, (uint8_t)value); /* ZeroOp, OneOp */
    } else if (value <= UINT8_MAX) {
        bytes_put_u8(w, PREFIX_BYTE);
        bytes_put_u8(w, (uint8_t)value);
    } else if (value <= UINT16_MAX) {
        bytes_put_u8(w, PREFIX_WORD);
        bytes_put_u16(w, (uint16_t)value);
    } else if (value <= UINT32_MAX) {
        bytes_put_u8(w, PREFIX_DWORD);
        bytes_put_u32(w, (uint32_t)value);
    } else {
        bytes_put_u8(w, PREFIX_QWORD);
        bytes_put_u64(w, value);
    }
}

void aml_string(struct bytes_writer *w, const char *text)
{
    bytes_put_u8(w, PREFIX_STRING);
    bytes_put(w, text, strlen(text) + 1);
}

static unsigned int hex_digit(char c)
{
    assert((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'));
    return (unsigned int)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits, four hexadecimal digits, big-endian. */
void aml_eisa_id(struct bytes_writer *w, const char *id)
{
    uint32_t value = 0;

    assert(strlen(id) == 7);
    for (size_t i = 0; i < 3; i++) {
        assert(id[i] >= 'A' && id[i] <= 'Z');
        value = value << 5 | (uint32_t)(id[i] - 'A' + 1);
    }
    for (size_t i = 3; i < 7; i++)
        value = value << 4 | hex_digit(id[i]);
    bytes_put_u8(w, PREFIX_DWORD);
    bytes_put_u32(w, __builtin_bswap32(value));
}

void aml_name(struct bytes_writer *w, const char *name)
{
    bytes_put_u8(w, OP_NAME);
    put_name(w, name);
}

void aml_notify(struct bytes_writer *w, const char *name, uint8_t value)
{
    bytes_put_u8(w, OP_NOTIFY);
    put_name(w, name);
    aml_integer(w, value);
}

void aml_io(struct bytes_writer *w, uint16_t port, uint8_t len)
{
    bytes_put_u8(w, TAG_IO);
    bytes_put_u8(w, IO_DECODE16);
    bytes_put_u16(w, port); /* lowest and highest base */
    bytes_put_u16(w, port);
    bytes_put_u8(w, 1); /* alignment */
    bytes_put_u8(w, len);
}

void aml_memory32(struct bytes_writer *w, uint32_t base, uint32_t len)
{
    bytes_put_u8(w, TAG_MEMORY32);
    bytes_put_u16(w, 9); /* bytes that follow */
    bytes_put_u8(w, MEMORY_WRITE);
    bytes_put_u32(w, base);
    bytes_put_u32(w, len);
}

void aml_interrupt(struct bytes_writer *w, uint32_t gsi)
{
    bytes_put_u8(w, TAG_INTERRUPT);
    bytes_put_u16(w, 6); /* bytes that follow */
    bytes_put_u8(w, IRQ_CONSUMER | IRQ_EDGE);
    bytes_put_u8(w, 1); /* lines */
    bytes_put_u32(w, gsi);
}
