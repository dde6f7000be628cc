/* Surveys among controllers over real sockets: majorities, silence, strangers, and many at once. */
#include "common/loop.h"
#include "controller/voters.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"

#include <nanomsg/survey.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MEMBERS_MAX = VOTERS_UNDER_WAY_MAX, DEADLINE_US = VOTERS_DEADLINE_MS * 1000 };

/* One controller and what its surveys brought; members are told apart by their port. */
struct controller {
    struct voters *voters;
    struct topology_controller self;
    struct health_view view; /* of every member but those below */
    bool views_by_port;      /* ANSWERS for even ports, UNREACHABLE for odd ones */
    int answers;
    int told[MEMBERS_MAX + 1]; /* by port */
    struct health_votes votes; /* the last ones */
    int64_t answered_us;
    bool close_when_told, ask_again_when_told;
    int incomplete; /* answers without all the views that were wanted */
    uint32_t wanted_views;
};

static struct loop *loop;

static struct topology_address member_of(int port)
{
    return (struct topology_address){.host = "10.0.0.1", .port = (uint16_t)port};
}

static struct health_view view_of_port(int port)
{
    struct health_view v = {.kind = port % 2 == 0 ? HEALTH_VIEW_ANSWERS : HEALTH_VIEW_UNREACHABLE,
                            .silent_us = port % 2 == 0 ? 0 : port};

    return v;
}

static void on_view(void *ctx, const char *instance, const struct topology_address *member,
                    struct health_view *out)
{
    const struct controller *c = ctx;

    assert_string_equal(instance, "cart");
    assert_string_equal(member->host, "10.0.0.1");
    *out = c->views_by_port ? view_of_port(member->port) : c->view;
}

static void on_votes(void *ctx, const char *instance, const struct topology_address *member,
                     const struct health_votes *votes)
{
    struct controller *c = ctx;

    assert_string_equal(instance, "cart");
    assert_in_range(member->port, 1, MEMBERS_MAX);
    c->answers++;
    c->told[member->port]++;
    c->votes = *votes;
    c->answered_us = loop_clock_us();
    c->incomplete += votes->n < c->wanted_views;
    for (uint32_t k = 0; c->wanted_views > 0 && k < votes->n; k++) {
        struct health_view expected = view_of_port(member->port);

        assert_int_equal(votes->views[k].kind, expected.kind);
        assert_int_equal(votes->views[k].silent_us, expected.silent_us);
    }
    if (c->ask_again_when_told) {
        c->ask_again_when_told = false;
        assert_int_equal(voters_survey(c->voters, instance, member), 0);
    }
    if (c->close_when_told) {
        voters_close(c->voters);
        c->voters = NULL;
    }
}

static void open_controller(struct controller *c, const char *id, const struct nn_link_key *key)
{
    struct voters_config config = {
        .id = id, .host = "127.0.0.1", .key = key, .view = on_view, .on_votes = on_votes, .ctx = c};

    memset(c, 0, sizeof(*c));
    assert_int_equal(voters_open(&c->voters, loop, &config), 0);
    (void)snprintf(c->self.id, sizeof(c->self.id), "%s", id);
    (void)snprintf(c->self.host, sizeof(c->self.host), "127.0.0.1");
    c->self.vote_port = voters_port(c->voters);
    assert_int_not_equal(c->self.vote_port, 0);
}

static bool has_answer(void *ctx)
{
    return ((struct controller *)ctx)->answers > 0;
}

static void ask(struct controller *c, int port)
{
    struct topology_address member = member_of(port);

    c->answers = 0;
    assert_int_equal(voters_survey(c->voters, "cart", &member), 0);
    assert_int_equal(c->answers, 0); /* never inside the call */
    assert_true(wait_until(loop, has_answer, c, WAIT_MS));
    assert_int_equal(c->answers, 1);
}

/* Surveys that go out before the connections stand are answered by nobody. */
struct meeting {
    struct controller *c;
    uint32_t n; /* others that answer */
};

static bool all_answer(void *ctx)
{
    struct meeting *m = ctx;

    ask(m->c, 1);
    return m->c->votes.n == m->n;
}

static void meet(struct controller *c, uint32_t n)
{
    struct health_view view = c->view;

    c->view.kind = HEALTH_VIEW_UNKNOWN;
    assert_true(wait_until(loop, all_answer, &(struct meeting){c, n}, WAIT_MS));
    c->view = view;
}

