/* A private ZooKeeper server for tests: Debian's, on loopback, with its data in memory (/dev/shm).
 *
 * Functions fail the running cmocka test instead of returning errors. The server dies with the test. */
#ifndef MR_TESTS_LIB_ZK_SERVER_H
#define MR_TESTS_LIB_ZK_SERVER_H

#include <stdint.h>

struct zk_server;

/* Starts it on a port that the kernel said was free and waits until it serves. */
struct zk_server *zk_server_start(void);
/* Three servers that need two of them; each is killed, restarted and stopped alone. */
enum { ZK_SERVER_ENSEMBLE = 3 };
void zk_server_start_ensemble(struct zk_server *servers[ZK_SERVER_ENSEMBLE]);
/* kill -9. */
void zk_server_kill(struct zk_server *server);
/* SIGSTOP, SIGCONT. */
void zk_server_suspend(struct zk_server *server);
void zk_server_resume(struct zk_server *server);
/* Starts a killed one again, same port and data. */
void zk_server_restart(struct zk_server *server);
/* The same, without waiting until it serves, which it can't before there is a quorum again. */
void zk_server_relaunch(struct zk_server *server);
/* Like restart, but it has forgotten everything. It refuses clients that have seen more transactions than it
 * has made; once it has caught up, they find their sessions expired. */
void zk_server_restart_empty(struct zk_server *server);
/* Kills it and removes its files; NULL is fine. */
void zk_server_stop(struct zk_server *server);

const char *zk_server_hosts(const struct zk_server *server); /* "127.0.0.1:PORT" */
uint16_t zk_server_port(const struct zk_server *server);

/* A loopback port that was free a moment ago. */
uint16_t zk_server_free_port(void);

#endif
