/* What the files of the runner share: the world of a case, a step being done, and how fields are read and compared.
 * Lock order: the world's lock is a leaf. */
#ifndef DULY_TESTS_CONFORMANCE_WORLD_H
#define DULY_TESTS_CONFORMANCE_WORLD_H

#include "check.h"
#include "conformance.h"

enum { NAME = 160, WHAT = 400, HOOKS = 6 };
#define START (10 * DULY_SECOND)
#define SETTLE (5 * DULY_SECOND)
#define THREAD (20 * DULY_SECOND)
#define CASE (60 * DULY_SECOND)

/* What is known about a task, or about a periodic one. */
typedef struct {
    char name[NAME];
    atomic_int starts;
    atomic_int drops;
    _Atomic(duly_task *) task;
    /* The outcome that a step saw; it stays. */
    _Atomic(duly_outcome) seen;
    /* What a poll callback was told, what a completion callback noted. */
    _Atomic(duly_outcome) cause;
    _Atomic(duly_outcome) completed;
    /* What its completion said. */
    _Atomic(duly_outcome) delivered;
} record;

typedef struct named {
    struct named *next;
    char name[NAME];
    void *thing;
} named;

/* How often the hook of a pool was told of each kind; goes with the last of the case and the pool. */
typedef struct {
    atomic_int counts[HOOKS];
    atomic_int holders;
} hook_counts;

typedef struct {
    const conformance_case *one;
    pthread_mutex_t lock;
    named *pools, *pool_names, *hooks, *queues, *periodics, *tokens, *records, *gates, *marks, *threads, *children;
    named *groups, *streams, *flights, *callers;
    /* Where the tasks of a case go that awaits some; else NULL. */
    duly_completions *completions;
    /* The names of the callbacks of the case in the order of their starts. */
    char (*order)[NAME];
    size_t started, room;
    bool all_open;
    atomic_bool done;
    bool failed;
    size_t failed_at;
    char what[WHAT];
} world;

/* A step being done once: what it needs to read its fields, and where it says what is wrong. */
typedef struct {
    world *w;
    const step *s;
    uint64_t used;
    long long repetition;
    /* A step of a child that was not as expected, from 1; 0: this one. */
    size_t failed_at;
    char what[WHAT];
} act;

/* ---- world.c: names, fields, comparing ---- */

bool wrong(act *a, const char *words, ...) __attribute__((format(printf, 2, 3)));
void *grab(size_t size);
bool is(const char *a, const char *b);
/* A duly_overflow; "": the default; -1: there is none of this name. */
int32_t policy_of(const char *word);
bool one_of(const char *verb, const char *const *verbs);

const field *get(act *a, const char *key, field_type type);
const char *text(act *a, const char *key, const char *otherwise);
long long number(act *a, const char *key, long long otherwise);
bool flag(act *a, const char *key, bool otherwise);
/* Milliseconds of a field as an option's nanoseconds, where 0 means the default: a given 0 is the shortest span. */
uint64_t span(act *a, const char *key);
/* A count of a field, where DULY_NONE is the option's 0. */
uint32_t none_or_more(act *a, const char *key);
const char *numbered(const act *a, const char *name, char out[NAME]);

void *look_up(world *w, named **list, const char *name);
/* False when the name is there already. */
bool add(world *w, named **list, const char *name, void *thing);
void *take(world *w, named **list, const char *name);
void forget(named **list, void (*release)(void *thing));
record *add_record(world *w, const char *name);
gate *gate_of(world *w, const char *name);
void open_all(world *w);
/* References of the caller's own, NULL when there is no such thing. */
duly_pool *pool_of(world *w, const char *name);
duly_task *task_of(world *w, const char *name);
duly_queue *queue_of(world *w, duly_pool *pool, const char *name);
duly_periodic *periodic_of(world *w, const char *name);
duly_token *token_of(world *w, const char *name);
duly_group *group_of(world *w, const char *name);
void let_hooks_go(void *counts);

bool same_text(act *a, const char *what, const char *got, const char *wanted);
bool same_number(act *a, const char *what, long long got, long long wanted);
bool answered(act *a, duly_status status, const char *wanted);
bool same_counters(act *a, const duly_stats *stats);
bool balanced(act *a, const char *what, const duly_stats *stats);
/* Whether the labels that `at` gives are those of the list, in any order. */
bool same_labels(act *a, size_t count, const char *(*at)(const void *of, size_t index), const void *of, const field *list);
/* Does `look` again and again until it holds or SETTLE has passed. */
bool settle(act *a, bool (*look)(act *a, void *of), void *of);
bool saw(act *a, record *r, duly_outcome outcome);
bool await_drops(act *a, record *r, long long wanted);

/* ---- callbacks.c ---- */

typedef struct {
    const char *run, *message, *gate, *target, *inner, *inner_run;
    long long value, code, ms;
    bool detached;
} callback;

/* The captured data of a callback. */
typedef struct captured captured;

captured *capture(world *w, record *r, const char *pool, callback c);
int32_t perform(void *data, duly_call *call);
void drop_captured(void *data);
/* The callback a step asks for; reads the fields that belong to it and no others. */
bool read_callback(act *a, callback *c);

/* ---- the steps: each file knows its verbs; *good says how the step went ---- */

bool step_on_pool(act *a, const char *verb, bool *good);
bool step_on_queue(act *a, const char *verb, bool *good);
bool step_on_task(act *a, const char *verb, bool *good);
bool step_on_periodic(act *a, const char *verb, bool *good);
bool step_on_token(act *a, const char *verb, bool *good);
bool step_on_group(act *a, const char *verb, bool *good);
bool step_on_stream(act *a, const char *verb, bool *good);
bool step_on_flight(act *a, const char *verb, bool *good);

/* What the end of a case does with what is left of them. */
void leave_stream(void *stream);
void release_flight(void *flight);
/* Every caller has been told something. */
bool end_calls(act *a);

/* The options of a submit, but its timeout's odd values. What they point to stays until let_go. */
typedef struct {
    duly_task_options task;
    char label[NAME];
    duly_token *token;
    duly_queue *queue;
} submit_options;
bool read_options(act *a, duly_pool *pool, submit_options *options);
void let_go(submit_options *options);

/* ---- children.c ---- */

/* Forks: the child does the steps after this one that name it, and never returns. */
bool fork_child(act *a, size_t index, bool (*do_step)(act *a, size_t index));
bool join_child(act *a, const char *name);

#endif
