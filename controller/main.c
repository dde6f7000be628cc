/* mr-controller: options, start-up order, signals, shutdown. Everything else is wired together here and done
 * elsewhere.
 *
 *   zk_store ─► engine ─► announcer ─► publisher child ─► proxies
 *                 ▲ ├──► monitor ─► members
 *   ingest ───────┘ └──► voters ─► other controllers      http_api, adopter
 */
#include "common/log.h"
#include "common/loop.h"
#include "common/nn_link.h"
#include "common/options.h"
#include "common/tcp.h"
#include "controller/adopt.h"
#include "controller/announcer.h"
#include "controller/core/outlook.h"
#include "controller/engine.h"
#include "controller/http_api.h"
#include "controller/ingest.h"
#include "controller/leader_watch.h"
#include "controller/publisher.h"
#include "controller/voters.h"
#include "controller/zk_store.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, EXIT_UNREACHABLE = 3, TOKEN_MAX = 512, CLOSE_WAIT_MS = 1000 };
static const double unreachable_s = 10.0; /* between two lines about a ZooKeeper that can't be reached */

struct main_options {
    const char *zk, *id, *advertise, *http, *port_range, *launcher, *data_dir, *key_file, *token_file,
        *log_level;
    int pub_port, ingest_port, vote_port, session_timeout_ms;
    bool exit_if_unreachable;
};

struct controller {
    struct main_options options;
    struct loop *loop;
    struct announcer *announcer;
    struct engine *engine;
    struct ingest *ingest;
    struct voters *voters;
    struct leader_watch *leader_watch;
    struct http_api *http;
    struct zk_store *store;
    struct adopter *adopter;
    struct nn_link_key key;
    char token[TOKEN_MAX];
    char client_name[TOPOLOGY_NAME_MAX + 16];
    struct topology_controller self;
    char http_host[TOPOLOGY_HOST_MAX + 1];
    uint16_t http_port, port_low, port_high;
    ev_timer unreachable;
    bool ever_connected;
    int exit_code;
};

/* ---- options --------------------------------------------------------------------------------------------
 */

static struct main_options options = {
    .http = "",
    .pub_port = 7701,
    .ingest_port = 7702,
    .vote_port = 7703,
    .port_range = "6100-6300",
    .session_timeout_ms = 2000,
    .launcher = "none",
    .log_level = "info",
};

static const struct option_row rows[] = {
    {"zk", 0, OPTION_TEXT, &options.zk, "HOST:PORT[,...][/chroot]", 0, 0,
     "ZooKeeper servers; chroot /mr-redis unless given"},
    {"id", 0, OPTION_TEXT, &options.id, "ID", 0, 0, "name of this controller, unique among them"},
    {"advertise", 0, OPTION_TEXT, &options.advertise, "HOST", 0, 0,
     "address that proxies and mrctl reach this host by; default: its first address that is not loopback"},
    {"http", 0, OPTION_TEXT, &options.http, "ADDR:PORT", 0, 0,
     "HTTP API; default 127.0.0.1:7700, with --token-file 0.0.0.0:7700; port 0: choose one"},
    {"pub-port", 0, OPTION_INT, &options.pub_port, "PORT", 0, 65535,
     "routes to the proxies (nanomsg PUB); 0: choose one"},
    {"ingest-port", 0, OPTION_INT, &options.ingest_port, "PORT", 0, 65535,
     "acknowledgements and hints from the proxies (nanomsg PULL); 0: choose one"},
    {"vote-port", 0, OPTION_INT, &options.vote_port, "PORT", 0, 65535,
     "the other controllers ask here how this one sees a member (nanomsg RESPONDENT); 0: choose one"},
    {"port-range", 0, OPTION_TEXT, &options.port_range, "LOW-HIGH", 0, 0,
     "ports that instances are given on every host"},
    {"session-timeout-ms", 0, OPTION_INT, &options.session_timeout_ms, "MS", 100, 60000,
     "ZooKeeper session timeout, milliseconds: how long a leader's silence goes unnoticed; a process that "
     "ends "
     "is seen at once"},
    {"launcher", 0, OPTION_TEXT, &options.launcher, "exec|none", 0, 0,
     "reserved: how members are launched; this version only adopts running ones"},
    {"data-dir", 0, OPTION_TEXT, &options.data_dir, "DIR", 0, 0,
     "reserved: where launched members keep their data"},
    {"key-file", 0, OPTION_TEXT, &options.key_file, "FILE", 0, 0,
     "cluster key (16 to 256 bytes): signs what controllers and proxies tell each other"},
    {"token-file", 0, OPTION_TEXT, &options.token_file, "FILE", 0, 0,
     "bearer token that HTTP commands must show"},
    {"exit-if-unreachable", 0, OPTION_FLAG, &options.exit_if_unreachable, NULL, 0, 0,
     "exit with code 3 when ZooKeeper can't be reached within 10 seconds of the start"},
    {"log-level", 0, OPTION_TEXT, &options.log_level, "LEVEL", 0, 0, "error, warn, info or debug"},
    {NULL, 0, OPTION_FLAG, NULL, NULL, 0, 0, NULL},
};

