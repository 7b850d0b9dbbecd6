/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest/agent/proto.h"
#include "tests/unit/support/agent_peer.h"
#include "vmm/base/fd.h"
#include "vmm/guest_copy.h"

#define FILE_SIZE 1048593u

struct fixture {
    char root[64];
    int dir;  /* of root */
    int host; /* our end of a connection to a pretended agent */
    int agent;
    struct peer_agent real;
    bool has_real;
    struct guest_copy_options options;
    struct guest_copy_result result;
    struct err err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int fds[2];

    assert_non_null(f);
    (void)strcpy(f->root, "/tmp/test_guest_copy.XXXXXX");
    assert_non_null(mkdtemp(f->root));
    f->dir = open(f->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    f->host = fds[0];
    f->agent = fds[1];
    f->options.max_bytes = GUEST_COPY_BYTES_DEFAULT;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[100];

    if (f->has_real)
        assert_int_equal(peer_stop_agent(&f->real), 0);
    fd_closep(&f->host);
    fd_closep(&f->agent);
    fd_closep(&f->dir);
    (void)snprintf(command, sizeof(command), "rm -rf %s", f->root);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static void shell(struct fixture *f, const char *script)
{
    char command[2048];

    (void)snprintf(
        command, sizeof(command), "cd %s && { %s; }", f->root, script);
    if (system(command) != 0) {
        print_error("failed: %s\n", script);
        fail();
    }
}

/* ---- with the real agent ----------------------------------------------- */

static int connect_real(struct fixture *f)
{
    struct peer *p = calloc(1, sizeof(*p));
    int fd;

    assert_non_null(p);
    if (!f->has_real)
        peer_start_agent(&f->real);
    f->has_real = true;
    peer_open(&f->real, p);
    fd = p->fd;
    free(p);
    assert_int_equal(fd_set_nonblocking(fd, false), 0);
    return fd;
}

static int put(
    struct fixture *f, const char *src, const char *dst, const char *name)
{
    int fd = connect_real(f);
    char path[200];
    int rc;

    (void)snprintf(path, sizeof(path), "%s/%s", f->root, dst);
    rc = guest_copy_in(
        fd, f->dir, src, path, name, &f->options, &f->result, &f->err);
    (void)close(fd);
    return rc;
}

static int get(
    struct fixture *f, const char *src, const char *dst, const char *name)
{
    int fd = connect_real(f);
    int dir = openat(f->dir, dst, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char path[200];
    int rc;

    assert_true(dir >= 0);
    (void)snprintf(path, sizeof(path), "%s/%s", f->root, src);
    rc = guest_copy_out(fd, path, dir, name, &f->options, &f->result, &f->err);
    (void)close(dir);
    (void)close(fd);
    return rc;
}

#define MAKE_TREE                                                              \
    "mkdir -p in out src/deep/er src/empty && "                                \
    "head -c 1048593 /dev/urandom > src/big && : > src/nothing && "            \
    "printf x > src/deep/er/'a name with spaces' && chmod 640 src/big && "     \
    "chmod 750 src/deep && ln -s ../big src/deep/link && "                     \
    "ln -s /etc/passwd src/absolute && ln -s nowhere src/dangling && "         \
    "truncate -s 3M src/sparse && printf y | dd of=src/sparse bs=1 "           \
    "seek=2000000 conv=notrunc status=none"

/* Names, kinds, modes, sizes, targets; and what is in the files. */
#define COMPARE(a, b)                                                          \
    "(cd " a " && find . -mindepth 1 ! -type l -printf '%P %y %m\\n' && "      \
    "find . -type l -printf '%P %l\\n' && "                                    \
    "find . -type f -exec sha256sum {} +) | sort > 1; "                        \
    "(cd " b " && find . -mindepth 1 ! -type l -printf '%P %y %m\\n' && "      \
    "find . -type l -printf '%P %l\\n' && "                                    \
    "find . -type f -exec sha256sum {} +) | sort > 2; cmp 1 2"

static void a_tree_goes_in_and_comes_out(void **state)
{
    struct fixture *f = *state;

    shell(f, MAKE_TREE);
    assert_int_equal(put(f, "src", "in", "tree"), 0);
    assert_int_equal(f->result.entries, 11);
    /* The agent counts what was written, not holes. */
    assert_in_range(f->result.bytes, FILE_SIZE + 2, FILE_SIZE + 1024 * 1024);
    shell(f, COMPARE("src", "in/tree"));
    assert_int_equal(get(f, "in/tree", "out", "back"), 0);
    assert_int_equal(f->result.entries, 11);
    assert_int_equal(f->result.bytes, FILE_SIZE + 1 + 3 * 1024 * 1024);
    shell(f, COMPARE("src", "out/back"));
    /* A hole stays one. */
    shell(f, "test $(stat -c %b in/tree/sparse) -lt 1000");
    shell(f, "test $(stat -c %b out/back/sparse) -lt 1000");
    /* Once more, over what is there. */
    assert_int_equal(put(f, "src", "in", "tree"), 0);
    assert_int_equal(get(f, "in/tree", "out", "back"), 0);
    shell(f, COMPARE("src", "out/back"));
}

static void contents_of_a_folder(void **state)
{
    struct fixture *f = *state;

    shell(f, MAKE_TREE);
    assert_int_equal(put(f, "src", "in/new/er", "."), 0);
    shell(f, COMPARE("src", "in/new/er"));
    assert_int_equal(get(f, "in/new/er", "out", "."), 0);
    shell(f, COMPARE("src", "out"));
}

static void one_file_under_another_name(void **state)
{
    struct fixture *f = *state;

    shell(f, MAKE_TREE "; ln -s src/big link; printf old > out/file");
    assert_int_equal(put(f, "link", "in", "file"), 0);
    shell(f, "cmp src/big in/file && test ! -L in/file");
    assert_int_equal(get(f, "in/file", "out", "file"), 0);
    shell(f, "cmp src/big out/file");
    assert_int_equal(f->result.entries, 1);
}

static void modes_times_and_owners(void **state)
{
    struct fixture *f = *state;

    shell(f, "mkdir in out src; printf x > src/f; chmod 4755 src/f; "
             "chmod 1777 src; touch -d @1000000000 src/f src; printf x > new");
    assert_int_equal(put(f, "src", "in", "plain"), 0);
    shell(f, "test $(stat -c %a in/plain/f) = 755 && "
             "test $(stat -c %a in/plain) = 777 && test in/plain/f -nt new -o "
             "! in/plain/f -ot new");
    f->options.archive = true;
    assert_int_equal(put(f, "src", "in", "all"), 0);
    shell(f, "test $(stat -c %a:%Y in/all/f) = 4755:1000000000 && "
             "test $(stat -c %a:%Y in/all) = 1777:1000000000");
    assert_int_equal(get(f, "in/all", "out", "all"), 0);
    shell(f, "test $(stat -c %a:%Y out/all/f) = 4755:1000000000 && "
             "test $(stat -c %a:%Y out/all) = 1777:1000000000");
    f->options.archive = false;
    assert_int_equal(get(f, "in/all", "out", "plain"), 0);
    shell(f, "test $(stat -c %a out/plain/f) = 755");
}

static void what_cannot_be_copied_is_counted(void **state)
{
    struct fixture *f = *state;

    shell(f, "mkdir in out src; mkfifo src/pipe; printf x > src/f");
    assert_int_equal(put(f, "src", "in", "t"), 0);
    assert_int_equal(f->result.skipped, 1);
    shell(f, "test -f in/t/f -a ! -e in/t/pipe; mkfifo in/t/pipe");
    assert_int_equal(get(f, "in/t", "out", "t"), 0);
    assert_int_equal(f->result.skipped, 1);
    shell(f, "test -f out/t/f -a ! -e out/t/pipe");
}

static void failures_have_reasons(void **state)
{
    struct fixture *f = *state;
    bool is_dir = true;
    char path[200];
    int fd;

    shell(f, "mkdir in out in/sub; printf x > src; printf x > in/file");
    assert_int_equal(get(f, "in/nowhere", "out", "x"), -ENOENT);
    assert_non_null(strstr(f->err.text, "nowhere"));
    assert_int_equal(put(f, "nowhere", "in", "x"), -ENOENT);
    assert_int_equal(put(f, "src", "missing", "x"), -ENOENT);
    assert_int_equal(put(f, "src", "in", "sub"), -EISDIR);
    shell(f, "mkdir out/x");
    assert_int_equal(get(f, "in/file", "out", "x"), -EISDIR);
    fd = connect_real(f);
    assert_int_equal(guest_copy_out(fd, "relative", f->dir, "x", &f->options,
                         &f->result, &f->err),
        -EINVAL);
    (void)close(fd);
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"in/sub", "in/file", "in/none"};

        (void)snprintf(path, sizeof(path), "%s/%s", f->root, names[i]);
        fd = connect_real(f);
        assert_int_equal(guest_copy_is_dir(fd, path, &is_dir, &f->err), 0);
        assert_int_equal(is_dir, i == 0);
        (void)close(fd);
    }
}

/* More than fits any buffer, refused at once. */
static void a_refusal_is_heard_while_sending(void **state)
{
    struct fixture *f = *state;

    shell(f, "mkdir src; head -c 20000000 /dev/zero > src/a; "
             "printf x > file");
    assert_int_equal(put(f, "src", "file", "x"), -ENOTDIR);
}

/* ---- with a hostile one ------------------------------------------------- */

static void say(
    struct fixture *f, uint16_t type, const void *payload, size_t len)
{
    struct agent_frame head = {
        .length = agent_le32_put((uint32_t)len), .type = agent_le16_put(type)};

