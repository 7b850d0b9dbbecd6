/* SPDX-License-Identifier: Apache-2.0 */
/* Code in memory, and memory that is shared or without limit. */
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "tests/escape/escape.h"
#include "vmm/base/cc.h"

#define NR_MAP_SHADOW_STACK 453

#define RW    (PROT_READ | PROT_WRITE)
#define RWX   (PROT_READ | PROT_WRITE | PROT_EXEC)
#define ANON  (MAP_PRIVATE | MAP_ANONYMOUS)
#define BYTES ((long)ESCAPE_PAGE)

/* mov $42, %eax; ret */
static const uint8_t code[] = {0xb8, 42, 0, 0, 0, 0xc3};

/* Addresses are no results that fit into an int. */
static int mapped(int rc)
{
    return rc < 0 ? rc : 0;
}

static int try_map_exec(struct escape *e)
{
    return mapped(ESCAPE_CALL(
        e, SYS_mmap, NULL, BYTES, PROT_READ | PROT_EXEC, ANON, -1, 0L));
}

static int try_map_rwx(struct escape *e)
{
    return mapped(ESCAPE_CALL(e, SYS_mmap, NULL, BYTES, RWX, ANON, -1, 0L));
}

/* Runs what the guest has in its memory. */
static int try_run_ram(struct escape *e)
{
    union {
        void *at;
        int (*run)(void);
    } program;

    escape_mark(e, SYS_mmap);
    program.at =
        mmap(NULL, ESCAPE_PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, e->ram, 0);
    if (program.at == MAP_FAILED)
        return -errno;
    return program.run() == 42 ? 0 : -EIO;
}

static int put_code(struct escape *e)
{
    memcpy(e->ram_map, code, sizeof(code));
    memcpy(e->page, code, sizeof(code));
    return 0;
}

static int try_map_disk(struct escape *e)
{
    return mapped(ESCAPE_CALL(e, SYS_mmap, NULL, BYTES, PROT_READ | PROT_EXEC,
        MAP_PRIVATE, e->disk, 0L));
}

static int run_page(struct escape *e, int rc)
{
    union {
        void *at;
        int (*run)(void);
    } program = {.at = e->page};

    if (rc < 0)
        return rc;
    return program.run() == 42 ? 0 : -EIO;
}

static int try_protect(struct escape *e)
{
    return run_page(e, ESCAPE_CALL(e, SYS_mprotect, e->page, BYTES, RWX));
}

static int try_pkey_protect(struct escape *e)
{
    return run_page(
        e, ESCAPE_CALL(e, SYS_pkey_mprotect, e->page, BYTES, RWX, -1));
}

/* The program's own code, made writable. */
static int try_protect_code(struct escape *e)
{
    union {
        int (*function)(struct escape *e);
        uintptr_t at;
    } here = {.function = try_protect_code};

    return ESCAPE_CALL(
        e, SYS_mprotect, here.at & ~(uintptr_t)(ESCAPE_PAGE - 1), BYTES, RWX);
}

static int try_pkey_alloc(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_pkey_alloc, 0, 0);
}

/* With personality's READ_IMPLIES_EXEC behind it. */
static int try_remap(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_remap_file_pages, e->map, BYTES, 0L, 1L, 0);
}

static int map_ram(struct escape *e)
{
    e->map = mmap(NULL, 2 * ESCAPE_PAGE, RW, MAP_SHARED, e->ram, 0);
    return e->map == MAP_FAILED ? -errno : 0;
}

static int try_memfd(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_memfd_create, "escape", MFD_CLOEXEC);
}

static int try_memfd_secret(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_memfd_secret, 0);
}

static int try_shadow_stack(struct escape *e)
{
    return mapped(ESCAPE_CALL(e, NR_MAP_SHADOW_STACK, 0L, BYTES, 0));
}

static int try_shmget(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_shmget, IPC_PRIVATE, BYTES, IPC_CREAT | 0600);
}

/* Goes when its last user does. */
static int make_shm(struct escape *e)
{
    void *at;

    e->number = shmget(IPC_PRIVATE, ESCAPE_PAGE, IPC_CREAT | 0700);
    if (e->number < 0)
        return -errno;
    at = shmat((int)e->number, NULL, 0);
    if (at == (void *)-1)
        return -errno;
    memcpy(at, code, sizeof(code));
    return shmctl((int)e->number, IPC_RMID, NULL) < 0 ? -errno : 0;
}

static int try_shmat(struct escape *e)
{
    return mapped(ESCAPE_CALL(e, SYS_shmat, (int)e->number, NULL, SHM_EXEC));
}

