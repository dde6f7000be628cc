#include "proxy/core/request.h"

#include "proxy/core/command.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { REQUEST_SPLIT_MAX = 16 };

struct request_word {
    const char *word; /* upper case */
    uint8_t kind;
};

/* Sorted: bsearch. */
static const struct request_word request_words[] = {
    {"AUTH", REQUEST_AUTH},
    {"DISCARD", REQUEST_DISCARD},
    {"EVAL", REQUEST_EVAL},
    {"EVALSHA", REQUEST_EVALSHA},
    {"EVALSHA_RO", REQUEST_EVALSHA},
    {"EVAL_RO", REQUEST_EVAL},
    {"EXEC", REQUEST_EXEC},
    {"HELLO", REQUEST_HELLO},
    {"HOST:", REQUEST_HTTP},
    {"MONITOR", REQUEST_MONITOR},
    {"MULTI", REQUEST_MULTI},
    {"POST", REQUEST_HTTP},
    {"PSUBSCRIBE", REQUEST_PSUBSCRIBE},
    {"PSYNC", REQUEST_REPLICATION},
    {"PUNSUBSCRIBE", REQUEST_PUNSUBSCRIBE},
    {"QUIT", REQUEST_QUIT},
    {"READONLY", REQUEST_READONLY},
    {"READWRITE", REQUEST_READWRITE},
    {"REPLCONF", REQUEST_REPLICATION},
    {"RESET", REQUEST_RESET},
    {"SELECT", REQUEST_SELECT},
    {"SHUTDOWN", REQUEST_KILL},
    {"SSUBSCRIBE", REQUEST_SSUBSCRIBE},
    {"SUBSCRIBE", REQUEST_SUBSCRIBE},
    {"SUNSUBSCRIBE", REQUEST_SUNSUBSCRIBE},
    {"SYNC", REQUEST_REPLICATION},
    {"UNSUBSCRIBE", REQUEST_UNSUBSCRIBE},
    {"UNWATCH", REQUEST_UNWATCH},
    {"WAIT", REQUEST_WAIT},
    {"WAITAOF", REQUEST_WAITAOF},
    {"WATCH", REQUEST_WATCH},
};

static const struct request_word request_client_words[] = {
    {"NO-EVICT", REQUEST_NO_EVICT}, {"NO-TOUCH", REQUEST_NO_TOUCH}, {"REPLY", REQUEST_REPLY_ON},
    {"SETINFO", REQUEST_SETINFO},   {"SETNAME", REQUEST_SETNAME},   {"TRACKING", REQUEST_TRACKING},
};

static const struct request_word request_script_words[] = {
    {"FLUSH", REQUEST_SCRIPT_FLUSH},
    {"KILL", REQUEST_KILL},
    {"LOAD", REQUEST_SCRIPT_LOAD},
};

static const struct request_word request_function_words[] = {
    {"KILL", REQUEST_KILL},
    {"STATS", REQUEST_KILL},
};

static int request_word_compare(const void *key, const void *row)
{
    return strcmp(key, ((const struct request_word *)row)->word);
}

#define REQUEST_FIND(word, table) request_find((word), (table), sizeof(table) / sizeof((table)[0]))

static uint8_t request_find(const char *word, const struct request_word *table, size_t n)
{
    const struct request_word *row = bsearch(word, table, n, sizeof(*table), request_word_compare);

    return row ? row->kind : REQUEST_PLAIN;
}

/* The words themselves are exact: a longer argument was cut, and a NUL in it would end strcmp early. */
static bool request_word_is_whole(const struct resp_request *r, int i)
{
    return r->word_len[i] <= RESP_WORD_MAX && strlen(r->word[i]) == r->word_len[i];
}

static bool request_arg_is(const struct resp_arg *a, const char *word)
{
    return a->len == strlen(word) && strncasecmp(a->data, word, a->len) == 0;
}

/* XREAD and XREADGROUP wait only when they say BLOCK. */
static bool request_says_block(const struct resp_arg *args, int n)
{
    for (int i = 1; i < n && !request_arg_is(&args[i], "STREAMS"); i++)
        if (request_arg_is(&args[i], "BLOCK"))
            return true;
    return false;
}

static uint8_t request_reply_kind(const struct resp_arg *args, int n)
{
    if (n == 3 && request_arg_is(&args[2], "OFF"))
        return REQUEST_REPLY_OFF;
    if (n == 3 && request_arg_is(&args[2], "SKIP"))
        return REQUEST_REPLY_SKIP;
    return n == 3 && request_arg_is(&args[2], "ON") ? REQUEST_REPLY_ON : REQUEST_PLAIN;
}

