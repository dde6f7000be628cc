/* What does a client see when its master dies? Writes without a pause to one address, a proxy's as a rule.
 *
 * It knows nothing of Sentinels or controllers: when its connection breaks, it dials the same address again
 * and counts that as a reconnect. Orders and answers: tests/lib/writer.h. */
#include "common/options.h"
#include "tests/lib/writer.h"

#include <hiredis/hiredis.h>

struct client {
    const char *host;
    int port;
    int timeout_ms;
};

static redisContext *outage_client_on_connect(void *ctx)
{
    const struct client *c = ctx;
    return writer_dial(c->host, c->port, c->timeout_ms);
}

int main(int argc, char **argv)
{
    struct client c = {.host = "127.0.0.1", .port = 6100, .timeout_ms = 60000};
    struct writer_config config = {
        .program = "outage_client", .connect = outage_client_on_connect, .ctx = &c};
    const struct option_row rows[] = {
        {"host", 0, OPTION_TEXT, &c.host, "HOST", 0, 0, "address to write to"},
        {"port", 'p', OPTION_INT, &c.port, "PORT", 1, 65535, "its port"},
        {"gap-us", 0, OPTION_INT, &config.gap_us, "N", 0, 1000000, "pause between writes, microseconds"},
        {"timeout-ms", 0, OPTION_INT, &c.timeout_ms, "N", 1, 600000, "give a connection up after that"},
        {"seconds", 0, OPTION_INT, &config.seconds, "N", 0, 86400, "one round of N seconds, no orders"},
        {"json", 0, OPTION_FLAG, &config.json, NULL, 0, 0, "with --seconds: JSON instead of text"},
        {0},
    };
    const struct options_spec spec = {
        .program = "outage_client",
        .synopsis = "[OPTIONS]",
        .about = "Writes without a pause and measures the longest time between two acknowledged writes.",
        .rows = rows,
        .epilogue = "Without --seconds, orders are read from stdin: begin, end, verify [HOST:PORT], quit.",
    };
    if (options_parse(&spec, argc, argv) != argc)
        options_fail(&spec, "takes no operands");
    writer_process_init();
    return writer_run(&config);
}
