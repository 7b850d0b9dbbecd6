/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/executor.h"

#include <errno.h>

static int not_built(struct err *err)
{
    return err_set(
        err, ENOSYS, "this build of spore has no executor: build one that has");
}

int executor_boot(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err)
{
    (void)target;
    (void)options;
    (void)ret_ex;
    return not_built(err);
}

int executor_save(struct executor *ex, struct err *err)
{
    (void)ex;
    return not_built(err);
}

int executor_open(const struct fuzz_target *target,
    const struct executor_options *options, struct executor **ret_ex,
    struct err *err)
{
    (void)target;
    (void)options;
    (void)ret_ex;
    return not_built(err);
}

void executor_free(struct executor *ex)
{
    (void)ex;
}

size_t executor_map_size(const struct executor *ex)
{
    (void)ex;
    return 0;
}

size_t executor_input_max(const struct executor *ex)
{
    (void)ex;
    return 0;
}

int executor_lay_map(
    struct executor *ex, void *shared, bool clears, struct err *err)
{
    (void)ex;
    (void)shared;
    (void)clears;
    return not_built(err);
}

uint8_t *executor_map(const struct executor *ex)
{
    (void)ex;
    return NULL;
}

size_t executor_cmp_map_size(const struct executor *ex)
{
    (void)ex;
    return 0;
}

int executor_lay_cmp_map(struct executor *ex, void *shared, struct err *err)
{
    (void)ex;
    (void)shared;
    return not_built(err);
}

int executor_run(struct executor *ex, const void *input, size_t size,
    uint64_t timeout_us, struct fuzz_result *ret_result, struct err *err)
{
    (void)ex;
    (void)input;
    (void)size;
    (void)timeout_us;
    (void)ret_result;
    return not_built(err);
}

const char *executor_text(const struct executor *ex, size_t *ret_size)
{
    (void)ex;
    *ret_size = 0;
    return "";
}

int executor_hash(struct executor *ex, uint64_t *ret_hash, struct err *err)
{
    (void)ex;
    (void)ret_hash;
    return not_built(err);
}

int executor_push(struct executor *ex, struct err *err)
{
    (void)ex;
    return not_built(err);
}

int executor_pop_to(struct executor *ex, uint32_t level, struct err *err)
{
    (void)ex;
    (void)level;
    return not_built(err);
}

uint32_t executor_level(const struct executor *ex)
{
    (void)ex;
    return 0;
}
