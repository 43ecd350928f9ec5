/* SPDX-License-Identifier: BSD-3-Clause */
/* probe: a plugin that does what a test tells it and remembers what it was asked.
 *
 * Parameters: size=BYTES, model=0..3, block=MIN:PREFERRED:MAX, answer=CALLBACK:N (what it returns),
 * fail=CALLBACK:HOW:ERRNO with HOW one of set (nbdkit_set_error), errno, text (nbdkit_error),
 * extents=OFFSET:LENGTH:TYPE,... and do=WHAT for what pread does besides (see pread_extra).
 * The environment says what the struct looks like: PROBE_WITHOUT=NAME,..., PROBE_STRUCT_SIZE,
 * PROBE_API_VERSION, PROBE_NAME, PROBE_MODEL and PROBE_PRESERVED. */
#ifndef NBDKIT_API_VERSION
#define NBDKIT_API_VERSION 2
#endif
#include <nbdkit-plugin.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define DISK_MAX (1 << 20)

struct setting {
  char name[32];
  int value;
  char how[8];
};

struct handle {
  int readonly;
};

/* Looked up by the tests. */
NBDKIT_DLL_PUBLIC extern int probe_debug_flag_one;
NBDKIT_DLL_PUBLIC extern int probe_most_at_once;
NBDKIT_DLL_PUBLIC const char* probe_trace(void);
NBDKIT_DLL_PUBLIC void probe_clear(void);
int probe_debug_flag_one;
int probe_most_at_once;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;
static char trace[64 * 1024];
static struct setting answers[16], failure;
static int answer_count, at_once, model = THREAD_MODEL, meet_count, needs_tls;
static int64_t size = DISK_MAX;
static unsigned block[3];
static char disk[DISK_MAX];
static const char *extents_text, *extra = "";

const char* probe_trace(void) { return trace; }
void probe_clear(void) { trace[0] = '\0'; }

static void remember(const char* format, ...) NBDKIT_ATTRIBUTE_FORMAT_PRINTF(1, 2);
static void remember(const char* format, ...) {
  va_list args;
  size_t used;
  pthread_mutex_lock(&lock);
  used = strlen(trace);
  va_start(args, format);
  vsnprintf(trace + used, sizeof trace - used, format, args);
  va_end(args);
  pthread_mutex_unlock(&lock);
}

/* Calls that overlap are seen here. */
static void enter(void) {
  const struct timespec moment = {0, 200 * 1000};
  pthread_mutex_lock(&lock);
  if (++at_once > probe_most_at_once) probe_most_at_once = at_once;
  pthread_mutex_unlock(&lock);
  nanosleep(&moment, NULL);
}

static void leave(void) {
  pthread_mutex_lock(&lock);
  --at_once;
  pthread_mutex_unlock(&lock);
}

static int fails(const char* callback) {
  if (strcmp(failure.name, callback) != 0) return 0;
  if (strcmp(failure.how, "set") == 0) nbdkit_set_error(failure.value);
  if (strcmp(failure.how, "text") == 0) nbdkit_error("probe: %s is told to fail\n", callback);
  errno = strcmp(failure.how, "errno") == 0 ? failure.value : 0;
  return 1;
}

static int answer(const char* callback, int otherwise) {
  int i, result = otherwise;
  enter();
  if (fails(callback)) {
    result = -1;
  } else {
    for (i = 0; i < answer_count; ++i) {
      if (strcmp(answers[i].name, callback) == 0) result = answers[i].value;
    }
  }
  leave();
  return result;
}

static void probe_load(void) { remember("load %d\n", probe_debug_flag_one); }
static void probe_unload(void) { nbdkit_debug("probe: unload"); }

