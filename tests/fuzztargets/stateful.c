/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server with a session: what a message does depends on those before it, and
 * the first one, "login NAME", takes its time. After "open" and as many "put"
 * as there are letters in the name, "close" crashes.
 */
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef ROUNDS
#define ROUNDS 200000u
#endif

struct session {
    uint32_t key; /* of the login; 0: none yet */
    size_t letters;
    int is_open;
    size_t puts;
    uint8_t *stored;
    size_t size;
};

static void login(struct session *s, const char *name, size_t size)
{
    uint32_t key = 1;

    for (uint32_t i = 0; i < ROUNDS; i++)
        key = key * 1664525u + 1013904223u +
              (size == 0 ? 0 : (uint8_t)name[i % size]);
    s->key = key | 1;
    s->letters = size;
}

/* Over all that was stored. */
static uint32_t digest(const struct session *s)
{
    uint32_t sum = s->key;

    for (size_t i = 0; i < s->size; i++)
        sum = sum * 31 + s->stored[i];
    return sum;
}

static void put(struct session *s, const char *bytes, size_t size)
{
    uint8_t *stored = realloc(s->stored, s->size + size);

    if (stored == NULL)
        exit(20);
    memcpy(stored + s->size, bytes, size);
    s->stored = stored;
    s->size += size;
    s->puts++;
}

static int is(const char *message, size_t size, const char *word)
{
    return size >= strlen(word) && memcmp(message, word, strlen(word)) == 0;
}

static void take(struct session *s, const char *message, size_t size)
{
    if (is(message, size, "login ") && s->key == 0) {
        login(s, message + 6, size - 6);
    } else if (s->key == 0) {
        exit(10);
    } else if (is(message, size, "open")) {
        s->is_open++;
    } else if (is(message, size, "put ") && s->is_open) {
        put(s, message + 4, size - 4);
    } else if (is(message, size, "close") && s->is_open) {
        if (s->puts == s->letters && s->letters > 2)
            abort();
        s->is_open = 0;
    }
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
        .sin_port = htons(7000),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct session session = {0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char message[512];
    ssize_t n;

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, 1) < 0)
        return 1;
    fd = accept(fd, NULL, NULL);
    if (fd < 0)
        return 2;
    while ((n = recv(fd, message, sizeof(message), 0)) > 0)
        take(&session, message, (size_t)n);
    return 30 + (int)(digest(&session) % 100);
}
