/* The proxy's control side with a real ZooKeeper and a controller played by hand: nanomsg sockets of the
 * test's own. The workers are pretended: what they are told is what is asserted. */
#include "proxy/control.h"

#include "common/core/topology_codec.h"
#include "common/loop.h"
#include "common/nn_link.h"
#include "common/zk_session.h"
#include "tests/lib/fake_worker.h"
#include "tests/lib/wait.h"
#include "tests/lib/zk_server.h"

#include <nanomsg/pipeline.h>
#include <nanomsg/pubsub.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *A = "10.0.0.1:6379", *B = "10.0.0.2:6379";

enum { BEAT_MS = 100 };

/* ---- the world ----------------------------------------------------------------------------------------- */

struct world {
    struct zk_server *server;
    struct loop *loop;
    struct zk_session *zk; /* the controller's */
    bool connected, done;
    int err;
    uint64_t revision; /* of the last write */
    struct nn_link *pub, *ingest;
    uint16_t pub_port, ingest_port;
    uint64_t term, seq;
    bool mute; /* no beats */
    ev_timer beat;
    struct message heard; /* the last ack, hint or held */
    unsigned n_acks, n_hints, n_helds;
    struct control *control;
    bool unreachable;
};

static void on_state(void *ctx, enum zk_session_state state, bool fresh)
{
    struct world *w = ctx;
    (void)fresh;
    w->connected = state == ZK_CONNECTED;
}

static bool is_connected(void *ctx)
{
    return ((struct world *)ctx)->connected;
}

static bool is_disconnected(void *ctx)
{
    return !is_connected(ctx);
}

static bool is_done(void *ctx)
{
    return ((struct world *)ctx)->done;
}

static void on_multi(void *ctx, int err, const struct zk_multi_result *result)
{
    struct world *w = ctx;
    w->err = err;
    w->done = true;
    if (err == 0 && result->stats)
        w->revision = (uint64_t)result->stats[0].mzxid;
}

/* One op, waited for. */
static void zk_do(struct world *w, enum zk_op_kind kind, const char *path, const char *data, int flags)
{
    struct zk_op op = {.kind = kind,
                       .path = path,
                       .data = data,
                       .len = data ? strlen(data) : 0,
                       .version = -1,
                       .flags = flags};
    w->done = false;
    assert_int_equal(zk_multi(w->zk, &op, 1, on_multi, w), 0);
    assert_true(wait_until(w->loop, is_done, w, WAIT_MS));
    assert_int_equal(w->err, 0);
}

static void make_instance(const char *name, uint64_t epoch, const char *master, char *text, size_t size)
{
    struct topology_instance i = {.port = 6100, .epoch = epoch, .n_members = 2};
    snprintf(i.name, sizeof(i.name), "%s", name);
    topology_policy_default(&i.policy);
    assert_int_equal(topology_address_parse(A, &i.members[0].address), 0);
    assert_int_equal(topology_address_parse(B, &i.members[1].address), 0);
    assert_int_equal(topology_address_parse(master, &i.master), 0);
    assert_true(topology_encode_instance(&i, text, size) > 0);
}

static void put_instance(struct world *w, const char *name, uint64_t epoch, const char *master, bool is_new)
{
    static char text[TOPOLOGY_TEXT_MAX];
    char path[100];
    make_instance(name, epoch, master, text, sizeof(text));
    snprintf(path, sizeof(path), "/instances/%s", name);
    zk_do(w, is_new ? ZK_OP_CREATE : ZK_OP_SET, path, text, 0);
}

static void send_message(struct world *w, const struct message *m)
{
    char text[MESSAGE_TEXT_MAX];
    ssize_t len = message_encode(m, text, sizeof(text));
    assert_true(len > 0);
    (void)!nn_link_send(w->pub, text, (size_t)len); /* nobody is connected yet: it is lost, as it would be */
}

static void on_beat(struct ev_loop *ev, ev_timer *t, int revents)
{
    struct world *w = t->data;
    (void)ev;
    (void)revents;
    struct message m = {.type = MESSAGE_BEAT, .term = w->term, .seq = w->seq, .id = "ctl-1"};
    if (!w->mute)
        send_message(w, &m);
}

