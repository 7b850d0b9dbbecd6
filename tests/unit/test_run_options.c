/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/run_help.h"
#include "vmm/run_options.h"

#define WORDS_MAX 600u

/* A command line and what became of it. */
struct fixture {
    char *words[WORDS_MAX + 2];
    int count;
    struct run_options options;
    struct err err;
    char file[64]; /* a configuration, if write_file made one */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    log_set_level(LOG_WARN);
    *state = f;
    return f == NULL ? -1 : 0;
}

static void forget(struct fixture *f)
{
    run_options_fini(&f->options);
    for (int i = 0; i < f->count; i++)
        free(f->words[i]);
    f->count = 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    forget(f);
    if (f->file[0] != '\0')
        (void)unlink(f->file);
    free(f);
    log_set_level(LOG_WARN);
    return 0;
}

static void add_word(struct fixture *f, const char *word)
{
    assert_true(f->count < (int)WORDS_MAX);
    f->words[f->count] = strdup(word);
    assert_non_null(f->words[f->count++]);
    f->words[f->count] = NULL;
}

/* `line` is cut at single spaces. */
static void add_line(struct fixture *f, const char *line)
{
    char *copy = strdup(line);
    char *at = copy;
    char *word;

    assert_non_null(copy);
    while ((word = strsep(&at, " ")) != NULL)
        add_word(f, word);
    free(copy);
}

static int parse_words(struct fixture *f)
{
    f->err.text[0] = '\0';
    return run_options_parse(&f->options, f->count, f->words, &f->err);
}

static int parse_line(struct fixture *f, const char *line)
{
    forget(f);
    add_line(f, line);
    return parse_words(f);
}

static const struct run_options *accept_line(
    struct fixture *f, const char *line)
{
    if (parse_line(f, line) < 0)
        fail_msg("%s: %s", line, f->err.text);
    return &f->options;
}

static void refuse_line(
    struct fixture *f, const char *line, int code, const char *text)
{
    assert_int_equal(parse_line(f, line), code);
    assert_string_equal(f->err.text, text);
}

static void write_file(struct fixture *f, const char *json)
{
    int fd;

    (void)snprintf(f->file, sizeof(f->file), "/tmp/spore-options-XXXXXX");
    fd = mkstemp(f->file);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, json, strlen(json)), 0);
    fd_closep(&fd);
}

static void test_defaults(void **state)
{
    const struct run_options *o = accept_line(*state, "run");

    assert_null(o->config.kernel);
    assert_null(o->config.initrd);
    assert_null(o->config.boot_args);
    assert_null(o->config.vsock_path);
    assert_int_equal(o->config.mem_bytes, 128 * NUM_MIB);
    assert_int_equal(o->config.vcpus, 1);
    assert_int_equal(o->config.drive_count, 0);
    assert_int_equal(o->config.net_count, 0);
    assert_false(o->config.has_balloon);
    assert_false(o->config.has_vconsole);
    assert_int_equal(o->given & RUN_GIVEN_RNG, 0);
    assert_int_equal(o->config.discovery, CONFIG_DISCOVERY_ACPI);
    assert_true(o->config.has_agent);
    assert_false(o->config.has_exit_port);
    assert_int_equal(o->console, RUN_CONSOLE_TAIL);
    assert_null(o->console_file);
    assert_int_equal(o->timings, RUN_TIMINGS_OFF);
    assert_int_equal(o->command.tty, SESSION_TTY_AUTO);
    assert_int_equal(o->timeout_ns, 0);
    assert_false(o->no_root);
    assert_null(o->command.argv);
    assert_int_equal(o->command.env_count, 0);
    assert_null(o->command.env[0]);
    assert_false(o->help);
    assert_false(log_enabled(LOG_INFO));
}

