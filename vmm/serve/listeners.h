/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who listens in a guest: what its kernel writes to /proc/net/tcp and tcp6.
 *
 * Thread rule: a pure function. The text is the guest's word.
 */
#ifndef VMM_SERVE_LISTENERS_H
#define VMM_SERVE_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LISTENERS_TEXT_MAX (1u << 20)

/* Whether the text, which need not end in a NUL, has a listener at `port`. */
bool listeners_have(const char *text, size_t size, uint16_t port);

#endif
