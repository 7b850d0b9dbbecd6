/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that knows nothing of fuzzing, in the ways that its first argument
 * names. Statuses tell what it saw: 10 for an input that begins with "magic",
 * 11 for another, 12 for none.
 */
#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int judge(const char *bytes, size_t n)
{
    if (n == 0)
        return 12;
    return n >= 5 && memcmp(bytes, "magic", 5) == 0 ? 10 : 11;
}

static int by_read(void)
{
    char buf[64];
    ssize_t n = read(0, buf, sizeof(buf));

    return judge(buf, n > 0 ? (size_t)n : 0);
}

static int by_stdio(void)
{
    char buf[64];
    size_t n = fread(buf, 1, sizeof(buf), stdin);

    printf("%zu bytes of descriptor %d\n", n, fileno(stdin));
    if (!feof(stdin) || getchar() != EOF)
        return 1;
    return judge(buf, n);
}

static int by_line(void)
{
    char line[64];

    if (fgets(line, sizeof(line), stdin) == NULL)
        return 12;
    return judge(line, strlen(line));
}

/* In parts, and from the start again. */
static int by_seek(void)
{
    char buf[64];

    if (read(0, buf, 2) != 2 || lseek(0, 0, SEEK_CUR) != 2 ||
        lseek(0, 0, SEEK_SET) != 0)
        return 1;
    return by_read();
}

static int compare_bytes(const void *a, const void *b)
{
    return *(const unsigned char *)a - *(const unsigned char *)b;
}

/* What libc asks the kernel about when it is used for the first time. */
static int by_libc(void)
{
    char many[4096] = {1};

    qsort(many, sizeof(many), 1, compare_bytes);
    if (many[sizeof(many) - 1] != 1)
        return 1;
    return by_read();
}

/* What the kernel says about standard input. */
static int by_stat(void)
{
    struct stat st;

    if (fstat(0, &st) != 0 || st.st_size != 9)
        return 1;
    return by_read();
}

static int by_child(void)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(by_read());
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status) + 20;
}

static int by_file(const char *path)
{
    char buf[64];
    FILE *in = fopen(path, "r");
    size_t n;

    if (in == NULL)
        return 1;
    n = fread(buf, 1, sizeof(buf), in);
    fclose(in);
    return judge(buf, n);
}

/* Twice, since it is to be there again; its size as stat has it. */
static int by_open(const char *path)
{
    struct stat by_path, by_fd;
    char buf[64];
    ssize_t n = 0;

    for (int i = 0; i < 2; i++) {
        int fd = open(path, O_RDONLY);

        if (fd < 0 || stat(path, &by_path) != 0 || fstat(fd, &by_fd) != 0)
            return 1;
        n = read(fd, buf, sizeof(buf));
        if (n != by_path.st_size || n != by_fd.st_size ||
            !S_ISREG(by_fd.st_mode) || lseek(fd, 0, SEEK_END) != n ||
            pread(fd, buf, 1, n) != 0 || close(fd) != 0)
            return 1;
    }
    return judge(buf, (size_t)n);
}

static int by_map(const char *path)
{
    int fd = path != NULL ? open(path, O_RDONLY) : 0;
    struct stat st;
    int result;
    char *at;

    if (fd < 0 || fstat(fd, &st) != 0)
        return 1;
    at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED || at[st.st_size] != 0)
        return 1;
    result = judge(at, (size_t)st.st_size);
    munmap(at, (size_t)st.st_size);
    close(fd);
    return result;
}

/* Other ways to standard input. */
static int by_stream(FILE *in)
{
    char buf[64];
    size_t n = in != NULL ? fread(buf, 1, sizeof(buf), in) : 0;

    return judge(buf, n);
}

/* What cannot be answered without the kernel. */
static int by_other_name(const char *path)
{
    char buf[64] = "";
    const char *name = strrchr(path, '/') + 1;
    int fd;

    if (chdir("/dev/shm") != 0)
        return 1;
    fd = open(name, O_RDWR);
    if (fd < 0 || read(fd, buf, sizeof(buf)) < 0)
        return 1;
    return judge(buf, strlen(buf));
}

