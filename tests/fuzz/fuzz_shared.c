/* Fuzz target of the proxy's shared connections: the input is the dice of the model. */
#include "tests/fuzz/shared_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_run(data, size);
    return 0;
}