    assert_int_equal(send(f->agent, &head, sizeof(head), 0), sizeof(head));
    if (len > 0)
        assert_int_equal(send(f->agent, payload, len, 0), len);
}

static void say_hello(struct fixture *f)
{
    struct agent_hello hello = {.magic = agent_le32_put(AGENT_MAGIC),
        .version = agent_le16_put(AGENT_VERSION)};

    say(f, AGENT_HELLO, &hello, sizeof(hello));
}

/* An entry with a name, and behind it perhaps a target. */
static void say_entry(
    struct fixture *f, uint8_t type, const char *name, const char *target)
{
    uint8_t payload[10000];
    struct agent_entry entry = {.type = type, .mode = agent_le32_put(0644)};
    size_t len = sizeof(entry);

    memcpy(payload, &entry, len);
    memcpy(payload + len, name, strlen(name) + 1);
    len += strlen(name) + 1;
    if (target != NULL) {
        memcpy(payload + len, target, strlen(target) + 1);
        len += strlen(target) + 1;
    }
    say(f, AGENT_ENTRY, payload, len);
}

static void say_data(struct fixture *f, uint64_t offset, const char *text)
{
    struct {
        struct agent_data head;
        char text[100];
    } data = {.head = {.offset = agent_le64_put(offset)}};

    memcpy(data.text, text, strlen(text));
    say(f, AGENT_DATA, &data, sizeof(data.head) + strlen(text));
}

static void say_file_end(struct fixture *f, uint64_t size, uint32_t error)
{
    struct agent_file_end end = {
        .size = agent_le64_put(size), .error = agent_le32_put(error)};

    say(f, AGENT_FILE_END, &end, sizeof(end));
}

static void say_end(struct fixture *f)
{
    struct agent_copy_end end = {.entries = agent_le64_put(0)};

    say(f, AGENT_COPY_END, &end, sizeof(end));
}

/* Takes what was said into root/dst, as "top". */
static int take(struct fixture *f)
{
    int dir = openat(f->dir, "dst", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fds[2];
    int rc;

    assert_true(dir >= 0);
    assert_int_equal(shutdown(f->agent, SHUT_WR), 0);
    rc = guest_copy_out(
        f->host, "/x", dir, "top", &f->options, &f->result, &f->err);
    (void)close(dir);
    fd_closep(&f->host);
    fd_closep(&f->agent);
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    f->host = fds[0];
    f->agent = fds[1];
    return rc;
}

static void expect_untouched(struct fixture *f)
{
    shell(f, "test \"$(cat secret)\" = secret && "
             "test \"$(ls)\" = \"$(printf 'dst\\nelse\\nsecret')\" && "
             "test -z \"$(ls -A else)\" && "
             "test -z \"$(ls -A dst | grep -v '^top$')\"");
}

static void prepare(struct fixture *f)
{
    shell(f, "mkdir dst else; printf secret > secret");
}

static void names_that_lead_elsewhere(void **state)
{
    static const char *const names[] = {"..", "../secret", "a/../../secret",
        "/etc/passwd", "", "a//b", "a/", "/", "./a", "a/.", "a/./b", "a/..",
        "../../x"};
    struct fixture *f = *state;

    prepare(f);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        say_hello(f);
        say_entry(f, AGENT_ENTRY_DIR, ".", NULL);
        say_entry(f, AGENT_ENTRY_DIR, "a", NULL);
        say_entry(f, AGENT_ENTRY_FILE, names[i], NULL);
        say_data(f, 0, "evil");
        say_file_end(f, 4, 0);
        say_end(f);
        assert_int_equal(take(f), -EPROTO);
        expect_untouched(f);
    }
}

static void links_are_not_followed(void **state)
{
    static const char *const targets[] = {"../../else", "/", "../..", "."};
    struct fixture *f = *state;

    prepare(f);
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        /* Through a link that it has made itself. */
        say_hello(f);
        say_entry(f, AGENT_ENTRY_DIR, ".", NULL);
        say_entry(f, AGENT_ENTRY_SYMLINK, "l", targets[i]);
        say_entry(f, AGENT_ENTRY_FILE, "l/evil", NULL);
        say_end(f);
        assert_true(take(f) < 0);
        expect_untouched(f);
        /* A folder in the place of a link. */
        say_hello(f);
        say_entry(f, AGENT_ENTRY_DIR, ".", NULL);
        say_entry(f, AGENT_ENTRY_SYMLINK, "l", targets[i]);
        say_entry(f, AGENT_ENTRY_DIR, "l", NULL);
        say_end(f);
        assert_true(take(f) < 0);
        expect_untouched(f);
    }
    /* A file in the place of a link is a file. */
    say_hello(f);
    say_entry(f, AGENT_ENTRY_DIR, ".", NULL);
    say_entry(f, AGENT_ENTRY_SYMLINK, "l", "../../secret");
    say_entry(f, AGENT_ENTRY_FILE, "l", NULL);
    say_data(f, 0, "evil");
    say_file_end(f, 4, 0);
    say_end(f);
    assert_int_equal(take(f), 0);
    expect_untouched(f);
    shell(f, "test \"$(cat dst/top/l)\" = evil");
    /* And so is one in the place of a link that the host has. */
    shell(f, "rm -r dst/top; ln -s ../secret dst/top");
    say_hello(f);
    say_entry(f, AGENT_ENTRY_FILE, ".", NULL);
    say_data(f, 0, "evil");
    say_file_end(f, 4, 0);
    say_end(f);
    assert_int_equal(take(f), 0);
    expect_untouched(f);
    shell(f, "rm dst/top; ln -s ../else dst/top");
    say_hello(f);
    say_entry(f, AGENT_ENTRY_DIR, ".", NULL);
    say_entry(f, AGENT_ENTRY_FILE, "evil", NULL);
    assert_true(take(f) < 0);
    expect_untouched(f);
}

