/* The SHA-256 of every file of a directory tree, one task a file, over a pool that always answers.
 *
 * The same program stands beside this one in Rust (checksum.rs) and in Python (checksum.py). Keeps true: the digest is
 * what sha256sum gives over the same files; each file and each planted callback has exactly one answer; what the program
 * counted by itself is what the pool's books say; Ctrl-C and SIGTERM end it within the grace period.
 *
 * Build: cc -std=c11 -O2 examples/checksum.c examples/sha256.c -Iinclude -lduly -pthread */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "duly.h"
#include "sha256.h"

enum { OUTCOMES = DULY_ABANDONED + 1, CHUNK = 128 * 1024 };

typedef struct {
    const char *dir;
    uint32_t workers;
    uint32_t capacity;
    uint64_t timeout;
    uint64_t planted_timeout;
    uint64_t grace;
    bool planted;
} arguments;

/* What was accepted under one heading, and what was refused. */
typedef struct {
    char **names;
    duly_task **tasks;
    size_t count;
    size_t room;
    uint64_t refused;
} tasks;

typedef struct {
    arguments args;
    duly_pool *pool;
    tasks files;
    /* The planted tasks that are named, and the burst. */
    tasks planted;
    tasks burst;
    bool planted_done;
    uint64_t unread;
    uint64_t said;
} program;

/* The signal that came first, 0 for none. */
static atomic_int interrupted;

static _Noreturn void out_of_memory(void) {
    fputs("checksum: out of memory\n", stderr);
    exit(2);
}

static void *grab(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (memory == NULL)
        out_of_memory();
    return memory;
}

static char *format(const char *words, ...) __attribute__((format(printf, 1, 2)));
static char *format(const char *words, ...) {
    char *text = NULL;
    va_list values;
    va_start(values, words);
    if (vasprintf(&text, words, values) < 0)
        out_of_memory();
    va_end(values);
    return text;
}

static void add(tasks *list, char *name, duly_task *task) {
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 256;
        list->names = grab(list->names, list->room * sizeof *list->names);
        list->tasks = grab(list->tasks, list->room * sizeof *list->tasks);
    }
    list->names[list->count] = name;
    list->tasks[list->count++] = task;
}

static void forget(tasks *list) {
    for (size_t i = 0; i < list->count; i++) {
        duly_task_release(list->tasks[i]);
        free(list->names[i]);
    }
    free(list->names);
    free(list->tasks);
}

/* ---- the callbacks: on workers ---- */

static void hex(const unsigned char digest[32], char text[65]) {
    for (int i = 0; i < 32; i++)
        sprintf(text + 2 * i, "%02x", digest[i]);
}

/* user_data is the path; the value is the digest, 32 bytes from malloc. */
static int32_t checksum(void *path, duly_call *call) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char *chunk = malloc(CHUNK);
    unsigned char *digest = malloc(32);
    ssize_t got = -1;
    sha256 sum;
    sha256_init(&sum);
    while (file >= 0 && chunk != NULL && digest != NULL && (got = read(file, chunk, CHUNK)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        /* Nobody waits any more? Then stop here. */
        if (got < 0 || duly_call_is_cancelled(call))
            break;
        sha256_update(&sum, chunk, (size_t)got);
    }
    int error = errno;
    if (file >= 0)
        close(file);
    free(chunk);
    if (got == 0) {
        sha256_finish(&sum, digest);
        duly_call_set_value(call, digest, free);
        return 0;
    }
    free(digest);
    if (duly_call_is_cancelled(call))
        error = ECANCELED;
    char words[128];
    duly_call_set_message(call, strerror_r(error, words, sizeof words));
    return error;
}

static int32_t fails(void *data, duly_call *call) {
    (void)data;
    duly_call_set_message(call, "planted: this callback fails");
    return 7;
}

static int32_t sleeps_for_ever(void *data, duly_call *call) {
    (void)data;
    (void)call;
    while (pause() == -1) {
    }
    return 0;
}

static int32_t ignores_cancellation(void *started, duly_call *call) {
    (void)call;
    atomic_store((atomic_int *)started, 1);
    while (usleep(10 * 1000) != 1) {
    }
    return 0;
}

static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;

static int32_t waits_at_the_gate(void *data, duly_call *call) {
    (void)data;
    (void)call;
    pthread_rwlock_rdlock(&gate);
    pthread_rwlock_unlock(&gate);
    return 0;
}

