#include "tests/differential/speaker.h"

#include "tests/differential/phrase.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SPEAKER_NAMES = 4 /* channels, patterns, shard channels, each */ };

void speaker_init(struct speaker *s, unsigned id, struct dice *dice)
{
    *s = (struct speaker){.id = id, .dice = dice};
    speaker_reset(s);
}

void speaker_reset(struct speaker *s)
{
    s->resp = 2;
    s->multi = s->tracking = false;
    memset(s->subscribed, 0, sizeof(s->subscribed));
}

void speaker_begin(struct speaker *s, struct buf *out)
{
    s->out = out;
    s->replies = 0;
    s->ends = s->refused = false;
}

static bool speaker_listens(const struct speaker *s)
{
    return s->subscribed[0] || s->subscribed[1] || s->subscribed[2];
}

/* In RESP2 who is subscribed may say little else; the rest answers an error. */
static bool speaker_is_restricted(const struct speaker *s)
{
    return s->resp == 2 && speaker_listens(s);
}

bool speaker_is_free(const struct speaker *s)
{
    return !s->multi && !speaker_is_restricted(s);
}

bool speaker_may_block(const struct speaker *s)
{
    return speaker_is_free(s) && !s->tracking;
}

static void MR_PRINTF(3, 4) speaker_tell(struct speaker *s, unsigned replies, const char *fmt, ...)
{
    char words[PHRASE_MAX];
    va_list ap;

    va_start(ap, fmt);
    int len = vsnprintf(words, sizeof(words), fmt, ap);
    va_end(ap);
    assert(len > 0 && (size_t)len < sizeof(words));
    phrase_append(s->out, s->dice, s->id, words, dice_once_in(s->dice, 16));
    s->replies += replies;
    s->commands++;
}

static void speaker_tell_raw(struct speaker *s, unsigned replies, const char *bytes)
{
    int err = buf_append(s->out, bytes, strlen(bytes));

    assert(!err);
    s->replies += replies;
    s->commands++;
}

/* ---- what changes the connection --------------------------------------------------------------------------
 */

/* Each channel matches one pattern: of several, which is told first is a hash table's affair. */
static const char *const speaker_names[SPEAKER_SORTS][SPEAKER_NAMES] = {
    {"ch0", "ch1", "ch2", "ch3"}, {"ch[01]", "*2", "nobody*", "ch3*"}, {"sh0", "sh1", "sh2", "sh3"}};

