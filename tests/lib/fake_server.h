/* A pretended Redis (fake_redis.h) behind a socket, on the loop of the test. */
#ifndef MR_TESTS_LIB_FAKE_SERVER_H
#define MR_TESTS_LIB_FAKE_SERVER_H

#include "common/core/topology.h"

struct fake_member;
struct fake_server;
struct loop;

/* Any free port of 127.0.0.1, written to *address. The member is borrowed. */
struct fake_server *fake_server_open(struct loop *loop, struct fake_member *member,
                                     struct topology_address *address);
/* Closes every connection too. */
void fake_server_close(struct fake_server *s);

#endif
