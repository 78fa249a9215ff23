/* The world of a case: what steps have named; how a step's fields are read, and what it saw is compared. */
#include "world.h"

#include <stdarg.h>

bool wrong(act *a, const char *words, ...) {
    va_list values;
    va_start(values, words);
    vsnprintf(a->what, sizeof a->what, words, values);
    va_end(values);
    return false;
}

void *grab(size_t size) {
    void *memory = calloc(1, size);
    if (memory == NULL)
        abort();
    return memory;
}

bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

int32_t policy_of(const char *word) {
    static const char *const policies[] = {"", "block", "reject", "drop_newest", "drop_oldest", "caller_runs"};
    for (int32_t i = 0; i < 6; i++)
        if (is(word, policies[i]))
            return i;
    return -1;
}

bool one_of(const char *verb, const char *const *verbs) {
    while (*verbs != NULL && !is(*verbs, verb))
        verbs++;
    return *verbs != NULL;
}

/* ---- fields ---- */

const field *get(act *a, const char *key, field_type type) {
    for (size_t i = 0; i < a->s->count; i++)
        if (is(a->s->fields[i].key, key) && a->s->fields[i].type == type) {
            a->used |= UINT64_C(1) << i;
            return &a->s->fields[i];
        }
    return NULL;
}

const char *text(act *a, const char *key, const char *otherwise) {
    const field *f = get(a, key, TEXT);
    return f ? f->text : otherwise;
}

long long number(act *a, const char *key, long long otherwise) {
    const field *f = get(a, key, NUMBER);
    return f ? f->number : otherwise;
}

bool flag(act *a, const char *key, bool otherwise) {
    const field *f = get(a, key, FLAG);
    return f ? f->number != 0 : otherwise;
}

uint64_t span(act *a, const char *key) {
    const field *f = get(a, key, NUMBER);
    return !f ? 0 : f->number ? (uint64_t)f->number * MS : 1;
}

uint32_t none_or_more(act *a, const char *key) {
    const field *f = get(a, key, NUMBER);
    return !f ? 0 : f->number ? (uint32_t)f->number : DULY_NONE;
}

const char *numbered(const act *a, const char *name, char out[NAME]) {
    if (a->repetition < 0)
        snprintf(out, NAME, "%s", name);
    else
        snprintf(out, NAME, "%s.%lld", name, a->repetition);
    return out;
}

/* ---- names ---- */

static named *find(named *list, const char *name) {
    while (list != NULL && !is(list->name, name))
        list = list->next;
    return list;
}

void *look_up(world *w, named **list, const char *name) {
    pthread_mutex_lock(&w->lock);
    named *found = find(*list, name);
    void *thing = found ? found->thing : NULL;
    pthread_mutex_unlock(&w->lock);
    return thing;
}

bool add(world *w, named **list, const char *name, void *thing) {
    pthread_mutex_lock(&w->lock);
    bool fresh = find(*list, name) == NULL;
    if (fresh) {
        named *entry = grab(sizeof *entry);
        snprintf(entry->name, NAME, "%s", name);
        entry->thing = thing;
        entry->next = *list;
        *list = entry;
    }
    pthread_mutex_unlock(&w->lock);
    return fresh;
}

void *take(world *w, named **list, const char *name) {
    void *thing = NULL;
    pthread_mutex_lock(&w->lock);
    for (named **at = list; *at != NULL; at = &(*at)->next)
        if (is((*at)->name, name)) {
            named *entry = *at;
            *at = entry->next;
            thing = entry->thing;
            free(entry);
            break;
        }
    pthread_mutex_unlock(&w->lock);
    return thing;
}

void forget(named **list, void (*release)(void *thing)) {
    while (*list != NULL) {
        named *entry = *list;
        *list = entry->next;
        release(entry->thing);
        free(entry);
    }
}

record *add_record(world *w, const char *name) {
    record *r = grab(sizeof *r);
    snprintf(r->name, NAME, "%s", name);
    if (add(w, &w->records, name, r))
        return r;
    free(r);
    return NULL;
}

gate *gate_of(world *w, const char *name) {
    gate *door = look_up(w, &w->gates, name);
    if (door == NULL) {
        static const gate closed = GATE_INIT;
        gate *fresh = grab(sizeof *fresh);
        *fresh = closed;
        if (!add(w, &w->gates, name, fresh))
            free(fresh);
        door = look_up(w, &w->gates, name);
    }
    pthread_mutex_lock(&w->lock);
    bool open = w->all_open;
    pthread_mutex_unlock(&w->lock);
    if (open)
        gate_open(door);
    return door;
}

void open_all(world *w) {
    pthread_mutex_lock(&w->lock);
    w->all_open = true;
    for (named *at = w->gates; at != NULL; at = at->next)
        gate_open(at->thing);
    pthread_mutex_unlock(&w->lock);
}

duly_pool *pool_of(world *w, const char *name) {
    pthread_mutex_lock(&w->lock);
    named *found = find(w->pools, name);
    duly_pool *pool = found ? duly_pool_retain(found->thing) : NULL;
    pthread_mutex_unlock(&w->lock);
    return pool;
}

