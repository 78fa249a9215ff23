/* A server of one thread over epoll, whose slow work runs in a pool and comes back through a completion queue.
 *
 * A request is a line "NUMBER MILLISECONDS": the server sleeps that long in the pool and answers "NUMBER STATUS", in any order:
 * 200 done, 503 no room, 504 its time-out passed, 500 anything else. When a client leaves, its tasks are cancelled.
 * Keeps true: the loop never waits for the pool, so its ticks of 1 ms stay on time while thousands of tasks run; every request
 * of a client that stays is answered once; every task comes back through the completion queue, also those nobody waits for.
 *
 *     epoll_server 8080                 serves on port 8080 until SIGINT or SIGTERM
 *     epoll_server --load 10000 20      serves 10000 requests of 20 ms to clients of its own, and says how its loop ticked
 *
 * Build: cc -std=c11 -O2 examples/epoll_server.c -Iinclude -lduly -pthread */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "duly.h"
#include "ticks.h"

enum { CLIENTS = 50, WORKERS = 200, TAKEN_AT_ONCE = 64, LINE = 64, IDLE_MS = 300 };

/* Ends the program with the reason: only while it starts. */
#define MUST(call)                                                                \
    do {                                                                          \
        if (!(call)) {                                                            \
            fprintf(stderr, "epoll_server: %s: %s\n", #call, strerror(errno));     \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

/* A client. It goes when its socket is closed and no task names it any more. */
typedef struct client {
    struct client *next_gone;
    int fd;
    duly_token *token;
    size_t under_way;
    char in[LINE];
    size_t in_used;
    char *out;
    size_t out_used, out_room;
} client;

/* A request that is under way: what the completion's tag points to. */
typedef struct {
    client *from;
    unsigned long number;
} request;

typedef struct {
    int epoll, listener;
    duly_pool *pool;
    duly_completions *completions;
    uint64_t timeout_ns;
    unsigned long served[600];
    unsigned long left; /* tasks of clients that had gone */
    size_t clients;
    /* Until the end of the turn: an event of this turn may still name them. */
    client *gone;
} server;

static int32_t run_sleep(void *data, duly_call *call) {
    const uintptr_t ms = (uintptr_t)data;
    const struct timespec span = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)call;
    nanosleep(&span, NULL);
    return 0;
}

static void watch(server *me, int fd, uint32_t events, void *what, int change) {
    struct epoll_event event = {.events = events, .data.ptr = what};
    MUST(epoll_ctl(me->epoll, change, fd, &event) == 0);
}

static void forget_client(server *me, client *from) {
    if (from->fd >= 0 || from->under_way > 0)
        return;
    from->next_gone = me->gone;
    me->gone = from;
    me->clients--;
}

static void free_gone(server *me) {
    for (client *at = me->gone, *next; at != NULL; at = next) {
        next = at->next_gone;
        duly_token_release(at->token);
        free(at->out);
        free(at);
    }
    me->gone = NULL;
}

/* The client has left: nobody needs what is under way for it. */
static void close_client(server *me, client *from) {
    if (from->fd < 0)
        return;
    close(from->fd);
    from->fd = -1;
    duly_token_cancel_with(from->token, "caller_left");
    forget_client(me, from);
}

/* As much as the socket takes; the rest when it is writable again. False: the client has left. */
static bool flush(server *me, client *to) {
    while (to->out_used > 0) {
        const ssize_t sent = send(to->fd, to->out, to->out_used, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            watch(me, to->fd, EPOLLIN | EPOLLOUT, to, EPOLL_CTL_MOD);
            return true;
        }
        if (sent <= 0) {
            close_client(me, to);
            return false;
        }
        memmove(to->out, to->out + sent, to->out_used - (size_t)sent);
        to->out_used -= (size_t)sent;
    }
    watch(me, to->fd, EPOLLIN, to, EPOLL_CTL_MOD);
    return true;
}

static bool answer(server *me, client *to, unsigned long number, unsigned status) {
    char line[LINE];
    const size_t length = (size_t)snprintf(line, sizeof line, "%lu %u\n", number, status);
    me->served[status]++;
    if (to->out_used + length > to->out_room) {
        to->out_room = 2 * (to->out_used + length);
        to->out = realloc(to->out, to->out_room);
        MUST(to->out != NULL);
    }
    memcpy(to->out + to->out_used, line, length);
    to->out_used += length;
    return to->out_used > length || flush(me, to);
}

static bool serve(server *me, client *from, char *line) {
    char *end;
    const unsigned long number = strtoul(line, &end, 10), ms = strtoul(end, NULL, 10);
    request *asked = malloc(sizeof *asked);
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    MUST(asked != NULL);
    *asked = (request){from, number};
    options.token = from->token;
    options.timeout_ns = me->timeout_ns;
    options.completions = me->completions;
    options.tag = (uintptr_t)asked;
    /* Never wait in a loop: a full queue is the client's business. */
    const duly_status status = duly_try_submit(me->pool, &options, run_sleep, (void *)(uintptr_t)ms, NULL, NULL);
    if (status == DULY_STATUS_OK) {
        from->under_way++;
        return true;
    }
    free(asked);
    return answer(me, from, number, status == DULY_STATUS_QUEUE_FULL ? 503 : 500);
}

static void read_client(server *me, client *from) {
    /* One buffer a turn: then others have theirs. */
    const ssize_t came = recv(from->fd, from->in + from->in_used, sizeof from->in - from->in_used, 0);
    if (came < 0 && errno == EAGAIN)
        return;
    if (came <= 0) {
        close_client(me, from);
        return;
    }
    from->in_used += (size_t)came;
    char *line = from->in, *end;
    while ((end = memchr(line, '\n', from->in_used)) != NULL) {
        *end = '\0';
        from->in_used -= (size_t)(end + 1 - line);
        if (!serve(me, from, line))
            return;
        line = end + 1;
    }
    if (from->in_used == sizeof from->in) {
        close_client(me, from); /* a line without end */
        return;
    }
    memmove(from->in, line, from->in_used);
}

static void accept_client(server *me) {
    const int fd = accept4(me->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    client *new = calloc(1, sizeof *new);
    MUST(new != NULL && duly_token_new(&new->token) == DULY_STATUS_OK);
    new->fd = fd;
    me->clients++;
    watch(me, fd, EPOLLIN, new, EPOLL_CTL_ADD);
}

static void take_completions(server *me) {
    duly_completion taken[TAKEN_AT_ONCE];
    size_t count;
    /* What is left makes the descriptor readable again: the loop looks at its clients first. */
    if (duly_completions_take(me->completions, 0, taken, TAKEN_AT_ONCE, &count) != DULY_STATUS_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        request *asked = (request *)(uintptr_t)taken[i].tag;
        client *from = asked->from;
        from->under_way--;
        if (from->fd < 0) {
            me->left++;
            forget_client(me, from);
        } else {
            answer(me, from, asked->number,
                   taken[i].outcome == DULY_SUCCEEDED           ? 200
                   : taken[i].outcome == DULY_DEADLINE_EXCEEDED ? 504
                                                                : 500);
        }
        free(asked);
        duly_task_release(taken[i].task);
    }
}

/* ---- clients of our own ---- */

typedef struct {
    struct sockaddr_in address;
    unsigned long requests, sleep_ms;
    unsigned long answered[600];
    int done; /* written to when all have their answers */
} load;

static int connect_client(const load *me) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(fd >= 0 && connect(fd, (const struct sockaddr *)&me->address, sizeof me->address) == 0);
    return fd;
}

static void *run_load(void *data) {
    load *me = data;
    const struct timespec idle = {0, IDLE_MS * 1000000L};
    FILE *clients[CLIENTS];
    nanosleep(&idle, NULL);
    for (unsigned long i = 0; i < CLIENTS; i++) {
        const int fd = connect_client(me);
        for (unsigned long n = i; n < me->requests; n += CLIENTS)
            MUST(dprintf(fd, "%lu %lu\n", n, me->sleep_ms) > 0);
        clients[i] = fdopen(fd, "r");
        MUST(clients[i] != NULL);
    }
    /* One that leaves with everything under way. */
    const int leaver = connect_client(me);
    for (unsigned long n = 0; n < 100; n++)
        MUST(dprintf(leaver, "%lu 1000\n", n) > 0);
    close(leaver);
    for (unsigned long i = 0; i < CLIENTS; i++) {
        for (unsigned long n = i; n < me->requests; n += CLIENTS) {
            unsigned long number;
            unsigned status;
            MUST(fscanf(clients[i], "%lu %u", &number, &status) == 2 && number % CLIENTS == i && status < 600);
            me->answered[status]++;
        }
        fclose(clients[i]);
    }
    MUST(write(me->done, "x", 1) == 1);
    return NULL;
}

/* ---- the loop ---- */

int main(int argc, char **argv) {
    const bool loaded = argc == 4 && strcmp(argv[1], "--load") == 0;
    if (!loaded && argc != 2) {
        fprintf(stderr, "usage: epoll_server PORT | epoll_server --load REQUESTS MILLISECONDS\n");
        return 2;
    }
    static load clients;
    if (loaded) {
        clients.requests = strtoul(argv[2], NULL, 10);
        clients.sleep_ms = strtoul(argv[3], NULL, 10);
    }
    const uint32_t most = loaded ? (uint32_t)clients.requests + 200 : 10000;
    static server me;
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    options.name = "server";
    options.workers = WORKERS;
    options.capacity = most;
    options.stack_size = 128 * 1024;
    me.timeout_ns = 30 * DULY_SECOND;
    if (duly_pool_new(&options, &me.pool) != DULY_STATUS_OK ||
        duly_completions_new(most, &me.completions) != DULY_STATUS_OK) {
        fprintf(stderr, "epoll_server: no pool\n");
        return 1;
    }

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int completed, stop[2];
    const int yes = 1;
    address.sin_port = htons(loaded ? 0 : (uint16_t)strtoul(argv[1], NULL, 10));
    MUST((me.epoll = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    MUST((me.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) >= 0);
    MUST(setsockopt(me.listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0);
    MUST(bind(me.listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(me.listener, CLIENTS) == 0);
    MUST(getsockname(me.listener, (struct sockaddr *)&address, &length) == 0);

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    const int signalled = signalfd(-1, &signals, SFD_CLOEXEC);
    const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    const struct itimerspec every = {{0, (long)TICK_NS}, {0, (long)TICK_NS}};
    MUST(signalled >= 0 && timer >= 0 && timerfd_settime(timer, 0, &every, NULL) == 0 && pipe2(stop, O_CLOEXEC) == 0);
    MUST(duly_completions_fd(me.completions, &completed) == DULY_STATUS_OK);

    /* What a descriptor is shows by the address of its number; any other address is a client. */
    int kinds[5] = {me.listener, completed, timer, signalled, stop[0]};
    for (size_t i = 0; i < 5; i++)
        watch(&me, kinds[i], EPOLLIN, &kinds[i], EPOLL_CTL_ADD);

    pthread_t loader;
    bool busy = !loaded;
    static ticks late;
    if (loaded) {
        clients.address = address;
        clients.done = stop[1];
        MUST(pthread_create(&loader, NULL, run_load, &clients) == 0);
    }
    ticks_start(&late);
    for (bool on = true; on;) {
        struct epoll_event events[64];
        const int count = epoll_wait(me.epoll, events, 64, -1);
        for (int i = 0; i < count; i++) {
            void *what = events[i].data.ptr;
            if (what == &kinds[0]) {
                if (!busy) {
                    ticks_print(&late, "idle");
                    ticks_start(&late);
                    busy = true;
                }
                accept_client(&me);
            } else if (what == &kinds[1]) {
                take_completions(&me);
            } else if (what == &kinds[2]) {
                uint64_t expired;
                if (read(timer, &expired, sizeof expired) > 0)
                    ticks_note(&late);
            } else if (what == &kinds[3] || what == &kinds[4]) {
                on = false;
            } else if (events[i].events & EPOLLOUT) {
                flush(&me, what);
            } else {
                read_client(&me, what);
            }
        }
        free_gone(&me);
    }
    ticks_print(&late, "busy");
    if (loaded)
        pthread_join(loader, NULL);

    /* What is still under way has an end, and comes back. */
    duly_report *report = NULL;
    if (duly_pool_shutdown(me.pool, 0, &report) != DULY_STATUS_OK)
        return 1;
    while (duly_completions_free_places(me.completions) < most)
        take_completions(&me);
    free_gone(&me);
    free(late.late);
    duly_stats stats;
    duly_report_stats(report, &stats, sizeof stats);
    printf("served: 200 %lu 503 %lu 504 %lu 500 %lu, left %lu\n", me.served[200], me.served[503], me.served[504],
           me.served[500], me.left);
    printf("books %s\n", duly_stats_balance(&stats) ? "balance" : "do not balance");
    duly_report_release(report);
    duly_completions_release(me.completions);
    duly_pool_release(me.pool);
    return loaded && clients.answered[200] != clients.requests;
}
