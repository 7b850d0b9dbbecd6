/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text put together in a buffer of the caller: what printf would do, without
 * its weight. The text is always ended by a NUL and silently cut at the end
 * of the buffer. One thread; nothing here is trusted, everything is bounded.
 */
#ifndef GUEST_AGENT_TEXT_H
#define GUEST_AGENT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
    char *buf;
    size_t size; /* 1.. */
    size_t len;  /* < size */
};

/* Empty text over buf, which has size bytes (at least 1). */
void text_init(struct text *t, char *buf, size_t size);

/* Appends a string. */
void text_str(struct text *t, const char *s);

/* Appends a number in decimal. */
void text_num(struct text *t, uint64_t value);

/* Appends ": " and the name or number of an errno value. */
void text_errno(struct text *t, int error);

/*
 * Copies src with its NUL to dst of size bytes; false, and dst untouched, if
 * it does not fit.
 */
bool text_copy(char *dst, size_t size, const char *src);

/*
 * A number of decimal or, after 0x, hexadecimal digits and nothing else, up
 * to max. False, and *ret_value untouched, for anything else.
 */
bool text_to_num(const char *s, uint64_t max, uint64_t *ret_value);

#endif
