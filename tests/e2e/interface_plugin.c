/* SPDX-License-Identifier: BSD-3-Clause */
/* A plugin that tells, in debug messages, what it is asked and what the functions of the
 * interface answer. Two servers that say the same to it are the same to plugins. With
 * NBDKIT_API_VERSION 1 it has the functions of that version. */
#ifndef NBDKIT_API_VERSION
#define NBDKIT_API_VERSION 2
#endif
#include <errno.h>
#include <nbdkit-plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS
#define DISK (1 << 20)
#define FAULT (64 << 10) /* bytes, at each of which another way to fail begins */

static char disk[DISK];

static void tell_text(const char* what, char* text) {
  nbdkit_debug("told: %s: %s", what, text != NULL ? text : "NULL");
  free(text);
}

#define TELL_NUMBER(type, format, cast)                                          \
  do {                                                                           \
    type number = 0;                                                             \
    int result = nbdkit_parse_##type("number", value, &number);                  \
    nbdkit_debug("told: " #type " %s: %d " format, value, result, (cast)number); \
  } while (0)

static void tell_numbers(const char* value) {
  int number = 0;
  unsigned positive = 0;
  int result = nbdkit_parse_int("number", value, &number);
  nbdkit_debug("told: int %s: %d %d", value, result, number);
  result = nbdkit_parse_unsigned("number", value, &positive);
  nbdkit_debug("told: unsigned %s: %d %u", value, result, positive);
  TELL_NUMBER(int8_t, "%lld", long long);
  TELL_NUMBER(uint8_t, "%llu", unsigned long long);
  TELL_NUMBER(int16_t, "%lld", long long);
  TELL_NUMBER(uint16_t, "%llu", unsigned long long);
  TELL_NUMBER(int32_t, "%lld", long long);
  TELL_NUMBER(uint32_t, "%llu", unsigned long long);
  TELL_NUMBER(int64_t, "%lld", long long);
  TELL_NUMBER(uint64_t, "%llu", unsigned long long);
}

static void t_load(void) { nbdkit_debug("told: load"); }
static void t_unload(void) { nbdkit_debug("told: unload"); }
static void t_dump_plugin(void) { printf("teller_knows=everything\n"); }

static int t_config(const char* key, const char* value) {
  char* text = NULL;
  int result;
  nbdkit_debug("told: config %s=%s", key, value);
  if (strcmp(key, "number") == 0) tell_numbers(value);
  if (strcmp(key, "size") == 0) {
    nbdkit_debug("told: size %s: %lld", value, (long long)nbdkit_parse_size(value));
  }
  if (strcmp(key, "bool") == 0) {
    nbdkit_debug("told: bool %s: %d", value, nbdkit_parse_bool(value));
  }
  if (strcmp(key, "path") == 0) {
    tell_text("absolute_path", nbdkit_absolute_path(value));
    tell_text("realpath", nbdkit_realpath(value));
  }
  if (strcmp(key, "password") == 0) {
    result = nbdkit_read_password(value, &text);
    nbdkit_debug("told: read_password %d", result);
    if (result == 0) tell_text("password", text);
  }
  return 0;
}

static int t_config_complete(void) {
  const char* kept = nbdkit_strdup_intern("interned");
  nbdkit_debug("told: %s %s %s", kept, nbdkit_strndup_intern(kept, 2),
               nbdkit_printf_intern("%s-%d", kept, 5));
  errno = ENOSPC;
  nbdkit_debug("told: %m, errno %d", errno);
  nbdkit_error("not a failure%s", "\n\n");
  nbdkit_debug("told: errno is still %d", errno);
  return 0;
}

static int t_thread_model(void) {
  nbdkit_debug("told: thread_model");
  return NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS;
}
static int t_get_ready(void) {
  nbdkit_debug("told: get_ready stdio_safe=%d", nbdkit_stdio_safe());
  return 0;
}
static int t_after_fork(void) {
  nbdkit_debug("told: after_fork stdio_safe=%d", nbdkit_stdio_safe());
  return 0;
}
static void t_cleanup(void) { nbdkit_debug("told: cleanup"); }

static void tell_peer(const char* when) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  int result = nbdkit_peer_name((struct sockaddr*)&address, &length);
  nbdkit_debug("told: %s: peer_name %d, family %d", when, result, address.ss_family);
  nbdkit_debug("told: %s: peer_pid %d, uid %lld, gid %lld", when, nbdkit_peer_pid() > 0,
               (long long)nbdkit_peer_uid(), (long long)nbdkit_peer_gid());
}

