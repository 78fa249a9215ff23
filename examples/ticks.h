/* How late the ticks of an event loop are: a loop that is held up by anything ticks late.
 * Keeps true: every tick counts, also one that was missed because an earlier one came too late. */
#ifndef DULY_EXAMPLES_TICKS_H
#define DULY_EXAMPLES_TICKS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TICK_NS UINT64_C(1000000)

typedef struct {
    uint64_t next; /* when the next tick is due */
    uint64_t *late;
    size_t count;
    size_t room;
} ticks;

static inline uint64_t ticks_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Forgets what was; the next tick that is noted is the first, and on time. */
static inline void ticks_start(ticks *all) {
    all->next = 0;
    all->count = 0;
}

/* The loop looks at the clock: whatever tick is due by now is taken note of. */
static inline void ticks_note(ticks *all) {
    const uint64_t now = ticks_now();
    if (all->next == 0)
        all->next = now;
    for (; all->next <= now; all->next += TICK_NS) {
        if (all->count == all->room) {
            all->room = all->room ? 2 * all->room : 4096;
            all->late = realloc(all->late, all->room * sizeof *all->late);
            if (all->late == NULL)
                abort();
        }
        all->late[all->count++] = now - all->next;
    }
}

static inline int ticks_order(const void *left, const void *right) {
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* "NAME: ticks N p50_us N p99_us N max_us N" */
static inline void ticks_print(ticks *all, const char *name) {
    if (all->count == 0)
        return;
    qsort(all->late, all->count, sizeof *all->late, ticks_order);
    printf("%s: ticks %zu p50_us %llu p99_us %llu max_us %llu\n", name, all->count,
           (unsigned long long)all->late[all->count / 2] / 1000, (unsigned long long)all->late[all->count * 99 / 100] / 1000,
           (unsigned long long)all->late[all->count - 1] / 1000);
}

#endif
