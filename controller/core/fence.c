#include "controller/core/fence.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void fence_begin(struct fence *f, const struct fence_order *order)
{
    assert(f && order && order->user[0] != '\0');
    memset(f, 0, sizeof(*f));
    f->order = *order;
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
static bool fence_is_of_an_epoch(const struct fence *f, const char *name, size_t len, uint64_t *epoch)
{
    size_t at = strlen(f->order.user);
    if (len < at + 3 || len > at + 20 || memcmp(name, f->order.user, at) != 0 ||
        memcmp(name + at, "-e", 2) != 0)
        return false;
    *epoch = 0;
    for (at += 2; at < len; at++) {
        if (name[at] < '0' || name[at] > '9')
            return false;
        *epoch = *epoch * 10 + (uint64_t)(name[at] - '0');
    }
    return true;
}

/* The rest of the line, less its on or off. False: it is too long. */
static bool fence_rules(const char *at, const char *end, char rules[FENCE_RULES_MAX], bool *on)
{
    const char *word;
    size_t len, used = 0;
    *on = false;
    while (fence_word(&at, end, &word, &len)) {
        if (fence_is(word, len, "on") || fence_is(word, len, "off")) {
            *on = len == 2;
            continue;
        }
        if (used + len + 2 > FENCE_RULES_MAX)
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
    uint64_t epoch;
    assert(f && line);
    if (!fence_word(&line, end, &word, &word_len) || !fence_is(word, word_len, "user") ||
        !fence_word(&line, end, &name, &name_len))
        return;
    if (fence_is(name, name_len, f->order.user)) {
        f->found = true;
        f->too_long = !fence_rules(line, end, f->rules, &f->open);
    } else if (fence_is(name, name_len, f->login)) {
        f->kept = fence_rules(line, end, f->kept_rules, &f->kept_on);
    } else if (fence_is_of_an_epoch(f, name, name_len, &epoch)) {
        f->newer |= epoch > f->order.epoch;
        f->more |= f->n_stale == FENCE_STALE_MAX;
        if (f->n_stale < FENCE_STALE_MAX)
            memcpy(f->stale[f->n_stale++], name, name_len); /* fence_begin() ended it with a NUL */
    }
}

void fence_take_role(struct fence *f, const char *info, size_t len)
{
    static const char word[] = "role:master";
    for (size_t at = 0; at + sizeof(word) - 1 <= len; at++)
        f->serves |= memcmp(info + at, word, sizeof(word) - 1) == 0;
}

int fence_end(struct fence *f, const char **why)
{
    if (f->serves && !f->order.keep) {
        *why = "it is a master again: another controller leads now";
        return ERR_DEPOSED;
    }
    if (f->newer) {
        *why = "it has the user of a newer epoch: its controller leads now (if not, ACL DELUSER that one)";
        return ERR_DEPOSED;
    }
    if (f->order.keep && !f->found) {
        *why = "it has no such ACL user as fence_user names";
        return ERR_NOT_FOUND;
    }
    if (f->order.keep && f->too_long) {
        *why = "the rules of fence_user are longer than 8 kB";
        return ERR_TOO_LARGE;
    }
    if (!f->order.keep && f->kept && f->kept_on) { /* that cuts who is logged in as it */
        f->more |= f->n_stale == FENCE_STALE_MAX;
        f->n_stale -= f->n_stale == FENCE_STALE_MAX;
        (void)snprintf(f->stale[f->n_stale++], TOPOLOGY_USER_MAX + 1, "%s", f->login);
    }
    return 0;
}

bool fence_must_make(const struct fence *f)
{
    if (!f->order.keep)
        return !f->kept || f->kept_on;
    return !f->kept || !f->kept_on || strcmp(f->kept_rules, f->rules) != 0;
}

int fence_make(struct fence *f, const char **out)
{
    static const char *const begin[] = {"ACL", "SETUSER", NULL, "reset", "on"};
    size_t n_begin = f->order.keep ? 5 : 4; /* a mark has nothing, and is off */
    int n = 0;
    assert(fence_must_make(f));
    for (size_t k = 0; k < n_begin; k++)
        out[n++] = begin[k] ? begin[k] : f->login;
    char *rest = NULL;
    for (char *word = f->order.keep ? strtok_r(f->rules, " ", &rest) : NULL; word;
         word = strtok_r(NULL, " ", &rest)) {
        if (n == FENCE_WORDS_MAX)
            return ERR_TOO_LARGE;
        out[n++] = word;
    }
    return n;
}

bool fence_must_cut_template(const struct fence *f)
{
    return !f->order.keep && f->found && !f->open;
}