/* ---- what is told ---- */

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * DULY_SECOND + (uint64_t)time.tv_nsec;
}

static duly_stats stats_of(const duly_pool *pool) {
    duly_stats stats = {0};
    duly_pool_stats(pool, &stats, sizeof stats);
    return stats;
}

static uint64_t ended(const duly_stats *stats) {
    return stats->submitted - stats->queued - stats->running;
}

/* One rewritten line on a terminal, a line now and then elsewhere; always on stderr. */
static void progress(program *me) {
    bool terminal = isatty(STDERR_FILENO);
    if (now() - me->said < (terminal ? 100 * DULY_MILLISECOND : 5 * DULY_SECOND))
        return;
    me->said = now();
    duly_stats stats = stats_of(me->pool);
    fprintf(stderr, "%schecksum: %zu files, %llu ended%s", terminal ? "\r\033[K" : "", me->files.count,
            (unsigned long long)ended(&stats), terminal ? "" : "\n");
}

/* Before any other line on stderr, and at the end. */
static void clear_progress(void) {
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* ---- what is planted among the files ---- */

static duly_task *plant_one(program *me, const char *name, duly_run_fn run, void *data) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_task *task = NULL;
    options.label = name;
    options.timeout_ns = me->args.planted_timeout;
    if (duly_submit(me->pool, &options, run, data, NULL, &task) == DULY_STATUS_OK)
        add(&me->planted, format("%s", name), task);
    else
        me->planted.refused++;
    return task;
}

static void plant(program *me) {
    static atomic_int started;
    me->planted_done = true;
    plant_one(me, "planted:fails", fails, NULL);
    /* Before the one that sleeps: where there is one worker, it has to have begun before its deadline. */
    duly_task *deaf = plant_one(me, "planted:ignores-cancellation", ignores_cancellation, &started);
    for (uint64_t until = now() + me->args.planted_timeout / 2; deaf != NULL && !started && !interrupted && now() < until;)
        usleep(1000);
    duly_task_cancel(deaf);
    plant_one(me, "planted:sleeps-for-ever", sleeps_for_ever, NULL);

    /* More tasks at once than the queue and the workers can hold. */
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    options.label = "planted:burst";
    options.timeout_ns = me->args.planted_timeout;
    uint64_t workers = me->args.workers ? me->args.workers : stats_of(me->pool).workers;
    uint64_t size = me->args.capacity + 2 * workers + 64;
    pthread_rwlock_wrlock(&gate);
    for (uint64_t i = 0; i < size; i++) {
        duly_task *task = NULL;
        if (duly_try_submit(me->pool, &options, waits_at_the_gate, NULL, NULL, &task) == DULY_STATUS_OK)
            add(&me->burst, NULL, task);
        else
            me->burst.refused++;
    }
    pthread_rwlock_unlock(&gate);
}

/* ---- the files ---- */

/* Takes over both paths. False once the pool accepts no more. */
static bool submit_file(program *me, char *path, char *relative) {
    duly_task_options options = DULY_TASK_OPTIONS_INIT;
    duly_task *task = NULL;
    options.label = relative;
    /* Blocks while the queue is full: the walk goes no faster than the files are read. */
    duly_status status = duly_submit(me->pool, &options, checksum, path, free, &task);
    if (status != DULY_STATUS_OK) {
        /* Refused: the path is still ours. */
        free(path);
        me->files.refused++;
        if (status != DULY_STATUS_SHUT_DOWN) {
            clear_progress();
            fprintf(stderr, "checksum: %s: %s\n", relative, duly_status_message(status));
        }
        free(relative);
        return status != DULY_STATUS_SHUT_DOWN;
    }
    add(&me->files, relative, task);
    if (me->files.count == 10 && me->args.planted)
        plant(me);
    progress(me);
    return true;
}

