/* SPDX-License-Identifier: BSD-3-Clause */
/* The interface of a plugin in C: struct nbdkit_plugin (nbdkit-plugin(3)).
 *
 *   #define NBDKIT_API_VERSION 2
 *   #include <nbdkit-plugin.h>
 *   #define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
 *   static struct nbdkit_plugin plugin = { .name = "mine", .open = ..., };
 *   NBDKIT_REGISTER_PLUGIN(plugin)
 *
 * Functions that return int give 0 and -1, can_* also 1. The layout never changes: fields are only
 * added, and only at the end. */
#ifndef NBDKIT_PLUGIN_H
#define NBDKIT_PLUGIN_H

#include <nbdkit-common.h>

/* Version 1 is the one without flags. */
#ifndef NBDKIT_API_VERSION
#define NBDKIT_API_VERSION 1
#endif
#if NBDKIT_API_VERSION < 1 || NBDKIT_API_VERSION > 2
#error "NBDKIT_API_VERSION must be 1 or 2"
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct nbdkit_plugin {
  /* Filled in by NBDKIT_REGISTER_PLUGIN. */
  uint64_t _struct_size;
  int _api_version;
  int _thread_model;

  /* Letters, digits and '-', the first one no '-'. */
  const char* name;
  const char* longname;
  const char* version;
  const char* description;

  void (*load)(void);
  void (*unload)(void);

  /* Both strings live until the process ends. */
  int (*config)(const char* key, const char* value);
  int (*config_complete)(void);
  const char* config_help;

  /* NULL when it fails. */
  void* (*open)(int readonly);
  void (*close)(void* handle);

  int64_t (*get_size)(void* handle);
  int (*can_write)(void* handle);
  int (*can_flush)(void* handle);
  int (*is_rotational)(void* handle);
  int (*can_trim)(void* handle);

#if NBDKIT_API_VERSION == 1
  int (*pread)(void* handle, void* buffer, uint32_t count, uint64_t offset);
  int (*pwrite)(void* handle, const void* buffer, uint32_t count, uint64_t offset);
  int (*flush)(void* handle);
  int (*trim)(void* handle, uint32_t count, uint64_t offset);
  int (*zero)(void* handle, uint32_t count, uint64_t offset, int may_trim);
#else
  int (*_pread_v1)(void* handle, void* buffer, uint32_t count, uint64_t offset);
  int (*_pwrite_v1)(void* handle, const void* buffer, uint32_t count, uint64_t offset);
  int (*_flush_v1)(void* handle);
  int (*_trim_v1)(void* handle, uint32_t count, uint64_t offset);
  int (*_zero_v1)(void* handle, uint32_t count, uint64_t offset, int may_trim);
#endif

  /* Whether errno tells why a function failed. */
  int errno_is_preserved;

  void (*dump_plugin)(void);

  int (*can_zero)(void* handle);
  int (*can_fua)(void* handle); /* NBDKIT_FUA_... */

#if NBDKIT_API_VERSION == 1
  int (*_pread_v2)(void* handle, void* buffer, uint32_t count, uint64_t offset, uint32_t flags);
  int (*_pwrite_v2)(void* handle, const void* buffer, uint32_t count, uint64_t offset,
                    uint32_t flags);
  int (*_flush_v2)(void* handle, uint32_t flags);
  int (*_trim_v2)(void* handle, uint32_t count, uint64_t offset, uint32_t flags);
  int (*_zero_v2)(void* handle, uint32_t count, uint64_t offset, uint32_t flags);
#else
  int (*pread)(void* handle, void* buffer, uint32_t count, uint64_t offset, uint32_t flags);
  int (*pwrite)(void* handle, const void* buffer, uint32_t count, uint64_t offset, uint32_t flags);
  int (*flush)(void* handle, uint32_t flags);
  int (*trim)(void* handle, uint32_t count, uint64_t offset, uint32_t flags);
  int (*zero)(void* handle, uint32_t count, uint64_t offset, uint32_t flags);
#endif

  /* The key that a parameter without one gets. */
  const char* magic_config_key;

  int (*can_multi_conn)(void* handle);

  int (*can_extents)(void* handle);
  int (*extents)(void* handle, uint32_t count, uint64_t offset, uint32_t flags,
                 struct nbdkit_extents* extents);

  int (*can_cache)(void* handle); /* NBDKIT_CACHE_... */
  int (*cache)(void* handle, uint32_t count, uint64_t offset, uint32_t flags);

  int (*thread_model)(void); /* NBDKIT_THREAD_MODEL_..., never more than the compiled one */

  int (*can_fast_zero)(void* handle);

  int (*preconnect)(int readonly);

  int (*get_ready)(void);
  int (*after_fork)(void);

  int (*list_exports)(int readonly, int is_tls, struct nbdkit_exports* exports);
  const char* (*default_export)(int readonly, int is_tls);
  const char* (*export_description)(void* handle);

  void (*cleanup)(void);

  /* Bytes; all 0 when nothing is known. */
  int (*block_size)(void* handle, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum);
};

/* What the server looks for. */
extern NBDKIT_DLL_PUBLIC struct nbdkit_plugin* plugin_init(void);

#define NBDKIT_REGISTER_PLUGIN(plugin)                        \
  NBDKIT_CXX_LANG_C struct nbdkit_plugin* plugin_init(void) { \
    (plugin)._struct_size = sizeof(plugin);                   \
    (plugin)._api_version = NBDKIT_API_VERSION;               \
    (plugin)._thread_model = THREAD_MODEL;                    \
    return &(plugin);                                         \
  }

#ifdef __cplusplus
}
#endif

#endif
