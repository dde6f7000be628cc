/* Under which user a fenced instance's server knows whom its clients log in as (fence=acl). Pure.
 *
 *   client: AUTH app … ──login_to_server()──► AUTH app-e7 … ──► server of epoch 7
 *   remembered: AUTH app … ◄──login_to_client()── what was sent
 *
 * Clients never see epochs: what they said is kept, and each connection is told the user of the epoch whose
 * master it leads to. Without a fence all of it is the identity. */
#ifndef MR_PROXY_CORE_LOGIN_H
#define MR_PROXY_CORE_LOGIN_H

#include "common/core/buf.h"
#include "proxy/core/route.h"

static inline bool login_is_mapped(const struct route *r)
{
    return r->fence_user[0] != '\0';
}

/* AUTH user password, or HELLO … AUTH user password …, whose user is the fence's or one of its epochs': true,
 * and *out has the request with the present epoch's user in its place. False: it needs no change, or memory
 * is out. Other requests, and what is longer than 16 KB, need none. */
bool login_to_server(const struct route *r, const char *request, size_t len, struct buf *out);
/* The other way: with the fence's user. */
bool login_to_client(const struct route *r, const char *request, size_t len, struct buf *out);

/* Appends what a connection is told first, of which the first request may be an AUTH, as the server wants it.
 * ERR_NOMEM. */
int login_write(const struct route *r, const char *text, size_t len, struct buf *out) MR_MUST_CHECK;
/* Changes *text, of which nothing was consumed, likewise. */
int login_map(const struct route *r, struct buf *text) MR_MUST_CHECK;

#endif
