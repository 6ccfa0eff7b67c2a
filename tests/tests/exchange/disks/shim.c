/* Preloaded into a daemon: its disk fails when told to.
 *
 * STROWGER_FAULT names a file; while it exists, its first word says what happens to the
 * write-ahead log of the store (files named *.log below a folder named store):
 *   eio    writes and syncs fail with EIO
 *   hang   syncs take as long as the file exists
 *   torn   the next write is cut in half, and the process is killed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int told(char *word, size_t size) {
    const char *path = getenv("STROWGER_FAULT");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file)
        return 0;
    int read = fgets(word, (int)size, file) != NULL;
    fclose(file);
    return read;
}

static int is_log(int fd) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 4)
        return 0;
    name[length] = 0;
    return strstr(name, "/store/") && strcmp(name + length - 4, ".log") == 0;
}

/* 0: go on; otherwise the call fails with errno set, or the process is gone. */
static int fault(int fd, const void *data, size_t size) {
    char word[16] = "";
    if (!is_log(fd) || !told(word, sizeof word))
        return 0;
    if (strncmp(word, "eio", 3) == 0) {
        errno = EIO;
        return -1;
    }
    while (!data && strncmp(word, "hang", 4) == 0) {
        usleep(20000);
        if (!told(word, sizeof word))
            return 0;
    }
    if (strncmp(word, "torn", 4) == 0 && data && size > 1) {
        ssize_t (*plain)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
        plain(fd, data, size / 2);
        kill(getpid(), SIGKILL);
    }
    return 0;
}

ssize_t write(int fd, const void *data, size_t size) {
    ssize_t (*plain)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    return fault(fd, data, size) ? -1 : plain(fd, data, size);
}

int fdatasync(int fd) {
    int (*plain)(int) = dlsym(RTLD_NEXT, "fdatasync");
    return fault(fd, NULL, 0) ? -1 : plain(fd);
}

int fsync(int fd) {
    int (*plain)(int) = dlsym(RTLD_NEXT, "fsync");
    return fault(fd, NULL, 0) ? -1 : plain(fd);
}