static const struct options_spec spec = {
    .program = "mr-controller",
    .synopsis = "--zk HOST:PORT[,...][/chroot] --id ID [OPTION...]",
    .about =
        "Watches Redis masters and replicas, promotes a replica when a master dies, and tells the proxies.\n"
        "Run three of them; one leads, the others take over.",
    .rows = rows,
    .epilogue =
        "Exit codes: 0 ended by SIGTERM or SIGINT (leadership is handed over first), 1 could not start,\n"
        "2 usage, 3 ZooKeeper unreachable (--exit-if-unreachable).",
};

/* Writes an IP literal for a name, an address or (NULL) this host's first address that isn't loopback. */
static bool main_resolve(const char *name, char *out, size_t size)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    if (name) {
        bool ok = getaddrinfo(name, NULL, &hints, &found) == 0 &&
                  getnameinfo(found->ai_addr, found->ai_addrlen, out, (socklen_t)size, NULL, 0,
                              NI_NUMERICHOST) == 0;
        if (found)
            freeaddrinfo(found);
        return ok;
    }
    struct ifaddrs *list = NULL;
    snprintf(out, size, "127.0.0.1");
    if (getifaddrs(&list) != 0)
        return true;
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        const struct sockaddr_in *in = (const void *)i->ifa_addr;
        if ((ntohl(in->sin_addr.s_addr) >> 24) != 127) {
            inet_ntop(AF_INET, &in->sin_addr, out, (socklen_t)size);
            break;
        }
    }
    freeifaddrs(list);
    return true;
}

static void main_check_secrets(struct controller *c)
{
    const struct main_options *o = &c->options;
    int err = o->key_file ? nn_link_key_read(o->key_file, &c->key) : 0;
    if (err != 0)
        options_fail(&spec, "--key-file %s: %s (16 to 256 bytes are needed)", o->key_file, err_text(err));
    err = o->token_file ? options_read_secret(o->token_file, c->token, sizeof(c->token)) : 0;
    if (err != 0 || (o->token_file && c->token[0] == '\0'))
        options_fail(&spec, "--token-file %s: %s", o->token_file, err ? err_text(err) : "it is empty");
    const char *host = o->token_file ? "0.0.0.0" : "127.0.0.1";
    const char *text = o->http[0] != '\0' ? o->http : "7700";
    if (options_parse_endpoint(text, host, c->http_host, sizeof(c->http_host), &c->http_port) != 0)
        options_fail(&spec, "--http %s: ADDR:PORT or PORT is needed", text);
    if (!o->token_file && !tcp_is_loopback(c->http_host))
        options_fail(&spec, "--http %s: without --token-file only a loopback address is allowed", text);
}

