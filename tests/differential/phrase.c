#include "tests/differential/phrase.h"

#include <assert.h>
#include <ctype.h>
#include <nettle/sha1.h>
#include <stdio.h>
#include <string.h>

enum { PHRASE_BIG_MAX = 1200 * 1024, PHRASE_KEYS = 10, PHRASE_SCRIPTS = 8 };

static bool phrase_has_replicas;

/* Sets hold integers only and hashes little, so that Redis keeps their order. */
static const char *const phrases[] = {
    "GET %k",
    "GET %k",
    "GET %k",
    "SET %k %v",
    "SET %k %v",
    "SET %k %v",
    "SET %k %b",
    "SET %k %v NX",
    "SET %k %v XX GET",
    "GETSET %k %v",
    "APPEND %k %v",
    "STRLEN %k",
    "GETRANGE %k %n %n",
    "SETRANGE %k %p %v",
    "INCR %k",
    "INCR %k",
    "DECRBY %k %n",
    "INCRBYFLOAT %k %f",
    "DEL %k",
    "DEL %k %k",
    "UNLINK %k",
    "EXISTS %k %k",
    "TYPE %k",
    "MGET %k %k %k",
    "MSET %k %v %k %v",
    "MSETNX %k %v %k %v",
    "EXPIREAT %k 4000000000",
    "EXPIRETIME %k",
    "PERSIST %k",
    "TTL nokey",
    "RENAME %k %k",
    "COPY %k %k REPLACE",
    "MOVE %k %d",
    "OBJECT ENCODING %k",
    "GETEX %k",
    "GETDEL %k",
    "TOUCH %k %k",
    "LCS %k %k",
    "SUBSTR %k 0 3",
    "LPUSH %k %v %v",
    "RPUSH %k %v",
    "RPUSH %k %b",
    "LPOP %k",
    "RPOP %k 2",
    "LRANGE %k 0 -1",
    "LRANGE %k %n %n",
    "LLEN %k",
    "LINDEX %k %n",
    "LREM %k 0 %v",
    "LMOVE %k %k LEFT RIGHT",
    "LPOS %k %v",
    "LINSERT %k BEFORE %v %v",
    "LTRIM %k 0 %n",
    "LMPOP 2 %k %k LEFT",
    "RPOPLPUSH %k %k",
    "LSET %k 0 %v",
    "HSET %k %l %v",
    "HSET %k %l %v %l %v",
    "HGET %k %l",
    "HGETALL %k",
    "HGETALL %k",
    "HDEL %k %l",
    "HINCRBY %k %l %n",
    "HMGET %k %l %l",
    "HLEN %k",
    "HKEYS %k",
    "HVALS %k",
    "HEXISTS %k %l",
    "HSTRLEN %k %l",
    "HSETNX %k %l %v",
    "SADD %k %n %n",
    "SADD %k %n",
    "SREM %k %n",
    "SISMEMBER %k %n",
    "SMISMEMBER %k %n %n",
    "SMEMBERS %k",
    "SCARD %k",
    "SINTER %k %k",
    "SUNIONSTORE %k %k %k",
    "SDIFF %k %k",
    "SMOVE %k %k %n",
    "ZADD %k %n %n",
    "ZADD %k %f %l",
    "ZADD %k XX GT CH %n %n",
    "ZRANGE %k 0 -1 WITHSCORES",
    "ZSCORE %k %l",
    "ZMSCORE %k %l %n",
    "ZRANK %k %n",
    "ZINCRBY %k %f %l",
    "ZPOPMIN %k",
    "ZPOPMAX %k 2",
    "ZCARD %k",
    "ZRANGEBYSCORE %k -inf +inf LIMIT 0 3",
    "ZREM %k %n",
    "ZCOUNT %k 0 %n",
    "ZUNIONSTORE %k 2 %k %k",
    "ZINTER 2 %k %k WITHSCORES",
    "ZRANGE %k 0 %n REV",
    "SETBIT %k %p 1",
    "GETBIT %k %p",
    "BITCOUNT %k",
    "BITPOS %k 1",
    "BITFIELD %k INCRBY u8 %p %n",
    "BITOP XOR %k %k %k",
    "PFADD %k %v %v",
    "PFCOUNT %k",
    "PFMERGE %k %k",
    "XADD %k %n-%n %l %v",
    "XADD %k %n-%n %l %v",
    "XLEN %k",
    "XRANGE %k - +",
    "XREVRANGE %k + - COUNT 2",
    "XREAD COUNT 2 STREAMS %k 0",
    "XREAD STREAMS %k %k 0 0",
    "XTRIM %k MAXLEN 3",
    "XDEL %k %n-%n",
    "XGROUP CREATE %k group 0 MKSTREAM",
    "XREADGROUP GROUP group me COUNT 2 STREAMS %k >",
    "XACK %k group %n-%n",
    "XPENDING %k group",
    "GEOADD %k %f %f %l",
    "GEOPOS %k %l",
    "GEODIST %k %l %l",
    "SORT %k",
    "SORT %k ALPHA LIMIT 0 5",
    "SORT %k BY nosort GET # STORE %k",
    "EVAL %s 1 %k %v",
    "EVAL %s 1 %k %v",
    "EVALSHA %h 1 %k %v",
    "SCRIPT LOAD %s",
    "EVAL_RO %s 1 %k %v",
    "EVALSHA 0000000000000000000000000000000000000000 0",
    "SCRIPT EXISTS 00",
    "FCALL nofunction 0",
    "ECHO %v",
    "ECHO %b",
    "PING",
    "PING %v",
    "SELECT %d",
    "SELECT %d",
    "SELECT 99",
    "CLIENT SETNAME name%n",
    "CLIENT GETNAME",
    "CLIENT NO-EVICT OFF",
    "CLIENT UNBLOCK 999999999",
    "CLIENT KILL ID 999999999",
    "CLIENT TRACKINGINFO",
    "CLIENT CACHING YES",
    "CONFIG GET maxmemory-policy",
    "COMMAND COUNT",
    "COMMAND GETKEYS MSET a 1 b 2",
    "ACL WHOAMI",
    "WAIT %r 10",
    "PUBLISH nowhere %v",
    "PUBSUB CHANNELS nothing*",
    "PUBSUB NUMSUB nowhere",
    "UNWATCH",
    "CLUSTER INFO",
    "AUTH wrong password",
    "AUTH x",
    "TIME x",
    "OBJECT HELP",
    "BLPOP nokey 0.001",
    "BLPOP %k %k 0.001",
    "XREAD BLOCK 1 STREAMS nokey 0",
    "FOO %k",
    "FOO",
    "GET",
    "GET %k %k",
    "SET %k",
    "SET %k %v FOO",
    "HSET %k %l",
    "EXPIRE %k abc",
    "LPUSH %k",
    "CLIENT FOO",
    "CLIENT",
    "CONFIG FOO",
    "INCRBY %k abc",
    "SUBSCRIBE",
    "MULTI now",
    "EVAL",
    "SELECT abc",
};

