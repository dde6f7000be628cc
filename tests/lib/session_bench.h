/* A session without sockets: the test says what the client and the server say, and sees what is sent. */
#ifndef MR_TESTS_LIB_SESSION_BENCH_H
#define MR_TESTS_LIB_SESSION_BENCH_H

#include "proxy/core/session.h"

struct session_bench {
    struct route route;
    struct session_env env;
    struct session_counts counts;
    struct session session;
    uint32_t now_ms; /* of everything that happens */
    char text[4096];
};

/* Connected to the master of instance "cart", epoch 7; held requests wait for 1000 ms; now_ms is 0. */
void session_bench_init(struct session_bench *b);
void session_bench_free(struct session_bench *b);
void session_bench_client_says(struct session_bench *b, const char *text);
void session_bench_server_says(struct session_bench *b, const char *text);
/* Everything that goes to the server, or the client, now; valid until the next call. */
const char *session_bench_to_server(struct session_bench *b);
const char *session_bench_to_client(struct session_bench *b);
/* The connection is lost, and made anew to the master of the next epoch. */
void session_bench_break(struct session_bench *b);

#endif
