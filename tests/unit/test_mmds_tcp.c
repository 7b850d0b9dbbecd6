/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/unit/support/mmds_client.h"
#include "vmm/base/clock.h"
#include "vmm/config.h"

#define TEXT_MAX 8192u
#define LONG_LEN 5000u

struct rig {
    struct mmds mmds;
    struct mmds_tcp tcp;
    char text[TEXT_MAX];
    bool fin;
};

/* {"a": {"b": "c"}, "long": "xxx..."} */
static int set_up(void **state)
{
    struct rig *g = calloc(1, sizeof(*g));
    char *text = malloc(LONG_LEN + 1);
    json_t *data;

    assert_non_null(g);
    assert_non_null(text);
    memset(text, 'x', LONG_LEN);
    text[LONG_LEN] = '\0';
    mmds_init(&g->mmds);
    g->mmds.address = CONFIG_MMDS_ADDRESS;
    data = json_pack("{s:{s:s}, s:s}", "a", "b", "c", "long", text);
    assert_int_equal(mmds_put(&g->mmds, data, NULL), 0);
    json_decref(data);
    free(text);
    mmds_tcp_init(&g->tcp, &g->mmds);
    *state = g;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *g = *state;

    mmds_tcp_reset(&g->tcp);
    assert_int_equal(
        g->tcp.stats.connections_created, g->tcp.stats.connections_destroyed);
    mmds_fini(&g->mmds);
    free(g);
    return 0;
}

static void hear(struct rig *g, struct mmds_client *c)
{
    mmds_client_hear(c, g->text, sizeof(g->text), &g->fin);
}

static unsigned int count_conns(const struct rig *g)
{
    unsigned int n = 0;

    for (size_t i = 0; i < MMDS_CONNECTIONS_MAX; i++)
        n += g->tcp.conns[i].state != MMDS_CONN_FREE;
    return n;
}

static const char ok_c[] = "HTTP/1.1 200 \r\n"
                           "Server: Firecracker API\r\n"
                           "Connection: keep-alive\r\n"
                           "Content-Type: text/plain\r\n"
                           "Content-Length: 1\r\n\r\nc";

static const char get_c[] = "GET /a/b HTTP/1.1\r\n\r\n";

static void answers_arp(void **state)
{
    struct rig *g = *state;
    uint8_t frame[MMDS_FRAME_OUT_MAX];
    uint8_t ask[ETH_BYTES + ARP_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff,
        0xff,                               /* to all */
        2, 0xfc, 0, 0, 0, 5, 8, 6,          /* from, ARP */
        0, 1, 8, 0, 6, 4, 0, 1,             /* a request */
        2, 0xfc, 0, 0, 0, 5, 172, 16, 0, 2, /* from */
        0, 0, 0, 0, 0, 0, 169, 254, 169, 254};
    static const uint8_t reply[ETH_BYTES + ARP_BYTES] = {2, 0xfc, 0, 0, 0, 5, 6,
        1, 0x23, 0x45, 0x67, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 6, 1, 0x23, 0x45,
        0x67, 1, 169, 254, 169, 254, 2, 0xfc, 0, 0, 0, 5, 172, 16, 0, 2};

    assert_true(mmds_tcp_wants(&g->tcp, ask, sizeof(ask)));
    mmds_tcp_input(&g->tcp, ask, sizeof(ask), true, 0);
    assert_true(mmds_tcp_has_output(&g->tcp));
    assert_int_equal(mmds_tcp_output(&g->tcp, frame), sizeof(reply));
    assert_memory_equal(frame, reply, sizeof(reply));
    assert_int_equal(mmds_tcp_output(&g->tcp, frame), 0);
    assert_false(mmds_tcp_has_output(&g->tcp));
    /* A reply, another address, and half a request are not for it. */
    ask[ETH_BYTES + ARP_OP + 1] = 2;
    assert_false(mmds_tcp_wants(&g->tcp, ask, sizeof(ask)));
    ask[ETH_BYTES + ARP_OP + 1] = 1;
    assert_false(mmds_tcp_wants(&g->tcp, ask, sizeof(ask) - 1));
    ask[sizeof(ask) - 1] = 253;
    assert_false(mmds_tcp_wants(&g->tcp, ask, sizeof(ask)));
}

