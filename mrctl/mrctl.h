/* What mrctl's commands share: options, exit codes, and one way to ask and to fail. */
#ifndef MR_MRCTL_MRCTL_H
#define MR_MRCTL_MRCTL_H

#include "common/options.h"
#include "mrctl/api.h"

/* Exit codes: the design's interfaces.md. */
enum mrctl_exit { MRCTL_DONE = 0, MRCTL_FAILED = 1, MRCTL_USAGE = 2, MRCTL_NOBODY = 3, MRCTL_TIMED_OUT = 4 };

enum { MRCTL_READ_MS = 5000, MRCTL_COMMAND_MS = 20000, MRCTL_PATH_MAX = 128 };

struct mrctl {
    const struct options_spec *spec;
    struct api *api;
    const char *zk; /* NULL: not given */
    bool json, wait, watch, follow, dry_run, allow_data_loss;
    const char *user, *password_file, *to, *reason, *duration; /* NULL: not given */
    int wait_ms, limit_ms;
};

/* A command gets its operands (argv[0] is the first one after its name) and returns an exit code. */
typedef int (*mrctl_command_fn)(struct mrctl *m, int argc, char **argv);
int cmd_adopt(struct mrctl *m, int argc, char **argv);
int cmd_list(struct mrctl *m, int argc, char **argv);
int cmd_show(struct mrctl *m, int argc, char **argv);
int cmd_topology(struct mrctl *m, int argc, char **argv);
int cmd_history(struct mrctl *m, int argc, char **argv);
int cmd_controllers(struct mrctl *m, int argc, char **argv);
int cmd_proxies(struct mrctl *m, int argc, char **argv);
int cmd_switchover(struct mrctl *m, int argc, char **argv);
int cmd_failover(struct mrctl *m, int argc, char **argv);
int cmd_pause(struct mrctl *m, int argc, char **argv);
int cmd_resume(struct mrctl *m, int argc, char **argv);
int cmd_ack(struct mrctl *m, int argc, char **argv);
int cmd_forget(struct mrctl *m, int argc, char **argv);
int cmd_explain(struct mrctl *m, int argc, char **argv);
int cmd_set(struct mrctl *m, int argc, char **argv);
int cmd_delete(struct mrctl *m, int argc, char **argv);
int cmd_events(struct mrctl *m, int argc, char **argv);

/* "mrctl: <text>" on stderr; returns code. */
int mrctl_fail(enum mrctl_exit code, const char *fmt, ...) MR_PRINTF(2, 3);
/* The instance name in argv[k], or NULL when there are fewer operands. Ends with a usage error (2) when it is
 * no legal name. */
const char *mrctl_name(const struct mrctl *m, int argc, char **argv, int k);
/* GET path for `what` ("show cart"). 0: *answer is the caller's; else it was said why, and this is the exit
 * code. */
int mrctl_get(struct mrctl *m, const char *what, const char *path, struct api_answer *answer) MR_MUST_CHECK;
/* Sends a command for `what` and prints what the leader answers: its plan or its message. Takes `body` (NULL:
 * none). Returns an exit code. */
int mrctl_order(struct mrctl *m, const char *what, const char *method, const char *path, json_t *body,
                int timeout_ms);
/* A command's body with "by", who orders: $USER@host. NULL: out of memory. The caller's. */
json_t *mrctl_body(void);
/* Says on stderr why a call failed (err of api_call()) or was refused (err 0, a status of 400 or more). */
int mrctl_refused(struct mrctl *m, const char *what, int err, const struct api_answer *answer);
/* Prints the answer as the API gave it (--json), or with render. */
void mrctl_print(const struct mrctl *m, const struct api_answer *answer,
                 void (*render)(FILE *out, const json_t *root));

#endif
