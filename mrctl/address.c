#include "mrctl/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>

enum { ADDRESS_HOST_MAX = 255 };

/* Resolves the host with its port; prefers IPv4 where a name has both. */
static int address_lookup(const char *what, const char *host, uint16_t port, struct topology_address *out)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL, *best = NULL;
    int gai = getaddrinfo(host, NULL, &hints, &list);
    if (gai != 0)
        return mrctl_fail(MRCTL_FAILED, "%s: the host %s is not known here: %s", what, host,
                          gai_strerror(gai));
    for (struct addrinfo *a = list; a != NULL; a = a->ai_next)
        if ((a->ai_family == AF_INET && (best == NULL || best->ai_family != AF_INET)) ||
            (a->ai_family == AF_INET6 && best == NULL))
            best = a;
    *out = (struct topology_address){.port = port};
    int err = best == NULL ? EAI_FAMILY
                           : getnameinfo(best->ai_addr, best->ai_addrlen, out->host, sizeof out->host, NULL,
                                         0, NI_NUMERICHOST);
    freeaddrinfo(list);
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    if (err != 0 || topology_address_parse(topology_address_format(out, text), out) != 0)
        return mrctl_fail(MRCTL_FAILED, "%s: the host %s has no usable IP address", what, host);
    return 0;
}

int address_resolve(const struct mrctl *m, const char *what, const char *text, struct topology_address *out)
{
    char host[ADDRESS_HOST_MAX + 1];
    uint16_t port = 0;
    if (topology_address_parse(text, out) == 0)
        return 0;
    if (options_parse_endpoint(text, "", host, sizeof host, &port) != 0 || host[0] == '\0' || port == 0)
        options_fail(m->spec, "'%s' is not an address: HOST:PORT is needed, as in 10.0.0.1:6379", text);
    return address_lookup(what, host, port, out);
}