static void test_machine(void **state)
{
    static const char *const lines[] = {
        "run -k K -i I -a x=1 -m 256 -c 4 --discovery cmdline --vsock S",
        "run --kernel K --initrd I --cmdline x=1 --mem 256M --cpus 4 "
        "--discovery=cmdline --vsock=S",
        "run --kernel=K --initrd=I --cmdline=x=1 --mem=262144K --cpus=4 "
        "--discovery=cmdline --vsock=S",
        "run -kK -iI -ax=1 -m256M -c4 --disc cmdline --vs S",
        /* The last one counts. */
        "run -k 1 -i 2 -a 3 -m 1G -c 5 --vsock 6 --discovery acpi -k K -i I "
        "-a x=1 -m 256 -c 4 --discovery cmdline --vsock S",
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        const struct run_options *o = accept_line(*state, lines[i]);

        assert_string_equal(o->config.kernel, "K");
        assert_string_equal(o->config.initrd, "I");
        assert_string_equal(o->config.boot_args, "x=1");
        assert_int_equal(o->config.mem_bytes, 256 * NUM_MIB);
        assert_int_equal(o->config.vcpus, 4);
        assert_int_equal(o->config.discovery, CONFIG_DISCOVERY_CMDLINE);
        assert_string_equal(o->config.vsock_path, "S");
    }
    assert_int_equal(
        accept_line(*state, "run --discovery acpi")->config.discovery,
        CONFIG_DISCOVERY_ACPI);
}

static void test_devices(void **state)
{
    const struct run_options *o = accept_line(*state,
        "run --net user --net tap=t --balloon 8,oom --virtio-console=F");

    assert_int_equal(o->config.net_count, 2);
    assert_int_equal(o->config.nets[1].backend, CONFIG_NET_TAP);
    assert_true(o->config.has_balloon);
    assert_true(o->config.has_vconsole);
    assert_string_equal(o->vconsole_file, "F");
    assert_int_equal(o->given & RUN_GIVEN_RNG, 0);
    o = accept_line(*state, "run --virtio-console --no-rng --rng");
    assert_null(o->vconsole_file);
    assert_true(o->config.has_entropy);
    assert_int_equal(o->given & RUN_GIVEN_RNG, RUN_GIVEN_RNG);
    o = accept_line(*state, "run --virtio-console=stderr --rng --no-rng");
    assert_true(o->config.has_vconsole);
    assert_null(o->vconsole_file);
    assert_false(o->config.has_entropy);
    assert_int_equal(o->given & RUN_GIVEN_RNG, RUN_GIVEN_RNG);
    refuse_line(
        *state, "run --virtio-console=", -EINVAL, "--virtio-console= is empty");
    refuse_line(*state, "run --balloon 129", -ERANGE,
        "balloon.amount_mib: 129 is more than the guest's memory");
}

static void expect_drive(const struct run_options *o, uint32_t index,
    const char *id, const char *path, bool is_root, bool is_read_only)
{
    const struct config_drive *d = &o->config.drives[index];

    assert_true(index < o->config.drive_count);
    assert_string_equal(d->id, id);
    assert_string_equal(d->path, path);
    assert_int_equal(d->is_root, is_root);
    assert_int_equal(d->is_read_only, is_read_only);
    assert_true(d->is_writeback);
    assert_int_equal(d->engine, CONFIG_IO_AUTO);
}

static void test_drives(void **state)
{
    const struct run_options *o =
        accept_line(*state, "run -r R,ro -d A --disk=B,ro --disk C,rw -d ,ro");

    assert_int_equal(o->config.drive_count, 5);
    expect_drive(o, 0, "rootfs", "R", true, true);
    expect_drive(o, 1, "disk1", "A", false, false);
    expect_drive(o, 2, "disk2", "B", false, true);
    /* Only ",ro" behind a name is not part of it. */
    expect_drive(o, 3, "disk3", "C,rw", false, false);
    expect_drive(o, 4, "disk4", ",ro", false, false);
    o = accept_line(*state, "run --rootfs R");
    assert_int_equal(o->config.drive_count, 1);
    expect_drive(o, 0, "rootfs", "R", true, false);
    assert_false(o->no_root);
    o = accept_line(*state, "run --rootfs none -d A");
    assert_true(o->no_root);
    assert_int_equal(o->config.drive_count, 1);
    expect_drive(o, 0, "disk0", "A", false, false);
}

