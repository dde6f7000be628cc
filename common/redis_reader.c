#include "common/redis_reader.h"

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stddef.h>

/* hiredis allocates an array of whatever length is announced, before a single element has come. */
static pthread_once_t bounded_once = PTHREAD_ONCE_INIT;
static redisReplyObjectFunctions bounded, unbounded;

static void *redis_reader_on_array(const redisReadTask *task, int elements)
{
    return elements > REDIS_READER_ELEMENTS_MAX ? NULL : unbounded.createArray(task, elements);
}

/* The default functions can be had only from a reader. */
static void redis_reader_on_once(void)
{
    redisReader *reader = redisReaderCreate();

    if (!reader)
        return;
    unbounded = bounded = *reader->fn;
    bounded.createArray = redis_reader_on_array;
    redisReaderFree(reader);
}

redisReader *redis_reader_create(void)
{
    redisReader *reader;

    (void)pthread_once(&bounded_once, redis_reader_on_once);
    reader = bounded.createArray ? redisReaderCreate() : NULL;
    if (reader)
        reader->fn = &bounded;
    return reader;
}