static void serves_a_request(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;

    mmds_client_connect(&c, &g->tcp, 1234);
    mmds_client_say(&c, get_c);
    hear(g, &c);
    assert_string_equal(g->text, ok_c);
    assert_false(g->fin);
    mmds_client_say(&c, get_c);
    hear(g, &c);
    assert_string_equal(g->text, ok_c);
    assert_int_equal(count_conns(g), 1);
}

static void takes_a_request_in_pieces(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;

    mmds_client_connect(&c, &g->tcp, 1234);
    for (size_t i = 0; get_c[i] != '\0'; i++) {
        const char one[2] = {get_c[i], '\0'};

        assert_int_equal(i == 0 ? 0 : g->text[0], 0);
        mmds_client_say(&c, one);
        hear(g, &c);
    }
    assert_string_equal(g->text, ok_c);
}

static void answers_one_after_the_other(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    char all[TEXT_MAX];

    mmds_client_connect(&c, &g->tcp, 1234);
    (void)snprintf(all, sizeof(all), "%s%s%sGET", get_c, get_c, get_c);
    mmds_client_say(&c, all);
    hear(g, &c);
    (void)snprintf(all, sizeof(all), "%s%s%s", ok_c, ok_c, ok_c);
    assert_string_equal(g->text, all);
}

static void ends_when_both_have_said_all(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    struct mmds_client_segment s;

    mmds_client_connect(&c, &g->tcp, 1234);
    mmds_client_say(&c, "GET /a/b HTTP/1.1\r\nConnection: close\r\n\r\n");
    hear(g, &c);
    assert_true(g->fin);
    assert_non_null(strstr(g->text, "Connection: close\r\n"));
    assert_int_equal(count_conns(g), 1);
    s = (struct mmds_client_segment){.port = c.port,
        .seq = c.seq,
        .ack = c.ack,
        .flags = TCP_ACKED | TCP_FIN,
        .window = c.window};
    mmds_client_send(&c, &s);
    assert_true(mmds_client_next(&c, &s));
    assert_int_equal(s.ack, c.seq + 1);
    assert_int_equal(count_conns(g), 0);
    /* Once more: nobody knows it any more. */
    s = (struct mmds_client_segment){.port = c.port,
        .seq = c.seq,
        .ack = c.ack,
        .flags = TCP_ACKED | TCP_FIN};
    mmds_client_send(&c, &s);
    assert_true(mmds_client_next(&c, &s));
    assert_int_equal(s.flags, TCP_RST);
    assert_int_equal(s.seq, c.ack);
}

static void ends_after_the_guest(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    const struct mmds_client_segment fin = {.port = 1234,
        .seq = 1001 + sizeof(get_c) - 1,
        .flags = TCP_ACKED | TCP_FIN,
        .window = 65535};
    struct mmds_client_segment s = fin;

    mmds_client_connect(&c, &g->tcp, 1234);
    mmds_client_say(&c, get_c);
    s.ack = c.ack;
    mmds_client_send(&c, &s);
    c.seq++;
    hear(g, &c);
    assert_string_equal(g->text, ok_c);
    assert_true(g->fin);
    assert_int_equal(count_conns(g), 0);
}

