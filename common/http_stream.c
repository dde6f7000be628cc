/* Server-Sent Events.
 *
 *   http_stream_send ─► out ─► http_stream_on_read (libmicrohttpd asks) ─► client
 *                                  └─ nothing there: suspended until the next send */
#include "common/http_private.h"
#include "common/loop.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

enum { LAG_MAX_BYTES = 1024 * 1024, STREAMS_MAX = 192, BLOCK_BYTES = 4096, OUT_KEEP_BYTES = 4096 };

static bool append(struct http_stream *s, const char *data, size_t len)
{
    if (s->out_sent > 0) {
        memmove(s->out, s->out + s->out_sent, s->out_len - s->out_sent);
        s->out_len -= s->out_sent;
        s->out_sent = 0;
    }
    if (s->out_len + len > s->out_size) {
        size_t size = s->out_size ? s->out_size : OUT_KEEP_BYTES;
        char *grown;

        while (size < s->out_len + len)
            size *= 2;
        grown = realloc(s->out, size);
        if (!grown)
            return false;
        s->out = grown;
        s->out_size = size;
    }
    memcpy(s->out + s->out_len, data, len);
    s->out_len += len;
    return true;
}

static void wake(struct http_stream *s)
{
    if (!s->suspended)
        return;
    assert(s->request);
    s->suspended = false;
    MHD_resume_connection(s->request->connection);
    http_server_kick(s->server);
}

/* The owner learns that it is over; libmicrohttpd's side may live on until the connection ends. */
static void finish(struct http_stream *s)
{
    void (*on_close)(void *ctx) = s->on_close;

    s->on_close = NULL;
    if (on_close) {
        list_remove(&s->node);
        s->server->n_streams--;
        on_close(s->ctx);
    }
}

static void http_stream_on_deferred_finish(void *p)
{
    struct http_stream *s = p;

    s->closing = false;
    finish(s);
    if (!s->request) {
        free(s->out);
        free(s);
    }
}

/* The client can't keep up: what it has not got by now is dropped, and the connection ends. */
static void give_up(struct http_stream *s)
{
    s->out_len = s->out_sent = 0;
    s->ended = true;
    wake(s);
    if (s->closing)
        return;
    s->closing = true;
    loop_defer(s->server->loop, http_stream_on_deferred_finish, s);
}

static ssize_t http_stream_on_read(void *cls, uint64_t pos, char *out, size_t max)
{
    struct http_stream *s = cls;
    size_t n = s->out_len - s->out_sent;

    (void)pos;
    if (n == 0 && s->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        s->suspended = true;
        MHD_suspend_connection(s->request->connection);
        return 0;
    }
    n = n < max ? n : max;
    memcpy(out, s->out + s->out_sent, n);
    s->out_sent += n;
    if (s->out_sent == s->out_len && s->out_size > OUT_KEEP_BYTES) {
        free(s->out);
        s->out = NULL;
        s->out_len = s->out_sent = s->out_size = 0;
    }
    return (ssize_t)n;
}

void http_stream_disconnected(struct http_stream *s)
{
    s->request = NULL;
    s->suspended = false;
    if (s->closing)
        return; /* the deferred call frees it */
    s->closing = true;
    loop_defer(s->server->loop, http_stream_on_deferred_finish, s);
}

struct http_stream *http_stream_open(struct http_request *r, void (*on_close)(void *ctx), void *ctx)
{
    struct http_server *server = r->server;
    struct http_stream *s = server->n_streams < STREAMS_MAX ? calloc(1, sizeof *s) : NULL;
    struct MHD_Response *response = NULL;

    assert(on_close);
    if (s && append(s, ": ok\n\n", 6)) /* the headers wait for a first byte */
        response =
            MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, http_stream_on_read, s, NULL);
    if (!response || MHD_add_response_header(response, "Content-Type", "text/event-stream") != MHD_YES ||
        MHD_add_response_header(response, "Cache-Control", "no-store") != MHD_YES) {
        if (response)
            MHD_destroy_response(response);
        if (s)
            free(s->out);
        free(s);
        http_answer_error(r, 503, "too_many_streams", "no further event stream can be opened here now");
        return NULL;
    }
    s->server = server;
    s->request = r;
    s->on_close = on_close;
    s->ctx = ctx;
    list_push_back(&server->streams, &s->node);
    server->n_streams++;
    r->stream = s;
    http_request_respond(r, MHD_HTTP_OK, response);
    return s;
}

void http_stream_send(struct http_stream *s, const char *name, const char *data, size_t len)
{
    assert(!strpbrk(name, "\r\n") && !memchr(data, '\n', len) && !memchr(data, '\r', len));
    if (s->ended || !s->request)
        return; /* on_close is on its way */
    if (s->out_len - s->out_sent + len > LAG_MAX_BYTES || !append(s, "event: ", 7) ||
        !append(s, name, strlen(name)) || !append(s, "\ndata: ", 7) || !append(s, data, len) ||
        !append(s, "\n\n", 2))
        give_up(s);
    else
        wake(s);
}

void http_stream_comment_all(struct http_server *server)
{
    list_for_each(node, &server->streams)
    {
        struct http_stream *s = list_entry(node, struct http_stream, node);

        if (s->ended || !s->request)
            continue;
        if (s->out_len - s->out_sent > LAG_MAX_BYTES || !append(s, ":\n\n", 3))
            give_up(s);
        else
            wake(s);
    }
}

void http_stream_end_all(struct http_server *server)
{
    while (!list_empty(&server->streams)) {
        struct http_stream *s = list_entry(list_first(&server->streams), struct http_stream, node);

        s->ended = true;
        wake(s);
        finish(s);
    }
}
