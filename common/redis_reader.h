/* hiredis' reply parser with a limit on what a peer can make it allocate. */
#ifndef MR_COMMON_REDIS_READER_H
#define MR_COMMON_REDIS_READER_H

#include <hiredis/read.h>

enum { REDIS_READER_ELEMENTS_MAX = 64 * 1024 }; /* of one array; more is an error ("Out of memory") */

/* NULL when out of memory. Freed by redisReaderFree(). */
redisReader *redis_reader_create(void);

#endif
