/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire protocol between a host and the agent in its guest.
 *
 * Self-contained: C11 and <stdint.h>/<stddef.h>/<assert.h> only, so that the
 * guest and the host compile the same text. Everything here is a constant, a
 * type without padding or a pure function; no state, any thread.
 *
 * Every field is little-endian and a byte array: any offset in a buffer may
 * be overlaid or copied, and using one as a number without agent_le*_get()
 * does not compile. Whatever arrives is the peer's word and is checked by the
 * receiver; docs/agent-protocol.md is the prose for all that follows.
 */
#ifndef GUEST_AGENT_PROTO_H
#define GUEST_AGENT_PROTO_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* ---- transport -------------------------------------------------------- */

/* The context id of the host, as AF_VSOCK defines it. */
#define AGENT_HOST_CID 2u

/*
 * The guest port that the agent listens on. Below 1024, so that only a
 * privileged guest process can stand there in the agent's place.
 */
#define AGENT_PORT 777u

/*
 * The host port that the agent connects to once, when it is ready. The
 * agent's own end of that connection has the same number: a privileged guest
 * port again, by which a host tells the agent from any other guest process.
 */
#define AGENT_PORT_READY 778u

#define AGENT_MAGIC   0x47415053u /* "SPAG" */
#define AGENT_VERSION 1u

/* ---- little-endian fields --------------------------------------------- */

struct agent_le16 {
    uint8_t b[2];
};

struct agent_le32 {
    uint8_t b[4];
};

struct agent_le64 {
    uint8_t b[8];
};

static_assert(sizeof(struct agent_le16) == 2, "no padding");
static_assert(sizeof(struct agent_le32) == 4, "no padding");
static_assert(sizeof(struct agent_le64) == 8, "no padding");

static inline uint16_t agent_le16_get(struct agent_le16 v)
{
    return (uint16_t)((unsigned)v.b[0] | (unsigned)v.b[1] << 8);
}

static inline uint32_t agent_le32_get(struct agent_le32 v)
{
    return (uint32_t)v.b[0] | (uint32_t)v.b[1] << 8 | (uint32_t)v.b[2] << 16 |
           (uint32_t)v.b[3] << 24;
}

static inline uint64_t agent_le64_get(struct agent_le64 v)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 8; i++)
        value |= (uint64_t)v.b[i] << (8 * i);
    return value;
}

static inline struct agent_le16 agent_le16_put(uint16_t value)
{
    struct agent_le16 v = {{(uint8_t)(value & 0xff), (uint8_t)(value >> 8)}};

    return v;
}

static inline struct agent_le32 agent_le32_put(uint32_t value)
{
    struct agent_le32 v = {{0}};

    for (unsigned i = 0; i < 4; i++)
        v.b[i] = (uint8_t)(value >> (8 * i) & 0xff);
    return v;
}

static inline struct agent_le64 agent_le64_put(uint64_t value)
{
    struct agent_le64 v = {{0}};

    for (unsigned i = 0; i < 8; i++)
        v.b[i] = (uint8_t)(value >> (8 * i) & 0xff);
    return v;
}

/* ---- frames ----------------------------------------------------------- */

/* The largest payload of a frame, either way. */
#define AGENT_PAYLOAD_MAX 65536u

struct agent_frame {
    struct agent_le32 length; /* of the payload that follows */
    struct agent_le16 type;   /* enum agent_frame_type */
    struct agent_le16 flags;  /* 0 in version 1 */
};

static_assert(sizeof(struct agent_frame) == 8, "frame header");

#define AGENT_FRAME_MAX (sizeof(struct agent_frame) + AGENT_PAYLOAD_MAX)

enum agent_frame_type {
    /* agent to host, any operation */
    AGENT_HELLO = 0x0001, /* struct agent_hello, the first frame */
    AGENT_OK = 0x0002,    /* struct agent_ok; ends the operation */
    AGENT_ERROR = 0x0003, /* struct agent_error + text; ends it too */

    /* host to agent, the one request of a connection */
    AGENT_PING = 0x0100,        /* any bytes -> PONG with the same bytes */
    AGENT_EXEC = 0x0101,        /* struct agent_exec + strings */
    AGENT_COPY_IN = 0x0102,     /* struct agent_copy + path */
    AGENT_COPY_OUT = 0x0103,    /* struct agent_copy + path */
    AGENT_SET_TIME = 0x0104,    /* struct agent_time -> OK */
    AGENT_ADD_ENTROPY = 0x0105, /* 1..AGENT_ENTROPY_MAX bytes -> OK */
    AGENT_SYNC = 0x0106,        /* path or nothing -> OK */
    AGENT_FREEZE = 0x0107,      /* path or nothing -> OK */
    AGENT_THAW = 0x0108,        /* path or nothing -> OK */
    AGENT_POWEROFF = 0x0109,    /* struct agent_power -> OK */
    AGENT_REBOOT = 0x010a,      /* struct agent_power -> OK */
    AGENT_FORWARD = 0x010b,     /* struct agent_forward -> OK, then raw */