static void speaker_subscribe(struct speaker *s)
{
    static const char *const words[] = {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"};
    unsigned sort = dice_below(s->dice, SPEAKER_SORTS);
    unsigned a = dice_below(s->dice, SPEAKER_NAMES), b = dice_below(s->dice, SPEAKER_NAMES);

    s->subscribed[sort] |= (uint8_t)(1U << a);
    if (dice_once_in(s->dice, 2)) {
        speaker_tell(s, 1, "%s %s", words[sort], speaker_names[sort][a]);
        return;
    }
    s->subscribed[sort] |= (uint8_t)(1U << b);
    speaker_tell(s, 2, "%s %s %s", words[sort], speaker_names[sort][a], speaker_names[sort][b]);
}

static void speaker_unsubscribe(struct speaker *s)
{
    static const char *const words[] = {"UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"};
    unsigned sort = dice_below(s->dice, SPEAKER_SORTS);
    unsigned a = dice_below(s->dice, SPEAKER_NAMES), b = dice_below(s->dice, SPEAKER_NAMES);
    uint8_t *set = &s->subscribed[sort];

    /* Of several they are confirmed in the order of a hash table. */
    if ((*set & (*set - 1)) == 0 && dice_once_in(s->dice, 2)) {
        *set = 0;
        speaker_tell(s, 1, "%s", words[sort]);
        return;
    }
    *set &= (uint8_t) ~((1U << a) | (1U << b));
    speaker_tell(s, 2, "%s %s %s", words[sort], speaker_names[sort][a], speaker_names[sort][b]);
}

static void speaker_hello(struct speaker *s)
{
    unsigned resp = dice_once_in(s->dice, 2) ? 2 : 3;

    /* Queued it would depend on the transaction's end which protocol is spoken. */
    if (s->multi || dice_once_in(s->dice, 8)) {
        speaker_tell(s, 1, "HELLO 4");
        return;
    }
    speaker_tell(s, 1, dice_once_in(s->dice, 3) ? "HELLO %u SETNAME name%%n" : "HELLO %u", resp);
    if (speaker_is_free(s))
        s->resp = resp;
}

static void speaker_multi(struct speaker *s)
{
    static const char *const ends[] = {"EXEC", "DISCARD", "EXEC", "EXEC"};

    if (s->multi && !dice_once_in(s->dice, 8)) {
        speaker_tell(s, 1, "%s", ends[dice_below(s->dice, 4)]);
        s->multi = false;
        return;
    }
    switch (dice_below(s->dice, 6)) {
    case 0: /* without MULTI it is an error, as WATCH and MULTI are inside of one */
        speaker_tell(s, 1, "EXEC");
        s->multi = false;
        break;
    case 1:
        speaker_tell(s, 1, "WATCH %%k %%k");
        break;
    default:
        speaker_tell(s, 1, "MULTI");
        s->refused = s->refused || speaker_is_restricted(s);
        s->multi = s->multi || speaker_is_free(s);
        break;
    }
}

static void speaker_reply(struct speaker *s)
{
    /* A proxy learns that MULTI was refused from its reply. CLIENT REPLY in the same pipeline is for Redis
     * alone. */
    if (s->multi || s->refused || speaker_listens(s)) {
        speaker_tell(s, 1, "PING %%v");
        return;
    }
    if (dice_once_in(s->dice, 2)) {
        speaker_tell(s, 0, "CLIENT REPLY SKIP");
        speaker_tell(s, 0, "SET %%k %%v");
    } else {
        speaker_tell(s, 0, "CLIENT REPLY OFF");
        for (unsigned i = dice_below(s->dice, 4); i > 0; i--)
            speaker_tell(s, 0, "%s", phrase_pick(s->dice));
        speaker_tell(s, 1, "CLIENT REPLY ON");
    }
}

void speaker_say_reset(struct speaker *s)
{
    speaker_tell(s, 1, "RESET");
    speaker_reset(s);
}

/* Only in RESP3 it is told on the same connection. */
static void speaker_track(struct speaker *s)
{
    static const char *const words[] = {"ON", "ON NOLOOP", "OFF", "OFF"};

    if (s->multi || s->resp == 2) {
        speaker_tell(s, 1, "CLIENT TRACKINGINFO");
        return;
    }
    speaker_tell(s, 1, "CLIENT TRACKING %s", words[dice_below(s->dice, 2) + (s->tracking ? 2 : 0)]);
    s->tracking = !s->tracking;
}

static void speaker_say_nothing(struct speaker *s)
{
    static const char *const texts[] = {"\r\n", "*0\r\n", "*-1\r\n", "\n"};

    speaker_tell_raw(s, 0, texts[dice_below(s->dice, 4)]);
}

static void speaker_say_state(struct speaker *s)
{
    switch (dice_below(s->dice, 13)) {
    case 0:
    case 1:
        if (!s->multi) {
            speaker_subscribe(s);
            return;
        }
        break;
    case 2:
    case 3:
    case 4:
        if (!s->multi) {
            speaker_unsubscribe(s);
            return;
        }
        break;
    case 5:
        speaker_hello(s);
        return;
    case 6:
        speaker_reply(s);
        return;
    case 7:
        if (dice_once_in(s->dice, 3)) {
            speaker_say_reset(s);
            return;
        }
        break;
    case 8:
        speaker_say_nothing(s);
        return;
    case 9:
        speaker_track(s);
        return;
    default:
        break;
    }
    speaker_multi(s);
}

/* ---- what it says -----------------------------------------------------------------------------------------
 */

void speaker_say(struct speaker *s, unsigned n)
{
    unsigned state_once_in = dice_once_in(s->dice, 3) ? 4 : 40;

    for (unsigned i = 0; i < n; i++) {
        if (dice_once_in(s->dice, state_once_in))
            speaker_say_state(s);
        else
            speaker_tell(s, 1, "%s", phrase_pick(s->dice));
    }
    /* What the last one changed is told before this is answered. */
    if (s->tracking)
        speaker_say_ping(s);
}

void speaker_say_last(struct speaker *s)
{
    static const char *const texts[] = {
        "*abc\r\n",
        "*1\r\n+x\r\n",
        "*1\r\n$-5\r\n",
        "*1\r\n$abc\r\n",
        "set \"unbalanced\r\n",
        "get 'x'y\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$600000000\r\n",
        "*1\r\n$4\r\nQUIT\r\n",
        "quit\r\n",
    };

    if (speaker_listens(s))
        speaker_say_reset(s);
    speaker_tell_raw(s, 1, texts[dice_below(s->dice, sizeof(texts) / sizeof(texts[0]))]);
    s->ends = true;
}

void speaker_say_ping(struct speaker *s)
{
    speaker_tell(s, 1, "PING the-end");
}

void speaker_publish(struct speaker *s, enum speaker_sort *sort, unsigned *channel)
{
    *sort = dice_once_in(s->dice, 3) ? SPEAKER_SHARDS : SPEAKER_CHANNELS;
    *channel = dice_below(s->dice, SPEAKER_NAMES);
    assert(speaker_is_free(s));
    speaker_tell(s, 1, "%s %s %%v", *sort == SPEAKER_SHARDS ? "SPUBLISH" : "PUBLISH",
                 speaker_names[*sort][*channel]);
}

unsigned speaker_hears(const struct speaker *s, enum speaker_sort sort, unsigned channel)
{
    static const unsigned matching[] = {0, 0, 1, 3};
    unsigned n = (s->subscribed[sort] >> channel) & 1U;

    return sort == SPEAKER_SHARDS ? n : n + ((s->subscribed[SPEAKER_PATTERNS] >> matching[channel]) & 1U);
}

/* ---- blocking ---------------------------------------------------------------------------------------------
 */

void speaker_prepare_block(struct speaker *s)
{
    speaker_tell(s, 1, "SELECT 0");
    speaker_tell(s, 1, "DEL c%u:blocked", s->id);
}

void speaker_block(struct speaker *s, unsigned how)
{
    static const char *const before[] = {
        "BLPOP", "BRPOP %k0", "BLMOVE", "BZPOPMIN", "XREAD BLOCK 0 STREAMS", "BRPOPLPUSH"};
    static const char *const after[] = {"0", "100", "%k0 LEFT RIGHT 0", "0", "0", "%k0 0"};

    assert(speaker_is_free(s));
    speaker_tell(s, 1, "DEL %%k0");
    speaker_tell(s, 1, "%s c%u:blocked %s", before[how % 6], s->id, after[how % 6]);
}

void speaker_release(struct speaker *s, unsigned blocked_id, unsigned how)
{
    static const char *const words[] = {"RPUSH", "LPUSH", "RPUSH", "ZADD", "XADD", "LPUSH"};
    static const char *const rest[] = {"%v", "%v", "%v", "%n %v", "5-1 %l %v", "%v"};

    assert(speaker_is_free(s));
    speaker_tell(s, 1, "SELECT 0");
    speaker_tell(s, 1, "%s c%u:blocked %s", words[how % 6], blocked_id, rest[how % 6]);
}
