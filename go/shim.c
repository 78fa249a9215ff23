#include "shim.h"

#include <stdlib.h>

#include "_cgo_export.h"

/* For callbacks on threads that are none of Go's workers. */
static int32_t run(void *data, duly_call *call) { return dulyGoRun((uint64_t)(uintptr_t)data, (uintptr_t)call); }

static void tell(void *data, const duly_event *event) { dulyGoEvent((uint64_t)(uintptr_t)data, (duly_event *)event); }

duly_go_made duly_go_board(void) {
    duly_board *board = NULL;
    duly_status status = duly_board_new(run, &board);
    return (duly_go_made){(uintptr_t)board, 0, status};
}

duly_go_made duly_go_pool(uintptr_t board, uint64_t tag, duly_go_pool_how how) {
    duly_pool *pool = NULL;
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    options.name = how.name;
    options.workers = how.workers;
    options.capacity = how.capacity;
    options.max_blocked_producers = how.max_blocked;
    options.max_replacements = how.max_replacements;
    options.overflow = how.overflow;
    options.threads = how.threads;
    options.replace_after_ns = how.replace_after_ns;
    options.default_timeout_ns = how.default_timeout_ns;
    options.drop_drain_ns = how.drop_drain_ns;
    if (how.tells) {
        options.hook = tell;
        options.hook_data = (void *)(uintptr_t)tag;
    }
    duly_status status = duly_board_pool((duly_board *)board, &options, tag, &pool);
    return (duly_go_made){(uintptr_t)pool, 0, status};
}

static duly_task_options asked(duly_go_task task) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    /* What a Go callback submits inherits by the context it passes, whatever goroutine it is on. */
    options.flags = DULY_TASK_DETACHED;
    options.label = task.label;
    options.token = (duly_token *)task.token;
    options.queue = (duly_queue *)task.queue;
    options.key = task.key;
    options.key_size = task.key_size;
    options.timeout_ns = task.timeout_ns;
    options.submit_timeout_ns = task.submit_timeout_ns;
    options.delay_ns = task.delay_ns;
    options.overflow = task.overflow;
    return options;
}

duly_go_made duly_go_submit(uintptr_t board, uintptr_t pool, uint64_t tag, duly_go_task how, int way) {
    duly_task_options options = asked(how);
    duly_task *task = NULL;
    duly_offer *offer = NULL;
    uint64_t before = 0, woken = 0;
    duly_status status;
    if (way & DULY_GO_GATHER) before = duly_board_gather();
    if ((way & ~DULY_GO_GATHER) == DULY_GO_OFFER) {
        status = duly_board_offer((duly_board *)board, (duly_pool *)pool, &options, tag, &task, &offer);
    } else {
        status = duly_board_submit((duly_board *)board, (duly_pool *)pool, &options, tag, way == DULY_GO_WAIT, &task);
    }
    if (way & DULY_GO_GATHER) woken = duly_board_gathered(before);
    return (duly_go_made){status == DULY_STATUS_PENDING ? (uintptr_t)offer : (uintptr_t)task, woken, status};
}

duly_go_made duly_go_again(uintptr_t offer) {
    duly_task *task = NULL;
    uint64_t before = duly_board_gather();
    duly_status status = duly_offer_again((duly_offer *)offer, &task);
    return (duly_go_made){(uintptr_t)task, duly_board_gathered(before), status};
}

int32_t duly_go_outcome(uintptr_t task) {
    duly_outcome outcome = 0;
    return duly_task_outcome((duly_task *)task, &outcome) == DULY_STATUS_OK ? (int32_t)outcome : 0;
}

duly_go_stepped duly_go_step(uintptr_t worker, uint64_t tag, int32_t ended, int32_t code, const char *message, int way,
                             uintptr_t task) {
    uint64_t before = 0, woken = 0;
    if (way & DULY_GO_TELL) before = duly_board_gather();
    duly_step step = duly_worker_step((duly_worker *)worker, tag, ended, code, message, (way & DULY_GO_DOZE) != 0);
    if (way & DULY_GO_TELL) woken = duly_board_gathered(before);
    int32_t outcome = 0;
    if (task != 0) {
        /* Whoever asks for it asks in Go. */
        if (ended > DULY_SUCCEEDED || !step.decided) outcome = duly_go_outcome(task);
        if (step.decided) outcome = 0;
        duly_task_release((duly_task *)task);
    }
    return (duly_go_stepped){step.tag, woken, step.what, step.decided, outcome};
}

