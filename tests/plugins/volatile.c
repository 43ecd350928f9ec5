/* SPDX-License-Identifier: BSD-3-Clause */
/* volatile: a disk with a cache that is gone with the process. What was not flushed is in the file
 * in any order, or not at all.
 *
 *   file=PATH            where it keeps what was flushed; sets the size
 *   seed=N               which of the others reach the file early
 *   write-delay-ms=N     how long a write takes
 *   slow=PATH            only while there is this file
 *   lies=true            a flush does nothing, and says that it has
 *   broken=PATH          while there is this file, nothing becomes durable (EIO)
 */
#define NBDKIT_API_VERSION 2
#include <errno.h>
#include <fcntl.h>
#include <nbdkit-plugin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

enum { PENDING_MAX = 1024 };

struct pending {
  struct pending* next;
  uint64_t offset;
  uint32_t count;
  char data[];
};

static char* path;
static char* broken;
static char* slow;
static unsigned seed = 1;
static unsigned write_delay_ms;
static int lies;
static int file = -1;
static int64_t size;
static struct pending* first; /* The oldest. */
static unsigned pending_count;

static int volatile_config(const char* key, const char* value) {
  if (strcmp(key, "file") == 0) return (path = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
  if (strcmp(key, "broken") == 0) return (broken = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
  if (strcmp(key, "slow") == 0) return (slow = nbdkit_absolute_path(value)) == NULL ? -1 : 0;
  if (strcmp(key, "lies") == 0) return (lies = nbdkit_parse_bool(value)) < 0 ? -1 : 0;
  if (strcmp(key, "seed") == 0) return nbdkit_parse_unsigned(key, value, &seed);
  if (strcmp(key, "write-delay-ms") == 0) return nbdkit_parse_unsigned(key, value, &write_delay_ms);
  nbdkit_error("no such parameter: %s", key);
  return -1;
}

static int volatile_get_ready(void) {
  struct stat found;
  file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
  if (file < 0 || fstat(file, &found) < 0) {
    nbdkit_error("file=%s: %s", path == NULL ? "" : path, strerror(errno));
    return -1;
  }
  size = found.st_size;
  return 0;
}

static void volatile_unload(void) {
  if (file >= 0) close(file);
  free(path);
  free(broken);
  free(slow);
}

static void* volatile_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t volatile_get_size(void* handle) {
  (void)handle;
  return size;
}

static int yes(void* handle) {
  (void)handle;
  return 1;
}

static int native_fua(void* handle) {
  (void)handle;
  return NBDKIT_FUA_NATIVE;
}

static int keep(const void* data, uint32_t count, uint64_t offset) {
  if (pwrite(file, data, count, (off_t)offset) == (ssize_t)count) return 0;
  nbdkit_error("%s: %s", path, strerror(errno));
  return -1;
}

static int overlaps(const struct pending* one, uint64_t offset, uint32_t count) {
  return one->offset < offset + count && offset < one->offset + one->count;
}

/* Takes it out of the list and puts it into the file. */
static int settle(struct pending** place) {
  struct pending* one = *place;
  int kept = keep(one->data, one->count, one->offset);
  *place = one->next;
  free(one);
  --pending_count;
  return kept;
}

static int is_broken(void) {
  if (broken == NULL || access(broken, F_OK) < 0) return 0;
  nbdkit_error("broken");
  nbdkit_set_error(EIO);
  return 1;
}

static int sync_file(void) {
  if (lies || fdatasync(file) == 0) return 0;
  nbdkit_error("%s: %s", path, strerror(errno));
  return -1;
}

static int volatile_flush(void* handle, uint32_t flags) {
  (void)handle;
  (void)flags;
  if (is_broken()) return -1;
  while (first != NULL && !lies) {
    if (settle(&first) < 0) return -1;
  }
  return sync_file();
}

/* What is older must not come over it later. */
static int write_through(const void* data, uint32_t count, uint64_t offset) {
  const struct pending* last = NULL;
  if (is_broken()) return -1;
  for (const struct pending* one = first; one != NULL; one = one->next) {
    if (overlaps(one, offset, count)) last = one;
  }
  while (last != NULL) {
    if (first == last) last = NULL;
    if (settle(&first) < 0) return -1;
  }
  return keep(data, count, offset) < 0 ? -1 : sync_file();
}

static int remember(const void* data, uint32_t count, uint64_t offset) {
  struct pending** place = &first;
  struct pending* one = malloc(sizeof *one + count);
  if (one == NULL) return nbdkit_set_error(ENOMEM), -1;
  one->next = NULL;
  one->offset = offset;
  one->count = count;
  memcpy(one->data, data, count);
  while (*place != NULL) place = &(*place)->next;
  *place = one;
  ++pending_count;
  return 0;
}

/* One of those that are pending reaches the file early, unless an older one would come over it. */
static int spill(void) {
  struct pending** place = &first;
  unsigned which;
  if (pending_count >= PENDING_MAX) return settle(&first);
  if (pending_count == 0 || rand_r(&seed) % 3 != 0) return 0;
  for (which = (unsigned)rand_r(&seed) % pending_count; which > 0; --which) {
    place = &(*place)->next;
  }
  for (const struct pending* one = first; one != *place; one = one->next) {
    if (overlaps(one, (*place)->offset, (*place)->count)) return 0;
  }
  return settle(place);
}

static int volatile_pwrite(void* handle, const void* buffer, uint32_t count, uint64_t offset,
                           uint32_t flags) {
  struct timespec delay = {write_delay_ms / 1000, (long)(write_delay_ms % 1000) * 1000000};
  (void)handle;
  if (write_delay_ms > 0 && (slow == NULL || access(slow, F_OK) == 0)) nanosleep(&delay, NULL);
  if ((flags & NBDKIT_FLAG_FUA) != 0) return write_through(buffer, count, offset);
  if (remember(buffer, count, offset) < 0) return -1;
  return spill();
}

static int volatile_pread(void* handle, void* buffer, uint32_t count, uint64_t offset,
                          uint32_t flags) {
  (void)handle;
  (void)flags;
  if (pread(file, buffer, count, (off_t)offset) != (ssize_t)count) {
    nbdkit_error("%s: %s", path, strerror(errno));
    return -1;
  }
  for (const struct pending* one = first; one != NULL; one = one->next) {
    uint64_t from = one->offset > offset ? one->offset : offset;
    uint64_t end = one->offset + one->count;
    if (end > offset + count) end = offset + count;
    if (from < end) {
      memcpy((char*)buffer + (from - offset), one->data + (from - one->offset), end - from);
    }
  }
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "volatile",
    .version = NBDKIT_VERSION_STRING,
    .unload = volatile_unload,
    .config = volatile_config,
    .get_ready = volatile_get_ready,
    .open = volatile_open,
    .get_size = volatile_get_size,
    .can_write = yes,
    .can_flush = yes,
    .can_fua = native_fua,
    .can_multi_conn = yes,
    .pread = volatile_pread,
    .pwrite = volatile_pwrite,
    .flush = volatile_flush,
};

NBDKIT_REGISTER_PLUGIN(plugin)
