/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/agent/options.h"

#include <stddef.h>
#include <string.h>

#include "guest/agent/text.h"

static void take_root(struct options *o, const char *value)
{
    o->root = value;
}

static void take_fstype(struct options *o, const char *value)
{
    o->fstype = value;
}

static void take_rootflags(struct options *o, const char *value)
{
    o->rootflags = value;
}

static void take_hostname(struct options *o, const char *value)
{
    o->hostname = value;
}

static void take_init(struct options *o, const char *value)
{
    if (value[0] == '/')
        o->init = value;
}

static void take_poweroff(struct options *o, const char *value)
{
    o->off_is_restart = strcmp(value, "reset") == 0;
}

static void take_timeline(struct options *o, const char *value)
{
    uint64_t port;

    if (text_to_num(value, UINT16_MAX, &port))
        o->timeline_port = (uint16_t)port;
}

struct word {
    const char *name; /* with its "=" */
    void (*take)(struct options *o, const char *value);
};

static const struct word words[] = {
    {"root=", take_root},
    {"rootfstype=", take_fstype},
    {"rootflags=", take_rootflags},
    {"spore.hostname=", take_hostname},
    {"spore.init=", take_init},
    {"spore.poweroff=", take_poweroff},
    {"spore.timeline=", take_timeline},
};

void options_take_word(struct options *o, char *word)
{
    if (strcmp(word, "ro") == 0)
        o->writable = false;
    else if (strcmp(word, "rw") == 0)
        o->writable = true;
    else if (strcmp(word, "softkvm") == 0)
        o->softkvm = true;
    else if (strcmp(word, "spore.resolver") == 0)
        o->kernel_resolver = true;
    else if (strcmp(word, "spore.overlay") == 0)
        o->overlay = true;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t n = strlen(words[i].name);

        if (strncmp(word, words[i].name, n) == 0 && word[n] != '\0')
            words[i].take(o, word + n);
    }
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

void options_take_line(struct options *o, char *line)
{
    char *from = line;

    while (*from != '\0') {
        bool quoted = false;
        char *word;
        char *to;

        while (is_blank(*from))
            from++;
        word = from;
        to = from;
        for (; *from != '\0' && (quoted || !is_blank(*from)); from++) {
            if (*from == '"')
                quoted = !quoted;
            else
                *to++ = *from;
        }
        if (*from != '\0')
            from++;
        *to = '\0';
        if (*word != '\0')
            options_take_word(o, word);
    }
}
