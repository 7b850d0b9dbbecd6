/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/config_text.h"

/* Limits are given per second. */
#define REFILL_MS 1000u

/* NAME or NAME=VALUE, as it stands between two commas. */
struct word {
    char *name;
    char *value; /* NULL: there is no '=' */
};

static struct word split(char *text)
{
    char *equals = strchr(text, '=');

    if (equals != NULL)
        *equals = '\0';
    return (struct word){text, equals == NULL ? NULL : equals + 1};
}

/* "4096", "64K", "10M", "1G"; false for what is none of that, or is 0. */
static bool parse_scaled(const char *text, uint64_t *ret_n)
{
    size_t len = strspn(text, "0123456789");
    char digits[24];
    uint64_t scale = 1;
    uint64_t n = 0;
    bool good = len > 0 && len < sizeof(digits);

    if (good) {
        memcpy(digits, text, len);
        digits[len] = '\0';
        good = config_parse_number(digits, 1, INT64_MAX, &n, NULL) == 0;
    }
    switch (good ? text[len] : '?') {
    case '\0':
        break;
    case 'k':
    case 'K':
        scale = NUM_KIB;
        break;
    case 'm':
    case 'M':
        scale = NUM_MIB;
        break;
    case 'g':
    case 'G':
        scale = NUM_GIB;
        break;
    default:
        good = false;
    }
    good = good && (text[len] == '\0' || text[len + 1] == '\0') &&
           num_mul(n, scale, &n) && n <= INT64_MAX;
    if (good)
        *ret_n = n;
    return good;
}

/* So much a second. */
static int parse_rate(
    const char *text, struct rate_bucket_config *bucket, struct err *err)
{
    uint64_t n;

    if (!parse_scaled(text, &n))
        return err_set(err, EINVAL,
            "'%.32s' is no rate: write so much a second, as in 500, 64K, 10M",
            text);
    *bucket = (struct rate_bucket_config){.size = n, .refill_ms = REFILL_MS};
    return 0;
}

int run_devices_parse_bytes(
    const char *text, uint64_t min, uint64_t *ret_bytes, struct err *err)
{
    uint64_t n;

    if (!parse_scaled(text, &n) || n < min)
        return err_set(err, EINVAL,
            "'%.32s' is no size: write bytes, at least %llu, as in 64K, 10M, "
            "1G",
            text, (unsigned long long)min);
    *ret_bytes = n;
    return 0;
}

static int missing_value(const char *name, struct err *err)
{
    return err_set(err, EINVAL, "%.32s needs a value: %.32s=...", name, name);
}

/* A drive as it is read, which its words may turn into persistent memory. */
struct drive_words {
    struct config_drive drive;
    bool is_pmem;
};

/*
 * One word of --disk; 1 if it is none of its words, or is there twice, which
 * makes the first a part of the name.
 */
static int take_drive_word(
    struct drive_words *words, const struct word *w, struct err *err)
{
    struct config_drive *drive = &words->drive;
    uint64_t n = 0;
    int rc;

    if (strcmp(w->name, "ro") == 0 && w->value == NULL &&
        !drive->is_read_only) {
        drive->is_read_only = true;
        return 0;
    }
    if (strcmp(w->name, "pmem") == 0 && w->value == NULL && drive->is_root &&
        !words->is_pmem) {
        words->is_pmem = true;
        return 0;
    }
    if (strcmp(w->name, "id") == 0 && w->value != NULL)
        return config_set_string(&drive->id, w->value, err);
    if (strcmp(w->name, "overlay") == 0) {
        drive->overlay =
            w->value == NULL ? CONFIG_OVERLAY_MEMORY : CONFIG_OVERLAY_FILE;
        return w->value == NULL
                   ? 0
                   : config_set_string(&drive->overlay_path, w->value, err);
    }
    if (strcmp(w->name, "queues") == 0 && w->value != NULL) {
        rc = config_parse_number(w->value, 1, CONFIG_QUEUES_MAX, &n, err);
        drive->queues = (uint32_t)n;
        return rc < 0 ? err_wrap(err, rc, "queues") : 0;
    }
    if (strcmp(w->name, "max-growth") == 0 && w->value != NULL) {
        rc = run_devices_parse_bytes(
            w->value, NUM_PAGE_SIZE, &drive->max_growth, err);
        return rc < 0 ? err_wrap(err, rc, "max-growth") : 0;
    }
    if (strcmp(w->name, "rate") == 0 && w->value != NULL) {
        rc = parse_rate(w->value, &drive->limits.bytes, err);
        return rc < 0 ? err_wrap(err, rc, "rate") : 0;
    }
    if (strcmp(w->name, "iops") == 0 && w->value != NULL) {
        rc = parse_rate(w->value, &drive->limits.ops, err);
        return rc < 0 ? err_wrap(err, rc, "iops") : 0;
    }
    return 1;
}

