/*   voters_survey ─► fresh ─┐ end of the turn                        ┌─► one frame of VOTE lines ─► back to
 * the asker ├─► one frame of SURVEY lines ─► peers ──┘ no answer for 25 ms ────┘                        VOTE
 * lines ─► survey ─► decided, or 100 ms over ─► on_votes
 *
 * A nanomsg pipe takes one message at a time and silently drops what comes while it is busy, in both
 * directions. So the surveys of a turn travel together in few frames, frames are spaced, and what has not
 * been answered is asked again within the deadline; a peer's second answer to one survey does not count. */
#include "controller/voters.h"

#include "common/core/list.h"
#include "common/core/message.h"
#include "common/log.h"
#include "common/loop.h"

#include <assert.h>
#include <ev.h>
#include <nanomsg/nn.h>
#include <nanomsg/survey.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VOTERS_PEERS_MAX = TOPOLOGY_MEMBERS_MAX, /* views that a struct health_votes holds */
    VOTERS_LINES_MAX = 100,                  /* surveys in a frame: their votes fit one frame, too */
    VOTERS_DEADLINE_US = VOTERS_DEADLINE_MS * 1000,
    VOTERS_REPEAT_US = 25000,
    VOTERS_SPACE_US = 1000,
    VOTERS_SLACK_US = 500000, /* the others may have noticed a silence so much later than we */
    VOTERS_LOG_US = 1000000,
};

struct voters_peer {
    char id[TOPOLOGY_NAME_MAX + 1]; /* "": free slot */
    struct topology_address address;
    int endpoint; /* -1: it can't be asked */
    bool listed;
};

struct voters_survey {
    struct list all;   /* voters->all, by age */
    struct list queue; /* voters->fresh, ->sent (by age of sending) or ->decided */
    uint64_t seq;
    char instance[TOPOLOGY_NAME_MAX + 1];
    struct topology_address member;
    unsigned asks; /* calls of voters_survey() that this one answers */
    int64_t asked_us, sent_us;
    uint32_t answered; /* bit k: peers[k] */
    struct health_view views[VOTERS_PEERS_MAX];
};

struct voters {
    struct loop *loop;
    struct voters_config config; /* id, host, key: not used from here */
    char id[TOPOLOGY_NAME_MAX + 1];
    struct nn_link *surveyor, *respondent;
    uint16_t port;
    bool closed;
    struct voters_peer peers[VOTERS_PEERS_MAX];
    uint32_t n_controllers;
    void *by_member;                                    /* tsearch tree of struct voters_survey */
    struct voters_survey *by_seq[VOTERS_UNDER_WAY_MAX]; /* at seq modulo its size */
    uint64_t seq;                                       /* newest number given */
    size_t n;                                           /* under way */
    struct list all, fresh, sent, decided;
    int64_t frame_us; /* when the last frame was sent */
    ev_timer tick;
    uint64_t ignored;
    int64_t logged_us;
    char frame[NN_LINK_MESSAGE_MAX];
};

/* ---- what is wrong from outside ----------------------------------------------------------------------- */

static void voters_ignore(struct voters *v, const char *why, const char *from)
{
    int64_t now_us = loop_now_us(v->loop);

    v->ignored++;
    if (v->logged_us != 0 && now_us - v->logged_us < VOTERS_LOG_US)
        return;
    v->logged_us = now_us;
    log_warn("event=voters.ignored reason=\"%s\" from=%s count=%llu", why, from,
             (unsigned long long)v->ignored);
}

uint64_t voters_ignored(const struct voters *v)
{
    return v->ignored;
}

/* ---- frames ------------------------------------------------------------------------------------------- */

/* Appends a line; false when it doesn't fit any more. */
static bool voters_add_line(char *frame, size_t *len, const struct message *m)
{
    ssize_t n = message_encode(m, frame + *len, NN_LINK_MESSAGE_MAX - *len - 1);

    if (n < 0)
        return false;
    *len += (size_t)n;
    frame[(*len)++] = '\n';
    return true;
}

