#include "proxy/gather.h"

#include "common/log.h"
#include "proxy/client_private.h"

#include <stdlib.h>
#include <string.h>

int gather_open(struct gather *g, bool wanted)
{
    int why = 0;

    if (!wanted)
        return 0;
    g->rooms = malloc((size_t)BATCH_MAX * GATHER_BYTES);
    if (!g->rooms)
        return ERR_NOMEM;
    g->batch = batch_open(&why);
    if (g->batch)
        return 0;
    free(g->rooms);
    g->rooms = NULL;
    log_info(
        "event=gather.plain reason=\"%s\" say=\"no io_uring here: one system call for each read and write\"",
        strerror(why));
    return 0;
}

void gather_close(struct gather *g)
{
    batch_close(g->batch);
    free(g->rooms);
    *g = (struct gather){0};
}

bool gather_add(struct gather *g, struct client *c)
{
    if (!g->batch)
        return false;
    g->clients[g->n++] = c;
    if (g->n == BATCH_MAX)
        gather_read(g);
    return true;
}

void gather_read(struct gather *g)
{
    struct batch_item items[BATCH_MAX];
    struct client *clients[BATCH_MAX];
    int n = 0;

    for (int k = 0; k < g->n; k++) {
        struct client *c = g->clients[k];
        if (!client_reads(c)) {
            client_touch(c);
            continue;
        }
        items[n] = (struct batch_item){
            .fd = c->io.fd, .data = g->rooms + (size_t)n * GATHER_BYTES, .len = GATHER_BYTES};
        clients[n++] = c;
    }
    g->n = 0;
    if (n == 1) {
        client_read(clients[0]);
        return;
    }
    bool together = batch_read(g->batch, items, n);
    for (int k = 0; k < n; k++) {
        session_count(&clients[k]->instance->counts.batched_reads, together);
        clients[k]->sends_much = items[k].result == GATHER_BYTES;
        client_arrived(clients[k], items[k].data,
                       items[k].result); /* closes nobody: they do when they settle */
    }
}

void gather_forget(struct gather *g, const struct client *c)
{
    for (int k = 0; k < g->n; k++)
        if (g->clients[k] == c)
            g->clients[k--] = g->clients[--g->n];
}
