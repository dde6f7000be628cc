/* A private redis-server for a test: a free port on 127.0.0.1, a temporary folder, gone with the test.
 *
 * Everything here blocks; failures to start are assertion failures of the test (exit 1 with a message). */
#ifndef MR_TESTS_LIB_REDIS_SERVER_H
#define MR_TESTS_LIB_REDIS_SERVER_H

#include "common/core/topology.h"

#include <sys/types.h>

struct redisReply;

struct redis_server {
    pid_t pid; /* 0: not running */
    struct topology_address address;
    char dir[64];
    int reserved; /* a socket bound to the port, so that no other test is given it */
};

/* extra: more arguments ("--requirepass", "x", NULL), or NULL. Returns once it answers (-LOADING and -NOAUTH
 * are answers). Freed by redis_server_stop(), at the latest when the program exits. */
struct redis_server *redis_server_start(const char *const *extra);
/* Ends the process by that signal and waits for it; port and folder stay. */
void redis_server_kill(struct redis_server *s, int signum);
/* It answers nothing, and its connections stay; and goes on. */
void redis_server_suspend(const struct redis_server *s);
void redis_server_resume(const struct redis_server *s);
/* Starts it again on the same port and folder; returns like redis_server_start(). */
void redis_server_restart(struct redis_server *s, const char *const *extra);
void redis_server_stop(struct redis_server *s);

/* One command over a connection of its own (printf-like as in hiredis); the caller frees the reply. NULL: no
 * answer. */
struct redisReply *redis_server_command(const struct redis_server *s, const char *fmt, ...) MR_PRINTF(2, 3);
/* The same, for the effect; asserts that it is no error. */
void redis_server_do(const struct redis_server *s, const char *fmt, ...) MR_PRINTF(2, 3);
/* Value of a field of INFO ("master_repl_offset"); "" when absent. Static storage, until the next call. */
const char *redis_server_info(const struct redis_server *s, const char *field);
/* Value of a setting; "" when the server doesn't know it. Static storage, until the next call. */
const char *redis_server_config(const struct redis_server *s, const char *setting);

/* A port of 127.0.0.1 that nobody uses just now. */
uint16_t redis_server_free_port(void);

#endif
