/* mrctl: shows and commands a Mr-Redis cluster. One file per family of commands: cmd_*.c. */
#include "common/log.h"
#include "mrctl/mrctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
    const char *name, *operands;
    int least, most; /* operands */
    mrctl_command_fn run;
};

enum { OPERANDS_MAX = 64, LIMIT_MS = 5000 };

static const struct command commands[] = {
    {"adopt", "NAME HOST:PORT", 2, 2, cmd_adopt},
    {"list", "", 0, 0, cmd_list},
    {"show", "NAME", 1, 1, cmd_show},
    {"topology", "[NAME]", 0, 1, cmd_topology},
    {"history", "[NAME]", 0, 1, cmd_history},
    {"controllers", "", 0, 0, cmd_controllers},
    {"proxies", "[NAME]", 0, 1, cmd_proxies},
    {"switchover", "NAME", 1, 1, cmd_switchover},
    {"failover", "NAME", 1, 1, cmd_failover},
    {"explain", "NAME", 1, 1, cmd_explain},
    {"pause", "[NAME]", 0, 1, cmd_pause},
    {"resume", "[NAME]", 0, 1, cmd_resume},
    {"ack", "NAME", 1, 1, cmd_ack},
    {"set", "NAME key=value…, or NAME HOST:PORT key=value…", 2, OPERANDS_MAX, cmd_set},
    {"forget", "NAME HOST:PORT", 2, 2, cmd_forget},
    {"delete", "NAME", 1, 1, cmd_delete},
    {"events", "[NAME]", 0, 1, cmd_events},
};

static const char *controllers, *zk, *token_file, *user, *password_file, *to, *reason, *duration;
static bool json, wait_for_it, watch, follow, dry_run, allow_data_loss;
static int wait_ms = 60000, limit_ms = LIMIT_MS;

static const struct option_row rows[] = {
    {"controllers", 0, OPTION_TEXT, &controllers, "URL,…", 0, 0, "HTTP addresses of controllers"},
    {"zk", 0, OPTION_TEXT, &zk, "HOST:PORT[,…][/chroot]", 0, 0,
     "finds the controllers there, and reads from it when none answers"},
    {"json", 0, OPTION_FLAG, &json, NULL, 0, 0, "print JSON"},
    {"token-file", 0, OPTION_TEXT, &token_file, "FILE", 0, 0, "bearer token that commands need"},
    {"user", 0, OPTION_TEXT, &user, "USER", 0, 0, "adopt: Redis user that the controllers log in as"},
    {"password-file", 0, OPTION_TEXT, &password_file, "FILE", 0, 0, "adopt: its password"},
    {"wait", 0, OPTION_FLAG, &wait_for_it, NULL, 0, 0,
     "adopt: until the instance is stable and its replicas linked"},
    {"wait-ms", 0, OPTION_INT, &wait_ms, "MS", 1, 86400000, "adopt --wait: longest wait, milliseconds"},
    {"watch", 'w', OPTION_FLAG, &watch, NULL, 0, 0, "topology: draw again whenever something changes"},
    {"follow", 'f', OPTION_FLAG, &follow, NULL, 0, 0, "events: go on with those that come"},
    {"to", 0, OPTION_TEXT, &to, "HOST:PORT", 0, 0,
     "switchover, failover: the member that becomes master; default: the best one"},
    {"dry-run", 0, OPTION_FLAG, &dry_run, NULL, 0, 0,
     "switchover, failover: only say what would be done, or why not"},
    {"limit-ms", 0, OPTION_INT, &limit_ms, "MS", 100, 60000,
     "switchover: given up and undone when it takes longer, milliseconds"},
    {"allow-data-loss", 0, OPTION_FLAG, &allow_data_loss, NULL, 0, 0,
     "failover: promote although writes may be lost"},
    {"reason", 0, OPTION_TEXT, &reason, "TEXT", 0, 0, "pause: why, for those who wonder"},
    {"for", 0, OPTION_TEXT, &duration, "TIME", 0, 0,
     "pause: ends by itself after 90s, 15m, 2h, 1d; default: when resumed"},
    {NULL, 0, OPTION_FLAG, NULL, NULL, 0, 0, NULL},
};