    /* host to agent, before the request of a connection; no answer */
    AGENT_GENERATION = 0x0140, /* struct agent_generation */

    /* agent to host */
    AGENT_PONG = 0x0180, /* the bytes of PING; ends the operation */

    /* host to agent, after EXEC */
    AGENT_STDIN = 0x0200,     /* 1.. bytes for the command */
    AGENT_STDIN_EOF = 0x0201, /* empty; the last of the input frames */
    AGENT_WINSIZE = 0x0202,   /* struct agent_winsize */
    AGENT_SIGNAL = 0x0203,    /* struct agent_signal */

    /* agent to host, after EXEC */
    AGENT_STARTED = 0x0280,   /* struct agent_started */
    AGENT_STDOUT = 0x0281,    /* 1.. bytes */
    AGENT_STDERR = 0x0282,    /* 1.. bytes */
    AGENT_STDIN_ACK = 0x0283, /* struct agent_stdin_ack */
    AGENT_EXIT = 0x0284,      /* struct agent_exit; ends the operation */

    /* from whichever side sends the tree, after COPY_IN or COPY_OUT */
    AGENT_ENTRY = 0x0300,    /* struct agent_entry + name [+ target] */
    AGENT_DATA = 0x0301,     /* struct agent_data + 1.. bytes */
    AGENT_FILE_END = 0x0302, /* struct agent_file_end */
    AGENT_COPY_END = 0x0303, /* struct agent_copy_end */
};

/* ---- HELLO ------------------------------------------------------------ */

/* Feature bits: an operation whose bit is missing answers EOPNOTSUPP. */
#define AGENT_FEATURE_EXEC       (1u << 0)
#define AGENT_FEATURE_TTY        (1u << 1)
#define AGENT_FEATURE_COPY       (1u << 2)
#define AGENT_FEATURE_TIME       (1u << 3)
#define AGENT_FEATURE_ENTROPY    (1u << 4)
#define AGENT_FEATURE_FREEZE     (1u << 5)
#define AGENT_FEATURE_POWER      (1u << 6) /* POWEROFF without FORCE */
#define AGENT_FEATURE_GENERATION (1u << 7)
#define AGENT_FEATURE_FORWARD    (1u << 8)

enum agent_position {
    AGENT_POSITION_INITRD = 1, /* process 1, and the root is the initrd */
    AGENT_POSITION_INIT = 2,   /* process 1 of a root file system */
    AGENT_POSITION_DAEMON = 3, /* a process of another init's system */
};

struct agent_hello {
    struct agent_le32 magic;   /* AGENT_MAGIC */
    struct agent_le16 version; /* AGENT_VERSION */
    uint8_t position;          /* enum agent_position */
    uint8_t reserved0;
    struct agent_le64 features;
    uint8_t boot_id[16];            /* of the kernel; zeros when unknown */
    uint8_t agent_version[16];      /* ASCII, padded with NUL */
    struct agent_le32 payload_max;  /* that this agent accepts */
    struct agent_le32 stdin_window; /* AGENT_STDIN_WINDOW of this agent */
    uint8_t reserved1[8];
};

static_assert(sizeof(struct agent_hello) == 64, "hello");
static_assert(offsetof(struct agent_hello, boot_id) == 16, "hello");

/* ---- ends of an operation --------------------------------------------- */

struct agent_ok {
    struct agent_le64 entries; /* COPY_IN: entries made; else 0 */
    struct agent_le64 bytes;   /* COPY_IN: file bytes written; else 0 */
};

static_assert(sizeof(struct agent_ok) == 16, "ok");

/* What the agent was doing when it failed. */
enum agent_stage {
    AGENT_STAGE_PROTOCOL = 1, /* a malformed or unexpected frame */
    AGENT_STAGE_RESOURCE = 2, /* descriptors, memory, process limits */
    AGENT_STAGE_USER = 3,     /* EXEC: no such user, or not permitted */
    AGENT_STAGE_CWD = 4,      /* EXEC: working directory */
    AGENT_STAGE_TTY = 5,      /* EXEC: pseudo terminal */
    AGENT_STAGE_EXEC = 6,     /* EXEC: see status */
    AGENT_STAGE_PATH = 7,     /* COPY, SYNC, FREEZE: the text names it */
    AGENT_STAGE_SYSTEM = 8,   /* the system call of the operation */
};

