/* A FENCE on its way: the rounds of controller/core/fence.h, command by command.
 *
 *   controller ── a round's commands, each with its own delay ──► process, which carries them out as they
 * come ▲                                                                │ └── their answers; after the last
 * one the next round ◄───────────┘
 *
 * The controller may crash before each of them. What is sent arrives as long as the process lives, whoever
 * leads meanwhile. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FENCING_TEXT_MAX = 8192 };

static struct sim_fencing *fencing_of(struct sim *s, int controller, int redis)
{
    return &s->fencings[controller][redis];
}

static struct sim_link *fencing_link(struct sim *s, int controller, int redis)
{
    return &s->controllers[controller].links[redis];
}

static char *fencing_copy(const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        abort();
    return copy;
}

/* ---- what the process does ------------------------------------------------------------------------------
 */

static bool fencing_epoch(const char *user, uint64_t *epoch)
{
    unsigned long long number = 0;
    int end = 0;
    if (sscanf(user, "app-e%llu%n", &number, &end) != 1 || user[end] != '\0' || number >= SIM_EPOCHS)
        return false;
    *epoch = number;
    return true;
}

static bool fencing_mark(const char *user, struct sim_mark *mark)
{
    unsigned long long term = 0, client = 0;
    if (sscanf(user, "mr-fence-%llu-%llu", &term, &client) != 2)
        return false;
    *mark = (struct sim_mark){.term = term, .client = client};
    return true;
}

static bool fencing_has(const struct sim_acl *acl, uint64_t epoch)
{
    return acl->on[epoch / 64] >> epoch % 64 & 1;
}

static char *fencing_list(const struct sim *s, const struct world_event *e)
{
    char text[FENCING_TEXT_MAX];
    const struct sim_redis *r = &s->redis[e->target];
    int at = snprintf(text, sizeof(text), "user default on nopass ~* &* +@all\n");
    if (!r->refuses_acl)
        at += snprintf(text + at, sizeof(text) - (size_t)at, "user app %s #ab ~* +@all\n",
                       r->template_off ? "off" : "on");
    for (uint64_t epoch = 0; epoch < SIM_EPOCHS; epoch++) {
        if (fencing_has(&r->acl, epoch))
            at += snprintf(text + at, sizeof(text) - (size_t)at, "user app-e%llu on #ab ~* +@all\n",
                           (unsigned long long)epoch);
    }
    for (uint32_t k = 0; k < r->acl.n_marks; k++) {
        const struct sim_mark *m = &r->acl.marks[k];
        if (s->ablation == ABLATE_ACL_NEWER && m->term > (uint64_t)e->x)
            continue;
        at += snprintf(text + at, sizeof(text) - (size_t)at,
                       "user mr-fence-%llu-%llu off resetchannels -@all\n", (unsigned long long)m->term,
                       (unsigned long long)m->client);
    }
    assert(at < FENCING_TEXT_MAX);
    return fencing_copy(text);
}

static void fencing_unmark(struct sim_acl *acl, const struct sim_mark *mark)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < acl->n_marks; k++) {
        if (acl->marks[k].term != mark->term || acl->marks[k].client != mark->client)
            acl->marks[n++] = acl->marks[k];
    }
    acl->n_marks = n;
}

static void fencing_delete(const struct sim *s, struct sim_acl *acl, char *users)
{
    char *rest = NULL;
    uint64_t epoch;
    struct sim_mark mark;
    for (char *user = strtok_r(users, " ", &rest); user; user = strtok_r(NULL, " ", &rest)) {
        if (fencing_mark(user, &mark))
            fencing_unmark(acl, &mark);
        else if (fencing_epoch(user, &epoch) && s->ablation != ABLATE_ACL && s->ablation != ABLATE_ACL_OTHERS)
            acl->on[epoch / 64] &= ~(UINT64_C(1) << epoch % 64);
    }
}

static void fencing_make(const struct sim *s, struct sim_acl *acl, const char *words)
{
    char user[TOPOLOGY_USER_MAX + 1];
    uint64_t epoch;
    struct sim_mark mark;
    if (sscanf(words, "%64s", user) != 1)
        return;
    if (fencing_mark(user, &mark)) {
        fencing_unmark(acl, &mark);
        assert(acl->n_marks < SIM_MARKS);
        acl->marks[acl->n_marks++] = mark;
    } else if (fencing_epoch(user, &epoch) && s->ablation != ABLATE_ACL) {
        acl->on[epoch / 64] |= UINT64_C(1) << epoch % 64;
    }
}

/* 0, or an error; *answer: what there is to be read of it. */
static int fencing_execute(struct sim *s, const struct world_event *e, char **answer)
{
    static const char deluser[] = "ACL DELUSER ", setuser[] = "ACL SETUSER ", kill[] = "CLIENT KILL ID ";
    struct sim_redis *r = &s->redis[e->target];
    char *text = e->data, id[24];
    if (r->said == HEALTH_SAID_BUSY)
        return ERR_REPLY; /* a script runs: it answers -BUSY to everything */
    world_trace(&s->world, "redis %d gets %.100s from c%d, term %lld", e->target, text, e->who,
                (long long)e->x);
    if (e->kind == FENCE_ANSWER_LIST) {
        *answer = fencing_list(s, e);
    } else if (e->kind == FENCE_ANSWER_ID) {
        (void)snprintf(id, sizeof(id), "%lld", (long long)(e->z >> 32));
        *answer = fencing_copy(id);
    } else if (strncmp(text, deluser, sizeof(deluser) - 1) == 0) {
        fencing_delete(s, &r->acl, text + sizeof(deluser) - 1);
    } else if (strncmp(text, setuser, sizeof(setuser) - 1) == 0) {
        fencing_make(s, &r->acl, text + sizeof(setuser) - 1);
    } else if (strncmp(text, kill, sizeof(kill) - 1) == 0 && s->ablation != ABLATE_ACL_CUT) {
        sim_link_kill(s, e->target, strtoull(text + sizeof(kill) - 1, NULL, 10));
    }
    sim_fence_cut(s, e->target);
    return 0;
}