static void main_check_options(struct controller *c)
{
    struct main_options *o = &c->options;
    enum log_level level;
    *o = options;
    if (!o->zk)
        options_fail(&spec, "--zk (or MR_ZK) is needed: where is ZooKeeper?");
    if (!o->id)
        options_fail(&spec, "--id (or MR_ID) is needed: a name for this controller");
    if (topology_name_check(o->id) != 0)
        options_fail(&spec, "--id %s: 1 to 64 of A-Z a-z 0-9 . _ - are allowed", o->id);
    if (log_level_parse(o->log_level, &level) != 0)
        options_fail(&spec, "--log-level %s: error, warn, info or debug", o->log_level);
    if (strcmp(o->launcher, "none") != 0 && strcmp(o->launcher, "exec") != 0)
        options_fail(&spec, "--launcher %s: exec or none", o->launcher);
    if (options_parse_range(o->port_range, &c->port_low, &c->port_high) != 0)
        options_fail(&spec, "--port-range %s: LOW-HIGH with 1 to 65535 is needed", o->port_range);
    if (!main_resolve(o->advertise, c->self.host, sizeof(c->self.host)))
        options_fail(&spec, "--advertise %s: no such host", o->advertise);
    main_check_secrets(c);
    log_init("controller", o->id, level);
}

/* ---- wiring ---------------------------------------------------------------------------------------------
 */

static void main_on_role(void *ctx, enum election_role role, uint64_t term, const char *leader)
{
    struct controller *c = ctx;
    log_info("event=election.%s term=%" PRIu64 " leader=%s", election_role_name(role), term,
             leader[0] != '\0' ? leader : "-");
    bool stands_by = role == ELECTION_STANDBY;
    leader_watch_set_leader(c->leader_watch, stands_by ? leader : "",
                            stands_by ? zk_store_leader_term(c->store) : 0);
    engine_on_lead(c->engine, role == ELECTION_LEADER ? term : 0);
    if (c->http)
        http_api_on_leader(c->http, leader);
}

static void main_on_record(void *ctx, const struct topology_instance *record, int32_t version,
                           int64_t revision)
{
    engine_on_record(((struct controller *)ctx)->engine, record, version, revision);
}

static void main_on_corrupt(void *ctx, const char *name, const char *why)
{
    engine_on_corrupt(((struct controller *)ctx)->engine, name, why);
}

static void main_on_removed(void *ctx, const char *name)
{
    engine_on_removed(((struct controller *)ctx)->engine, name);
}

static void main_on_connected(void *ctx, bool connected)
{
    struct controller *c = ctx;
    if (connected) {
        c->ever_connected = true;
        ev_timer_stop(loop_ev(c->loop), &c->unreachable);
        log_info("event=zookeeper.connected hosts=%s", c->options.zk);
        return;
    }
    log_warn(
        "event=zookeeper.lost hosts=%s next=\"no promotion until it is back; proxies keep their routes\"",
        c->options.zk);
    ev_timer_again(loop_ev(c->loop), &c->unreachable);
}

static void main_on_unreachable(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct controller *c = timer->data;
    (void)ev;
    (void)revents;
    log_error("event=zookeeper.unreachable hosts=%s next=\"%s\"", c->options.zk,
              c->options.exit_if_unreachable && !c->ever_connected
                  ? "exiting, as --exit-if-unreachable asks"
                  : "trying on; check the address and the servers");
    if (c->options.exit_if_unreachable && !c->ever_connected) {
        c->exit_code = EXIT_UNREACHABLE;
        loop_stop(c->loop);
    }
}

static void main_on_controllers(void *ctx, const struct topology_controller *list, size_t n)
{
    struct controller *c = ctx;
    voters_set_peers(c->voters, list, n);
    if (leader_watch_set_controllers(c->leader_watch, list, n) != 0)
        log_warn("event=leader_watch.no_memory next=\"a dead leader is noticed by its session's end\"");
    engine_on_controllers(c->engine, (uint32_t)n);
}

static void main_on_proxies(void *ctx, const char *const *ids, size_t n)
{
    engine_on_proxies(((struct controller *)ctx)->engine, ids, n);
}

static void main_on_maintenance(void *ctx, const struct topology_pause *pause)
{
    struct controller *c = ctx;
    engine_on_maintenance(c->engine, pause);
    http_api_on_maintenance(c->http, pause);
}

static void main_on_leader_gone(void *ctx, const char *id, uint64_t term)
{
    struct controller *c = ctx;
    log_warn("event=leader.gone leader=%s term=%" PRIu64 " next=\"its election znode is removed\"", id, term);
    zk_store_leader_gone(c->store, term);
}

