#include "tests/lib/session_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

void session_bench_init(struct session_bench *b)
{
    memset(b, 0, sizeof(*b));
    strcpy(b->route.name, "cart"); // NOLINT(clang-analyzer-security.insecureAPI.strcpy)
    b->route.epoch = 7;
    b->env = (struct session_env){.route = &b->route, .hold_ms = 1000, .counts = &b->counts};
    session_init(&b->session, &b->env, 0);
    session_attached(&b->session, b->now_ms);
}

void session_bench_free(struct session_bench *b)
{
    session_free(&b->session);
    session_env_free(&b->env);
}

void session_bench_client_says(struct session_bench *b, const char *text)
{
    session_take_request(&b->session, b->now_ms, text, strlen(text));
}

void session_bench_server_says(struct session_bench *b, const char *text)
{
    session_take_reply(&b->session, b->now_ms, text, strlen(text));
}

/* Everything that goes to the server now, as text. */
const char *session_bench_to_server(struct session_bench *b)
{
    struct buf_span spans[16];
    int n;

    b->text[0] = '\0';
    while ((n = session_request_spans(&b->session, spans, 16)) > 0) {
        size_t all = 0;
        for (int i = 0; i < n; i++) {
            strncat(b->text, spans[i].data, spans[i].len);
            all += spans[i].len;
        }
        session_request_wrote(&b->session, b->now_ms, all);
    }
    return b->text;
}

const char *session_bench_to_client(struct session_bench *b)
{
    struct buf_span span = session_reply_span(&b->session);

    b->text[0] = '\0';
    if (span.len > 0) {
        assert_true(span.len < sizeof(b->text));
        memcpy(b->text, span.data, span.len);
        b->text[span.len] = '\0';
        session_reply_wrote(&b->session, span.len);
    }
    return b->text;
}

void session_bench_break(struct session_bench *b)
{
    session_detached(&b->session, b->now_ms);
    b->route.epoch++;
    session_attached(&b->session, b->now_ms);
}