static void acknowledges_what_it_has(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    struct mmds_client_segment s;
    uint32_t first;

    mmds_client_connect(&c, &g->tcp, 1234);
    first = c.seq;
    /* The second half before the first, which is then sent twice. */
    c.seq = first + 10;
    mmds_client_say(&c, get_c + 10);
    assert_true(mmds_client_next(&c, &s));
    assert_int_equal(s.ack, first);
    assert_int_equal(s.len, 0);
    for (int i = 0; i < 2; i++) {
        c.seq = first;
        mmds_client_send(&c, &(struct mmds_client_segment){.port = c.port,
                                 .seq = first,
                                 .ack = c.ack,
                                 .flags = TCP_ACKED,
                                 .window = c.window,
                                 .data = get_c,
                                 .len = 10});
        assert_true(mmds_client_next(&c, &s));
        assert_int_equal(s.ack, first + 10);
    }
    /* All of it, of which a part is new. */
    c.seq = first;
    mmds_client_say(&c, get_c);
    hear(g, &c);
    assert_string_equal(g->text, ok_c);
    /* And once more, after the answer: nothing but an acknowledgement. */
    c.seq = first;
    mmds_client_say(&c, get_c);
    hear(g, &c);
    assert_string_equal(g->text, "");
}

static void keeps_two_apart(void **state)
{
    struct rig *g = *state;
    struct mmds_client a;
    struct mmds_client b;

    mmds_client_connect(&a, &g->tcp, 1);
    mmds_client_connect(&b, &g->tcp, 2);
    mmds_client_say(&a, "GET /a HTTP/1.1\r\n");
    hear(g, &a);
    mmds_client_say(&b, get_c);
    hear(g, &b);
    assert_string_equal(g->text, ok_c);
    mmds_client_say(&a, "\r\n");
    hear(g, &a);
    assert_non_null(strstr(g->text, "\r\n\r\nb"));
}

static void waits_for_a_window(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    struct mmds_client_segment s;
    size_t got = 0;

    mmds_client_connect(&c, &g->tcp, 1234);
    c.window = 0;
    mmds_client_say(&c, "GET /long HTTP/1.1\r\n\r\n");
    assert_true(mmds_client_next(&c, &s));
    assert_int_equal(s.len, 0);
    assert_false(mmds_client_next(&c, &s));
    /* Then as much as there is room for, and no more. */
    while (got < LONG_LEN) {
        c.window = 700;
        mmds_client_send(&c, &(struct mmds_client_segment){.port = c.port,
                                 .seq = c.seq,
                                 .ack = c.ack,
                                 .flags = TCP_ACKED,
                                 .window = c.window});
        assert_true(mmds_client_next(&c, &s));
        assert_int_equal(s.seq, c.ack);
        assert_in_range(s.len, 1, 700);
        got += s.len;
        c.ack += (uint32_t)s.len;
        assert_false(mmds_client_next(&c, &s));
    }
    assert_in_range(got, LONG_LEN + 100, LONG_LEN + 200);
}

static void keeps_to_the_segment_size(void **state)
{
    struct rig *g = *state;
    struct mmds_client c = {
        .tcp = &g->tcp, .port = 9, .seq = 77, .window = 65535};
    struct mmds_client_segment s = {
        .port = 9, .seq = 77, .flags = TCP_SYN, .window = 65535, .mss = 300};
    unsigned int n = 0;

    mmds_client_send(&c, &s);
    assert_true(mmds_client_next(&c, &s));
    c.seq = 78;
    c.ack = s.seq + 1;
    mmds_client_say(&c, "GET /long HTTP/1.1\r\n\r\n");
    while (mmds_client_next(&c, &s)) {
        assert_in_range(s.len, 1, 300);
        n++;
    }
    assert_in_range(n, LONG_LEN / 300, LONG_LEN / 300 + 2);
    /* And too small a one is refused. */
    s = (struct mmds_client_segment){
        .port = 10, .seq = 5, .flags = TCP_SYN, .mss = 20};
    mmds_client_send(&c, &s);
    assert_true(mmds_client_next(&c, &s));
    assert_int_equal(s.flags, TCP_RST | TCP_ACKED);
    assert_int_equal(s.ack, 6);
}

