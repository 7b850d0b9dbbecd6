/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON (RFC 8259) read a token at a time.
 *
 * Complaints and the places that they name are those of serde_json, which
 * clients of Firecracker compare: what is wrong is said at the byte that was
 * reached, lines and columns counted in bytes from 1.
 *
 * Thread rule: pure functions on what the caller owns. The text is hostile;
 * nothing is read beyond its end, and nesting is bounded.
 */
#ifndef VMM_API_JSON_READER_H
#define VMM_API_JSON_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cc.h"

#define JSON_READER_TEXT_MAX  1024u
#define JSON_READER_DEPTH_MAX 128u

struct json_reader {
    const char *data; /* a NUL follows its last byte */
    size_t len;
    size_t pos;
    unsigned int depth; /* objects and lists that are open */
    char *text;         /* of the complaint, JSON_READER_TEXT_MAX bytes */
};

enum json_number_kind { JSON_NUMBER_UINT, JSON_NUMBER_INT, JSON_NUMBER_REAL };

struct json_number {
    enum json_number_kind kind;
    uint64_t u; /* JSON_NUMBER_UINT */
    int64_t i;  /* JSON_NUMBER_INT: below zero */
    double f;
};

/* What next was refused for; each says where the reader stands. */
bool json_reader_fail(struct json_reader *r, const char *fmt, ...)
    CC_PRINTF(2, 3);

/* The same one byte further, of a byte that was looked at. */
bool json_reader_fail_ahead(struct json_reader *r, const char *text);

/* The next byte that is no white space, not taken; -1: the end. */
int json_reader_peek(struct json_reader *r);

/*
 * Each takes one token and returns false, with a complaint, for what is none.
 * json_reader_string begins at the opening quote; *ret_text is the caller's to
 * free and may hold NULs, one more follows its end. json_reader_number begins
 * at a digit or '-', json_reader_word at the word's first letter.
 */
CC_MUST_CHECK bool json_reader_string(
    struct json_reader *r, char **ret_text, size_t *ret_len);
CC_MUST_CHECK bool json_reader_number(
    struct json_reader *r, struct json_number *ret_number);
CC_MUST_CHECK bool json_reader_word(struct json_reader *r, const char *word);
CC_MUST_CHECK bool json_reader_colon(struct json_reader *r);

/* One level deeper: false if that is one too many. */
CC_MUST_CHECK bool json_reader_enter(struct json_reader *r);
void json_reader_leave(struct json_reader *r);

/* Whether there is another key, which is next then, or the object's end. */
CC_MUST_CHECK bool json_reader_has_key(
    struct json_reader *r, bool is_first, bool *ret_has);
CC_MUST_CHECK bool json_reader_has_element(
    struct json_reader *r, bool is_first, bool *ret_has);

/* The end of an object or a list, behind its last member. */
CC_MUST_CHECK bool json_reader_object_end(struct json_reader *r);
CC_MUST_CHECK bool json_reader_list_end(struct json_reader *r);

/* Takes a whole value, whatever it is. */
CC_MUST_CHECK bool json_reader_skip(struct json_reader *r);

/* Nothing but white space may be left. */
CC_MUST_CHECK bool json_reader_end(struct json_reader *r);

/*
 * The shortest digits that make `value`, as serde prints them ("1.5", "1e20").
 */
void json_reader_format_real(double value, char *buf, size_t size);

#endif