static int overflow(void)
{
    volatile char big[4096];

    big[0] = 1;
    return overflow() + big[0];
}

static int by_random(void)
{
    unsigned int all = 0;
    unsigned char b[4][8];
    int fd = open("/dev/urandom", O_RDONLY);
    FILE *in = fopen("/dev/urandom", "r");

    if (fd < 0 || in == NULL || read(fd, b[0], 8) != 8 ||
        getrandom(b[1], 8, 0) != 8 || getentropy(b[2], 8) != 0 ||
        fread(b[3], 1, 8, in) != 8)
        return 1;
    for (unsigned int i = 0; i < 32; i++)
        all = all * 31 + b[i / 8][i % 8];
    return (int)(all % 199) + 50;
}

static int by_clock(void)
{
    struct timespec a, b;
    time_t start = time(NULL);

    clock_gettime(CLOCK_MONOTONIC, &a);
    for (volatile int i = 0; i < 100000000; i++)
        continue;
    sleep(3600);
    clock_gettime(CLOCK_MONOTONIC, &b);
    /* An hour of sleep, and nothing for the loop. */
    return b.tv_sec - a.tv_sec == 3600 && b.tv_nsec - a.tv_nsec < 1000000 &&
                   time(NULL) - start == 3600
               ? 30
               : 31;
}

static void on_signal(int signal)
{
    (void)signal;
    _exit(40);
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    volatile int zero = 0;

    if (strcmp(how, "read") == 0)
        return by_read();
    if (strcmp(how, "stdio") == 0)
        return by_stdio();
    if (strcmp(how, "line") == 0)
        return by_line();
    if (strcmp(how, "seek") == 0)
        return by_seek();
    if (strcmp(how, "libc") == 0)
        return by_libc();
    if (strcmp(how, "stat") == 0)
        return by_stat();
    if (strcmp(how, "child") == 0)
        return by_child();
    if (strcmp(how, "file") == 0)
        return by_file(argv[2]);
    if (strcmp(how, "open") == 0)
        return by_open(argv[2]);
    if (strcmp(how, "map") == 0)
        return by_map(argv[2]);
    if (strcmp(how, "fdopen") == 0)
        return by_stream(fdopen(0, "r"));
    if (strcmp(how, "/dev/stdin") == 0)
        return by_stream(fopen(how, "r"));
    if (strcmp(how, "fcntl") == 0)
        return by_stream(fdopen(fcntl(0, F_DUPFD, 10), "r"));
    if (strcmp(how, "other") == 0)
        return by_other_name(argv[2]);
    if (strcmp(how, "exit") == 0)
        exit(7);
    if (strcmp(how, "_exit") == 0)
        _exit(8);
    if (strcmp(how, "abort") == 0) {
        fprintf(stderr, "going down\n");
        abort();
    }
    if (strcmp(how, "assert") == 0)
        assert(zero == 1);
    if (strcmp(how, "segv") == 0)
        *(volatile int *)(long)zero = 1; // NOLINT
    if (strcmp(how, "fpe") == 0)
        return 100 / zero;
    if (strcmp(how, "overflow") == 0)
        return overflow();
    if (strcmp(how, "free") == 0) {
        char *p = malloc(1000);

        free(p);
        free(p + zero);
    }
    if (strcmp(how, "handled") == 0) {
        signal(SIGSEGV, on_signal);
        *(volatile int *)(long)zero = 1; // NOLINT
    }
    if (strcmp(how, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(how, "print") == 0) {
        for (int i = 0; i < 10000; i++)
            printf("line %d of many\n", i);
        return by_read();
    }
    if (strcmp(how, "random") == 0)
        return by_random();
    if (strcmp(how, "clock") == 0)
        return by_clock();
    return 99;
}