static void expect_pmem(const struct run_options *o, uint32_t index,
    const char *id, const char *path, bool is_root, bool is_read_only)
{
    const struct config_pmem *p = &o->config.pmems[index];

    assert_true(index < o->config.pmem_count);
    assert_string_equal(p->id, id);
    assert_string_equal(p->path, path);
    assert_int_equal(p->is_root, is_root);
    assert_int_equal(p->is_read_only, is_read_only);
}

static void test_pmems(void **state)
{
    const struct run_options *o =
        accept_line(*state, "run --pmem A -r R,pmem,ro --pmem=B,ro -d C,pmem");

    assert_int_equal(o->config.pmem_count, 3);
    expect_pmem(o, 0, "pmem0", "A", false, false);
    expect_pmem(o, 1, "rootfs", "R", true, true);
    expect_pmem(o, 2, "pmem2", "B", false, true);
    assert_int_equal(o->config.drive_count, 1);
    expect_drive(o, 0, "disk0", "C,pmem", false, false);
    o = accept_line(*state, "run -r R,ro,pmem");
    expect_pmem(o, 0, "rootfs", "R", true, true);
    o = accept_line(*state, "run -r R,ro,ro,pmem");
    expect_pmem(o, 0, "rootfs", "R,ro", true, true);
    o = accept_line(*state, "run -r R,pmem --pmem ,ro");
    expect_pmem(o, 0, "rootfs", "R", true, false);
    expect_pmem(o, 1, "pmem1", ",ro", false, false);
}

static void test_console(void **state)
{
    const struct run_options *o = accept_line(*state, "run --console");

    assert_int_equal(o->console, RUN_CONSOLE_STDIO);
    assert_false(o->config.has_agent);
    assert_true(o->config.has_exit_port);
    o = accept_line(*state, "run --console=stdio");
    assert_int_equal(o->console, RUN_CONSOLE_STDIO);
    assert_false(o->config.has_agent);
    o = accept_line(*state, "run --console=stderr true");
    assert_int_equal(o->console, RUN_CONSOLE_STDERR);
    assert_true(o->config.has_agent);
    assert_false(o->config.has_exit_port);
    o = accept_line(*state, "run --console=/tmp/log true");
    assert_int_equal(o->console, RUN_CONSOLE_FILE);
    assert_string_equal(o->console_file, "/tmp/log");
    assert_true(o->config.has_agent);
}

static void test_the_rest(void **state)
{
    static const struct {
        const char *line;
        enum session_tty tty;
    } ttys[] = {{"run -t", SESSION_TTY_ON}, {"run --tty", SESSION_TTY_ON},
        {"run -T", SESSION_TTY_OFF}, {"run --no-tty", SESSION_TTY_OFF},
        {"run -tT", SESSION_TTY_OFF}, {"run -T --tty", SESSION_TTY_ON}};
    static const struct {
        const char *line;
        enum run_timings timings;
        const char *file;
    } timings[] = {{"run --timings", RUN_TIMINGS_TEXT, NULL},
        {"run --timings=text", RUN_TIMINGS_TEXT, NULL},
        {"run --timings=json", RUN_TIMINGS_JSON, NULL},
        {"run --timings=svg", RUN_TIMINGS_SVG, NULL},
        {"run --timings=svg:a:b", RUN_TIMINGS_SVG, "a:b"}};
    static const struct {
        const char *line;
        uint64_t ns;
    } timeouts[] = {{"run --timeout 2", UINT64_C(2000000000)},
        {"run --timeout 0.25", UINT64_C(250000000)},
        {"run --timeout 0.001", UINT64_C(1000000)},
        {"run --timeout=31536000", UINT64_C(31536000000000000)}};

    for (size_t i = 0; i < ARRAY_SIZE(ttys); i++)
        assert_int_equal(
            accept_line(*state, ttys[i].line)->command.tty, ttys[i].tty);
    for (size_t i = 0; i < ARRAY_SIZE(timings); i++) {
        const struct run_options *o = accept_line(*state, timings[i].line);

        assert_int_equal(o->timings, timings[i].timings);
        if (timings[i].file == NULL)
            assert_null(o->timings_file);
        else
            assert_string_equal(o->timings_file, timings[i].file);
    }
    for (size_t i = 0; i < ARRAY_SIZE(timeouts); i++)
        assert_int_equal(
            accept_line(*state, timeouts[i].line)->timeout_ns, timeouts[i].ns);
}