static void send_route(struct world *w, const char *name, uint64_t epoch, uint64_t revision,
                       const char *master)
{
    struct message m = {.type = MESSAGE_ROUTE,
                        .term = w->term,
                        .seq = ++w->seq,
                        .port = 6100,
                        .epoch = epoch,
                        .revision = revision,
                        .acks = 1};
    snprintf(m.instance, sizeof(m.instance), "%s", name);
    assert_int_equal(topology_address_parse(master, &m.master), 0);
    send_message(w, &m);
}

static void on_ingest(void *ctx, const char *data, size_t len)
{
    struct world *w = ctx;
    assert_int_equal(message_decode(data, len, &w->heard), 0);
    w->n_acks += w->heard.type == MESSAGE_ACK;
    w->n_hints += w->heard.type == MESSAGE_HINT;
    w->n_helds += w->heard.type == MESSAGE_HELD;
}

static void announce_controller(struct world *w)
{
    struct topology_controller c = {.id = "ctl-1",
                                    .host = "127.0.0.1",
                                    .pub_port = w->pub_port,
                                    .ingest_port = w->ingest_port,
                                    .vote_port = 1,
                                    .http_port = 1,
                                    .version = "1"};
    char text[1024];
    assert_true(topology_encode_controller(&c, text, sizeof(text)) > 0);
    zk_do(w, ZK_OP_CREATE, "/controllers/ctl-1", text, ZK_EPHEMERAL);
}

static void on_unreachable(void *ctx)
{
    ((struct world *)ctx)->unreachable = true;
}

static void start_proxy(struct world *w, const char *cache)
{
    struct control_config config = {
        .zk = zk_server_hosts(w->server),
        .id = "host-1",
        .bind = "127.0.0.1",
        .cache_path = cache,
        .threads = 1,
        .hold_ms = 1000,
        .limits = {.data = {.request_bytes = LIMITS_REQUEST_BYTES, .reply_bytes = SESSION_OUT_LIMIT}},
        .unreachable_ms = 500,
        .on_unreachable = on_unreachable,
        .ctx = w};
    assert_int_equal(control_open(&w->control, w->loop, &config), 0);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct zk_session_config zk = {.timeout_ms = 4000, .on_state = on_state, .ctx = w};
    assert_non_null(w);
    w->server = zk_server_start();
    w->loop = loop_create(false);
    zk.hosts = zk_server_hosts(w->server);
    assert_int_equal(zk_session_open(&w->zk, w->loop, &zk), 0);
    assert_true(wait_until(w->loop, is_connected, w, WAIT_MS));
    assert_int_equal(nn_link_open(&w->pub, w->loop, NN_PUB, NULL, NULL, NULL), 0);
    assert_int_equal(nn_link_bind_any(w->pub, "127.0.0.1", 0, &w->pub_port), 0);
    assert_int_equal(nn_link_open(&w->ingest, w->loop, NN_PULL, NULL, on_ingest, w), 0);
    assert_int_equal(nn_link_bind_any(w->ingest, "127.0.0.1", 0, &w->ingest_port), 0);
    w->term = 1000;
    ev_timer_init(&w->beat, on_beat, 0, BEAT_MS / 1e3);
    w->beat.data = w;
    ev_timer_start(loop_ev(w->loop), &w->beat);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    control_close(w->control);
    ev_timer_stop(loop_ev(w->loop), &w->beat);
    nn_link_close(w->pub);
    nn_link_close(w->ingest);
    zk_session_close(w->zk, 1000);
    loop_destroy(w->loop);
    zk_server_stop(w->server);
    free(w);
    return 0;
}

/* ---- conditions ---------------------------------------------------------------------------------------- */

struct wanted {
    const char *name, *master;
    uint64_t epoch;
};

static bool has_route(void *ctx)
{
    const struct wanted *x = ctx;
    const struct route *r = fake_find(x->name);
    char master[TOPOLOGY_ADDRESS_MAX + 1];
    return r && r->epoch == x->epoch && !strcmp(topology_address_format(&r->master, master), x->master);
}

static bool has_none(void *ctx)
{
    return fake_find(ctx) == NULL;
}

