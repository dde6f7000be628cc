#include "proxy/core/window.h"

#include <assert.h>

bool window_enter(struct window *w, struct window_seat *s, uint32_t known)
{
    assert(s->takes == 0);
    uint32_t awaits = known <= s->came ? s->came : known < WINDOW_SEAT_MAX ? known : WINDOW_SEAT_MAX;
    if (awaits >= WINDOW_LARGE) {
        if (w->bytes + awaits > WINDOW_BYTES)
            return false;
        s->takes = awaits;
        w->bytes += s->takes;
    }
    s->came = 0;
    return true;
}

bool window_reply(struct window *w, struct window_seat *s, uint64_t n)
{
    uint64_t came = s->came + n;

    s->came = came < WINDOW_SEAT_MAX ? (uint32_t)came : WINDOW_SEAT_MAX;
    return window_leave(w, s);
}

bool window_leave(struct window *w, struct window_seat *s)
{
    if (s->takes == 0)
        return false;
    assert(w->bytes >= s->takes);
    w->bytes -= s->takes;
    s->takes = 0;
    return true;
}