static void what_is_out_of_place(void **state)
{
    static const char *const orders[] = {
        "f",   /* not the top first */
        "TT",  /* two tops */
        "Fa",  /* something below a file */
        "TD",  /* data of no file */
        "TE",  /* end of no file */
        "TfT", /* an entry within a file */
        "Tfe", /* the end within a file */
        "e",   /* nothing */
        "TO",  /* an answer that belongs elsewhere */
        "Tfs", /* a file smaller than its data */
        "Tfb", /* data before other data */
    };
    struct fixture *f = *state;

    prepare(f);
    for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
        say_hello(f);
        for (const char *at = orders[i]; *at != '\0'; at++) {
            if (*at == 'T')
                say_entry(f, AGENT_ENTRY_DIR, ".", NULL);
            else if (*at == 'F')
                say_entry(f, AGENT_ENTRY_FILE, ".", NULL);
            else if (*at == 'f')
                say_entry(f, AGENT_ENTRY_FILE, "f", NULL);
            else if (*at == 'D')
                say_data(f, 0, "x");
            else if (*at == 'E')
                say_file_end(f, 0, 0);
            else if (*at == 'e')
                say_end(f);
            else if (*at == 'O')
                say(f, AGENT_OK, NULL, 0);
            else if (*at == 'a')
                say_entry(f, AGENT_ENTRY_FILE, "a", NULL);
            if (*at == 's') {
                say_data(f, 10, "x");
                say_file_end(f, 5, 0);
            }
            if (*at == 'b') {
                say_data(f, 10, "x");
                say_data(f, 5, "x");
            }
        }
        assert_int_equal(take(f), -EPROTO);
        /* Nothing half-made is left of a file. */
        shell(f, "test ! -e dst/top/f && rm -rf dst/top");
        expect_untouched(f);
    }
}