static void test_where_memory_comes_from(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(accept_line(f, "run --track")->tracking, MACHINE_TRACK);
    assert_int_equal(
        accept_line(f, "run --track=bitmap")->tracking, MACHINE_TRACK_BITMAP);
    assert_int_equal(
        accept_line(f, "run --track=ring")->tracking, MACHINE_TRACK_RING);
    accept_line(f, "run --from a");
    assert_int_equal(f->options.verify, RUN_VERIFY_AUTO);
    assert_int_equal(f->options.prefetch, RUN_PREFETCH_AUTO);
    assert_null(f->options.page_server);
    accept_line(f, "run --from a --verify --prefetch off");
    assert_int_equal(f->options.verify, RUN_VERIFY_ALL);
    assert_int_equal(f->options.prefetch, RUN_PREFETCH_OFF);
    accept_line(f, "run --from a --verify=lazy --prefetch record");
    assert_int_equal(f->options.verify, RUN_VERIFY_LAZY);
    assert_int_equal(f->options.prefetch, RUN_PREFETCH_RECORD);
    accept_line(f, "run --from a --verify=trust --memory file --prefetch on");
    assert_int_equal(f->options.verify, RUN_VERIFY_TRUST);
    assert_int_equal(f->options.prefetch, RUN_PREFETCH_ON);
    accept_line(f, "run --from a --memory uffd:/tmp/a:b");
    assert_string_equal(f->options.page_server, "/tmp/a:b");
}

static void test_verbosity(void **state)
{
    (void)accept_line(*state, "run -v");
    assert_true(log_enabled(LOG_INFO));
    assert_false(log_enabled(LOG_DEBUG));
    (void)accept_line(*state, "run -v --verbose");
    assert_true(log_enabled(LOG_DEBUG));
    log_set_level(LOG_WARN);
    (void)accept_line(*state, "run -vvvv");
    assert_true(log_enabled(LOG_DEBUG));
}

static void test_command(void **state)
{
    struct fixture *f = *state;
    const struct run_options *o = accept_line(f, "run -m 64 ls -l --mem 7");

    /* What follows the command is its own. */
    assert_int_equal(o->config.mem_bytes, 64 * NUM_MIB);
    assert_ptr_equal(o->command.argv, f->words + 3);
    assert_string_equal(o->command.argv[0], "ls");
    assert_string_equal(o->command.argv[3], "7");
    assert_null(o->command.argv[4]);
    o = accept_line(f, "run -m 64 -- -x");
    assert_string_equal(o->command.argv[0], "-x");
    assert_null(o->command.argv[1]);
    o = accept_line(f, "run --");
    assert_null(o->command.argv);
}

static void test_environment(void **state)
{
    struct fixture *f = *state;
    const struct run_options *o = accept_line(f, "run -e A=1 --env B= -eC=x=y");

    assert_int_equal(o->command.env_count, 3);
    assert_string_equal(o->command.env[0], "A=1");
    assert_string_equal(o->command.env[1], "B=");
    assert_string_equal(o->command.env[2], "C=x=y");
    assert_null(o->command.env[3]);
    forget(f);
    add_word(f, "run");
    for (unsigned int i = 0; i < SESSION_ENV_MAX; i++)
        add_word(f, "-eA=1");
    assert_int_equal(parse_words(f), 0);
    assert_int_equal(f->options.command.env_count, SESSION_ENV_MAX);
    assert_null(f->options.command.env[SESSION_ENV_MAX]);
    run_options_fini(&f->options);
    add_word(f, "-eA=1");
    assert_int_equal(parse_words(f), -E2BIG);
    assert_string_equal(f->err.text, "--env: at most 256");
}

