/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz harness over files, so that any compiler replays what the
 * fuzzers found: the corpus is a regression test. Arguments are files and
 * folders; no file at all is a failure.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define FILE_MAX ((size_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    struct err err;
    uint8_t *data;
    size_t size;

    if (fd_read_file(path, FILE_MAX, &data, &size, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 1;
}

/* The number of files replayed, or -1. */
static int replay_folder(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort);
    int count = 0;

    if (n < 0) {
        perror(path);
        return -1;
    }
    for (int i = 0; i < n; i++) {
        char *name = NULL;
        struct stat st;

        if (asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0)
            abort();
        if (count >= 0 && stat(name, &st) == 0 && S_ISREG(st.st_mode))
            count = replay_file(name) < 0 ? -1 : count + 1;
        free(name);
        free(entries[i]);
    }
    free(entries);
    return count;
}

int main(int argc, char **argv)
{
    int total = 0;

    for (int i = 1; i < argc; i++) {
        struct stat st;
        int n;

        if (stat(argv[i], &st) < 0) {
            perror(argv[i]);
            return 1;
        }
        n = S_ISDIR(st.st_mode) ? replay_folder(argv[i]) : replay_file(argv[i]);
        if (n < 0)
            return 1;
        total += n;
    }
    (void)printf("%d inputs\n", total);
    return total > 0 ? 0 : 1;
}
