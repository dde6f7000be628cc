/* Fuzz target of held replies: the input is the dice of the model. */
#include "tests/fuzz/durable_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    durable_model_run(data, size, NULL);
    return 0;
}