static bool is_heard(void *ctx)
{
    const struct route_book *b = control_book(((struct world *)ctx)->control);
    return !b->silent && b->leader[0] && b->reads_done > 0 && !b->reading && !b->want_read;
}

static bool is_silent(void *ctx)
{
    const struct route_book *b = control_book(((struct world *)ctx)->control);
    return b->silent && b->reads_done > 1 && !b->reading && !b->want_read;
}

static bool is_without_store(void *ctx)
{
    return !control_book(((struct world *)ctx)->control)->store_up;
}

static bool was_acked(void *ctx)
{
    return ((struct world *)ctx)->n_acks > 0;
}

static bool was_hinted(void *ctx)
{
    return ((struct world *)ctx)->n_hints > 0;
}

static bool was_garbled(void *ctx)
{
    return control_garbled(((struct world *)ctx)->control) > 0;
}

static bool was_unreachable(void *ctx)
{
    return ((struct world *)ctx)->unreachable;
}

static bool is_registered(void *ctx)
{
    return control_is_registered(((struct world *)ctx)->control);
}

static void await_route(struct world *w, const char *name, uint64_t epoch, const char *master)
{
    struct wanted x = {name, master, epoch};
    if (!wait_until(w->loop, has_route, &x, WAIT_MS))
        fail_msg("no route of %s to %s", name, master);
}

/* Started, subscribed, "cart" on A. */
static void settle(struct world *w)
{
    put_instance(w, "cart", 1, A, true);
    announce_controller(w);
    start_proxy(w, NULL);
    await_route(w, "cart", 1, A);
    assert_true(wait_until(w->loop, is_heard, w, WAIT_MS));
}

/* ---- tests --------------------------------------------------------------------------------------------- */

static void test_follows_messages_and_acknowledges(void **state)
{
    struct world *w = *state;

    settle(w);
    put_instance(w, "cart", 2, B, false);
    send_route(w, "cart", 2, w->revision, B);
    await_route(w, "cart", 2, B);
    fake->config.on_switched(fake->config.ctx, "cart", 2, 0, 1234);
    assert_true(wait_until(w->loop, was_acked, w, WAIT_MS));
    assert_string_equal(w->heard.id, "host-1");
    assert_string_equal(w->heard.instance, "cart");
    assert_int_equal(w->heard.epoch, 2);
    assert_int_equal(w->heard.took_us, 1234);
    assert_int_equal(w->heard.term, 1000);
}

static void test_hints_and_is_confirmed(void **state)
{
    struct world *w = *state;
    struct topology_address master;

    settle(w);
    assert_int_equal(topology_address_parse(A, &master), 0);
    fake->config.on_broken(fake->config.ctx, "cart", 1, &master);
    assert_true(wait_until(w->loop, was_hinted, w, WAIT_MS));
    assert_string_equal(w->heard.instance, "cart");
    assert_true(topology_address_equal(&w->heard.master, &master));
}

static bool was_paused(void *ctx)
{
    (void)ctx;
    return fake->pause_number > 0;
}

static bool has_held(void *ctx)
{
    return ((struct world *)ctx)->n_helds > 0;
}

static void test_prepares_a_switchover(void **state)
{
    struct world *w = *state;
    struct message m = {.type = MESSAGE_HOLD,
                        .instance = "cart",
                        .port = 6100,
                        .epoch = 1,
                        .revision = UINT64_MAX / 2,
                        .limit_ms = 5000};

    settle(w);
    m.term = w->term;
    m.seq = ++w->seq;
    send_message(w, &m);
    assert_true(wait_until(w->loop, was_paused, w, WAIT_MS));
    assert_string_equal(fake->paused, "cart");
    assert_int_equal(fake->pause_epoch, 1);
    assert_int_equal(fake->pause_limit_ms, 5000);
    fake->config.on_held(fake->config.ctx, "cart", 1, fake->pause_number);
    assert_true(wait_until(w->loop, has_held, w, WAIT_MS));
    assert_string_equal(w->heard.id, "host-1");
    assert_string_equal(w->heard.instance, "cart");
    assert_int_equal(w->heard.epoch, 1);
    assert_int_equal(w->heard.term, 1000);
}

