/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/support/agent_peer.h"

static struct peer_agent agent;
static struct peer peer;
static char dir[64];   /* of this test, removed at its end */
static char path[256]; /* scratch of in() */

static const char *in(const char *name)
{
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static int start_agent(void **state)
{
    (void)state;
    peer_start_agent(&agent);
    return 0;
}

static int stop_agent(void **state)
{
    (void)state;
    return peer_stop_agent(&agent);
}

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/spore-agent-copy-XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int remove_dir(void **state)
{
    struct peer_result r;
    char script[128];

    (void)state;
    (void)snprintf(script, sizeof(script), "rm -rf %s", dir);
    peer_shell(&agent, 0, script, &r);
    peer_result_fini(&r);
    return 0;
}

/* ---- sending ---------------------------------------------------------- */

static bool begin(uint16_t type, uint32_t flags, const char *where)
{
    struct agent_copy head = {.flags = agent_le32_put(flags)};
    uint8_t buf[512];
    size_t n = strlen(where) + 1;

    assert_true(n < sizeof(buf) - sizeof(head));
    memcpy(buf, &head, sizeof(head));
    memcpy(buf + sizeof(head), where, n);
    peer_connect(&agent, &peer);
    return peer_send(&peer, type, buf, sizeof(head) + n);
}

static bool send_entry(enum agent_entry_type type, const char *name,
    const char *target, uint32_t mode)
{
    struct agent_entry head = {
        .type = (uint8_t)type,
        .mode = agent_le32_put(mode),
        .uid = agent_le32_put(geteuid()),
        .gid = agent_le32_put(getegid()),
        .mtime_s = agent_le64_put(1234567890),
        .mtime_ns = agent_le32_put(5),
    };
    static uint8_t buf[AGENT_PAYLOAD_MAX];
    size_t n = sizeof(head);

    memcpy(buf, &head, n);
    memcpy(buf + n, name, strlen(name) + 1);
    n += strlen(name) + 1;
    if (target != NULL) {
        memcpy(buf + n, target, strlen(target) + 1);
        n += strlen(target) + 1;
    }
    return peer_send(&peer, AGENT_ENTRY, buf, n);
}

static bool send_data(uint64_t offset, const void *bytes, size_t n)
{
    static uint8_t buf[AGENT_PAYLOAD_MAX];
    struct agent_data head = {.offset = agent_le64_put(offset)};

    assert_true(n <= AGENT_DATA_MAX);
    memcpy(buf, &head, sizeof(head));
    memcpy(buf + sizeof(head), bytes, n);
    return peer_send(&peer, AGENT_DATA, buf, sizeof(head) + n);
}

static bool send_file_end(uint64_t size, uint32_t error)
{
    struct agent_file_end end = {
        .size = agent_le64_put(size),
        .error = agent_le32_put(error),
    };

    return peer_send(&peer, AGENT_FILE_END, &end, sizeof(end));
}

static void finish(struct peer_result *r)
{
    struct agent_copy_end end = {.entries = agent_le64_put(0)};

    /* An agent that has refused before may be gone already. */
    (void)peer_send(&peer, AGENT_COPY_END, &end, sizeof(end));
    peer_result_init(r);
    peer_collect(&peer, r);
    peer_close(&peer);
}

static void expect_ok(uint64_t entries)
{
    struct peer_result r;

    finish(&r);
    assert_false(r.has_error);
    assert_true(r.has_ok);
    assert_int_equal(r.entries, entries);
    peer_result_fini(&r);
}

static void expect_error(uint16_t stage, uint32_t error)
{
    struct peer_result r;

    finish(&r);
    assert_true(r.has_error);
    assert_int_equal(r.stage, stage);
    assert_int_equal(r.error, error);
    peer_result_fini(&r);
}

static void send_text_file(const char *name, const char *text, uint32_t mode)
{
    size_t n = strlen(text);

    assert_true(send_entry(AGENT_ENTRY_FILE, name, NULL, mode));
    if (n > 0)
        assert_true(send_data(0, text, n));
    assert_true(send_file_end(n, 0));
}

static void expect_text(const char *name, const char *text)
{
    char buf[256];
    ssize_t n;
    int fd = open(in(name), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    n = read(fd, buf, sizeof(buf));
    close(fd);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(buf, text, strlen(text));
}

/* ---- copying in ------------------------------------------------------- */

static void test_tree_in(void **state)
{
    const uint32_t flags = AGENT_COPY_TIMES | AGENT_COPY_OWNER;
    struct stat st;
    char target[64];
    ssize_t n;

    (void)state;
    assert_true(begin(AGENT_COPY_IN, flags, dir));
    assert_true(send_entry(AGENT_ENTRY_DIR, "a", NULL, 0755));
    assert_true(send_entry(AGENT_ENTRY_DIR, "a/b", NULL, 0700));
    send_text_file("a/b/one", "first\n", 0640);
    send_text_file("a/empty", "", 04755);
    send_text_file("a/ odd\n\"name'\\\t\x01\xff", "odd", 0600);
    assert_true(send_entry(AGENT_ENTRY_SYMLINK, "a/link", "../../out", 0777));
    expect_ok(6);

    expect_text("a/b/one", "first\n");
    expect_text("a/ odd\n\"name'\\\t\x01\xff", "odd");
    assert_int_equal(lstat(in("a/b/one"), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0640);
    assert_int_equal(st.st_mtim.tv_sec, 1234567890);
    assert_int_equal(st.st_mtim.tv_nsec, 5);
    assert_int_equal(lstat(in("a/empty"), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 04755);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(lstat(in("a/b"), &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    n = readlink(in("a/link"), target, sizeof(target));
    assert_int_equal(n, 9);
    assert_memory_equal(target, "../../out", 9);
    assert_int_equal(lstat(in("a/link"), &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 1234567890);
}

static void test_existing_files_are_replaced(void **state)
{
    struct stat before;
    struct stat after;
    char victim[sizeof(path)];

    (void)state;
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    send_text_file("outside", "untouched", 0644);
    send_text_file("plain", "old and longer", 0644);
    assert_true(send_entry(AGENT_ENTRY_SYMLINK, "link", "outside", 0777));
    expect_ok(3);
    (void)snprintf(victim, sizeof(victim), "%s", in("plain"));
    assert_int_equal(link(victim, in("hard")), 0);
    assert_int_equal(stat(victim, &before), 0);

    assert_true(begin(AGENT_COPY_IN, 0, dir));
    send_text_file("plain", "new", 0644);
    send_text_file("link", "a file now", 0644);
    assert_true(send_entry(AGENT_ENTRY_SYMLINK, "plain2", "x", 0777));
    assert_true(send_entry(AGENT_ENTRY_SYMLINK, "plain2", "y", 0777));
    expect_ok(4);
    expect_text("plain", "new");
    expect_text("hard", "old and longer");
    expect_text("link", "a file now");
    expect_text("outside", "untouched");
    assert_int_equal(stat(in("plain"), &after), 0);
    assert_true(before.st_ino != after.st_ino);
}

static void test_large_and_sparse_file_in(void **state)
{
    const uint64_t hole = 1u << 30;
    static uint8_t block[AGENT_DATA_MAX];
    uint64_t at = 0;
    struct stat st;
    uint8_t byte;
    int fd;

    (void)state;
    memset(block, 0x5a, sizeof(block));
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    assert_true(send_entry(AGENT_ENTRY_FILE, "big", NULL, 0644));
    for (int i = 0; i < 100; i++, at += sizeof(block))
        assert_true(send_data(at, block, sizeof(block)));
    assert_true(send_data(hole, "x", 1));
    assert_true(send_file_end(hole + 4096, 0));
    expect_ok(1);

    fd = open(in("big"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, hole + 4096);
    assert_true(st.st_blocks < 1 << 16);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at - 1), 1);
    assert_int_equal(byte, 0x5a);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    assert_int_equal(byte, 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)hole), 1);
    assert_int_equal(byte, 'x');
    close(fd);
}

static void test_names_that_lead_out_are_refused(void **state)
{
    static const char *const names[] = {
        "..",
        "../x",
        "/etc/x",
        "a/../../x",
        "a//b",
        "",
        "a/",
        "./x",
        "a/.",
        "/",
        "a/..",
        "x/./y",
    };
    char longer[AGENT_NAME_MAX + 2];

    (void)state;
    memset(longer, 'n', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_true(begin(AGENT_COPY_IN, 0, dir));
        (void)send_entry(AGENT_ENTRY_DIR, names[i], NULL, 0755);
        expect_error(AGENT_STAGE_PROTOCOL, EPROTO);
    }
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    (void)send_entry(AGENT_ENTRY_DIR, longer, NULL, 0755);
    expect_error(AGENT_STAGE_PROTOCOL, EPROTO);
    longer[AGENT_NAME_MAX] = '\0';
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    assert_true(send_entry(AGENT_ENTRY_DIR, longer, NULL, 0755));
    expect_ok(1);
}

static void test_links_are_not_followed(void **state)
{
    struct stat st;

    (void)state;
    /* The tree brings the link itself, then tries to go through it. */
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    assert_true(send_entry(AGENT_ENTRY_DIR, "outside", NULL, 0755));
    assert_true(send_entry(AGENT_ENTRY_DIR, "top", NULL, 0755));
    assert_true(send_entry(AGENT_ENTRY_SYMLINK, "top/up", "../outside", 0777));
    assert_true(send_entry(AGENT_ENTRY_SYMLINK, "top/abs", "/tmp", 0777));
    expect_ok(4);

    assert_true(begin(AGENT_COPY_IN, 0, in("top")));
    (void)send_entry(AGENT_ENTRY_FILE, "up/x", NULL, 0644);
    expect_error(AGENT_STAGE_PATH, ELOOP);
    assert_true(begin(AGENT_COPY_IN, 0, in("top")));
    (void)send_entry(AGENT_ENTRY_FILE, "abs/spore-agent-x", NULL, 0644);
    expect_error(AGENT_STAGE_PATH, ELOOP);
    assert_true(begin(AGENT_COPY_IN, 0, in("top")));
    (void)send_entry(AGENT_ENTRY_DIR, "up/d/e", NULL, 0755);
    expect_error(AGENT_STAGE_PATH, ELOOP);
    /* A directory in the link's place keeps the link and fails. */
    assert_true(begin(AGENT_COPY_IN, 0, in("top")));
    (void)send_entry(AGENT_ENTRY_DIR, "up", NULL, 0);
    expect_error(AGENT_STAGE_PATH, ENOTDIR);
    assert_int_equal(lstat(in("outside/x"), &st), -1);
    assert_int_equal(lstat(in("outside"), &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0755);
    assert_int_equal(lstat("/tmp/spore-agent-x", &st), -1);
}

static void test_destination(void **state)
{
    struct stat st;

    (void)state;
    assert_true(begin(AGENT_COPY_IN, 0, in("not/there")));
    expect_error(AGENT_STAGE_PATH, ENOENT);
    assert_true(begin(AGENT_COPY_IN, AGENT_COPY_MKDIR, in("not/there/yet")));
    send_text_file("f", "text", 0644);
    expect_ok(1);
    expect_text("not/there/yet/f", "text");
    assert_true(begin(AGENT_COPY_IN, AGENT_COPY_MKDIR, in("not/there/yet/f")));
    expect_error(AGENT_STAGE_PATH, ENOTDIR);
    assert_true(begin(AGENT_COPY_IN, 0, in("not")));
    assert_true(send_entry(AGENT_ENTRY_DIR, ".", NULL, 0711));
    expect_ok(1);
    assert_int_equal(stat(in("not"), &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0711);
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    (void)send_entry(AGENT_ENTRY_FILE, ".", NULL, 0644);
    expect_error(AGENT_STAGE_PATH, EISDIR);
}

static void test_order_of_a_file_is_enforced(void **state)
{
    struct stat st;

    (void)state;
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    (void)send_data(0, "x", 1); /* no file */
    expect_error(AGENT_STAGE_PROTOCOL, EPROTO);
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    (void)send_file_end(0, 0);
    expect_error(AGENT_STAGE_PROTOCOL, EPROTO);
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    assert_true(send_entry(AGENT_ENTRY_FILE, "f", NULL, 0644));
    (void)send_entry(AGENT_ENTRY_FILE, "g", NULL, 0644);
    expect_error(AGENT_STAGE_PROTOCOL, EPROTO);
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    assert_true(send_entry(AGENT_ENTRY_FILE, "f", NULL, 0644));
    expect_error(AGENT_STAGE_PROTOCOL, EPROTO); /* COPY_END inside */
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    assert_true(send_entry(AGENT_ENTRY_FILE, "f", NULL, 0644));
    assert_true(send_data(10, "xy", 2));
    (void)send_data(11, "x", 1); /* backwards */
    expect_error(AGENT_STAGE_PROTOCOL, EPROTO);
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    assert_true(send_entry(AGENT_ENTRY_FILE, "f", NULL, 0644));
    assert_true(send_data(10, "xy", 2));
    (void)send_file_end(11, 0); /* shorter than its data */
    expect_error(AGENT_STAGE_PROTOCOL, EPROTO);
    assert_true(begin(AGENT_COPY_IN, 0, dir));
    assert_true(send_entry(AGENT_ENTRY_FILE, "broken", NULL, 0644));
    assert_true(send_data(0, "half", 4));
    (void)send_file_end(4, EIO);
    expect_error(AGENT_STAGE_PATH, EIO);
    assert_int_equal(lstat(in("broken"), &st), -1);
}

/* ---- copying out ------------------------------------------------------ */

struct seen {
    char listing[4096]; /* "d . ", "f a 5 ", in order; closing ones "D" */
    uint8_t data[1 << 16];
    uint64_t bytes;
    uint64_t size;
    uint64_t entries;
    uint64_t skipped;
    uint32_t error;
    bool ended;
};

static struct seen seen;

static void see_entry(const struct peer_frame *frame)
{
    static const char letters[] = "?fdl";
    struct agent_entry head;
    const char *name;
    size_t at = strlen(seen.listing);
    const char *target = "";
    const char *arrow = "";

    assert_true(frame->length > sizeof(head));
    assert_int_equal(frame->payload[frame->length - 1], 0);
    memcpy(&head, frame->payload, sizeof(head));
    assert_in_range(head.type, AGENT_ENTRY_FILE, AGENT_ENTRY_SYMLINK);
    name = (const char *)frame->payload + sizeof(head);
    if (head.type == AGENT_ENTRY_SYMLINK) {
        arrow = ">";
        target = name + strlen(name) + 1;
    }
    (void)snprintf(seen.listing + at, sizeof(seen.listing) - at,
        "%c:%s%s%s:%o|", head.closing ? 'D' : letters[head.type], name, arrow,
        target, agent_le32_get(head.mode));
}

static void see(const struct peer_frame *frame)
{
    struct agent_copy_end copy_end;
    struct agent_file_end file_end;
    struct agent_error error;
    struct agent_data data;
    uint64_t offset;
    size_t n;

    switch (frame->type) {
    case AGENT_ENTRY:
        see_entry(frame);
        break;
    case AGENT_DATA:
        memcpy(&data, frame->payload, sizeof(data));
        offset = agent_le64_get(data.offset);
        n = frame->length - sizeof(data);
        assert_true(n > 0);
        if (offset + n <= sizeof(seen.data))
            memcpy(seen.data + offset, frame->payload + sizeof(data), n);
        seen.bytes += n;
        break;
    case AGENT_FILE_END:
        memcpy(&file_end, frame->payload, sizeof(file_end));
        assert_int_equal(agent_le32_get(file_end.error), 0);
        seen.size = agent_le64_get(file_end.size);
        break;
    case AGENT_COPY_END:
        memcpy(&copy_end, frame->payload, sizeof(copy_end));
        seen.entries = agent_le64_get(copy_end.entries);
        seen.skipped = agent_le64_get(copy_end.skipped);
        seen.ended = true;
        break;
    case AGENT_ERROR:
        memcpy(&error, frame->payload, sizeof(error));
        seen.error = agent_le32_get(error.error);
        break;
    default:
        fail_msg("unexpected frame of type 0x%x", frame->type);
    }
}

static void copy_out(uint32_t flags, const char *what)
{
    struct peer_frame frame;

    memset(&seen, 0, sizeof(seen));
    assert_true(begin(AGENT_COPY_OUT, flags, what));
    while (peer_recv(&peer, &frame))
        see(&frame);
    peer_close(&peer);
}

static void put_file(const char *name, const char *text)
{
    int fd = open(in(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, 0644), 0);
    close(fd);
}

static bool lists(const char *what)
{
    return strstr(seen.listing, what) != NULL;
}

static void test_tree_out(void **state)
{
    char socket_path[sizeof(path)];

    (void)state;
    assert_int_equal(mkdir(in("d"), 0700), 0);
    assert_int_equal(mkdir(in("d/sub"), 0700), 0);
    assert_int_equal(mkdir(in("d/sub/deep"), 0700), 0);
    put_file("d/sub/deep/f", "deep");
    put_file("d/\n odd \xff", "odd");
    assert_int_equal(symlink("/etc/passwd", in("d/link")), 0);
    (void)snprintf(socket_path, sizeof(socket_path), "%s", in("d/fifo"));
    assert_int_equal(mkfifo(socket_path, 0600), 0);
    copy_out(0, in("d"));
    assert_true(seen.ended);
    assert_int_equal(seen.error, 0);
    assert_int_equal(seen.entries, 6);
    assert_int_equal(seen.skipped, 1);
    assert_int_equal(strncmp(seen.listing, "d:.:700|", 8), 0);
    assert_true(lists("d:sub:700|d:sub/deep:700|f:sub/deep/f:644|"
                      "D:sub/deep:700|D:sub:700|"));
    assert_true(lists("f:\n odd \xff:644|"));
    assert_true(lists("l:link>/etc/passwd:777|"));
    assert_false(lists("fifo"));
    assert_string_equal(seen.listing + strlen(seen.listing) - 8, "D:.:700|");
}

static void test_single_file_and_link_out(void **state)
{
    (void)state;
    put_file("f", "some text");
    assert_int_equal(symlink("f", in("l")), 0);
    copy_out(0, in("f"));
    assert_true(seen.ended);
    assert_string_equal(seen.listing, "f:.:644|");
    assert_int_equal(seen.size, 9);
    assert_memory_equal(seen.data, "some text", 9);
    copy_out(0, in("l"));
    assert_string_equal(seen.listing, "l:.>f:777|");
    copy_out(AGENT_COPY_FOLLOW, in("l"));
    assert_string_equal(seen.listing, "f:.:644|");
    copy_out(0, in("missing"));
    assert_false(seen.ended);
    assert_int_equal(seen.error, ENOENT);
    copy_out(0, "/dev/null");
    assert_int_equal(seen.error, EOPNOTSUPP);
    copy_out(0, "/proc/version"); /* says that its size is 0 */
    assert_true(seen.size > 10);
    assert_memory_equal(seen.data, "Linux", 5);
}

static void test_many_names_out(void **state)
{
    char name[64];

    (void)state;
    /* More than one reading of the directory, with directories between. */
    assert_int_equal(mkdir(in("m"), 0700), 0);
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "m/%03d-some-longer-name", i);
        if (i % 3 == 0)
            assert_int_equal(mkdir(in(name), 0700), 0);
        else
            put_file(name, name);
    }
    copy_out(0, in("m"));
    assert_true(seen.ended);
    assert_int_equal(seen.entries, 301);
    assert_int_equal(seen.bytes, 200 * strlen("m/000-some-longer-name"));
}

static void test_sparse_file_out(void **state)
{
    int fd = open(in("s"), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "begin", 5, 0), 5);
    assert_int_equal(pwrite(fd, "end", 3, 1 << 30), 3);
    assert_int_equal(ftruncate(fd, (1 << 30) + (1 << 20)), 0);
    close(fd);
    copy_out(0, in("s"));
    assert_true(seen.ended);
    assert_int_equal(seen.size, (1 << 30) + (1 << 20));
    assert_true(seen.bytes < 1 << 20);
    assert_memory_equal(seen.data, "begin", 6);
}

static void test_depth_is_limited(void **state)
{
    char name[256] = "x";

    (void)state;
    assert_int_equal(mkdir(in(name), 0700), 0);
    for (unsigned i = 0; i < AGENT_DEPTH_MAX; i++) {
        strcat(name, "/d");
        assert_int_equal(mkdir(in(name), 0700), 0);
    }
    copy_out(0, in("x"));
    assert_true(seen.ended);
    assert_int_equal(seen.entries, AGENT_DEPTH_MAX + 1);
    strcat(name, "/d");
    assert_int_equal(mkdir(in(name), 0700), 0);
    copy_out(0, in("x"));
    assert_false(seen.ended);
    assert_int_equal(seen.error, ENAMETOOLONG);
}

/* What COPY_OUT sends, COPY_IN takes. */
static void test_tree_there_and_back(void **state)
{
    struct peer_result r;
    char script[512];
    struct peer_frame frame;
    static struct peer from;
    struct peer to;

    (void)state;
    (void)snprintf(script, sizeof(script),
        "cd %s && mkdir -p s/a/b s/c t && seq 20000 >s/a/n && "
        "cp -p s/a/n s/a/b/x && ln -s ../a/n s/c/l && "
        "chmod 751 s/c && touch -d @1000000000 s/a/b s/a s",
        dir);
    peer_shell(&agent, 0, script, &r);
    assert_int_equal(r.status, 0);
    peer_result_fini(&r);

    assert_true(begin(AGENT_COPY_OUT, 0, in("s")));
    from = peer;
    assert_true(
        begin(AGENT_COPY_IN, AGENT_COPY_TIMES | AGENT_COPY_OWNER, in("t")));
    to = peer;
    while (peer_recv(&from, &frame))
        assert_true(peer_send(&to, frame.type, frame.payload, frame.length));
    peer_close(&from);
    peer_result_init(&r);
    peer_collect(&to, &r);
    peer_close(&to);
    assert_true(r.has_ok);
    assert_int_equal(r.entries, 7);
    assert_int_equal(r.bytes, 2 * 108894);
    peer_result_fini(&r);

    (void)snprintf(script, sizeof(script),
        "cd %s/s && find . -printf '%%p %%y %%m %%T@ %%l\\n' | "
        "sort >../1 && cd ../t && "
        "find . -printf '%%p %%y %%m %%T@ %%l\\n' | sort >../2 && "
        "cmp ../1 ../2 && diff -r --no-dereference ../s .",
        dir);
    peer_shell(&agent, 0, script, &r);
    assert_int_equal(r.status, 0);
    peer_result_fini(&r);
}

#define in_dir(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_dir(test_tree_in),
        in_dir(test_existing_files_are_replaced),
        in_dir(test_large_and_sparse_file_in),
        in_dir(test_names_that_lead_out_are_refused),
        in_dir(test_links_are_not_followed),
        in_dir(test_destination),
        in_dir(test_order_of_a_file_is_enforced),
        in_dir(test_tree_out),
        in_dir(test_single_file_and_link_out),
        in_dir(test_many_names_out),
        in_dir(test_sparse_file_out),
        in_dir(test_depth_is_limited),
        in_dir(test_tree_there_and_back),
    };

    return cmocka_run_group_tests(tests, start_agent, stop_agent);
}