static int probe_config(const char* key, const char* value) {
  if (strcmp(key, "size") == 0) {
    size = nbdkit_parse_size(value);
    return size == -1 ? -1 : 0;
  }
  if (strcmp(key, "model") == 0) return nbdkit_parse_int("model", value, &model);
  if (strcmp(key, "meet") == 0) return nbdkit_parse_int("meet", value, &meet_count);
  if (strcmp(key, "needs-tls") == 0) return nbdkit_parse_int(key, value, &needs_tls);
  if (strcmp(key, "do") == 0) {
    extra = value;
  } else if (strcmp(key, "extents") == 0) {
    extents_text = value;
  } else if (strcmp(key, "block") == 0) {
    sscanf(value, "%u:%u:%u", &block[0], &block[1], &block[2]);
  } else if (strcmp(key, "answer") == 0) {
    struct setting* one = &answers[answer_count++];
    sscanf(value, "%31[^:]:%d", one->name, &one->value);
  } else if (strcmp(key, "fail") == 0) {
    sscanf(value, "%31[^:]:%7[^:]:%d", failure.name, failure.how, &failure.value);
    if (fails("config")) return -1;
  } else if (strcmp(key, "exit") == 0) {
    nbdkit_error("probe: the last words");
    exit(3);
  } else {
    nbdkit_error("probe: unknown parameter '%s'", key);
    return -1;
  }
  return 0;
}

static int probe_config_complete(void) { return fails("config_complete") ? -1 : 0; }
static int probe_thread_model(void) { return fails("thread_model") ? -1 : model; }
static int probe_get_ready(void) {
  remember("get_ready stdio_safe=%d\n", nbdkit_stdio_safe());
  return fails("get_ready") ? -1 : 0;
}
static int probe_after_fork(void) {
  remember("after_fork stdio_safe=%d\n", nbdkit_stdio_safe());
  if (strcmp(extra, "exit") == 0) exit(0);
  return fails("after_fork") ? -1 : 0;
}
static void probe_cleanup(void) { nbdkit_debug("probe: cleanup"); }
static void probe_dump_plugin(void) { printf("probe_says=hello\n"); }

static int probe_preconnect(int readonly) {
  remember("preconnect %d\n", readonly);
  return fails("preconnect") ? -1 : 0;
}

static int probe_list_exports(int readonly, int is_tls, struct nbdkit_exports* exports) {
  remember("list_exports %d %d\n", readonly, is_tls);
  if (fails("list_exports")) return -1;
  if (nbdkit_use_default_export(exports) == -1) return -1;
  return nbdkit_add_export(exports, "second", "its description");
}

static const char* probe_default_export(int readonly, int is_tls) {
  remember("default_export %d %d\n", readonly, is_tls);
  if (fails("default_export")) return NULL;
  return nbdkit_printf_intern("the-%s", "first");
}

static void* probe_open(int readonly) {
  struct handle* h;
  enter();
  remember("open %d\n", readonly);
  if (needs_tls && nbdkit_is_tls() != 1 && failure.value == 0) {
    nbdkit_error("probe: only with TLS");
    nbdkit_set_error(EPERM);
    h = NULL;
  } else {
    h = fails("open") ? NULL : calloc(1, sizeof *h);
  }
  leave();
  return h;
}

static void probe_close(void* handle) {
  enter();
  remember("close\n");
  nbdkit_debug("probe: close");
  free(handle);
  leave();
}

static const char* probe_export_description(void* handle) {
  (void)handle;
  return nbdkit_strdup_intern("a probe");
}

static int64_t probe_get_size(void* handle) {
  (void)handle;
  if (answer("get_size", 0) != 0) return answer("get_size", 0);
  return size;
}

static int probe_block_size(void* handle, uint32_t* minimum, uint32_t* preferred,
                            uint32_t* maximum) {
  (void)handle;
  *minimum = block[0];
  *preferred = block[1];
  *maximum = block[2];
  return answer("block_size", 0);
}

#define CAN(name, otherwise)         \
  static int probe_##name(void* h) { \
    (void)h;                         \
    return answer(#name, otherwise); \
  }
CAN(can_write, 1)
CAN(can_flush, 1)
CAN(is_rotational, 0)
CAN(can_trim, 1)
CAN(can_zero, 1)
CAN(can_fast_zero, 1)
CAN(can_extents, 1)
CAN(can_fua, NBDKIT_FUA_NATIVE)
CAN(can_multi_conn, 1)
CAN(can_cache, NBDKIT_CACHE_NATIVE)