#define AGENT_ERROR_TEXT_MAX 256u

struct agent_error {
    struct agent_le32 error; /* Linux errno number, never 0 */
    struct agent_le16 stage; /* enum agent_stage */
    /*
     * EXEC: the exit status that a shell gives: 127 command not found,
     * 126 found but not executable, 125 the agent failed before that.
     * 0 for every other operation.
     */
    struct agent_le16 status;
    /* then 0..AGENT_ERROR_TEXT_MAX bytes of text, no NUL */
};

static_assert(sizeof(struct agent_error) == 8, "error");

/* ---- EXEC ------------------------------------------------------------- */

#define AGENT_EXEC_TTY       (1u << 0) /* one pseudo terminal, all on STDOUT */
#define AGENT_EXEC_STDIN     (1u << 1) /* STDIN frames follow; else /dev/null */
#define AGENT_EXEC_USER_NAME (1u << 2) /* user is a name; uid, gid unused */
#define AGENT_EXEC_ENV_EXACT (1u << 3) /* add nothing to the environment */
#define AGENT_EXEC_WAIT_EOF  (1u << 4) /* EXIT waits for end of file too */
#define AGENT_EXEC_DETACH    (1u << 5) /* outlives the connection */
#define AGENT_EXEC_FLAGS     0x3fu

/* argc + envc at most */
#define AGENT_EXEC_STRINGS_MAX 4096u

/*
 * Followed by exactly 2 + argc + envc strings, each ended by a NUL, the last
 * NUL being the last byte of the payload: user (empty without USER_NAME),
 * working directory (empty for the user's home, or /), argv, environment.
 */
struct agent_exec {
    struct agent_le32 flags;
    struct agent_le32 uid;
    struct agent_le32 gid;
    struct agent_le16 rows; /* TTY: 0 leaves the kernel's default */
    struct agent_le16 cols;
    struct agent_le16 argc; /* 1.. */
    struct agent_le16 envc;
    struct agent_le32 reserved; /* 0 */
};

static_assert(sizeof(struct agent_exec) == 24, "exec");

struct agent_started {
    struct agent_le32 pid; /* also its process group and session */
};

static_assert(sizeof(struct agent_started) == 4, "started");

/*
 * The host has at most this many bytes of STDIN outstanding: sent, but not
 * yet named by a STDIN_ACK. So SIGNAL and WINSIZE never queue behind input
 * that the command does not read.
 */
#define AGENT_STDIN_WINDOW 65536u

#define AGENT_STDIN_CLOSED (1u << 0) /* input is thrown away from now on */

struct agent_stdin_ack {
    struct agent_le32 bytes; /* delivered or thrown away since the last */
    struct agent_le32 flags;
};

static_assert(sizeof(struct agent_stdin_ack) == 8, "stdin_ack");

struct agent_winsize {
    struct agent_le16 rows;
    struct agent_le16 cols;
};

static_assert(sizeof(struct agent_winsize) == 4, "winsize");

#define AGENT_SIGNAL_PROCESS (1u << 0) /* not its process group */

struct agent_signal {
    struct agent_le32 signal; /* Linux number, 1..64 */
    struct agent_le32 flags;
};

static_assert(sizeof(struct agent_signal) == 8, "signal");

struct agent_exit {
    struct agent_le32 status; /* 0..255; 0 when a signal ended it */
    struct agent_le32 signal; /* that ended it, or 0 */
    struct agent_le32 core;   /* 1: and it dumped core */
    struct agent_le32 reserved;
    struct agent_le64 user_us;   /* processor time, user mode */
    struct agent_le64 system_us; /* processor time, kernel mode */
    struct agent_le64 max_rss_kib;
};

static_assert(sizeof(struct agent_exit) == 40, "exit");

/* ---- COPY ------------------------------------------------------------- */

#define AGENT_COPY_OWNER  (1u << 0) /* IN: set uid and gid; else root's */
#define AGENT_COPY_TIMES  (1u << 1) /* IN: set mtime */
#define AGENT_COPY_MKDIR  (1u << 2) /* IN: make path and its parents */
#define AGENT_COPY_FOLLOW (1u << 3) /* OUT: path may be a symbolic link */
#define AGENT_COPY_FLAGS  0xfu

