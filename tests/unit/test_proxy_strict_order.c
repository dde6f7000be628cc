/* Durability strict, on connections of the clients' own: replies that are held, among requests that have no
 * reply, or several. (Each was found by the differential test.) */
#include "tests/lib/proxy_rig.h"
#include "tests/lib/wait.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CANT(what)                                                                                           \
    "-ERR Can't execute '" what "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "       \
    "allowed in this context\r\n"
#define SUBSCRIBED(word, name, n) "*3\r\n" word "\r\n$1\r\n" name "\r\n:" n "\r\n"

enum { REPLY_MAX = 1024 };

/* All at once, and byte for byte. */
static void assert_replies(int fd, const char *requests, const char *replies)
{
    char got[REPLY_MAX + 1] = {0};
    size_t len = strlen(replies);

    assert_true(len <= REPLY_MAX);
    proxy_rig_write(fd, requests, strlen(requests));
    assert_int_equal(proxy_rig_read(fd, got, len), len);
    assert_string_equal(got, replies);
}

static void test_what_has_no_reply_stands_between_held_ones(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    int fd = proxy_rig_dial(&r);
    for (int i = 0; i < 20; i++)
        assert_replies(
            fd,
            "SET a 1\r\nCLIENT REPLY SKIP\r\nSET b 2\r\nSET c 3\r\nCLIENT REPLY OFF\r\nSET d 4\r\n"
            "CLIENT REPLY ON\r\nSET e 5\r\nMGET a b c d e\r\n",
            "+OK\r\n+OK\r\n+OK\r\n+OK\r\n*5\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n");
    close(fd);
    proxy_rig_stop(&r);
}

static void test_each_of_several_confirmations_keeps_its_place(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    int fd = proxy_rig_dial(&r);
    assert_replies(fd, "SUBSCRIBE a\r\n", SUBSCRIBED("$9\r\nsubscribe", "a", "1"));
    /* Nobody knows yet that it began no transaction, so they are sent at once. */
    assert_replies(fd, "MULTI\r\nEVAL x 0\r\nSUBSCRIBE b c\r\nUNSUBSCRIBE a b\r\nEVAL x 0\r\n",
                   CANT("multi") CANT("eval") SUBSCRIBED("$9\r\nsubscribe", "b", "2")
                       SUBSCRIBED("$9\r\nsubscribe", "c", "3") SUBSCRIBED("$11\r\nunsubscribe", "a", "2")
                           SUBSCRIBED("$11\r\nunsubscribe", "b", "1") CANT("eval"));
    close(fd);
    proxy_rig_stop(&r);
}

static void test_a_transaction_that_was_refused_behind_a_held_reply_is_none(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    int fd = proxy_rig_dial(&r);
    assert_replies(fd, "SUBSCRIBE a\r\n", SUBSCRIBED("$9\r\nsubscribe", "a", "1"));
    assert_replies(fd, "EVAL x 0\r\nMULTI\r\n", CANT("eval") CANT("multi"));
    assert_replies(fd, "UNSUBSCRIBE a\r\n", SUBSCRIBED("$11\r\nunsubscribe", "a", "0"));
    assert_replies(fd, "CLIENT REPLY SKIP\r\nSET a 1\r\nINCR a\r\nEXEC\r\nSELECT 1\r\nGET a\r\n",
                   ":2\r\n-ERR EXEC without MULTI\r\n+OK\r\n$-1\r\n");
    close(fd);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_has_no_reply_stands_between_held_ones),
        cmocka_unit_test(test_each_of_several_confirmations_keeps_its_place),
        cmocka_unit_test(test_a_transaction_that_was_refused_behind_a_held_reply_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
