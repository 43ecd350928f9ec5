// SPDX-License-Identifier: BSD-3-Clause
// file: a file, a block device, or a directory of them.

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <map>
#include <utility>

#include "block/layer.h"
#include "block/native_module.h"
#include "device.h"
#include "source.h"

namespace nbdkit {
namespace {

class FileLayer final : public Layer {
 public:
  Result<bool> configure(std::string_view key, std::string_view value) override;
  Result<void> configured() override;
  Result<void> get_ready() override { return find_source(); }
  Result<std::uint32_t> minimum_block() override;
  void cleanup() override { kept_.clear(); }

  Contract contract() const override {
    return {.survives = Survives::durable, .shared_open = true, .swap_fit = direct_};
  }
  std::string_view long_name() const override { return "nbdkit file plugin"; }
  std::string dump() const override {
    return "file_blksszget=yes\nfile_blkzeroout=yes\nfile_falloc_fl_punch_hole=yes\n"
           "file_falloc_fl_zero_range=yes\n";
  }

  Task<std::vector<ExportEntry>> list_exports(Context& context) override;
  Task<DevicePtr> open(Context& context) override;

 protected:
  void declare(Params& params) override;

 private:
  // A Backing and what it is for one connection: files may grow.
  struct Opened {
    std::shared_ptr<Backing> backing;
    std::uint64_t size;
  };

  Result<void> find_source();
  Result<Opened> open_backing(const Context& context);
  Properties properties_of(const Opened& opened) const;

  std::string file_;
  std::string directory_;
  std::int64_t fd_ = -1;
  std::int64_t dirfd_ = -1;
  std::size_t access_ = 0;
  std::size_t cache_ = 0;
  bool direct_ = false;
  bool direct_given_ = false;

  std::unique_ptr<Source> source_;
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Backing>> backings_;
  std::vector<std::shared_ptr<Backing>> kept_;  // Of inherited descriptors.
};

void FileLayer::declare(Params& params) {
  params.add_path("file", file_, {.help = "file or block device to serve", .magic = true});
  params.add_path("dir", directory_,
                  {.help = "directory of files to serve by export name", .alias = "directory"});
  params.add_number("fd", fd_,
                    {.help = "open descriptor of the file to serve", .min = 3, .max = INT_MAX});
  params.add_number("dirfd", dirfd_,
                    {.help = "open descriptor of the directory", .min = 3, .max = INT_MAX});
  params.add_choice("fadvise", access_, {"normal", "random", "sequential"},
                    {.help = "how the file will be read (default normal)"});
  params.add_choice("cache", cache_, {"default", "none"},
                    {.help = "none: keep the page cache free of it (default default)"});
  params.add_bool("direct", direct_, {.help = "go past the page cache (default false)"});
}

Result<bool> FileLayer::configure(std::string_view key, std::string_view value) {
  if (key == "rdelay" || key == "wdelay") {
    return Error(std::errc::invalid_argument,
                 fmt::format("{}={}: belongs to the delay filter; add --filter=delay", key, value));
  }
  if (key == "direct") direct_given_ = true;
  return Layer::configure(key, value);
}

Result<void> FileLayer::configured() {
  if (environment().swap && !direct_given_) direct_ = true;
  std::vector<std::string_view> given;
  if (!file_.empty()) given.push_back("file=");
  if (!directory_.empty()) given.push_back("dir=");
  if (fd_ >= 0) given.push_back("fd=");
  if (dirfd_ >= 0) given.push_back("dirfd=");
  if (given.empty()) {
    return Error(std::errc::invalid_argument,
                 "what shall be served? Give one of file=PATH, dir=PATH, fd=N and dirfd=N");
  }
  if (given.size() > 1) {
    return Error(std::errc::invalid_argument,
                 fmt::format("{} and {} exclude each other", given[0], given[1]));
  }
  return {};
}

Result<void> FileLayer::find_source() {
  if (source_) return {};
  auto source = !file_.empty()        ? file_source(file_)
                : !directory_.empty() ? directory_source(directory_)
                : fd_ >= 0            ? fd_source(static_cast<int>(fd_))
                                      : dirfd_source(static_cast<int>(dirfd_));
  if (!source.ok()) return std::move(source).error();
  source_ = std::move(source).value();
  return {};
}

Result<std::uint32_t> FileLayer::minimum_block() {
  NBDKIT_TRY(find_source());
  const bool direct = direct_ || source_->is_inherited();  // Whoever opened it has decided.
  if (!direct || source_->is_directory()) return std::uint32_t{1};
  Result<OpenedFile> file = source_->open("", {.read_only = true, .direct = direct_});
  if (!file.ok()) return std::move(file).error();
  return file.value().align;
}

Task<std::vector<ExportEntry>> FileLayer::list_exports(Context& context) {
  std::vector<ExportEntry> exports;
  if (!source_->is_directory()) {
    exports.emplace_back();
    co_return exports;
  }
  std::vector<std::string> names =
      co_await context.blocking([this] { return source_->list(kExportsMax); });
  for (std::string& name : names) exports.push_back({std::move(name), {}});
  co_return exports;
}

Result<FileLayer::Opened> FileLayer::open_backing(const Context& context) {
  Result<OpenedFile> opened =
      source_->open(context.export_name, {.read_only = context.read_only, .direct = direct_});
  if (!opened.ok()) return std::move(opened).error();
  OpenedFile file = std::move(opened).value();
  const std::uint64_t size = file.size;
  // Direct access treats the end of a file in its own way.
  auto key = fmt::format("{} {} {}", file.identity, file.can_write ? "rw" : "ro",
                         file.align > 1 ? size : 0);
  std::lock_guard lock(mutex_);
  std::weak_ptr<Backing>& known = backings_[key];
  if (std::shared_ptr<Backing> backing = known.lock()) return Opened{std::move(backing), size};
  auto backing =
      std::make_shared<Backing>(std::move(file), static_cast<Access>(access_), cache_ == 0);
  known = backing;
  if (source_->is_inherited()) kept_.push_back(backing);
  std::erase_if(backings_, [](const auto& one) { return one.second.expired(); });
  return Opened{std::move(backing), size};
}

Properties FileLayer::properties_of(const Opened& opened) const {
  const OpenedFile& file = opened.backing->file();
  Properties properties;
  properties.size = opened.size;
  properties.can_write = file.can_write;
  properties.can_flush = true;
  properties.can_fua = file.can_write;
  properties.can_trim = file.can_write;
  properties.can_fast_zero = file.can_write;
  properties.can_cache = cache_ == 0 && file.align == 1;
  properties.can_extents = file.can_map;
  properties.can_multi_conn = true;
  properties.is_rotational = file.is_rotational;
  properties.identity = file.identity;
  if (file.align > 1) {
    properties.block_size = {file.align, std::max(file.align, file.io_size), 0xffffffff};
  }
  return properties;
}

Task<DevicePtr> FileLayer::open(Context& context) {
  Opened opened = co_await context.blocking([this, &context] { return open_backing(context); });
  Properties properties = properties_of(opened);
  if (!properties.can_write && !context.read_only) {
    context.log().debug("file", "{}: is served read-only, as it cannot be opened for writing",
                        opened.backing->file().name);
  }
  co_return std::make_unique<FileDevice>(context, std::move(opened.backing), std::move(properties));
}

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_PLUGIN("file", ::nbdkit::FileLayer)