/* Before the store is there nobody leads, and after it nobody does any more. */
static void main_on_unfit(void *ctx, bool may_lead)
{
    struct controller *c = ctx;
    if (c->store)
        zk_store_set_fit(c->store, may_lead);
}

static void main_on_lag(void *ctx, int64_t lag_us)
{
    struct controller *c = ctx;
    engine_on_lag(c->engine, lag_us);
    if (c->store)
        zk_store_on_lag(c->store, lag_us);
}

static void main_on_view(void *ctx, const char *instance, const struct topology_address *member,
                         struct health_view *out)
{
    engine_view(((struct controller *)ctx)->engine, instance, member, out);
}

static void main_on_votes(void *ctx, const char *instance, const struct topology_address *member,
                          const struct health_votes *votes)
{
    engine_on_votes(((struct controller *)ctx)->engine, instance, member, votes);
}

static void main_on_change(void *ctx, const char *instance, int64_t revision)
{
    struct controller *c = ctx;
    if (c->http)
        http_api_on_change(c->http, instance, revision);
}

static void main_on_event(void *ctx, const char *instance, enum failover_level level, const char *text)
{
    struct controller *c = ctx;
    if (c->http)
        http_api_on_event(c->http, instance, level, text);
}

static void main_on_stop(void *ctx)
{
    struct controller *c = ctx;
    log_info("event=controller.stopping leads=%s", engine_term(c->engine) ? "yes" : "no");
    http_api_set_stopping(c->http);
    loop_stop(c->loop);
}

static int main_say(int err, const char *what, const char *host, int port)
{
    if (err != 0)
        log_error("event=controller.start_failed what=\"%s\" address=%s:%d reason=\"%s\" next=\"free that "
                  "address or choose another\"",
                  what, host, port, err == ERR_EXISTS ? "another process listens there" : err_text(err));
    return err;
}

static int main_open_voters(struct controller *c, const char *bind)
{
    const struct main_options *o = &c->options;
    struct voters_config voters = {.id = o->id,
                                   .host = bind,
                                   .port = (uint16_t)o->vote_port,
                                   .key = &c->key,
                                   .view = main_on_view,
                                   .on_votes = main_on_votes,
                                   .ctx = c};
    int err = main_say(voters_open(&c->voters, c->loop, &voters), "--vote-port", bind, o->vote_port);
    if (err != 0)
        return err;
    engine_set_voters(c->engine, c->voters);
    return leader_watch_open(&c->leader_watch, c->loop, main_on_leader_gone, c);
}

/* The announcer first: its child must be started before anything here has used nanomsg. */
static int main_open_servers(struct controller *c)
{
    const struct main_options *o = &c->options;
    const char *bind = tcp_is_loopback(c->self.host) ? c->self.host : "0.0.0.0";
    struct announcer_config announcer = {
        .id = o->id, .host = bind, .port = (uint16_t)o->pub_port, .key = &c->key};
    int err = main_say(announcer_open(&c->announcer, c->loop, &announcer), "--pub-port", bind, o->pub_port);
    if (err != 0)
        return err;
    snprintf(c->client_name, sizeof(c->client_name), "mr-controller-%s", o->id);
    struct engine_config engine = {.client_name = c->client_name,
                                   .announcer = c->announcer,
                                   .on_change = main_on_change,
                                   .on_event = main_on_event,
                                   .on_unfit = main_on_unfit,
                                   .ctx = c};
    err = main_say(engine_open(&c->engine, c->loop, &engine), "engine", "-", 0);
    if (err == 0)
        err = main_say(ingest_open(&c->ingest, c->loop, bind, (uint16_t)o->ingest_port, &c->key, c->engine),
                       "--ingest-port", bind, o->ingest_port);
    if (err == 0)
        err = main_open_voters(c, bind);
    if (err != 0)
        return err;
    struct http_api_config http = {.id = o->id,
                                   .host = c->http_host,
                                   .port = c->http_port,
                                   .token = c->token[0] != '\0' ? c->token : NULL};
    return main_say(http_api_open(&c->http, c->loop, &http, c->engine), "--http", c->http_host, c->http_port);
}