/* A thread of the plugin's own. */
#pragma GCC diagnostic ignored "-Wformat" /* %m is the C library's own. */
static void* own_thread(void* unused) {
  (void)unused;
  errno = ENOENT;
  nbdkit_error("from a thread: %m");
  nbdkit_set_error(ENOSPC);
  remember("thread errno=%d\n", errno == ENOSPC);
  nbdkit_disconnect(1);
  remember("thread name=%s tls=%d kept=%s\n", nbdkit_export_name() == NULL ? "none" : "some",
           nbdkit_is_tls(), nbdkit_strdup_intern("kept"));
  return NULL;
}

/* All come, or nobody leaves (until too much time has passed). */
static int meet(void) {
  static int met;
  struct timespec until;
  int result = 0;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 20;
  pthread_mutex_lock(&lock);
  ++met;
  pthread_cond_broadcast(&arrived);
  while (met < meet_count && result == 0) result = pthread_cond_timedwait(&arrived, &lock, &until);
  pthread_mutex_unlock(&lock);
  if (result != 0) nbdkit_error("probe: too few have come");
  return result;
}

static int pread_extra(void) {
  if (strcmp(extra, "thread") == 0) {
    pthread_t thread;
    pthread_create(&thread, NULL, own_thread, NULL);
    pthread_join(thread, NULL);
  } else if (strcmp(extra, "nap") == 0) {
    remember("nap\n");
    return nbdkit_nanosleep(3600, 0);
  } else if (strcmp(extra, "end") == 0) {
    nbdkit_disconnect(0);
    nbdkit_shutdown();
  } else if (strcmp(extra, "shutdown") == 0) {
    nbdkit_shutdown();
  } else if (strcmp(extra, "leave") == 0) {
    nbdkit_disconnect(0);
  } else if (strcmp(extra, "break") == 0) {
    nbdkit_disconnect(1);
  } else if (strcmp(extra, "ask") == 0) {
    remember("name=%s tls=%d uid=%d\n", nbdkit_export_name(), nbdkit_is_tls(),
             (int)nbdkit_peer_uid());
  }
  return meet_count > 0 && meet() != 0 ? -1 : 0;
}

static int check_range(const char* what, uint32_t count, uint64_t offset) {
  if (fails(what)) return -1;
  return count <= (uint64_t)size && offset <= (uint64_t)size - count ? 0 : -1;
}

static int do_pread(void* buffer, uint32_t count, uint64_t offset, uint32_t flags) {
  int result;
  enter();
  remember("pread %u %llu %u\n", count, (unsigned long long)offset, flags);
  result = check_range("pread", count, offset);
  if (result == 0) result = pread_extra();
  if (result == 0) memset(buffer, 'p', count);
  if (result == 0 && offset + count <= DISK_MAX) memcpy(buffer, disk + offset, count);
  leave();
  return result;
}

static int do_pwrite(const void* buffer, uint32_t count, uint64_t offset, uint32_t flags) {
  int result;
  enter();
  remember("pwrite %u %llu %u\n", count, (unsigned long long)offset, flags);
  result = check_range("pwrite", count, offset);
  if (result == 0 && offset + count <= DISK_MAX) memcpy(disk + offset, buffer, count);
  leave();
  return result;
}

static int do_flush(uint32_t flags) {
  int result;
  enter();
  remember("flush %u\n", flags);
  result = fails("flush") ? -1 : 0;
  leave();
  return result;
}

static int do_range(const char* what, uint32_t count, uint64_t offset, uint32_t flags) {
  int result;
  enter();
  remember("%s %u %llu %u\n", what, count, (unsigned long long)offset, flags);
  result = check_range(what, count, offset);
  if (result == 0 && strcmp(what, "zero") == 0 && offset + count <= DISK_MAX) {
    memset(disk + offset, 0, count);
  }
  leave();
  return result;
}

static int probe_extents(void* handle, uint32_t count, uint64_t offset, uint32_t flags,
                         struct nbdkit_extents* extents) {
  const char* next = extents_text;
  unsigned long long from, length;
  unsigned type;
  int used;
  (void)handle;
  if (do_range("extents", count, offset, flags) == -1) return -1;
  while (next != NULL && sscanf(next, "%llu:%llu:%u%n", &from, &length, &type, &used) == 3) {
    if (nbdkit_add_extent(extents, from, length, type) == -1) return -1;
    next += used;
    if (*next == ',') ++next;
  }
  return 0;
}

