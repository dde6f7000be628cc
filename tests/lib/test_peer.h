/* A listening TCP socket on 127.0.0.1, for tests that play a peer by hand. Failures fail the running test. */
#ifndef MR_TESTS_LIB_TEST_PEER_H
#define MR_TESTS_LIB_TEST_PEER_H

#include "common/core/topology.h"

struct loop;

/* Any free port; non-blocking; closed by the caller. */
int test_peer_listen(int backlog, struct topology_address *address);
/* The next connection (non-blocking), once it is there; runs the loop meanwhile. */
int test_peer_accept(struct loop *loop, int listener);
/* A blocking connection to 127.0.0.1:port. */
int test_peer_connect(uint16_t port);

#endif
