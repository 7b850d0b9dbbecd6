/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a control socket answers, byte for byte: the requests and replies of
 * tests/golden/api_transcripts.txt. Each request is a line "VERB PATH [BODY]",
 * the reply the line below it, "STATUS [deprecated] [BODY]"; status line and
 * headers follow from these. A line with an equals sign begins anew, with a
 * machine that is to be described or one that runs.
 *
 * With SPORE_TRANSCRIPT=1 the replies that came are printed instead.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/support/control_bench.h"

#define LINE_MAX_BYTES 70000u

struct player {
    struct control_bench *bench;
    int fd;
    bool prints;
    unsigned int pairs;
};

static void end(struct player *p)
{
    if (p->bench == NULL)
        return;
    (void)close(p->fd);
    control_bench_fini(p->bench);
    free(p->bench);
    p->bench = NULL;
}

static void begin(struct player *p, const char *what)
{
    end(p);
    p->bench = calloc(1, sizeof(*p->bench));
    assert_non_null(p->bench);
    control_bench_init(p->bench);
    if (strstr(what, "before") != NULL)
        control_bench_begin(p->bench);
    p->fd = http_bench_connect(&p->bench->http);
}

/* "PUT /vm {}" as a request; the caller frees it. */
static char *make_request(char *line)
{
    char *path = strchr(line, ' ');
    char *request = NULL;
    char *body;

    assert_non_null(path);
    *path++ = '\0';
    body = strchr(path, ' ');
    if (body == NULL) {
        assert_true(
            asprintf(&request, "%s %s HTTP/1.1\r\n\r\n", line, path) > 0);
        return request;
    }
    *body++ = '\0';
    assert_true(
        asprintf(&request, "%s %s HTTP/1.1\r\nContent-Length: %zu\r\n\r\n%s",
            line, path, strlen(body), body) > 0);
    return request;
}

/* "200 {}" as a reply; the caller frees it. */
static char *make_reply(const char *line)
{
    static const char word[] = " deprecated";
    int status = atoi(line);
    const char *body = line + 3;
    bool deprecated = strncmp(body, word, sizeof(word) - 1) == 0;
    const char *head = deprecated ? "Deprecation: true\r\n" : "";
    char *reply = NULL;

    if (deprecated)
        body += sizeof(word) - 1;
    body += *body == ' ';
    if (*body == '\0')
        assert_true(asprintf(&reply,
                        "HTTP/1.1 %d \r\nServer: Firecracker API\r\n"
                        "Connection: keep-alive\r\n%s\r\n",
                        status, head) > 0);
    else
        assert_true(
            asprintf(&reply,
                "HTTP/1.1 %d \r\nServer: Firecracker API\r\n"
                "Connection: keep-alive\r\n%sContent-Type: application/json\r\n"
                "Content-Length: %zu\r\n\r\n%s",
                status, head, strlen(body), body) > 0);
    return reply;
}

/* The reverse of write_reply. */
static void print_reply(const char *got)
{
    const char *body = strstr(got, "\r\n\r\n");

    (void)printf("%.3s%s%s%s\n", got + 9,
        strstr(got, "Deprecation: true") != NULL ? " deprecated" : "",
        body != NULL && body[4] != '\0' ? " " : "",
        body == NULL ? "" : body + 4);
}

static void play(struct player *p, char *asked, const char *answer)
{
    char *shown = strdup(asked);
    char *request;
    char *want;
    bool ended;
    const char *got;

    assert_non_null(p->bench);
    assert_non_null(shown);
    request = make_request(asked);
    http_bench_say(&p->bench->http, p->fd, request);
    got = http_bench_hear(&p->bench->http, p->fd, &ended);
    assert_false(ended);
    p->pairs++;
    if (p->prints) {
        (void)printf("%s\n", shown);
        print_reply(got);
    } else {
        want = make_reply(answer);
        if (strcmp(got, want) != 0)
            fail_msg("asked: %s\nwant: %s\ngot: %s", shown, want, got);
        free(want);
    }
    free(request);
    free(shown);
}

static bool next_line(FILE *file, char *line)
{
    if (fgets(line, (int)LINE_MAX_BYTES, file) == NULL)
        return false;
    line[strcspn(line, "\n")] = '\0';
    return true;
}

static void transcripts(void **state)
{
    static char line[LINE_MAX_BYTES];
    static char answer[LINE_MAX_BYTES];
    struct player p = {.prints = getenv("SPORE_TRANSCRIPT") != NULL};
    const char *golden = getenv("SPORE_GOLDEN");
    char path[4096];
    FILE *file;

    (void)state;
    if (golden == NULL)
        golden = "tests/golden";
    (void)snprintf(path, sizeof(path), "%s/api_transcripts.txt", golden);
    file = fopen(path, "re");
    if (file == NULL)
        fail_msg("%s: cannot be read: set SPORE_GOLDEN", path);
    while (next_line(file, line)) {
        if (line[0] == '#' || line[0] == '\0' || line[0] == '=') {
            if (p.prints)
                (void)printf("%s\n", line);
            if (line[0] == '=')
                begin(&p, line);
            continue;
        }
        assert_true(next_line(file, answer));
        play(&p, line, answer);
    }
    (void)fclose(file);
    end(&p);
    assert_true(p.pairs >= 150);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(transcripts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
