/* Trouble on order, for processes that load this first (LD_PRELOAD): disks that fail or are slow, a clock that is off,
   and a record of how much of each file was synced, which outlives the process. All of it stands in one shared page
   (trouble.py), whose path TROUBLE names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 8192 };

struct page {
    int64_t write_errno, sync_errno, sync_delay_us, clock_ms, armed, nth, spare[2]; /* armed, nth: mortal.py's */
    struct { int64_t inode, size; } synced[FILES]; /* open addressing by inode */
};

static struct page *page;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TROUBLE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) page = at;
}

#define REAL(name) ({ static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name); real; })

static int fails(int fd, int64_t error) {
    struct stat found;
    if (!error || fstat(fd, &found) || !S_ISREG(found.st_mode)) return 0;
    errno = (int)error;
    return 1;
}

static void note(int fd) {
    struct stat found;
    if (!page || fstat(fd, &found) || !S_ISREG(found.st_mode)) return;
    uint64_t at = (uint64_t)found.st_ino * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < FILES; i++, at++) {
        int64_t free_ = 0, *inode = &page->synced[at % FILES].inode;
        if (__atomic_load_n(inode, __ATOMIC_ACQUIRE) == (int64_t)found.st_ino ||
            __atomic_compare_exchange_n(inode, &free_, (int64_t)found.st_ino, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) ||
            free_ == (int64_t)found.st_ino) {
            __atomic_store_n(&page->synced[at % FILES].size, (int64_t)found.st_size, __ATOMIC_RELEASE);
            return;
        }
    }
}

static int synced(int fd, int (*real)(int)) {
    if (page && page->sync_delay_us) usleep((useconds_t)page->sync_delay_us);
    if (page && fails(fd, page->sync_errno)) return -1;
    int done = real(fd);
    if (!done) note(fd);
    return done;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

#define WRITES(kind, name, takes, gives) \
    kind name takes { return page && fails(fd, page->write_errno) ? -1 : REAL(name) gives; }

WRITES(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n))
WRITES(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
WRITES(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
WRITES(ssize_t, writev, (int fd, const struct iovec *parts, int n), (fd, parts, n))
WRITES(int, ftruncate64, (int fd, off64_t size), (fd, size))

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = REAL(clock_gettime)(clock, now);
    if (page && page->clock_ms && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = now->tv_nsec + page->clock_ms % 1000 * 1000000;
        now->tv_sec += page->clock_ms / 1000 + (ns >= 1000000000) - (ns < 0);
        now->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
    }
    return done;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void)zone;
    struct timespec found;
    int done = clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return done;
}

time_t time(time_t *into) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (into) *into = found.tv_sec;
    return found.tv_sec;
}
