/* mr-proxy: options, signals, and the order in which things start and end. */
#include "common/core/topology_codec.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/options.h"
#include "proxy/control.h"
#include "proxy/status.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { DRAIN_LIMIT_MS = 5000, UNREACHABLE_MS = 10000, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3 };

static struct {
    const char *zk, *id, *bind, *zone, *http, *cache_file, *key_file, *log_level, *max_clients, *scheduling;
    int threads, hold_ms, ack_ms, max_request_bytes, max_held_bytes, max_reply_bytes, max_unread_bytes,
        max_connects_per_s;
    bool exit_if_unreachable, no_io_uring;
} options = {
    .bind = "127.0.0.1",
    .http = "127.0.0.1:7710",
    .log_level = "info",
    .threads = 1,
    .scheduling = "auto",
    .hold_ms = 10000,
    .ack_ms = 1000,
    .max_clients = "0",
    .max_request_bytes = LIMITS_REQUEST_BYTES,
    .max_held_bytes = LIMITS_HELD_BYTES,
    .max_reply_bytes = SESSION_OUT_LIMIT,
    .max_unread_bytes = LIMITS_UNREAD_BYTES,
};

static const struct option_row rows[] = {
    {"zk", 0, OPTION_TEXT, &options.zk, "HOST:PORT[,...][/chroot]", 0, 0,
     "ZooKeeper servers; the chroot is /mr-redis when none is given"},
    {"id", 0, OPTION_TEXT, &options.id, "HOST", 0, 0,
     "this proxy's name; the host's name when none is given"},
    {"bind", 0, OPTION_TEXT, &options.bind, "ADDR", 0, 0, "IP address of the instances' ports"},
    {"zone", 0, OPTION_TEXT, &options.zone, "ZONE", 0, 0,
     "where this host is: an instance with reads=nearest is read from replicas of the same zone first"},
    {"threads", 0, OPTION_INT, &options.threads, "N", 1, CONTROL_THREADS_MAX, "data-path threads"},
    {"scheduling", 0, OPTION_TEXT, &options.scheduling, "HOW", 0, 0,
     "of those threads: auto, while many clients keep one busy it waits for its turn (SCHED_BATCH), which "
     "lets more requests go at once, and where there are two processors a thread that is alone, with --bind "
     "on loopback, goes to that of a Redis of this host; for a lone client that asks again at once it looks "
     "on for 80 µs instead of sleeping; normal, it is scheduled as any other"},
    {"no-io-uring", 0, OPTION_FLAG, &options.no_io_uring, NULL, 0, 0,
     "a system call for each read and write, as where the kernel lets nobody use io_uring"},
    {"http", 0, OPTION_TEXT, &options.http, "ADDR:PORT", 0, 0,
     "health check, routes, statistics, metrics; port 0 chooses one"},
    {"cache-file", 0, OPTION_TEXT, &options.cache_file, "FILE", 0, 0,
     "the last routes, for a start without ZooKeeper"},
    {"hold-ms", 0, OPTION_INT, &options.hold_ms, "MS", 0, 3600000,
     "longest wait of a request for a master, milliseconds"},
    {"ack-ms", 0, OPTION_INT, &options.ack_ms, "MS", 1, 3600000,
     "longest wait for replicas to acknowledge a write of a strict instance, milliseconds"},
    {"max-clients", 0, OPTION_TEXT, &options.max_clients, "TOTAL[:INSTANCE]", 0, 0,
     "clients at once, in total and of one instance; 0: 10000 a thread, and no limit for an instance"},
    {"max-connects-per-s", 0, OPTION_INT, &options.max_connects_per_s, "N", 0, 1000000,
     "new clients a second of one instance; 0: no limit"},
    {"max-request-bytes", 0, OPTION_INT, &options.max_request_bytes, "BYTES", LIMITS_REQUEST_BYTES_MIN,
     INT_MAX, "largest request"},
    {"max-held-bytes", 0, OPTION_INT, &options.max_held_bytes, "BYTES", 0, INT_MAX,
     "requests of one instance that wait for a master, together, each with 64 bytes more; 0: only 1 MB a "
     "client"},
    {"max-reply-bytes", 0, OPTION_INT, &options.max_reply_bytes, "BYTES", SESSION_OUT_MAX, INT_MAX,
     "replies that a client leaves untaken before nothing more is read from it"},
    {"max-unread-bytes", 0, OPTION_INT, &options.max_unread_bytes, "BYTES", 0, INT_MAX,
     "memory of all clients that leave their replies untaken, before each gets 16 KB; 0: no limit"},
    {"key-file", 0, OPTION_TEXT, &options.key_file, "FILE", 0, 0, "cluster key that signs nanomsg messages"},
    {"log-level", 0, OPTION_TEXT, &options.log_level, "LEVEL", 0, 0, "error, warn, info or debug"},
    {"exit-if-unreachable", 0, OPTION_FLAG, &options.exit_if_unreachable, NULL, 0, 0,
     "exit with code 3 when ZooKeeper can't be reached within 10 seconds of the start and no route is known"},
    {NULL, 0, OPTION_FLAG, NULL, NULL, 0, 0, NULL},
};