/* Calls on_line for each line that is a message of that type; returns how many there were. */
static int voters_read_lines(struct voters *v, const char *data, size_t len, enum message_type type,
                             void (*on_line)(struct voters *v, const struct message *m, size_t *answer),
                             size_t *answer)
{
    const char *end = data + len;
    int lines = 0;

    for (const char *line = data; line < end && !v->closed; lines++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        struct message m;

        if (lines == VOTERS_LINES_MAX) {
            voters_ignore(v, "more lines than anybody asks in one frame", "-");
            break;
        }
        if (stop == NULL)
            stop = end;
        if (message_decode(line, (size_t)(stop - line), &m) != 0)
            voters_ignore(v, "garbled", "-");
        else if (m.type != type)
            voters_ignore(v, "of a wrong type", "-");
        else
            on_line(v, &m, answer);
        line = stop + 1;
    }
    return lines;
}

/* ---- answering ---------------------------------------------------------------------------------------- */

static void voters_on_survey(struct voters *v, const struct message *survey, size_t *answer)
{
    struct message vote = {.type = MESSAGE_VOTE, .seq = survey->seq, .master = survey->master};
    struct health_view view = {.kind = HEALTH_VIEW_UNKNOWN};

    v->config.view(v->config.ctx, survey->instance, &survey->master, &view);
    memcpy(vote.id, v->id, sizeof(vote.id));
    memcpy(vote.instance, survey->instance, sizeof(vote.instance));
    (void)snprintf(vote.view, sizeof(vote.view), "%s", health_view_name(view.kind));
    vote.silent_us = view.silent_us > 0 ? view.silent_us : 0;
    vote.distrusted = view.distrusted;
    if (!voters_add_line(v->frame, answer, &vote))
        voters_ignore(v, "the answers do not fit one frame", survey->id);
}

/* The answer goes to whoever asked last, so it is sent before the next message is taken. */
static void voters_on_asked(void *ctx, const char *data, size_t len)
{
    struct voters *v = ctx;
    size_t answer = 0;

    (void)voters_read_lines(v, data, len, MESSAGE_SURVEY, voters_on_survey, &answer);
    if (answer > 0 && !v->closed && nn_link_send(v->respondent, v->frame, answer) != 0)
        voters_ignore(v, "an answer could not be sent", "-");
}

/* ---- surveys ------------------------------------------------------------------------------------------ */

static int voters_compare(const void *a, const void *b)
{
    const struct voters_survey *x = a, *y = b;
    int order = strcmp(x->instance, y->instance);

    if (order == 0)
        order = strcmp(x->member.host, y->member.host);
    return order != 0 ? order : (int)x->member.port - (int)y->member.port;
}

/* Out of the tables: the same member may be asked about again. */
static void voters_decide(struct voters *v, struct voters_survey *s)
{
    (void)tdelete(s, &v->by_member, voters_compare);
    v->by_seq[s->seq % VOTERS_UNDER_WAY_MAX] = NULL;
    v->n--;
    list_remove(&s->all);
    list_remove(&s->queue);
    list_push_back(&v->decided, &s->queue);
}

static void voters_collect(const struct voters *v, const struct voters_survey *s, struct health_votes *out)
{
    memset(out, 0, sizeof(*out));
    out->asked_us = s->asked_us;
    out->n_controllers = v->n_controllers;
    for (int k = 0; k < VOTERS_PEERS_MAX; k++) {
        if (s->answered & (1U << k))
            out->views[out->n++] = s->views[k];
    }
}

/* Whoever is called may ask again, change the peers (what that decides is told in the next turn) or close us.
 */
static void voters_tell_decided(struct voters *v)
{
    list_for_each(node, &v->decided)
    {
        struct voters_survey *s = list_entry(node, struct voters_survey, queue);
        struct health_votes votes;

        if (v->closed)
            return;
        list_remove(node);
        voters_collect(v, s, &votes);
        for (unsigned k = 0; k < s->asks && !v->closed; k++)
            v->config.on_votes(v->config.ctx, s->instance, &s->member, &votes);
        free(s);
    }
}

/* Does that view say that the member is gone, for about as long as we say? Then its owner will be counted as
 * agreeing with us (health.c). */
static bool voters_says_gone(const struct health_view *view, const struct health_view *own)
{
    if (view->kind == HEALTH_VIEW_REFUSED)
        return true;
    return (view->kind == HEALTH_VIEW_HUNG || view->kind == HEALTH_VIEW_UNREACHABLE) &&
           view->silent_us >= own->silent_us - VOTERS_SLACK_US;
}

/* Decided: everybody who can be asked has answered, or what is missing can't change a majority any more. One
 * stopped controller would otherwise cost each survey its whole deadline. */
