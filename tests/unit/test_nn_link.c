/* nn_link: delivery, signatures, and peers that send what nobody should. */
#include "common/loop.h"
#include "common/nn_link.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"

#include <errno.h>
#include <nanomsg/pipeline.h>
#include <nanomsg/pubsub.h>
#include <nanomsg/survey.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct inbox {
    struct loop *loop;
    struct nn_link *link;
    unsigned n, wanted;
    size_t len;
    char last[NN_LINK_MESSAGE_MAX + 1];
    bool close_on_message;
    uint64_t wanted_drops;
};

static void inbox_on_message(void *ctx, const char *data, size_t len)
{
    struct inbox *in = ctx;

    assert_int_equal(data[len], '\0');
    in->n++;
    in->len = len;
    memcpy(in->last, data, len + 1);
    if (in->close_on_message) {
        nn_link_close(in->link);
        in->link = NULL;
    }
}

static bool has_messages(void *ctx)
{
    struct inbox *in = ctx;

    return in->n >= in->wanted && (!in->link || nn_link_dropped(in->link) >= in->wanted_drops);
}

static void wait_inbox(struct inbox *in, unsigned n, uint64_t drops)
{
    in->wanted = n;
    in->wanted_drops = drops;
    assert_true(wait_until(in->loop, has_messages, in, WAIT_MS));
    assert_int_equal(in->n, n);
}

struct sending {
    struct nn_link *link;
    const char *data;
    size_t len;
};

static bool is_sent(void *ctx)
{
    struct sending *s = ctx;

    return nn_link_send(s->link, s->data, s->len) == 0;
}

/* A PUSH says BUSY until it is connected. */
static void push(struct loop *loop, struct nn_link *link, const char *data, size_t len)
{
    struct sending s = {link, data, len};

    assert_true(wait_until(loop, is_sent, &s, WAIT_MS));
}

static struct nn_link *opened(struct loop *loop, int protocol, const struct nn_link_key *key,
                              struct inbox *in)
{
    struct nn_link *link = NULL;

    assert_int_equal(nn_link_open(&link, loop, protocol, key, in ? inbox_on_message : NULL, in), 0);
    if (in) {
        in->loop = loop;
        in->link = link;
    }
    return link;
}

static const char *url_of(uint16_t port)
{
    static char url[40];

    (void)snprintf(url, sizeof url, "tcp://127.0.0.1:%u", port);
    return url;
}

static uint16_t bound(struct nn_link *link)
{
    uint16_t port = 0;

    assert_int_equal(nn_link_bind_any(link, "127.0.0.1", 0, &port), 0);
    assert_int_not_equal(port, 0);
    return port;
}

static const struct nn_link_key right = {.len = 16, .bytes = "0123456789abcdef"};
static const struct nn_link_key wrong = {.len = 16, .bytes = "0123456789abcdeF"};

static void test_unsigned_and_signed_messages_arrive(void **state)
{
    const struct nn_link_key *keys[] = {NULL, &right};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct loop *loop = loop_create(false);
        struct inbox *in = calloc(1, sizeof *in);
        struct nn_link *pull = opened(loop, NN_PULL, keys[i], in),
                       *sender = opened(loop, NN_PUSH, keys[i], NULL);
        char *large = malloc(NN_LINK_MESSAGE_MAX + 1);
        int endpoint = -1;

        assert_int_equal(nn_link_send(sender, "x", 1), ERR_BUSY); /* nobody there: never blocks */
        assert_int_equal(nn_link_connect(sender, url_of(bound(pull)), &endpoint), 0);
        push(loop, sender, "hello", 5);
        wait_inbox(in, 1, 0);
        assert_string_equal(in->last, "hello");
        push(loop, sender, "", 0);
        wait_inbox(in, 2, 0);
        assert_int_equal(in->len, 0);
        memset(large, 'x', NN_LINK_MESSAGE_MAX + 1);
        push(loop, sender, large, NN_LINK_MESSAGE_MAX);
        wait_inbox(in, 3, 0);
        assert_int_equal(in->len, NN_LINK_MESSAGE_MAX);
        assert_int_equal(nn_link_send(sender, large, NN_LINK_MESSAGE_MAX + 1), ERR_TOO_LARGE);
        nn_link_disconnect(sender, endpoint);
        nn_link_close(sender);
        nn_link_close(pull);
        loop_destroy(loop);
        free(large);
        free(in);
    }
}

