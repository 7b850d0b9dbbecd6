/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/fuzz_agent.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

#define FILE_MAX 65536u

static void range_fini(struct agent_range *range)
{
    free(range->pages);
    *range = (struct agent_range){0};
}

void fuzz_agent_fini(struct fuzz_agent *agent)
{
    range_fini(&agent->map);
    range_fini(&agent->cmp_map);
    range_fini(&agent->input);
    range_fini(&agent->input_size);
    range_fini(&agent->warm);
    *agent = (struct fuzz_agent){0};
}

static uint64_t page_of(uint64_t at)
{
    return at >> NUM_PAGE_SHIFT;
}

int fuzz_agent_set_range(struct agent_range *range,
    const struct guest_view *view, uint64_t at, uint64_t size, uint64_t max,
    struct err *err)
{
    uint64_t end;
    uint64_t count;

    range_fini(range);
    if (size == 0)
        return 0;
    if (size > max || !num_add(at, size - 1, &end))
        return err_set(err, EINVAL,
            "the agent names %llu bytes at 0x%llx, more than %llu",
            (unsigned long long)size, (unsigned long long)at,
            (unsigned long long)max);
    count = page_of(end) - page_of(at) + 1;
    range->pages = calloc(count, sizeof(range->pages[0]));
    if (range->pages == NULL)
        return err_sys(err, ENOMEM, "the agent's pages");
    for (uint64_t i = 0; i < count; i++) {
        if (guest_view_page(view, (page_of(at) + i) << NUM_PAGE_SHIFT,
                &range->pages[i]) < 0) {
            range_fini(range);
            return err_set(err, EFAULT,
                "the agent names 0x%llx, where it has no memory: it must be "
                "locked there (mlock)",
                (unsigned long long)((page_of(at) + i) << NUM_PAGE_SHIFT));
        }
    }
    range->at = at;
    range->size = size;
    range->count = (uint32_t)count;
    return 0;
}

static bool is_paged(uint64_t at)
{
    return at % NUM_PAGE_SIZE == 0;
}

int fuzz_agent_hello(struct fuzz_agent *agent, const struct guest_view *view,
    const struct fuzz_abi_hello *hello, struct err *err)
{
    int rc;

    if (hello->magic != FUZZ_ABI_HELLO_MAGIC ||
        hello->version != FUZZ_ABI_HELLO_VERSION)
        return err_set(err, EPROTO,
            "the agent speaks version %u, this executor %u: pack the target "
            "again",
            hello->version, FUZZ_ABI_HELLO_VERSION);
    if (!is_paged(hello->map) || !is_paged(hello->input) ||
        !is_paged(hello->cmp_map) || !is_paged(hello->warm) ||
        hello->input_size % sizeof(uint32_t) != 0)
        return err_set(err, EINVAL, "the agent's areas are not page-aligned");
    rc = fuzz_agent_set_range(
        &agent->map, view, hello->map, hello->map_size, FUZZ_ABI_MAP_MAX, err);
    if (rc == 0)
        rc = fuzz_agent_set_range(&agent->input, view, hello->input,
            hello->input_capacity, FUZZ_ABI_INPUT_MAX, err);
    if (rc == 0)
        rc = fuzz_agent_set_range(&agent->input_size, view, hello->input_size,
            hello->input_capacity == 0 ? 0 : sizeof(uint32_t), sizeof(uint32_t),
            err);
    if (rc == 0)
        rc = fuzz_agent_set_range(&agent->cmp_map, view, hello->cmp_map,
            hello->cmp_map_size, UINT64_C(256) << 20, err);
    if (rc == 0)
        rc = fuzz_agent_set_range(&agent->warm, view, hello->warm,
            hello->warm == 0 ? 0 : FUZZ_ABI_WARM_MAX * sizeof(uint64_t),
            FUZZ_ABI_WARM_MAX * sizeof(uint64_t), err);
    if (rc < 0)
        return rc;
    agent->restores_fpu = (hello->flags & FUZZ_ABI_RESTORES_FPU) != 0;
    agent->space = view->regs;
    agent->has_spoken = true;
    return 0;
}

