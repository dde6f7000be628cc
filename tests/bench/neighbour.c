/* How long does one client wait for each of its answers, whatever others do? One connection, GET after GET.
 *
 * Requests are due every --gap-us (0: as soon as the last was answered). One that could not be sent when it
 * was due, because the answer before it was late, has waited since then: so a stall counts for all requests
 * that it delayed, not for one. Prints one JSON line; times are microseconds:
 *   {"event":"latency","requests":…,"errors":…,"p50_us":…,"p99_us":…,"max_us":…} */
#include "common/options.h"
#include "tests/lib/writer.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NS_PER_US = 1000, NS_PER_S = 1000000000, TIMEOUT_MS = 30000, SAMPLES_MIN = 4096 };

struct account {
    int64_t *waits_ns; /* of each answered request */
    size_t n, size;
    unsigned errors;
};

static int64_t now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * NS_PER_S + at.tv_nsec;
}

static void sleep_until(int64_t ns)
{
    const struct timespec at = {ns / NS_PER_S, ns % NS_PER_S};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        continue;
}

static void account_add(struct account *a, int64_t wait_ns)
{
    if (a->n == a->size) {
        a->size = a->size == 0 ? SAMPLES_MIN : 2 * a->size;
        a->waits_ns = realloc(a->waits_ns, a->size * sizeof *a->waits_ns);
        if (a->waits_ns == NULL)
            exit(1);
    }
    a->waits_ns[a->n++] = wait_ns;
}

static int compare(const void *left, const void *right)
{
    const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static double account_percentile_us(const struct account *a, double share)
{
    return (double)a->waits_ns[(size_t)((double)(a->n - 1) * share)] / NS_PER_US;
}

static void account_print(struct account *a)
{
    qsort(a->waits_ns, a->n, sizeof *a->waits_ns, compare);
    printf("{\"event\":\"latency\",\"requests\":%zu,\"errors\":%u,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":"
           "%.1f}\n",
           a->n, a->errors, account_percentile_us(a, 0.5), account_percentile_us(a, 0.99),
           account_percentile_us(a, 1.0));
}

/* Asks until the time is over; false when the connection broke. */
static bool neighbour_run(redisContext *connection, const char *key, int gap_us, int duration_ms,
                          struct account *a)
{
    const int64_t end = now_ns() + (int64_t)duration_ms * 1000 * NS_PER_US;
    int64_t due = now_ns();
    while (due < end) {
        int64_t since = now_ns();
        if (since < due) {
            sleep_until(due);
            since =
                now_ns(); /* waking up late is the scheduler's doing, and the client's, not the server's */
        } else if (gap_us > 0) {
            since = due;
        }
        redisReply *reply = redisCommand(connection, "GET %s", key);
        if (reply == NULL)
            return false;
        if (reply->type == REDIS_REPLY_STRING)
            account_add(a, now_ns() - since);
        else
            a->errors++;
        freeReplyObject(reply);
        due = gap_us > 0 ? due + (int64_t)gap_us * NS_PER_US : now_ns();
    }
    return true;
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1", *key = "neighbour";
    int port = 6379, gap_us = 0, duration_ms = 1000;
    const struct option_row rows[] = {
        {"host", 0, OPTION_TEXT, &host, "HOST", 0, 0, "address to ask"},
        {"port", 'p', OPTION_INT, &port, "PORT", 1, 65535, "its port"},
        {"key", 0, OPTION_TEXT, &key, "KEY", 0, 0, "a string that exists"},
        {"gap-us", 0, OPTION_INT, &gap_us, "N", 0, 1000000, "from one request to the next; 0: none"},
        {"duration-ms", 0, OPTION_INT, &duration_ms, "N", 1, 600000, "how long"},
        {0},
    };
    const struct options_spec spec = {
        .program = "neighbour",
        .synopsis = "[OPTIONS]",
        .about = "Asks one key again and again, and tells how long the answers took.",
        .rows = rows,
        .epilogue = "Exit codes: 0 measured, 1 not connected, connection lost, or nothing answered; 2 usage.",
    };
    if (options_parse(&spec, argc, argv) != argc)
        options_fail(&spec, "takes no operands");
    writer_process_init();
    redisContext *connection = writer_dial(host, port, TIMEOUT_MS);
    struct account account = {0};
    const bool stands = connection != NULL && neighbour_run(connection, key, gap_us, duration_ms, &account);
    const bool good = stands && account.n > 0;
    if (good)
        account_print(&account);
    else
        fprintf(stderr, "neighbour: %s; %u error replies\n",
                connection == NULL ? "can't connect"
                : stands           ? "nothing was answered"
                                   : connection->errstr,
                account.errors);
    redisFree(connection);
    free(account.waits_ns);
    return good ? 0 : 1;
}
