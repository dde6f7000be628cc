/* The same random command streams direct and through a proxy: the replies must be the same, byte for byte.
 *
 * Everything that is said follows from the seed; only how the bytes happen to meet on their way does not. */
#include "tests/differential/pair.h"
#include "tests/differential/phrase.h"

#include <assert.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CLIENTS = 10, STEPS = 60, TINY_MAX = 2048 };

struct run {
    uint16_t ports[PAIR_SIDES];
    uint64_t seed;
    int limit_ms;
    struct dice dice;
    struct pair pairs[CLIENTS];
    uint64_t commands, replies, bytes, rounds;
};

static void run_settle(struct run *r)
{
    const char *why = NULL;
    const struct pair *bad = pair_run(r->pairs, CLIENTS, r->limit_ms, &why);

    if (bad) {
        printf("seed %llu, round %llu: %s\n", (unsigned long long)r->seed, (unsigned long long)r->rounds,
               why);
        pair_print(bad);
        exit(1);
    }
    for (int i = 0; i < CLIENTS; i++) {
        struct pair *p = &r->pairs[i];
        r->replies += p->expected;
        r->bytes += buf_len(&p->request) + buf_len(&p->sides[PAIR_DIRECT].in);
        if (p->speaker.ends) {
            pair_close(p);
            pair_connect(p, r->ports);
        }
        p->speaker.ends = false;
    }
}

static void run_begin(struct run *r)
{
    for (int i = 0; i < CLIENTS; i++)
        pair_begin(&r->pairs[i]);
}

/* What is said now is also all that this client expects. */
static void run_said(struct run *r, struct pair *p)
{
    p->expected += p->speaker.replies;
    r->commands += p->speaker.commands;
    p->speaker.commands = 0;
    if (dice_once_in(&r->dice, 3))
        p->piece = buf_len(&p->request) <= TINY_MAX ? 1 + dice_below(&r->dice, 8) : 2048;
}

/* Many at once, each about its own data. */
static void step_talk(struct run *r)
{
    run_begin(r);
    unsigned busy = 1 + dice_below(&r->dice, 4);
    for (int i = 0; i < CLIENTS; i++) {
        struct pair *p = &r->pairs[i];
        if (!dice_once_in(&r->dice, busy))
            continue;
        unsigned n = dice_once_in(&r->dice, 12) ? 400 : dice_once_in(&r->dice, 2) ? 1 : 20;
        speaker_say(&p->speaker, 1 + dice_below(&r->dice, n));
        if (dice_once_in(&r->dice, 60))
            speaker_say_last(&p->speaker);
        run_said(r, p);
    }
    run_settle(r);
}

static struct pair *run_pick(struct run *r, const struct pair *but, bool (*suits)(const struct speaker *s))
{
    for (int tries = 0; tries < 4 * CLIENTS; tries++) {
        struct pair *p = &r->pairs[dice_below(&r->dice, CLIENTS)];
        if (p != but && suits(&p->speaker))
            return p;
    }
    return NULL;
}

static void step_publish(struct run *r)
{
    struct pair *p = run_pick(r, NULL, speaker_is_free);
    enum speaker_sort sort;
    unsigned channel;

    if (!p)
        return;
    run_begin(r);
    for (unsigned n = 1 + dice_below(&r->dice, 30); n > 0; n--) {
        speaker_publish(&p->speaker, &sort, &channel);
        for (int i = 0; i < CLIENTS; i++)
            r->pairs[i].expected += speaker_hears(&r->pairs[i].speaker, sort, channel);
    }
    run_said(r, p);
    run_settle(r);
}

static void step_block(struct run *r)
{
    struct pair *blocked = run_pick(r, NULL, speaker_may_block),
                *other = run_pick(r, blocked, speaker_may_block);
    unsigned how = dice_below(&r->dice, 60);

    if (!blocked || !other)
        return;
    run_begin(r);
    speaker_prepare_block(&blocked->speaker);
    run_said(r, blocked);
    run_settle(r);
    run_begin(r);
    speaker_block(&blocked->speaker, how);
    speaker_release(&other->speaker, blocked->speaker.id, how);
    if (speaker_is_free(&other->speaker))
        speaker_say(&other->speaker, dice_below(&r->dice, 4));
    speaker_say(&blocked->speaker, dice_below(&r->dice, 6));
    run_said(r, blocked);
    run_said(r, other);
    run_settle(r);
}

/* All say the same. */
static void step_all(struct run *r, void (*say)(struct speaker *s))
{
    run_begin(r);
    for (int i = 0; i < CLIENTS; i++) {
        say(&r->pairs[i].speaker);
        run_said(r, &r->pairs[i]);
    }
    run_settle(r);
}

static void run_flush(struct run *r)
{
    static const char text[] = "*1\r\n$8\r\nFLUSHALL\r\n";
    struct pair *p = &r->pairs[0];

    run_begin(r);
    int err = buf_append(&p->request, text, sizeof(text) - 1);
    assert(!err);
    p->expected = 1;
    run_settle(r);
}

static void run_round(struct run *r)
{
    for (int i = 0; i < CLIENTS; i++) {
        r->pairs[i] = (struct pair){.dice = &r->dice};
        speaker_init(&r->pairs[i].speaker, (unsigned)i, &r->dice);
        pair_connect(&r->pairs[i], r->ports);
    }
    run_flush(r);
    for (int i = 0; i < STEPS; i++) {
        unsigned what = dice_below(&r->dice, 10);
        if (what < 7)
            step_talk(r);
        else if (what < 9)
            step_publish(r);
        else
            step_block(r);
    }
    /* Nothing may have come that nobody expected. */
    step_all(r, speaker_say_ping);
    step_all(r, speaker_say_reset);
    for (int i = 0; i < CLIENTS; i++)
        pair_close(&r->pairs[i]);
    r->rounds++;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"direct", required_argument, NULL, 'd'},
                                            {"proxied", required_argument, NULL, 'p'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"seconds", required_argument, NULL, 't'},
                                            {"limit-s", required_argument, NULL, 'l'},
                                            {"replicas", no_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    static struct run r = {.limit_ms = 30000};
    long seconds = 5;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (c == 'd' || c == 'p')
            r.ports[c == 'd' ? PAIR_DIRECT : PAIR_PROXIED] = (uint16_t)strtoul(optarg, NULL, 10);
        else if (c == 's')
            r.seed = strtoull(optarg, NULL, 10);
        else if (c == 't')
            seconds = strtol(optarg, NULL, 10);
        else if (c == 'l')
            r.limit_ms = (int)strtol(optarg, NULL, 10) * 1000;
        else if (c == 'r')
            phrase_expect_replicas();
        else
            return 2;
    }
    if (r.ports[0] == 0 || r.ports[1] == 0 || optind < argc) {
        fprintf(stderr,
                "usage: differential --direct PORT --proxied PORT [--seed N] [--seconds N] [--limit-s N] "
                "[--replicas]\n");
        return 2;
    }
    printf("seed %llu\n", (unsigned long long)r.seed);
    (void)fflush(stdout);
    time_t until = time(NULL) + seconds;
    do {
        /* A round can be had again alone. */
        r.dice.state = r.seed + r.rounds;
        run_round(&r);
    } while (time(NULL) < until);
    printf("%llu rounds, %llu commands, %llu replies, %.1f MB: the same\n", (unsigned long long)r.rounds,
           (unsigned long long)r.commands, (unsigned long long)r.replies, (double)r.bytes / 1e6);
    return 0;
}