static uint8_t request_kind_of(const struct resp_request *r, const struct resp_arg *args, int n)
{
    if (!request_word_is_whole(r, 0))
        return REQUEST_PLAIN;
    bool sub = r->n_args > 1 && request_word_is_whole(r, 1);
    if (sub && strcmp(r->word[0], "CLIENT") == 0) {
        uint8_t kind = REQUEST_FIND(r->word[1], request_client_words);
        return kind == REQUEST_REPLY_ON ? request_reply_kind(args, n) : kind;
    }
    if (sub && strcmp(r->word[0], "SCRIPT") == 0)
        return REQUEST_FIND(r->word[1], request_script_words);
    if (sub && strcmp(r->word[0], "FUNCTION") == 0)
        return REQUEST_FIND(r->word[1], request_function_words);
    uint8_t kind = REQUEST_FIND(r->word[0], request_words);
    return request_is_reads(kind) && r->n_args != 1 ? REQUEST_PLAIN
                                                    : kind; /* the server says what is wrong */
}

static bool request_is_repeatable(const struct command *c, uint8_t kind)
{
    bool own = kind == REQUEST_WATCH || kind == REQUEST_UNWATCH || kind == REQUEST_MONITOR ||
               kind == REQUEST_RESET || kind == REQUEST_SCRIPT_LOAD || kind == REQUEST_REPLY_ON ||
               request_is_session(kind) || request_is_subscribe(kind) || request_is_unsubscribe(kind);

    return own || (c && (c->flags & COMMAND_REPLAY));
}

static bool request_is_light(const struct command *c)
{
    return (c->flags & COMMAND_REPLAY) && !(c->flags & COMMAND_READONLY);
}

static uint32_t request_replies(const struct resp_request *r, uint8_t kind)
{
    if (request_is_subscribe(kind))
        return r->n_args > 1 ? r->n_args - 1 : 1; /* without a channel it's one error */
    if (request_is_unsubscribe(kind))
        return r->n_args - 1;
    return 1;
}

static bool request_may_share(const struct resp_request *r, const struct command *c)
{
    const unsigned never = COMMAND_OWN | COMMAND_SESSION | COMMAND_BLOCKING | COMMAND_ADMIN;

    if (!c || (c->flags & never) || c->n_subs > 0)
        return false;
    return !(r->word_len[0] == 6 &&
             (memcmp(r->word[0], "CLIENT", 6) == 0 || memcmp(r->word[0], "SCRIPT", 6) == 0));
}

bool request_share(const struct resp_request *r, struct request_class *out)
{
    assert(r && r->n_args > 0);
    const struct command *c =
        command_lookup(r->word[0], r->word_len[0], r->word[1], r->word_len[1], r->n_args);

    if (!request_may_share(r, c))
        return false;
    out->kind = memcmp(r->word[0], "EVAL", 4) == 0 ? REQUEST_FIND(r->word[0], request_words) : REQUEST_PLAIN;
    out->repeatable = c->flags & (COMMAND_READONLY | COMMAND_REPLAY);
    out->light = request_is_light(c);
    out->replica = c->flags & COMMAND_REPLICA;
    return true;
}

static void request_classify_by(const struct resp_request *r, const struct command *c,
                                const struct resp_arg *args, int n, struct request_class *out)
{
    /* With too many or too few arguments it is refused, and changes nothing. */
    bool refused = c && !command_arity_ok(c, r->n_args);
    out->kind = refused ? REQUEST_PLAIN : request_kind_of(r, args, n);
    out->replies = request_replies(r, out->kind);
    out->blocking = c && (c->flags & COMMAND_BLOCKING);
    bool read = c && (c->flags & COMMAND_READONLY);
    if (out->blocking && strncmp(r->word[0], "XREAD", 5) == 0)
        out->blocking = n == 0 || request_says_block(args, n);
    out->shareable = request_may_share(r, c);
    out->replica = c && (c->flags & COMMAND_REPLICA);
    out->repeatable = !out->blocking && (read || request_is_repeatable(c, out->kind));
    out->light = out->repeatable && c && request_is_light(c);
}

/* Apart from the rest, for the sake of its frame: the compiler would probe all of its pages for each request.
 */
static __attribute__((noinline)) void request_classify_split(const struct resp_request *r,
                                                             const struct command *c, const char *bytes,
                                                             size_t len, struct request_class *out)
{
    char scratch[RESP_INLINE_MAX + 2];
    struct resp_arg args[REQUEST_SPLIT_MAX];
    int n = 0;

    if (len <= sizeof(scratch))
        n = resp_request_split(bytes, len, scratch, args, REQUEST_SPLIT_MAX);
    n = n < 0 ? 0 : n < REQUEST_SPLIT_MAX ? n : REQUEST_SPLIT_MAX;
    request_classify_by(r, c, args, n, out);
}

void request_classify(const struct resp_request *r, const char *bytes, size_t len, struct request_class *out)
{
    assert(r && r->n_args > 0);
    const struct command *c =
        command_lookup(r->word[0], r->word_len[0], r->word[1], r->word_len[1], r->n_args);
    /* Arguments are only needed of the two commands whose meaning lies in one of them. */
    bool is_client = r->word_len[0] == 6 && memcmp(r->word[0], "CLIENT", 6) == 0;

    if (bytes && (is_client || (c && (c->flags & COMMAND_BLOCKING))))
        request_classify_split(r, c, bytes, len, out);
    else
        request_classify_by(r, c, NULL, 0, out);
}
