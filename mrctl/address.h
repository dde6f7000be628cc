/* HOST:PORT as an operator writes it: controllers and proxies know IP addresses only, so names are resolved
 * here. */
#ifndef MR_MRCTL_ADDRESS_H
#define MR_MRCTL_ADDRESS_H

#include "common/core/topology.h"
#include "mrctl/mrctl.h"

/* 0, or an exit code (it was said why, in the name of `what`). A text that is no HOST:PORT ends with a usage
 * error (2). Prefers IPv4 where a name has both. */
int address_resolve(const struct mrctl *m, const char *what, const char *text,
                    struct topology_address *out) MR_MUST_CHECK;

#endif
