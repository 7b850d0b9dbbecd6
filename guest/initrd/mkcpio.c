/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkcpio -o OUT /path=FILE...
 *
 * Writes an initrd: an uncompressed cpio archive (newc) of the directories that
 * the agent mounts on, /dev/console and /dev/null, and the given files, whose
 * parent directories it adds. The same input gives the same bytes: times and
 * owners are 0, inode numbers count. No privilege is needed, since device
 * nodes are only records here.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MODE_DIR  0040755u
#define MODE_CHAR 0020000u
#define MODE_FILE 0100000u

struct dir {
    struct dir *next;
    char path[];
};

struct archive {
    FILE *out;
    uint64_t offset;
    uint32_t inode;
    struct dir *dirs; /* made already */
};

struct node {
    const char *path; /* without the leading slash */
    uint32_t mode;
    uint32_t major;
    uint32_t minor;
    const uint8_t *data;
    size_t size;
};

static void put(struct archive *a, const void *bytes, size_t n)
{
    if (n > 0)
        (void)fwrite(bytes, 1, n, a->out); /* ferror is asked at the end */
    a->offset += n;
}

static void pad(struct archive *a)
{
    static const uint8_t zero[4];

    put(a, zero, (4 - a->offset % 4) % 4);
}

/* One record: header of 8-digit hexadecimal numbers, name, data. */
static void put_node(struct archive *a, const struct node *n)
{
    bool is_trailer = strcmp(n->path, "TRAILER!!!") == 0;
    char header[6 + 13 * 8 + 1];

    (void)snprintf(header, sizeof(header),
        "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X"
        "%08X",
        is_trailer ? 0 : ++a->inode, n->mode, 0u, 0u, 1u, 0u, (uint32_t)n->size,
        0u, 0u, n->major, n->minor, (uint32_t)strlen(n->path) + 1, 0u);
    put(a, header, sizeof(header) - 1);
    put(a, n->path, strlen(n->path) + 1);
    pad(a);
    put(a, n->data, n->size);
    pad(a);
}

static bool remember_dir(struct archive *a, const char *path)
{
    size_t size = strlen(path) + 1;
    struct dir *dir;

    for (dir = a->dirs; dir != NULL; dir = dir->next) {
        if (strcmp(dir->path, path) == 0)
            return false;
    }
    dir = malloc(sizeof(*dir) + size);
    if (dir == NULL) {
        fputs("mkcpio: out of memory\n", stderr);
        exit(1);
    }
    memcpy(dir->path, path, size);
    dir->next = a->dirs;
    a->dirs = dir;
    return true;
}

static void put_dir(struct archive *a, const char *path)
{
    struct node n = {.path = path, .mode = MODE_DIR};

    if (remember_dir(a, path))
        put_node(a, &n);
}

static void put_parents(struct archive *a, const char *path)
{
    char parent[PATH_MAX];

    for (const char *slash = strchr(path, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        size_t n = (size_t)(slash - path);

        memcpy(parent, path, n);
        parent[n] = '\0';
        put_dir(a, parent);
    }
}

static void put_device(struct archive *a, const char *path, uint32_t mode,
    uint32_t major, uint32_t minor)
{
    struct node n = {
        .path = path,
        .mode = MODE_CHAR | mode,
        .major = major,
        .minor = minor,
    };

    put_node(a, &n);
}

/* The whole file, to be freed; NULL with a message if it cannot be read. */
static uint8_t *read_whole(const char *path, struct stat *ret_stat)
{
    FILE *in = fopen(path, "rbe");
    uint8_t *data = NULL;
    struct stat st;

    if (in == NULL || fstat(fileno(in), &st) != 0 || !S_ISREG(st.st_mode) ||
        st.st_size > INT32_MAX ||
        (data = malloc((size_t)st.st_size + 1)) == NULL ||
        fread(data, 1, (size_t)st.st_size, in) != (size_t)st.st_size) {
        fprintf(stderr, "mkcpio: cannot read %s: %s\n", path,
            errno != 0 ? strerror(errno) : "not a plain file");
        free(data);
        data = NULL;
    } else {
        *ret_stat = st;
    }
    if (in != NULL)
        fclose(in);
    return data;
}

/* "/path=FILE"; the file's execute bit decides between 0755 and 0644. */
static bool put_file(struct archive *a, char *argument)
{
    char *equals = strchr(argument, '=');
    struct node n = {.path = argument + 1};
    struct stat st;
    uint8_t *data;

    if (argument[0] != '/' || equals == NULL || equals == argument + 1 ||
        (size_t)(equals - argument) >= PATH_MAX) {
        fprintf(stderr, "mkcpio: '%s' is not /path=FILE\n", argument);
        return false;
    }
    *equals = '\0';
    data = read_whole(equals + 1, &st);
    if (data == NULL)
        return false;
    put_parents(a, n.path);
    n.mode = MODE_FILE | ((st.st_mode & 0100) != 0 ? 0755u : 0644u);
    n.data = data;
    n.size = (size_t)st.st_size;
    put_node(a, &n);
    free(data);
    return true;
}

static bool put_all(struct archive *a, char **files)
{
    static const char *const dirs[] = {
        "dev", "proc", "root", "run", "sys", "tmp"};
    static const struct node trailer = {.path = "TRAILER!!!"};

    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
        put_dir(a, dirs[i]);
    /* Process 1 gets its console before the agent can mount anything. */
    put_device(a, "dev/console", 0600, 5, 1);
    put_device(a, "dev/null", 0666, 1, 3);
    for (; *files != NULL; files++) {
        if (!put_file(a, *files))
            return false;
    }
    put_node(a, &trailer);
    return true;
}

int main(int argc, char **argv)
{
    struct archive a = {.inode = 0};
    const char *path;
    bool ok;

    if (argc < 4 || strcmp(argv[1], "-o") != 0) {
        fputs("usage: mkcpio -o OUT /path=FILE...\n", stderr);
        return 2;
    }
    path = argv[2];
    a.out = fopen(path, "wbe");
    if (a.out == NULL) {
        fprintf(stderr, "mkcpio: cannot write %s: %s\n", path, strerror(errno));
        return 1;
    }
    ok = put_all(&a, argv + 3);
    if (ok && (ferror(a.out) != 0 || fflush(a.out) != 0)) {
        fprintf(stderr, "mkcpio: cannot write %s: %s\n", path, strerror(errno));
        ok = false;
    }
    fclose(a.out);
    while (a.dirs != NULL) {
        struct dir *next = a.dirs->next;

        free(a.dirs);
        a.dirs = next;
    }
    if (!ok)
        (void)remove(path);
    return ok ? 0 : 1;
}
