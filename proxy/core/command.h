/* What the proxy knows about each Redis command, generated from the server's own COMMAND output. Pure.
 *
 * A command that isn't in the table (a module's, a newer server's) is unknown: it may do anything, so it gets
 * a connection of its own and is never sent twice. */
#ifndef MR_PROXY_CORE_COMMAND_H
#define MR_PROXY_CORE_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum command_flag {
    COMMAND_WRITE = 1,       /* as the server has it */
    COMMAND_READONLY = 2,    /* as the server has it */
    COMMAND_BLOCKING = 4,    /* as the server has it: may block (XREAD only with BLOCK) */
    COMMAND_PUBSUB = 8,      /* as the server has it; PUBLISH too */
    COMMAND_ADMIN = 16,      /* as the server has it */
    COMMAND_OWN = 32,        /* needs a connection of its client's own: stateful, blocking, replies ≠ 1 */
    COMMAND_SESSION = 64,    /* changes the connection (AUTH, SELECT…): made again on the next backend */
    COMMAND_REPLAY = 128,    /* may be sent again when its reply was lost: reads, never blocks */
    COMMAND_REPLICA = 256,   /* a replica can be asked just as well, as far as its data is fresh enough */
    COMMAND_MAY_WRITE = 512, /* isn't a write, but may do some: scripts, functions */
};

struct command {
    const char *name; /* upper case; a sub-command's without its container's: "REPLY" */
    uint8_t len;
    int8_t arity;   /* arguments with the name (and a sub-command's two): exactly n, or at least -n */
    uint16_t flags; /* enum command_flag */
    /* Which arguments are keys: from the first to the last (negative: counted from the end), each step-th.
     * 0: none, or only the arguments tell. */
    int8_t first_key, last_key, key_step;
    uint16_t first_sub, n_subs; /* private; n_subs > 0: a container */
};

/* The command of that upper-cased name (resp_request's word[0], word_len[0]), or NULL. */
const struct command *command_find(const char *upper_word, size_t len);
/* The sub-command of a container (word[1]), or NULL: no such one, or `c` isn't a container. */
const struct command *command_find_sub(const struct command *c, const char *upper_word, size_t len);
/* Both: the sub-command when there is one, else the command (its flags then are the container's). The words
 * are resp_request's; word[1] is only looked at when n_args > 1. NULL: unknown. */
const struct command *command_lookup(const char *word0, size_t len0, const char *word1, size_t len1,
                                     uint32_t n_args);
/* May it have that many arguments, its name included? */
bool command_arity_ok(const struct command *c, uint32_t n_args);

/* The table, for tests and dumps. */
const struct command *command_table(size_t *n);
const struct command *command_subs(const struct command *c, size_t *n);

#endif
