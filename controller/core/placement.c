#include "controller/core/placement.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct topology_address placement_seen_from_outside(const struct topology_address *master,
                                                    const struct topology_address *replica)
{
    struct topology_address out = *replica;
    if (strncmp(out.host, "127.", 4) == 0 || strcmp(out.host, "::1") == 0)
        memcpy(out.host, master->host, sizeof(out.host));
    return out;
}

uint16_t placement_port(const bool *taken, uint16_t low, uint16_t high)
{
    assert(taken && low > 0 && low <= high);
    for (uint32_t port = low; port <= high; port++)
        if (!taken[port])
            return (uint16_t)port;
    return 0;
}

static int placement_refuse(const struct topology_address *master, const struct info *info, char *why,
                            size_t size)
{
    char text[TOPOLOGY_ADDRESS_MAX + 1], its[TOPOLOGY_ADDRESS_MAX + 1];
    topology_address_format(master, text);
    if (info->role == INFO_ROLE_REPLICA)
        snprintf(why, size, "%s is a replica of %s: adopt its master", text,
                 topology_address_is_set(&info->master) ? topology_address_format(&info->master, its)
                                                        : "a host known by name only");
    else if (info->role != INFO_ROLE_MASTER)
        snprintf(why, size, "%s does not say whether it is a master: is it a redis-server?", text);
    else if (info->loading)
        snprintf(why, size, "%s is still loading its data set: try again when it has finished", text);
    else if (info->run_id[0] == '\0' || info->repl_id[0] == '\0')
        snprintf(why, size, "%s gave no run_id or replication id: Redis 4.0 or newer is needed", text);
    else if (info->n_replicas >= TOPOLOGY_MEMBERS_MAX)
        snprintf(why, size, "%s has %u or more replicas: at most %d are supported", text, info->n_replicas,
                 TOPOLOGY_MEMBERS_MAX - 1);
    else
        return 0;
    return ERR_REJECTED;
}

int placement_adopt(const char *name, const struct topology_address *master, const struct topology_auth *auth,
                    const struct info *info, struct topology_instance *out, char *why, size_t why_size)
{
    assert(name && master && auth && info && out && why && why_size > 0);
    int err = placement_refuse(master, info, why, why_size);
    if (err != 0)
        return err;
    memset(out, 0, sizeof(*out));
    if (topology_name_check(name) != 0) {
        snprintf(why, why_size, "an instance name is 1 to 64 of A-Z a-z 0-9 . _ -");
        return ERR_INVALID;
    }
    memcpy(out->name, name, strlen(name) + 1);
    out->state = TOPOLOGY_STABLE;
    out->epoch = 1;
    out->master = *master;
    out->auth = *auth;
    topology_policy_default(&out->policy);
    out->members[0].address = *master;
    memcpy(out->members[0].run_id, info->run_id, sizeof(out->members[0].run_id));
    out->n_members = 1;
    for (uint32_t k = 0; k < info->n_replicas; k++) {
        struct topology_address a = placement_seen_from_outside(master, &info->replicas[k].address);
        if (topology_member_find(out, &a) < 0)
            out->members[out->n_members++].address = a;
    }
    struct topology_epoch row = {.epoch = 1, .start_offset = 0};
    memcpy(row.repl_id, info->repl_id, sizeof(row.repl_id));
    topology_epoch_append(out, &row);
    return 0;
}
