/* What a member's ACL lacks and has too much for the fence of an epoch. Pure.
 *
 *   ACL LIST ─► fence_take(), a line each ─► ACL SETUSER app-e7 … (the template's rules) · ACL DELUSER app-e6
 *
 * Applications that connect to members directly log in as <template>-e<epoch>. The template is an ACL user of
 * the operator's: its rules and passwords are copied, it itself is never changed. Where nobody is to be let
 * in, the epoch's user is there as well, but off and without any right: a mark. So a member knows the newest
 * epoch that it was fenced for, and what a deposed controller still orders for an older one is refused. */
#ifndef MR_CONTROLLER_CORE_FENCE_H
#define MR_CONTROLLER_CORE_FENCE_H

#include "common/core/topology.h"

enum {
    FENCE_RULES_MAX = 8192, /* bytes of a user's rules, as ACL LIST tells them */
    FENCE_WORDS_MAX = 1024, /* and words of it */
    FENCE_STALE_MAX = 64,   /* users that are taken away at once; what is left, the next time */
};

struct fence_order {
    char user[TOPOLOGY_FENCE_USER_MAX + 1]; /* the template */
    uint64_t epoch;
    bool keep; /* the epoch's applications are let in, no others; false: nobody's, and who is logged in is cut
                */
};

struct fence {
    struct fence_order order;
    char login[TOPOLOGY_USER_MAX + 1]; /* the epoch's user */
    bool found, open;                  /* the template is there; and may log in itself */
    bool kept;                         /* the epoch's user is there, … */
    bool kept_on;                      /* … and switched on */
    bool serves;                       /* it is a master: fence_take_role() */
    bool newer;                        /* than the order is another epoch's user */
    bool too_long;                     /* the template's rules, for this program */
    char rules[FENCE_RULES_MAX];       /* the template's, without on and off */
    char kept_rules[FENCE_RULES_MAX];
    uint32_t n_stale; /* up to FENCE_STALE_MAX of them */
    char stale[FENCE_STALE_MAX][TOPOLOGY_USER_MAX + 1];
    bool more; /* there are others: ask again */
};

void fence_begin(struct fence *f, const struct fence_order *order);
/* INFO replication, asked together with the list. Whom nobody is to log in to was sealed before: one that is
 * a master has been promoted since, by whoever leads now. */
void fence_take_role(struct fence *f, const char *info, size_t len);
/* A line of ACL LIST: "user app on #5e88… ~* &* +@all". Anything else is passed over. */
void fence_take(struct fence *f, const char *line, size_t len);
/* All lines were taken. 0, or why it can't be done, and in words (static text): ERR_DEPOSED, ERR_NOT_FOUND
 * (no template), ERR_TOO_LARGE. */
int fence_end(struct fence *f, const char **why) MR_MUST_CHECK;
/* The epoch's user has to be made, or made anew, or (keep false) made a mark, after those that are stale are
 * gone: it itself may be among them. */
bool fence_must_make(const struct fence *f);
/* The arguments of the ACL SETUSER: returns how many of out[] (at most FENCE_WORDS_MAX), or ERR_TOO_LARGE.
 * They point into f, whose rules are cut into words. */
int fence_make(struct fence *f, const char **out);
/* Who is logged in as the template goes around the fence though nobody may any more: cut them, too. */
bool fence_must_cut_template(const struct fence *f);

#endif
