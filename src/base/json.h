// SPDX-License-Identifier: BSD-3-Clause
// Json: a JSON value, and the one door to the JSON library.
//
//   Json status = Json::object();
//   status.set("device", "/dev/nbd0").set("size", std::uint64_t{1} << 20);
//   std::string text = status.dump();
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace nbdkit {

class Json {
 public:
  struct Member;
  using Array = std::vector<Json>;
  using Object = std::vector<Member>;  // in the order of set() or of the text; names are unique

  // Deeper nesting than anybody means is refused: reading it back is recursive.
  static constexpr std::size_t kDepthMax = 32;
  // More names in one object than anybody means, too: looking one up is a linear search.
  static constexpr std::size_t kMembersMax = 1024;

  Json();  // null
  Json(const Json& other);
  Json(Json&& other) noexcept;
  Json& operator=(const Json& other);
  Json& operator=(Json&& other) noexcept;
  ~Json();

  Json(const char* text);
  Json(std::string_view text);
  Json(std::string text);
  Json(Array items);
  Json(bool value);
  Json(double value);
  template <std::signed_integral T>
  Json(T value);
  template <std::unsigned_integral T>
  Json(T value);
  static Json object();
  static Json array();

  // One whole value and nothing behind it. Refuses invalid UTF-8, a name that is there twice,
  // more than kDepthMax levels and more than kMembersMax names in an object. The caller limits the
  // length of the text.
  static Result<Json> parse(std::string_view text);
  // One line; `indent` > 0: many. What is not UTF-8 comes out as U+FFFD.
  std::string dump(int indent = -1) const;

  bool is_null() const;

  // Null when it is something else. A number is a whole one that fits.
  const std::string* as_string() const;
  const Array* as_array() const;
  const Object* as_object() const;
  std::optional<bool> as_bool() const;
  std::optional<std::int64_t> as_signed() const;
  std::optional<std::uint64_t> as_unsigned() const;
  std::optional<double> as_double() const;  // any number

  // A member of an object; null when this is no object or has no such member.
  const Json* find(std::string_view name) const;

  // Only of an object: adds or replaces. Only of an array: appends.
  Json& set(std::string_view name, Json value);
  Json& push(Json value);

  bool operator==(const Json& other) const;

 private:
  friend class JsonReader;
  friend class JsonWriter;

  struct Signed {
    std::int64_t value;
  };
  struct Unsigned {
    std::uint64_t value;
  };
  explicit Json(Signed number);
  explicit Json(Unsigned number);

  std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, Array,
               Object>
      value_;
};

struct Json::Member {
  std::string name;
  Json value;
};

template <std::signed_integral T>
Json::Json(T value) : Json(Signed{value}) {}
template <std::unsigned_integral T>
Json::Json(T value) : Json(Unsigned{value}) {}

}  // namespace nbdkit
