/* What a member's ACL lacks and has too much for the fence of an epoch, and in which steps that is changed.
 * Pure.
 *
 *   LOOK ──► CLIENT ID · ACL LIST ─► fence_take(), a line each
 *   MARK     ACL SETUSER mr-fence-<term>-<id> · ACL LIST                        unless it is there already
 *   CUT      CLIENT KILL ID … · ACL DELUSER mr-fence-… · ACL LIST               if there are older marks
 *   CHANGE   ACL DELUSER app-e6 … · ACL SETUSER app-e7 … · CLIENT KILL USER app if anything is to be changed
 *
 * Applications that connect to members directly log in as <template>-e<epoch>. The template is an ACL user of
 * the operator's: its rules and passwords are copied, it itself is never changed.
 *
 * An ACL knows no compare-and-set, and what a deposed leader has sent may arrive late. So whoever changes one
 * leaves a mark before: a user that is off, without any right, named after its term and its connection. Then
 * it looks (again). Who finds a newer mark changes nothing; who finds an older one cuts that connection, so
 * that nothing comes over it any more, and looks again. What it changes then follows from a list that nobody
 * older can change. The mark stays, for whoever was deposed and comes later. */
#ifndef MR_CONTROLLER_CORE_FENCE_H
#define MR_CONTROLLER_CORE_FENCE_H

#include "common/core/topology.h"

enum {
    FENCE_RULES_MAX = 8192, /* bytes of a user's rules, as ACL LIST tells them */
    FENCE_WORDS_MAX = 1024, /* and words of it */
    FENCE_STALE_MAX = 64,   /* users that are taken away at once; what is left, the next time */
    FENCE_MARKS_MAX = 16,   /* older marks, likewise */
};

struct fence_order {
    char user[TOPOLOGY_FENCE_USER_MAX + 1]; /* the template */
    uint64_t epoch, term;
    bool keep; /* the epoch's applications are let in, no others; false: nobody's, and who is logged in is cut
                */
};

/* What is sent together; the next round follows from its replies. */
enum fence_round { FENCE_LOOK, FENCE_MARK, FENCE_CUT, FENCE_CHANGE, FENCE_END };

/* What a command is answered with. */
enum fence_answer {
    FENCE_ANSWER_DONE, /* nothing that matters, unless it is an error */
    FENCE_ANSWER_ID,   /* CLIENT ID, an integer: fence_take_id() */
    FENCE_ANSWER_LIST, /* ACL LIST, an array: fence_take() of each line */
};

struct fence_command {
    enum fence_answer answer;
    int argc;
    const char *argv[FENCE_WORDS_MAX]; /* into the struct fence, until its next command */
};

struct fence {
    struct fence_order order;
    enum fence_round round;
    uint32_t at;                       /* of the round: its next command */
    int err;                           /* END: 0 or why it can't be done, … */
    const char *why;                   /* … in words (static text) */
    char login[TOPOLOGY_USER_MAX + 1]; /* the epoch's user */
    bool found, open;                  /* the template is there; and may log in itself */
    bool kept;                         /* the epoch's user is there, … */
    bool kept_on;                      /* … and switched on */
    bool too_long;                     /* the template's rules, for this program */
    char rules[FENCE_RULES_MAX];       /* the template's, without on and off */
    char kept_rules[FENCE_RULES_MAX];
    uint32_t n_stale; /* up to FENCE_STALE_MAX of them */
    char stale[FENCE_STALE_MAX][TOPOLOGY_USER_MAX + 1];
    bool more;                        /* there are others: ask again */
    bool makes;                       /* CHANGE: the epoch's user is made */
    char mark[TOPOLOGY_USER_MAX + 1]; /* ours, … */
    uint64_t connection;              /* … with this one's CLIENT ID */
    bool marked;                      /* it is there */
    bool newer;                       /* so is a newer one */
    uint32_t n_marks;                 /* older ones, up to FENCE_MARKS_MAX */
    struct fence_mark {
        char user[TOPOLOGY_USER_MAX + 1], connection[24];
    } marks[FENCE_MARKS_MAX];
};

/* The order's first round is to be sent. */
void fence_begin(struct fence *f, const struct fence_order *order);
/* The next command of the round; false: it was the last one, their answers are awaited. */
bool fence_command(struct fence *f, struct fence_command *out);
void fence_take_id(struct fence *f, uint64_t connection);
/* A line of ACL LIST: "user app on #5e88… ~* &* +@all". Anything else is passed over. */
void fence_take(struct fence *f, const char *line, size_t len);
/* All commands of the round were answered, with no error: true when another one is to be sent. Else it has
 * ended with f->err: 0, or ERR_DEPOSED (a newer mark), ERR_NOT_FOUND (no template), ERR_TOO_LARGE, and
 * f->why. */
bool fence_next(struct fence *f);

#endif
