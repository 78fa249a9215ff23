/* Compresses every file of a directory tree with zlib, one task a file, into one archive.
 *
 * A stream of duly pulls the files, runs some at the same time and answers in their order; so the archive is the same bit for
 * bit as that of one thread, and memory is bounded by the window, however large the tree is.
 * Keeps true: the archive depends on the files only: it has, for each in the order of their paths, the path and a NUL, two
 * lengths of eight bytes, and what zlib made of it; a file that cannot be read is named, and the exit status is 3.
 *
 *     compress_tree FOLDER ARCHIVE                  in a pool
 *     compress_tree --sequential FOLDER ARCHIVE     in this thread
 *
 * Build: cc -std=c11 -O2 examples/compress_tree.c -Iinclude -lduly -lz -pthread */
#define _GNU_SOURCE
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

#include "duly.h"

enum { WINDOW = 32 };

/* A file's content, before and after. */
typedef struct {
    size_t before, after;
    unsigned char bytes[];
} compressed;

typedef struct {
    char **paths;
    size_t count, room, next;
} tree;

static tree files;

static int add_file(const char *path, const struct stat *what, int kind, struct FTW *where) {
    (void)where;
    if (kind != FTW_F || !S_ISREG(what->st_mode))
        return 0;
    if (files.count == files.room) {
        files.room = files.room ? 2 * files.room : 64;
        files.paths = realloc(files.paths, files.room * sizeof *files.paths);
        if (files.paths == NULL)
            return -1;
    }
    files.paths[files.count] = strdup(path);
    return files.paths[files.count++] == NULL ? -1 : 0;
}

static int by_path(const void *left, const void *right) { return strcmp(*(char *const *)left, *(char *const *)right); }

/* The whole file; NULL, and errno says why. */
static unsigned char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = NULL;
    size_t room = 0;
    *length = 0;
    if (file == NULL)
        return NULL;
    do {
        room = room ? 2 * room : 64 * 1024;
        unsigned char *larger = realloc(bytes, room);
        if (larger == NULL)
            break;
        bytes = larger;
        *length += fread(bytes + *length, 1, room - *length, file);
    } while (*length == room);
    if (ferror(file) || *length == room) {
        free(bytes);
        bytes = NULL;
    }
    fclose(file);
    return bytes;
}

/* NULL, and errno says why. */
static compressed *compress_file(const char *path) {
    size_t length;
    unsigned char *bytes = read_file(path, &length);
    if (bytes == NULL)
        return NULL;
    uLongf after = compressBound(length);
    compressed *made = malloc(sizeof *made + after);
    if (made != NULL && compress2(made->bytes, &after, bytes, length, 6) == Z_OK) {
        made->before = length;
        made->after = after;
    } else {
        free(made);
        made = NULL;
        errno = ENOMEM;
    }
    free(bytes);
    return made;
}

static void put(FILE *archive, const char *path, const compressed *made) {
    unsigned char lengths[16];
    for (int i = 0; i < 8; i++) {
        lengths[i] = (unsigned char)((uint64_t)made->before >> (8 * i));
        lengths[8 + i] = (unsigned char)((uint64_t)made->after >> (8 * i));
    }
    fwrite(path, 1, strlen(path) + 1, archive);
    fwrite(lengths, 1, sizeof lengths, archive);
    fwrite(made->bytes, 1, made->after, archive);
}

/* ---- in a pool ---- */

static bool next_path(void *data, void **item) {
    tree *all = data;
    if (all->next == all->count)
        return false;
    *item = all->paths[all->next++];
    return true;
}

static int32_t run_compress(void *data, void *path, duly_call *call) {
    (void)data;
    errno = 0;
    compressed *made = compress_file(path);
    if (made == NULL) {
        const int code = errno != 0 ? errno : EIO;
        duly_call_set_message(call, strerror(code));
        return code;
    }
    if (duly_call_set_value(call, made, free) != DULY_STATUS_OK)
        free(made);
    return 0;
}