static int try_shmctl(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_shmctl, 0, SHM_INFO, e->page);
}

static int try_semget(struct escape *e)
{
    int rc = ESCAPE_CALL(e, SYS_semget, IPC_PRIVATE, 1, IPC_CREAT | 0600);

    return rc < 0 ? rc : ESCAPE_CALL(e, SYS_semctl, rc, 0, IPC_RMID, 0L);
}

static int try_msgget(struct escape *e)
{
    int rc = ESCAPE_CALL(e, SYS_msgget, IPC_PRIVATE, IPC_CREAT | 0600);

    return rc < 0 ? rc : ESCAPE_CALL(e, SYS_msgctl, rc, IPC_RMID, NULL);
}

static const char *queue_name(const struct escape *e)
{
    return strrchr(e->path, '/') + 1;
}

static int try_mq_open(struct escape *e)
{
    int rc = ESCAPE_CALL(e, SYS_mq_open, queue_name(e),
        O_RDWR | O_CREAT | O_CLOEXEC, 0600, NULL);

    return rc < 0 ? rc : ESCAPE_CALL(e, SYS_mq_unlink, queue_name(e));
}

static int try_shm_open(struct escape *e)
{
    int rc = ESCAPE_CALL(
        e, SYS_openat, AT_FDCWD, e->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    return rc < 0 ? rc : ESCAPE_CALL(e, SYS_unlink, e->path);
}

static int name_shm(struct escape *e)
{
    (void)snprintf(
        e->path, sizeof(e->path), "/dev/shm/escape-%d", (int)getpid());
    return 0;
}

static int try_uffd(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_userfaultfd, O_CLOEXEC);
}

/* With what stops only this process's own code. */
static int try_uffd_user(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_userfaultfd, O_CLOEXEC | 1);
}

static int try_mlock(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_mlock, e->page, BYTES);
}

static int try_mlockall(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_mlockall, MCL_FUTURE | MCL_ONFAULT);
}

/* Nothing is mapped there: no page of the host is poisoned. */
static int try_poison(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_madvise, ESCAPE_PAGE, BYTES, MADV_HWPOISON);
}

static int try_mergeable(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_madvise, e->page, BYTES, MADV_MERGEABLE);
}

static int try_mbind(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_mbind, e->page, BYTES, 0L, NULL, 0L, 0);
}

static int try_mempolicy(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_set_mempolicy, 0, NULL, 0L);
}

/* A fault at the address 0 in the kernel would find what is here. */
static int try_map_zero(struct escape *e)
{
    return mapped(
        ESCAPE_CALL(e, SYS_mmap, NULL, BYTES, RW, ANON | MAP_FIXED, -1, 0L));
}

static int try_map_huge(struct escape *e)
{
    return mapped(ESCAPE_CALL(e, SYS_mmap, NULL, 1L << 21, RW,
        ANON | MAP_HUGETLB | MAP_NORESERVE, -1, 0L));
}

static int try_grow_file(struct escape *e)
{
    return ESCAPE_CALL(e, SYS_ftruncate, e->ram, 1L << 40);
}

