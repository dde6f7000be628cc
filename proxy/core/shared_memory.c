/* What a shared connection has in memory. Contracts in shared.h. */
#include "proxy/core/shared_internal.h"

#include <stdlib.h>

void shared_free(struct shared *sh)
{
    assert(shared_count(sh) == 0);
    free(sh->ring);
    buf_free(&sh->log);
    buf_free(&sh->stash);
    *sh = (struct shared){.log = {.start = buf_end(&sh->log)},
                          .at = buf_end(&sh->log),
                          .written = buf_end(&sh->log),
                          .n_answered = sh->n_answered,
                          .replica = sh->replica};
}

size_t shared_memory_bytes(const struct shared *sh)
{
    return sh->size * sizeof(struct shared_entry) + sh->log.size + sh->stash.size;
}

bool shared_may_rest(const struct shared *sh)
{
    return shared_count(sh) == 0 && shared_memory_bytes(sh) > SHARED_KEEP_MAX;
}

void shared_rest(struct shared *sh)
{
    bool rests = shared_may_rest(sh) && sh->rested_at == sh->tail;

    sh->rested_at = sh->tail;
    if (!rests)
        return;
    free(sh->ring);
    sh->ring = NULL;
    sh->size = 0;
    buf_free(&sh->log);
}
