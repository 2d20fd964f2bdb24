/* Preloaded into the server by tests: a disk that is full or failing, and a death at an exact
 * point. Only operations on regular files count.
 *
 * FAULT_KILL_AT=n   dies at the n-th operation that changes the disk: a write is done by half
 *                   first, anything else not at all
 * FAULT_FULL=path   while that file exists, nothing more can be written: ENOSPC
 * FAULT_EIO=path    while that file exists, syncing fails: EIO
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long operations;
static long kill_at;
static const char *full, *eio;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("FAULT_KILL_AT");
    kill_at = text ? atol(text) : 0;
    full = getenv("FAULT_FULL");
    eio = getenv("FAULT_EIO");
}

static int is_file(int fd)
{
    struct stat st;
    int before = errno, regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    errno = before;
    return regular;
}

static int present(const char *path)
{
    int before = errno, there = path && access(path, F_OK) == 0;
    errno = before;
    return there;
}

static int dies(void)
{
    return kill_at && atomic_fetch_add(&operations, 1) + 1 == kill_at;
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

ssize_t write(int fd, const void *data, size_t count)
{
    static __typeof__(&write) real;
    if (!real)
        real = REAL(write);
    if (is_file(fd)) {
        if (present(full)) {
            errno = ENOSPC;
            return -1;
        }
        if (dies()) {
            real(fd, data, count / 2);
            die();
        }
    }
    return real(fd, data, count);
}

static ssize_t at(ssize_t (*real)(int, const void *, size_t, off_t), int fd, const void *data,
                  size_t count, off_t offset)
{
    if (is_file(fd)) {
        if (present(full)) {
            errno = ENOSPC;
            return -1;
        }
        if (dies()) {
            real(fd, data, count / 2, offset);
            die();
        }
    }
    return real(fd, data, count, offset);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset)
{
    return at(REAL(pwrite), fd, data, count, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off_t offset)
{
    return at(REAL(pwrite), fd, data, count, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (is_file(fd)) {
        if (present(full)) {
            errno = ENOSPC;
            return -1;
        }
        if (dies())
            die();
    }
    return REAL(writev)(fd, parts, count);
}

static int sync_fails(int fd)
{
    if (!is_file(fd))
        return 0;
    if (present(eio)) {
        errno = EIO;
        return 1;
    }
    if (dies())
        die();
    return 0;
}

int fsync(int fd)
{
    return sync_fails(fd) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return sync_fails(fd) ? -1 : REAL(fdatasync)(fd);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (present(full)) {
        errno = ENOSPC;
        return -1;
    }
    return REAL(fallocate)(fd, mode, offset, length);
}

int fallocate64(int fd, int mode, off_t offset, off_t length)
{
    return fallocate(fd, mode, offset, length);
}

int rename(const char *from, const char *to)
{
    if (dies())
        die();
    return REAL(rename)(from, to);
}

int unlink(const char *path)
{
    if (dies())
        die();
    return REAL(unlink)(path);
}