/* Takes known words off the end of `text`, which is cut before each. */
static int take_drive_words(
    struct drive_words *words, char *text, struct err *err)
{
    char *comma;

    /* A name of nothing but words is a name. */
    while ((comma = strrchr(text, ',')) != NULL && comma != text) {
        char *copy = strdup(comma + 1);
        struct word w;
        int rc;

        if (copy == NULL)
            return err_sys(err, ENOMEM, "command line");
        w = split(copy);
        rc = take_drive_word(words, &w, err);
        free(copy);
        if (rc < 0)
            return rc;
        if (rc > 0)
            break;
        *comma = '\0';
    }
    return 0;
}

/*
 * fd=N instead of a file: one that we were started with, and that nobody whom
 * we start is to have. Its path from then on is the one that open(2) knows.
 */
static int take_descriptor(char **path, struct err *err)
{
    uint64_t fd = 0;
    char text[32];
    int rc;

    if (strncmp(*path, "fd=", 3) != 0)
        return 0;
    rc = config_parse_number(*path + 3, 3, INT32_MAX, &fd, err);
    if (rc < 0)
        return err_wrap(err, rc, "fd");
    if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_sys(err, errno, "descriptor %d", (int)fd);
    (void)snprintf(text, sizeof(text), "%s%d", FD_PATH, (int)fd);
    return config_set_string(path, text, err);
}

/* Persistent memory has none of what makes a drive but its file. */
static int add_as_pmem(
    struct config *config, const struct drive_words *words, struct err *err)
{
    const struct config_drive *d = &words->drive;
    const struct config_pmem pmem = {.id = d->id,
        .path = d->path,
        .is_root = d->is_root,
        .is_read_only = d->is_read_only};

    if (d->overlay != CONFIG_OVERLAY_NONE || d->queues != 1 ||
        d->max_growth != 0 || d->limits.bytes.size != 0 ||
        d->limits.ops.size != 0)
        return err_set(err, EINVAL,
            "%.64s: pmem goes with ro only: it is memory and no drive",
            d->path);
    return config_add_pmem(config, &pmem, err);
}

static int add_file(struct config *config, struct drive_words *words,
    const char *option, const char *id, const char *text, struct err *err)
{
    struct config_drive *drive = &words->drive;
    int rc;

    drive->id = strdup(id);
    drive->path = strdup(text);
    if (drive->id == NULL || drive->path == NULL)
        return err_sys(err, ENOMEM, "command line");
    rc = take_drive_words(words, drive->path, err);
    if (rc == 0)
        rc = take_descriptor(&drive->path, err);
    if (rc < 0)
        return err_wrap(err, rc, "%s %.64s", option, text);
    return words->is_pmem ? add_as_pmem(config, words, err)
                          : config_add_drive(config, drive, err);
}

int run_devices_add_drive(
    struct config *config, const char *text, bool is_root, struct err *err)
{
    struct drive_words words = {.drive = config_drive_default()};
    char id[16] = "rootfs";
    int rc;

