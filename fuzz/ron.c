/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/ron.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/num.h"

#define DEPTH_MAX 64u

/* What a value is, by the keys that lead to it. */
enum field {
    FIELD_OTHER,
    FIELD_ROOT,
    FIELD_FUZZ,
    FIELD_MEM,
    FIELD_TIME,
    FIELD_SECS,
    FIELD_NANOS,
    FIELD_DICT,
    FIELD_WORD,
};

struct level {
    char end; /* the bracket that closes it */
    enum field field;
};

struct reader {
    const char *text;
    size_t size;
    size_t pos;
    unsigned int line;
    struct level levels[DEPTH_MAX];
    unsigned int depth;
    bool has_key; /* a key came, its value not yet */
    enum field key;
    struct fuzz_ron_word word; /* the one that is being read */
    bool is_long;              /* it has more bytes than fit */
    uint64_t secs;
    uint64_t nanos;
    struct fuzz_ron ron;
    struct err *err;
};

static int bad(struct reader *r, const char *what)
{
    return err_set(r->err, EINVAL, "line %u: %s", r->line, what);
}

static bool at_end(const struct reader *r)
{
    return r->pos == r->size;
}

/* The byte `ahead` of where we are, 0 behind the end. */
static char peek(const struct reader *r, size_t ahead)
{
    return ahead < r->size - r->pos ? r->text[r->pos + ahead] : '\0';
}