int fuzz_agent_add_space(
    struct fuzz_agent *agent, const struct page_tables_regs *regs)
{
    for (uint32_t i = 0; i < agent->space_count; i++) {
        if (agent->spaces[i].cr3 == regs->cr3)
            return 0;
    }
    if (agent->space_count == AGENT_SPACES_MAX)
        return -ENOSPC;
    agent->spaces[agent->space_count++] = *regs;
    return 0;
}

int agent_keep_page(
    struct fuzz_agent *agent, const struct guest_view *view, uint64_t at)
{
    uint32_t page;
    int rc = guest_view_page(view, at, &page);

    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < agent->kept_count; i++) {
        if (agent->kept[i] == page)
            return 0;
    }
    if (agent->kept_count == AGENT_KEPT_MAX)
        return -ENOSPC;
    agent->kept[agent->kept_count++] = page;
    return 0;
}

int fuzz_agent_kept_pages(
    const struct fuzz_agent *agent, uint32_t **ret_pages, uint32_t *ret_count)
{
    const struct agent_range *const ranges[] = {
        &agent->map, &agent->cmp_map, &agent->input, &agent->input_size};
    uint32_t total = agent->kept_count;
    uint32_t *pages;

    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
        total += ranges[i]->count;
    pages = calloc((size_t)total + 1, sizeof(pages[0]));
    if (pages == NULL)
        return -ENOMEM;
    total = 0;
    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
        for (uint32_t j = 0; j < ranges[i]->count; j++)
            pages[total++] = ranges[i]->pages[j];
    }
    for (uint32_t i = 0; i < agent->kept_count; i++)
        pages[total++] = agent->kept[i];
    *ret_pages = pages;
    *ret_count = total;
    return 0;
}

static void put(const struct agent_range *range, struct gmem *mem,
    const uint8_t *bytes, size_t size)
{
    uint32_t offset = (uint32_t)(range->at % NUM_PAGE_SIZE);

    assert(size <= range->size);
    for (uint32_t i = 0; size > 0; i++) {
        size_t n = (size_t)NUM_PAGE_SIZE - offset;

        if (n > size)
            n = size;
        gmem_poke_page(mem, range->pages[i], offset, bytes, n);
        bytes += n;
        size -= n;
        offset = 0;
    }
}

void fuzz_agent_put_input(const struct fuzz_agent *agent, struct gmem *mem,
    const uint8_t *bytes, size_t size)
{
    uint32_t len;

    if (agent->input.count == 0 || agent->input_size.count == 0)
        return;
    if (size > agent->input.size)
        size = (size_t)agent->input.size;
    len = (uint32_t)size;
    put(&agent->input, mem, bytes, size);
    put(&agent->input_size, mem, (const uint8_t *)&len, sizeof(len));
}

/* ---- the file ------------------------------------------------------------ */

static const struct {
    const char *name;
    size_t offset;
    uint64_t max;
} file_ranges[] = {
    {"map", offsetof(struct fuzz_agent, map), FUZZ_ABI_MAP_MAX},
    {"cmp-map", offsetof(struct fuzz_agent, cmp_map), UINT64_C(256) << 20},
    {"input", offsetof(struct fuzz_agent, input), FUZZ_ABI_INPUT_MAX},
    {"input-size", offsetof(struct fuzz_agent, input_size), sizeof(uint32_t)},
};

