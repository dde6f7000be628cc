/* The HTTP server as clients see it: raw requests over a socket, read while the loop runs. */
#include "common/http.h"
#include "common/loop.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { REPLY_MAX = 256 * 1024, KEPT_MAX = 4 };

struct fixture {
    struct loop *loop;
    struct http_server *server;
    struct http_request *kept[KEPT_MAX];
    size_t n_kept;
    struct http_stream *stream;
    int streams_closed;
    unsigned requests;
    size_t n_kept_wanted;
    int closed_wanted;
};

struct client {
    int fd;
    char *reply;
    size_t len;
    bool ended;
    const char *wanted; /* NULL: the end of the connection */
};

static void fixture_on_stream_close(void *ctx)
{
    struct fixture *f = ctx;

    f->streams_closed++;
    f->stream = NULL;
}

static void fixture_on_request(void *ctx, struct http_request *r)
{
    struct fixture *f = ctx;
    const char *path = http_request_path(r);
    size_t len = 0;
    const char *body = http_request_body(r, &len);

    f->requests++;
    assert_int_equal(body[len], '\0');
    if (strcmp(path, "/echo") == 0) {
        http_answer(r, 200, "text/plain", body, len);
    } else if (strcmp(path, "/query") == 0) {
        const char *name = http_request_query(r, "name"), *none = http_request_query(r, "none");

        assert_null(none);
        http_answer(r, 200, "text/plain", name ? name : "", name ? strlen(name) : 0);
    } else if (strcmp(path, "/later") == 0) {
        assert_true(f->n_kept < KEPT_MAX);
        f->kept[f->n_kept++] = r;
    } else if (strcmp(path, "/events") == 0) {
        f->stream = http_stream_open(r, fixture_on_stream_close, f);
    } else if (strcmp(path, "/moved") == 0) {
        http_answer_redirect(r, "http://127.0.0.1:1/moved");
    } else {
        http_answer_error(r, 404, "not_found", "no \"%s\" for %s \xff", path, http_request_method(r));
    }
}

static void fixture_open(struct fixture *f, const char *token)
{
    struct http_server_config config = {
        .host = "127.0.0.1", .token = token, .on_request = fixture_on_request, .ctx = f};

    memset(f, 0, sizeof *f);
    f->loop = loop_create(false);
    assert_int_equal(http_server_open(&f->server, f->loop, &config), 0);
    assert_int_not_equal(http_server_port(f->server), 0);
}

static void fixture_end(struct fixture *f)
{
    if (f->server)
        http_server_close(f->server);
    loop_destroy(f->loop);
}

static void client_open(struct client *c, struct fixture *f)
{
    memset(c, 0, sizeof *c);
    c->fd = test_peer_connect(http_server_port(f->server));
    assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
    c->reply = calloc(1, REPLY_MAX + 1);
}

static void client_end(struct client *c)
{
    close(c->fd);
    free(c->reply);
}

