#include "controller/core/fence.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FENCE_BEFORE_RULES = 5 }; /* ACL SETUSER app-e7 reset on */

static const char fence_mark[] = "mr-fence-";

void fence_begin(struct fence *f, const struct fence_order *order)
{
    assert(f && order && order->user[0] != '\0');
    memset(f, 0, sizeof(*f));
    f->order = *order;
    f->why = "";
    (void)snprintf(f->login, sizeof(f->login), "%s-e%" PRIu64, order->user, order->epoch);
}

/* Takes the next word off *line; false: there is none. */
static bool fence_word(const char **line, const char *end, const char **word, size_t *len)
{
    while (*line < end && **line == ' ')
        (*line)++;
    *word = *line;
    while (*line < end && **line != ' ')
        (*line)++;
    *len = (size_t)(*line - *word);
    return *len > 0;
}

static bool fence_is(const char *word, size_t len, const char *text)
{
    return len == strlen(text) && memcmp(word, text, len) == 0;
}

/* <template>-e<number>: only the controllers make such users. */
static bool fence_is_of_an_epoch(const struct fence *f, const char *name, size_t len)
{
    size_t at = strlen(f->order.user);
    if (len < at + 3 || len > at + 22 || memcmp(name, f->order.user, at) != 0 ||
        memcmp(name + at, "-e", 2) != 0)
        return false;
    for (at += 2; at < len; at++)
        if (name[at] < '0' || name[at] > '9')
            return false;
    return true;
}

/* Takes a number off *at; false: there is none, or it is too large. */
static bool fence_number(const char **at, const char *end, uint64_t *out)
{
    const char *from = *at;
    *out = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        if (__builtin_mul_overflow(*out, UINT64_C(10), out) ||
            __builtin_add_overflow(*out, (uint64_t)(**at - '0'), out))
            return false;
    return *at > from;
}

/* mr-fence-<term>-<connection>: a leader's mark. Those of the same term are of one controller, whose newest
 * connection has the largest number. */
static bool fence_take_mark(struct fence *f, const char *name, size_t len)
{
    const char *at = name + sizeof(fence_mark) - 1, *end = name + len;
    uint64_t term, connection;
    if (len < sizeof(fence_mark) || len > TOPOLOGY_USER_MAX ||
        memcmp(name, fence_mark, sizeof(fence_mark) - 1) != 0 || !fence_number(&at, end, &term) ||
        at == end || *at++ != '-')
        return false;
    if (!fence_number(&at, end, &connection) || at != end)
        return false;
    if (term == f->order.term && connection == f->connection) {
        f->marked = true;
    } else if (term > f->order.term || (term == f->order.term && connection > f->connection)) {
        f->newer = true;
    } else if (f->n_marks < FENCE_MARKS_MAX) { /* of further ones the next list tells */
        struct fence_mark *m = &f->marks[f->n_marks++];
        (void)snprintf(m->user, sizeof(m->user), "%.*s", (int)len, name);
        (void)snprintf(m->connection, sizeof(m->connection), "%" PRIu64, connection);
    }
    return true;
}

/* The rest of the line, less its on or off. False: it is too long. */
static bool fence_rules(const char *at, const char *end, char rules[FENCE_RULES_MAX], bool *on)
{
    const char *word;
    size_t len, used = 0;
    uint32_t n = 0;
    *on = false;
    while (fence_word(&at, end, &word, &len)) {
        if (fence_is(word, len, "on") || fence_is(word, len, "off")) {
            *on = len == 2;
            continue;
        }
        if (used + len + 2 > FENCE_RULES_MAX || ++n > FENCE_WORDS_MAX - FENCE_BEFORE_RULES)
            return false;
        if (used > 0)
            rules[used++] = ' ';
        memcpy(rules + used, word, len);
        used += len;
    }
    rules[used] = '\0';
    return true;
}

void fence_take(struct fence *f, const char *line, size_t len)
{
    const char *end = line + len, *word, *name;
    size_t word_len, name_len;
    assert(f && line);
    if (!fence_word(&line, end, &word, &word_len) || !fence_is(word, word_len, "user") ||
        !fence_word(&line, end, &name, &name_len))
        return;
    if (fence_is(name, name_len, f->order.user)) {
        f->found = true;
        f->too_long = !fence_rules(line, end, f->rules, &f->open);
    } else if (fence_is(name, name_len, f->login)) {
        f->kept = fence_rules(line, end, f->kept_rules, &f->kept_on);
    } else if (!fence_take_mark(f, name, name_len) && fence_is_of_an_epoch(f, name, name_len)) {
        f->more |= f->n_stale == FENCE_STALE_MAX;
        if (f->n_stale < FENCE_STALE_MAX)
            (void)snprintf(f->stale[f->n_stale++], TOPOLOGY_USER_MAX + 1, "%.*s", (int)name_len, name);
    }
}

void fence_take_id(struct fence *f, uint64_t connection)
{
    assert(f);
    f->connection = connection;
    (void)snprintf(f->mark, sizeof(f->mark), "%s%" PRIu64 "-%" PRIu64, fence_mark, f->order.term, connection);
}

/* ---- what follows from the list -------------------------------------------------------------------------
 */

/* It is marked, and no other mark is there. */
static int fence_judge(struct fence *f)
{
    if (f->order.keep && !f->found) {
        f->why = "it has no such ACL user as fence_user names";
        return ERR_NOT_FOUND;
    }
    if (f->order.keep && f->too_long) {
        f->why = "the rules of fence_user are longer than 8 kB, or of more than 1000 words";
        return ERR_TOO_LARGE;
    }
    if (!f->order.keep && f->kept) { /* that cuts who is logged in as it */
        f->more |= f->n_stale == FENCE_STALE_MAX;
        f->n_stale -= f->n_stale == FENCE_STALE_MAX;
        (void)snprintf(f->stale[f->n_stale++], TOPOLOGY_USER_MAX + 1, "%s", f->login);
    }
    return 0;
}

