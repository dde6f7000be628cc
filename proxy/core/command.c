#include "proxy/core/command.h"

#include <assert.h>
#include <string.h>

#include "proxy/core/command_table.inc"

static int compare(const char *word, size_t len, const struct command *c)
{
    size_t n = len < c->len ? len : c->len;
    int order = memcmp(word, c->name, n);

    if (order != 0)
        return order;
    return len < c->len ? -1 : len > c->len;
}

/* Binary search in rows[from..to). */
static const struct command *search(const struct command *rows, size_t from, size_t to, const char *word,
                                    size_t len)
{
    assert(from <= to);
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = compare(word, len, &rows[middle]);
        if (order == 0)
            return &rows[middle];
        if (order < 0)
            to = middle;
        else
            from = middle + 1;
    }
    return NULL;
}

const struct command *command_find(const char *upper_word, size_t len)
{
    assert(upper_word);
    if (len == 0 || upper_word[0] < 'A' || upper_word[0] > 'Z')
        return NULL;
    unsigned letter = (unsigned)(upper_word[0] - 'A');
    return search(commands, letters[letter], letters[letter + 1], upper_word, len);
}

const struct command *command_find_sub(const struct command *c, const char *upper_word, size_t len)
{
    assert(c && upper_word);
    return search(subcommands, c->first_sub, (size_t)c->first_sub + c->n_subs, upper_word, len);
}

const struct command *command_lookup(const char *word0, size_t len0, const char *word1, size_t len1,
                                     uint32_t n_args)
{
    const struct command *c = n_args > 0 ? command_find(word0, len0) : NULL;

    if (!c || c->n_subs == 0 || n_args < 2)
        return c;
    return command_find_sub(c, word1, len1);
}

bool command_arity_ok(const struct command *c, uint32_t n_args)
{
    assert(c && c->arity != 0);
    return c->arity > 0 ? n_args == (uint32_t)c->arity : n_args >= (uint32_t)-c->arity;
}

const struct command *command_table(size_t *n)
{
    *n = sizeof(commands) / sizeof(commands[0]);
    return commands;
}

const struct command *command_subs(const struct command *c, size_t *n)
{
    *n = c->n_subs;
    return subcommands + c->first_sub;
}
