/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/nyx_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/nyx.h"
#include "vmm/base/fd.h"

#define HASH_BYTES 20u

struct nyx_config *nyx_config_make(const char *dir, const char *workdir)
{
    struct nyx_config *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return NULL;
    c->handle.kind = NYX_HANDLE_CONFIG;
    c->dir = strdup(dir);
    c->workdir = workdir != NULL ? strdup(workdir) : NULL;
    c->print_fd = -1;
    c->aux_size = NYX_AUX_SIZE;
    if (c->dir == NULL || (workdir != NULL && c->workdir == NULL)) {
        nyx_config_destroy(c);
        return NULL;
    }
    return c;
}

void nyx_config_destroy(struct nyx_config *c)
{
    if (c == NULL)
        return;
    free(c->dir);
    free(c->workdir);
    free(c);
}

/* ---- AFL++'s directory --------------------------------------------------- */

static int copy_dictionary(
    const char *from, int dump_fd, const char *where, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    uint8_t *bytes = NULL;
    size_t size = 0;
    int rc = fd_read_file(from, NYX_DICT_MAX, &bytes, &size, err);

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    fd = openat(dump_fd, NYX_DICT_NAME,
        O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    rc = fd < 0 ? -errno : fd_write_full(fd, bytes, size);
    free(bytes);
    return rc < 0 ? err_sys(err, rc, "%s/" NYX_DICT_NAME, where) : 0;
}

static int make_dir(const char *path, struct err *err)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "cannot make %s", path);
    return 0;
}

int nyx_config_prepare(const struct nyx_config *c, struct err *err)
{
    CC_CLEANUP(fd_closep) int fd = -1;
    char *dump = NULL;
    char *dict = NULL;
    int rc = 0;

    if (c->workdir == NULL)
        return 0;
    if (asprintf(&dump, "%s/" NYX_DUMP_DIR, c->workdir) < 0)
        dump = NULL;
    if (asprintf(&dict, "%s/" NYX_DUMP_DIR "/" NYX_DICT_NAME, c->dir) < 0)
        dict = NULL;
    if (dump == NULL || dict == NULL)
        rc = err_sys(err, ENOMEM, "%s", c->workdir);
    if (rc == 0)
        rc = make_dir(c->workdir, err);
    if (rc == 0)
        rc = make_dir(dump, err);
    if (rc == 0) {
        fd = open(dump, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = fd < 0 ? err_sys(err, errno, "%s", dump)
                    : copy_dictionary(dict, fd, dump, err);
    }
    free(dump);
    free(dict);
    return rc;
}

/* Only what is made above, and only where nothing else is. */
bool nyx_remove_work_dir(const char *path)
{
    static const char *const names[] = {
        NYX_DUMP_DIR "/" NYX_DICT_NAME, NYX_DUMP_DIR};
    CC_CLEANUP(fd_closep) int fd = -1;

    if (path == NULL)
        return false;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    (void)unlinkat(fd, names[0], 0);
    (void)unlinkat(fd, names[1], AT_REMOVEDIR);
    return rmdir(path) == 0;
}

/* ---- what AFL++ sets ----------------------------------------------------- */

static struct nyx_config *config_of(void *config)
{
    return nyx_handles_has(config, NYX_HANDLE_CONFIG) ? config : NULL;
}

void *nyx_config_load(const char *dir)
{
    struct nyx_config *c = nyx_config_make(dir, NULL);
    struct stat st;

    if (c == NULL || stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
        (void)fprintf(stderr,
            "spore: libnyx: %s is no directory: spore fuzz pack makes one\n",
            dir);
        nyx_config_destroy(c);
        return NULL;
    }
    nyx_handles_add(&c->handle);
    return c;
}

void nyx_config_free(void *config)
{
    if (nyx_handles_take(config, NYX_HANDLE_CONFIG))
        nyx_config_destroy(config);
}

void nyx_config_set_workdir_path(void *config, const char *path)
{
    struct nyx_config *c = config_of(config);

    if (c == NULL)
        return;
    free(c->workdir);
    c->workdir = path != NULL ? strdup(path) : NULL;
}

void nyx_config_set_hprintf_fd(void *config, int32_t fd)
{
    struct nyx_config *c = config_of(config);

    if (c != NULL)
        c->print_fd = fd;
}

bool nyx_config_set_aux_buffer_size(void *config, uint32_t size)
{
    struct nyx_config *c = config_of(config);

    if (c == NULL || size == 0 || size % 4096 != 0 || size > NYX_AUX_SIZE_MAX)
        return false;
    c->aux_size = size;
    return true;
}

/*
 * Inputs always have room for AFL++'s largest, writes to them are noticed
 * where they are, and roles are all the same: who comes first makes the root.
 */
void nyx_config_set_input_buffer_size(void *config, uint32_t size)
{
    (void)config;
    (void)size;
}

void nyx_config_set_input_buffer_write_protection(void *config, bool on)
{
    (void)config;
    (void)on;
}

void nyx_config_set_process_role(void *config, enum NyxProcessRole role)
{
    (void)config;
    (void)role;
}

void nyx_config_set_reuse_snapshot_path(void *config, const char *path)
{
    (void)config;
    (void)fprintf(stderr,
        "spore: libnyx: %s is not used: a target keeps its own snapshot\n",
        path);
}

void nyx_config_print(void *config)
{
    const struct nyx_config *c = config_of(config);

    if (c != NULL)
        (void)fprintf(stderr, "spore: libnyx: target %s, work in %s\n", c->dir,
            c->workdir != NULL ? c->workdir : "nothing");
}

void nyx_config_debug(void *config)
{
    nyx_config_print(config);
}

/* ---- which target it is -------------------------------------------------- */

static int digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool nyx_get_target_hash(void *config, uint8_t *ret_hash)
{
    const struct nyx_config *c = config_of(config);
    uint8_t hash[HASH_BYTES];
    uint8_t *text = NULL;
    char *path = NULL;
    size_t size = 0;
    bool ok;

    if (c == NULL || asprintf(&path, "%s/TARGET_HASH", c->dir) < 0)
        return false;
    ok = fd_read_file(path, 4096, &text, &size, NULL) == 0 &&
         size >= 2 * sizeof(hash);
    for (size_t i = 0; ok && i < sizeof(hash); i++) {
        int high = digit(text[2 * i]);
        int low = digit(text[2 * i + 1]);

        ok = high >= 0 && low >= 0;
        if (ok)
            hash[i] = (uint8_t)(high << 4 | low);
    }
    if (ok)
        memcpy(ret_hash, hash, sizeof(hash));
    free(text);
    free(path);
    return ok;
}

uint64_t nyx_get_target_hash64(void *config)
{
    uint8_t hash[HASH_BYTES];
    uint64_t word = 0;

    if (!nyx_get_target_hash(config, hash))
        return 0;
    for (size_t i = 0; i < sizeof(word); i++)
        word = word << 8 | hash[i];
    return word;
}