static void malformed_entries(void **state)
{
    struct fixture *f = *state;
    struct agent_entry entry = {.type = AGENT_ENTRY_FILE};
    struct {
        struct agent_entry entry;
        char name[300];
    } payload = {.entry = entry};

    prepare(f);
    say_hello(f);
    say(f, AGENT_ENTRY, &entry, sizeof(entry)); /* no name */
    assert_int_equal(take(f), -EPROTO);
    say_hello(f);
    say(f, AGENT_ENTRY, &entry, sizeof(entry) - 1);
    assert_int_equal(take(f), -EPROTO);
    memset(payload.name, 'a', sizeof(payload.name));
    say_hello(f);
    say_entry(f, AGENT_ENTRY_DIR, ".", NULL);
    say(f, AGENT_ENTRY, &payload, sizeof(payload)); /* no NUL */
    assert_int_equal(take(f), -EPROTO);
    payload.name[299] = '\0';
    say_hello(f);
    say_entry(f, AGENT_ENTRY_DIR, ".", NULL);
    say(f, AGENT_ENTRY, &payload, sizeof(payload)); /* too long a component */
    assert_int_equal(take(f), -EPROTO);
    (void)strcpy(payload.name, ".");
    say_hello(f);
    say(f, AGENT_ENTRY, &payload, sizeof(entry) + 3); /* bytes behind it */
    assert_int_equal(take(f), -EPROTO);
    payload.entry.mode = agent_le32_put(010000);
    say_hello(f);
    say(f, AGENT_ENTRY, &payload, sizeof(entry) + 2);
    assert_int_equal(take(f), -EPROTO);
    payload.entry = (struct agent_entry){.type = 9};
    say_hello(f);
    say(f, AGENT_ENTRY, &payload, sizeof(entry) + 2);
    assert_int_equal(take(f), -EPROTO);
    say_hello(f);
    say_entry(f, AGENT_ENTRY_SYMLINK, ".", NULL); /* without a target */
    assert_int_equal(take(f), -EPROTO);
    say(f, AGENT_OK, NULL, 0); /* no greeting */
    assert_int_equal(take(f), -EPROTO);
    say_hello(f);
    assert_int_equal(take(f), -ECONNRESET);
    expect_untouched(f);
}