static struct controller a, b, c;

static void open_three(const struct nn_link_key *key)
{
    open_controller(&a, "a", key);
    open_controller(&b, "b", key);
    open_controller(&c, "c", key);
    voters_set_peers(a.voters, (struct topology_controller[]){c.self, a.self, b.self}, 3);
    meet(&a, 2);
}

static void close_three(void)
{
    voters_close(a.voters);
    voters_close(b.voters);
    voters_close(c.voters);
}

static int begin(void **state)
{
    (void)state;
    loop = loop_create(false);
    return loop == NULL;
}

static int end(void **state)
{
    (void)state;
    loop_destroy(loop);
    return 0;
}

/* ---- answers ------------------------------------------------------------------------------------------ */

static void test_everybody_is_asked(void **state)
{
    (void)state;
    open_three(NULL);
    int64_t before_us = loop_clock_us();
    a.view.kind = HEALTH_VIEW_HUNG;
    b.view = (struct health_view){HEALTH_VIEW_REFUSED, 0, true};
    c.view = (struct health_view){HEALTH_VIEW_ANSWERS, 0, false};
    ask(&a,
        1); /* one that is in doubt, one against, one for: nobody has a majority until all have answered */
    assert_int_equal(a.votes.n_controllers, 3);
    assert_int_equal(a.votes.n, 2);
    assert_in_range(a.votes.asked_us, before_us - DEADLINE_US, loop_clock_us());
    int b_view = a.votes.views[0].kind == HEALTH_VIEW_REFUSED ? 0 : 1;
    assert_int_equal(a.votes.views[b_view].kind, HEALTH_VIEW_REFUSED);
    assert_true(a.votes.views[b_view].distrusted);
    assert_int_equal(a.votes.views[!b_view].kind, HEALTH_VIEW_ANSWERS);
    assert_false(a.votes.views[!b_view].distrusted);
    c.view = (struct health_view){HEALTH_VIEW_UNREACHABLE, 1512345, false};
    b.view = c.view;
    a.view.kind = HEALTH_VIEW_UNKNOWN;
    ask(&a, 2);
    assert_int_equal(a.votes.n, 2);
    assert_int_equal(a.votes.views[0].silent_us, 1512345);
    close_three();
}

static void test_without_others_the_turn_ends_first(void **state)
{
    (void)state;
    open_controller(&a, "a", NULL);
    ask(&a, 1);
    assert_int_equal(a.votes.n, 0);
    assert_int_equal(a.votes.n_controllers, 1);
    voters_set_peers(a.voters, &a.self, 1);
    ask(&a, 1);
    assert_int_equal(a.votes.n_controllers, 1);
    voters_close(a.voters);
}

/* c listens and never answers, as a stopped process does. */
static void test_a_stopped_one_does_not_cost_the_deadline(void **state)
{
    struct topology_address address;
    int quick = 0, fd = test_peer_listen(8, &address);
    struct topology_controller stopped = {.id = "c", .host = "127.0.0.1", .vote_port = address.port};

    (void)state;
    open_controller(&a, "a", NULL);
    open_controller(&b, "b", NULL);
    voters_set_peers(a.voters, (struct topology_controller[]){a.self, b.self, stopped}, 3);
    meet(&a, 1);
    a.view = (struct health_view){HEALTH_VIEW_UNREACHABLE, 1600000, false};
    b.view = (struct health_view){HEALTH_VIEW_UNREACHABLE, 1400000, false};
    for (int n = 0; n < 20; n++) {
        ask(&a, 1);
        assert_int_equal(a.votes.n, 1);
        quick += a.answered_us - a.votes.asked_us < DEADLINE_US / 2;
    }
    assert_in_range(quick, 10, 20); /* a busy machine may be late now and then */

    /* Where it would tip the scales it is waited for, but no longer than the deadline. */
    const struct health_view undecided[] = {
        {HEALTH_VIEW_ANSWERS, 0, false},
        {HEALTH_VIEW_UNREACHABLE, 1400000, true}, /* in doubt */
        {HEALTH_VIEW_UNREACHABLE, 300000, false}, /* for too short a time to agree with us */
        {HEALTH_VIEW_UNKNOWN, 0, false},
    };
    for (size_t n = 0; n < sizeof(undecided) / sizeof(undecided[0]); n++) {
        b.view = undecided[n];
        ask(&a, 1);
        assert_true(a.answered_us - a.votes.asked_us >= DEADLINE_US);
        assert_int_equal(a.votes.n_controllers, 3);
    }
    voters_close(b.voters);
    voters_close(a.voters);
    (void)close(fd);
}

