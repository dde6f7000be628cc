/* The command table: lookup, what the data path asks of it, and the COMMAND output of the redis-server here.
 */
#include "proxy/core/command.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const struct command *find(const char *word)
{
    return command_find(word, strlen(word));
}

static void test_finds_every_command(void **state)
{
    size_t n = 0;
    const struct command *all = command_table(&n);

    (void)state;
    assert_true(n > 200);
    for (size_t i = 0; i < n; i++) {
        size_t n_subs = 0;
        const struct command *subs = command_subs(&all[i], &n_subs);
        assert_int_equal(strlen(all[i].name), all[i].len);
        assert_ptr_equal(command_find(all[i].name, all[i].len), &all[i]);
        for (size_t j = 0; j < n_subs; j++)
            assert_ptr_equal(command_find_sub(&all[i], subs[j].name, subs[j].len), &subs[j]);
    }
}

static void test_unknown(void **state)
{
    (void)state;
    assert_null(command_find("", 0));
    assert_null(find("GE"));
    assert_null(find("GETT"));
    assert_null(find("get"));
    assert_null(find("ZZZ"));
    assert_null(find("JSON.SET"));
    assert_null(find("POST"));
    assert_null(command_find("\xff\x00", 2));
    /* Longer than a kept word: only its beginning is there. */
    assert_null(command_find("GETGETGETGETGETGETGETGETGETGETG", 4000));
    assert_null(command_find_sub(find("GET"), "X", 1));
    assert_null(command_lookup("CLIENT", 6, "NOSUCH", 6, 2));
    assert_null(command_lookup("", 0, "", 0, 0));
}

static void test_lookup_takes_the_sub_command(void **state)
{
    (void)state;
    assert_string_equal(command_lookup("CLIENT", 6, "REPLY", 5, 3)->name, "REPLY");
    assert_string_equal(command_lookup("CLIENT", 6, "", 0, 1)->name, "CLIENT");
    assert_string_equal(command_lookup("GET", 3, "REPLY", 5, 2)->name, "GET");
}

static void check_flags(const char *word, const char *sub, unsigned on, unsigned off)
{
    const struct command *c = command_lookup(word, strlen(word), sub, strlen(sub), *sub ? 2 : 1);
    assert_non_null(c);
    assert_int_equal(c->flags & on, on);
    assert_int_equal(c->flags & off, 0);
}

static void test_flags(void **state)
{
    (void)state;
    check_flags("GET", "", COMMAND_READONLY | COMMAND_REPLAY, COMMAND_OWN | COMMAND_WRITE);
    check_flags("SET", "", COMMAND_WRITE, COMMAND_OWN | COMMAND_REPLAY);
    check_flags("PING", "", COMMAND_REPLAY, COMMAND_OWN);
    check_flags("XREAD", "", COMMAND_READONLY | COMMAND_BLOCKING | COMMAND_OWN, COMMAND_REPLAY);
    check_flags("BLPOP", "", COMMAND_WRITE | COMMAND_BLOCKING | COMMAND_OWN, COMMAND_REPLAY);
    check_flags("PUBLISH", "", COMMAND_PUBSUB, COMMAND_OWN | COMMAND_REPLAY);
    check_flags("SUBSCRIBE", "", COMMAND_PUBSUB | COMMAND_OWN, COMMAND_REPLAY);
    check_flags("EVAL", "", 0, COMMAND_REPLAY | COMMAND_READONLY);
    check_flags("CLIENT", "REPLY", COMMAND_OWN, COMMAND_REPLAY);
    check_flags("CLIENT", "SETNAME", COMMAND_SESSION, COMMAND_REPLAY | COMMAND_OWN);
    check_flags("SELECT", "", COMMAND_SESSION, COMMAND_REPLAY | COMMAND_OWN);
    check_flags("EVAL", "", COMMAND_MAY_WRITE, 0);
    check_flags("FCALL", "", COMMAND_MAY_WRITE, 0);
    check_flags("PUBLISH", "", 0, COMMAND_MAY_WRITE);
    check_flags("EVAL_RO", "", COMMAND_READONLY, COMMAND_MAY_WRITE);
    check_flags("OBJECT", "ENCODING", COMMAND_REPLAY, COMMAND_OWN);
    /* Nothing that writes or blocks is ever sent twice. */
    size_t n = 0;
    const struct command *all = command_table(&n);
    for (size_t i = 0; i < n; i++)
        if (all[i].flags & COMMAND_REPLAY)
            assert_int_equal(all[i].flags & (COMMAND_WRITE | COMMAND_BLOCKING | COMMAND_OWN), 0);
}

static void check_keys(const char *word, const char *sub, int first, int last, int step)
{
    const struct command *c = command_lookup(word, strlen(word), sub, strlen(sub), *sub ? 2 : 1);

    assert_non_null(c);
    assert_int_equal(c->first_key, first);
    assert_int_equal(c->last_key, last);
    assert_int_equal(c->key_step, step);
}

