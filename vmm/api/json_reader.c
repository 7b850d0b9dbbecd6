/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/json_reader.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EOF_VALUE  "EOF while parsing a value"
#define EOF_OBJECT "EOF while parsing an object"
#define EOF_LIST   "EOF while parsing a list"
#define EOF_STRING "EOF while parsing a string"

/* ---- complaints ---------------------------------------------------------- */

static void put_place(struct json_reader *r, size_t pos)
{
    unsigned int line = 1;
    unsigned int column = 0;
    size_t have = strlen(r->text);

    for (size_t i = 0; i < pos; i++) {
        column++;
        if (r->data[i] == '\n') {
            line++;
            column = 0;
        }
    }
    (void)snprintf(r->text + have, JSON_READER_TEXT_MAX - have,
        " at line %u column %u", line, column);
}

bool json_reader_fail(struct json_reader *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    /* Room for the place is left. */
    (void)vsnprintf(r->text, JSON_READER_TEXT_MAX - 48, fmt, args);
    va_end(args);
    put_place(r, r->pos);
    return false;
}

bool json_reader_fail_ahead(struct json_reader *r, const char *text)
{
    (void)snprintf(r->text, JSON_READER_TEXT_MAX - 48, "%s", text);
    put_place(r, r->pos < r->len ? r->pos + 1 : r->len);
    return false;
}

/* ---- bytes --------------------------------------------------------------- */

/* The next byte, white space or not; -1: the end. */
static int here(const struct json_reader *r)
{
    return r->pos < r->len ? (unsigned char)r->data[r->pos] : -1;
}