static const char *const scripts[PHRASE_SCRIPTS] = {
    "return redis.call('incr', KEYS[1])",
    "return {1, 2, {3, ARGV[1]}, redis.status_reply('fine'), false, 3.9}",
    "return redis.error_reply('OOPS I did it')",
    "return redis.call('get', KEYS[1])",
    "redis.setresp(3); return redis.call('hgetall', KEYS[1])",
    "return {double=3.25}",
    "redis.setresp(3); return {map={a=redis.call('exists', KEYS[1])}}",
    "return redis.pcall('lpush', KEYS[1], ARGV[1], string.rep(ARGV[1], 50))",
};

const char *phrase_pick(struct dice *dice)
{
    return phrases[dice_below(dice, sizeof(phrases) / sizeof(phrases[0]))];
}

/* ---- arguments --------------------------------------------------------------------------------------------
 */

static size_t phrase_value(struct dice *dice, char *to)
{
    size_t n = dice_below(dice, 40);

    switch (dice_below(dice, 4)) {
    case 0:
        return (size_t)sprintf(to, "%d", (int)dice_below(dice, 2000) - 1000);
    case 1:
        for (size_t i = 0; i < n; i++)
            to[i] = (char)dice_next(dice);
        return n;
    case 2: /* what a protocol consists of */
        for (size_t i = 0; i < n; i++)
            to[i] = "\r\n*$+-:1"[dice_below(dice, 8)];
        return n;
    default:
        for (size_t i = 0; i < n; i++)
            to[i] = (char)('a' + dice_below(dice, 26));
        return n;
    }
}

/* Around the sizes at which something changes, mostly. */
static size_t phrase_big(struct dice *dice, char *to)
{
    static const unsigned sizes[] = {200, 4 * 1024, 16 * 1024, 16 * 1024, 32 * 1024, 64 * 1024, 64 * 1024};
    size_t n = sizes[dice_below(dice, 7)] + dice_below(dice, 120) - 80;

    if (dice_once_in(dice, 40))
        n = dice_below(dice, PHRASE_BIG_MAX - 1);
    uint64_t x = dice_next(dice);
    for (size_t i = 0; i < n; i++)
        to[i] = (char)(x >> (i % 57));
    return n;
}

