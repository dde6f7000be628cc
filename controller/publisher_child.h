/* Private to the publisher: what parent and child tell each other over the socketpair. */
#ifndef MR_CONTROLLER_PUBLISHER_CHILD_H
#define MR_CONTROLLER_PUBLISHER_CHILD_H

#include "common/nn_link.h"

#include <sys/types.h>

#define PUBLISHER_CHILD_ARGUMENT "--publisher-child"

/* The first packet to the child; every later one is a message to publish. Both are the same build. */
struct publisher_child_setup {
    char host[64];
    uint16_t port; /* 0: choose one */
    struct nn_link_key key;
    pid_t parent;
};

/* The only packet from the child. */
struct publisher_child_hello {
    int err; /* 0: bound */
    uint16_t port;
};

#endif
