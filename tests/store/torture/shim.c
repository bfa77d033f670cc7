/* Counts, below Python and every library, the calls that change files under one folder.
 *
 * Preloaded (LD_PRELOAD) it writes one letter a call to the file SHIM_LOG for every call on a path
 * or descriptor under SHIM_UNDER, so that a test can compare it with what the wrappers of calls.py
 * saw: a call they miss would be a call that is never killed. With SHIM_KILL=n the n-th such call
 * is half done (a write writes half) and the process is killed by SIGKILL.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int count = 0;

static int under(const char *path) {
    const char *folder = getenv("SHIM_UNDER");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int fd_under(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return under(path);
}

/* Log the call; true when it is the one to die in. */
static int seen(char letter) {
    static int log = -2;
    static ssize_t (*put)(int, const void *, size_t);
    if (!put) put = dlsym(RTLD_NEXT, "write");
    if (log == -2) {
        const char *name = getenv("SHIM_LOG");
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
        log = name ? real(name, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
    }
    if (log >= 0) put(log, &letter, 1);
    const char *kill_at = getenv("SHIM_KILL");
    return kill_at && ++count == atoi(kill_at);
}

static void die(void) { raise(SIGKILL); }

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

#define WRITE(name, offset_type)                                                                   \
    ssize_t name(int fd, const void *data, size_t n, offset_type at) {                             \
        REAL(name);                                                                                \
        if (fd_under(fd) && seen('w')) { real(fd, data, n / 2, at); die(); }                       \
        return real(fd, data, n, at);                                                              \
    }
WRITE(pwrite, off_t)
WRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t n) {
    REAL(write);
    if (fd_under(fd) && seen('w')) { real(fd, data, n / 2); die(); }
    return real(fd, data, n);
}

#define ONE(name, letter, test, declared, passed)                                                  \
    int name declared {                                                                            \
        REAL(name);                                                                                \
        if (test && seen(letter)) { real passed; die(); }                                          \
        return real passed;                                                                        \
    }
ONE(fsync, 's', fd_under(fd), (int fd), (fd))
ONE(fdatasync, 's', fd_under(fd), (int fd), (fd))
ONE(link, 'l', under(to), (const char *from, const char *to), (from, to))
ONE(linkat, 'l', under(to), (int a, const char *from, int b, const char *to, int f),
    (a, from, b, to, f))
ONE(unlink, 'u', under(path), (const char *path), (path))
ONE(unlinkat, 'u', under(path), (int a, const char *path, int f), (a, path, f))
ONE(rename, 'r', under(to), (const char *from, const char *to), (from, to))
ONE(renameat, 'r', under(to), (int a, const char *from, int b, const char *to), (a, from, b, to))
ONE(mkdir, 'm', under(path), (const char *path, mode_t mode), (path, mode))
ONE(rmdir, 'd', under(path), (const char *path), (path))
ONE(ftruncate, 't', fd_under(fd), (int fd, off_t n), (fd, n))
ONE(ftruncate64, 't', fd_under(fd), (int fd, off64_t n), (fd, n))
ONE(posix_fallocate, 'f', fd_under(fd), (int fd, off_t at, off_t n), (fd, at, n))
ONE(posix_fallocate64, 'f', fd_under(fd), (int fd, off64_t at, off64_t n), (fd, at, n))

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        REAL(name);                                                                                \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                                  \
        va_end(rest);                                                                              \
        if ((flags & O_CREAT) && under(path) && seen('o')) { real(path, flags, mode); die(); }     \
        return real(path, flags, mode);                                                            \
    }
OPEN(open)
OPEN(open64)
