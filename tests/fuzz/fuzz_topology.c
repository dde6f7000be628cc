/* Every decoder of topology_codec.h and pause_codec.h on arbitrary bytes: no crash, and what is accepted is
 * written and read back as the same text. */
#include "common/core/pause_codec.h"
#include "common/core/topology_codec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static char first[TOPOLOGY_TEXT_MAX], second[TOPOLOGY_TEXT_MAX], why[200];

#define ROUND_TRIP(kind)                                                                                     \
    static void round_trip_##kind(const char *text, size_t len)                                              \
    {                                                                                                        \
        struct topology_##kind value, again;                                                                 \
        why[0] = '\0';                                                                                       \
        int err = topology_decode_##kind(text, len, &value, why, sizeof why);                                \
        MUST((err == 0) == (why[0] == '\0'));                                                                \
        MUST(err == 0 || err == ERR_INVALID || err == ERR_VERSION);                                          \
        if (err != 0)                                                                                        \
            return;                                                                                          \
        ssize_t n = topology_encode_##kind(&value, first, sizeof first);                                     \
        MUST(n > 0);                                                                                         \
        MUST(topology_decode_##kind(first, (size_t)n, &again, NULL, 0) == 0);                                \
        MUST(topology_encode_##kind(&again, second, sizeof second) == n);                                    \
        MUST(memcmp(first, second, (size_t)n) == 0);                                                         \
    }
ROUND_TRIP(instance)
ROUND_TRIP(history)
ROUND_TRIP(controller)
ROUND_TRIP(proxy)
ROUND_TRIP(pause)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    round_trip_instance(text, size);
    round_trip_history(text, size);
    round_trip_controller(text, size);
    round_trip_proxy(text, size);
    round_trip_pause(text, size);
    return 0;
}
