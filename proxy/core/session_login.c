/* Logins of a fenced instance's clients: what they say, and what the server of each epoch is told (login.h).
 */
#include "proxy/core/login.h"
#include "proxy/core/session_internal.h"

#include <string.h>

enum { SESSION_LOGIN_DOUBTS = 3 };

bool session_map_login(struct session *s, const struct pipeline_entry *e)
{
    struct pipeline *p = &s->work->pipe;
    struct buf login = {0};
    const char *bytes;

    if (!login_is_mapped(s->env->route) || (e->kind != REQUEST_AUTH && e->kind != REQUEST_HELLO) ||
        !(bytes = pipeline_bytes(p, e)) || !login_to_server(s->env->route, bytes, e->len, &login))
        return true;
    int err = pipeline_replace(p, p->judged, buf_at(&login, buf_start(&login)), buf_len(&login));
    buf_free(&login);
    if (err)
        session_fail(s, "out of memory");
    return err == 0;
}

void session_remember(struct session *s, struct remember *m, const struct pipeline_entry *e)
{
    const char *bytes = pipeline_bytes(&s->work->pipe, e);
    struct buf said = {0};

    if (bytes && login_to_client(s->env->route, bytes, e->len, &said))
        remember_command(m, e->kind, buf_at(&said, buf_start(&said)), buf_len(&said), &s->resp);
    else
        remember_command(m, e->kind, bytes, e->len, &s->resp);
    buf_free(&said);
}

bool session_doubts_login(struct session *s)
{
    const struct resp_reply *r = &s->work->reply;

    if (!login_is_mapped(s->env->route) || strncmp(r->error, "WRONGPASS ", 10) != 0 ||
        s->login_doubts == SESSION_LOGIN_DOUBTS)
        return false;
    s->login_doubts++;
    return true;
}