static void sends_again_what_is_missed(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    struct mmds_client_segment s;
    uint32_t lost;

    mmds_client_connect(&c, &g->tcp, 1234);
    mmds_client_say(&c, "GET /long HTTP/1.1\r\n\r\n");
    lost = c.ack;
    while (mmds_client_next(&c, &s))
        continue;
    for (int i = 0; i < 3; i++) {
        assert_false(mmds_client_next(&c, &s));
        mmds_client_send(&c, &(struct mmds_client_segment){.port = c.port,
                                 .seq = c.seq,
                                 .ack = lost,
                                 .flags = TCP_ACKED,
                                 .window = c.window});
    }
    hear(g, &c);
    assert_in_range(strlen(g->text), LONG_LEN + 100, LONG_LEN + 200);
    assert_memory_equal(g->text, "HTTP/1.1 200 ", 13);
    assert_false(g->fin);
}

/* The last segments are gone, and nobody says so. */
static void sends_again_by_the_clock(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    struct mmds_client_segment s;
    uint64_t now_ns = 1;

    mmds_client_connect(&c, &g->tcp, 1234);
    assert_false(mmds_tcp_is_waiting(&g->tcp));
    mmds_client_say(&c, get_c);
    for (int i = 0; i < 2; i++) {
        assert_true(mmds_client_next(&c, &s));
        assert_int_equal(s.len, strlen(ok_c));
        assert_false(mmds_client_next(&c, &s));
        assert_true(mmds_tcp_is_waiting(&g->tcp));
        mmds_tcp_tick(&g->tcp, now_ns);
        assert_false(mmds_client_next(&c, &s));
        /* The second time it waits for twice as long. */
        now_ns += MMDS_TICK_NS << i;
        mmds_tcp_tick(&g->tcp, now_ns - 1);
        assert_false(mmds_client_next(&c, &s));
        mmds_tcp_tick(&g->tcp, now_ns);
    }
    hear(g, &c);
    assert_string_equal(g->text, ok_c);
    assert_false(mmds_tcp_is_waiting(&g->tcp));
    mmds_tcp_tick(&g->tcp, now_ns + 1000 * MMDS_TICK_NS);
    assert_false(mmds_client_next(&c, &s));
}

static void gives_up_a_guest_that_is_gone(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    struct mmds_client_segment s;
    uint64_t now_ns = 1;
    unsigned int times = 0;

    mmds_client_connect(&c, &g->tcp, 1234);
    mmds_client_say(&c, get_c);
    for (int i = 0; i < 1000 && count_conns(g) > 0; i++) {
        while (mmds_client_next(&c, &s) && (s.flags & TCP_RST) == 0)
            times++;
        mmds_tcp_tick(&g->tcp, now_ns);
        now_ns += MMDS_TICK_NS;
    }
    assert_int_equal(count_conns(g), 0);
    assert_int_equal(times, 1 + MMDS_RESENDS_MAX);
    assert_true(mmds_client_next(&c, &s));
    assert_true((s.flags & TCP_RST) != 0);
}

static void shakes_hands_once_more(void **state)
{
    struct rig *g = *state;
    struct mmds_client c = {
        .tcp = &g->tcp, .port = 9, .seq = 77, .window = 65535};
    const struct mmds_client_segment syn = {
        .port = 9, .seq = 77, .flags = TCP_SYN, .window = 65535, .mss = 1460};
    struct mmds_client_segment s;
    struct mmds_client_segment again;

    mmds_client_send(&c, &syn);
    assert_true(mmds_client_next(&c, &s));
    mmds_client_send(&c, &syn);
    assert_true(mmds_client_next(&c, &again));
    assert_int_equal(again.flags, TCP_SYN | TCP_ACKED);
    assert_int_equal(again.seq, s.seq);
    /* One of another number is another connection. */
    c.seq = 500;
    mmds_client_send(
        &c, &(struct mmds_client_segment){
                .port = 9, .seq = 500, .flags = TCP_SYN, .mss = 1460});
    assert_true(mmds_client_next(&c, &again));
    assert_int_equal(again.ack, 501);
    assert_int_equal(count_conns(g), 1);
}