int json_reader_peek(struct json_reader *r)
{
    int c = here(r);

    while (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
        r->pos++;
        c = here(r);
    }
    return c;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

/* ---- strings ------------------------------------------------------------- */

/* Four digits of a \u; -1 for something else, -2 for the text's end. */
static int take_hex(struct json_reader *r)
{
    int code = 0;

    if (r->len - r->pos < 4) {
        r->pos = r->len;
        return -2;
    }
    for (int i = 0; i < 4; i++) {
        int c = here(r);
        int digit = is_digit(c)              ? c - '0'
                    : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                    : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                             : -1;

        r->pos++;
        if (digit < 0 || code < 0)
            code = -1;
        else
            code = code * 16 + digit;
    }
    return code;
}

static size_t put_utf8(char *out, unsigned int code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

static bool fail_hex(struct json_reader *r, int code)
{
    return json_reader_fail(r, code == -2 ? EOF_STRING : "invalid escape");
}

/* The second half of a pair whose first was `high`. */
static bool take_low(
    struct json_reader *r, unsigned int high, unsigned int *ret_code)
{
    int low;

    for (const char *want = "\\u"; *want != '\0'; want++) {
        int c = here(r);

        if (c < 0)
            return json_reader_fail(r, EOF_STRING);
        r->pos++;
        if (c != *want)
            return json_reader_fail(r, "unexpected end of hex escape");
    }
    low = take_hex(r);
    if (low < 0)
        return fail_hex(r, low);
    if (low < 0xdc00 || low > 0xdfff)
        return json_reader_fail(r, "lone leading surrogate in hex escape");
    *ret_code =
        0x10000 + ((high - 0xd800) << 10) + ((unsigned int)low - 0xdc00);
    return true;
}

/* Behind the backslash; writes at most four bytes. */
static bool take_escape(struct json_reader *r, char *out, size_t *ret_len)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *at;
    unsigned int code;
    int hex;
    int c = here(r);

    if (c < 0)
        return json_reader_fail(r, EOF_STRING);
    r->pos++;
    at = c == '\0' ? NULL : strchr(names, c);
    if (at != NULL) {
        out[0] = values[at - names];
        *ret_len = 1;
        return true;
    }
    if (c != 'u')
        return json_reader_fail(r, "invalid escape");
    hex = take_hex(r);
    if (hex < 0)
        return fail_hex(r, hex);
    code = (unsigned int)hex;
    if (code >= 0xdc00 && code <= 0xdfff)
        return json_reader_fail(r, "lone leading surrogate in hex escape");
    if (code >= 0xd800 && code <= 0xdbff && !take_low(r, code, &code))
        return false;
    *ret_len = put_utf8(out, code);
    return true;
}

/* Up to the quote that ends it, which is taken. */
static bool take_string(struct json_reader *r, char *out, size_t *ret_len)
{
    size_t len = 0;

    for (;;) {
        int c = here(r);
        size_t n;

        if (c < 0)
            return json_reader_fail(r, EOF_STRING);
        r->pos++;
        if (c == '"')
            break;
        if (c < 0x20)
            return json_reader_fail(r,
                "control character (\\u0000-\\u001F) found while parsing a "
                "string");
        if (c != '\\') {
            out[len++] = (char)c;
            continue;
        }
        if (!take_escape(r, out + len, &n))
            return false;
        len += n;
    }
    out[len] = '\0';
    *ret_len = len;
    return true;
}

/* The bytes of one UTF-8 character at `s`; 0 if it is none (RFC 3629). */
static size_t utf8_len(const unsigned char *s, size_t left)
{
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
               : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                             : 0;

    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static bool is_utf8(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = utf8_len((const unsigned char *)text + i, len - i);

        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

/* How far it is to the end of a string; what it holds is never longer. */
static size_t string_room(const struct json_reader *r)
{
    size_t n = r->pos + 1;

    while (n < r->len && r->data[n] != '"')
        n += r->data[n] == '\\' ? 2 : 1;
    return n - r->pos + 8;
}

bool json_reader_string(struct json_reader *r, char **ret_text, size_t *ret_len)
{
    char *text = malloc(string_room(r));
    size_t len = 0;

    if (text == NULL)
        return json_reader_fail(r, "no memory");
    r->pos++;
    if (!take_string(r, text, &len)) {
        free(text);
        return false;
    }
    if (!is_utf8(text, len)) {
        free(text);
        return json_reader_fail(r, "invalid unicode code point");
    }
    *ret_text = text;
    *ret_len = len;
    return true;
}

/* ---- numbers and words --------------------------------------------------- */

/* Digits of which at least one must be there. */
static bool take_digits(struct json_reader *r)
{
    if (!is_digit(here(r)))
        return json_reader_fail_ahead(
            r, here(r) < 0 ? EOF_VALUE : "invalid number");
    while (is_digit(here(r)))
        r->pos++;
    return true;
}

static bool take_exponent(struct json_reader *r)
{
    int c;

    r->pos++;
    c = here(r);
    if (c == '+' || c == '-')
        r->pos++;
    c = here(r);
    if (!is_digit(c)) {
        if (c >= 0)
            r->pos++;
        return json_reader_fail(r, c < 0 ? EOF_VALUE : "invalid number");
    }
    return take_digits(r);
}

/* The whole digits; *ret_fits is false if they are more than 64 bits. */
static bool take_integer(
    struct json_reader *r, uint64_t *ret_value, bool *ret_fits)
{
    int c = here(r);

    *ret_value = 0;
    *ret_fits = true;
    if (!is_digit(c)) {
        if (c >= 0)
            r->pos++;
        return json_reader_fail(r, c < 0 ? EOF_VALUE : "invalid number");
    }
    if (c == '0') {
        r->pos++;
        if (is_digit(here(r)))
            return json_reader_fail_ahead(r, "invalid number");
        return true;
    }
    for (; is_digit(c); c = here(r)) {
        if (__builtin_mul_overflow(*ret_value, 10, ret_value) ||
            __builtin_add_overflow(*ret_value, (uint64_t)(c - '0'), ret_value))
            *ret_fits = false;
        r->pos++;
    }
    return true;
}

bool json_reader_number(struct json_reader *r, struct json_number *ret_number)
{
    const char *start = r->data + r->pos;
    bool is_negative = *start == '-';
    bool is_whole = true;
    uint64_t value;
    bool fits;
    double real;

    if (is_negative)
        r->pos++;
    if (!take_integer(r, &value, &fits))
        return false;
    if (here(r) == '.') {
        is_whole = false;
        r->pos++;
        if (!take_digits(r))
            return false;
    }
    if (here(r) == 'e' || here(r) == 'E') {
        is_whole = false;
        if (!take_exponent(r))
            return false;
    }
    if (is_whole && fits && !is_negative) {
        *ret_number =
            (struct json_number){.kind = JSON_NUMBER_UINT, .u = value};
        return true;
    }
    if (is_whole && fits && value > 0 && value <= (uint64_t)INT64_MAX + 1) {
        *ret_number = (struct json_number){
            .kind = JSON_NUMBER_INT, .i = (int64_t)(0 - value)};
        return true;
    }
    real = strtod(start, NULL);
    if (!isfinite(real))
        return json_reader_fail(r, "number out of range");
    *ret_number = (struct json_number){.kind = JSON_NUMBER_REAL, .f = real};
    return true;
}

bool json_reader_word(struct json_reader *r, const char *word)
{
    r->pos++;
    for (word++; *word != '\0'; word++) {
        int c = here(r);

        if (c < 0)
            return json_reader_fail(r, EOF_VALUE);
        r->pos++;
        if (c != *word)
            return json_reader_fail(r, "expected ident");
    }
    return true;
}

/* ---- what holds others --------------------------------------------------- */

bool json_reader_colon(struct json_reader *r)
{
    int c = json_reader_peek(r);

    if (c != ':')
        return json_reader_fail_ahead(r, c < 0 ? EOF_OBJECT : "expected `:`");
    r->pos++;
    return true;
}

bool json_reader_enter(struct json_reader *r)
{
    if (r->depth + 1 == JSON_READER_DEPTH_MAX)
        return json_reader_fail_ahead(r, "recursion limit exceeded");
    r->depth++;
    r->pos++;
    return true;
}

void json_reader_leave(struct json_reader *r)
{
    r->depth--;
}

bool json_reader_has_key(struct json_reader *r, bool is_first, bool *ret_has)
{
    int c = json_reader_peek(r);

    if (c < 0)
        return json_reader_fail_ahead(r, EOF_OBJECT);
    *ret_has = c != '}';
    if (c == '}')
        return true;
    if (is_first)
        return c == '"' || json_reader_fail_ahead(r, "key must be a string");
    if (c != ',')
        return json_reader_fail_ahead(r, "expected `,` or `}`");
    r->pos++;
    c = json_reader_peek(r);
    if (c == '"')
        return true;
    return json_reader_fail_ahead(r, c < 0      ? EOF_VALUE
                                     : c == '}' ? "trailing comma"
                                                : "key must be a string");
}

bool json_reader_has_element(
    struct json_reader *r, bool is_first, bool *ret_has)
{
    int c = json_reader_peek(r);

    if (c < 0)
        return json_reader_fail_ahead(r, EOF_LIST);
    *ret_has = c != ']';
    if (c == ']' || is_first)
        return true;
    if (c != ',')
        return json_reader_fail_ahead(r, "expected `,` or `]`");
    r->pos++;
    c = json_reader_peek(r);
    if (c < 0 || c == ']')
        return json_reader_fail_ahead(r, c < 0 ? EOF_VALUE : "trailing comma");
    return true;
}

bool json_reader_object_end(struct json_reader *r)
{
    int c = json_reader_peek(r);

    if (c != '}')
        return json_reader_fail_ahead(r, c < 0      ? EOF_OBJECT
                                         : c == ',' ? "trailing comma"
                                                    : "trailing characters");
    r->pos++;
    return true;
}

bool json_reader_list_end(struct json_reader *r)
{
    int c = json_reader_peek(r);

    if (c == ']') {
        r->pos++;
        return true;
    }
    if (c != ',')
        return json_reader_fail_ahead(
            r, c < 0 ? EOF_LIST : "trailing characters");
    r->pos++;
    return json_reader_fail_ahead(r,
        json_reader_peek(r) == ']' ? "trailing comma" : "trailing characters");
}

/* ---- any value ----------------------------------------------------------- */

/* One that holds no others. */
static bool skip_scalar(struct json_reader *r, int c)
{
    struct json_number number;
    char *text;
    size_t len;

    if (c == '"') {
        if (!json_reader_string(r, &text, &len))
            return false;
        free(text);
        return true;
    }
    if (c == '-' || is_digit(c))
        return json_reader_number(r, &number);
    if (c == 't')
        return json_reader_word(r, "true");
    if (c == 'f')
        return json_reader_word(r, "false");
    if (c == 'n')
        return json_reader_word(r, "null");
    return json_reader_fail_ahead(r, c < 0 ? EOF_VALUE : "expected value");
}

/*
 * What comes next in the innermost of what is open, as its last byte in
 * `kinds` says: false in *ret_more at its end, which is taken.
 */
static bool next_inside(
    struct json_reader *r, char kind, bool is_first, bool *ret_more)
{
    char *key;
    size_t len;

    if (kind == '[')
        return json_reader_has_element(r, is_first, ret_more) &&
               (*ret_more || json_reader_list_end(r));
    if (!json_reader_has_key(r, is_first, ret_more))
        return false;
    if (!*ret_more)
        return json_reader_object_end(r);
    if (!json_reader_string(r, &key, &len))
        return false;
    free(key);
    return json_reader_colon(r);
}

bool json_reader_skip(struct json_reader *r)
{
    char kinds[JSON_READER_DEPTH_MAX];
    size_t open = 0;
    bool is_first = false;

    do {
        bool more = true;
        int c;

        if (open > 0 && !next_inside(r, kinds[open - 1], is_first, &more))
            return false;
        is_first = false;
        if (!more) {
            json_reader_leave(r);
            open--;
            continue;
        }
        c = json_reader_peek(r);
        if (c == '[' || c == '{') {
            if (!json_reader_enter(r))
                return false;
            kinds[open++] = (char)c;
            is_first = true;
        } else if (!skip_scalar(r, c)) {
            return false;
        }
    } while (open > 0);
    return true;
}

bool json_reader_end(struct json_reader *r)
{
    return json_reader_peek(r) < 0 ||
           json_reader_fail_ahead(r, "trailing characters");
}

/* ---- numbers in complaints ----------------------------------------------- */

void json_reader_format_real(double value, char *buf, size_t size)
{
    char text[40] = "";
    char digits[24];
    size_t n = 0;
    const char *exp;
    int point;

    for (int precision = 0; precision < 17; precision++) {
        (void)snprintf(text, sizeof(text), "%.*e", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    exp = strchr(text, 'e');
    point = exp == NULL ? 1 : atoi(exp + 1) + 1;
    for (const char *p = text; p != exp && *p != '\0'; p++) {
        if (is_digit(*p) && n < sizeof(digits) - 1)
            digits[n++] = *p;
    }
    digits[n] = '\0';
    /* 0.00001 to 1e16 is written out, the rest has an exponent. */
    if (value == 0)
        (void)snprintf(buf, size, "%s", signbit(value) ? "-0.0" : "0.0");
    else if ((int)n <= point && point <= 16)
        (void)snprintf(buf, size, "%s%s%.*s.0", value < 0 ? "-" : "", digits,
            point - (int)n, "0000000000000000");
    else if (point > 0 && point <= 16)
        (void)snprintf(buf, size, "%s%.*s.%s", value < 0 ? "-" : "", point,
            digits, digits + point);
    else if (point > -5 && point <= 0)
        (void)snprintf(buf, size, "%s0.%.*s%s", value < 0 ? "-" : "", -point,
            "00000", digits);
    else
        (void)snprintf(buf, size, "%s%c%s%se%d", value < 0 ? "-" : "",
            digits[0], n > 1 ? "." : "", digits + 1, point - 1);
}
