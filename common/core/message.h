/* The messages that travel over nanomsg, and their JSON text. Pure.
 *
 * leader → proxies (PUB): route, hold, drop, beat.  proxies → leader (PUSH): ack, hint, held.
 * controller → controllers (SURVEYOR): survey.  controllers → controller (RESPONDENT): vote.
 * Each carries v, type, term (czxid of the leader's election znode) and seq. seq counts the leader's
 * route/hold/drop messages from 1 in its term; a beat repeats the newest seq. A receiver drops a lower term,
 * re-reads ZooKeeper on a higher one and on a gap in seq. Unknown fields are ignored, unknown types are
 * ERR_NOT_FOUND (skip them), a v above 1 is ERR_VERSION, everything else that is off is ERR_INVALID.
 * Signing (HMAC) is nn_link's. */
#ifndef MR_COMMON_CORE_MESSAGE_H
#define MR_COMMON_CORE_MESSAGE_H

#include "common/core/topology.h"

#include <sys/types.h>

enum { MESSAGE_TEXT_MAX = 4096 }; /* bytes of one message, its terminator included */

enum message_type {
    MESSAGE_ROUTE, /* instance, port, epoch, revision, master, replicas, durability, acks, hold_ms, reads,
                      readers, fence_user */
    /* instance, port, epoch, revision, limit_ms. limit_ms 0: a promotion is under way, keep requests.
     * Otherwise a switchover: the present master (of that epoch) still serves; send nothing more to it, let
     * what is in flight end, answer HELD; go on by yourself after limit_ms or at the next route message. */
    MESSAGE_HOLD,
    MESSAGE_DROP,   /* instance, port, revision: deleted, its listener goes away */
    MESSAGE_BEAT,   /* id of the leader, revision */
    MESSAGE_ACK,    /* id of the proxy, instance, epoch, acks, took_us */
    MESSAGE_HINT,   /* id of the proxy, instance, epoch, master: a connection to that member broke */
    MESSAGE_HELD,   /* id of the proxy, instance, epoch: it holds for a switchover, nothing is in flight */
    MESSAGE_SURVEY, /* id of the asking controller, instance, master: how do you see that member? seq: number
                     */
    MESSAGE_VOTE, /* id of the answering one, instance, master, view, silent_us, distrusted; seq: the survey's
                   */
};

struct message {
    enum message_type type;
    uint64_t term, seq;
    uint64_t revision; /* mzxid of the znode that the message tells about; BEAT: the newest one published */
    char id[TOPOLOGY_NAME_MAX + 1];       /* BEAT: controller; ACK, HINT: proxy; else "" */
    char instance[TOPOLOGY_NAME_MAX + 1]; /* "" in a BEAT */
    uint16_t port;
    uint64_t epoch;
    struct topology_address master;
    uint32_t n_replicas;
    struct topology_address replicas[TOPOLOGY_MEMBERS_MAX];
    enum topology_durability durability;
    /* ROUTE: of a strict one, replicas that acknowledge a write, 1 to MEMBERS_MAX - 1. ACK: for how many the
     * proxy holds replies in every thread; 0: it doesn't (also of one that can't). */
    uint32_t acks;
    uint32_t hold_ms;
    enum topology_reads reads;                    /* a sender that doesn't know of it: the master */
    char fence_user[TOPOLOGY_FENCE_USER_MAX + 1]; /* "": not fenced, or the sender doesn't know of it */
    uint32_t n_readers;
    struct topology_reader readers[TOPOLOGY_MEMBERS_MAX]; /* replicas that clients may read from */
    int64_t took_us;   /* ACK: from the message's arrival to the last connection switched */
    uint32_t limit_ms; /* HOLD */
    char view[16];     /* VOTE: "answers", "refused", "hung", "unreachable", "unknown" (health.h) */
    int64_t silent_us; /* VOTE */
    bool distrusted;   /* VOTE */
};

/* Length of the NUL-terminated text, or ERR_TOO_LARGE. */
ssize_t message_encode(const struct message *m, char *text, size_t size) MR_MUST_CHECK;
int message_decode(const char *text, size_t len, struct message *out) MR_MUST_CHECK;
const char *message_type_name(enum message_type t); /* "route", "hold", … */

/* The route (or hold, when nobody may serve) message of an instance; seq, term and revision are the caller's.
 */
void message_from_instance(const struct topology_instance *i, struct message *out);

#endif