    if (!is_root)
        (void)snprintf(id, sizeof(id), "disk%u", config->drive_count);
    words.drive.is_root = is_root;
    rc = add_file(
        config, &words, is_root ? "--rootfs" : "--disk", id, text, err);
    config_drive_fini(&words.drive);
    return rc;
}

int run_devices_add_pmem(
    struct config *config, const char *text, struct err *err)
{
    struct drive_words words = {
        .drive = config_drive_default(), .is_pmem = true};
    char id[16];
    int rc;

    (void)snprintf(id, sizeof(id), "pmem%u", config->pmem_count);
    rc = add_file(config, &words, "--pmem", id, text, err);
    config_drive_fini(&words.drive);
    return rc;
}

/* The first word of --net: what is behind the interface. */
static int take_backend(
    struct config_net *net, const struct word *w, struct err *err)
{
    static const struct {
        const char *name;
        enum config_net_backend backend;
        bool has_value;
    } backends[] = {
        {"user", CONFIG_NET_USER, false},
        {"tap", CONFIG_NET_TAP, true},
        {"fd", CONFIG_NET_FD, true},
        {"stream", CONFIG_NET_STREAM, true},
        {"switch", CONFIG_NET_SWITCH, true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
        uint64_t fd = 0;
        int rc;

        if (strcmp(w->name, backends[i].name) != 0)
            continue;
        if (backends[i].has_value && (w->value == NULL || *w->value == '\0'))
            return missing_value(w->name, err);
        if (!backends[i].has_value && w->value != NULL)
            return err_set(err, EINVAL, "%s takes no value", w->name);
        net->backend = backends[i].backend;
        if (net->backend != CONFIG_NET_FD)
            return backends[i].has_value
                       ? config_set_string(&net->target, w->value, err)
                       : 0;
        rc = config_parse_number(w->value, 3, INT32_MAX, &fd, err);
        net->fd = (int)fd;
        return rc < 0 ? err_wrap(err, rc, "fd") : 0;
    }
    return err_set(err, EINVAL,
        "it must begin with user, tap=NAME, fd=N, stream=PATH or switch=NAME");
}

static int add_forward(
    struct config_net *net, const char *text, bool is_udp, struct err *err)
{
    struct config_forward *f = &net->forwards[net->forward_count];

    if (net->forward_count == CONFIG_FORWARDS_MAX)
        return err_set(err, E2BIG, "more than %u ports", CONFIG_FORWARDS_MAX);
    f->is_udp = is_udp;
    net->forward_count++;
    return config_parse_forward(text, f, err);
}

static int take_id(struct config_net *net, const char *text, struct err *err)
{
    return config_set_string(&net->id, text, err);
}

static int take_mac(struct config_net *net, const char *text, struct err *err)
{
    net->has_mac = true;
    return config_parse_mac(text, net->mac, err);
}

static int take_mtu(struct config_net *net, const char *text, struct err *err)
{
    uint64_t mtu = 0;
    int rc = config_parse_number(text, 68, UINT16_MAX, &mtu, err);

    net->mtu = (uint16_t)mtu;
    return rc;
}

static int take_ip(struct config_net *net, const char *text, struct err *err)
{
    return config_parse_cidr(text, &net->address, &net->prefix, err);
}

static int take_gateway(
    struct config_net *net, const char *text, struct err *err)
{
    return config_parse_ipv4(text, &net->gateway, err);
}

static int take_rx(struct config_net *net, const char *text, struct err *err)
{
    return parse_rate(text, &net->rx.bytes, err);
}

static int take_tx(struct config_net *net, const char *text, struct err *err)
{
    return parse_rate(text, &net->tx.bytes, err);
}

static int take_rx_ops(
    struct config_net *net, const char *text, struct err *err)
{
    return parse_rate(text, &net->rx.ops, err);
}

static int take_tx_ops(
    struct config_net *net, const char *text, struct err *err)
{
    return parse_rate(text, &net->tx.ops, err);
}

static int take_tcp(struct config_net *net, const char *text, struct err *err)
{
    return add_forward(net, text, false, err);
}

static int take_udp(struct config_net *net, const char *text, struct err *err)
{
    return add_forward(net, text, true, err);
}

static int take_net_word(
    struct config_net *net, const struct word *w, struct err *err)
{
    static const struct {
        const char *name;
        int (*take)(struct config_net *, const char *, struct err *);
    } words[] = {
        {"id", take_id},
        {"mac", take_mac},
        {"mtu", take_mtu},
        {"ip", take_ip},
        {"gw", take_gateway},
        {"rx", take_rx},
        {"tx", take_tx},
        {"rx-ops", take_rx_ops},
        {"tx-ops", take_tx_ops},
        {"tcp", take_tcp},
        {"udp", take_udp},
    };

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        int rc;

