#include "proxy/subscriber.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/nn_link.h"
#include "proxy/directory.h"

#include <assert.h>
#include <nanomsg/pipeline.h>
#include <nanomsg/pubsub.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPLAIN_EVERY_US ((int64_t)1000000)

struct peer {
    struct topology_controller controller;
    int endpoint; /* of the SUB link; -1: not connected */
};

struct subscriber {
    struct loop *loop;
    struct nn_link *sub, *push;
    subscriber_fn on_message;
    void *ctx;
    struct peer peers[DIRECTORY_MAX];
    size_t n_peers;
    char leader[TOPOLOGY_NAME_MAX + 1];
    char push_url[80]; /* "" not connected */
    int push_endpoint;
    uint64_t garbled;
    int64_t complained_us;
};

static void subscriber_complain(struct subscriber *s, size_t len, int err)
{
    int64_t now = loop_now_us(s->loop);

    s->garbled++;
    if (s->complained_us != 0 && now - s->complained_us < COMPLAIN_EVERY_US)
        return;
    s->complained_us = now;
    log_warn("event=subscriber.garbled bytes=%zu garbled=%llu reason=%s say=\"a message that no controller "
             "sends was ignored; who else has the address of a publish port?\"",
             len, (unsigned long long)s->garbled, err_name(err));
}

static void subscriber_on_data(void *ctx, const char *data, size_t len)
{
    struct subscriber *s = ctx;
    struct message m;
    int err = message_decode(data, len, &m);

    if (err == ERR_NOT_FOUND)
        log_debug("event=subscriber.unknown_type bytes=%zu", len); /* a newer controller's */
    else if (err != 0)
        subscriber_complain(s, len, err);
    else
        s->on_message(s->ctx, &m);
}

int subscriber_open(struct subscriber **out, struct loop *loop, const struct nn_link_key *key,
                    subscriber_fn on_message, void *ctx)
{
    struct subscriber *s = calloc(1, sizeof(*s));

    assert(loop && on_message);
    if (!s)
        return ERR_NOMEM;
    s->loop = loop;
    s->on_message = on_message;
    s->ctx = ctx;
    int err = nn_link_open(&s->sub, loop, NN_SUB, key, subscriber_on_data, s);
    if (err == 0)
        err = nn_link_open(&s->push, loop, NN_PUSH, key, NULL, NULL);
    if (err != 0) {
        subscriber_close(s);
        return err;
    }
    *out = s;
    return 0;
}

void subscriber_close(struct subscriber *s)
{
    if (!s)
        return;
    if (s->sub)
        nn_link_close(s->sub);
    if (s->push)
        nn_link_close(s->push);
    free(s);
}

static void url_format(char *text, size_t size, const char *host, uint16_t port)
{
    snprintf(text, size, strchr(host, ':') ? "tcp://[%s]:%u" : "tcp://%s:%u", host, (unsigned)port);
}

/* ---- listening ----------------------------------------------------------------------------------------- */

static void peer_connect(struct subscriber *s, struct peer *p)
{
    char url[80];

    url_format(url, sizeof(url), p->controller.host, p->controller.pub_port);
    int err = nn_link_connect(s->sub, url, &p->endpoint);
    if (err == 0)
        return;
    p->endpoint = -1;
    log_warn("event=subscriber.connect_failed controller=%s url=%s reason=%s say=\"its routes are read from "
             "ZooKeeper meanwhile\"",
             p->controller.id, url, err_name(err));
}

static void peer_disconnect(struct subscriber *s, struct peer *p)
{
    if (p->endpoint >= 0)
        nn_link_disconnect(s->sub, p->endpoint);
    p->endpoint = -1;
}

static bool same_endpoint(const struct topology_controller *a, const struct topology_controller *b)
{
    return strcmp(a->id, b->id) == 0 && strcmp(a->host, b->host) == 0 && a->pub_port == b->pub_port;
}

static void subscriber_aim(struct subscriber *s);

void subscriber_set_controllers(struct subscriber *s, const struct topology_controller *controllers, size_t n)
{
    struct peer before[DIRECTORY_MAX];
    bool kept[DIRECTORY_MAX] = {false};
    size_t n_before = s->n_peers;

    assert(n <= DIRECTORY_MAX);
    memcpy(before, s->peers, sizeof(before));
    for (size_t i = 0; i < n; i++) {
        struct peer next = {.controller = controllers[i], .endpoint = -1};
        for (size_t j = 0; j < n_before; j++)
            if (!kept[j] && same_endpoint(&before[j].controller, &controllers[i])) {
                next.endpoint = before[j].endpoint;
                kept[j] = true;
                break;
            }
        s->peers[i] = next;
    }
    s->n_peers = n;
    for (size_t j = 0; j < n_before; j++)
        if (!kept[j]) {
            log_info("event=subscriber.leave controller=%s", before[j].controller.id);
            peer_disconnect(s, &before[j]);
        }
    for (size_t i = 0; i < n; i++)
        if (s->peers[i].endpoint < 0) {
            log_info("event=subscriber.join controller=%s host=%s port=%u", s->peers[i].controller.id,
                     s->peers[i].controller.host, (unsigned)s->peers[i].controller.pub_port);
            peer_connect(s, &s->peers[i]);
        }
    subscriber_aim(s);
}

void subscriber_reconnect(struct subscriber *s)
{
    for (size_t i = 0; i < s->n_peers; i++) {
        peer_disconnect(s, &s->peers[i]);
        peer_connect(s, &s->peers[i]);
    }
    if (s->push_url[0] != '\0')
        nn_link_disconnect(s->push, s->push_endpoint);
    s->push_url[0] = '\0';
    subscriber_aim(s);
}

/* ---- speaking ------------------------------------------------------------------------------------------ */

/* Points the PUSH link at the leader's ingest, when both are known. */
static void subscriber_aim(struct subscriber *s)
{
    char url[80] = "";

    for (size_t i = 0; i < s->n_peers; i++)
        if (strcmp(s->peers[i].controller.id, s->leader) == 0)
            url_format(url, sizeof(url), s->peers[i].controller.host, s->peers[i].controller.ingest_port);
    if (strcmp(url, s->push_url) == 0)
        return;
    if (s->push_url[0] != '\0')
        nn_link_disconnect(s->push, s->push_endpoint);
    s->push_url[0] = '\0';
    if (url[0] == '\0')
        return;
    int err = nn_link_connect(s->push, url, &s->push_endpoint);
    if (err == 0)
        memcpy(s->push_url, url, sizeof(s->push_url));
    else
        log_warn("event=subscriber.aim_failed controller=%s url=%s reason=%s", s->leader, url, err_name(err));
}

void subscriber_follow(struct subscriber *s, const char *leader)
{
    snprintf(s->leader, sizeof(s->leader), "%s", leader);
    subscriber_aim(s);
}

void subscriber_send(struct subscriber *s, const struct message *m)
{
    char text[MESSAGE_TEXT_MAX];
    ssize_t len = message_encode(m, text, sizeof(text));
    int err = len < 0 ? (int)len : nn_link_send(s->push, text, (size_t)len);

    if (err != 0)
        log_debug("event=subscriber.not_sent type=%s instance=%s reason=%s", message_type_name(m->type),
                  m->instance, err_name(err));
}

size_t subscriber_controllers(const struct subscriber *s)
{
    return s->n_peers;
}

uint64_t subscriber_garbled(const struct subscriber *s)
{
    return s->garbled + nn_link_dropped(s->sub);
}
