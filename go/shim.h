/* What crosses the border to Go: numbers only. Handles are uintptr_t, so that neither Go's collector nor its pointer checks
 * ever look at them; what comes back is returned by value, so that nothing of Go has to be written to. */
#ifndef DULY_GO_SHIM_H
#define DULY_GO_SHIM_H

#include <duly.h>
#include <stdint.h>

/* woken: the worker of Go that is to go on; 0 for none. */
typedef struct {
    uintptr_t handle;
    uint64_t woken;
    int32_t status;
} duly_go_made;

typedef struct {
    uint64_t tag;
    uint64_t woken;
    int32_t what;
    int32_t decided;
    int32_t outcome;
} duly_go_stepped;

typedef struct {
    uint64_t timeout_ns;
    uint64_t submit_timeout_ns;
    uint64_t delay_ns;
    const char *label;
    const char *key;
    size_t key_size;
    uintptr_t token;
    uintptr_t queue;
    int32_t overflow;
} duly_go_task;

typedef struct {
    const char *name;
    uint32_t workers;
    uint32_t capacity;
    uint32_t max_blocked;
    uint32_t max_replacements;
    int32_t overflow;
    int32_t threads;
    uint64_t replace_after_ns;
    uint64_t default_timeout_ns;
    uint64_t drop_drain_ns;
    int tells;
} duly_go_pool_how;

typedef struct {
    const char *name;
    uint32_t capacity;
    uint32_t max_blocked;
    int32_t overflow;
    uint32_t weight;
    uint32_t limit;
    uint32_t key_limit;
    uint32_t key_capacity;
} duly_go_queue_how;

typedef struct {
    uint64_t period_ns;
    uint64_t jitter_ns;
    uint64_t max_failures;
    uint32_t flags;
} duly_go_every_how;

typedef struct {
    size_t abandoned;
    size_t stuck;
    size_t threads_left;
    uint64_t elapsed_ns;
    const char *text;
    int drained;
} duly_go_report;

duly_go_made duly_go_board(void);
duly_go_made duly_go_pool(uintptr_t board, uint64_t tag, duly_go_pool_how how);
/* How to submit: without waiting, blocking this thread, or standing in line. With GATHER, whoever is woken is told. */
enum { DULY_GO_TRY, DULY_GO_WAIT, DULY_GO_OFFER, DULY_GO_GATHER = 4 };
duly_go_made duly_go_submit(uintptr_t board, uintptr_t pool, uint64_t tag, duly_go_task task, int how);
duly_go_made duly_go_again(uintptr_t offer);
duly_go_stepped duly_go_step(uintptr_t worker, uint64_t tag, int32_t ended, int32_t code, const char *message, int way,
                             uintptr_t task);
/* How to step: who is woken is told; with nothing to do the worker dozes. */
enum { DULY_GO_TELL = 1, DULY_GO_DOZE = 2 };
int32_t duly_go_wake_with(uintptr_t worker, uintptr_t board, uint64_t tag);
duly_go_made duly_go_watch(uintptr_t board, uintptr_t task, uint64_t tag);
int32_t duly_go_outcome(uintptr_t task);
int duly_go_cancel(uintptr_t task, const char *reason);
void duly_go_release(uintptr_t task, uintptr_t watch);
duly_go_made duly_go_token(void);
void duly_go_token_cancel(uintptr_t token, const char *reason);
void duly_go_token_release(uintptr_t token);
duly_go_made duly_go_shutdown(uintptr_t pool, uint64_t drain_ns);
duly_stats duly_go_stats(uintptr_t pool);
duly_stats duly_go_report_stats(uintptr_t report);
void duly_go_close(uintptr_t pool);
int duly_go_is_closed(uintptr_t pool);
void duly_go_pool_release(uintptr_t pool);
void duly_go_report_release(uintptr_t report);
duly_go_report duly_go_read_report(uintptr_t report);
const char *duly_go_report_label(uintptr_t report, size_t index, int stuck);
size_t duly_go_take(uintptr_t board, duly_notice *notices, size_t most);
void duly_go_tell(uintptr_t board, uint64_t tag);
void duly_go_away(uintptr_t worker);
void duly_go_back(uintptr_t worker);
duly_go_made duly_go_submit_inside(uintptr_t worker, uintptr_t board, uintptr_t pool, uint64_t tag, duly_go_task task);
int32_t duly_go_wait_inside(uintptr_t worker, uintptr_t own, uintptr_t task);
uintptr_t duly_go_retain(uintptr_t task);
void duly_go_leave(uintptr_t worker);
void duly_go_offer_release(uintptr_t offer);
void duly_go_message(uintptr_t call, const char *message);
uint64_t duly_go_time_left(uintptr_t call);
void duly_go_on_cancel(uintptr_t call, uintptr_t board, uint64_t tag);

duly_go_made duly_go_queue(uintptr_t pool, duly_go_queue_how how);
duly_go_made duly_go_default_queue(uintptr_t pool);
/* What to set of a queue. */
enum { DULY_GO_CAPACITY, DULY_GO_WEIGHT, DULY_GO_LIMIT, DULY_GO_KEY_LIMIT, DULY_GO_KEY_CAPACITY };
int32_t duly_go_queue_set(uintptr_t queue, int what, uint32_t value);
void duly_go_queue_pause(uintptr_t queue, int paused);
duly_queue_numbers duly_go_queue_stats(uintptr_t queue);
void duly_go_queue_release(uintptr_t queue);
void duly_go_pause(uintptr_t pool, int paused);
int32_t duly_go_set_workers(uintptr_t pool, uint32_t workers);

duly_go_made duly_go_leaks(uintptr_t pool, int all);
size_t duly_go_leaks_count(uintptr_t leaks);
const char *duly_go_leaks_label(uintptr_t leaks, size_t index);
const char *duly_go_leaks_worker(uintptr_t leaks, size_t index);
int32_t duly_go_leaks_outcome(uintptr_t leaks, size_t index);
uint64_t duly_go_leaks_age(uintptr_t leaks, size_t index);
void duly_go_leaks_release(uintptr_t leaks);

duly_go_made duly_go_every(uintptr_t board, uintptr_t pool, uint64_t tag, duly_go_task task, duly_go_every_how how);
int duly_go_every_cancel(uintptr_t periodic, const char *reason);
int32_t duly_go_every_end(uintptr_t periodic);
duly_periodic_numbers duly_go_every_stats(uintptr_t periodic);
void duly_go_every_release(uintptr_t periodic);

/* A callback of Go that sits on this thread waits: another worker takes its place until duly_go_bell_ring. */
uintptr_t duly_go_bell(uintptr_t pool);
void duly_go_bell_wait(uintptr_t bell);
void duly_go_bell_ring(uintptr_t bell);
void duly_go_bell_release(uintptr_t bell);

#endif
