// SPDX-License-Identifier: BSD-3-Clause
#include "proto/option_answers.h"

#include "base/range.h"

namespace nbdkit {
namespace {

class DataWriter {
 public:
  template <typename T>
  void number(T value) {
    Be<T> wire(value);
    append(std::as_bytes(std::span(&wire, 1)));
  }
  void counted_text(std::string_view text) {
    number(static_cast<std::uint32_t>(text.size()));
    append(std::as_bytes(std::span(text)));
  }
  std::vector<std::byte> take() { return std::move(data_); }

 private:
  void append(std::span<const std::byte> bytes) {
    data_.insert(data_.end(), bytes.begin(), bytes.end());
  }

  std::vector<std::byte> data_;
};

// NBD protocol, "Block size constraints".
bool are_allowed(const ExportAnswer::BlockSizes& sizes) {
  constexpr std::uint32_t kMinimumMax = 64 * 1024;
  constexpr std::uint32_t kPreferredMin = 512;
  constexpr std::uint32_t kPreferredMax = 32 * 1024 * 1024;
  constexpr std::uint32_t kNoLimit = 0xffffffff;
  if (!is_power_of_2(sizes.minimum) || sizes.minimum > kMinimumMax) return false;
  if (!is_power_of_2(sizes.preferred) || sizes.preferred < kPreferredMin) return false;
  if (sizes.preferred < sizes.minimum || sizes.preferred > kPreferredMax) return false;
  if (sizes.maximum < sizes.preferred) return false;
  return sizes.maximum == kNoLimit || is_aligned(sizes.maximum, sizes.minimum);
}

}  // namespace

std::vector<std::byte> info_request_data(std::string_view export_name,
                                         std::span<const Info> infos) {
  DataWriter writer;
  writer.counted_text(export_name);
  writer.number(static_cast<std::uint16_t>(infos.size()));
  for (Info info : infos) writer.number(info);
  return writer.take();
}

std::vector<std::byte> meta_context_request_data(std::string_view export_name,
                                                 std::string_view query) {
  DataWriter writer;
  writer.counted_text(export_name);
  writer.number(std::uint32_t{1});
  writer.counted_text(query);
  return writer.take();
}

bool add_info_answer(std::span<const std::byte> data, ExportAnswer& answer) {
  OptionReader reader(data);
  switch (reader.number<Info>()) {
    case Info::export_:
      answer.size = reader.number<std::uint64_t>();
      answer.flags = reader.number<std::uint16_t>();
      break;
    case Info::name:
      answer.name = reader.rest();
      break;
    case Info::description:
      answer.description = reader.rest();
      break;
    case Info::block_size: {
      ExportAnswer::BlockSizes sizes;
      sizes.minimum = reader.number<std::uint32_t>();
      sizes.preferred = reader.number<std::uint32_t>();
      sizes.maximum = reader.number<std::uint32_t>();
      if (are_allowed(sizes)) answer.block_sizes = sizes;
      break;
    }
    default:
      return reader.good();
  }
  return reader.complete();
}

std::optional<ListAnswer> parse_list_answer(std::span<const std::byte> data) {
  OptionReader reader(data);
  ListAnswer answer;
  answer.name = reader.counted_text();
  answer.description = reader.rest();
  if (!reader.complete()) return std::nullopt;
  return answer;
}

std::optional<MetaContextAnswer> parse_meta_context_answer(std::span<const std::byte> data) {
  OptionReader reader(data);
  MetaContextAnswer answer;
  answer.id = reader.number<std::uint32_t>();
  answer.name = reader.rest();
  if (!reader.complete()) return std::nullopt;
  return answer;
}

}  // namespace nbdkit