        if (strcmp(w->name, words[i].name) != 0)
            continue;
        if (w->value == NULL)
            return missing_value(w->name, err);
        rc = words[i].take(net, w->value, err);
        return rc < 0 ? err_wrap(err, rc, "%s", w->name) : 0;
    }
    return err_set(err, EINVAL, "%.32s: unknown word", w->name);
}

static int take_net_words(struct config_net *net, char *text, struct err *err)
{
    char *rest = text;
    bool first = true;

    while (rest != NULL) {
        char *at = strsep(&rest, ",");
        struct word w = split(at);
        int rc =
            first ? take_backend(net, &w, err) : take_net_word(net, &w, err);

        if (rc < 0)
            return rc;
        first = false;
    }
    if (net->forward_count > 0 && net->backend != CONFIG_NET_USER)
        return err_set(err, EINVAL, "tcp and udp are for user only");
    return 0;
}

int run_devices_add_net(
    struct config *config, const char *text, struct err *err)
{
    struct config_net net = config_net_default();
    char id[16];
    char *copy = strdup(text);
    int rc = 0;

    (void)snprintf(id, sizeof(id), "eth%u", config->net_count);
    net.id = strdup(id);
    if (copy == NULL || net.id == NULL)
        rc = err_sys(err, ENOMEM, "command line");
    if (rc == 0)
        rc = take_net_words(&net, copy, err);
    if (rc == 0)
        rc = config_add_net(config, &net, err);
    if (rc < 0)
        rc = err_wrap(err, rc, "--net %.64s", text);
    config_net_fini(&net);
    free(copy);
    return rc;
}

static int take_balloon_word(
    struct config_balloon *balloon, const struct word *w, struct err *err)
{
    uint64_t n = 0;
    int rc;

    if (strcmp(w->name, "stats") == 0) {
        if (w->value == NULL)
            return missing_value(w->name, err);
        rc = config_parse_number(w->value, 1, UINT16_MAX, &n, err);
        balloon->stats_interval_s = (uint32_t)n;
        return rc < 0 ? err_wrap(err, rc, "stats") : 0;
    }
    if (w->value != NULL)
        return err_set(err, EINVAL, "%.32s: unknown word", w->name);
    if (strcmp(w->name, "oom") == 0)
        balloon->deflate_on_oom = true;
    else if (strcmp(w->name, "report") == 0)
        balloon->page_reporting = true;
    else if (strcmp(w->name, "hint") == 0)
        balloon->page_hinting = true;
    else
        return err_set(err, EINVAL, "%.32s: unknown word", w->name);
    return 0;
}

int run_devices_set_balloon(
    struct config *config, const char *text, struct err *err)
{
    struct config_balloon balloon = {0};
    char *copy = strdup(text);
    char *rest = copy;
    char *first;
    int rc;

    if (copy == NULL)
        return err_sys(err, ENOMEM, "command line");
    first = strsep(&rest, ",");
    rc = config_parse_number(first, 0, UINT32_MAX, &balloon.target_mib, err);
    while (rc == 0 && rest != NULL) {
        struct word w = split(strsep(&rest, ","));

        rc = take_balloon_word(&balloon, &w, err);
    }
    free(copy);
    if (rc < 0)
        return err_wrap(err, rc, "--balloon %.64s", text);
    config->has_balloon = true;
    config->balloon = balloon;
    return 0;
}