static json_t *encode(const struct fuzz_agent *agent)
{
    json_t *root = json_pack("{s:b, s:I, s:b, s:[], s:[], s:I, s:I, s:I, s:I}",
        "restores-fpu", agent->restores_fpu ? 1 : 0, "timer-count",
        (json_int_t)agent->counter, "timer-deadline",
        agent->has_deadline ? 1 : 0, "spaces", "kept", "cr0",
        (json_int_t)agent->space.cr0, "cr3", (json_int_t)agent->space.cr3,
        "cr4", (json_int_t)agent->space.cr4, "efer",
        (json_int_t)agent->space.efer);

    for (uint32_t i = 0; root != NULL && i < agent->space_count; i++) {
        if (json_array_append_new(json_object_get(root, "spaces"),
                json_integer((json_int_t)agent->spaces[i].cr3)) < 0) {
            json_decref(root);
            return NULL;
        }
    }
    for (uint32_t i = 0; root != NULL && i < agent->kept_count; i++) {
        if (json_array_append_new(json_object_get(root, "kept"),
                json_integer(agent->kept[i])) < 0) {
            json_decref(root);
            return NULL;
        }
    }
    for (size_t i = 0; root != NULL && i < ARRAY_SIZE(file_ranges); i++) {
        const struct agent_range *range =
            (const struct agent_range *)(const void *)((const uint8_t *)agent +
                                                       file_ranges[i].offset);
        json_t *pair =
            json_pack("[I, I]", (json_int_t)range->at, (json_int_t)range->size);

        if (json_object_set_new(root, file_ranges[i].name, pair) < 0) {
            json_decref(root);
            return NULL;
        }
    }
    return root;
}

int fuzz_agent_save(
    const struct fuzz_agent *agent, const char *dir, struct err *err)
{
    char path[4096];
    char tmp[4096];
    json_t *root;
    int rc;

    if (snprintf(path, sizeof(path), "%s/%s", dir, AGENT_FILE) >=
            (int)sizeof(path) ||
        snprintf(tmp, sizeof(tmp), "%s/.%s", dir, AGENT_FILE) >=
            (int)sizeof(tmp))
        return err_set(err, ENAMETOOLONG, "'%.200s...'", dir);
    root = encode(agent);
    if (root == NULL)
        return err_sys(err, ENOMEM, "the agent's description");
    rc = json_dump_file(root, tmp, JSON_INDENT(1) | JSON_SORT_KEYS);
    json_decref(root);
    if (rc < 0 || rename(tmp, path) < 0)
        return err_sys(err, errno, "'%s'", path);
    return 0;
}

static int get_u64(
    const json_t *root, const char *name, uint64_t *ret_value, struct err *err)
{
    const json_t *value = json_object_get(root, name);

    if (!json_is_integer(value))
        return err_set(err, EINVAL, "%s: %s: not a number", AGENT_FILE, name);
    /* 64-bit addresses lie above what JSON's numbers are signed to. */
    *ret_value = (uint64_t)json_integer_value(value);
    return 0;
}

/* All are of one processor: they differ in CR3 alone. */
static int get_spaces(
    struct fuzz_agent *agent, const json_t *root, struct err *err)
{
    const json_t *spaces = json_object_get(root, "spaces");
    struct page_tables_regs regs = agent->space;

    for (size_t i = 0; i < json_array_size(spaces); i++) {
        regs.cr3 = (uint64_t)json_integer_value(json_array_get(spaces, i));
        if (fuzz_agent_add_space(agent, &regs) < 0)
            return err_set(err, EINVAL, "%s: more than %u address spaces",
                AGENT_FILE, AGENT_SPACES_MAX);
    }
    return 0;
}

static int get_kept(struct fuzz_agent *agent, const json_t *root,
    const struct guest_view *memory, struct err *err)
{
    const json_t *kept = json_object_get(root, "kept");

    if (json_array_size(kept) > AGENT_KEPT_MAX)
        return err_set(err, EINVAL, "%s: more than %u pages that are kept",
            AGENT_FILE, AGENT_KEPT_MAX);
    for (size_t i = 0; i < json_array_size(kept); i++) {
        json_int_t page = json_integer_value(json_array_get(kept, i));

        if (page < 0 || (uint64_t)page >= gmem_page_count(memory->mem))
            return err_set(
                err, EINVAL, "%s: it keeps a page that is none", AGENT_FILE);
        agent->kept[agent->kept_count++] = (uint32_t)page;
    }
    return 0;
}

/*
 * Maps are laid page by page, and the size is put as one number: what a file
 * says has to fit that as what a guest says does.
 */