/* The epoch's user has to be made, or made anew. */
static bool fence_must_make(const struct fence *f)
{
    return f->order.keep && (!f->kept || !f->kept_on || strcmp(f->kept_rules, f->rules) != 0);
}

/* Who is logged in as the template goes around the fence though nobody may any more: cut them, too. */
static bool fence_must_cut_template(const struct fence *f)
{
    return !f->order.keep && f->found && !f->open;
}

/* ---- commands -------------------------------------------------------------------------------------------
 */

static void fence_say(struct fence_command *out, const char *word)
{
    assert(out->argc < FENCE_WORDS_MAX);
    out->argv[out->argc++] = word;
}

static void fence_say_begin(struct fence_command *out, const char *verb, const char *noun)
{
    out->argc = 0;
    out->answer = FENCE_ANSWER_DONE;
    fence_say(out, verb);
    fence_say(out, noun);
}

static void fence_list(struct fence *f, struct fence_command *out)
{
    fence_say_begin(out, "ACL", "LIST");
    out->answer = FENCE_ANSWER_LIST;
    f->found = f->open = f->kept = f->kept_on = f->too_long = f->more = false;
    f->marked = f->newer = false;
    f->n_stale = f->n_marks = 0;
}

static void fence_make(struct fence *f, struct fence_command *out)
{
    fence_say_begin(out, "ACL", "SETUSER");
    fence_say(out, f->login);
    fence_say(out, "reset");
    fence_say(out, "on");
    char *rest = NULL;
    for (char *word = strtok_r(f->rules, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        fence_say(out, word);
}

static void fence_look(struct fence *f, uint32_t at, struct fence_command *out)
{
    if (at > 0) {
        fence_list(f, out);
        return;
    }
    fence_say_begin(out, "CLIENT", "ID");
    out->answer = FENCE_ANSWER_ID;
}

static void fence_leave_mark(struct fence *f, uint32_t at, struct fence_command *out)
{
    if (at > 0) {
        fence_list(f, out);
        return;
    }
    fence_say_begin(out, "ACL", "SETUSER");
    fence_say(out, f->mark);
    fence_say(out, "reset"); /* off, with nothing */
}

/* In this order: an older mark tells whom to cut until that is done. */
static void fence_cut(struct fence *f, uint32_t at, struct fence_command *out)
{
    if (at < f->n_marks) {
        fence_say_begin(out, "CLIENT", "KILL");
        fence_say(out, "ID");
        fence_say(out, f->marks[at].connection);
    } else if (at == f->n_marks) {
        fence_say_begin(out, "ACL", "DELUSER");
        for (uint32_t k = 0; k < f->n_marks; k++)
            fence_say(out, f->marks[k].user);
    } else {
        f->at = UINT32_MAX; /* the last one: its list begins anew, of marks, too */
        fence_list(f, out);
    }
}

/* False: nothing to do at this place. */
static bool fence_change(struct fence *f, uint32_t at, struct fence_command *out)
{
    if (at == 0 && f->n_stale > 0) {
        fence_say_begin(out, "ACL", "DELUSER");
        for (uint32_t k = 0; k < f->n_stale; k++)
            fence_say(out, f->stale[k]);
        return true;
    }
    if (at == 1 && f->makes) {
        fence_make(f, out);
        return true;
    }
    if (at == 2 && fence_must_cut_template(f)) {
        fence_say_begin(out, "CLIENT", "KILL");
        fence_say(out, "USER");
        fence_say(out, f->order.user);
        return true;
    }
    return false;
}

bool fence_command(struct fence *f, struct fence_command *out)
{
    assert(f && out);
    switch (f->round) {
    case FENCE_LOOK:
    case FENCE_MARK:
        if (f->at >= 2)
            return false;
        (f->round == FENCE_LOOK ? fence_look : fence_leave_mark)(f, f->at++, out);
        return true;
    case FENCE_CUT:
        if (f->at == UINT32_MAX)
            return false;
        fence_cut(f, f->at, out);
        f->at += f->at != UINT32_MAX;
        return true;
    case FENCE_CHANGE:
        while (f->at < 3)
            if (fence_change(f, f->at++, out))
                return true;
        return false;
    case FENCE_END:
        break;
    }
    return false;
}

static bool fence_enter(struct fence *f, enum fence_round round)
{
    f->round = round;
    f->at = 0;
    return round != FENCE_END;
}

bool fence_next(struct fence *f)
{
    assert(f && f->round != FENCE_END);
    if (f->round == FENCE_CHANGE)
        return fence_enter(f, f->more ? FENCE_LOOK : FENCE_END);
    /* Ours is gone again: somebody took it away who has left a newer one, or an operator did. */
    if (f->newer || (f->round != FENCE_LOOK && !f->marked)) {
        f->why = "it has the mark of a newer leader (if that isn't so, ACL DELUSER mr-fence-…)";
        f->err = ERR_DEPOSED;
        return fence_enter(f, FENCE_END);
    }
    if (!f->marked)
        return fence_enter(f, FENCE_MARK);
    if (f->n_marks > 0)
        return fence_enter(f, FENCE_CUT);
    f->err = fence_judge(f);
    f->makes = f->err == 0 && fence_must_make(f);
    bool changes = f->n_stale > 0 || f->makes || fence_must_cut_template(f);
    return fence_enter(f, f->err == 0 && changes ? FENCE_CHANGE : FENCE_END);
}