static void test_wrong_or_no_signature_is_dropped(void **state)
{
    struct loop *loop = loop_create(false);
    struct inbox *in = calloc(1, sizeof *in);
    struct nn_link *pull = opened(loop, NN_PULL, &right, in);
    struct nn_link *forger = opened(loop, NN_PUSH, &wrong, NULL),
                   *stranger = opened(loop, NN_PUSH, NULL, NULL);
    struct nn_link *friend = opened(loop, NN_PUSH, &right, NULL);
    const char *url = url_of(bound(pull));
    char large[NN_LINK_MESSAGE_MAX];

    (void)state;
    memset(large, 'x', sizeof large);
    assert_int_equal(nn_link_connect(forger, url, NULL), 0);
    assert_int_equal(nn_link_connect(stranger, url, NULL), 0);
    push(loop, forger, "hello", 5);
    push(loop, stranger, "shorter than a signature", 24);
    push(loop, stranger, large, 1000);
    wait_inbox(in, 0, 3);
    assert_int_equal(nn_link_connect(friend, url, NULL), 0);
    push(loop, friend, "hello", 5);
    wait_inbox(in, 1, 3);
    assert_string_equal(in->last, "hello");
    nn_link_close(forger);
    nn_link_close(stranger);
    nn_link_close(friend);
    nn_link_close(pull);
    loop_destroy(loop);
    free(in);
}

static void test_bind_any_and_bind_conflict(void **state)
{
    struct loop *loop = loop_create(false);
    struct nn_link *one = opened(loop, NN_PUSH, NULL, NULL), *two = opened(loop, NN_PUSH, NULL, NULL);
    uint16_t port = bound(one), other = 0;

    (void)state;
    assert_int_equal(nn_link_bind(two, url_of(port), NULL), ERR_EXISTS);
    assert_int_equal(nn_link_bind_any(two, "127.0.0.1", port, &other), ERR_EXISTS);
    assert_int_equal(nn_link_bind_any(two, "127.0.0.1", 0, &other), 0);
    assert_int_not_equal(other, port);
    assert_int_equal(nn_link_bind_any(two, "not an address", 0, &other), ERR_INVALID);
    assert_int_equal(nn_link_bind(two, "nonsense", NULL), ERR_INVALID);
    assert_int_equal(nn_link_bind(two, "ipc:///tmp/x", NULL), ERR_INVALID);
    assert_int_equal(nn_link_connect(two, "tcp://", NULL), ERR_INVALID);
    assert_int_equal(nn_link_connect(two, "tcp://localhost:1", NULL), ERR_INVALID);
    assert_int_equal(nn_link_bind_any(two, "::1", 0, &other), 0);
    nn_link_close(one);
    nn_link_close(two);
    loop_destroy(loop);
}

static void test_wrong_use_is_refused(void **state)
{
    struct loop *loop = loop_create(false);
    struct inbox *in = calloc(1, sizeof *in);
    struct nn_link *link = NULL;

    (void)state;
    assert_int_equal(nn_link_open(&link, loop, NN_PUSH, NULL, inbox_on_message, in), ERR_INVALID);
    assert_int_equal(nn_link_open(&link, loop, 12345, NULL, NULL, NULL), ERR_INVALID);
    loop_destroy(loop);
    free(in);
}

static void test_reconnects_after_the_peers_restart(void **state)
{
    struct loop *loop = loop_create(false);
    struct inbox *in = calloc(1, sizeof *in);
    struct nn_link *pull = opened(loop, NN_PULL, NULL, in), *sender = opened(loop, NN_PUSH, NULL, NULL);
    uint16_t port = bound(pull);

    (void)state;
    assert_int_equal(nn_link_connect(sender, url_of(port), NULL), 0);
    push(loop, sender, "one", 3);
    wait_inbox(in, 1, 0);
    nn_link_close(pull);
    pull = opened(loop, NN_PULL, NULL, in);
    assert_int_equal(nn_link_bind(pull, url_of(port), NULL), 0);
    /* A message that went into the dying connection is lost: send until one arrives. */
    in->wanted = 2;
    while (in->n < 2) {
        (void)!nn_link_send(sender, "two", 3);
        (void)wait_until(loop, has_messages, in, 20);
    }
    assert_string_equal(in->last, "two");
    nn_link_close(pull);
    nn_link_close(sender);
    loop_destroy(loop);
    free(in);
}

