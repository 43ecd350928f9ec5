// SPDX-License-Identifier: BSD-3-Clause
#include "base/json.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace nbdkit {

// Told by the library what the text holds. The library's own tree would answer a wrong type with
// an exception, and says nothing about a name that is there twice.
class JsonReader {
 public:
  bool null() { return add(Json()); }
  bool boolean(bool value) { return add(Json(value)); }
  bool number_integer(std::int64_t value) { return add(Json(value)); }
  bool number_unsigned(std::uint64_t value) { return add(Json(value)); }
  bool number_float(double value, const std::string&) { return add(Json(value)); }
  bool string(std::string& value) { return add(Json(std::move(value))); }
  bool binary(std::vector<std::uint8_t>&) { return refuse("binary data"); }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    Json& object = *open_.back();
    auto& members = std::get<Json::Object>(object.value_);
    if (members.size() == Json::kMembersMax) return refuse("too many names in an object");
    if (object.find(name) != nullptr) return refuse(fmt::format("\"{}\" is there twice", name));
    members.push_back({std::move(name), Json()});
    return true;
  }
  template <typename Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception&) {
    return refuse(fmt::format("not JSON at byte {}", position));
  }

  Result<Json> take(bool whole) {
    if (whole) return std::move(root_);
    return Error(std::errc::invalid_argument, std::move(why_));
  }

 private:
  // Where the next value belongs. An open array's items never move while one of them is open:
  // nothing is added to it until that is closed.
  Json& place(Json value) {
    if (open_.empty()) return root_ = std::move(value);
    if (auto* items = std::get_if<Json::Array>(&open_.back()->value_)) {
      return items->emplace_back(std::move(value));
    }
    return std::get<Json::Object>(open_.back()->value_).back().value = std::move(value);
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json value) {
    if (open_.size() >= Json::kDepthMax) return refuse("nested too deeply");
    open_.push_back(&place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  bool refuse(std::string why) {
    why_ = std::move(why);
    return false;
  }

  Json root_;
  std::vector<Json*> open_;
  std::string why_ = "not JSON";
};

class JsonWriter {
 public:
  static nlohmann::ordered_json tree(const Json& json) {
    return std::visit([](const auto& value) { return convert(value); }, json.value_);
  }

 private:
  static nlohmann::ordered_json convert(std::monostate) { return nullptr; }
  template <typename T>
  static nlohmann::ordered_json convert(const T& value) {
    return value;
  }
  static nlohmann::ordered_json convert(const Json::Array& items) {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const Json& item : items) out.push_back(tree(item));
    return out;
  }
  static nlohmann::ordered_json convert(const Json::Object& members) {
    nlohmann::ordered_json out = nlohmann::ordered_json::object();
    for (const Json::Member& member : members) out[member.name] = tree(member.value);
    return out;
  }
};

Json::Json() = default;
Json::Json(const Json& other) = default;
Json::Json(Json&& other) noexcept = default;
Json& Json::operator=(const Json& other) = default;
Json& Json::operator=(Json&& other) noexcept = default;
Json::~Json() = default;

Json::Json(const char* text) : value_(std::string(text)) {}
Json::Json(std::string_view text) : value_(std::string(text)) {}
Json::Json(std::string text) : value_(std::move(text)) {}
Json::Json(Array items) : value_(std::move(items)) {}
Json::Json(bool value) : value_(value) {}
Json::Json(double value) : value_(value) {}
Json::Json(Signed number) : value_(number.value) {}
Json::Json(Unsigned number) : value_(number.value) {}

Json Json::object() {
  Json json;
  json.value_.emplace<Object>();
  return json;
}

Json Json::array() { return Json(Array()); }

Result<Json> Json::parse(std::string_view text) {
  JsonReader reader;
  bool whole = nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  return reader.take(whole);
}

std::string Json::dump(int indent) const {
  return JsonWriter::tree(*this).dump(indent, ' ', false,
                                      nlohmann::ordered_json::error_handler_t::replace);
}

bool Json::is_null() const { return std::holds_alternative<std::monostate>(value_); }

const std::string* Json::as_string() const { return std::get_if<std::string>(&value_); }
const Json::Array* Json::as_array() const { return std::get_if<Array>(&value_); }
const Json::Object* Json::as_object() const { return std::get_if<Object>(&value_); }

std::optional<bool> Json::as_bool() const {
  if (const bool* value = std::get_if<bool>(&value_)) return *value;
  return {};
}

std::optional<std::int64_t> Json::as_signed() const {
  if (const auto* value = std::get_if<std::int64_t>(&value_)) return *value;
  const auto* value = std::get_if<std::uint64_t>(&value_);
  constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
  if (value != nullptr && *value <= kMax) return static_cast<std::int64_t>(*value);
  return {};
}

std::optional<std::uint64_t> Json::as_unsigned() const {
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) return *value;
  const auto* value = std::get_if<std::int64_t>(&value_);
  if (value != nullptr && *value >= 0) return static_cast<std::uint64_t>(*value);
  return {};
}

std::optional<double> Json::as_double() const {
  if (const auto* value = std::get_if<double>(&value_)) return *value;
  if (auto value = as_signed()) return static_cast<double>(*value);
  if (auto value = as_unsigned()) return static_cast<double>(*value);
  return {};
}

const Json* Json::find(std::string_view name) const {
  const Object* members = as_object();
  if (members == nullptr) return nullptr;
  for (const Member& member : *members) {
    if (member.name == name) return &member.value;
  }
  return nullptr;
}

Json& Json::set(std::string_view name, Json value) {
  auto* members = std::get_if<Object>(&value_);
  NBDKIT_CHECK(members != nullptr);
  for (Member& member : *members) {
    if (member.name != name) continue;
    member.value = std::move(value);
    return *this;
  }
  members->push_back({std::string(name), std::move(value)});
  return *this;
}

Json& Json::push(Json value) {
  auto* items = std::get_if<Array>(&value_);
  NBDKIT_CHECK(items != nullptr);
  items->push_back(std::move(value));
  return *this;
}

bool Json::operator==(const Json& other) const { return dump() == other.dump(); }

}  // namespace nbdkit