int32_t duly_go_wake_with(uintptr_t worker, uintptr_t board, uint64_t tag) {
    return duly_worker_wake_with((duly_worker *)worker, (duly_board *)board, tag);
}

duly_go_made duly_go_watch(uintptr_t board, uintptr_t task, uint64_t tag) {
    duly_watch *watch = NULL;
    duly_status status = duly_board_watch((duly_board *)board, (duly_task *)task, tag, &watch);
    return (duly_go_made){(uintptr_t)watch, 0, status};
}

int duly_go_cancel(uintptr_t task, const char *reason) {
    return duly_task_cancel_with((duly_task *)task, reason) == DULY_STATUS_OK;
}

void duly_go_release(uintptr_t task, uintptr_t watch) {
    /* A failure that nobody looks at is told by Go, where its handle is. */
    duly_go_outcome(task);
    duly_watch_release((duly_watch *)watch);
    duly_task_release((duly_task *)task);
}

duly_go_made duly_go_token(void) {
    duly_token *token = NULL;
    duly_status status = duly_token_new(&token);
    return (duly_go_made){(uintptr_t)token, 0, status};
}

duly_go_made duly_go_shutdown(uintptr_t pool, uint64_t drain_ns) {
    duly_report *report = NULL;
    duly_status status = duly_pool_shutdown((duly_pool *)pool, drain_ns, &report);
    return (duly_go_made){(uintptr_t)report, 0, status};
}

void duly_go_token_cancel(uintptr_t token, const char *reason) { duly_token_cancel_with((duly_token *)token, reason); }
void duly_go_token_release(uintptr_t token) { duly_token_release((duly_token *)token); }

duly_stats duly_go_stats(uintptr_t pool) {
    duly_stats stats = {0};
    duly_pool_stats((duly_pool *)pool, &stats, sizeof stats);
    return stats;
}

duly_stats duly_go_report_stats(uintptr_t report) {
    duly_stats stats = {0};
    duly_report_stats((duly_report *)report, &stats, sizeof stats);
    return stats;
}

void duly_go_close(uintptr_t pool) { duly_pool_close((duly_pool *)pool); }
int duly_go_is_closed(uintptr_t pool) { return duly_pool_is_closed((duly_pool *)pool); }
void duly_go_pool_release(uintptr_t pool) { duly_pool_release((duly_pool *)pool); }
void duly_go_report_release(uintptr_t report) { duly_report_release((duly_report *)report); }

duly_go_report duly_go_read_report(uintptr_t handle) {
    duly_report *report = (duly_report *)handle;
    return (duly_go_report){duly_report_abandoned_count(report), duly_report_stuck_count(report),
                            duly_report_threads_left(report),    duly_report_elapsed_ns(report),
                            duly_report_text(report),            duly_report_drained(report)};
}

const char *duly_go_report_label(uintptr_t report, size_t index, int stuck) {
    return stuck ? duly_report_stuck_label((duly_report *)report, index)
                 : duly_report_abandoned_label((duly_report *)report, index);
}

size_t duly_go_take(uintptr_t board, duly_notice *notices, size_t most) {
    size_t count = 0;
    return duly_board_take((duly_board *)board, DULY_FOREVER, notices, most, &count) == DULY_STATUS_OK ? count : 0;
}

void duly_go_tell(uintptr_t board, uint64_t tag) { duly_board_tell((duly_board *)board, tag); }
void duly_go_away(uintptr_t worker) { duly_worker_away((duly_worker *)worker); }
void duly_go_back(uintptr_t worker) { duly_worker_back((duly_worker *)worker); }

duly_go_made duly_go_submit_inside(uintptr_t worker, uintptr_t board, uintptr_t pool, uint64_t tag, duly_go_task task) {
    duly_worker_arrive((duly_worker *)worker);
    duly_go_made made = duly_go_submit(board, pool, tag, task, DULY_GO_WAIT);
    duly_worker_depart((duly_worker *)worker);
    return made;
}