/* Walks a directory, given with its path relative to the root ("" for the root). False once there is to be no more. */
static bool walk(program *me, const char *path, const char *relative) {
    DIR *dir = opendir(path);
    bool go_on = true;
    if (dir == NULL) {
        clear_progress();
        fprintf(stderr, "checksum: %s: %s\n", path, strerror(errno));
        me->unread++;
        return true;
    }
    for (struct dirent *entry; go_on && !interrupted && (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *inner = format("%s/%s", path, entry->d_name);
        char *name = format("%s%s%s", relative, *relative ? "/" : "", entry->d_name);
        struct stat about;
        unsigned char type = entry->d_type;
        if (type == DT_UNKNOWN)
            type = lstat(inner, &about) != 0 ? DT_UNKNOWN : S_ISDIR(about.st_mode) ? DT_DIR : S_ISREG(about.st_mode) ? DT_REG : DT_CHR;
        if (type == DT_REG) {
            go_on = submit_file(me, inner, name);
            continue;
        }
        if (type == DT_DIR)
            go_on = walk(me, inner, name);
        free(inner);
        free(name);
    }
    closedir(dir);
    return go_on;
}

static void wait_all(program *me, const tasks *list) {
    for (size_t i = 0; i < list->count; i++)
        while (duly_task_wait(list->tasks[i], 100 * DULY_MILLISECOND, NULL) == DULY_STATUS_TIMED_OUT)
            progress(me);
}

static void count(const tasks *list, uint64_t counts[OUTCOMES]) {
    for (size_t i = 0; i < list->count; i++) {
        duly_outcome outcome = 0;
        if (duly_task_outcome(list->tasks[i], &outcome) == DULY_STATUS_OK)
            counts[outcome]++;
    }
}

typedef struct {
    const char *path;
    duly_task *task;
} file;

static int by_path(const void *a, const void *b) {
    return strcmp(((const file *)a)->path, ((const file *)b)->path);
}

/* One digest over all files, as sha256sum piped into itself; names the files that have none. */
static size_t digest_of_all(const tasks *files, char text[65]) {
    file *sorted = grab(NULL, (files->count + 1) * sizeof *sorted);
    unsigned char digest[32];
    size_t counted = 0;
    sha256 all;
    sha256_init(&all);
    for (size_t i = 0; i < files->count; i++)
        sorted[i] = (file){files->names[i], files->tasks[i]};
    qsort(sorted, files->count, sizeof *sorted, by_path);
    for (size_t i = 0; i < files->count; i++) {
        void *value = NULL;
        if (duly_task_take(sorted[i].task, &value) == DULY_STATUS_OK) {
            hex(value, text);
            sha256_update(&all, text, 64);
            sha256_update(&all, "  ", 2);
            sha256_update(&all, sorted[i].path, strlen(sorted[i].path));
            sha256_update(&all, "\n", 1);
            free(value);
            counted++;
            continue;
        }
        duly_outcome outcome = 0;
        duly_task_outcome(sorted[i].task, &outcome);
        /* The abandoned are named in the report. */
        if (outcome != DULY_ABANDONED)
            fprintf(stderr, "checksum: %s: %s\n", sorted[i].path,
                    outcome == DULY_FAILED ? duly_task_message(sorted[i].task) : duly_outcome_name(outcome));
    }
    free(sorted);
    sha256_finish(&all, digest);
    hex(digest, text);
    return counted;
}

/* ---- signals ---- */

static void second_signal(int number) {
    _exit(128 + number);
}

/* A signal drains the pool: submits are refused from now on, and every task has its answer within the grace period. */
static void *shut_down_on_signal(void *data) {
    program *me = data;
    struct sigaction at_once = {.sa_handler = second_signal};
    sigset_t signals;
    int number = 0;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigwait(&signals, &number);
    interrupted = number;
    sigaction(SIGINT, &at_once, NULL);
    sigaction(SIGTERM, &at_once, NULL);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    duly_pool_shutdown(me->pool, me->args.grace, NULL);
    return NULL;
}

/* ---- the report ---- */

/* Appends to what differs. */
static void differs(char **wrong, char *what) {
    char *longer = *wrong ? format("%s; %s", *wrong, what) : format("%s", what);
    free(*wrong);
    free(what);
    *wrong = longer;
}

static void print_row(char **wrong, const char *word, uint64_t files, uint64_t planted, uint64_t in_books) {
    printf("| %-17s | %7llu | %7llu |\n", word, (unsigned long long)files, (unsigned long long)planted);
    if (files + planted != in_books)
        differs(wrong, format("%s: %llu counted, %llu in the books", word, (unsigned long long)(files + planted),
                              (unsigned long long)in_books));
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_shutdown(const duly_report *report) {
    size_t abandoned = duly_report_abandoned_count(report);
    size_t stuck = duly_report_stuck_count(report);
    const char **labels = grab(NULL, (stuck + 1) * sizeof *labels);
    if (abandoned == 0)
        printf("shutdown: drained");
    else
        printf("shutdown: not drained, %zu abandoned", abandoned);
    for (size_t i = 0; i < stuck; i++)
        labels[i] = duly_report_stuck_label(report, i);
    qsort(labels, stuck, sizeof *labels, by_text);
    for (size_t i = 0; i < stuck; i++)
        printf("%s%s", i ? ", " : "; still running: ", labels[i]);
    putchar('\n');
    for (size_t i = 0; i < abandoned; i++)
        printf("abandoned: %s\n", duly_report_abandoned_label(report, i));
    free(labels);
}

static int print_report(program *me, const duly_report *report) {
    uint64_t files[OUTCOMES] = {0}, planted[OUTCOMES] = {0};
    int number = interrupted;
    char *wrong = NULL;
    char text[65];
    duly_stats stats = {0};
    duly_report_stats(report, &stats, sizeof stats);
    const uint64_t books[OUTCOMES] = {
        [DULY_SUCCEEDED] = stats.succeeded, [DULY_FAILED] = stats.failed,
        [DULY_PANICKED] = stats.panicked,   [DULY_CANCELLED] = stats.cancelled,
        [DULY_SHED] = stats.shed,           [DULY_DEADLINE_EXCEEDED] = stats.deadline_exceeded,
        [DULY_ABANDONED] = stats.abandoned,
    };
    count(&me->files, files);
    count(&me->planted, planted);
    count(&me->burst, planted);

    if (number)
        printf("interrupted by %s\n", number == SIGINT ? "SIGINT" : "SIGTERM");
    printf("| %-17s | %7s | %7s |\n|-------------------|---------|---------|\n", "outcome", "files", "planted");
    for (int outcome = DULY_SUCCEEDED; outcome < OUTCOMES; outcome++)
        print_row(&wrong, duly_outcome_name(outcome), files[outcome], planted[outcome], books[outcome]);
    print_row(&wrong, "refused", me->files.refused, me->planted.refused + me->burst.refused, stats.refused);
    if (!duly_stats_balance(&stats) || stats.queued != 0 || stats.running != 0)
        differs(&wrong, format("submitted %llu, queued %llu, running %llu", (unsigned long long)stats.submitted,
                               (unsigned long long)stats.queued, (unsigned long long)stats.running));

    for (size_t i = 0; i < me->planted.count; i++) {
        const duly_task *task = me->planted.tasks[i];
        duly_outcome outcome = 0;
        duly_task_outcome(task, &outcome);
        printf("%-29s %-18s %s\n", me->planted.names[i], duly_outcome_name(outcome),
               outcome == DULY_CANCELLED ? duly_task_reason(task) : duly_task_message(task));
    }
    if (me->planted_done)
        printf("%-29s %zu accepted, %llu refused queue_full\n", "planted:burst", me->burst.count,
               (unsigned long long)me->burst.refused);
    print_shutdown(report);

    size_t counted = digest_of_all(&me->files, text);
    printf("digest %s  files %zu\n", number ? "incomplete" : text, counted);
    if (wrong)
        printf("books do not balance: %s\n", wrong);
    else
        puts("books balance");
    bool complete = counted == me->files.count && me->files.refused + me->unread == 0;
    int status = wrong ? 1 : number ? 128 + number : complete ? 0 : 3;
    free(wrong);
    return status;
}

/* ---- arguments ---- */

static const char usage[] =
    "usage: checksum [OPTIONS] [DIR]\n"
    "The SHA-256 of every file of DIR (default /usr/share), and one digest over all of them.\n\n"
    "  --workers N                threads that read files (default: as many as this process may use)\n"
    "  --capacity N               files that may be queued (64)\n"
    "  --timeout SECONDS          how long a file may take, its time in the queue included (60)\n"
    "  --planted-timeout SECONDS  how long each planted callback may take (2)\n"
    "  --grace SECONDS            how long files may go on after SIGINT or SIGTERM (5)\n"
    "  --no-planted               plant nothing: only files\n"
    "  --help                     this text\n\n"
    "Exit status: 0 all well; 1 the books do not balance; 2 usage; 3 some file has no checksum; 130 or 143 after\n"
    "SIGINT or SIGTERM, when what was finished in time is reported.\n";

static _Noreturn void bad_usage(const char *option, const char *text) {
    fprintf(stderr, "checksum: \"%s\" is nothing for --%s\n%s", text, option, usage);
    exit(2);
}

static uint32_t number(const char *option, const char *text) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *text < '0' || *text > '9' || *end || value == 0 || value >= DULY_NONE)
        bad_usage(option, text);
    return (uint32_t)value;
}

