#include "mrctl/duration.h"

#include <string.h>

int duration_parse(const char *text, int64_t *out_ms)
{
    static const char units[] = "smhd";
    static const int64_t unit_ms[] = {1000, 60 * 1000, 3600 * 1000, 86400 * 1000};
    size_t digits = strspn(text, "0123456789");
    int64_t number = 0;
    if (digits == 0 || digits > 9 || text[digits] == '\0' || text[digits + 1] != '\0')
        return ERR_INVALID;
    for (size_t k = 0; k < digits; k++)
        number = number * 10 + (text[k] - '0');
    const char *unit = strchr(units, text[digits]);
    if (unit == NULL || number == 0 || number > 366 * unit_ms[3] / unit_ms[unit - units])
        return ERR_INVALID;
    *out_ms = number * unit_ms[unit - units];
    return 0;
}
