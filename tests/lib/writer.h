/* A client that writes without a pause and keeps account of what it saw: the measuring part of every bench.
 *
 * One connection, one request at a time, unique increasing keys (PREFIX:N = N). The programs around it differ
 * only in how they get a connection (a proxy's port, what a Sentinel says, a replica they promote
 * themselves), so that what is compared was measured by the same code.
 *
 * Orders are lines on stdin, read between two writes and only after an acknowledged one: an order that is
 * answered proves that the client can write. Answers are JSON objects, one a line, on stdout; times are
 * microseconds of CLOCK_MONOTONIC (the same clock as Python's time.monotonic_ns).
 *   begin                a round begins: {"event":"begun","at_us":…}
 *   end                  its account:    {"event":"round",…}: see writer_run()
 *   verify [HOST:PORT]   are all acknowledged writes there? {"event":"verified","acknowledged":…,"missing":…}
 *   quit, end of file    {"event":"total",…} and exit */
#ifndef MR_TESTS_LIB_WRITER_H
#define MR_TESTS_LIB_WRITER_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stdint.h>

struct redisContext;

struct writer_config {
    const char *program; /* for messages on stderr */
    int gap_us;          /* pause between an answer and the next write; 0: none */
    int seconds; /* > 0: no orders; one round of that length, then verify; text for people unless json */
    bool json;   /* with seconds: JSON lines instead of text */
    bool leave_readonly; /* a -READONLY answer makes the connection unusable (nobody in between repairs it) */
    /* Returns a connection that answered, or NULL when there is none right now; the writer owns it. Called at
     * the start and whenever the connection broke, again and again; must not block longer than needed. */
    struct redisContext *(*connect)(void *ctx);
    /* Before each write: true when the connection should be given up. May be NULL. */
    bool (*moved)(void *ctx);
    void *ctx;
};

/* Writes until told to stop; returns the exit code: 0, or 1 when an acknowledged write is missing (with
 * seconds) or nothing could be written. The account of a round:
 *   begin_us, end_us      the round
 *   writes                acknowledged writes in it
 *   outage_us             longest time from one acknowledged write to the next; outage_begin_us,
 * outage_end_us second_us             the second longest: what the machine's own noise is like errors
 * {"MRUNKNOWN":1,…}: failed writes by the first word of the answer, or CLOSED, TIMEOUT reconnects connections
 * made after the first */
int writer_run(const struct writer_config *config) MR_MUST_CHECK;

/* CLOCK_MONOTONIC in microseconds. */
int64_t writer_now_us(void);

/* Connects within timeout_ms, which later bounds each answer too; NULL when it can't. */
struct redisContext *writer_dial(const char *host, int port, int timeout_ms);

/* "HOST:PORT" → its parts; ERR_INVALID. host has room for size bytes. */
int writer_parse_address(const char *text, char *host, int size, int *port) MR_MUST_CHECK;

/* Asks the kernel to end this process when the one that started it is gone; ignores SIGPIPE; exact timers. */
void writer_process_init(void);

#endif