static void test_close_inside_the_callback(void **state)
{
    struct loop *loop = loop_create(false);
    struct inbox *in = calloc(1, sizeof *in);
    struct nn_link *pull = opened(loop, NN_PULL, NULL, in), *sender = opened(loop, NN_PUSH, NULL, NULL);

    (void)state;
    in->close_on_message = true;
    assert_int_equal(nn_link_connect(sender, url_of(bound(pull)), NULL), 0);
    push(loop, sender, "one", 3);
    (void)!nn_link_send(sender, "two", 3);
    wait_inbox(in, 1, 0);
    wait_for(loop, 30);
    assert_int_equal(in->n, 1);
    nn_link_close(sender);
    loop_destroy(loop);
    free(in);
}

/* ---- stray frames: SP over TCP is 8 bytes of greeting, then 8 bytes of length before each message --------
 */

static void greet(int fd, unsigned char protocol)
{
    const char greeting[8] = {0, 'S', 'P', 0, 0, (char)protocol, 0, 0};

    assert_int_equal(send(fd, greeting, 8, MSG_NOSIGNAL), 8);
}

static void send_frame(int fd, uint64_t announced, const char *data, size_t len)
{
    unsigned char head[8];

    for (int i = 0; i < 8; i++)
        head[i] = (unsigned char)(announced >> (56 - 8 * i));
    (void)!send(fd, head, 8, MSG_NOSIGNAL); /* the peer may have hung up: its right */
    (void)!send(fd, data, len, MSG_NOSIGNAL);
}

static bool is_at_end(void *ctx)
{
    char bytes[256];
    ssize_t n;

    do
        n = recv(*(int *)ctx, bytes, sizeof bytes, MSG_DONTWAIT);
    while (n > 0);
    return n == 0 || errno != EAGAIN;
}

/* Closes after the peer has, so that it has read everything. A peer that swallows the end in silence is fine
 * too, hence no assertion. */
static void hang_up(struct loop *loop, int fd)
{
    (void)shutdown(fd, SHUT_WR);
    (void)wait_until(loop, is_at_end, &fd, 200);
    close(fd);
}

/* The protocol numbers of SP: 16 × family + role. */
enum {
    SP_PUB = 0x20,
    SP_SUB = 0x21,
    SP_PUSH = 0x50,
    SP_PULL = 0x51,
    SP_SURVEYOR = 0x62,
    SP_RESPONDENT = 0x63
};

/* Whoever binds must live through each of these, and serve an honest peer afterwards. */
static void throw_strays(struct loop *loop, uint16_t port)
{
    static const unsigned char roles[] = {SP_PUB,      SP_SUB,        SP_PUSH, SP_PULL,
                                          SP_SURVEYOR, SP_RESPONDENT, 0x10,    0xff};
    static const uint64_t lengths[] = {
        0, 1, 3, 4, 1024 * 1024 + 1, UINT64_C(1) << 32, UINT64_MAX, UINT64_MAX / 2};

    for (size_t i = 0; i < sizeof roles; i++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            int fd = test_peer_connect(port);

            greet(fd, roles[i]);
            send_frame(fd, lengths[k], "\x80\x00\x00\x01", 4);
            send_frame(fd, 3, "abc", 3);
            hang_up(loop, fd);
        }
    for (size_t i = 0; i < 3; i++) {
        static const char *const noise[] = {"GET / HTTP/1.1\r\n\r\n", "", "*1\r\n$4\r\nPING\r\n"};
        int fd = test_peer_connect(port);

        (void)!send(fd, noise[i], strlen(noise[i]), MSG_NOSIGNAL);
        hang_up(loop, fd);
    }
}