static int main_open_store(struct controller *c)
{
    struct topology_controller *self = &c->self;
    snprintf(self->id, sizeof(self->id), "%s", c->options.id);
    snprintf(self->version, sizeof(self->version), "%s", MR_VERSION);
    self->pub_port = announcer_port(c->announcer);
    self->ingest_port = ingest_port(c->ingest);
    self->vote_port = voters_port(c->voters);
    self->http_port = http_api_port(c->http);
    self->started_ms = loop_wall_ms();
    struct zk_store_config store = {
        .hosts = c->options.zk,
        .session_timeout_ms = c->options.session_timeout_ms,
        .self = self,
        .port_low = c->port_low,
        .port_high = c->port_high,
        .ctx = c,
        .on_role = main_on_role,
        .on_record = main_on_record,
        .on_corrupt = main_on_corrupt,
        .on_removed = main_on_removed,
        .on_connected = main_on_connected,
        .on_controllers = main_on_controllers,
        .on_proxies = main_on_proxies,
        .on_maintenance = main_on_maintenance,
    };
    int err = zk_store_open(&c->store, c->loop, &store);
    if (err != 0) {
        log_error("event=controller.start_failed what=\"--zk\" hosts=%s reason=\"%s\" "
                  "next=\"HOST:PORT[,...][/chroot]\"",
                  c->options.zk, err_text(err));
        return err;
    }
    engine_set_store(c->engine, c->store);
    err = adopter_open(&c->adopter, c->loop, c->store, c->port_low, c->port_high);
    if (err == 0)
        http_api_set_store(c->http, c->store, c->adopter);
    return err;
}

static int main_open(struct controller *c)
{
    c->loop = loop_create(true);
    if (!c->loop)
        return ERR_NOMEM;
    int err = main_open_servers(c);
    if (err == 0)
        err = main_open_store(c);
    if (err == 0)
        err = loop_on_signal(c->loop, SIGTERM, main_on_stop, c);
    if (err == 0)
        err = loop_on_signal(c->loop, SIGINT, main_on_stop, c);
    if (err != 0)
        return err;
    loop_on_lag(c->loop, OUTLOOK_LAG_US, main_on_lag, c);
    ev_init(&c->unreachable, main_on_unreachable);
    c->unreachable.data = c;
    c->unreachable.repeat = unreachable_s;
    ev_timer_again(loop_ev(c->loop), &c->unreachable);
    log_info("event=controller.started version=%s advertise=%s pub=%u ingest=%u vote=%u http=%s:%u zk=%s",
             MR_VERSION, c->self.host, c->self.pub_port, c->self.ingest_port, c->self.vote_port, c->http_host,
             c->self.http_port, c->options.zk);
    return 0;
}

/* Leadership goes first, so that a standby takes over while we are still tidying up. */
static void main_close(struct controller *c)
{
    if (c->engine)
        engine_on_lead(c->engine, 0);
    if (c->adopter)
        adopter_close(c->adopter);
    if (c->leader_watch)
        leader_watch_close(c->leader_watch);
    if (c->store)
        zk_store_close(c->store, CLOSE_WAIT_MS);
    c->store = NULL;
    if (c->loop)
        ev_timer_stop(loop_ev(c->loop), &c->unreachable);
    http_api_close(c->http);
    c->http = NULL; /* what the engine still says reaches nobody */
    ingest_close(c->ingest);
    if (c->engine)
        engine_set_voters(c->engine, NULL);
    if (c->voters)
        voters_close(c->voters);
    engine_close(c->engine);
    announcer_close(c->announcer);
    if (c->loop)
        loop_destroy(c->loop);
}

int main(int argc, char **argv)
{
    static struct controller c; /* zeroed; too large for comfort on the stack */
    publisher_child_main_if_asked(argc, argv);
    int first = options_parse(&spec, argc, argv);
    if (first < argc)
        options_fail(&spec, "\"%s\" is not an option, and there are no operands", argv[first]);
    main_check_options(&c);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; /* three connections an instance */
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    int err = main_open(&c);
    if (err == 0)
        loop_run(c.loop);
    main_close(&c);
    if (err == 0)
        log_info("event=controller.stopped");
    if (err == ERR_INVALID)
        return EXIT_USAGE; /* an option that only its user could judge: --zk */
    return err != 0 ? 1 : c.exit_code;
}