#define AGENT_PATH_MAX  4095u /* bytes without the NUL */
#define AGENT_NAME_MAX  255u  /* of one component */
#define AGENT_DEPTH_MAX 64u   /* directories below the top, COPY_OUT */

struct agent_copy {
    struct agent_le32 flags;
    struct agent_le32 reserved; /* 0 */
    /* then the absolute path, ended by a NUL, the last byte */
};

static_assert(sizeof(struct agent_copy) == 8, "copy");

enum agent_entry_type {
    AGENT_ENTRY_FILE = 1, /* DATA..., FILE_END follow */
    AGENT_ENTRY_DIR = 2,
    AGENT_ENTRY_SYMLINK = 3, /* the target follows the name */
};

#define AGENT_SIZE_UNKNOWN UINT64_MAX

/*
 * Followed by the name, ended by a NUL, and for a symbolic link by its
 * target, ended by a NUL; the last NUL is the last byte of the payload. The
 * name is "." (the top itself) or components joined by single slashes, none
 * of them empty, "." or "..".
 */
struct agent_entry {
    uint8_t type;           /* enum agent_entry_type */
    uint8_t closing;        /* DIR: 1 = sent again, after what it contains */
    uint8_t reserved[2];    /* 0 */
    struct agent_le32 mode; /* permission bits, 0..07777 */
    struct agent_le32 uid;
    struct agent_le32 gid;
    struct agent_le64 size;      /* FILE: a hint, or AGENT_SIZE_UNKNOWN */
    struct agent_le64 mtime_s;   /* two's complement */
    struct agent_le32 mtime_ns;  /* 0..999999999 */
    struct agent_le32 reserved1; /* 0 */
};

static_assert(sizeof(struct agent_entry) == 40, "entry");

struct agent_data {
    struct agent_le64 offset; /* >= the end of the frame before: holes */
    /* then 1..AGENT_DATA_MAX bytes */
};

static_assert(sizeof(struct agent_data) == 8, "data");

#define AGENT_DATA_MAX (AGENT_PAYLOAD_MAX - sizeof(struct agent_data))

struct agent_file_end {
    struct agent_le64 size;     /* final; >= the end of the last DATA */
    struct agent_le32 error;    /* errno: the sender could not read it all */
    struct agent_le32 reserved; /* 0 */
};

static_assert(sizeof(struct agent_file_end) == 16, "file_end");

struct agent_copy_end {
    struct agent_le64 entries; /* sent; a closing one does not count */
    struct agent_le64 skipped; /* devices, sockets, pipes: not sent */
};

static_assert(sizeof(struct agent_copy_end) == 16, "copy_end");

/* ---- the rest --------------------------------------------------------- */

struct agent_time {
    struct agent_le64 sec;      /* since 1970, UTC */
    struct agent_le32 nsec;     /* 0..999999999 */
    struct agent_le32 reserved; /* 0 */
};

static_assert(sizeof(struct agent_time) == 16, "time");

#define AGENT_ENTROPY_MAX 512u

/*
 * The guest goes on from a snapshot, perhaps beside others that do. The agent
 * acts on each id once, so every connection may begin with it.
 */
#define AGENT_GENERATION_TIME  (1u << 0) /* `time` is the host's: set it */
#define AGENT_GENERATION_FLAGS 0x1u
#define AGENT_GENERATION_ID    16u
#define AGENT_GENERATION_SEED  32u

struct agent_generation {
    uint8_t id[AGENT_GENERATION_ID]; /* not all zero */
    struct agent_le32 flags;
    struct agent_le32 reserved;          /* 0 */
    struct agent_time time;              /* zeros without the flag */
    uint8_t seed[AGENT_GENERATION_SEED]; /* random bytes */
};

static_assert(sizeof(struct agent_generation) == 72, "generation");

/*
 * A TCP port on the guest's loopback. Behind the OK the connection is that
 * server's, byte for byte; what the host sends behind the request already is.
 */
struct agent_forward {
    struct agent_le16 port;     /* 1.. */
    struct agent_le16 reserved; /* 0 */
    struct agent_le32 flags;    /* 0 */
};

static_assert(sizeof(struct agent_forward) == 8, "forward");

#define AGENT_POWER_FORCE        (1u << 0) /* also beside another init */
#define AGENT_POWER_NOSYNC       (1u << 1)
#define AGENT_POWER_FLAGS        0x3u
#define AGENT_POWER_GRACE_MAX_MS 60000u

struct agent_power {
    struct agent_le32 flags;
    struct agent_le32 grace_ms; /* from SIGTERM to SIGKILL; 0: no SIGTERM */
};

static_assert(sizeof(struct agent_power) == 8, "power");

#endif
