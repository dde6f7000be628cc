/* message_decode() on arbitrary bytes: no crash, and what is accepted is written and read back as the same
 * text. */
#include "common/core/message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char first[MESSAGE_TEXT_MAX], second[MESSAGE_TEXT_MAX];
    struct message m, again;
    int err = message_decode((const char *)data, size, &m);
    MUST(err == 0 || err == ERR_INVALID || err == ERR_VERSION || err == ERR_NOT_FOUND);
    if (err != 0)
        return 0;
    ssize_t n = message_encode(&m, first, sizeof first);
    MUST(n > 0);
    MUST(message_decode(first, (size_t)n, &again) == 0);
    MUST(message_encode(&again, second, sizeof second) == n);
    MUST(memcmp(first, second, (size_t)n) == 0);
    return 0;
}
