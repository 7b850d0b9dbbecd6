/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/generation.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static int put_time(struct agent_time *time, struct err *err)
{
    struct timespec now;

    if (clock_gettime(CLOCK_REALTIME, &now) < 0)
        return err_sys(err, errno, "what time is it");
    time->sec = agent_le64_put((uint64_t)now.tv_sec);
    time->nsec = agent_le32_put((uint32_t)now.tv_nsec);
    return 0;
}

int generation_make(struct generation_frame *ret_frame,
    const uint8_t id[AGENT_GENERATION_ID], bool with_time, struct err *err)
{
    struct agent_generation *body = &ret_frame->body;

    *ret_frame = (struct generation_frame){
        .head = {.length = agent_le32_put(sizeof(*body)),
            .type = agent_le16_put(AGENT_GENERATION)}};
    memcpy(body->id, id, sizeof(body->id));
    /* Up to 256 bytes come whole, or not at all: random(7). */
    if (getrandom(body->seed, sizeof(body->seed), 0) < 0)
        return err_sys(err, errno, "no random bytes from the kernel");
    if (!with_time)
        return 0;
    body->flags = agent_le32_put(AGENT_GENERATION_TIME);
    return put_time(&body->time, err);
}