duly_task *task_of(world *w, const char *name) {
    pthread_mutex_lock(&w->lock);
    named *found = find(w->records, name);
    duly_task *task = found ? duly_task_retain(((record *)found->thing)->task) : NULL;
    pthread_mutex_unlock(&w->lock);
    return task;
}

duly_queue *queue_of(world *w, duly_pool *pool, const char *name) {
    duly_queue *queue = NULL;
    if (is(name, "default"))
        return pool != NULL && duly_pool_default_queue(pool, &queue) == DULY_STATUS_OK ? queue : NULL;
    pthread_mutex_lock(&w->lock);
    named *found = find(w->queues, name);
    queue = found ? duly_queue_retain(found->thing) : NULL;
    pthread_mutex_unlock(&w->lock);
    return queue;
}

duly_periodic *periodic_of(world *w, const char *name) {
    pthread_mutex_lock(&w->lock);
    named *found = find(w->periodics, name);
    duly_periodic *periodic = found ? duly_periodic_retain(found->thing) : NULL;
    pthread_mutex_unlock(&w->lock);
    return periodic;
}

duly_token *token_of(world *w, const char *name) {
    pthread_mutex_lock(&w->lock);
    named *found = find(w->tokens, name);
    duly_token *token = found ? duly_token_retain(found->thing) : NULL;
    pthread_mutex_unlock(&w->lock);
    return token;
}

void let_hooks_go(void *counts) {
    hook_counts *told = counts;
    if (atomic_fetch_sub(&told->holders, 1) == 1)
        free(told);
}

/* ---- comparing ---- */

bool same_text(act *a, const char *what, const char *got, const char *wanted) {
    return is(got, wanted) || wrong(a, "%s is %s, expected %s", what, got, wanted);
}

bool same_number(act *a, const char *what, long long got, long long wanted) {
    return got == wanted || wrong(a, "%s is %lld, expected %lld", what, got, wanted);
}

bool answered(act *a, duly_status status, const char *wanted) {
    return same_text(a, "the answer", duly_status_name(status), wanted);
}

static const struct {
    const char *name;
    size_t offset;
} counters[] = {
#define COUNTER(name) {#name, offsetof(duly_stats, name)}
    COUNTER(submitted), COUNTER(succeeded), COUNTER(failed),   COUNTER(panicked),   COUNTER(cancelled),
    COUNTER(shed),      COUNTER(abandoned), COUNTER(queued),   COUNTER(running),    COUNTER(deadline_exceeded),
    COUNTER(refused),   COUNTER(late),      COUNTER(overdue),  COUNTER(replaced),   COUNTER(stalled),
    COUNTER(workers),   COUNTER(unobserved), COUNTER(blocked_producers),
};

bool same_counters(act *a, const duly_stats *stats) {
    bool same = true;
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        const field *f = get(a, counters[i].name, NUMBER);
        uint64_t value;
        memcpy(&value, (const char *)stats + counters[i].offset, sizeof value);
        if (f != NULL && same)
            same = same_number(a, counters[i].name, (long long)value, f->number);
    }
    return same;
}

bool balanced(act *a, const char *what, const duly_stats *stats) {
    return (stats->queued == 0 && stats->running == 0 && duly_stats_balance(stats)) ||
           wrong(a, "%s does not balance: submitted %llu, queued %llu, running %llu", what,
                 (unsigned long long)stats->submitted, (unsigned long long)stats->queued,
                 (unsigned long long)stats->running);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool same_labels(act *a, size_t count, const char *(*at)(const void *of, size_t index), const void *of, const field *list) {
    const char **got = grab((count + 1) * sizeof *got);
    const char **expected = grab((size_t)(list->number + 1) * sizeof *expected);
    bool same = same_number(a, "the number of labels", (long long)count, list->number);
    for (size_t i = 0; i < count; i++)
        got[i] = at(of, i);
    for (long long i = 0; i < list->number; i++)
        expected[i] = list->list[i];
    qsort(got, count, sizeof *got, by_text);
    qsort(expected, (size_t)list->number, sizeof *expected, by_text);
    for (size_t i = 0; same && i < count; i++)
        same = same_text(a, "a label", got[i], expected[i]);
    free(got);
    free(expected);
    return same;
}

bool settle(act *a, bool (*look)(act *a, void *of), void *of) {
    uint64_t until = now_ns() + SETTLE;
    while (!look(a, of)) {
        if (now_ns() > until)
            return false;
        pause_ns(MS);
    }
    return true;
}

/* Notes an outcome and holds it against what was seen before. */
bool saw(act *a, record *r, duly_outcome outcome) {
    duly_outcome before = atomic_exchange(&r->seen, outcome);
    return before == 0 || before == outcome ||
           wrong(a, "it was %s before and is %s now", duly_outcome_name(before), duly_outcome_name(outcome));
}

bool await_drops(act *a, record *r, long long wanted) {
    uint64_t until = now_ns() + SETTLE;
    while (r->drops != wanted && now_ns() < until)
        pause_ns(MS);
    return same_number(a, "the number of releases", r->drops, wanted);
}
