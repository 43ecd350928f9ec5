/* SPDX-License-Identifier: BSD-3-Clause */
/* deadly: a disk in a file whose server dies of one write: file=PATH at=OFFSET. Or slow=PATH
 * delay-ms=N: a write that begins while there is this file takes so long, beside all others. With
 * go=PATH it waits for this file before it dies, and takes it away. */
#define NBDKIT_API_VERSION 2
#include <errno.h>
#include <fcntl.h>
#include <nbdkit-plugin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char* path;
static char* slow;
static char* go;
static unsigned delay_ms;
static int64_t deadly_at = -1;
static int fd = -1;

static int deadly_config(const char* key, const char* value) {
  if (strcmp(key, "file") == 0) return (path = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
  if (strcmp(key, "at") == 0) return (deadly_at = nbdkit_parse_size(value)) < 0 ? -1 : 0;
  if (strcmp(key, "slow") == 0) return (slow = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
  if (strcmp(key, "go") == 0) return (go = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
  if (strcmp(key, "delay-ms") == 0) return nbdkit_parse_unsigned(key, value, &delay_ms);
  nbdkit_error("no such parameter: %s", key);
  return -1;
}

static int deadly_get_ready(void) {
  fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) nbdkit_error("%s cannot be opened", path);
  return fd < 0 ? -1 : 0;
}

static void* deadly_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t deadly_get_size(void* handle) {
  (void)handle;
  return lseek(fd, 0, SEEK_END);
}

static int deadly_can_multi_conn(void* handle) {
  (void)handle;
  return 1;
}

static int deadly_pread(void* handle, void* buffer, uint32_t count, uint64_t offset,
                        uint32_t flags) {
  (void)handle;
  (void)flags;
  ssize_t done = pread(fd, buffer, count, (off_t)offset);
  if (done == (ssize_t)count) return 0;
  nbdkit_set_error(EIO);
  return -1;
}

static int deadly_pwrite(void* handle, const void* buffer, uint32_t count, uint64_t offset,
                         uint32_t flags) {
  (void)handle;
  (void)flags;
  if (deadly_at >= 0 && (uint64_t)deadly_at >= offset && (uint64_t)deadly_at < offset + count) {
    const struct timespec pause = {0, 10000000};
    while (go != NULL && unlink(go) != 0) nanosleep(&pause, NULL);
    abort();
  }
  struct timespec delay = {delay_ms / 1000, (long)(delay_ms % 1000) * 1000000};
  if (slow != NULL && access(slow, F_OK) == 0) nanosleep(&delay, NULL);
  ssize_t done = pwrite(fd, buffer, count, (off_t)offset);
  if (done == (ssize_t)count) return 0;
  nbdkit_set_error(EIO);
  return -1;
}

static struct nbdkit_plugin plugin = {
    .name = "deadly",
    .version = NBDKIT_VERSION_STRING,
    .config = deadly_config,
    .get_ready = deadly_get_ready,
    .open = deadly_open,
    .get_size = deadly_get_size,
    .can_multi_conn = deadly_can_multi_conn,
    .pread = deadly_pread,
    .pwrite = deadly_pwrite,
};

NBDKIT_REGISTER_PLUGIN(plugin)
