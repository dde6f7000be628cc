#include "controller/adopt.h"

#include "common/core/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/redis_link.h"
#include "controller/core/placement.h"
#include "controller/zk_store.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double deadline_s = 4.0; /* over the connect deadline, so that its own words are reported */
enum { ADOPT_CONNECT_MS = 3000, ADOPT_MESSAGE_MAX = 320 };

struct adopter {
    struct loop *loop;
    struct zk_store *store;
    uint16_t port_low, port_high;
    struct list jobs;
};

struct adopt_job {
    struct list node;
    struct adopter *adopter; /* NULL: closed while the store was at work */
    struct adopt_request request;
    struct redis_link *link;
    struct info info;
    ev_timer deadline;
    bool creating;
    char message[ADOPT_MESSAGE_MAX];
    char address[TOPOLOGY_ADDRESS_MAX + 1];
    adopt_done_fn done;
    void *ctx;
};

static void adopt_job_release(struct adopt_job *job)
{
    if (job->link)
        redis_link_close(job->link);
    job->link = NULL;
    if (job->adopter)
        ev_timer_stop(loop_ev(job->adopter->loop), &job->deadline);
    list_remove(&job->node);
}

static void adopt_job_end(struct adopt_job *job, int err, uint16_t port)
{
    if (err != 0)
        log_warn("event=adopt.failed instance=%s member=%s reason=%s say=\"%s\"", job->request.name,
                 job->address, err_name(err), job->message);
    else
        log_info("event=adopt.done instance=%s member=%s port=%u", job->request.name, job->address, port);
    adopt_job_release(job);
    job->done(job->ctx, err, job->message, port);
    free(job);
}

static void adopt_on_created(void *ctx, int err, uint16_t port)
{
    struct adopt_job *job = ctx;
    if (!job->adopter) {
        free(job);
        return;
    }
    if (err == ERR_EXISTS)
        snprintf(job->message, sizeof(job->message),
                 "instance %s exists already: choose another name or delete it first", job->request.name);
    else if (err == ERR_EXHAUSTED)
        snprintf(job->message, sizeof(job->message),
                 "every port of the range %u-%u is taken: delete an instance, or widen --port-range on all "
                 "controllers",
                 job->adopter->port_low, job->adopter->port_high);
    else if (err != 0)
        snprintf(job->message, sizeof(job->message),
                 "instance %s could not be written to ZooKeeper: %s; try again", job->request.name,
                 err_text(err));
    adopt_job_end(job, err, port);
}

static void adopt_create(struct adopt_job *job)
{
    struct topology_instance record;
    struct topology_history history;
    int err = placement_adopt(job->request.name, &job->request.master, &job->request.auth, &job->info,
                              &record, job->message, sizeof(job->message));
    if (err != 0) {
        adopt_job_end(job, err, 0);
        return;
    }
    memset(&history, 0, sizeof(history));
    history.kind = TOPOLOGY_HISTORY_ADOPTED;
    history.at_ms = loop_wall_ms();
    history.epoch = record.epoch;
    history.from = record.master;
    snprintf(history.evidence, sizeof(history.evidence), "adopted with %u replicas, run_id %.8s, Redis %s",
             record.n_members - 1, job->info.run_id, job->info.version);
    job->creating = true;
    err = zk_store_create(job->adopter->store, &record, &history, adopt_on_created, job);
    if (err != 0) {
        snprintf(job->message, sizeof(job->message),
                 "instance %s could not be written to ZooKeeper: %s; try again", job->request.name,
                 err_text(err));
        adopt_job_end(job, err, 0);
    }
}

static int adopt_take_info(struct adopt_job *job, int err, const struct redisReply *reply)
{
    if (err == 0 && reply->type == REDIS_REPLY_ERROR) {
        snprintf(job->message, sizeof(job->message), "%s refused INFO: %s%s", job->address, reply->str,
                 strncmp(reply->str, "NOAUTH", 6) == 0 ? "; give --user and --password-file" : "");
        return strncmp(reply->str, "NO", 2) == 0 ? ERR_AUTH : ERR_REPLY;
    }
    if (err == 0 &&
        (reply->type != REDIS_REPLY_STRING || info_parse(reply->str, reply->len, &job->info) != 0)) {
        snprintf(job->message, sizeof(job->message), "%s does not answer like a redis-server", job->address);
        return ERR_PROTOCOL;
    }
    if (err != 0)
        snprintf(job->message, sizeof(job->message), "%s: %s", job->address, err_text(err));
    return err;
}

