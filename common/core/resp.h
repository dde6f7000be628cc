/* Incremental framing of the Redis protocol: where does each request or reply end? Pure, no buffering.
 *
 *   bytes in any split ──► resp_feed() ──► "used n bytes: MORE | END of one message | BAD"
 *
 * The framer copies no payload, so a 512 MB bulk passes through in constant memory. RESP2, RESP3 and inline
 * commands. Sources: Redis protocol specification; networking.c's limits (proto-max-bulk-len, 64 KiB inline,
 * 1 Mi arguments). A framer is a plain struct: it may be copied, and is reset by itself after END. */
#ifndef MR_COMMON_CORE_RESP_H
#define MR_COMMON_CORE_RESP_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RESP_INLINE_MAX = 64 * 1024, /* bytes of one inline command or header line */
    RESP_ARGS_MAX = 1024 * 1024, /* arguments of one request */
    RESP_RUNS_MAX = 32,          /* nested aggregates of a reply, equal ones in a row counting once */
    RESP_ERROR_MAX = 96,         /* bytes kept of a top-level error reply */
    RESP_WORD_MAX = 31,          /* bytes kept of a request's first two arguments */
    RESP_PROBLEM_MAX = 47,       /* bytes of the sentence about a malformed request */
};
#define RESP_BULK_MAX ((int64_t)512 * 1024 * 1024)

enum resp_result {
    RESP_MORE, /* all of the input was used, the message goes on */
    RESP_END,  /* *used bytes were used; the message ends with them */
    RESP_BAD,  /* malformed: `problem` says why, as Redis words it; the framer stays bad */
};

/* A header line under way ("*3", "$11"): private to the framer. */
struct resp_line {
    int64_t value;
    uint32_t len; /* bytes of the line so far */
    bool negative, bad, cr;
};

/* What a client sends. Blank lines and "*0", "*-1" are messages with n_args 0: Redis answers nothing to them.
 */
struct resp_request {
    /* Of the message under way, and of the finished one until the next resp_request_feed(): */
    uint32_t n_args;
    bool is_inline;
    uint32_t word_len[2];            /* real length of the first two arguments, even if over RESP_WORD_MAX */
    char word[2][RESP_WORD_MAX + 1]; /* those arguments, upper-cased, cut, NUL-terminated */
    uint64_t bytes;                  /* of the message so far */
    int64_t pending; /* bytes of the current bulk body still to come (its CRLF excluded); 0: none */
    char problem[RESP_PROBLEM_MAX + 1]; /* "Protocol error: …", "" unless RESP_BAD */
    /* Private. */
    uint8_t state, inline_state, saved;
    uint32_t arg; /* index of the argument under way */
    struct resp_line line;
};

void resp_request_init(struct resp_request *r);
enum resp_result resp_request_feed(struct resp_request *r, const char *data, size_t len, size_t *used);
/* n bytes of the current bulk body, fewer than are pending, went another way. */
void resp_request_skip(struct resp_request *r, uint64_t n);

/* Splits one complete request (as framed; inline quoting undone into `scratch`, at least len bytes) into at
 * most max arguments: pointers and lengths into data or scratch. Returns how many there are, or ERR_INVALID.
 */
struct resp_arg {
    const char *data;
    size_t len;
};
int resp_request_split(const char *data, size_t len, char *scratch, struct resp_arg *args,
                       int max) MR_MUST_CHECK;

/* What a server sends. An attribute ('|') belongs to the reply it precedes: END comes after that reply. */
struct resp_reply {
    char type;    /* first byte of the reply under way or just finished: + - : $ * _ , # ! = ( % ~ >; '>' is a
                     push */
    bool is_null; /* $-1, *-1 or _ */
    int64_t count; /* elements of a top-level aggregate (pairs of a map), else 0 */
    uint64_t bytes;
    uint64_t errors;    /* bit i: element i of a top-level array is an error; bit 63: one from there on is */
    uint32_t error_len; /* of a top-level - or ! reply: kept bytes, without "-" and CRLF */
    char error[RESP_ERROR_MAX + 1]; /* "READONLY You can't …" */
    uint32_t word_len; /* first element of a top-level aggregate when it's a bulk or simple string */
    char word[RESP_WORD_MAX + 1]; /* …as it came: "message", "subscribe"; tells RESP2 pub/sub from replies */
    const char *problem;          /* static text; NULL unless RESP_BAD */
    /* Private. */
    uint8_t state, depth; /* depth: runs */
    char element;         /* type of the element under way */
    bool word_due, under_way;
    struct resp_line line;
    int64_t body;        /* bytes of a bulk still to come */
    uint32_t attributes; /* bit d: run d is an attribute */
    /* Elements still to come at each depth. Lua nests 8000 deep in a few distinct steps: equal ones in a row
     * are a run. */
    struct resp_run {
        int64_t left;
        uint32_t times;
    } runs[RESP_RUNS_MAX];
};

void resp_reply_init(struct resp_reply *r);
enum resp_result resp_reply_feed(struct resp_reply *r, const char *data, size_t len, size_t *used);
/* Bytes of the current bulk body still to come, none of which is kept here (CRLF excluded); 0: none. */
uint64_t resp_reply_unseen(const struct resp_reply *r);
/* n of them, but not all, went another way. */
void resp_reply_skip(struct resp_reply *r, uint64_t n);

#endif