static void test_hints_at_a_silent_master(void **state)
{
    struct world *w = *state;
    struct topology_address master;

    settle(w);
    assert_int_equal(topology_address_parse(A, &master), 0);
    fake->config.on_silent(fake->config.ctx, "cart", 1, &master);
    assert_true(wait_until(w->loop, was_hinted, w, WAIT_MS));
    assert_true(topology_address_equal(&w->heard.master, &master));
    assert_true(list_empty(&control_book(w->control)->table.entries[0]->doubt)); /* it still serves */
}

/* A message is lost (never sent): the beat tells, and ZooKeeper has it. */
static void test_reads_what_it_missed(void **state)
{
    struct world *w = *state;

    settle(w);
    put_instance(w, "cart", 2, B, false);
    put_instance(w, "shop", 1, A, true);
    w->seq += 2;
    await_route(w, "cart", 2, B);
    await_route(w, "shop", 1, A);
    zk_do(w, ZK_OP_DELETE, "/instances/shop", NULL, 0);
    w->seq++;
    assert_true(wait_until(w->loop, has_none, "shop", WAIT_MS));
}

/* The controllers are silent: watches bring what changes, comes and goes, and a silent master is retried. */
static void test_silence(void **state)
{
    struct world *w = *state;
    struct topology_address master;

    settle(w);
    w->mute = true;
    assert_true(wait_until(w->loop, is_silent, w, WAIT_MS));
    put_instance(w, "cart", 2, B, false);
    await_route(w, "cart", 2, B);
    put_instance(w, "cart", 3, A, false); /* the watch was armed again */
    await_route(w, "cart", 3, A);
    put_instance(w, "shop", 1, B, true);
    await_route(w, "shop", 1, B);
    zk_do(w, ZK_OP_DELETE, "/instances/shop", NULL, 0);
    assert_true(wait_until(w->loop, has_none, "shop", WAIT_MS));

    assert_int_equal(topology_address_parse(A, &master), 0);
    unsigned before = fake->applied;
    fake->config.on_broken(fake->config.ctx, "cart", 3, &master);
    while (fake->applied == before)
        wait_for(w->loop, 5);
    w->mute = false;
    assert_true(wait_until(w->loop, is_heard, w, WAIT_MS));
}

static void test_corrupt_record_is_set_aside(void **state)
{
    struct world *w = *state;

    settle(w);
    zk_do(w, ZK_OP_CREATE, "/instances/broken", "{\"v\":1,", 0);
    zk_do(w, ZK_OP_SET, "/instances/cart", "not JSON", 0);
    put_instance(w, "shop", 1, B, true);
    w->seq++;
    await_route(w, "shop", 1, B);
    assert_true(wait_until(w->loop, is_heard, w, WAIT_MS));
    await_route(w, "cart", 1, A); /* what was known still serves */
    assert_null(fake_find("broken"));
}

static void test_garbled_messages_change_nothing(void **state)
{
    struct world *w = *state;
    static const char *const texts[] = {"", "x", "{}", "{\"v\":1,\"type\":\"route\"}", "\xff\xfe"};

    settle(w);
    unsigned before = fake->applied;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(nn_link_send(w->pub, texts[i], strlen(texts[i])), 0);
    assert_true(wait_until(w->loop, was_garbled, w, WAIT_MS));
    send_route(w, "cart", 2, w->revision + 1000, B);
    await_route(w, "cart", 2, B);
    assert_int_equal(fake->applied, before + 1);
}