static bool voters_is_decided(struct voters *v, const struct voters_survey *s)
{
    struct health_view own = {.kind = HEALTH_VIEW_UNKNOWN};
    uint32_t gone = 0, answers = 0, missing = 0;

    v->config.view(v->config.ctx, s->instance, &s->member, &own);
    if (!own.distrusted) {
        gone += voters_says_gone(&own, &own);
        answers += own.kind == HEALTH_VIEW_ANSWERS;
    }
    for (int k = 0; k < VOTERS_PEERS_MAX; k++) {
        if (s->answered & (1U << k)) {
            gone += !s->views[k].distrusted && voters_says_gone(&s->views[k], &own);
            answers += !s->views[k].distrusted && s->views[k].kind == HEALTH_VIEW_ANSWERS;
        } else if (v->peers[k].endpoint >= 0) {
            missing++;
        }
    }
    return missing == 0 || gone * 2 > v->n_controllers || answers * 2 > v->n_controllers;
}

static void voters_arm(struct voters *v);

static void voters_on_vote(struct voters *v, const struct message *vote, size_t *answer)
{
    struct voters_survey *s = v->by_seq[vote->seq % VOTERS_UNDER_WAY_MAX];
    struct health_view *view;
    int k = 0;

    (void)answer;
    while (k < VOTERS_PEERS_MAX && (v->peers[k].id[0] == '\0' || strcmp(v->peers[k].id, vote->id) != 0))
        k++;
    if (k == VOTERS_PEERS_MAX) {
        voters_ignore(v, "a vote of a controller that is not registered", vote->id);
        return;
    }
    /* Too late, which is usual: it was decided without this one. */
    if (s == NULL || s->seq != vote->seq || (s->answered & (1U << k)))
        return;
    if (strcmp(s->instance, vote->instance) != 0 || !topology_address_equal(&s->member, &vote->master)) {
        voters_ignore(v, "a vote about another member than was asked about", vote->id);
        return;
    }
    view = &s->views[k];
    if (health_view_parse(vote->view, &view->kind) != 0)
        view->kind = HEALTH_VIEW_UNKNOWN; /* a word of a newer version */
    view->silent_us = vote->silent_us;
    view->distrusted = vote->distrusted;
    s->answered |= 1U << k;
    if (voters_is_decided(v, s))
        voters_decide(v, s);
}

static void voters_on_answer(void *ctx, const char *data, size_t len)
{
    struct voters *v = ctx;

    (void)voters_read_lines(v, data, len, MESSAGE_VOTE, voters_on_vote, NULL);
    voters_tell_decided(v);
    if (!v->closed)
        voters_arm(v);
}

/* One frame of what waits to be sent. */
static void voters_send(struct voters *v, int64_t now_us)
{
    struct list *node;
    size_t len = 0;
    int lines = 0, err;

    while (lines < VOTERS_LINES_MAX && (node = list_first(&v->fresh)) != NULL) {
        struct voters_survey *s = list_entry(node, struct voters_survey, queue);
        struct message m = {.type = MESSAGE_SURVEY, .seq = s->seq, .master = s->member};

        memcpy(m.id, v->id, sizeof(m.id));
        memcpy(m.instance, s->instance, sizeof(m.instance));
        if (!voters_add_line(v->frame, &len, &m))
            break;
        lines++;
        s->sent_us = now_us;
        list_remove(node);
        list_push_back(&v->sent, node);
    }
    if (lines == 0)
        return;
    v->frame_us = now_us;
    err = nn_link_send(v->surveyor, v->frame, len);
    if (err != 0) /* nobody is connected: the deadline says so */
        log_debug("event=voters.not_sent surveys=%d err=%s", lines, err_name(err));
}

static bool voters_can_ask(const struct voters *v)
{
    for (int k = 0; k < VOTERS_PEERS_MAX; k++) {
        if (v->peers[k].endpoint >= 0)
            return true;
    }
    return false;
}

