/* When a client's request may go to its own connection, by core/window.h. Contracts in client_private.h.
 *
 * Who waits is written as soon as another's reply begins, in the order in which they came. One that has a
 * seat reads: nothing of an earlier reply is left to be taken by it, nor is anything held (strict). */
#include "proxy/client_private.h"

/* It has its seat now, or needs none. */
static bool client_is_seated(struct client *c)
{
    bool needs = c->seat.takes == 0 && !c->at_replica && session_asks_anew(&c->session);

    return !needs || window_enter(&c->instance->window, &c->seat, session_expects(&c->session));
}

bool client_may_ask(struct client *c)
{
    if (client_is_seated(c)) {
        list_remove(&c->in_queue);
        return true;
    }
    if (list_empty(&c->in_queue))
        list_push_back(&c->instance->window_queue, &c->in_queue);
    return false;
}

/* There is room: those that wait have it, the oldest first. */
static void client_window_turn(struct instance *i)
{
    while (!list_empty(&i->window_queue)) {
        struct client *c = list_entry(i->window_queue.next, struct client, in_queue);
        if (!client_is_seated(c))
            return;
        list_remove(&c->in_queue);
        client_touch(c); /* not written yet: all of them may just be taken from a master that is left */
    }
}

void client_window_reply(struct client *c, uint64_t n)
{
    if (window_reply(&c->instance->window, &c->seat, n))
        client_window_turn(c->instance);
}

void client_window_leave(struct client *c)
{
    list_remove(&c->in_queue);
    if (window_leave(&c->instance->window, &c->seat))
        client_window_turn(c->instance);
}