static int probe_cache(void* handle, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle;
  return do_range("cache", count, offset, flags);
}

#if NBDKIT_API_VERSION == 1
static int probe_pread(void* handle, void* buffer, uint32_t count, uint64_t offset) {
  (void)handle;
  return do_pread(buffer, count, offset, 0);
}
static int probe_pwrite(void* handle, const void* buffer, uint32_t count, uint64_t offset) {
  (void)handle;
  return do_pwrite(buffer, count, offset, 0);
}
static int probe_flush(void* handle) {
  (void)handle;
  return do_flush(0);
}
static int probe_trim(void* handle, uint32_t count, uint64_t offset) {
  (void)handle;
  return do_range("trim", count, offset, 0);
}
static int probe_zero(void* handle, uint32_t count, uint64_t offset, int may_trim) {
  (void)handle;
  return do_range("zero", count, offset, may_trim ? NBDKIT_FLAG_MAY_TRIM : 0);
}
#else
static int probe_pread(void* handle, void* buffer, uint32_t count, uint64_t offset,
                       uint32_t flags) {
  (void)handle;
  return do_pread(buffer, count, offset, flags);
}
static int probe_pwrite(void* handle, const void* buffer, uint32_t count, uint64_t offset,
                        uint32_t flags) {
  (void)handle;
  return do_pwrite(buffer, count, offset, flags);
}
static int probe_flush(void* handle, uint32_t flags) {
  (void)handle;
  return do_flush(flags);
}
static int probe_trim(void* handle, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle;
  return do_range("trim", count, offset, flags);
}
static int probe_zero(void* handle, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle;
  return do_range("zero", count, offset, flags);
}
#endif

static struct nbdkit_plugin plugin = {
    .name = "probe",
    .longname = "a probe",
    .version = "1.2.3",
    .description = "for tests",
    .config_help = "size=SIZE",
    .magic_config_key = "size",
};

static int listed(const char* list, const char* name) {
  size_t length = strlen(name);
  const char* found;
  for (found = list; found != NULL && (found = strstr(found, name)) != NULL; ++found) {
    if ((found == list || found[-1] == ',') && (found[length] == ',' || found[length] == '\0')) {
      return 1;
    }
  }
  return 0;
}

static int number_from(const char* variable, int otherwise) {
  const char* text = getenv(variable);
  return text == NULL ? otherwise : atoi(text);
}

/* By hand and not by NBDKIT_REGISTER_PLUGIN, to look like plugins of other times. */
struct nbdkit_plugin* plugin_init(void) {
  const char* without = getenv("PROBE_WITHOUT");
#define SET(name) plugin.name = listed(without, #name) ? NULL : probe_##name
  SET(load);
  SET(unload);
  SET(config);
  SET(config_complete);
  SET(thread_model);
  SET(get_ready);
  SET(after_fork);
  SET(cleanup);
  SET(dump_plugin);
  SET(preconnect);
  SET(list_exports);
  SET(default_export);
  SET(open);
  SET(close);
  SET(export_description);
  SET(get_size);
  SET(block_size);
  SET(can_write);
  SET(can_flush);
  SET(is_rotational);
  SET(can_trim);
  SET(can_zero);
  SET(can_fast_zero);
  SET(can_extents);
  SET(can_fua);
  SET(can_multi_conn);
  SET(can_cache);
  SET(pread);
  SET(pwrite);
  SET(flush);
  SET(trim);
  SET(zero);
  SET(extents);
  SET(cache);
  plugin._struct_size = (uint64_t)number_from("PROBE_STRUCT_SIZE", (int)sizeof plugin);
  plugin._api_version = number_from("PROBE_API_VERSION", NBDKIT_API_VERSION);
  plugin._thread_model = number_from("PROBE_MODEL", THREAD_MODEL);
  plugin.errno_is_preserved = number_from("PROBE_PRESERVED", 0);
  if (getenv("PROBE_NAME") != NULL) plugin.name = getenv("PROBE_NAME");
  return getenv("PROBE_NULL") != NULL ? NULL : &plugin;
}
