// SPDX-License-Identifier: BSD-3-Clause
// Result<T>: a T or an Error. The only way a function here reports failure.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <concepts>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

#include "base/error_text.h"

namespace nbdkit {

// Two words: the text is for the operator's log and absent on the data path.
// A class with a constructor, not an aggregate: g++ 12 destroys an aggregate that is passed by
// value inside a co_await expression twice.
class Error {
 public:
  Error(std::errc error_code, std::string_view text) : code(error_code), detail_(text) {}

  std::errc code;  // Decides what the peer is told (proto/errors.h).

  std::string_view detail() const { return detail_.view(); }
  // The detail, or the code in words when there is none: what an operator reads.
  std::string message() const;

 private:
  ErrorText detail_;
};

// For what can fail in a request: the text is made without the heap.
template <typename... Args>
Error format_error(std::errc code, fmt::format_string<Args...> format, Args&&... args) {
  fmt::memory_buffer text;
  fmt::format_to(std::back_inserter(text), format, std::forward<Args>(args)...);
  return Error(code, {text.data(), text.size()});
}

// What an errno means, in words.
std::string_view os_words(int number);
// An errno with the words "WHAT: why" as its detail.
Error os_error(std::string_view what, int number = errno);

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  template <typename U = T>
  requires std::convertible_to<U&&, T> Result(U&& value)
      : state_(std::in_place_index<0>, std::forward<U>(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  Result(std::errc code) : Result(Error(code, {})) {}

  bool ok() const { return state_.index() == 0; }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> : public Result<std::monostate> {
 public:
  using value_type = void;
  using Result<std::monostate>::Result;
  Result() : Result<std::monostate>(std::monostate{}) {}
};

}  // namespace nbdkit

// Returns the Error of `expression` from the enclosing plain function. The one
// macro that hides a return; in a coroutine use co_await instead.
#define NBDKIT_TRY(expression)                                                \
  do {                                                                        \
    auto nbdkit_try_result = (expression);                                    \
    if (!nbdkit_try_result.ok()) return std::move(nbdkit_try_result).error(); \
  } while (0)