static void adopt_on_server(void *ctx, int err, const struct redisReply *reply)
{
    struct adopt_job *job = ctx;
    err = adopt_take_info(job, err, reply);
    if (err != 0)
        adopt_job_end(job, err, 0);
}

static void adopt_on_replication(void *ctx, int err, const struct redisReply *reply)
{
    struct adopt_job *job = ctx;
    err = adopt_take_info(job, err, reply);
    if (err != 0)
        adopt_job_end(job, err, 0);
    else
        adopt_create(job);
}

static void adopt_on_up(void *ctx)
{
    static const char *const server[] = {"INFO", "server"}, *const persistence[] = {"INFO", "persistence"},
                             *const replication[] = {"INFO", "replication"};
    struct adopt_job *job = ctx;
    if (job->creating)
        return;
    info_init(&job->info);
    int err = redis_link_command(job->link, adopt_on_server, job, 2, server);
    if (err == 0)
        err = redis_link_command(job->link, adopt_on_server, job, 2, persistence);
    if (err == 0)
        err = redis_link_command(job->link, adopt_on_replication, job, 2, replication);
    if (err != 0) {
        snprintf(job->message, sizeof(job->message), "%s: %s", job->address, err_text(err));
        adopt_job_end(job, err, 0);
    }
}

static void adopt_on_down(void *ctx, int reason, const char *text)
{
    struct adopt_job *job = ctx;
    if (job->creating)
        return;
    const char *todo = "";
    if (reason == ERR_AUTH)
        todo = "; check --user and --password-file";
    else if (reason == ERR_REFUSED)
        todo = "; nothing listens there: is the redis-server running?";
    else if (reason == ERR_PROTOCOL || reason == ERR_CLOSED)
        todo = "; does Redis listen on that port?";
    snprintf(job->message, sizeof(job->message), "%s: %s%s%s%s%s", job->address, err_text(reason),
             text && *text ? " (" : "", text ? text : "", text && *text ? ")" : "", todo);
    adopt_job_end(job, reason, 0);
}

static void adopt_on_deadline(struct ev_loop *ev, ev_timer *timer, int revents)
{
    (void)ev;
    (void)revents;
    struct adopt_job *job = timer->data;
    if (job->creating)
        return; /* the store answers by itself, at the latest when its session ends */
    snprintf(job->message, sizeof(job->message), "%s gave no answer within %.0f s", job->address, deadline_s);
    adopt_job_end(job, ERR_TIMEOUT, 0);
}

int adopt_start(struct adopter *a, const struct adopt_request *request, adopt_done_fn done, void *ctx)
{
    assert(a && request && done);
    struct adopt_job *job = calloc(1, sizeof(*job));
    if (!job)
        return ERR_NOMEM;
    job->adopter = a;
    job->request = *request;
    job->done = done;
    job->ctx = ctx;
    topology_address_format(&request->master, job->address);
    list_init(&job->node);
    ev_timer_init(&job->deadline, adopt_on_deadline, deadline_s, 0.);
    job->deadline.data = job;
    struct redis_link_config link = {
        .address = request->master,
        .auth = request->auth,
        .connect_timeout_ms = ADOPT_CONNECT_MS,
        .reply_timeout_ms = ADOPT_CONNECT_MS,
        .reconnect_min_ms = 1000,
        .reconnect_max_ms = 1000,
        .on_up = adopt_on_up,
        .on_down = adopt_on_down,
        .ctx = job,
    };
    int err = redis_link_open(&job->link, a->loop, &link);
    if (err != 0) {
        free(job);
        return err;
    }
    list_push_back(&a->jobs, &job->node);
    ev_timer_start(loop_ev(a->loop), &job->deadline);
    return 0;
}

int adopter_open(struct adopter **out, struct loop *loop, struct zk_store *store, uint16_t port_low,
                 uint16_t port_high)
{
    struct adopter *a = calloc(1, sizeof(*a));
    if (!a)
        return ERR_NOMEM;
    a->loop = loop;
    a->store = store;
    a->port_low = port_low;
    a->port_high = port_high;
    list_init(&a->jobs);
    *out = a;
    return 0;
}

void adopter_close(struct adopter *a)
{
    if (!a)
        return;
    list_for_each(node, &a->jobs)
    {
        struct adopt_job *job = list_entry(node, struct adopt_job, node);
        bool creating = job->creating;
        adopt_job_release(job);
        job->adopter = NULL;
        if (!creating)
            free(job);
    }
    free(a);
}