static void step(struct reader *r)
{
    if (r->text[r->pos++] == '\n')
        r->line++;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Of names, and of numbers of every kind. */
static bool is_wordy(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           c == '_' || c == '.' || c == '+' || c == '-';
}

/* ---- what is passed over ------------------------------------------------- */

static int skip_comment(struct reader *r)
{
    unsigned int open = 0;

    if (peek(r, 1) == '/') {
        while (!at_end(r) && peek(r, 0) != '\n')
            step(r);
        return 0;
    }
    do {
        if (at_end(r))
            return bad(r, "a comment without end");
        if (peek(r, 0) == '/' && peek(r, 1) == '*') {
            open++;
            step(r);
        } else if (peek(r, 0) == '*' && peek(r, 1) == '/') {
            open--;
            step(r);
        }
        step(r);
    } while (open > 0);
    return 0;
}

/* Spaces, comments and #![attributes]. */
static int skip_blank(struct reader *r)
{
    while (!at_end(r)) {
        char c = peek(r, 0);
        int rc = 0;

        if (is_space(c)) {
            step(r);
        } else if (c == '/' && (peek(r, 1) == '/' || peek(r, 1) == '*')) {
            rc = skip_comment(r);
        } else if (c == '#') {
            while (!at_end(r) && peek(r, 0) != ']')
                step(r);
            if (at_end(r))
                rc = bad(r, "an attribute without end");
            else
                step(r);
        } else {
            return 0;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- words of the dictionary --------------------------------------------- */

static void word_add(struct reader *r, uint8_t byte)
{
    if (r->word.size == FUZZ_RON_WORD_MAX)
        r->is_long = true;
    else
        r->word.bytes[r->word.size++] = byte;
}

static int word_end(struct reader *r)
{
    struct fuzz_ron *ron = &r->ron;
    bool fits = r->word.size > 0 && !r->is_long;

    if (fits && ron->word_count < FUZZ_RON_WORDS_MAX) {
        if (ron->words == NULL)
            ron->words = calloc(FUZZ_RON_WORDS_MAX, sizeof(*ron->words));
        if (ron->words == NULL)
            return err_sys(r->err, ENOMEM, "the dictionary");
        ron->words[ron->word_count++] = r->word;
    }
    r->word = (struct fuzz_ron_word){0};
    r->is_long = false;
    return 0;
}

/* ---- values -------------------------------------------------------------- */

/* What the value at hand is for. */
static enum field field_now(const struct reader *r)
{
    if (r->has_key)
        return r->key;
    return r->depth == 0 ? FIELD_ROOT : r->levels[r->depth - 1].field;
}

/* "..." with its escapes, of which only \" matters for where it ends. */
static int read_string(struct reader *r)
{
    bool is_word = field_now(r) == FIELD_DICT;
    int rc = 0;

    step(r);
    while (!at_end(r) && peek(r, 0) != '"') {
        if (peek(r, 0) == '\\' && r->size - r->pos > 1)
            step(r);
        if (is_word)
            word_add(r, (uint8_t)peek(r, 0));
        step(r);
    }
    if (at_end(r))
        return bad(r, "a string without end");
    step(r);
    if (is_word)
        rc = word_end(r);
    r->has_key = false;
    return rc;
}

static int read_char(struct reader *r)
{
    step(r);
    if (peek(r, 0) == '\\' && peek(r, 1) != '\0') {
        step(r);
        step(r);
    }
    while (!at_end(r) && peek(r, 0) != '\'')
        step(r);
    if (at_end(r))
        return bad(r, "a character without end");
    step(r);
    r->has_key = false;
    return 0;
}

/* r"..." or r#"..."#, which ends with as many #. */
static int read_raw_string(struct reader *r)
{
    size_t hashes = 0;

    while (peek(r, 0) == '#') {
        hashes++;
        step(r);
    }
    if (peek(r, 0) != '"')
        return bad(r, "neither a name nor a string");
    for (;;) {
        size_t n = 0;

        step(r);
        while (!at_end(r) && peek(r, 0) != '"')
            step(r);
        if (at_end(r))
            return bad(r, "a string without end");
        while (n < hashes && peek(r, n + 1) == '#')
            n++;
        if (n == hashes)
            break;
    }
    for (size_t i = 0; i <= hashes; i++)
        step(r);
    r->has_key = false;
    return 0;
}

/* Digits, with _ between them as Rust has it. */
static bool parse_number(const char *text, size_t size, uint64_t *ret_number)
{
    uint64_t value = 0;

    for (size_t i = 0; i < size; i++) {
        if (text[i] == '_')
            continue;
        if (!is_digit(text[i]) || !num_mul(value, 10, &value) ||
            !num_add(value, (uint64_t)(text[i] - '0'), &value))
            return false;
    }
    *ret_number = value;
    return true;
}

static int take_number(struct reader *r, const char *text, size_t size)
{
    enum field field = field_now(r);
    uint64_t n = 0;

    if (field != FIELD_MEM && field != FIELD_SECS && field != FIELD_NANOS &&
        field != FIELD_WORD)
        return 0;
    if (!parse_number(text, size, &n))
        return bad(r, "not a number that can be used");
    if (field == FIELD_WORD) {
        if (n > UINT8_MAX)
            return bad(r, "dict: not a byte");
        word_add(r, (uint8_t)n);
    } else if (field == FIELD_MEM) {
        r->ron.has_mem_limit = true;
        r->ron.mem_limit_mib = n;
    } else {
        r->ron.has_time_limit = true;
        if (field == FIELD_SECS)
            r->secs = n;
        else
            r->nanos = n;
    }
    return 0;
}

static bool is_name(const char *text, size_t size, const char *name)
{
    return size == strlen(name) && memcmp(text, name, size) == 0;
}

static enum field child(enum field parent, const char *text, size_t size)
{
    static const struct {
        enum field parent;
        const char *name;
        enum field field;
    } names[] = {
        {FIELD_ROOT, "fuzz", FIELD_FUZZ},
        {FIELD_FUZZ, "mem_limit", FIELD_MEM},
        {FIELD_FUZZ, "time_limit", FIELD_TIME},
        {FIELD_FUZZ, "dict", FIELD_DICT},
        {FIELD_TIME, "secs", FIELD_SECS},
        {FIELD_TIME, "nanos", FIELD_NANOS},
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (names[i].parent == parent && is_name(text, size, names[i].name))
            return names[i].field;
    }
    return FIELD_OTHER;
}

/* A name (of a member, of a struct or a value by itself) or a number. */
static int read_word(struct reader *r)
{
    const char *text = r->text + r->pos;
    size_t size = 0;
    int rc;

    while (!at_end(r) && is_wordy(peek(r, 0))) {
        step(r);
        size++;
    }
    if (peek(r, 0) == '"' && is_name(text, size, "b"))
        return read_string(r);
    if ((peek(r, 0) == '"' || peek(r, 0) == '#') &&
        (is_name(text, size, "r") || is_name(text, size, "br")))
        return read_raw_string(r);
    rc = skip_blank(r);
    if (rc < 0)
        return rc;
    if (peek(r, 0) == ':') {
        step(r);
        r->key = r->depth == 0
                     ? FIELD_OTHER
                     : child(r->levels[r->depth - 1].field, text, size);
        r->has_key = true;
        return 0;
    }
    /* The name of a struct says nothing that its brackets do not. */
    if (peek(r, 0) == '(')
        return 0;
    if (is_digit(text[0]) || text[0] == '-' || text[0] == '+')
        rc = take_number(r, text, size);
    r->has_key = false;
    return rc;
}

static int open_level(struct reader *r, char begin)
{
    enum field field = field_now(r);

    if (r->depth == DEPTH_MAX)
        return bad(r, "brackets within brackets beyond reason");
    /* The list of words is one level, and each word one in it. */
    if (begin == '[' && !r->has_key && field == FIELD_DICT &&
        r->levels[r->depth - 1].end == ']')
        field = FIELD_WORD;
    r->levels[r->depth++] = (struct level){
        .end = begin == '('   ? ')'
               : begin == '[' ? ']'
                              : '}',
        .field = begin == '{' ? FIELD_OTHER : field,
    };
    r->has_key = false;
    return 0;
}

static int close_level(struct reader *r, char end)
{
    struct level *level;

    if (r->depth == 0 || r->levels[r->depth - 1].end != end)
        return bad(r, "a bracket that closes none");
    level = &r->levels[--r->depth];
    r->has_key = false;
    return level->field == FIELD_WORD && end == ']' ? word_end(r) : 0;
}

static int read_one(struct reader *r)
{
    char c = peek(r, 0);

    if (is_wordy(c))
        return read_word(r);
    switch (c) {
    case '"':
        return read_string(r);
    case '\'':
        return read_char(r);
    case '(':
    case '[':
    case '{':
        step(r);
        return open_level(r, c);
    case ')':
    case ']':
    case '}':
        step(r);
        return close_level(r, c);
    case ',':
        step(r);
        r->has_key = false;
        return 0;
    case ':': /* of a map, behind a key that is no name */
        step(r);
        return 0;
    default:
        return bad(r, "no RON");
    }
}

static int read_all(struct reader *r)
{
    int rc = skip_blank(r);

    if (rc == 0 && at_end(r))
        return bad(r, "empty");
    while (rc == 0 && !at_end(r)) {
        rc = read_one(r);
        if (rc == 0)
            rc = skip_blank(r);
    }
    if (rc < 0)
        return rc;
    if (r->depth > 0)
        return bad(r, "a bracket that is not closed");
    if (!num_mul(r->secs, CLOCK_NS_PER_S, &r->secs) ||
        !num_add(r->secs, r->nanos, &r->ron.time_limit_ns))
        return bad(r, "time_limit: too long");
    return 0;
}

int fuzz_ron_read(
    const char *text, size_t size, struct fuzz_ron *ret_ron, struct err *err)
{
    struct reader *r = calloc(1, sizeof(*r));
    int rc;

    if (r == NULL)
        return err_sys(err, ENOMEM, FUZZ_RON_FILE);
    r->text = text;
    r->size = size;
    r->line = 1;
    r->err = err;
    rc = read_all(r);
    if (rc < 0)
        fuzz_ron_fini(&r->ron);
    else
        *ret_ron = r->ron;
    free(r);
    return rc < 0 ? err_wrap(err, rc, FUZZ_RON_FILE) : 0;
}

void fuzz_ron_fini(struct fuzz_ron *ron)
{
    free(ron->words);
    *ron = (struct fuzz_ron){0};
}
