#include "proxy/core/route_table.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void route_table_init(struct route_table *t)
{
    assert(t);
    memset(t, 0, sizeof(*t));
}

void route_table_free(struct route_table *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->entries[i]);
    free(t->entries);
    route_table_init(t);
}

/* Index of the first entry whose name isn't before `name`. */
static size_t route_table_lower(const struct route_table *t, const char *name)
{
    size_t from = 0, to = t->n;

    assert(name);
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (strcmp(t->entries[middle]->route.name, name) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

struct route_entry *route_table_find(const struct route_table *t, const char *name)
{
    size_t at = route_table_lower(t, name);

    if (at == t->n || strcmp(t->entries[at]->route.name, name) != 0)
        return NULL;
    return t->entries[at];
}

struct route_entry *route_table_add(struct route_table *t, const char *name)
{
    size_t at = route_table_lower(t, name);

    assert(at == t->n || strcmp(t->entries[at]->route.name, name) != 0);
    assert(strlen(name) <= TOPOLOGY_NAME_MAX);
    if (t->n == t->room) {
        size_t room = t->room ? 2 * t->room : 64;
        struct route_entry **grown = reallocarray(t->entries, room, sizeof(struct route_entry *));
        if (!grown)
            return NULL;
        t->entries = grown;
        t->room = room;
    }
    struct route_entry *e = calloc(1, sizeof(*e));
    if (!e)
        return NULL;
    snprintf(e->route.name, sizeof(e->route.name), "%s", name);
    list_init(&e->doubt);
    list_init(&e->pausing);
    memmove(t->entries + at + 1, t->entries + at, (t->n - at) * sizeof(struct route_entry *));
    t->entries[at] = e;
    t->n++;
    return e;
}

void route_table_remove(struct route_table *t, struct route_entry *e)
{
    size_t at = route_table_lower(t, e->route.name);

    assert(at < t->n && t->entries[at] == e);
    memmove(t->entries + at, t->entries + at + 1, (t->n - at - 1) * sizeof(struct route_entry *));
    t->n--;
    list_remove(&e->doubt);
    list_remove(&e->pausing);
    free(e);
}