static void voters_on_tick(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct voters *v = w->data;
    int64_t now_us = loop_now_us(v->loop);
    bool can_ask = voters_can_ask(v);

    (void)ev;
    (void)revents;
    list_for_each(node, &v->all)
    {
        struct voters_survey *s = list_entry(node, struct voters_survey, all);

        if (can_ask && now_us - s->asked_us < VOTERS_DEADLINE_US)
            break;
        voters_decide(v, s);
    }
    list_for_each(node, &v->sent)
    {
        if (now_us - list_entry(node, struct voters_survey, queue)->sent_us < VOTERS_REPEAT_US)
            break;
        list_remove(node);
        list_push_back(&v->fresh, node);
    }
    if (now_us - v->frame_us >= VOTERS_SPACE_US)
        voters_send(v, now_us);
    voters_tell_decided(v);
    if (!v->closed)
        voters_arm(v);
}

static int64_t voters_earlier(int64_t a_us, int64_t b_us)
{
    return a_us < b_us ? a_us : b_us;
}

/* Sets the timer to the next thing to do. */
static void voters_arm(struct voters *v)
{
    struct ev_loop *ev = loop_ev(v->loop);
    struct list *oldest = list_first(&v->all), *sent = list_first(&v->sent);
    int64_t at_us = INT64_MAX, wait_us;

    if (oldest != NULL)
        at_us = list_entry(oldest, struct voters_survey, all)->asked_us + VOTERS_DEADLINE_US;
    if (sent != NULL)
        at_us =
            voters_earlier(at_us, list_entry(sent, struct voters_survey, queue)->sent_us + VOTERS_REPEAT_US);
    if (!list_empty(&v->fresh))
        at_us = voters_earlier(at_us, v->frame_us + VOTERS_SPACE_US);
    if (!list_empty(&v->decided))
        at_us = 0;
    ev_timer_stop(ev, &v->tick);
    if (at_us == INT64_MAX)
        return;
    wait_us = at_us - loop_now_us(v->loop);
    ev_timer_set(&v->tick, wait_us > 0 ? (double)wait_us / 1e6 : 0., 0.);
    ev_timer_start(ev, &v->tick);
}

int voters_survey(struct voters *v, const char *instance, const struct topology_address *member)
{
    struct voters_survey *s = calloc(1, sizeof(*s)), **found;

    assert(!v->closed && topology_name_check(instance) == 0 && topology_address_is_set(member));
    if (s == NULL)
        return ERR_NOMEM;
    (void)snprintf(s->instance, sizeof(s->instance), "%s", instance);
    s->member = *member;
    found = tsearch(s, &v->by_member, voters_compare);
    if (found == NULL) {
        free(s);
        return ERR_NOMEM;
    }
    if (*found != s) {
        (*found)->asks++;
        free(s);
        return 0;
    }
    if (v->n == VOTERS_UNDER_WAY_MAX) {
        (void)tdelete(s, &v->by_member, voters_compare);
        free(s);
        return ERR_BUSY;
    }
    do
        v->seq++;
    while (v->by_seq[v->seq % VOTERS_UNDER_WAY_MAX] != NULL);
    v->by_seq[v->seq % VOTERS_UNDER_WAY_MAX] = s;
    v->n++;
    s->seq = v->seq;
    s->asks = 1;
    s->asked_us = loop_now_us(v->loop);
    list_push_back(&v->all, &s->all);
    list_push_back(&v->fresh, &s->queue);
    voters_arm(v);
    return 0;
}

/* ---- peers -------------------------------------------------------------------------------------------- */

static void voters_disconnect(struct voters *v, struct voters_peer *p)
{
    if (p->endpoint >= 0)
        nn_link_disconnect(v->surveyor, p->endpoint);
    p->endpoint = -1;
}

static void voters_connect(struct voters *v, struct voters_peer *p)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1], url[TOPOLOGY_ADDRESS_MAX + 8];
    int err;

    if (p->address.port == 0)
        return; /* it takes part in no surveys */
    (void)snprintf(url, sizeof(url), "tcp://%s", topology_address_format(&p->address, text));
    err = nn_link_connect(v->surveyor, url, &p->endpoint);
    if (err == 0)
        return;
    p->endpoint = -1;
    log_warn("event=voters.connect_failed controller=%s address=%s err=%s say=\"it can't be asked (%s)\"",
             p->id, text, err_name(err), err_text(err));
}