static int check_areas(const struct fuzz_agent *agent, struct err *err)
{
    if (!is_paged(agent->map.at) || !is_paged(agent->cmp_map.at))
        return err_set(
            err, EINVAL, "%s: a map is not page-aligned", AGENT_FILE);
    if (agent->input.count > 0 && agent->input_size.size != sizeof(uint32_t))
        return err_set(
            err, EINVAL, "%s: an input without its size", AGENT_FILE);
    return 0;
}

static int decode(struct fuzz_agent *agent, const json_t *root,
    const struct guest_view *memory, struct err *err)
{
    struct guest_view view = *memory;
    uint64_t counter = 0;
    int rc = get_u64(root, "cr0", &view.regs.cr0, err);

    if (rc == 0)
        rc = get_u64(root, "cr3", &view.regs.cr3, err);
    if (rc == 0)
        rc = get_u64(root, "cr4", &view.regs.cr4, err);
    if (rc == 0)
        rc = get_u64(root, "efer", &view.regs.efer, err);
    if (rc == 0)
        rc = get_u64(root, "timer-count", &counter, err);
    if (rc == 0 && counter > UINT32_MAX)
        rc = err_set(err, EINVAL, "%s: timer-count: too large", AGENT_FILE);
    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(file_ranges); i++) {
        const json_t *pair = json_object_get(root, file_ranges[i].name);
        const json_t *at = json_array_get(pair, 0);
        const json_t *size = json_array_get(pair, 1);

        if (!json_is_integer(at) || !json_is_integer(size))
            return err_set(err, EINVAL, "%s: %s: not an address and a size",
                AGENT_FILE, file_ranges[i].name);
        rc = fuzz_agent_set_range(
            (struct agent_range *)(void *)((uint8_t *)agent +
                                           file_ranges[i].offset),
            &view, (uint64_t)json_integer_value(at),
            (uint64_t)json_integer_value(size), file_ranges[i].max, err);
    }
    if (rc < 0)
        return rc;
    rc = check_areas(agent, err);
    if (rc < 0)
        return rc;
    agent->restores_fpu = json_is_true(json_object_get(root, "restores-fpu"));
    agent->counter = (uint32_t)counter;
    agent->has_deadline = json_is_true(json_object_get(root, "timer-deadline"));
    agent->space = view.regs;
    agent->has_spoken = true;
    rc = get_spaces(agent, root, err);
    return rc < 0 ? rc : get_kept(agent, root, memory, err);
}

static int read_text(
    const char *dir, char **ret_text, size_t *ret_size, struct err *err)
{
    CC_CLEANUP(fd_closep) int dir_fd = -1;
    CC_CLEANUP(fd_closep) int fd = -1;
    char *text = malloc(FILE_MAX);
    ssize_t n;

    if (text == NULL)
        return err_sys(err, ENOMEM, "'%s'", AGENT_FILE);
    dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd >= 0)
        fd = openat(
            dir_fd, AGENT_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    n = fd < 0 ? -errno : fd_read_full(fd, text, FILE_MAX);
    if (n < 0 || n == FILE_MAX) {
        free(text);
        return err_sys(err, n < 0 ? (int)n : EFBIG,
            "'%s/%s', which is made with the root", dir, AGENT_FILE);
    }
    *ret_text = text;
    *ret_size = (size_t)n;
    return 0;
}

int fuzz_agent_load(struct fuzz_agent *agent, const char *dir,
    const struct guest_view *view, struct err *err)
{
    json_error_t where;
    json_t *root;
    char *text;
    size_t size;
    int rc = read_text(dir, &text, &size, err);

    if (rc < 0)
        return rc;
    *agent = (struct fuzz_agent){0};
    root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (root == NULL)
        return err_set(err, EINVAL, "'%s/%s', line %d: %s", dir, AGENT_FILE,
            where.line, where.text);
    rc = decode(agent, root, view, err);
    json_decref(root);
    if (rc < 0)
        fuzz_agent_fini(agent);
    return rc;
}
