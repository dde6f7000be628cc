/* The words for evidence: names, and what an error reply means. */
#include "controller/core/health.h"

#include <assert.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const view_names[] = {
    [HEALTH_VIEW_UNKNOWN] = "unknown",         [HEALTH_VIEW_ANSWERS] = "answers",
    [HEALTH_VIEW_REFUSED] = "refused",         [HEALTH_VIEW_HUNG] = "hung",
    [HEALTH_VIEW_UNREACHABLE] = "unreachable",
};

static const char *const said_names[] = {
    [HEALTH_SAID_OK] = "OK",
    [HEALTH_SAID_LOADING] = "LOADING",
    [HEALTH_SAID_BUSY] = "BUSY",
    [HEALTH_SAID_MISCONF] = "MISCONF",
    [HEALTH_SAID_MASTERDOWN] = "MASTERDOWN",
    [HEALTH_SAID_NOAUTH] = "NOAUTH",
    [HEALTH_SAID_MAXCLIENTS] = "MAXCLIENTS",
    [HEALTH_SAID_OOM] = "OOM",
    [HEALTH_SAID_OTHER] = "ERR",
};

const char *health_link_name(enum health_link l)
{
    switch (l) {
    case HEALTH_LINK_UNKNOWN:
        return "unknown";
    case HEALTH_LINK_UP:
        return "up";
    case HEALTH_LINK_CLOSED:
        return "closed";
    case HEALTH_LINK_REFUSED:
        return "refused";
    case HEALTH_LINK_SILENT:
        return "silent";
    case HEALTH_LINK_DENIED:
        return "denied";
    }
    return "?";
}

const char *health_said_name(enum health_said s)
{
    assert((size_t)s < COUNT(said_names));
    return said_names[s];
}

const char *health_view_name(enum health_view_kind k)
{
    assert((size_t)k < COUNT(view_names));
    return view_names[k];
}

int health_view_parse(const char *text, enum health_view_kind *out)
{
    assert(text && out);
    for (size_t k = 0; k < COUNT(view_names); k++) {
        if (strcmp(text, view_names[k]) == 0) {
            *out = (enum health_view_kind)k;
            return 0;
        }
    }
    return ERR_INVALID;
}

/* Source: the error replies of Redis 6.2–7.x (server.c, "shared" objects; networking.c, acl.c). */
enum health_said health_said_of(const char *text)
{
    static const struct {
        const char *begins;
        enum health_said said;
    } words[] = {
        {"LOADING", HEALTH_SAID_LOADING},
        {"BUSY", HEALTH_SAID_BUSY},
        {"MISCONF", HEALTH_SAID_MISCONF},
        {"MASTERDOWN", HEALTH_SAID_MASTERDOWN},
        {"NOAUTH", HEALTH_SAID_NOAUTH},
        {"WRONGPASS", HEALTH_SAID_NOAUTH},
        {"NOPERM", HEALTH_SAID_NOAUTH},
        {"ERR invalid password", HEALTH_SAID_NOAUTH},
        {"ERR max number of clients", HEALTH_SAID_MAXCLIENTS},
        {"OOM", HEALTH_SAID_OOM},
    };
    assert(text);
    for (size_t k = 0; k < COUNT(words); k++)
        if (strncmp(text, words[k].begins, strlen(words[k].begins)) == 0)
            return words[k].said;
    return HEALTH_SAID_OTHER;
}