static bool help_names(const char *option)
{
    for (size_t i = 0; run_help[i] != NULL; i++) {
        if (strstr(run_help[i], option) != NULL)
            return true;
    }
    return false;
}

static void test_help(void **state)
{
    static const char *const options[] = {"--kernel", "--initrd", "--rootfs",
        "--disk", "--mem", "--cpus", "--cmdline", "--config", "--console",
        "--vsock", "--discovery", "--env", "--tty", "--no-tty", "--timeout",
        "--timings", "--verbose", "--help"};

    assert_true(accept_line(*state, "run -h")->help);
    assert_true(accept_line(*state, "run --help")->help);
    /* With it nothing else has to fit together. */
    assert_true(accept_line(*state, "run --console --help true")->help);
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        assert_true(help_names(options[i]));
}

static void test_values_that_are_refused(void **state)
{
    static const struct {
        const char *line;
        int code;
        const char *text;
    } cases[] = {
        {"run -c 0", -EINVAL, "--cpus 0: it must be 1 to 32"},
        {"run -c 33", -EINVAL, "--cpus 33: it must be 1 to 32"},
        {"run -c -1", -EINVAL, "--cpus -1: it must be 1 to 32"},
        {"run -c 2x", -EINVAL, "--cpus 2x: it must be 1 to 32"},
        {"run --cpus=", -EINVAL, "--cpus : it must be 1 to 32"},
        {"run -c 99999999999999999999", -EINVAL,
            "--cpus 99999999999999999999: it must be 1 to 32"},
        {"run -m 1x", -EINVAL,
            "'1x' is not a size: write MiB, or a unit as in 512K, 128M, 2G"},
        {"run -m 3K", -EINVAL,
            "'3K' is not a multiple of 4K, the size of a page"},
        {"run -m 99999999999999999999", -ERANGE,
            "'99999999999999999999' is too large a size"},
        {"run --timeout 0", -EINVAL,
            "--timeout 0: it must be a number of seconds from 0.001 to "
            "31536000"},
        {"run --timeout 1e-12", -EINVAL,
            "--timeout 1e-12: it must be a number of seconds from 0.001 to "
            "31536000"},
        {"run --timeout -1", -EINVAL,
            "--timeout -1: it must be a number of seconds from 0.001 to "
            "31536000"},
        {"run --timeout 31536001", -EINVAL,
            "--timeout 31536001: it must be a number of seconds from 0.001 to "
            "31536000"},
        {"run --timeout nan", -EINVAL,
            "--timeout nan: it must be a number of seconds from 0.001 to "
            "31536000"},
        {"run --timeout 1s", -EINVAL,
            "--timeout 1s: it must be a number of seconds from 0.001 to "
            "31536000"},
        {"run --timeout=", -EINVAL,
            "--timeout : it must be a number of seconds from 0.001 to "
            "31536000"},
        {"run --timings=xml", -EINVAL,
            "--timings=xml: it must be text, json, svg or svg:FILE"},
        {"run --timings=svg:", -EINVAL,
            "--timings=svg:: it must be text, json, svg or svg:FILE"},
        {"run --track=often", -EINVAL,
            "--track=often: it must be bitmap or ring"},
        {"run --from a --verify=some", -EINVAL,
            "--verify=some: it must be all, lazy or trust"},
        {"run --from a --memory uffd:", -EINVAL,
            "--memory uffd:: it must be file or uffd:PATH"},
        {"run --from a --prefetch maybe", -EINVAL,
            "--prefetch maybe: it must be on, off, record or auto"},
        {"run --prefetch on", -EINVAL,
            "--store, --verify, --memory, --prefetch, --clock, "
            "--allow-changed-disks and --allow-duplicate are for --from "
            "SNAPSHOT"},
        {"run --from a --verify=trust --memory uffd:x", -EINVAL,
            "--verify has no place beside --memory uffd:PATH: the page server "
            "checks what it sends"},
        {"run --console=", -EINVAL, "--console= is empty"},
        {"run --discovery pci", -EINVAL,
            "--discovery pci: it must be acpi or cmdline"},
        {"run -e A", -EINVAL, "--env A: it must be NAME=VALUE"},
        {"run -e =x", -EINVAL, "--env =x: it must be NAME=VALUE"},
        {"run --console true", -EINVAL,
            "a command needs the agent: leave --console or the command out"},
        {"run -r A -r B", -EINVAL,
            "drives[1].drive_id: 'rootfs' is drives[0] too"},
        {"run -r A -r B,pmem", -EINVAL,
            "pmem[0].id: 'rootfs' is drives[0] too"},
        {"run --pmem ", -EINVAL, "pmem[0].path_on_host: empty"},
        {"run -d ", -EINVAL, "drives[0].path_on_host: empty"},
        {"run -k ", -EINVAL, "boot-source.kernel_image_path: empty"},
        {"run -r A -a root=/dev/vda", -EINVAL,
            "drives[0].is_root_device: boot_args set root= themselves: drop "
            "one"},
        {"run -d 1 -d 2 -d 3 -d 4 -d 5 -d 6 -d 7 -d 8 -d 9 -d 10 -d 11 -d 12 "
         "-d 13 -d 14 -d 15 -d 16 -d 17",
            -EINVAL, "more than 16 drives"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        refuse_line(*state, cases[i].line, cases[i].code, cases[i].text);
}

static void test_control(void **state)
{
    static const struct {
        const char *line;
        const char *text;
    } cases[] = {
        {"run --id a/b",
            "--id a/b: it must be 1 to 64 of A-Z a-z 0-9 _ - and not 'net'"},
        {"run --id net",
            "--id net: it must be 1 to 64 of A-Z a-z 0-9 _ - and not 'net'"},
        {"run --no-api --id x",
            "--no-api has no place beside --id, --api-sock, --detach and "
            "--no-boot"},
        {"run --no-api --detach",
            "--no-api has no place beside --id, --api-sock, --detach and "
            "--no-boot"},
        {"run --no-api --api-sock x",
            "--no-api has no place beside --id, --api-sock, --detach and "
            "--no-boot"},
        {"run --log x", "--log is for --detach"},
        {"run --output-limit 1M",
            "--output-limit is for files: --console=FILE, "
            "--virtio-console=FILE and the log of --detach"},
        {"run --detach --output-limit 4095",
            "--output-limit: '4095' is no size: write bytes, at least 4096, "
            "as in 64K, 10M, 1G"},
        {"run --detach -t", "--tty has no place beside --detach"},
    };
    const struct run_options *o =
        accept_line(*state, "run --id a-B_9 --api-sock s -u 1:2 -w /tmp ls");

    assert_string_equal(o->id, "a-B_9");
    assert_string_equal(o->api_sock, "s");
    assert_string_equal(o->command.user, "1:2");
    assert_string_equal(o->command.cwd, "/tmp");
    assert_false(o->detach || o->no_api || o->command.no_stdin);
    o = accept_line(*state, "run --detach --log l");
    assert_true(o->detach && o->command.no_stdin);
    assert_string_equal(o->log_file, "l");
    assert_int_equal(o->command.tty, SESSION_TTY_OFF);
    o = accept_line(*state, "run --no-api");
    assert_true(o->no_api);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        refuse_line(*state, cases[i].line, -EINVAL, cases[i].text);
}

static void test_options_that_are_refused(void **state)
{
    static const struct {
        const char *line;
        const char *text;
    } cases[] = {
        {"run --nonsense", "--nonsense: unknown option"},
        {"run --nonsense=1 x", "--nonsense=1: unknown option"},
        {"run --c 1", "--c: unknown option"}, /* short for several */
        {"run -x", "-x: unknown option"},
        {"run --tty -vx", "-x: unknown option"},
        {"run --tty -xv", "-x: unknown option"},
        {"run -: x", "-:: unknown option"},
        {"run -k", "-k: its value is missing"},
        {"run -tk", "-tk: its value is missing"},
        {"run -t --kernel", "--kernel: its value is missing"},
        {"run --timeout", "--timeout: its value is missing"},
        {"run --tty=yes", "--tty=yes: it takes no value"},
        {"run --help=me x", "--help=me: it takes no value"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char want[128];

        (void)snprintf(
            want, sizeof(want), "%s: see spore run --help", cases[i].text);
        refuse_line(*state, cases[i].line, -EINVAL, want);
    }
    /* A word that was left half-way does not leak into the next line. */
    assert_int_equal(
        accept_line(*state, "run -t")->command.tty, SESSION_TTY_ON);
}

/* Options go on top of the file, wherever that stands. */
static void test_configuration_comes_first(void **state)
{
    static const char *const lines[] = {"run -m 64 -f %s -d B",
        "run -f%s -m 64 -d B", "run -m 64 -d B --config %s",
        "run -m 64 -d B --config=%s"};
    struct fixture *f = *state;

    write_file(f,
        "{\"boot-source\": {\"kernel_image_path\": \"K\"},"
        " \"machine-config\": {\"vcpu_count\": 3, \"mem_size_mib\": 512},"
        " \"drives\": [{\"drive_id\": \"a\", \"path_on_host\": \"A\","
        " \"is_root_device\": true}]}");
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        char before[64];
        char line[200];
        const char *gap = strstr(lines[i], "%s");
        const struct run_options *o;

        assert_non_null(gap);
        (void)snprintf(
            before, sizeof(before), "%.*s", (int)(gap - lines[i]), lines[i]);
        (void)snprintf(line, sizeof(line), "%s%s%s", before, f->file, gap + 2);
        o = accept_line(f, line);
        assert_string_equal(o->config.kernel, "K");
        assert_int_equal(o->config.vcpus, 3);
        assert_int_equal(o->config.mem_bytes, 64 * NUM_MIB);
        assert_int_equal(o->config.drive_count, 2);
        assert_string_equal(o->config.drives[0].path, "A");
        assert_string_equal(o->config.drives[1].path, "B");
    }
}

static void test_configuration_behind_the_command_is_its_own(void **state)
{
    const struct run_options *o =
        accept_line(*state, "run cat -f /nonexistent.json");

    assert_string_equal(o->command.argv[1], "-f");
}

static void test_configuration_that_is_refused(void **state)
{
    struct fixture *f = *state;
    char line[100];
    char want[200];

    refuse_line(f, "run -f /nonexistent.json", -ENOENT,
        "/nonexistent.json: No such file or directory");
    write_file(f, "{\"machine-config\": {\"vcpu_count\": 33}}");
    (void)snprintf(line, sizeof(line), "run -c 1 -f %s", f->file);
    (void)snprintf(want, sizeof(want),
        "%s: machine-config.vcpu_count: 33 is not within 1 to 32", f->file);
    refuse_line(f, line, -ERANGE, want);
}

/* A machine without an agent has nobody to run a command. */
static void test_configuration_without_an_agent(void **state)
{
    struct fixture *f = *state;
    char line[100];

    write_file(f, "{\"spore\": {\"agent\": false}}");
    (void)snprintf(line, sizeof(line), "run -f %s true", f->file);
    refuse_line(f, line, -EINVAL,
        "a command needs the agent: leave --console or the command out");
    (void)snprintf(line, sizeof(line), "run -f %s", f->file);
    assert_false(accept_line(f, line)->config.has_agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_machine),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_drives),
        cmocka_unit_test(test_pmems),
        cmocka_unit_test(test_console),
        cmocka_unit_test(test_the_rest),
        cmocka_unit_test(test_where_memory_comes_from),
        cmocka_unit_test(test_verbosity),
        cmocka_unit_test(test_command),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_values_that_are_refused),
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_options_that_are_refused),
        cmocka_unit_test(test_configuration_comes_first),
        cmocka_unit_test(test_configuration_behind_the_command_is_its_own),
        cmocka_unit_test(test_configuration_that_is_refused),
        cmocka_unit_test(test_configuration_without_an_agent),
    };
    struct CMUnitTest with_line[ARRAY_SIZE(tests)];

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        with_line[i] = tests[i];
        with_line[i].setup_func = setup;
        with_line[i].teardown_func = teardown;
    }
    return cmocka_run_group_tests(with_line, NULL, NULL);
}
