// SPDX-License-Identifier: BSD-3-Clause
// memory: a RAM disk.

#include <fmt/format.h>
#include <sys/random.h>

#include <array>

#include "block/layer.h"
#include "block/native_module.h"
#include "store.h"

namespace nbdkit {
namespace {

enum class Allocator { sparse, malloc, zstd };

class MemoryLayer final : public Layer {
 public:
  Result<void> configured() override;
  Result<void> get_ready() override;
  Result<void> after_fork() override { return store_->after_fork(); }

  Contract contract() const override {
    return {.survives = is_kept() ? Survives::durable : Survives::nothing,
            // Two processes would not agree on what is a hole, or on any data at all.
            .shared_open = false,
            .swap_fit = allocator_ == Allocator::malloc && locked_};
  }
  std::string_view long_name() const override { return "nbdkit memory plugin"; }
  std::string dump() const override { return "mlock=yes\nzstd=yes\n"; }

  Task<DevicePtr> open(Context& context) override;

 protected:
  void declare(Params& params) override;

 private:
  Result<void> parse_allocator(std::string_view text);
  bool is_kept() const {
    return allocator_ == Allocator::sparse && environment().kept_memory.get() >= 0;
  }

  std::int64_t size_ = -1;
  Allocator allocator_ = Allocator::sparse;
  bool locked_ = false;
  std::unique_ptr<Store> store_;
  std::string identity_;
};

void MemoryLayer::declare(Params& params) {
  params.add_size("size", size_, {.help = "size of the disk (required)", .magic = true});
  params.add("allocator", "sparse|malloc[,mlock=BOOL]|zstd",
             [this](std::string_view text) { return parse_allocator(text); },
             {.help = "how to keep the data (default sparse)"});
}

Result<void> MemoryLayer::parse_allocator(std::string_view text) {
  constexpr std::string_view kMlock = "mlock=";
  std::string_view word = text.substr(0, text.find(','));
  std::string_view extra = text.substr(std::min(text.size(), word.size() + 1));
  bool has_extra = word.size() < text.size();
  bool locked = false;
  if (word != "sparse" && word != "malloc" && word != "zstd") {
    return Error(std::errc::invalid_argument,
                 fmt::format("'{}' is none of sparse, malloc, malloc,mlock=true and zstd", text));
  }
  if (has_extra) {
    if (word != "malloc" || !extra.starts_with(kMlock)) {
      return Error(std::errc::invalid_argument,
                   fmt::format("'{}' takes no '{}'; only malloc,mlock=true has more than one word",
                               word, extra));
    }
    Result<bool> value = parse_bool(extra.substr(kMlock.size()));
    if (!value.ok()) return std::move(value).error();
    locked = value.value();
  }
  allocator_ = word == "sparse"   ? Allocator::sparse
               : word == "malloc" ? Allocator::malloc
                                  : Allocator::zstd;
  locked_ = locked;
  return {};
}

Result<void> MemoryLayer::configured() {
  if (size_ < 0) {
    return Error(std::errc::invalid_argument,
                 "size= is missing: say how large the disk shall be, for example size=1G");
  }
  auto size = static_cast<std::uint64_t>(size_);
  switch (allocator_) {
    case Allocator::sparse:
      store_ = make_sparse(size, environment().kept_memory.get());
      break;
    case Allocator::malloc:
      store_ = make_flat(size, locked_);
      break;
    case Allocator::zstd:
      store_ = make_zstd(size);
      break;
  }
  return {};
}

Result<void> MemoryLayer::get_ready() {
  NBDKIT_TRY(store_->get_ready());
  identity_ = store_->identity();
  if (!identity_.empty()) return {};
  // Another process has other data, and this is how that shows.
  std::array<std::uint64_t, 2> id;
  if (::getrandom(id.data(), sizeof id, 0) != sizeof id) return os_error("getrandom");
  identity_ = fmt::format("memory:{:016x}{:016x}", id[0], id[1]);
  return {};
}

Task<DevicePtr> MemoryLayer::open(Context& context) {
  if (is_kept()) co_await context.blocking([this] { return store_->load(); });
  Properties properties;
  properties.size = static_cast<std::uint64_t>(size_);
  properties.can_write = !context.read_only;
  properties.can_flush = true;
  properties.can_fua = true;
  properties.can_trim = true;
  properties.can_fast_zero = true;
  properties.can_cache = true;
  properties.can_extents = true;
  properties.can_multi_conn = true;
  properties.identity = identity_;
  co_return store_->open(context, std::move(properties));
}

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_PLUGIN("memory", ::nbdkit::MemoryLayer)