static void test_the_same_member_is_asked_about_once(void **state)
{
    struct topology_address member = member_of(7);

    (void)state;
    open_three(NULL);
    a.answers = 0;
    a.told[7] = 0;
    assert_int_equal(voters_survey(a.voters, "cart", &member), 0);
    assert_int_equal(voters_survey(a.voters, "cart", &member), 0);
    assert_true(wait_until(loop, has_answer, &a, WAIT_MS));
    assert_int_equal(a.told[7], 2); /* each call has its answer, from one survey */
    a.ask_again_when_told = true;   /* from inside the callback */
    ask(&a, 8);
    a.answers = 0;
    assert_true(wait_until(loop, has_answer, &a, WAIT_MS));
    assert_int_equal(a.told[8], 2);
    close_three();
}

/* ---- many --------------------------------------------------------------------------------------------- */

struct round {
    struct controller *c;
    int n;
};

static bool round_is_over(void *ctx)
{
    struct round *r = ctx;

    return r->c->answers >= r->n;
}

static void survey_all(struct controller *from, int n)
{
    from->answers = from->incomplete = 0;
    memset(from->told, 0, sizeof(from->told));
    for (int port = 1; port <= n; port++) {
        struct topology_address member = member_of(port);

        assert_int_equal(voters_survey(from->voters, "cart", &member), 0);
    }
}

static void check_each_told_once(struct controller *from, int n)
{
    assert_true(wait_until(loop, round_is_over, &(struct round){from, n}, WAIT_MS));
    wait_for(loop, VOTERS_DEADLINE_MS); /* nothing comes twice */
    assert_int_equal(from->answers, n);
    for (int port = 1; port <= n; port++)
        assert_int_equal(from->told[port], 1);
}

/* A host with 500 masters is gone. */
static void test_five_hundred_at_once(void **state)
{
    int tries = 0;

    (void)state;
    open_three(NULL);
    b.views_by_port = c.views_by_port = true;
    a.wanted_views = 2; /* a's own view is UNKNOWN: both others are needed */
    do {
        survey_all(&a, 500);
        check_each_told_once(&a, 500);
    } while (a.incomplete > 0 && ++tries < 10); /* a busy machine may need more than the deadline */
    assert_int_equal(a.incomplete, 0);
    assert_int_equal(voters_ignored(a.voters) + voters_ignored(b.voters) + voters_ignored(c.voters), 0);
    close_three();
}

static void test_all_ask_all_at_once(void **state)
{
    struct controller *all[] = {&a, &b, &c};

    (void)state;
    open_three(NULL);
    struct topology_controller list[] = {a.self, b.self, c.self};
    for (int k = 0; k < 3; k++)
        voters_set_peers(all[k]->voters, list, 3);
    for (int k = 0; k < 3; k++) {
        meet(all[k], 2);
        all[k]->views_by_port = true;
    }
    for (int k = 0; k < 3; k++)
        survey_all(all[k], 200);
    for (int k = 0; k < 3; k++) {
        check_each_told_once(all[k], 200);
        assert_int_equal(all[k]->votes.n_controllers, 3);
    }
    close_three();
}

static void test_too_many(void **state)
{
    struct topology_controller nobody = {.id = "z", .host = "127.0.0.1", .vote_port = 1};
    struct topology_address one = member_of(1), another = {.host = "10.0.0.2", .port = 1};

    (void)state;
    open_controller(&a, "a", NULL);
    voters_set_peers(a.voters, &nobody, 1);
    survey_all(&a, VOTERS_UNDER_WAY_MAX);
    assert_int_equal(voters_survey(a.voters, "cart", &another), ERR_BUSY);
    assert_int_equal(voters_survey(a.voters, "cart", &one), 0); /* that one is under way */
    a.told[1]--;
    a.answers--;
    check_each_told_once(&a, VOTERS_UNDER_WAY_MAX);
    ask(&a, 1);
    assert_int_equal(a.votes.n, 0);
    assert_int_equal(a.votes.n_controllers, 2);
    voters_close(a.voters);
}

/* ---- strangers ---------------------------------------------------------------------------------------- */

