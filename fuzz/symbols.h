/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names for the addresses of a guest's process: its map of address space, the
 * host's files that its files are, and what those tell.
 *
 * Borrows maps and files, opens each file when it is first asked about.
 * Thread rule: one thread. Guest-controlled: addresses, maps, and files that
 * are read from its memory, which libdw then parses.
 */
#ifndef FUZZ_SYMBOLS_H
#define FUZZ_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz/debug_file.h"
#include "fuzz/files.h"
#include "fuzz/maps.h"
#include "vmm/base/cc.h"
#include "vmm/base/err.h"

struct symbols;

/* Reads what the process has in memory; false: it is not there. */
struct symbols_memory {
    bool (*read)(void *opaque, uint64_t address, void *ret_bytes, size_t size);
    void *opaque;
};

/*
 * From `memory`, which may be NULL, come files that are no files of the host,
 * or were other ones: without names of functions, but they can be unwound.
 */
CC_MUST_CHECK int symbols_new(const struct files *files,
    const struct maps *maps, const struct symbols_memory *memory,
    struct symbols **ret_symbols, struct err *err);

void symbols_free(struct symbols *symbols); /* NULL is fine */

/* As debug_file_find, for an address of the process. */
size_t symbols_find(struct symbols *symbols, uint64_t address,
    struct debug_file_place ret_places[DEBUG_FILE_PLACES]);

/*
 * The file of the guest that an address lies in and the address in that file's
 * own terms; NULL if it lies in none. For a file that could not be opened,
 * *ret_offset is the offset in the file.
 */
const char *symbols_module(
    struct symbols *symbols, uint64_t address, uint64_t *ret_offset);

/* The opened file around an address and what to add to its addresses; NULL. */
struct debug_file *symbols_file(
    struct symbols *symbols, uint64_t address, uint64_t *ret_bias);

/*
 * The file that has this name in the guest, mapped or not, for what is known
 * by name and address in the file; NULL if it cannot be opened.
 */
struct debug_file *symbols_file_named(
    struct symbols *symbols, const char *name);

/* Whether an address may be code: mapped, and executable. */
bool symbols_is_code(const struct symbols *symbols, uint64_t address);

/* Why a file of the guest could not be used, the first such; "" if none. */
const char *symbols_note(const struct symbols *symbols);

#endif
