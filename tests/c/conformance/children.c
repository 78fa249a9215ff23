/* Steps in a forked child: the child does those that name it, in order, and tells its parent by its exit code.
 * Keeps true: the code is 0, or the number of the step that was not as expected; a child that hangs is ended by an alarm; its
 * world has gates of its own, for a thread of the parent may have held the locks of the others. */
#include "world.h"

#include <sys/wait.h>

enum { CHILD = 20, BEYOND = 250 };

static void steps_of_child(world *w, const char *name, size_t after, bool (*do_step)(act *a, size_t index)) {
    for (size_t i = after + 1; i < w->one->count; i++) {
        act a = {.w = w, .s = &w->one->steps[i], .repetition = -1};
        const char *whose = text(&a, "child", NULL);
        if (whose == NULL || !is(whose, name) || is(text(&a, "do", ""), "join") || do_step(&a, i))
            continue;
        char line[WHAT + 2 * NAME];
        size_t at = i + 1 > w->one->set_up ? i + 1 - w->one->set_up : 0;
        int length = snprintf(line, sizeof line, "%s, in child %s, step %zu: %s\n", w->one->name, name, at, a.what);
        if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0)
            _exit(BEYOND);
        _exit(at > 0 && at < BEYOND ? (int)at : BEYOND);
    }
    _exit(0);
}

bool fork_child(act *a, size_t index, bool (*do_step)(act *a, size_t index)) {
    const char *name = text(a, "child", "");
    world *w = a->w;
    /* Nobody else of this case is inside its world while it is copied. */
    pthread_mutex_lock(&w->lock);
    pid_t child = fork();
    if (child == 0) {
        alarm(CHILD);
        pthread_mutex_unlock(&w->lock);
        w->gates = NULL;
        w->all_open = false;
        steps_of_child(w, name, index, do_step);
    }
    pthread_mutex_unlock(&w->lock);
    if (child < 0)
        return wrong(a, "no child");
    pid_t *kept = grab(sizeof *kept);
    *kept = child;
    return add(w, &w->children, name, kept) || wrong(a, "there are two children %s", name);
}

bool join_child(act *a, const char *name) {
    pid_t *child = take(a->w, &a->w->children, name);
    int status = 0;
    if (child == NULL)
        return wrong(a, "there is no child %s", name);
    /* The alarm ends a child that hangs, so this comes to its end. */
    bool waited = waitpid(*child, &status, 0) == *child;
    free(child);
    if (!waited || WIFSIGNALED(status))
        return wrong(a, "child %s was ended by signal %d", name, waited ? WTERMSIG(status) : 0);
    if (WEXITSTATUS(status) == 0)
        return true;
    a->failed_at = (size_t)WEXITSTATUS(status);
    return wrong(a, "in child %s: what it says stands above", name);
}