/* ---- there and back -------------------------------------------------------------------------------------
 */

static bool fencing_send(struct sim *s, int controller, int redis);

static void fencing_finish(struct sim *s, int controller, int redis)
{
    struct sim_fencing *f = fencing_of(s, controller, redis);
    int err = f->err != 0 ? f->err : f->fence.err;
    struct failover_event event = {
        .type = FAILOVER_ON_FENCED, .err = err, .epoch = f->fence.order.epoch, .open = f->fence.open};
    event.text = f->err == 0 ? f->fence.why : "";
    sim_link_settle(s, controller, redis, f->number);
    f->number = 0;
    if (fencing_link(s, controller, redis)->process == s->redis[redis].process) {
        if (err == 0)
            sim_fence_on_done(s, redis, event.epoch, f->fence.order.keep);
        else
            sim_fence_on_refused(s, redis, event.epoch);
    }
    (void)sim_link_tell(s, controller, redis, &event);
}

static void fencing_take(struct fence *f, enum fence_answer kind, char *text)
{
    char *rest = NULL;
    if (kind == FENCE_ANSWER_ID)
        fence_take_id(f, strtoull(text, NULL, 10));
    for (char *line = kind == FENCE_ANSWER_LIST ? strtok_r(text, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest))
        fence_take(f, line, strlen(line));
}

static void fencing_on_reply(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e))
        return;
    const struct sim_link *l = fencing_link(s, e->who, e->target);
    struct sim_fencing *f = fencing_of(s, e->who, e->target);
    if (!l->up || l->connection != e->gen || f->number != e->number)
        return;
    sim_monitor_on_reply(s, e->who, e->target);
    if (e->x != 0 && f->err == 0)
        f->err = (int)e->x;
    if (e->x == 0 && e->data)
        fencing_take(&f->fence, (enum fence_answer)e->kind, e->data);
    if (--f->left > 0)
        return;
    if (f->err == 0 && fence_next(&f->fence) && fencing_send(s, e->who, e->target))
        return;
    fencing_finish(s, e->who, e->target);
}

static void fencing_on_command(struct sim *s, struct world_event *e)
{
    const struct sim_redis *r = &s->redis[e->target];
    if (!r->alive || r->process != (uint32_t)e->z || sim_redis_defers(s, e->target, e) ||
        sim_link_is_killed(s, e))
        return;
    char *text = NULL;
    int err = fencing_execute(s, e, &text);
    struct sim_link *l = fencing_link(s, e->who, e->target);
    if (l->connection != e->gen || !l->up) {
        free(text);
        return; /* nobody reads the answer */
    }
    struct world_event *answer = sim_link_answer(s, e, fencing_on_reply);
    answer->kind = e->kind;
    answer->x = err;
    answer->data = text;
}

static void fencing_say(struct sim *s, int controller, int redis, const struct fence_command *c)
{
    char text[FENCING_TEXT_MAX];
    size_t at = 0;
    const struct sim_fencing *f = fencing_of(s, controller, redis);
    struct sim_link *l = fencing_link(s, controller, redis);
    for (int k = 0; k < c->argc; k++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", k ? " " : "", c->argv[k]);
    assert(at < sizeof(text));
    struct world_event *e =
        world_at(&s->world, sim_network_at(s, controller, SIM_PLACE_REDIS + redis, &l->to_redis_at),
                 fencing_on_command);
    e->who = controller;
    e->target = redis;
    e->gen = l->connection;
    e->number = f->number;
    e->kind = (int)c->answer;
    e->x = (int64_t)f->fence.order.term;
    e->z = sim_link_from(s, controller, redis);
    e->data = fencing_copy(text);
}

/* False: there was nothing to send. */
static bool fencing_send(struct sim *s, int controller, int redis)
{
    struct sim_fencing *f = fencing_of(s, controller, redis);
    struct fence_command c;
    while (fence_command(&f->fence, &c)) {
        f->left++;
        if (sim_engine_is_doomed(s, controller, c.argv[1]))
            break; /* what it waits for doesn't matter any more */
        fencing_say(s, controller, redis, &c);
    }
    if (f->left > 0)
        faults_on_fencing(s, controller, redis);
    return f->left > 0;
}

void sim_fencing_order(struct sim *s, int controller, int redis, const struct fence_order *order)
{
    struct sim_fencing *f = fencing_of(s, controller, redis);
    uint32_t number = sim_link_take(s, controller, redis, SIM_FENCE, order->epoch);
    if (number == 0)
        return;
    f->number = number;
    f->left = 0;
    f->err = 0;
    fence_begin(&f->fence, order);
    (void)fencing_send(s, controller, redis);
}