static void test_pull_survives_stray_frames(void **state)
{
    struct loop *loop = loop_create(false);
    struct inbox *in = calloc(1, sizeof *in);
    struct nn_link *pull = opened(loop, NN_PULL, &right, in), *sender = opened(loop, NN_PUSH, &right, NULL);
    uint16_t port = bound(pull);

    (void)state;
    throw_strays(loop, port);
    wait_for(loop, 50);
    assert_int_equal(in->n, 0); /* none of them was signed */
    assert_true(nn_link_dropped(pull) > 0);
    assert_int_equal(nn_link_connect(sender, url_of(port), NULL), 0);
    push(loop, sender, "still here", 10);
    in->wanted = 1;
    assert_true(wait_until(loop, has_messages, in, WAIT_MS));
    assert_string_equal(in->last, "still here");
    nn_link_close(pull);
    nn_link_close(sender);
    loop_destroy(loop);
    free(in);
}

static void test_respondent_survives_stray_frames(void **state)
{
    struct loop *loop = loop_create(false);
    struct inbox *in = calloc(1, sizeof *in);
    struct nn_link *respondent = opened(loop, NN_RESPONDENT, &right, in);

    (void)state;
    throw_strays(loop, bound(respondent));
    wait_for(loop, 50);
    assert_int_equal(in->n, 0);
    nn_link_close(respondent);
    loop_destroy(loop);
    free(in);
}

/* The connecting side meets a hostile server. */
static void meet_hostile_server(int protocol, unsigned char role)
{
    struct loop *loop = loop_create(false);
    struct inbox *in = calloc(1, sizeof *in);
    struct nn_link *link = opened(loop, protocol, &right, protocol == NN_SUB ? in : NULL);
    struct topology_address address;
    int listener = test_peer_listen(16, &address);

    assert_int_equal(nn_link_connect(link, url_of(address.port), NULL), 0);
    for (int i = 0; i < 3; i++) { /* it reconnects after each */
        int fd = test_peer_accept(loop, listener);

        greet(fd, role);
        send_frame(fd, 0, "", 0);
        send_frame(fd, 5, "stray", 5);
        send_frame(fd, i == 1 ? UINT64_MAX : 70000, "more", 4);
        wait_for(loop, 20);
        close(fd);
    }
    assert_int_equal(in->n, 0);
    close(listener);
    nn_link_close(link);
    loop_destroy(loop);
    free(in);
}

static void test_connecting_sockets_survive_a_hostile_server(void **state)
{
    (void)state;
    meet_hostile_server(NN_SUB, SP_PUB);
    meet_hostile_server(NN_SUB, SP_PULL);
    meet_hostile_server(NN_PUSH, SP_PULL);
    meet_hostile_server(NN_PUSH, SP_PUB);
}

static void write_key(const char *path, const char *text, size_t len)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void test_key_files(void **state)
{
    char path[] = "/tmp/mr-redis-key.XXXXXX", text[400];
    int fd = mkstemp(path);
    struct nn_link_key key;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    memset(text, 'k', sizeof text);
    write_key(path, "0123456789abcdef\r\n\n", 19);
    assert_int_equal(nn_link_key_read(path, &key), 0);
    assert_int_equal(key.len, 16);
    assert_memory_equal(key.bytes, "0123456789abcdef", 16);
    write_key(path, "0123456789abcde\n", 16);
    assert_int_equal(nn_link_key_read(path, &key), ERR_INVALID);
    write_key(path, text, 256);
    assert_int_equal(nn_link_key_read(path, &key), 0);
    assert_int_equal(key.len, 256);
    write_key(path, text, 257);
    assert_int_equal(nn_link_key_read(path, &key), ERR_INVALID);
    write_key(path, text, sizeof text);
    assert_int_equal(nn_link_key_read(path, &key), ERR_INVALID);
    unlink(path);
    assert_int_equal(nn_link_key_read(path, &key), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unsigned_and_signed_messages_arrive),
        cmocka_unit_test(test_wrong_or_no_signature_is_dropped),
        cmocka_unit_test(test_bind_any_and_bind_conflict),
        cmocka_unit_test(test_wrong_use_is_refused),
        cmocka_unit_test(test_reconnects_after_the_peers_restart),
        cmocka_unit_test(test_close_inside_the_callback),
        cmocka_unit_test(test_pull_survives_stray_frames),
        cmocka_unit_test(test_respondent_survives_stray_frames),
        cmocka_unit_test(test_connecting_sockets_survive_a_hostile_server),
        cmocka_unit_test(test_key_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