static void test_keys(void **state)
{
    (void)state;
    check_keys("SET", "", 1, 1, 1);
    check_keys("MSET", "", 1, -1, 2);
    check_keys("BLPOP", "", 1, -2, 1);
    check_keys("XGROUP", "CREATE", 2, 2, 1);
    check_keys("PING", "", 0, 0, 0);
    check_keys("SORT", "", 0, 0, 0); /* STORE's stands somewhere */
}

static void test_arity(void **state)
{
    (void)state;
    assert_true(command_arity_ok(find("GET"), 2));
    assert_false(command_arity_ok(find("GET"), 1));
    assert_false(command_arity_ok(find("GET"), 3));
    assert_true(command_arity_ok(find("DEL"), 2));
    assert_true(command_arity_ok(find("DEL"), 200));
    assert_false(command_arity_ok(find("DEL"), 1));
}

/* ---- against the server -------------------------------------------------------------------------------- */

struct server {
    char dir[64], socket[80];
    pid_t pid;
    redisContext *link;
};

static int server_start(void **state)
{
    static struct server s;

    snprintf(s.dir, sizeof(s.dir), "%s/mr-command-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(s.dir))
        return -1;
    snprintf(s.socket, sizeof(s.socket), "%s/s", s.dir);
    s.pid = fork();
    if (s.pid == 0) {
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", s.socket, "--save", "", "--dir",
               s.dir, "--loglevel", "warning", "--logfile", "/dev/null", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 1000; i++) {
        s.link = redisConnectUnix(s.socket);
        if (s.link && !s.link->err)
            break;
        redisFree(s.link);
        s.link = NULL;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    *state = &s;
    return s.link ? 0 : -1;
}

static int server_stop(void **state)
{
    struct server *s = *state;

    redisFree(s->link);
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    unlink(s->socket);
    return rmdir(s->dir);
}

static unsigned server_flags(const redisReply *flags)
{
    static const struct {
        const char *name;
        unsigned flag;
    } names[] = {{"write", COMMAND_WRITE},
                 {"readonly", COMMAND_READONLY},
                 {"blocking", COMMAND_BLOCKING},
                 {"pubsub", COMMAND_PUBSUB},
                 {"admin", COMMAND_ADMIN}};
    unsigned set = 0;

    for (size_t i = 0; i < flags->elements; i++)
        for (size_t j = 0; j < sizeof(names) / sizeof(names[0]); j++)
            if (!strcmp(flags->element[i]->str, names[j].name))
                set |= names[j].flag;
    return set;
}

/* One entry of COMMAND: its row must be there and say the same. */
static const struct command *compare_entry(const redisReply *entry, const struct command *container)
{
    enum {
        FROM_SERVER = COMMAND_WRITE | COMMAND_READONLY | COMMAND_BLOCKING | COMMAND_PUBSUB | COMMAND_ADMIN
    };
    const char *bar = strchr(entry->element[0]->str, '|');
    char name[64];
    size_t len = 0;

    for (const char *p = bar ? bar + 1 : entry->element[0]->str; *p && len < sizeof(name) - 1; p++)
        name[len++] = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
    name[len] = '\0';
    const struct command *c = container ? command_find_sub(container, name, len) : command_find(name, len);
    if (!c)
        fail_msg("%s isn't in the table: generate it again", entry->element[0]->str);
    if (c->arity != entry->element[1]->integer || (c->flags & FROM_SERVER) != server_flags(entry->element[2]))
        fail_msg("%s: the server says something else: generate the table again", entry->element[0]->str);
    bool movable = false;
    for (size_t i = 0; i < entry->element[2]->elements; i++)
        movable = movable || !strcmp(entry->element[2]->element[i]->str, "movablekeys");
    const int8_t keys[] = {c->first_key, c->last_key, c->key_step};
    for (size_t i = 0; i < 3; i++)
        if (keys[i] != (movable ? 0 : entry->element[3 + i]->integer))
            fail_msg("%s has other keys: generate the table again", entry->element[0]->str);
    return c;
}

static void test_agrees_with_the_server(void **state)
{
    struct server *s = *state;
    redisReply *all = redisCommand(s->link, "COMMAND");
    size_t n = 0;

    assert_non_null(all);
    assert_int_equal(all->type, REDIS_REPLY_ARRAY);
    command_table(&n);
    assert_int_equal(all->elements, n);
    for (size_t i = 0; i < all->elements; i++) {
        const redisReply *entry = all->element[i], *subs = entry->element[9];
        const struct command *c = compare_entry(entry, NULL);
        assert_int_equal(subs->elements, c->n_subs);
        for (size_t j = 0; j < subs->elements; j++)
            compare_entry(subs->element[j], c);
    }
    freeReplyObject(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_every_command),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_lookup_takes_the_sub_command),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_arity),
        cmocka_unit_test_setup_teardown(test_agrees_with_the_server, server_start, server_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
