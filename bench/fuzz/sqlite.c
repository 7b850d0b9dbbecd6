/* SPDX-License-Identifier: Apache-2.0 */
#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A statement that goes on for longer is stopped. */
#define STEPS_MAX 5000

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int stop(void *count)
{
    return ++*(int *)count > STEPS_MAX / 100;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return sqlite3_initialize();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int count = 0;
    sqlite3 *db;
    char *sql;

    if (sqlite3_open(":memory:", &db) != SQLITE_OK)
        return 0;
    sqlite3_progress_handler(db, 100, stop, &count);
    (void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 50000);
    sql = malloc(size + 1);
    if (sql != NULL) {
        memcpy(sql, data, size);
        sql[size] = '\0';
        (void)sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    free(sql);
    (void)sqlite3_close(db);
    return 0;
}