static size_t phrase_script(struct dice *dice, unsigned id, char *to, bool hash)
{
    unsigned char digest[SHA1_DIGEST_SIZE];
    struct sha1_ctx sha;
    size_t len = (size_t)sprintf(to, "%s -- %u", scripts[dice_below(dice, PHRASE_SCRIPTS)], id);

    if (!hash)
        return len;
    sha1_init(&sha);
    sha1_update(&sha, len, (const uint8_t *)to);
    sha1_digest(&sha, sizeof(digest), digest);
    for (int i = 0; i < SHA1_DIGEST_SIZE; i++)
        (void)sprintf(to + 2 * (size_t)i, "%02x", digest[i]);
    return 2 * SHA1_DIGEST_SIZE;
}

/* The placeholder `%c`; returns the length of what it stands for. */
static size_t phrase_fill(struct dice *dice, unsigned id, char c, char *to)
{
    switch (c) {
    case 'k':
        return (size_t)sprintf(to, "c%u:k%u", id, dice_below(dice, PHRASE_KEYS));
    case 'v':
        return phrase_value(dice, to);
    case 'b':
        return phrase_big(dice, to);
    case 'n':
        return (size_t)sprintf(to, "%u", dice_below(dice, 200));
    case 'f':
        return (size_t)sprintf(to, "%u.%u", dice_below(dice, 80), dice_below(dice, 8) * 125);
    case 'p':
        return (size_t)sprintf(to, "%u", dice_below(dice, dice_once_in(dice, 50) ? 30000 : 100));
    case 'd':
        return (size_t)sprintf(to, "%u", dice_below(dice, 3));
    case 'r':
        return (size_t)sprintf(to, "%s", phrase_has_replicas ? "x" : "0");
    case 'l':
        return (size_t)sprintf(to, "f%u", dice_below(dice, 20));
    default:
        assert(c == 's' || c == 'h');
        return phrase_script(dice, id, to, c == 'h');
    }
}

void phrase_expect_replicas(void)
{
    phrase_has_replicas = true;
}

/* One word of the phrase, its placeholders filled. */
static size_t phrase_word(struct dice *dice, unsigned id, const char *word, size_t len, char *to)
{
    size_t n = 0;

    if (len == 3 && memcmp(word, "%k0", 3) == 0)
        return (size_t)sprintf(to, "c%u:k0", id);
    for (size_t i = 0; i < len; i++) {
        if (word[i] == '%')
            n += phrase_fill(dice, id, word[++i], to + n);
        else
            to[n++] = word[i];
    }
    return n;
}

/* ---- bytes ------------------------------------------------------------------------------------------------
 */

static void phrase_put(struct buf *out, const char *data, size_t len)
{
    int err = buf_append(out, data, len);

    assert(!err);
}

static void phrase_put_quoted(struct buf *out, const char *data, size_t len)
{
    char text[8];

    phrase_put(out, "\"", 1);
    for (size_t i = 0; i < len; i++)
        phrase_put(out, text, (size_t)sprintf(text, "\\x%02x", (unsigned char)data[i]));
    phrase_put(out, "\"", 1);
}

static void phrase_put_inline(struct buf *out, struct dice *dice, const char *data, size_t len)
{
    bool simple = len > 0;

    for (size_t i = 0; i < len; i++)
        simple = simple && (isalnum((unsigned char)data[i]) || memchr(":-+.*[]_", data[i], 8) != NULL);
    if (simple && (*data != '*' || buf_len(out) > 0))
        phrase_put(out, data, len);
    else
        phrase_put_quoted(out, data, len);
    phrase_put(out, "   ", 1 + dice_below(dice, 3));
}

/* Redis doesn't care about the case of a command. */
static void phrase_vary_case(struct dice *dice, char *word, size_t len)
{
    if (!dice_once_in(dice, 4))
        return;
    for (size_t i = 0; i < len; i++)
        if (dice_once_in(dice, 2))
            word[i] = (char)tolower((unsigned char)word[i]);
}

void phrase_append(struct buf *out, struct dice *dice, unsigned id, const char *words, bool is_inline)
{
    static char arg[PHRASE_BIG_MAX + 64];
    char text[32];
    unsigned n = 1;

    for (const char *p = words; *p; p++)
        n += *p == ' ';
    is_inline = is_inline && !strstr(words, "%b");
    if (!is_inline)
        phrase_put(out, text, (size_t)sprintf(text, "*%u\r\n", n));
    for (const char *word = words; n > 0; n--) {
        size_t len = strcspn(word, " ");
        size_t arg_len = phrase_word(dice, id, word, len, arg);
        if (word == words)
            phrase_vary_case(dice, arg, arg_len);
        if (is_inline) {
            phrase_put_inline(out, dice, arg, arg_len);
        } else {
            phrase_put(out, text, (size_t)sprintf(text, "$%zu\r\n", arg_len));
            phrase_put(out, arg, arg_len);
            phrase_put(out, "\r\n", 2);
        }
        word += len + 1;
    }
    if (is_inline && dice_once_in(dice, 3))
        phrase_put(out, "\n", 1);
    else if (is_inline)
        phrase_put(out, "\r\n", 2);
}
