/* proxies ─ PUSH ─► PULL ─► decode ─► engine_on_ack / engine_on_hint / engine_on_held */
#include "controller/ingest.h"

#include "common/core/message.h"
#include "common/log.h"
#include "common/loop.h"
#include "controller/engine.h"

#include <assert.h>
#include <inttypes.h>
#include <nanomsg/pipeline.h>
#include <stdlib.h>

struct ingest {
    struct loop *loop;
    struct nn_link *link;
    struct engine *engine;
    uint16_t port;
    uint64_t garbled;
    int64_t garbled_logged_us;
};

static void ingest_note_garbled(struct ingest *in, size_t len, int err)
{
    int64_t now_us = loop_now_us(in->loop);
    in->garbled++;
    if (in->garbled_logged_us != 0 && now_us - in->garbled_logged_us < 1000 * 1000)
        return;
    in->garbled_logged_us = now_us;
    log_warn("event=ingest.garbled bytes=%zu reason=\"%s\" total=%" PRIu64
             " next=\"ignored; check who connects to the ingest port\"",
             len, err_text(err), in->garbled);
}

static void ingest_on_message(void *ctx, const char *data, size_t len)
{
    struct ingest *in = ctx;
    struct message m;
    int err = message_decode(data, len, &m);
    if (err != 0)
        ingest_note_garbled(in, len, err);
    else if (m.type == MESSAGE_ACK)
        engine_on_ack(in->engine, m.id, m.instance, m.epoch, m.acks, m.took_us);
    else if (m.type == MESSAGE_HINT)
        engine_on_hint(in->engine, m.instance, m.epoch);
    else if (m.type == MESSAGE_HELD)
        engine_on_held(in->engine, m.id, m.instance, m.epoch);
    else
        ingest_note_garbled(in, len, ERR_INVALID);
}

int ingest_open(struct ingest **out, struct loop *loop, const char *host, uint16_t port,
                const struct nn_link_key *key, struct engine *engine)
{
    assert(out && loop && host && engine);
    struct ingest *in = calloc(1, sizeof(*in));
    if (!in)
        return ERR_NOMEM;
    in->loop = loop;
    in->engine = engine;
    int err = nn_link_open(&in->link, loop, NN_PULL, key, ingest_on_message, in);
    if (err == 0)
        err = nn_link_bind_any(in->link, host, port, &in->port);
    if (err != 0) {
        ingest_close(in);
        return err;
    }
    *out = in;
    return 0;
}

void ingest_close(struct ingest *in)
{
    if (!in)
        return;
    if (in->link)
        nn_link_close(in->link);
    free(in);
}

uint16_t ingest_port(const struct ingest *in)
{
    return in->port;
}