static void ends_at_a_reset(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    struct mmds_client_segment s = {.port = 1234, .flags = TCP_RST};

    mmds_client_connect(&c, &g->tcp, 1234);
    s.seq = c.seq + 1;
    mmds_client_send(&c, &s);
    assert_int_equal(count_conns(g), 1);
    s.seq = c.seq;
    mmds_client_send(&c, &s);
    assert_int_equal(count_conns(g), 0);
    assert_false(mmds_client_next(&c, &s));
}

static void resets_what_it_does_not_know(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    struct mmds_client_segment s;

    mmds_client_connect(&c, &g->tcp, 1234);
    /* As after a restore. */
    mmds_tcp_reset(&g->tcp);
    mmds_client_say(&c, get_c);
    assert_true(mmds_client_next(&c, &s));
    assert_int_equal(s.flags, TCP_RST);
    assert_int_equal(s.seq, c.ack);
    assert_false(mmds_client_next(&c, &s));
}

static void bounds_connections(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    struct mmds_client_segment s;

    for (unsigned int i = 0; i < MMDS_CONNECTIONS_MAX; i++)
        mmds_client_connect(&c, &g->tcp, (uint16_t)(100 + i));
    s = (struct mmds_client_segment){
        .port = 99, .seq = 1, .flags = TCP_SYN, .mss = 1460};
    mmds_client_send(&c, &s);
    assert_true(mmds_client_next(&c, &s));
    assert_int_equal(s.flags, TCP_RST | TCP_ACKED);
    assert_int_equal(count_conns(g), MMDS_CONNECTIONS_MAX);
    /* Later the one that has been quiet for the longest makes way. */
    c.now_ns += 60 * CLOCK_NS_PER_S;
    s = (struct mmds_client_segment){
        .port = 99, .seq = 1, .flags = TCP_SYN, .mss = 1460};
    mmds_client_send(&c, &s);
    assert_true(mmds_client_next(&c, &s));
    assert_true((s.flags & TCP_RST) != 0 && s.port == 100);
    assert_true(mmds_client_next(&c, &s));
    assert_true(s.flags == (TCP_SYN | TCP_ACKED) && s.port == 99);
    assert_int_equal(count_conns(g), MMDS_CONNECTIONS_MAX);
}

static void bounds_resets(void **state)
{
    struct rig *g = *state;
    struct mmds_client c = {.tcp = &g->tcp};
    struct mmds_client_segment s;
    unsigned int n = 0;

    for (unsigned int i = 0; i < 10 * MMDS_RESETS_MAX; i++)
        mmds_client_send(&c, &(struct mmds_client_segment){
                                 .port = (uint16_t)i, .flags = TCP_ACKED});
    while (mmds_client_next(&c, &s))
        n++;
    assert_int_equal(n, MMDS_RESETS_MAX);
}

static void bounds_requests(void **state)
{
    struct rig *g = *state;
    struct mmds_client c;
    char text[MMDS_REQUEST_MAX + 2];

    memset(text, 'A', sizeof(text));
    memcpy(text, "GET /", 5);
    text[MMDS_REQUEST_MAX + 1] = '\0';
    mmds_client_connect(&c, &g->tcp, 1234);
    mmds_client_say(&c, text);
    /* A byte more than there was room for. */
    c.seq--;
    hear(g, &c);
    assert_memory_equal(g->text, "HTTP/1.1 400 ", 13);
    assert_true(g->fin);
}

