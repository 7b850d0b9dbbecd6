/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ps.h"

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/cc.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/rundir.h"
#include "vmm/vm_client.h"

/* One that does not answer is listed as such, and holds nobody up for long. */
#define TIMEOUT_MS 2000u

static const char help[] =
    "usage: spore ps [options]\n"
    "\n"
    "Lists the machines of this user that run.\n"
    "\n"
    "      --json              all that is known of them, as a JSON array\n"
    "  -h, --help              this text\n";

static int compare(const void *a, const void *b)
{
    const json_t *const *x = a;
    const json_t *const *y = b;

    return strcmp(json_string_value(json_object_get(*x, "id")),
        json_string_value(json_object_get(*y, "id")));
}

json_t *ps_ask(const char *id)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    struct http_reply reply;
    json_t *json = NULL;

    if (vm_client_connect(id, TIMEOUT_MS, &fd, NULL) < 0)
        return NULL;
    if (http_client_request(fd, HTTP_VERB_GET, "/spore", NULL, &reply, NULL) <
        0)
        return NULL;
    if (reply.status == 200 && reply.body != NULL)
        json = json_loadb(reply.body, reply.body_len, 0, NULL);
    http_reply_fini(&reply);
    if (json_is_object(json) &&
        json_object_set_new(json, "id", json_string(id)) == 0)
        return json;
    json_decref(json);
    return NULL;
}

static int add(void *opaque, const char *id)
{
    json_t *list = opaque;
    json_t *json = ps_ask(id);

    if (json == NULL)
        json = json_pack("{s:s, s:s}", "id", id, "state", "No answer");
    return json_array_append_new(list, json) < 0 ? -1 : 0;
}

static json_int_t number(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

static void print_age(json_int_t ms)
{
    json_int_t s = ms / 1000;

    if (s < 60)
        (void)printf("%7llds", (long long)s);
    else if (s < 3600)
        (void)printf("%4lldm%02llds", (long long)(s / 60), (long long)(s % 60));
    else
        (void)printf(
            "%4lldh%02lldm", (long long)(s / 3600), (long long)(s / 60 % 60));
}

static void print_row(const json_t *json)
{
    const char *state = json_string_value(json_object_get(json, "state"));

    (void)printf("%-16s  %-11s", json_string_value(json_object_get(json, "id")),
        state == NULL ? "?" : state);
    if (json_object_get(json, "pid") != NULL) {
        (void)printf("  %7lld  ", (long long)number(json, "pid"));
        print_age(number(json, "age_ms"));
        (void)printf("  %5lld  %8.1f  %11.1f  %8.2f",
            (long long)number(json, "vcpus"),
            (double)number(json, "mem_bytes") / (double)NUM_MIB,
            (double)number(json, "private_kib") / (double)NUM_KIB,
            (double)number(json, "cpu_us") / 1e6);
    }
    (void)putchar('\n');
}

static int print(json_t *list, bool as_json)
{
    size_t n = json_array_size(list);
    const json_t **rows = calloc(n + 1, sizeof(*rows));

    if (rows == NULL)
        return -1;
    if (as_json) {
        (void)json_dumpf(list, stdout, JSON_INDENT(2));
        (void)putchar('\n');
        free(rows);
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        rows[i] = json_array_get(list, i);
    qsort(rows, n, sizeof(rows[0]), compare);
    (void)puts("ID                STATE            PID       AGE  VCPUS   "
               "MEM MiB  PRIVATE MiB     CPU s");
    for (size_t i = 0; i < n; i++)
        print_row(rows[i]);
    free(rows);
    return 0;
}

int cmd_ps(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    bool as_json = false;
    json_t *list;
    struct err err;
    int opt;
    int rc;

    optind = 0; /* start over, even from within a word */
    opterr = 0;
    while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (opt == 'h') {
            (void)fputs(help, stdout);
            return 0;
        }
        if (opt != 'j') {
            (void)fputs(
                "spore: ps: unknown option: see spore ps --help\n", stderr);
            return VM_CLIENT_STATUS_FAILED;
        }
        as_json = true;
    }
    if (optind < argc) {
        (void)fputs("spore: ps: it takes no arguments\n", stderr);
        return VM_CLIENT_STATUS_FAILED;
    }
    list = json_array();
    (void)err_set(&err, 1, "out of memory");
    rc = list == NULL ? -1 : rundir_walk(add, list, &err);
    if (rc == 0)
        rc = print(list, as_json);
    if (rc < 0)
        (void)fprintf(stderr, "spore: ps: %s\n", err.text);
    json_decref(list);
    return rc < 0 ? VM_CLIENT_STATUS_FAILED : 0;
}
