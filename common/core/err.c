#include "common/core/err.h"

#define ERR_NAME(name, value, text)                                                                          \
    case name:                                                                                               \
        return #name;
#define ERR_TEXT(name, value, text)                                                                          \
    case name:                                                                                               \
        return text;

const char *err_name(int code)
{
    switch (code) {
    case ERR_OK:
        return "ERR_OK";
        ERR_LIST(ERR_NAME)
    default:
        return "ERR_?";
    }
}

const char *err_text(int code)
{
    switch (code) {
    case ERR_OK:
        return "done";
        ERR_LIST(ERR_TEXT)
    default:
        return "unknown error";
    }
}
