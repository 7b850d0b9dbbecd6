/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the dynamic linker looks for libraries: /etc/ld.so.conf with what it
 * includes, as ldconfig(8) has it.
 *
 * Thread rule: none. File-controlled: every byte; the number of files and of
 * folders is bounded.
 */
#ifndef FUZZ_LDCONF_H
#define FUZZ_LDCONF_H

#include <stddef.h>

#include "vmm/base/cc.h"
#include "vmm/words.h"

#define LDCONF_PATH      "/etc/ld.so.conf"
#define LDCONF_FILE_MAX  (1u << 20)
#define LDCONF_FILES_MAX 64u
#define LDCONF_DIRS_MAX  256u

/*
 * The text of one file: absolute folders go to `dirs`, patterns of files that
 * it includes to `includes`. What it does not know it leaves out.
 */
void ldconf_take(
    const char *text, size_t size, struct words *dirs, struct words *includes);

/* The folders of a file and of all that it includes; none if it is not there.
 */
void ldconf_read(const char *path, struct words *dirs);

#endif