static int t_preconnect(int readonly) {
  nbdkit_debug("told: preconnect %d", readonly);
  tell_peer("preconnect");
  return 0;
}
static int t_list_exports(int readonly, int tls, struct nbdkit_exports* exports) {
  nbdkit_debug("told: list_exports %d %d", readonly, tls);
  if (nbdkit_add_export(exports, "first", "the first") == -1) return -1;
  if (nbdkit_add_export(exports, "second", NULL) == -1) return -1;
  return nbdkit_use_default_export(exports);
}
static const char* t_default_export(int readonly, int tls) {
  nbdkit_debug("told: default_export %d %d", readonly, tls);
  return "chosen";
}
static void* t_open(int readonly) {
  nbdkit_debug("told: open %d of '%s'", readonly, nbdkit_export_name());
  tell_peer("open");
  nbdkit_debug("told: is_tls %d", nbdkit_is_tls());
  if (strcmp(nbdkit_export_name(), "none") == 0) {
    nbdkit_error("there is none");
    return NULL;
  }
  return NBDKIT_HANDLE_NOT_NEEDED;
}
static void t_close(void* handle) { nbdkit_debug("told: close %d", handle != NULL); }
static const char* t_export_description(void* handle) {
  nbdkit_debug("told: export_description %d", handle != NULL);
  return nbdkit_printf_intern("about %s", nbdkit_export_name());
}

#define ANSWER(name, value)               \
  static int t_##name(void* handle) {     \
    nbdkit_debug("told: " #name);         \
    return handle != NULL ? (value) : -1; \
  }
ANSWER(can_write, 1)
ANSWER(can_flush, 1)
ANSWER(is_rotational, 7)
ANSWER(can_trim, 1)
ANSWER(can_zero, 1)
ANSWER(can_fast_zero, 1)
ANSWER(can_extents, 1)
ANSWER(can_fua, NBDKIT_FUA_NATIVE)
ANSWER(can_multi_conn, 1)
ANSWER(can_cache, NBDKIT_CACHE_NATIVE)

static int64_t t_get_size(void* handle) {
  nbdkit_debug("told: get_size");
  return handle != NULL ? DISK : -1;
}
static int t_block_size(void* handle, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) {
  nbdkit_debug("told: block_size");
  *minimum = 1;
  *preferred = 4096;
  *maximum = 1 << 20;
  return handle != NULL ? 0 : -1;
}

/* How a request for this place ends: 0, or -1 in one of the ways that there are. */
static int outcome(uint64_t offset) {
  errno = 0;
  switch (offset / FAULT) {
    case 1: /* errno, which this plugin keeps */
      errno = EPERM;
      return -1;
    case 2: /* nbdkit_set_error counts more */
      errno = EPERM;
      nbdkit_set_error(ENOSPC);
      return -1;
    case 3: /* nothing at all */
      return -1;
    case 4:
      nbdkit_set_error(EDQUOT);
      return -1;
    case 5:
      nbdkit_set_error(ESHUTDOWN);
      return -1;
    case 6: /* not an error, as there is no -1 */
      nbdkit_set_error(ENOMEM);
      return 0;
    default:
      return 0;
  }
}

static int range(const char* what, uint32_t count, uint64_t offset, uint32_t flags) {
  nbdkit_debug("told: %s %u at %llu, flags %u", what, count, (unsigned long long)offset, flags);
  return outcome(offset);
}

