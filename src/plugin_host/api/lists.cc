// SPDX-License-Identifier: BSD-3-Clause
// The lists of extents and exports that plugins fill.

#include <cerrno>

#include "plugin_host/api/caller.h"
#include "plugin_host/c_lists.h"

using namespace nbdkit;

// Not in nbdkit-common.h: a plugin never makes a list of exports, but code that it shares with
// filters may be linked into it.
struct nbdkit_export {
  char* name;
  char* description;
};

extern "C" {

nbdkit_exports* nbdkit_exports_new(void);
void nbdkit_exports_free(nbdkit_exports* exports);
size_t nbdkit_exports_count(const nbdkit_exports* exports);
struct nbdkit_export nbdkit_get_export(const nbdkit_exports* exports, size_t index);

nbdkit_extents* nbdkit_extents_new(uint64_t start, uint64_t end) {
  if (start > INT64_MAX || end > INT64_MAX) {
    failed("nbdkit_extents_new: start ({}) or end ({}) is larger than any export", start, end);
    errno = ERANGE;
    return nullptr;
  }
  return new nbdkit_extents(start, end);
}

void nbdkit_extents_free(nbdkit_extents* extents) { delete extents; }

size_t nbdkit_extents_count(const nbdkit_extents* extents) { return extents->list->list().size(); }

struct nbdkit_extent nbdkit_get_extent(const nbdkit_extents* extents, size_t index) {
  const Extent& extent = extents->list->list()[index];
  return {extent.offset, extent.length, static_cast<std::uint32_t>(extent.type)};
}

int nbdkit_add_extent(nbdkit_extents* extents, uint64_t offset, uint64_t length, uint32_t type) {
  constexpr std::uint32_t kKnownTypes = NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
  Result<void> added =
      extents->list->add(offset, length, static_cast<ExtentType>(type & kKnownTypes));
  if (added.ok()) return 0;
  failed("nbdkit_add_extent: {}", added.error().message());
  errno = ERANGE;
  return -1;
}

nbdkit_exports* nbdkit_exports_new(void) { return new nbdkit_exports; }

void nbdkit_exports_free(nbdkit_exports* exports) { delete exports; }

size_t nbdkit_exports_count(const nbdkit_exports* exports) { return exports->entries.size(); }

struct nbdkit_export nbdkit_get_export(const nbdkit_exports* exports, size_t index) {
  const nbdkit_exports::Entry& entry = exports->entries[index];
  return {const_cast<char*>(entry.name.c_str()),
          entry.description ? const_cast<char*>(entry.description->c_str()) : nullptr};
}

int nbdkit_add_export(nbdkit_exports* exports, const char* name, const char* description) {
  if (exports->entries.size() >= nbdkit_exports::kEntriesMax) {
    errno = EINVAL;
    return failed("nbdkit_add_export: there are more than {} exports", nbdkit_exports::kEntriesMax);
  }
  nbdkit_exports::Entry entry;
  entry.name = name;
  if (description != nullptr) entry.description = description;
  if (entry.name.size() > Layer::kNameMax ||
      (entry.description && entry.description->size() > Layer::kNameMax)) {
    errno = EINVAL;
    return failed("nbdkit_add_export: a name or description is longer than {} bytes",
                  Layer::kNameMax);
  }
  exports->entries.push_back(std::move(entry));
  return 0;
}

int nbdkit_use_default_export(nbdkit_exports* exports) {
  if (exports->entries.size() >= nbdkit_exports::kEntriesMax) {
    errno = EINVAL;
    return failed("nbdkit_use_default_export: there are more than {} exports",
                  nbdkit_exports::kEntriesMax);
  }
  nbdkit_exports::Entry entry;
  entry.is_default = true;
  exports->entries.push_back(std::move(entry));
  return 0;
}

}  // extern "C"