static const struct options_spec spec = {
    .program = "mr-proxy",
    .synopsis = "--zk HOST:PORT[,...][/chroot] [OPTION...]",
    .about = "Serves each Redis instance on its port of this host and follows its master wherever it goes.",
    .rows = rows,
    .epilogue =
        "SIGTERM: stops accepting, finishes what is in flight and exits 0; a second one exits at once.\n"
        "Exit codes: 0 ended by a signal, 1 could not start, 2 usage, 3 ZooKeeper unreachable\n"
        "(--exit-if-unreachable).",
};

struct proxy {
    struct loop *loop;
    struct control *control;
    struct status *status;
    struct control_config config;
    char id[TOPOLOGY_NAME_MAX + 1], http_host[TOPOLOGY_HOST_MAX + 1];
    uint16_t http_port;
    bool draining;
    int exit_code;
};

static bool main_is_ip(const char *text)
{
    unsigned char address[16];

    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

static void main_check_id(struct proxy *p)
{
    char host[256] = "";

    if (!options.id && gethostname(host, sizeof(host) - 1) == 0)
        options.id = host;
    if (!options.id || topology_name_check(options.id) != 0)
        options_fail(&spec, "--id %s: 1 to %d of A-Z a-z 0-9 . _ - are needed", options.id ? options.id : "",
                     TOPOLOGY_NAME_MAX);
    snprintf(p->id, sizeof(p->id), "%s", options.id);
    options.id = p->id;
}

static void main_check_options(struct proxy *p)
{
    enum log_level level;

    if (!options.zk || options.zk[0] == '\0')
        options_fail(&spec, "--zk (or MR_ZK) is needed: where is ZooKeeper?");
    main_check_id(p);
    if (!main_is_ip(options.bind))
        options_fail(&spec, "--bind %s: an IP address is needed", options.bind);
    if (options.zone && options.zone[0] != '\0' &&
        (strlen(options.zone) > TOPOLOGY_ZONE_MAX || topology_name_check(options.zone) != 0))
        options_fail(&spec, "--zone %s: 1 to %d of A-Z a-z 0-9 . _ - are needed", options.zone,
                     TOPOLOGY_ZONE_MAX);
    if (options_parse_endpoint(options.http, "127.0.0.1", p->http_host, sizeof(p->http_host),
                               &p->http_port) != 0 ||
        !main_is_ip(p->http_host))
        options_fail(&spec, "--http %s: ADDR:PORT or PORT is needed", options.http);
    if (limits_parse_clients(options.max_clients, &p->config.limits) != 0)
        options_fail(&spec, "--max-clients %s: TOTAL or TOTAL:INSTANCE is needed, two numbers",
                     options.max_clients);
    p->config.waits = strcmp(options.scheduling, "auto") == 0;
    if (!p->config.waits && strcmp(options.scheduling, "normal") != 0)
        options_fail(&spec, "--scheduling %s: auto or normal", options.scheduling);
    if (log_level_parse(options.log_level, &level) != 0)
        options_fail(&spec, "--log-level %s: error, warn, info or debug", options.log_level);
    int err = options.key_file ? nn_link_key_read(options.key_file, &p->config.key) : 0;
    if (err != 0)
        options_fail(&spec, "--key-file %s: %s (16 to 256 bytes are needed)", options.key_file,
                     err_text(err));
    log_init("proxy", p->id, level);
}

/* Each client costs a descriptor, so take what the system allows. */
static void main_raise_files(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        log_warn("event=main.files reason=\"%s\" say=\"the limit of open files stays as it is\"",
                 strerror(errno));
}

static void main_on_unreachable(void *ctx)
{
    struct proxy *p = ctx;

    if (!options.exit_if_unreachable || p->draining)
        return;
    log_error(
        "event=main.unreachable hosts=%s say=\"ZooKeeper can't be reached and no route is known: giving up, "
        "as --exit-if-unreachable says\"",
        options.zk);
    p->exit_code = EXIT_UNREACHABLE;
    loop_stop(p->loop);
}

static void main_on_drained(void *ctx)
{
    struct proxy *p = ctx;

    log_info("event=main.drained");
    loop_stop(p->loop);
}

static void main_on_term(void *ctx)
{
    struct proxy *p = ctx;

    if (p->draining) {
        log_info("event=main.end say=\"told twice: ending at once\"");
        loop_stop(p->loop);
        return;
    }
    p->draining = true;
    log_info("event=main.draining limit_ms=%d", DRAIN_LIMIT_MS);
    control_drain(p->control, DRAIN_LIMIT_MS, main_on_drained, p);
}

/* Listening everywhere, its host is reached by its name, which the id is unless it was given another one. */
static void main_advertise_http(struct proxy *p)
{
    bool everywhere = strcmp(p->http_host, "0.0.0.0") == 0 || strcmp(p->http_host, "::") == 0;
    const char *host = everywhere ? p->id : p->http_host;
    bool is_v6 = strchr(host, ':') != NULL;
    char address[TOPOLOGY_HTTP_MAX + 1];

    (void)snprintf(address, sizeof(address), "%s%s%s:%u", is_v6 ? "[" : "", host, is_v6 ? "]" : "",
                   (unsigned)status_port(p->status));
    control_set_http(p->control, address);
}

static int main_start(struct proxy *p)
{
    p->config.zk = options.zk;
    p->config.id = p->id;
    p->config.bind = options.bind;
    p->config.zone = options.zone;
    p->config.cache_path = options.cache_file;
    p->config.threads = options.threads;
    p->config.hold_ms = options.hold_ms;
    p->config.ack_ms = options.ack_ms;
    p->config.io_uring = !options.no_io_uring;
    p->config.unreachable_ms = UNREACHABLE_MS;
    p->config.limits.connects_per_s = (uint32_t)options.max_connects_per_s;
    p->config.limits.data.request_bytes = (uint64_t)options.max_request_bytes;
    p->config.limits.data.held_bytes = (uint64_t)options.max_held_bytes;
    p->config.limits.data.reply_bytes = (uint64_t)options.max_reply_bytes;
    p->config.limits.data.unread_bytes = (uint64_t)options.max_unread_bytes;
    p->config.on_unreachable = main_on_unreachable;
    p->config.ctx = p;
    int err = control_open(&p->control, p->loop, &p->config);
    if (err != 0) {
        log_error("event=main.start_failed zk=%s reason=%s say=\"%s\"", options.zk, err_name(err),
                  err_text(err));
        return err;
    }
    err = status_open(&p->status, p->loop, p->http_host, p->http_port, p->control);
    if (err != 0) {
        log_error("event=main.http_failed http=%s reason=%s say=\"%s; free that address or choose "
                  "another\"",
                  options.http, err_name(err),
                  err == ERR_EXISTS ? "another process listens there" : err_text(err));
        return err;
    }
    main_advertise_http(p);
    err = loop_on_signal(p->loop, SIGTERM, main_on_term, p);
    if (err == 0)
        err = loop_on_signal(p->loop, SIGINT, main_on_term, p);
    return err;
}

/* Requests and replies of some 64 KB come and go: to give their memory back to the kernel each time, and to
 * have it zeroed again, costs a fifth of their time. So some of it is kept. */
static void main_tune_memory(void)
{
    enum { BLOCK_MAX = 4 * 1024 * 1024, KEPT_MAX = 4 * 1024 * 1024 };

    (void)mallopt(M_MMAP_THRESHOLD, BLOCK_MAX);
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_MAX);
}

int main(int argc, char **argv)
{
    static struct proxy p;

    int operands = options_parse(&spec, argc, argv);
    if (operands < argc)
        options_fail(&spec, "%s: no such argument", argv[operands]);
    main_check_options(&p);
    (void)signal(SIGPIPE, SIG_IGN);
    main_tune_memory();
    main_raise_files();
    p.loop = loop_create(true);
    if (!p.loop) {
        log_error("event=main.start_failed reason=\"%s\"", strerror(errno));
        return EXIT_FAILURE;
    }
    int err = main_start(&p);
    if (err == 0) {
        log_info("event=main.started version=%s zk=%s bind=%s threads=%d http=%s:%u", MR_VERSION, options.zk,
                 options.bind, options.threads, p.http_host, (unsigned)status_port(p.status));
        loop_run(p.loop);
    }
    status_close(p.status);
    control_close(p.control);
    loop_destroy(p.loop);
    if (err != 0)
        return err == ERR_INVALID ? EXIT_USAGE : EXIT_FAILURE;
    log_info("event=main.end exit_code=%d", p.exit_code);
    return p.exit_code;
}