/* Thousands of instances in one read. */
static void test_many_instances(void **state)
{
    struct world *w = *state;
    enum { N = 1000, BATCH = 100 };
    static struct zk_op ops[BATCH];
    static char paths[BATCH][64], texts[BATCH][2048];

    for (int from = 0; from < N; from += BATCH) {
        for (int i = 0; i < BATCH; i++) {
            char name[32];
            snprintf(name, sizeof(name), "i-%d", from + i);
            snprintf(paths[i], sizeof(paths[i]), "/instances/%s", name);
            make_instance(name, 1, A, texts[i], sizeof(texts[i]));
            ops[i] = (struct zk_op){
                .kind = ZK_OP_CREATE, .path = paths[i], .data = texts[i], .len = strlen(texts[i])};
        }
        w->done = false;
        assert_int_equal(zk_multi(w->zk, ops, BATCH, on_multi, w), 0);
        assert_true(wait_until(w->loop, is_done, w, WAIT_MS));
        assert_int_equal(w->err, 0);
    }
    announce_controller(w);
    start_proxy(w, NULL);
    assert_true(wait_until(w->loop, is_heard, w, WAIT_MS));
    assert_int_equal(control_book(w->control)->table.n, N);
    assert_int_equal(fake->n, N);
}

/* ZooKeeper dies and comes back empty of sessions: the routes stay, then everything is found again. */
static void test_store_restarts(void **state)
{
    struct world *w = *state;

    settle(w);
    put_instance(w, "cart", 2, B, false);
    zk_server_kill(w->server);
    assert_true(wait_until(w->loop, is_without_store, w, WAIT_MS));
    assert_true(wait_until(w->loop, is_disconnected, w, WAIT_MS)); /* the test's own session */
    assert_non_null(fake_find("cart"));
    send_route(w, "cart", 2, w->revision, B); /* nanomsg alone */
    await_route(w, "cart", 2, B);
    zk_server_restart(w->server);
    assert_true(wait_until(w->loop, is_connected, w, WAIT_MS));
    put_instance(w, "cart", 3, A, false);
    w->seq++;
    await_route(w, "cart", 3, A);
}

static void test_starts_from_the_cache(void **state)
{
    struct world *w = *state;
    char dir[64], path[96];

    snprintf(dir, sizeof(dir), "%s/mr-control-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/routes", dir);
    put_instance(w, "cart", 1, A, true);
    put_instance(w, "shop", 1, A, true);
    start_proxy(w, path);
    await_route(w, "cart", 1, A);
    await_route(w, "shop", 1, A);
    control_close(w->control);
    w->control = NULL;

    zk_do(w, ZK_OP_DELETE, "/instances/shop", NULL, 0);
    zk_server_kill(w->server);
    start_proxy(w, path);
    assert_non_null(fake_find("cart"));
    assert_non_null(fake_find("shop"));
    zk_server_restart(w->server);
    assert_true(wait_until(w->loop, has_none, "shop", WAIT_MS)); /* the store overrules the cache */
    assert_non_null(fake_find("cart"));
    control_close(w->control);
    w->control = NULL;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void test_registers_itself(void **state)
{
    struct world *w = *state;

    /* The last run's session still holds the name: ours takes over once it is gone. */
    zk_do(w, ZK_OP_CREATE, "/proxies/host-1", "{}", ZK_EPHEMERAL);
    settle(w);
    assert_false(control_is_registered(w->control));
    zk_do(w, ZK_OP_DELETE, "/proxies/host-1", NULL, 0);
    assert_true(wait_until(w->loop, is_registered, w, WAIT_MS));
}

static void test_says_that_the_store_is_unreachable(void **state)
{
    struct world *w = *state;

    zk_server_kill(w->server);
    start_proxy(w, NULL);
    assert_true(wait_until(w->loop, was_unreachable, w, WAIT_MS));
}

static void on_drained(void *ctx)
{
    ((struct world *)ctx)->done = true;
}

static void test_drains(void **state)
{
    struct world *w = *state;

    settle(w);
    w->done = false;
    control_drain(w->control, 1000, on_drained, w);
    assert_true(wait_until(w->loop, is_done, w, WAIT_MS));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_follows_messages_and_acknowledges),
        TEST(test_hints_and_is_confirmed),
        TEST(test_prepares_a_switchover),
        TEST(test_hints_at_a_silent_master),
        TEST(test_reads_what_it_missed),
        TEST(test_silence),
        TEST(test_corrupt_record_is_set_aside),
        TEST(test_garbled_messages_change_nothing),
        TEST(test_many_instances),
        TEST(test_store_restarts),
        TEST(test_starts_from_the_cache),
        TEST(test_registers_itself),
        TEST(test_says_that_the_store_is_unreachable),
        TEST(test_drains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