static void test_an_unregistered_one_has_no_vote(void **state)
{
    struct topology_controller mask;

    (void)state;
    open_controller(&a, "a", NULL);
    open_controller(&b, "b", NULL);
    mask = b.self;
    strcpy(mask.id, "registered"); /* b answers there, by its own name */
    voters_set_peers(a.voters, &mask, 1);
    ask(&a, 1);
    assert_int_equal(a.votes.n, 0);
    for (int n = 0; n < 100 && voters_ignored(a.voters) == 0; n++)
        ask(&a, 1);
    assert_true(voters_ignored(a.voters) > 0);
    assert_int_equal(a.votes.n, 0);
    assert_int_equal(a.votes.n_controllers, 2);
    voters_close(a.voters);
    voters_close(b.voters);
}

static void test_one_vote_each(void **state)
{
    struct topology_controller twin;

    (void)state;
    open_controller(&a, "a", NULL);
    open_controller(&b, "b", NULL);
    twin = b.self;
    strcpy(twin.id, "twin"); /* both connections end at b, which answers twice */
    voters_set_peers(a.voters, (struct topology_controller[]){b.self, twin}, 2);
    meet(&a, 1);
    for (int n = 0; n < 5; n++) {
        ask(&a, 1);
        assert_in_range(a.votes.n, 0, 1);
    }
    assert_int_equal(a.votes.n_controllers, 3);
    voters_close(a.voters);
    voters_close(b.voters);
}

static void test_signatures(void **state)
{
    struct nn_link_key key = {.len = 16, .bytes = "sixteen bytes..!"},
                       other = {.len = 16, .bytes = "another 16 bytes"};

    (void)state;
    open_three(&key); /* signed ones meet */
    voters_close(b.voters);
    open_controller(&b, "b", &other);
    voters_set_peers(a.voters, (struct topology_controller[]){a.self, b.self}, 2);
    for (int n = 0; n < 3; n++) {
        ask(&a, 1);
        assert_int_equal(a.votes.n, 0);
    }
    close_three();
}

static const char stray_vote[] = "{\"v\":1,\"type\":\"vote\",\"term\":0,\"seq\":9,\"id\":\"b\",\"instance\":"
                                 "\"cart\",\"master\":\"10.0.0.1:1\","
                                 "\"view\":\"answers\",\"silent_us\":0}";
static const char *const garbage[] = {
    "", "\n\n\n", "{", "null", "{\"v\":9}", "{\"v\":1,\"type\":\"beat\",\"term\":1,\"seq\":1}", stray_vote,
};
enum { GARBAGE = sizeof(garbage) / sizeof(garbage[0]) };

static struct nn_link *liar;

static void liar_on_survey(void *ctx, const char *data, size_t len)
{
    int *n = ctx;

    (void)data;
    (void)len;
    const char *text = garbage[(*n)++ % GARBAGE];
    assert_int_equal(nn_link_send(liar, text, strlen(text)), 0);
}

static bool everything_was_thrown(void *ctx)
{
    static char flood[NN_LINK_MESSAGE_MAX];
    int *n = ctx;
    const char *text = *n < GARBAGE ? garbage[*n] : flood;
    size_t len = *n < GARBAGE ? strlen(text) : sizeof(flood);

    memset(flood, '\n', sizeof(flood));
    *n += nn_link_send(liar, text, len) == 0;
    return *n > GARBAGE && voters_ignored(b.voters) >= GARBAGE;
}

static void test_garbage_does_no_harm(void **state)
{
    struct topology_controller c_liar = {.id = "liar", .host = "127.0.0.1"};
    char url[64];
    int n = 0;

    (void)state;
    open_three(NULL);
    /* A responder that talks nonsense. */
    assert_int_equal(nn_link_open(&liar, loop, NN_RESPONDENT, NULL, liar_on_survey, &n), 0);
    assert_int_equal(nn_link_bind_any(liar, "127.0.0.1", 0, &c_liar.vote_port), 0);
    voters_set_peers(a.voters, (struct topology_controller[]){b.self, c.self, c_liar}, 3);
    meet(&a, 2); /* still asked without avail: each ends at the deadline */
    while (n < 2 * GARBAGE)
        ask(&a, 1);
    assert_int_equal(a.votes.n_controllers, 4);
    nn_link_close(liar);
    /* One that asks nonsense. */
    n = 0;
    assert_int_equal(nn_link_open(&liar, loop, NN_SURVEYOR | NN_LINK_RAW, NULL, NULL, NULL), 0);
    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", b.self.vote_port);
    assert_int_equal(nn_link_connect(liar, url, NULL), 0);
    assert_true(wait_until(loop, everything_was_thrown, &n, WAIT_MS));
    nn_link_close(liar);
    voters_set_peers(a.voters, (struct topology_controller[]){b.self, c.self}, 2);
    meet(&a, 2);
    close_three();
}

