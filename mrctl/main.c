/* mrctl: shows and commands a Mr-Redis cluster. One file per family of commands: cmd_*.c. */
#include "common/log.h"
#include "mrctl/mrctl.h"

#include <stdlib.h>
#include <string.h>

struct command {
    const char *name, *operands;
    int least, most; /* operands */
    mrctl_command_fn run;
};

static const struct command commands[] = {
    {"adopt", "NAME HOST:PORT", 2, 2, cmd_adopt},
    {"list", "", 0, 0, cmd_list},
    {"show", "NAME", 1, 1, cmd_show},
    {"topology", "[NAME]", 0, 1, cmd_topology},
    {"history", "[NAME]", 0, 1, cmd_history},
    {"controllers", "", 0, 0, cmd_controllers},
    {"proxies", "", 0, 0, cmd_proxies},
};

static const char *controllers, *zk, *token_file, *user, *password_file;
static bool json, wait_for_it, watch;
static int wait_ms = 60000;

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
                "  proxies               who is there, and whether it follows the newest epochs\n"
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

/* An option of another command is a mistake; a variable of the environment is not. */
static void main_check_option(const struct command *c, bool given, const char *option, const char *variable,
                              const char *owner)
{
    // NOLINTNEXTLINE(concurrency-mt-unsafe): there are no threads yet
    if (given && strcmp(c->name, owner) != 0 && getenv(variable) == NULL)
        options_fail(&spec, "%s is an option of '%s', not of '%s'", option, owner, c->name);
}

static void main_check(const struct command *c, int operands)
{
    if (operands < c->least || operands > c->most)
        options_fail(&spec, "'%s' takes %s", c->name,
                     c->operands[0] != '\0' ? c->operands : "nothing after it");
    main_check_option(c, user != NULL, "--user", "MR_USER", "adopt");
    main_check_option(c, password_file != NULL, "--password-file", "MR_PASSWORD_FILE", "adopt");
    main_check_option(c, wait_for_it, "--wait", "MR_WAIT", "adopt");
    main_check_option(c, watch, "--watch", "MR_WATCH", "topology");
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