static void voters_add_peer(struct voters *v, const struct topology_controller *c)
{
    struct voters_peer *p = NULL;
    struct topology_address address = {.port = c->vote_port};

    memcpy(address.host, c->host, sizeof(address.host));
    for (int k = 0; k < VOTERS_PEERS_MAX; k++) {
        if (strcmp(v->peers[k].id, c->id) == 0) {
            p = &v->peers[k];
            break;
        }
        if (p == NULL && v->peers[k].id[0] == '\0')
            p = &v->peers[k];
    }
    if (p == NULL) {
        log_warn("event=voters.too_many controller=%s say=\"at most %d other controllers are asked\"", c->id,
                 VOTERS_PEERS_MAX);
        return;
    }
    p->listed = true;
    if (p->id[0] != '\0' && topology_address_equal(&p->address, &address) &&
        (p->endpoint >= 0 || address.port == 0))
        return;
    voters_disconnect(v, p);
    memcpy(p->id, c->id, sizeof(p->id));
    p->address = address;
    voters_connect(v, p);
}

void voters_set_peers(struct voters *v, const struct topology_controller *list, size_t n)
{
    uint32_t left = 0;

    assert(!v->closed);
    v->n_controllers = 1;
    for (int k = 0; k < VOTERS_PEERS_MAX; k++)
        v->peers[k].listed = false;
    /* The gone ones first: their slots may be needed. */
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < VOTERS_PEERS_MAX; k++)
            v->peers[k].listed |= v->peers[k].id[0] != '\0' && strcmp(v->peers[k].id, list[i].id) == 0;
    }
    for (int k = 0; k < VOTERS_PEERS_MAX; k++) {
        if (v->peers[k].listed)
            continue;
        voters_disconnect(v, &v->peers[k]);
        v->peers[k].id[0] = '\0';
        left |= 1U << k;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].id, v->id) == 0)
            continue;
        v->n_controllers++;
        voters_add_peer(v, &list[i]);
    }
    list_for_each(node, &v->all)
    {
        struct voters_survey *s = list_entry(node, struct voters_survey, all);

        s->answered &= ~left; /* who is not registered any more has no vote */
        if (voters_is_decided(v, s))
            voters_decide(v, s);
    }
    voters_arm(v);
}

/* ---- opening and closing ------------------------------------------------------------------------------ */

static void voters_free(void *p)
{
    struct voters *v = p;
    struct list *const lists[] = {&v->fresh, &v->sent, &v->decided};

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        list_for_each(node, lists[i])
        {
            struct voters_survey *s = list_entry(node, struct voters_survey, queue);

            list_remove(node);
            (void)tdelete(s, &v->by_member, voters_compare);
            free(s);
        }
    }
    free(v);
}

int voters_open(struct voters **out, struct loop *loop, const struct voters_config *config)
{
    struct voters *v;
    int err;

    assert(config->id != NULL && config->host != NULL && config->view != NULL && config->on_votes != NULL);
    if (topology_name_check(config->id) != 0)
        return ERR_INVALID;
    v = calloc(1, sizeof(*v));
    if (v == NULL)
        return ERR_NOMEM;
    v->loop = loop;
    v->config = *config;
    v->config.id = v->config.host = NULL;
    v->config.key = NULL;
    (void)snprintf(v->id, sizeof(v->id), "%s", config->id);
    v->n_controllers = 1;
    for (int k = 0; k < VOTERS_PEERS_MAX; k++)
        v->peers[k].endpoint = -1;
    list_init(&v->all);
    list_init(&v->fresh);
    list_init(&v->sent);
    list_init(&v->decided);
    /* Above every number of a former run of this controller, whose answers someone may repeat to us. */
    v->seq = (uint64_t)loop_wall_ms() * 1000;
    ev_init(&v->tick, voters_on_tick);
    v->tick.data = v;
    err = nn_link_open(&v->respondent, loop, NN_RESPONDENT, config->key, voters_on_asked, v);
    if (err == 0)
        err = nn_link_open(&v->surveyor, loop, NN_SURVEYOR | NN_LINK_RAW, config->key, voters_on_answer, v);
    if (err == 0)
        err = nn_link_bind_any(v->respondent, config->host, config->port, &v->port);
    if (err != 0) {
        voters_close(v);
        return err;
    }
    *out = v;
    return 0;
}

void voters_close(struct voters *v)
{
    if (v == NULL)
        return;
    assert(!v->closed);
    v->closed = true;
    ev_timer_stop(loop_ev(v->loop), &v->tick);
    nn_link_close(v->surveyor);
    nn_link_close(v->respondent);
    loop_defer(v->loop, voters_free, v); /* on_votes may be running */
}

uint16_t voters_port(const struct voters *v)
{
    return v->port;
}