/* ---- changes and ends --------------------------------------------------------------------------------- */

static void test_peers_change_while_a_survey_is_under_way(void **state)
{
    struct topology_address address, member = member_of(1);
    int fd = test_peer_listen(8, &address);
    struct topology_controller stopped = {.id = "stopped", .host = "127.0.0.1", .vote_port = address.port};

    (void)state;
    open_three(NULL);
    voters_set_peers(a.voters, &stopped, 1);
    a.answers = 0;
    assert_int_equal(voters_survey(a.voters, "cart", &member), 0);
    voters_set_peers(a.voters, &a.self, 1); /* nobody is left to wait for */
    assert_int_equal(a.answers, 0);
    assert_true(wait_until(loop, has_answer, &a, WAIT_MS));
    assert_int_equal(a.votes.n_controllers, 1);

    voters_set_peers(a.voters, (struct topology_controller[]){b.self, c.self}, 2);
    meet(&a, 2);
    /* b starts again elsewhere, under its old name. */
    voters_close(b.voters);
    open_controller(&b, "b", NULL);
    voters_set_peers(a.voters, (struct topology_controller[]){b.self, c.self}, 2);
    meet(&a, 2);
    close_three();
    (void)close(fd);
}

/* Those that take part in no survey (no vote port) are counted and not waited for. */
static void test_more_controllers_than_views(void **state)
{
    struct topology_controller list[TOPOLOGY_MEMBERS_MAX + 4];

    (void)state;
    open_controller(&a, "a", NULL);
    open_controller(&b, "b", NULL);
    for (int k = 0; k < TOPOLOGY_MEMBERS_MAX + 4; k++) {
        list[k] = (struct topology_controller){.host = "127.0.0.1"};
        (void)snprintf(list[k].id, sizeof(list[k].id), "idle-%d", k);
    }
    list[0] = b.self;
    voters_set_peers(a.voters, list, TOPOLOGY_MEMBERS_MAX + 4);
    meet(&a, 1);
    assert_int_equal(a.votes.n_controllers, TOPOLOGY_MEMBERS_MAX + 5);
    voters_close(a.voters);
    voters_close(b.voters);
}

static void test_closing(void **state)
{
    (void)state;
    open_three(NULL);
    a.close_when_told = true;
    survey_all(&a, 10);
    assert_true(wait_until(loop, has_answer, &a, WAIT_MS));
    assert_int_equal(a.answers, 1); /* none after the close */
    survey_all(&b, 10);             /* and with surveys under way */
    voters_close(b.voters);
    voters_close(c.voters);
    wait_for(loop, 10);
    assert_int_equal(b.answers, 0);
}

static void test_bad_arguments(void **state)
{
    struct voters_config config = {
        .id = "bad id", .host = "127.0.0.1", .view = on_view, .on_votes = on_votes};
    struct voters *v;

    (void)state;
    assert_int_equal(voters_open(&v, loop, &config), ERR_INVALID);
    open_controller(&a, "a", NULL);
    config.id = "b";
    config.port = voters_port(a.voters);
    assert_int_equal(voters_open(&v, loop, &config), ERR_EXISTS);
    config.port = 0;
    config.host = "no literal";
    assert_int_equal(voters_open(&v, loop, &config), ERR_INVALID);
    voters_close(a.voters);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_everybody_is_asked),
        TEST(test_without_others_the_turn_ends_first),
        TEST(test_a_stopped_one_does_not_cost_the_deadline),
        TEST(test_the_same_member_is_asked_about_once),
        TEST(test_five_hundred_at_once),
        TEST(test_all_ask_all_at_once),
        TEST(test_too_many),
        TEST(test_an_unregistered_one_has_no_vote),
        TEST(test_one_vote_each),
        TEST(test_signatures),
        TEST(test_garbage_does_no_harm),
        TEST(test_peers_change_while_a_survey_is_under_way),
        TEST(test_more_controllers_than_views),
        TEST(test_closing),
        TEST(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