/* In nanoseconds; at least one, because 0 asks for a default. */
static uint64_t seconds(const char *option, const char *text) {
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || value < 0 || value > 1e9)
        bad_usage(option, text);
    uint64_t ns = (uint64_t)(value * 1e9);
    return ns ? ns : 1;
}

static arguments parse(int argc, char **argv) {
    static const struct option options[] = {
        {"workers", required_argument, NULL, 'w'}, {"capacity", required_argument, NULL, 'c'},
        {"timeout", required_argument, NULL, 't'}, {"planted-timeout", required_argument, NULL, 'p'},
        {"grace", required_argument, NULL, 'g'},   {"no-planted", no_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    arguments args = {"/usr/share", 0, 64, 60 * DULY_SECOND, 2 * DULY_SECOND, 5 * DULY_SECOND, true};
    for (int which, index = 0; (which = getopt_long(argc, argv, "", options, &index)) != -1;) {
        switch (which) {
            case 'w': args.workers = number("workers", optarg); break;
            case 'c': args.capacity = number("capacity", optarg); break;
            case 't': args.timeout = seconds("timeout", optarg); break;
            case 'p': args.planted_timeout = seconds("planted-timeout", optarg); break;
            case 'g': args.grace = seconds("grace", optarg); break;
            case 'n': args.planted = false; break;
            case 'h': fputs(usage, stdout); exit(0);
            default: fputs(usage, stderr); exit(2);
        }
    }
    if (argc - optind > 1) {
        fputs(usage, stderr);
        exit(2);
    }
    if (optind < argc)
        args.dir = argv[optind];
    return args;
}

int main(int argc, char **argv) {
    program me = {.args = parse(argc, argv)};
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_report *report = NULL;
    sigset_t signals;
    pthread_t thread;
    char *root = realpath(me.args.dir, NULL);
    struct stat about;
    if (root == NULL || stat(root, &about) != 0 || !S_ISDIR(about.st_mode)) {
        fprintf(stderr, "checksum: %s: %s\n", me.args.dir, root ? "not a directory" : strerror(errno));
        return 2;
    }
    /* Before the first thread: all of them leave the signals to the one that waits for them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    options.name = "checksum";
    options.workers = me.args.workers;
    /* Two of what is planted never come back, also where there is only one worker. */
    options.max_replacements = me.args.workers > 16 ? me.args.workers : 16;
    options.capacity = me.args.capacity;
    options.default_timeout_ns = me.args.timeout;
    duly_status status = duly_pool_new(&options, &me.pool);
    if (status != DULY_STATUS_OK) {
        fprintf(stderr, "checksum: no pool: %s\n", duly_status_message(status));
        return 2;
    }
    int error = pthread_create(&thread, NULL, shut_down_on_signal, &me);
    if (error != 0) {
        fprintf(stderr, "checksum: no thread for signals: %s\n", strerror(error));
        return 2;
    }
    me.said = now();

    walk(&me, root, "");
    free(root);
    if (!me.planted_done && me.args.planted)
        plant(&me);
    /* Every handle answers: at its deadline at the latest, or when a signal has shut the pool down. */
    wait_all(&me, &me.files);
    wait_all(&me, &me.planted);
    wait_all(&me, &me.burst);
    clear_progress();

    /* All have answered: what may still run are callbacks that nobody waits for. */
    status = duly_pool_shutdown(me.pool, 200 * DULY_MILLISECOND, &report);
    if (status != DULY_STATUS_OK) {
        fprintf(stderr, "checksum: shutdown: %s\n", duly_status_message(status));
        return 1;
    }
    int result = print_report(&me, report);
    duly_report_release(report);
    forget(&me.files);
    forget(&me.planted);
    forget(&me.burst);
    duly_pool_release(me.pool);
    /* The thread for signals may still use the pool and the program: it ends with the process. */
    fflush(stdout);
    _exit(result);
}
