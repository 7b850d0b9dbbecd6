/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/id.h"

#include <errno.h>
#include <sys/random.h>

int snapshot_id_random(struct snapshot_id *ret_id, struct err *err)
{
    struct snapshot_id id = {0};

    /* Up to 256 bytes come whole, and never before the pool is seeded. */
    do {
        ssize_t n = getrandom(id.b, sizeof(id.b), 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n != (ssize_t)sizeof(id.b))
            return err_sys(err, n < 0 ? errno : EIO, "random numbers");
        /* All zero stands for "none". */
    } while (snapshot_id_is_zero(&id));
    *ret_id = id;
    return 0;
}

void snapshot_id_to_text(
    const struct snapshot_id *id, char ret_text[SNAPSHOT_ID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < sizeof(id->b); i++) {
        ret_text[2 * i] = digits[id->b[i] >> 4];
        ret_text[2 * i + 1] = digits[id->b[i] & 15];
    }
    ret_text[SNAPSHOT_ID_DIGITS] = '\0';
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool snapshot_id_from_text(const char *text, struct snapshot_id *ret_id)
{
    struct snapshot_id id = {0};

    for (size_t i = 0; i < sizeof(id.b); i++) {
        int high = digit_value(text[2 * i]);
        int low = high < 0 ? -1 : digit_value(text[2 * i + 1]);

        if (low < 0)
            return false;
        id.b[i] = (uint8_t)(high << 4 | low);
    }
    if (text[SNAPSHOT_ID_DIGITS] != '\0')
        return false;
    *ret_id = id;
    return true;
}

static bool is_letter_or_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z');
}

int snapshot_name_check(const char *name, struct err *err)
{
    struct snapshot_id id;
    size_t len = strnlen(name, SNAPSHOT_NAME_MAX + 1);
    bool is_good = len > 0 && len <= SNAPSHOT_NAME_MAX &&
                   is_letter_or_digit(name[0]) &&
                   !snapshot_id_from_text(name, &id);

    for (size_t i = 0; is_good && i < len; i++)
        is_good = is_letter_or_digit(name[i]) || strchr("._-", name[i]) != NULL;
    if (!is_good)
        return err_set(err, EINVAL,
            "'%.80s' is no name for a snapshot: 1 to %d of A-Z a-z 0-9 . _ -, "
            "the first a letter or a digit, and not an id",
            name, SNAPSHOT_NAME_MAX);
    return 0;
}

bool snapshot_file_name_is_valid(const char *name)
{
    size_t len = strnlen(name, SNAPSHOT_FILE_MAX + 1);

    if (len == 0 || len > SNAPSHOT_FILE_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < len; i++) {
        bool is_good = (name[i] >= '0' && name[i] <= '9') ||
                       (name[i] >= 'a' && name[i] <= 'z') ||
                       strchr("._-", name[i]) != NULL;

        if (!is_good)
            return false;
    }
    return true;
}
