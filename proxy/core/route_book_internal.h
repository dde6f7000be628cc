/* What the route book's own files share; nobody else includes this. */
#ifndef MR_PROXY_CORE_ROUTE_BOOK_INTERNAL_H
#define MR_PROXY_CORE_ROUTE_BOOK_INTERNAL_H

#include "proxy/core/route_book.h"

/* Another action of this step; never NULL. */
struct route_action *book_act(struct route_book *b, enum route_action_type type, enum route_row row);
/* The entry's route to the workers: settles a doubt about it, and ends its pause. */
void book_apply(struct route_book *b, struct route_entry *e, enum route_row row, bool changed);
/* first_us doubled `tries` times, at most max_us. */
int64_t book_back_off(int64_t first_us, int64_t max_us, uint32_t tries);

/* What the workers tell. */
void book_on_broken(struct route_book *b, const struct route_event *ev);
void book_on_silent(struct route_book *b, const struct route_event *ev);
void book_on_switched(struct route_book *b, const struct route_event *ev);
/* The leader says again what is known: of a strict route it wants to hear again who follows. */
void book_on_told_again(struct route_book *b, struct route_entry *e);
void book_on_held(struct route_book *b, const struct route_event *ev);
/* Hints and confirmations whose time has come. */
void book_settle_doubts(struct route_book *b, int64_t now_us);

#endif