static const struct options_spec spec = {
    .program = "mrctl",
    .synopsis = "[--controllers URL,… | --zk HOST:PORT,…] [options] COMMAND",
    .about = "Shows and commands a Mr-Redis cluster. Without --controllers and --zk it asks\n"
             "http://127.0.0.1:7700.",
    .rows = rows,
    .epilogue = "commands:\n"
                "  adopt NAME HOST:PORT [--user U] [--password-file F] [--wait]\n"
                "                        take over an existing master; its replicas are discovered\n"
                "  list                  the instances\n"
                "  show NAME             everything about one instance\n"
                "  topology [NAME] [-w]  instances with members, proxies and last failover, as a tree\n"
                "  history [NAME]        past failovers and changes, with evidence and timeline\n"
                "  controllers           who leads, who stands by\n"
                "  proxies [NAME]        who is there, and whether it follows the newest epochs; of\n"
                "                        one: what its clients get, asked of the proxy itself\n"
                "  switchover NAME [--to HOST:PORT] [--limit-ms N] [--dry-run]\n"
                "                        planned: another member becomes master, nothing is lost\n"
                "  failover NAME [--to HOST:PORT] [--allow-data-loss] [--dry-run]\n"
                "                        forced: promote although the master may live\n"
                "  explain NAME          would a failover work now? the arithmetic and the reason\n"
                "  pause [NAME] [--reason TEXT] [--for 2h]\n"
                "                        no failover by itself: of one instance, or of all\n"
                "  resume [NAME]         ends it\n"
                "  ack NAME              the last failover was looked at: ends its cooldown\n"
                "  set NAME key=value…   policy: durability, acks, unreachable_after_ms,\n"
                "                        hung_after_ms, cooldown_ms, min_replicas_to_write,\n"
                "                        min_replicas_max_lag, reads (master, replica, nearest),\n"
                "                        max_lag_bytes, hold_ms, auto_failover, fence (none,\n"
                "                        acl), fence_user\n"
                "  set NAME HOST:PORT key=value…\n"
                "                        of a member: priority (prefer, neutral, prefer_not,\n"
                "                        must_not), zone\n"
                "  forget NAME HOST:PORT it is a member no more; strict: once enough others have all\n"
                "                        that it had\n"
                "  delete NAME           forget the instance; its redis-servers run on\n"
                "  events [-f] [NAME]    what was decided and noticed of late; -f: and from now on\n"
                "\n"
                "exit codes: 0 done, 1 refused or failed, 2 usage, 3 nobody reachable, 4 timed out",
};

static const struct command *main_find_command(const char *name)
{
    for (size_t k = 0; k < sizeof commands / sizeof commands[0]; k++)
        if (strcmp(commands[k].name, name) == 0)
            return &commands[k];
    options_fail(&spec, "there is no command '%s'", name);
}

/* An option of another command is a mistake; a variable of the environment is not. owners: the commands that
 * have it, between blanks. */
static void main_check_option(const struct command *c, bool given, const char *option, const char *variable,
                              const char *owners)
{
    char word[32];
    (void)snprintf(word, sizeof word, " %s ", c->name);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): there are no threads yet
    if (given && strstr(owners, word) == NULL && getenv(variable) == NULL)
        options_fail(&spec, "%s is an option of%.*s, not of '%s'", option, (int)strlen(owners) - 1, owners,
                     c->name);
}

static void main_check(const struct command *c, int operands)
{
    const struct {
        bool given;
        const char *option, *variable, *owners;
    } owned[] = {
        {user != NULL, "--user", "MR_USER", " adopt "},
        {password_file != NULL, "--password-file", "MR_PASSWORD_FILE", " adopt "},
        {wait_for_it, "--wait", "MR_WAIT", " adopt "},
        {watch, "--watch", "MR_WATCH", " topology "},
        {follow, "--follow", "MR_FOLLOW", " events "},
        {to != NULL, "--to", "MR_TO", " switchover failover "},
        {dry_run, "--dry-run", "MR_DRY_RUN", " switchover failover "},
        {limit_ms != LIMIT_MS, "--limit-ms", "MR_LIMIT_MS", " switchover "},
        {allow_data_loss, "--allow-data-loss", "MR_ALLOW_DATA_LOSS", " failover "},
        {reason != NULL, "--reason", "MR_REASON", " pause "},
        {duration != NULL, "--for", "MR_FOR", " pause "},
    };
    if (operands < c->least || operands > c->most)
        options_fail(&spec, "'%s' takes %s", c->name,
                     c->operands[0] != '\0' ? c->operands : "nothing after it");
    for (size_t k = 0; k < sizeof owned / sizeof owned[0]; k++)
        main_check_option(c, owned[k].given, owned[k].option, owned[k].variable, owned[k].owners);
}

int main(int argc, char **argv)
{
    static char token[1024];
    int first = options_parse(&spec, argc, argv);
    if (first >= argc)
        options_fail(&spec, "a command is needed");
    const struct command *command = main_find_command(argv[first]);
    main_check(command, argc - first - 1);
    if (token_file != NULL && options_read_secret(token_file, token, sizeof token) != 0)
        return mrctl_fail(MRCTL_FAILED, "no token of 1 to %zu bytes can be read from %s", sizeof token - 1,
                          token_file);
    log_init("mrctl", "", LOG_LEVEL_ERROR);
    struct mrctl m = {
        .spec = &spec,
        .zk = zk,
        .json = json,
        .wait = wait_for_it,
        .watch = watch,
        .user = user,
        .password_file = password_file,
        .wait_ms = wait_ms,
        .follow = follow,
        .dry_run = dry_run,
        .allow_data_loss = allow_data_loss,
        .to = to,
        .reason = reason,
        .duration = duration,
        .limit_ms = limit_ms,
    };
    const struct api_config config = {
        .controllers = controllers, .zk = zk, .token = token[0] != '\0' ? token : NULL};
    int err = api_open(&m.api, &config);
    if (m.api == NULL)
        return mrctl_fail(MRCTL_FAILED, "%s", err_text(err));
    if (err != 0)
        options_fail(&spec, "%s", api_why(m.api));
    int code = command->run(&m, argc - first - 1, argv + first + 1);
    api_close(m.api);
    return code;
}
