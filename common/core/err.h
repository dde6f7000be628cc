/* Error codes of the whole project: one X-macro gives the constant, its name and its text.
 *
 * Functions return 0 or one of these negative codes and carry MR_MUST_CHECK. Pure. */
#ifndef MR_COMMON_CORE_ERR_H
#define MR_COMMON_CORE_ERR_H

#define MR_MUST_CHECK     __attribute__((warn_unused_result))
#define MR_PRINTF(fmt, a) __attribute__((format(printf, fmt, a)))

/* clang-format off */
#define ERR_LIST(X)                                                                             \
    X(ERR_INVALID,      -1,  "invalid argument or malformed input")                             \
    X(ERR_TOO_LARGE,    -2,  "larger than its limit")                                           \
    X(ERR_VERSION,      -3,  "written by a newer, incompatible version")                        \
    X(ERR_NOMEM,        -4,  "out of memory")                                                   \
    X(ERR_NOT_FOUND,    -5,  "does not exist")                                                  \
    X(ERR_EXISTS,       -6,  "exists already")                                                  \
    X(ERR_BAD_VERSION,  -7,  "changed by somebody else meanwhile")                              \
    X(ERR_DEPOSED,      -8,  "this controller is not the leader any more")                      \
    X(ERR_NOT_EMPTY,    -9,  "still has children")                                              \
    X(ERR_CONNECTION,   -10, "connection lost; the outcome is unknown")                         \
    X(ERR_SESSION,      -11, "ZooKeeper session expired")                                       \
    X(ERR_AUTH,         -12, "authentication failed or access denied")                          \
    X(ERR_TIMEOUT,      -13, "no answer in time")                                               \
    X(ERR_REFUSED,      -14, "connection refused")                                              \
    X(ERR_UNREACHABLE,  -15, "no route to the host")                                            \
    X(ERR_CLOSED,       -16, "connection closed by the peer")                                   \
    X(ERR_PROTOCOL,     -17, "the peer does not speak the expected protocol")                   \
    X(ERR_REPLY,        -18, "the peer answered with an error")                                 \
    X(ERR_EXHAUSTED,    -19, "no free port is left in the range")                               \
    X(ERR_BUSY,         -20, "busy with another change")                                        \
    X(ERR_IO,           -21, "input/output error")                                              \
    X(ERR_CANCELLED,    -22, "cancelled")                                                       \
    X(ERR_REJECTED,     -23, "refused by a rule")
/* clang-format on */

#define ERR_ENUM(name, value, text) name = (value),
enum err_code { ERR_OK = 0, ERR_LIST(ERR_ENUM) };
#undef ERR_ENUM

/* The constant's name ("ERR_TIMEOUT"; "ERR_?" for a number that isn't a code). Static storage. */
const char *err_name(int code);
/* A sentence fragment for people ("no answer in time"). Static storage. */
const char *err_text(int code);

#endif