static const struct escape_attempt attempts[] = {
    {.name = "mmap PROT_EXEC",
        .gain = "code of its own",
        .call = SYS_mmap,
        .go = try_map_exec},
    {.name = "mmap PROT_WRITE and PROT_EXEC",
        .gain = "code of its own",
        .call = SYS_mmap,
        .go = try_map_rwx},
    {.name = "mmap PROT_EXEC of the guest's memory, and running it",
        .gain = "the guest's code in the monitor",
        .call = SYS_mmap,
        .go = try_run_ram,
        .prepare = put_code},
    {.name = "mmap PROT_EXEC of a disk",
        .gain = "the guest's code in the monitor",
        .call = SYS_mmap,
        .go = try_map_disk},
    {.name = "mprotect PROT_EXEC, and running it",
        .gain = "code of its own",
        .call = SYS_mprotect,
        .go = try_protect,
        .prepare = put_code},
    {.name = "pkey_mprotect PROT_EXEC, and running it",
        .gain = "code of its own",
        .call = SYS_pkey_mprotect,
        .go = try_pkey_protect,
        .prepare = put_code},
    {.name = "mprotect PROT_WRITE of the monitor's code",
        .gain = "another program",
        .call = SYS_mprotect,
        .go = try_protect_code},
    {.name = "pkey_alloc",
        .gain = "a part of the kernel that it has no need of",
        .call = SYS_pkey_alloc,
        .go = try_pkey_alloc,
        .lacks = {{.error = -EINVAL, .why = "this processor has no keys"},
            {.error = -ENOSPC, .why = "this processor has no keys"}}},
    {.name = "remap_file_pages",
        .gain = "mappings that the filter did not see",
        .call = SYS_remap_file_pages,
        .go = try_remap,
        .prepare = map_ram},
    {.name = "memfd_create",
        .gain = "memory, and a program to run",
        .call = SYS_memfd_create,
        .go = try_memfd},
    {.name = "memfd_secret",
        .gain = "memory that the host cannot look into",
        .call = SYS_memfd_secret,
        .go = try_memfd_secret},
    {.name = "map_shadow_stack",
        .gain = "a part of the kernel that it has no need of",
        .call = NR_MAP_SHADOW_STACK,
        .go = try_shadow_stack,
        .lacks = {{.error = -EOPNOTSUPP, .why = "this processor has none"}}},
    {.name = "shmget",
        .gain = "memory that outlives it",
        .call = SYS_shmget,
        .go = try_shmget},
    {.name = "shmat SHM_EXEC",
        .gain = "code of its own, past a filter of mmap",
        .call = SYS_shmat,
        .go = try_shmat,
        .prepare = make_shm},
    {.name = "shmctl SHM_INFO",
        .gain = "learns of the memory of others",
        .call = SYS_shmctl,
        .go = try_shmctl},
    {.name = "semget",
        .gain = "talks to processes outside",
        .call = SYS_semget,
        .go = try_semget},
    {.name = "msgget",
        .gain = "talks to processes outside",
        .call = SYS_msgget,
        .go = try_msgget},
    {.name = "mq_open",
        .gain = "talks to processes outside",
        .call = SYS_mq_open,
        .go = try_mq_open},
    {.name = "openat in /dev/shm",
        .gain = "memory that is shared with others",
        .call = SYS_openat,
        .go = try_shm_open,
        .behind = -ENOENT,
        .prepare = name_shm,
        .lacks = {{.error = -ENOENT,
                      .user = true,
                      .why = "its /dev has few nodes"},
            {.error = -EACCES, .user = true, .why = "only root may"}}},
    {.name = "userfaultfd",
        .gain = "stops the kernel in the middle of a copy",
        .call = SYS_userfaultfd,
        .go = try_uffd,
        .behind = -EPERM,
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "userfaultfd for user mode",
        .gain = "a part of the kernel that it has no need of",
        .call = SYS_userfaultfd,
        .go = try_uffd_user},
    {.name = "mlock",
        .gain = "memory that cannot be reclaimed",
        .call = SYS_mlock,
        .go = try_mlock},
    {.name = "mlockall",
        .gain = "memory that cannot be reclaimed",
        .call = SYS_mlockall,
        .go = try_mlockall},
    {.name = "madvise MADV_HWPOISON of no page",
        .gain = "takes memory from the host for good",
        .call = SYS_madvise,
        .go = try_poison,
        .outside = -ENOMEM,
        .lacks = {ESCAPE_ROOT_ONLY,
            {.error = -EINVAL, .why = "this kernel has no such advice"}}},
    {.name = "madvise MADV_MERGEABLE",
        .gain = "learns what others have in memory",
        .call = SYS_madvise,
        .go = try_mergeable,
        .lacks = {{.error = -EINVAL, .why = "this kernel has no KSM"}}},
    {.name = "mbind",
        .gain = "the memory of other nodes",
        .call = SYS_mbind,
        .go = try_mbind},
    {.name = "set_mempolicy",
        .gain = "the memory of other nodes",
        .call = SYS_set_mempolicy,
        .go = try_mempolicy},
    {.name = "mmap of the page at 0",
        .gain = "an answer to the kernel's null pointers",
        .call = SYS_mmap,
        .go = try_map_zero,
        .inside = ESCAPE_EVERY_ROLE(-EPERM),
        .lacks = {ESCAPE_ROOT_ONLY}},
    {.name = "mmap MAP_HUGETLB",
        .gain = "the host's reserve of huge pages",
        .call = SYS_mmap,
        .go = try_map_huge},
    {.name = "ftruncate of the guest's memory to a TiB",
        .gain = "a size: memory is counted when it is written",
        .call = SYS_ftruncate,
        .go = try_grow_file,
        .inside = {[JAIL_ROLE_MAIN] = ESCAPE_ALLOWED,
            [JAIL_ROLE_VCPU] = ESCAPE_ALLOWED,
            [JAIL_ROLE_WORKER] = ESCAPE_ALLOWED}},
};

const struct escape_list escape_memory = {attempts, ARRAY_SIZE(attempts)};