/* The server is to write the zeroes. */
static int cannot_zero(uint64_t offset) {
  if (offset / FAULT != 7) return 0;
  nbdkit_set_error(EOPNOTSUPP);
  return 1;
}

/* What the functions of version 1 do not have. */
#if NBDKIT_API_VERSION == 1
#define FLAGS
#define ZERO_FLAGS , int flags
#define GIVEN 0
#else
#define FLAGS , uint32_t flags
#define ZERO_FLAGS , uint32_t flags
#define GIVEN flags
#endif

static int t_pread(void* handle, void* buffer, uint32_t count, uint64_t offset FLAGS) {
  if (handle == NULL || range("pread", count, offset, GIVEN) == -1) return -1;
  memcpy(buffer, disk + offset, count);
  return 0;
}
static int t_pwrite(void* handle, const void* buffer, uint32_t count, uint64_t offset FLAGS) {
  if (handle == NULL || range("pwrite", count, offset, GIVEN) == -1) return -1;
  memcpy(disk + offset, buffer, count);
  return 0;
}
static int t_flush(void* handle FLAGS) { return handle != NULL ? range("flush", 0, 0, GIVEN) : -1; }
static int t_trim(void* handle, uint32_t count, uint64_t offset FLAGS) {
  return handle != NULL ? range("trim", count, offset, GIVEN) : -1;
}
static int t_zero(void* handle, uint32_t count, uint64_t offset ZERO_FLAGS) {
  if (handle == NULL || range("zero", count, offset, (uint32_t)flags) == -1) return -1;
  if (cannot_zero(offset)) return -1;
  memset(disk + offset, 0, count);
  return 0;
}
static int t_cache(void* handle, uint32_t count, uint64_t offset, uint32_t flags) {
  return handle != NULL ? range("cache", count, offset, flags) : -1;
}
static int t_extents(void* handle, uint32_t count, uint64_t offset, uint32_t flags,
                     struct nbdkit_extents* extents) {
  if (handle == NULL || range("extents", count, offset, flags) == -1) return -1;
  if (nbdkit_add_extent(extents, offset, 4096, 0) == -1) return -1;
  if (nbdkit_add_extent(extents, offset + 4096, 4096, NBDKIT_EXTENT_ZERO) == -1) return -1;
  return nbdkit_add_extent(extents, offset + 8192, DISK - offset - 8192,
                           NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
}

static struct nbdkit_plugin plugin = {
    .name = "teller",
    .longname = "tells what it is asked",
    .version = "1.2.3",
    .description = "For tests.",
    .magic_config_key = "word",
    .config_help = "word=TEXT    anything",
    .load = t_load,
    .unload = t_unload,
    .dump_plugin = t_dump_plugin,
    .config = t_config,
    .config_complete = t_config_complete,
    .thread_model = t_thread_model,
    .get_ready = t_get_ready,
    .after_fork = t_after_fork,
    .cleanup = t_cleanup,
    .preconnect = t_preconnect,
    .list_exports = t_list_exports,
    .default_export = t_default_export,
    .open = t_open,
    .close = t_close,
    .export_description = t_export_description,
    .get_size = t_get_size,
    .block_size = t_block_size,
    .can_write = t_can_write,
    .can_flush = t_can_flush,
    .is_rotational = t_is_rotational,
    .can_trim = t_can_trim,
    .can_zero = t_can_zero,
    .can_fast_zero = t_can_fast_zero,
    .can_extents = t_can_extents,
    .can_fua = t_can_fua,
    .can_multi_conn = t_can_multi_conn,
    .can_cache = t_can_cache,
    .pread = t_pread,
    .pwrite = t_pwrite,
    .flush = t_flush,
    .trim = t_trim,
    .zero = t_zero,
    .cache = t_cache,
    .extents = t_extents,
    .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN(plugin)