static void client_send(struct client *c, const char *text)
{
    assert_int_equal(send(c->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static bool client_has(void *ctx)
{
    struct client *c = ctx;

    while (c->len < REPLY_MAX && !c->ended) {
        ssize_t n = recv(c->fd, c->reply + c->len, REPLY_MAX - c->len, 0);

        if (n < 0 && errno == EAGAIN)
            break;
        c->ended = n <= 0;
        c->len += n > 0 ? (size_t)n : 0;
    }
    return c->wanted ? strstr(c->reply, c->wanted) != NULL : c->ended;
}

static void client_wait(struct client *c, struct fixture *f, const char *wanted)
{
    c->wanted = wanted;
    if (!wait_until(f->loop, client_has, c, WAIT_MS))
        fail_msg("no \"%s\" in: %s", wanted ? wanted : "(end)", c->reply);
}

/* One request on a connection of its own; its whole answer is in c. */
static void ask(struct fixture *f, struct client *c, const char *request)
{
    client_open(c, f);
    client_send(c, request);
    client_wait(c, f, NULL);
}

static int status_of(const struct client *c)
{
    int status = 0;

    return sscanf(c->reply, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

static const char *body_of(const struct client *c)
{
    const char *end = strstr(c->reply, "\r\n\r\n");

    assert_non_null(end);
    return end + 4;
}

static void assert_error(const struct client *c, int status, const char *code)
{
    json_t *root = json_loads(body_of(c), 0, NULL);
    const char *said = NULL, *message = NULL;

    assert_int_equal(status_of(c), status);
    assert_non_null(root);
    assert_int_equal(json_unpack(root, "{s:{s:s,s:s}}", "error", "code", &said, "message", &message), 0);
    assert_string_equal(said, code);
    assert_true(message[0] != '\0');
    json_decref(root);
}

static void test_answers(void **state)
{
    struct fixture f;
    struct client c;

    (void)state;
    fixture_open(&f, NULL);
    ask(&f, &c, "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello");
    assert_int_equal(status_of(&c), 200);
    assert_string_equal(body_of(&c), "hello");
    assert_non_null(strstr(c.reply, "Content-Type: text/plain"));
    client_end(&c);
    ask(&f, &c, "GET /query?name=a%20b%26c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_string_equal(body_of(&c), "a b&c");
    client_end(&c);
    ask(&f, &c, "GET /no%22ne HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_error(&c, 404, "not_found");
    assert_non_null(strstr(c.reply, "Content-Type: application/json"));
    client_end(&c);
    ask(&f, &c, "POST /moved HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(status_of(&c), 307);
    assert_non_null(strstr(c.reply, "Location: http://127.0.0.1:1/moved\r\n"));
    client_end(&c);
    ask(&f, &c, "HEAD /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_int_equal(status_of(&c), 200);
    assert_string_equal(body_of(&c), "");
    client_end(&c);
    fixture_end(&f);
}

static void test_keep_alive_and_bytes_one_by_one(void **state)
{
    const char *request = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    struct fixture f;
    struct client c;

    (void)state;
    fixture_open(&f, NULL);
    client_open(&c, &f);
    for (const char *b = request; *b; b++) {
        assert_int_equal(send(c.fd, b, 1, MSG_NOSIGNAL), 1);
        ev_run(loop_ev(f.loop), EVRUN_NOWAIT);
    }
    client_wait(&c, &f, "abc");
    client_send(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz");
    client_wait(&c, &f, "xyz");
    assert_int_equal(f.requests, 2);
    client_end(&c);
    fixture_end(&f);
}

static void test_token(void **state)
{
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 401},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
         "secre\r\nContent-Length: 0\r\n\r\n",
         401},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
         "secret2\r\nContent-Length: "
         "0\r\n\r\n",
         401},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: secret\r\nContent-Length: "
         "0\r\n\r\n",
         401},
        {"DELETE /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer secret\r\n\r\n",
         200},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nauthorization: bearer "
         "secret\r\nContent-Length: 0\r\n\r\n",
         200},
    };
    struct fixture f;
    unsigned expected = 0;

    (void)state;
    fixture_open(&f, "secret");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client c;

        ask(&f, &c, cases[i].request);
        assert_int_equal(status_of(&c), cases[i].status);
        if (cases[i].status == 401)
            assert_error(&c, 401, "unauthorized");
        expected += cases[i].status == 200;
        assert_int_equal(f.requests, expected); /* a refused one never reaches the handler */
        client_end(&c);
    }
    fixture_end(&f);
}

/* len bytes of body, announced or in chunks. */
static void send_body(struct fixture *f, struct client *c, size_t len, bool chunked)
{
    char head[160], *body = malloc(len + 1);
    size_t sent = 0;

    memset(body, 'b', len);
    if (chunked)
        (void)snprintf(head, sizeof head,
                       "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: "
                       "chunked\r\n\r\n%zx\r\n",
                       len);
    else
        (void)snprintf(head, sizeof head,
                       "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
                       len);
    client_open(c, f);
    client_send(c, head);
    while (sent < len) {
        ssize_t n = send(c->fd, body + sent, len - sent, MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN)
            break;
        sent += n > 0 ? (size_t)n : 0;
        ev_run(loop_ev(f->loop), EVRUN_NOWAIT);
    }
    if (chunked)
        (void)!send(c->fd, "\r\n0\r\n\r\n", 7, MSG_NOSIGNAL);
    free(body);
    client_wait(c, f, NULL);
}

static void test_large_bodies(void **state)
{
    struct fixture f;
    struct client c;

    (void)state;
    fixture_open(&f, NULL);
    for (int chunked = 0; chunked < 2; chunked++) {
        send_body(&f, &c, 65536, chunked);
        assert_int_equal(status_of(&c), 200);
        assert_int_equal(strlen(body_of(&c)), 65536);
        client_end(&c);
        send_body(&f, &c, 65537, chunked);
        assert_error(&c, 413, "too_large");
        client_end(&c);
    }
    assert_int_equal(f.requests, 2);
    client_open(&c, &f);
    client_send(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
    client_wait(&c, &f, "too_large");
    assert_int_equal(status_of(&c), 413);
    client_end(&c);
    fixture_end(&f);
}

static bool has_kept(void *ctx)
{
    struct fixture *f = ctx;

    return f->n_kept >= f->n_kept_wanted;
}

static void wait_kept(struct fixture *f, size_t n)
{
    f->n_kept_wanted = n;
    assert_true(wait_until(f->loop, has_kept, f, WAIT_MS));
}

static void test_later_answers_in_any_order(void **state)
{
    struct fixture f;
    struct client one, two, gone;

    (void)state;
    fixture_open(&f, NULL);
    client_open(&one, &f);
    client_open(&two, &f);
    client_open(&gone, &f);
    client_send(&one, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1");
    wait_kept(&f, 1);
    client_send(&two, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n2");
    wait_kept(&f, 2);
    client_send(&gone, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n3");
    wait_kept(&f, 3);
    client_end(&gone); /* the request stays valid until it is answered */
    wait_for(f.loop, 20);
    http_answer(f.kept[2], 200, NULL, "{}", 2);
    http_answer(f.kept[1], 200, NULL, "{\"n\":2}", 7);
    client_wait(&two, &f, "{\"n\":2}");
    assert_int_equal(one.len, 0);
    http_answer_error(f.kept[0], 409, "busy", "later");
    client_wait(&one, &f, "busy");
    assert_int_equal(status_of(&one), 409);
    /* The connection goes on. */
    client_send(&one, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nmore");
    client_wait(&one, &f, "more");
    client_end(&one);
    client_end(&two);
    fixture_end(&f);
}

static void test_close_answers_what_is_unanswered(void **state)
{
    struct fixture f;
    struct client kept, stream, idle;

    (void)state;
    fixture_open(&f, NULL);
    client_open(&kept, &f);
    client_open(&stream, &f);
    client_open(&idle, &f);
    client_send(&kept, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    wait_kept(&f, 1);
    client_send(&stream, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
    client_wait(&stream, &f, ": ok");
    http_stream_send(f.stream, "last", "{}", 2);
    http_server_close(f.server);
    f.server = NULL;
    assert_int_equal(f.streams_closed, 1);
    client_wait(&kept, &f, NULL);
    assert_error(&kept, 503, "stopping");
    client_wait(&stream, &f, NULL);
    assert_non_null(strstr(stream.reply, "event: last\ndata: {}\n\n"));
    client_wait(&idle, &f, NULL);
    client_end(&kept);
    client_end(&stream);
    client_end(&idle);
    fixture_end(&f);
}

static bool has_closed(void *ctx)
{
    struct fixture *f = ctx;

    return f->streams_closed >= f->closed_wanted;
}

static void test_event_stream(void **state)
{
    struct fixture f;
    struct client c;

    (void)state;
    fixture_open(&f, NULL);
    client_open(&c, &f);
    client_send(&c, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
    client_wait(&c, &f, ": ok\n\n");
    assert_int_equal(status_of(&c), 200);
    assert_non_null(strstr(c.reply, "Content-Type: text/event-stream"));
    for (int i = 0; i < 3; i++) {
        char data[32], wanted[64];
        int len = snprintf(data, sizeof data, "{\"n\":%d}", i);

        (void)snprintf(wanted, sizeof wanted, "event: change\ndata: {\"n\":%d}\n\n", i);
        http_stream_send(f.stream, "change", data, (size_t)len);
        client_wait(&c, &f, wanted);
    }
    assert_int_equal(f.streams_closed, 0);
    client_end(&c);
    /* Its leaving is noticed when something is sent. */
    f.closed_wanted = 1;
    while (f.stream) {
        http_stream_send(f.stream, "change", "{}", 2);
        (void)wait_until(f.loop, has_closed, &f, 10);
    }
    assert_int_equal(f.streams_closed, 1);
    fixture_end(&f);
}

static void test_a_reader_that_lags_is_dropped(void **state)
{
    static char data[64000];
    struct fixture f;
    struct client c;

    (void)state;
    memset(data, 'd', sizeof data);
    fixture_open(&f, NULL);
    client_open(&c, &f);
    client_send(&c, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
    client_wait(&c, &f, ": ok\n\n");
    f.closed_wanted = 1;
    for (int i = 0; i < 2000 && f.stream; i++) { /* the kernel's buffers hold a few MiB */
        http_stream_send(f.stream, "change", data, sizeof data);
        assert_int_equal(f.streams_closed, 0); /* never inside the call */
        ev_run(loop_ev(f.loop), EVRUN_NOWAIT);
    }
    assert_true(wait_until(f.loop, has_closed, &f, WAIT_MS));
    client_end(&c);
    fixture_end(&f);
}

static void test_streams_are_limited(void **state)
{
    enum { MANY = 193 };
    static struct client clients[MANY];
    struct fixture f;
    struct client c;

    (void)state;
    fixture_open(&f, NULL);
    for (int i = 0; i < MANY; i++) {
        client_open(&clients[i], &f);
        client_send(&clients[i], "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
        client_wait(&clients[i], &f, "\r\n\r\n");
    }
    client_wait(&clients[MANY - 1], &f, "too_many_streams");
    assert_int_equal(status_of(&clients[MANY - 1]), 503);
    ask(&f, &c,
        "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); /* the others still get answers */
    assert_int_equal(status_of(&c), 200);
    client_end(&c);
    for (int i = 0; i < MANY; i++)
        client_end(&clients[i]);
    fixture_end(&f);
    assert_int_equal(f.streams_closed, MANY - 1);
}

static void test_garbage_is_survived(void **state)
{
    static const char *const garbage[] = {"\x16\x03\x01\x02",
                                          "GET\r\n\r\n",
                                          "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                                          "GET / HTTP/9.9\r\n\r\n",
                                          "*1\r\n$4\r\nPING\r\n",
                                          "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"};
    struct fixture f;
    struct client c;

    (void)state;
    fixture_open(&f, NULL);
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        client_open(&c, &f);
        client_send(&c, garbage[i]);
        wait_for(f.loop, 10); /* an answer, a close or, for half a request, nothing: all are fine */
        client_end(&c);
    }
    ask(&f, &c, "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_int_equal(status_of(&c), 200);
    client_end(&c);
    fixture_end(&f);
}

static void test_bad_addresses(void **state)
{
    struct fixture f;
    struct http_server *other = NULL;
    struct http_server_config config = {.on_request = fixture_on_request, .ctx = &f};

    (void)state;
    fixture_open(&f, NULL);
    config.host = "localhost";
    assert_int_equal(http_server_open(&other, f.loop, &config), ERR_INVALID);
    config.host = "127.0.0.1";
    config.port = http_server_port(f.server);
    assert_int_equal(http_server_open(&other, f.loop, &config), ERR_EXISTS);
    config.host = "192.0.2.1"; /* not an address of this machine */
    assert_int_equal(http_server_open(&other, f.loop, &config), ERR_IO);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_keep_alive_and_bytes_one_by_one),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_large_bodies),
        cmocka_unit_test(test_later_answers_in_any_order),
        cmocka_unit_test(test_close_answers_what_is_unanswered),
        cmocka_unit_test(test_event_stream),
        cmocka_unit_test(test_a_reader_that_lags_is_dropped),
        cmocka_unit_test(test_streams_are_limited),
        cmocka_unit_test(test_garbage_is_survived),
        cmocka_unit_test(test_bad_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
