/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small emitter of ACPI Machine Language (ACPI 6.4, 20.2).
 *
 * Appends to a bytes_writer; blocks are opened and closed in pairs, innermost
 * first, and get the shortest package length on closing. A full writer is
 * `failed`, as always, and everything here leaves it so. Thread rule: that of
 * the writer. All input is the monitor's own and is asserted.
 */
#ifndef VMM_HW_AML_H
#define VMM_HW_AML_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/bytes.h"

/* An open block: where it starts in the writer, and its opcode. */
struct aml_block {
    size_t start;
    uint16_t op;
};

/* Names are single segments of up to 4 characters, padded with '_'. */
CC_MUST_CHECK struct aml_block aml_open_scope(
    struct bytes_writer *w, const char *name);
CC_MUST_CHECK struct aml_block aml_open_device(
    struct bytes_writer *w, const char *name);
CC_MUST_CHECK struct aml_block aml_open_method(
    struct bytes_writer *w, const char *name, unsigned int args);
/* A package of `count` elements, which follow. */
CC_MUST_CHECK struct aml_block aml_open_package(
    struct bytes_writer *w, unsigned int count);
/* Name (_CRS, ResourceTemplate ()), resource descriptors follow. */
CC_MUST_CHECK struct aml_block aml_open_crs(struct bytes_writer *w);
/* If (Arg0 == value). */
CC_MUST_CHECK struct aml_block aml_open_if_arg0(
    struct bytes_writer *w, uint64_t value);
void aml_close(struct bytes_writer *w, struct aml_block block);

/* Data objects. */
void aml_integer(struct bytes_writer *w, uint64_t value);
void aml_string(struct bytes_writer *w, const char *text);
/* A compressed EISA identifier such as "PNP0501". */
void aml_eisa_id(struct bytes_writer *w, const char *id);

/* Name (name, ...): one data object must follow. */
void aml_name(struct bytes_writer *w, const char *name);

/* Notify (name, value). */
void aml_notify(struct bytes_writer *w, const char *name, uint8_t value);

/* Resource descriptors (ACPI 6.4, 6.4). */
void aml_io(struct bytes_writer *w, uint16_t port, uint8_t len);
void aml_memory32(struct bytes_writer *w, uint32_t base, uint32_t len);
/* Edge-triggered, active high, exclusive. */
void aml_interrupt(struct bytes_writer *w, uint32_t gsi);

#endif