/* How many files could not be compressed. */
static size_t compress_in_pool(FILE *archive) {
    duly_pool *pool = NULL;
    duly_stream *stream = NULL;
    duly_task *answer = NULL;
    duly_stream_options options = DULY_STREAM_OPTIONS_INIT;
    duly_task_options each = DULY_TASK_OPTIONS_INIT;
    size_t bad = 0, at = 0;
    duly_status status;
    each.timeout_ns = 60 * DULY_SECOND;
    options.window = WINDOW;
    options.task = &each;
    if ((status = duly_pool_new(NULL, &pool)) != DULY_STATUS_OK ||
        (status = duly_stream_new(pool, &options, next_path, &files, NULL, run_compress, NULL, NULL, &stream)) !=
            DULY_STATUS_OK) {
        fprintf(stderr, "compress_tree: %s\n", duly_status_message(status));
        exit(1);
    }
    for (; (status = duly_stream_next(stream, DULY_FOREVER, &answer)) != DULY_STATUS_OK || answer != NULL; at++) {
        void *made = NULL;
        if (status != DULY_STATUS_OK) {
            fprintf(stderr, "compress_tree: %s: %s\n", files.paths[at], duly_status_message(status));
            bad++;
            continue;
        }
        if (duly_task_take(answer, &made) == DULY_STATUS_OK) {
            put(archive, files.paths[at], made);
            free(made);
        } else {
            duly_outcome outcome = 0;
            duly_task_outcome(answer, &outcome);
            const char *why = outcome == DULY_FAILED ? duly_task_message(answer) : duly_outcome_name(outcome);
            fprintf(stderr, "compress_tree: %s: %s\n", files.paths[at], why);
            bad++;
        }
        duly_task_release(answer);
    }
    duly_stream_release(stream);
    duly_pool_shutdown(pool, 5 * DULY_SECOND, NULL);
    duly_pool_release(pool);
    return bad;
}

static size_t compress_here(FILE *archive) {
    size_t bad = 0;
    for (size_t at = 0; at < files.count; at++) {
        errno = 0;
        compressed *made = compress_file(files.paths[at]);
        if (made == NULL) {
            fprintf(stderr, "compress_tree: %s: %s\n", files.paths[at], strerror(errno != 0 ? errno : EIO));
            bad++;
            continue;
        }
        put(archive, files.paths[at], made);
        free(made);
    }
    return bad;
}

int main(int argc, char **argv) {
    const bool sequential = argc == 4 && strcmp(argv[1], "--sequential") == 0;
    if (argc != 3 && !sequential) {
        fprintf(stderr, "usage: compress_tree [--sequential] FOLDER ARCHIVE\n");
        return 2;
    }
    const char *folder = argv[argc - 2];
    FILE *archive = fopen(argv[argc - 1], "wb");
    if (archive == NULL || nftw(folder, add_file, 32, FTW_PHYS) != 0) {
        fprintf(stderr, "compress_tree: %s: %s\n", archive == NULL ? argv[argc - 1] : folder, strerror(errno));
        return 1;
    }
    if (files.count > 0)
        qsort(files.paths, files.count, sizeof *files.paths, by_path);
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    const size_t bad = sequential ? compress_here(archive) : compress_in_pool(archive);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    const long length = ftell(archive);
    if (fclose(archive) != 0) {
        fprintf(stderr, "compress_tree: %s: %s\n", argv[argc - 1], strerror(errno));
        return 1;
    }
    printf("files %zu bad %zu bytes %ld ms %ld\n", files.count, bad, length,
           (long)(ended.tv_sec - began.tv_sec) * 1000 + (ended.tv_nsec - began.tv_nsec) / 1000000);
    for (size_t at = 0; at < files.count; at++)
        free(files.paths[at]);
    free(files.paths);
    return bad == 0 ? 0 : 3;
}
