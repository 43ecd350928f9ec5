// SPDX-License-Identifier: BSD-3-Clause
// The layout that plugin binaries were built for, as version 2 of the interface names it.

#define NBDKIT_API_VERSION 2
#include <gtest/gtest.h>
#include <nbdkit-plugin.h>

#include <cstddef>

#define AT(field, offset) static_assert(offsetof(nbdkit_plugin, field) == (offset))

static_assert(sizeof(nbdkit_plugin) == 384);
AT(_struct_size, 0);
AT(_api_version, 8);
AT(_thread_model, 12);
AT(name, 16);
AT(longname, 24);
AT(version, 32);
AT(description, 40);
AT(load, 48);
AT(unload, 56);
AT(config, 64);
AT(config_complete, 72);
AT(config_help, 80);
AT(open, 88);
AT(close, 96);
AT(get_size, 104);
AT(can_write, 112);
AT(can_flush, 120);
AT(is_rotational, 128);
AT(can_trim, 136);
AT(_pread_v1, 144);
AT(_pwrite_v1, 152);
AT(_flush_v1, 160);
AT(_trim_v1, 168);
AT(_zero_v1, 176);
AT(errno_is_preserved, 184);
AT(dump_plugin, 192);
AT(can_zero, 200);
AT(can_fua, 208);
AT(pread, 216);
AT(pwrite, 224);
AT(flush, 232);
AT(trim, 240);
AT(zero, 248);
AT(magic_config_key, 256);
AT(can_multi_conn, 264);
AT(can_extents, 272);
AT(extents, 280);
AT(can_cache, 288);
AT(cache, 296);
AT(thread_model, 304);
AT(can_fast_zero, 312);
AT(preconnect, 320);
AT(get_ready, 328);
AT(after_fork, 336);
AT(list_exports, 344);
AT(default_export, 352);
AT(export_description, 360);
AT(cleanup, 368);
AT(block_size, 376);

static_assert(sizeof(nbdkit_extent) == 24);
static_assert(NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS == 0);
static_assert(NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS == 1);
static_assert(NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS == 2);
static_assert(NBDKIT_THREAD_MODEL_PARALLEL == 3);
static_assert(NBDKIT_FLAG_MAY_TRIM == 1);
static_assert(NBDKIT_FLAG_FUA == 2);
static_assert(NBDKIT_FLAG_REQ_ONE == 4);
static_assert(NBDKIT_FLAG_FAST_ZERO == 8);
static_assert(NBDKIT_FUA_NONE == 0 && NBDKIT_FUA_EMULATE == 1 && NBDKIT_FUA_NATIVE == 2);
static_assert(NBDKIT_CACHE_NONE == 0 && NBDKIT_CACHE_EMULATE == 1 && NBDKIT_CACHE_NATIVE == 2);
static_assert(NBDKIT_EXTENT_HOLE == 1 && NBDKIT_EXTENT_ZERO == 2);

// The registration as a plugin writes it; the name is changed because this is no plugin.
#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS
#define plugin_init registered_plugin
static nbdkit_plugin registered;
NBDKIT_REGISTER_PLUGIN(registered)
#undef plugin_init

TEST(Abi, RegisteringFillsInWhatTheServerChecks) {
  const nbdkit_plugin* plugin = registered_plugin();
  EXPECT_EQ(plugin->_struct_size, 384u);
  EXPECT_EQ(plugin->_api_version, 2);
  EXPECT_EQ(plugin->_thread_model, 2);
}
