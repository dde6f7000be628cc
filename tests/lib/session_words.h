/* Short names for session_bench.h, for tests that read like a conversation. */
#ifndef MR_TESTS_LIB_SESSION_WORDS_H
#define MR_TESTS_LIB_SESSION_WORDS_H

#include "tests/lib/session_bench.h"

#define bench_init(...)       session_bench_init(__VA_ARGS__)
#define bench_free(...)       session_bench_free(__VA_ARGS__)
#define client_says(...)      session_bench_client_says(__VA_ARGS__)
#define server_says(...)      session_bench_server_says(__VA_ARGS__)
#define to_server(...)        session_bench_to_server(__VA_ARGS__)
#define to_client(...)        session_bench_to_client(__VA_ARGS__)
#define break_and_attach(...) session_bench_break(__VA_ARGS__)

#endif