/* The wait of a callback for a task; it ends with the callback's own task, too. Takes both references. */
int32_t duly_go_wait_inside(uintptr_t worker, uintptr_t own, uintptr_t task) {
    duly_task *both[] = {(duly_task *)task, (duly_task *)own};
    size_t first = 0;
    duly_worker_arrive((duly_worker *)worker);
    duly_status status = duly_wait_any((const duly_task *const *)both, 2, DULY_FOREVER, &first);
    duly_worker_depart((duly_worker *)worker);
    duly_task_release(both[0]);
    duly_task_release(both[1]);
    return status;
}

uintptr_t duly_go_retain(uintptr_t task) { return (uintptr_t)duly_task_retain((duly_task *)task); }
void duly_go_leave(uintptr_t worker) { duly_worker_release((duly_worker *)worker); }
void duly_go_offer_release(uintptr_t offer) { duly_offer_release((duly_offer *)offer); }
void duly_go_message(uintptr_t call, const char *message) { duly_call_set_message((duly_call *)call, message); }
uint64_t duly_go_time_left(uintptr_t call) { return duly_call_time_left((duly_call *)call); }

/* The board and the tag of a run, for whoever ends it from outside. */
typedef struct {
    uintptr_t board;
    uint64_t tag;
} listener;

/* The tags of runs end on four bits that are free: for the outcome. */
static void told(void *data, duly_outcome outcome) {
    listener *to = data;
    duly_board_tell((duly_board *)to->board, to->tag | (uint64_t)outcome);
}

void duly_go_on_cancel(uintptr_t call, uintptr_t board, uint64_t tag) {
    listener *to = malloc(sizeof *to);
    if (to == NULL) abort();
    *to = (listener){board, tag};
    if (duly_call_on_cancel((duly_call *)call, told, to, free) != DULY_STATUS_OK) free(to);
}

duly_go_made duly_go_queue(uintptr_t pool, duly_go_queue_how how) {
    duly_queue_options options = DULY_QUEUE_OPTIONS_INIT;
    duly_queue *queue = NULL;
    options.name = how.name;
    options.capacity = how.capacity;
    options.max_blocked_producers = how.max_blocked;
    options.overflow = how.overflow;
    options.weight = how.weight;
    options.limit = how.limit;
    options.key_limit = how.key_limit;
    options.key_capacity = how.key_capacity;
    duly_status status = duly_pool_add_queue((duly_pool *)pool, &options, &queue);
    return (duly_go_made){(uintptr_t)queue, 0, status};
}

duly_go_made duly_go_default_queue(uintptr_t pool) {
    duly_queue *queue = NULL;
    duly_status status = duly_pool_default_queue((duly_pool *)pool, &queue);
    return (duly_go_made){(uintptr_t)queue, 0, status};
}

int32_t duly_go_queue_set(uintptr_t handle, int what, uint32_t value) {
    duly_queue *queue = (duly_queue *)handle;
    switch (what) {
    case DULY_GO_CAPACITY:
        return duly_queue_set_capacity(queue, value);
    case DULY_GO_WEIGHT:
        return duly_queue_set_weight(queue, value);
    case DULY_GO_LIMIT:
        return duly_queue_set_limit(queue, value);
    case DULY_GO_KEY_LIMIT:
        return duly_queue_set_key_limit(queue, value);
    default:
        return duly_queue_set_key_capacity(queue, value);
    }
}

void duly_go_queue_pause(uintptr_t queue, int paused) {
    if (paused) {
        duly_queue_pause((duly_queue *)queue);
    } else {
        duly_queue_resume((duly_queue *)queue);
    }
}

duly_queue_numbers duly_go_queue_stats(uintptr_t queue) {
    duly_queue_numbers numbers = {0};
    duly_queue_stats((duly_queue *)queue, &numbers, sizeof numbers);
    return numbers;
}

void duly_go_queue_release(uintptr_t queue) { duly_queue_release((duly_queue *)queue); }

