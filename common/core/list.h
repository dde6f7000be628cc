/* Intrusive doubly linked list: the node lives inside the owner, so nothing is allocated. Pure.
 *
 * A list head is a struct list that points at itself. A node that is in no list is "unlinked"
 * after list_init() or list_remove(); removing it again is harmless. */
#ifndef MR_COMMON_CORE_LIST_H
#define MR_COMMON_CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

/* The structure of the given type whose member `field` is *node. */
#define list_entry(node, type, field) ((type *)(void *)((char *)(node)-offsetof(type, field)))

/* Iterates; the body may remove `node` itself from the list, nothing else. */
#define list_for_each(node, head)                                                                            \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head);                        \
         node = node##_next, node##_next = node->next)

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_push_back(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* The first node, or NULL when the list is empty. */
static inline struct list *list_first(const struct list *head)
{
    return list_empty(head) ? NULL : head->next;
}

#endif