static void drops_what_makes_no_sense(void **state)
{
    struct rig *g = *state;
    struct mmds_client c = {.tcp = &g->tcp};
    const struct mmds_client_segment s = {
        .port = 1, .seq = 1, .flags = TCP_SYN, .mss = 1460};
    uint8_t good[128];
    uint8_t frame[MMDS_FRAME_OUT_MAX];
    size_t len = mmds_client_make(&g->tcp, &s, good);
    /* A byte each, and what it makes of the sums does not matter. */
    static const struct {
        size_t at;
        uint8_t value;
    } bad[] = {
        {ETH_BYTES + IP_VERSION_IHL, 0x65},
        {ETH_BYTES + IP_VERSION_IHL, 0x44},
        {ETH_BYTES + IP_VERSION_IHL, 0x4f},
        {ETH_BYTES + IP_TOTAL, 0xff},
        {ETH_BYTES + IP_TOTAL + 1, 30},
        {ETH_BYTES + IP_FRAGMENT, 0x20},
        {ETH_BYTES + IP_FRAGMENT + 1, 1},
        {ETH_BYTES + IP_SUM, 0x12},
        {ETH_BYTES + IP_BYTES + TCP_OFFSET, 0x40},
        {ETH_BYTES + IP_BYTES + TCP_OFFSET, 0xf0},
        {ETH_BYTES + IP_BYTES + TCP_DST + 1, 81},
        {ETH_BYTES + IP_BYTES + TCP_SUM, 0x12},
        {ETH_BYTES + IP_BYTES + TCP_SEQ, 0x12},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        bool of_ip = bad[i].at < ETH_BYTES + IP_BYTES;

        memcpy(frame, good, sizeof(good));
        frame[bad[i].at] = bad[i].value;
        if (of_ip && bad[i].at != ETH_BYTES + IP_SUM) {
            mmds_put16(frame + ETH_BYTES + IP_SUM, 0);
            mmds_put16(frame + ETH_BYTES + IP_SUM,
                mmds_fold(mmds_sum(0, frame + ETH_BYTES, IP_BYTES)));
        }
        mmds_tcp_input(&g->tcp, frame, len, true, 0);
        assert_int_equal(g->tcp.stats.rx_accepted_err, i + 1);
        assert_int_equal(count_conns(g), 0);
        assert_int_equal(mmds_tcp_output(&g->tcp, frame), 0);
    }
    /* A sum that the driver has left to the device is not looked at. */
    memcpy(frame, good, sizeof(good));
    mmds_put16(frame + ETH_BYTES + IP_BYTES + TCP_SUM, 0x1234);
    mmds_tcp_input(&g->tcp, frame, len, false, 0);
    assert_int_equal(count_conns(g), 1);
    /* Something else than TCP. */
    memcpy(frame, good, sizeof(good));
    frame[ETH_BYTES + IP_PROTO] = 17;
    mmds_put16(frame + ETH_BYTES + IP_SUM, 0);
    mmds_put16(frame + ETH_BYTES + IP_SUM,
        mmds_fold(mmds_sum(0, frame + ETH_BYTES, IP_BYTES)));
    mmds_tcp_input(&g->tcp, frame, len, true, 0);
    assert_int_equal(g->tcp.stats.rx_unusual, 1);
    (void)c;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(answers_arp),
        TEST(serves_a_request),
        TEST(takes_a_request_in_pieces),
        TEST(answers_one_after_the_other),
        TEST(ends_when_both_have_said_all),
        TEST(ends_after_the_guest),
        TEST(acknowledges_what_it_has),
        TEST(keeps_two_apart),
        TEST(waits_for_a_window),
        TEST(keeps_to_the_segment_size),
        TEST(sends_again_what_is_missed),
        TEST(sends_again_by_the_clock),
        TEST(gives_up_a_guest_that_is_gone),
        TEST(shakes_hands_once_more),
        TEST(ends_at_a_reset),
        TEST(resets_what_it_does_not_know),
        TEST(bounds_connections),
        TEST(bounds_resets),
        TEST(bounds_requests),
        TEST(drops_what_makes_no_sense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