void duly_go_pause(uintptr_t pool, int paused) {
    if (paused) {
        duly_pool_pause((duly_pool *)pool);
    } else {
        duly_pool_resume((duly_pool *)pool);
    }
}

int32_t duly_go_set_workers(uintptr_t pool, uint32_t workers) { return duly_pool_set_workers((duly_pool *)pool, workers); }

duly_go_made duly_go_leaks(uintptr_t pool, int all) {
    duly_leaks *leaks = NULL;
    duly_status status = all ? duly_pool_running((duly_pool *)pool, &leaks) : duly_pool_leaks((duly_pool *)pool, &leaks);
    return (duly_go_made){(uintptr_t)leaks, 0, status};
}

size_t duly_go_leaks_count(uintptr_t leaks) { return duly_leaks_count((duly_leaks *)leaks); }
const char *duly_go_leaks_label(uintptr_t leaks, size_t index) { return duly_leaks_label((duly_leaks *)leaks, index); }
const char *duly_go_leaks_worker(uintptr_t leaks, size_t index) { return duly_leaks_thread((duly_leaks *)leaks, index); }
int32_t duly_go_leaks_outcome(uintptr_t leaks, size_t index) { return duly_leaks_outcome((duly_leaks *)leaks, index); }
uint64_t duly_go_leaks_age(uintptr_t leaks, size_t index) { return duly_leaks_age_ns((duly_leaks *)leaks, index); }
void duly_go_leaks_release(uintptr_t leaks) { duly_leaks_release((duly_leaks *)leaks); }

duly_go_made duly_go_every(uintptr_t board, uintptr_t pool, uint64_t tag, duly_go_task task, duly_go_every_how how) {
    duly_task_options runs = asked(task);
    duly_periodic_options options = DULY_PERIODIC_OPTIONS_INIT;
    duly_periodic *periodic = NULL;
    options.flags = how.flags;
    options.period_ns = how.period_ns;
    options.jitter_ns = how.jitter_ns;
    options.max_failures = how.max_failures;
    options.task = &runs;
    duly_status status = duly_board_every((duly_board *)board, (duly_pool *)pool, &options, tag, &periodic);
    return (duly_go_made){(uintptr_t)periodic, 0, status};
}

int duly_go_every_cancel(uintptr_t periodic, const char *reason) {
    return duly_periodic_cancel_with((duly_periodic *)periodic, reason) == DULY_STATUS_OK;
}

int32_t duly_go_every_end(uintptr_t periodic) {
    int32_t end = 0;
    return duly_periodic_wait((duly_periodic *)periodic, 0, &end) == DULY_STATUS_OK ? end : 0;
}

duly_periodic_numbers duly_go_every_stats(uintptr_t periodic) {
    duly_periodic_numbers numbers = {0};
    duly_periodic_stats((duly_periodic *)periodic, &numbers, sizeof numbers);
    return numbers;
}

void duly_go_every_release(uintptr_t periodic) { duly_periodic_release((duly_periodic *)periodic); }

static int32_t never(void *data, duly_call *call) {
    (void)data, (void)call;
    return 0;
}

/* A periodic task whose first run never comes is what can be waited for, inside a callback too, and ended by anybody. */
uintptr_t duly_go_bell(uintptr_t pool) {
    duly_periodic_options options = DULY_PERIODIC_OPTIONS_INIT;
    duly_task_options runs = DULY_TASK_OPTIONS_INIT;
    duly_periodic *bell = NULL;
    runs.flags = DULY_TASK_DETACHED;
    options.period_ns = UINT64_C(1) << 62;
    options.task = &runs;
    return duly_pool_every((duly_pool *)pool, &options, never, NULL, NULL, &bell) == DULY_STATUS_OK ? (uintptr_t)bell : 0;
}

void duly_go_bell_wait(uintptr_t bell) {
    while (duly_periodic_wait((duly_periodic *)bell, UINT64_C(1) << 56, NULL) == DULY_STATUS_TIMED_OUT) {
    }
}

void duly_go_bell_ring(uintptr_t bell) { duly_periodic_cancel((duly_periodic *)bell); }
void duly_go_bell_release(uintptr_t bell) { duly_periodic_release((duly_periodic *)bell); }
