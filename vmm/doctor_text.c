/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/doctor_text.h"

#include <stdio.h>
#include <string.h>

#include "vmm/base/num.h"

#define BLANKS " \t\n\r"

bool doctor_text_number(const char *text, uint64_t *ret_number)
{
    const char *p = text + strspn(text, BLANKS);
    const char *first = p;
    uint64_t number = 0;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (!num_mul(number, 10, &number) ||
            !num_add(number, (uint64_t)(*p - '0'), &number))
            return false;
    }
    if (p == first || p[strspn(p, BLANKS)] != '\0')
        return false;
    *ret_number = number;
    return true;
}

static const char *next_line(const char *line)
{
    line += strcspn(line, "\n");
    return *line == '\n' ? line + 1 : line;
}

/* Copies [from, from + len), cut to fit. */
static void copy_out(char *to, size_t size, const char *from, size_t len)
{
    len = num_min(len, size - 1);
    memcpy(to, from, len);
    to[len] = '\0';
}

bool doctor_text_field(
    const char *text, const char *key, char *ret_value, size_t size)
{
    size_t key_len = strlen(key);

    for (const char *p = text; *p != '\0'; p = next_line(p)) {
        const char *value = p + key_len;
        size_t len;

        if (strncmp(p, key, key_len) != 0)
            continue;
        value += strspn(value, " \t");
        if (*value != ':')
            continue;
        value++;
        value += strspn(value, " \t");
        len = strcspn(value, "\n");
        while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
            len--;
        copy_out(ret_value, size, value, len);
        return true;
    }
    return false;
}

bool doctor_text_meminfo(const char *text, const char *key, uint64_t *ret_bytes)
{
    char value[64];
    char *unit;
    uint64_t kib;

    if (!doctor_text_field(text, key, value, sizeof(value)))
        return false;
    unit = strstr(value, " kB");
    if (unit == NULL || unit[3] != '\0')
        return false;
    *unit = '\0';
    return doctor_text_number(value, &kib) && num_mul(kib, NUM_KIB, ret_bytes);
}

bool doctor_text_has_word(const char *text, const char *word)
{
    size_t word_len = strlen(word);
    const char *p = text + strspn(text, BLANKS);

    while (*p != '\0') {
        size_t len = strcspn(p, BLANKS);

        if (len == word_len && memcmp(p, word, len) == 0)
            return true;
        p += len;
        p += strspn(p, BLANKS);
    }
    return false;
}

bool doctor_text_choice(const char *text, char *ret_value, size_t size)
{
    const char *from = strchr(text, '[');
    const char *to = from == NULL ? NULL : strchr(from, ']');

    if (to == NULL)
        return false;
    copy_out(ret_value, size, from + 1, (size_t)(to - from) - 1);
    return true;
}

uint32_t doctor_text_release(const char *text)
{
    unsigned int major;
    unsigned int minor;

    /* The widths keep both within what sscanf can store. */
    if (sscanf(text, "%4u.%4u", &major, &minor) != 2)
        return 0;
    return major << 16 | minor;
}

/* What the kernel calls controllers among the options of a v1 mount. */
static const char *const v1_controllers[] = {"cpu", "cpuacct", "cpuset",
    "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls",
    "net_prio", "perf_event", "rdma", "misc"};

static void add_v1(
    struct doctor_cgroups *cgroups, const char *options, size_t len)
{
    while (len > 0) {
        size_t word = 0;

        while (word < len && options[word] != ',')
            word++;
        for (size_t i = 0; i < ARRAY_SIZE(v1_controllers); i++) {
            const char *name = v1_controllers[i];
            size_t used = strlen(cgroups->v1);

            if (strlen(name) != word || memcmp(name, options, word) != 0 ||
                doctor_text_has_word(cgroups->v1, name))
                continue;
            (void)snprintf(cgroups->v1 + used, sizeof(cgroups->v1) - used,
                "%s%s", used == 0 ? "" : " ", name);
        }
        if (word < len)
            word++;
        options += word;
        len -= word;
    }
}

/* The field after `p`, which it is moved behind; its length in *ret_len. */
static const char *take_field(const char **p, size_t *ret_len)
{
    const char *field = *p + strspn(*p, " ");

    *ret_len = strcspn(field, " \n");
    *p = field + *ret_len;
    return field;
}

void doctor_text_cgroups(const char *mounts, struct doctor_cgroups *ret_cgroups)
{
    *ret_cgroups = (struct doctor_cgroups){0};
    for (const char *line = mounts; *line != '\0'; line = next_line(line)) {
        const char *p = line;
        size_t source_len, dir_len, type_len, options_len;
        const char *dir, *type, *options;

        (void)take_field(&p, &source_len);
        dir = take_field(&p, &dir_len);
        type = take_field(&p, &type_len);
        options = take_field(&p, &options_len);
        if (type_len == 7 && memcmp(type, "cgroup2", 7) == 0) {
            if (!ret_cgroups->has_v2)
                copy_out(ret_cgroups->v2_dir, sizeof(ret_cgroups->v2_dir), dir,
                    dir_len);
            ret_cgroups->has_v2 = true;
        } else if (type_len == 6 && memcmp(type, "cgroup", 6) == 0) {
            ret_cgroups->has_v1 = true;
            add_v1(ret_cgroups, options, options_len);
        }
    }
}

bool doctor_text_own_cgroup(const char *text, char *ret_path, size_t size)
{
    for (const char *p = text; *p != '\0'; p = next_line(p)) {
        if (strncmp(p, "0::/", 4) != 0)
            continue;
        copy_out(ret_path, size, p + 3, strcspn(p + 3, "\n"));
        return true;
    }
    return false;
}