static void floods_have_an_end(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    f->options.max_bytes = 100;
    say_hello(f);
    say_entry(f, AGENT_ENTRY_FILE, ".", NULL);
    say_data(f, 99, "xy");
    assert_int_equal(take(f), -EFBIG);
    shell(f, "test ! -e dst/top");
    say_hello(f);
    say_entry(f, AGENT_ENTRY_FILE, ".", NULL);
    say_file_end(f, 101, 0);
    assert_int_equal(take(f), -EFBIG);
    say_hello(f);
    say_entry(f, AGENT_ENTRY_DIR, ".", NULL);
    for (int i = 0; i < 2; i++) {
        say_entry(f, AGENT_ENTRY_FILE, "a", NULL);
        say_file_end(f, 51, 0);
    }
    assert_int_equal(take(f), -EFBIG);
    shell(f, "rm -r dst/top");
    f->options.max_bytes = UINT64_MAX;
    say_hello(f);
    say_entry(f, AGENT_ENTRY_FILE, ".", NULL);
    say_data(f, UINT64_MAX - 1, "xyz");
    assert_int_equal(take(f), -EPROTO);
    say_hello(f);
    say_entry(f, AGENT_ENTRY_FILE, ".", NULL);
    say_file_end(f, UINT64_C(1) << 63, 0);
    assert_int_equal(take(f), -EFBIG);
    expect_untouched(f);
}

static void a_file_that_the_guest_cannot_read(void **state)
{
    struct fixture *f = *state;

    prepare(f);
    say_hello(f);
    say_entry(f, AGENT_ENTRY_DIR, ".", NULL);
    say_entry(f, AGENT_ENTRY_FILE, "f", NULL);
    say_data(f, 0, "half");
    say_file_end(f, 4, EIO);
    assert_int_equal(take(f), -EIO);
    assert_non_null(strstr(f->err.text, "the guest cannot read f"));
    shell(f, "test ! -e dst/top/f");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(a_tree_goes_in_and_comes_out),
        TEST(contents_of_a_folder),
        TEST(one_file_under_another_name),
        TEST(modes_times_and_owners),
        TEST(what_cannot_be_copied_is_counted),
        TEST(failures_have_reasons),
        TEST(a_refusal_is_heard_while_sending),
        TEST(names_that_lead_elsewhere),
        TEST(links_are_not_followed),
        TEST(what_is_out_of_place),
        TEST(malformed_entries),
        TEST(floods_have_an_end),
        TEST(a_file_that_the_guest_cannot_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
