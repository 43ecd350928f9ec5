// SPDX-License-Identifier: BSD-3-Clause
// Params: the key=value parameters of a layer. Each is declared once, with its type, limits and
// text; parsing, --help and the test of the man page all follow from that.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/parse.h"
#include "base/result.h"

namespace nbdkit {

class Params {
 public:
  using Parser = std::function<Result<void>(std::string_view value)>;

  struct Doc {
    std::string_view help;        // one line, for --help
    std::string_view alias = {};  // another name of the key
    std::int64_t min = 0;         // numbers and sizes
    std::int64_t max = std::numeric_limits<std::int64_t>::max();
    bool magic = false;  // a bare word on the command line is this key's value
  };

  // What --help and the tests of the pages read.
  struct Param {
    std::string key;
    std::string alias;
    std::string type;  // "SIZE", "N", "true|false", "DELAY", "TEXT", "PATH" ...
    std::string help;
    bool magic;
    Parser parse;
  };

  // `value` holds the default, lives as long as the Params, and is set when the key is given.
  // The last one given wins.
  void add_size(std::string_view key, std::int64_t& value, Doc doc);
  void add_number(std::string_view key, std::int64_t& value, Doc doc);
  void add_bool(std::string_view key, bool& value, Doc doc);
  void add_delay(std::string_view key, Nanoseconds& value, Doc doc);
  void add_text(std::string_view key, std::string& value, Doc doc);
  // Made absolute: the server changes to / when it goes to the background.
  void add_path(std::string_view key, std::string& value, Doc doc);
  // `value` becomes the place of the given word in `words`.
  void add_choice(std::string_view key, std::size_t& value, std::vector<std::string> words,
                  Doc doc);
  // For what has a form of its own; `type` is how --help names it.
  void add(std::string_view key, std::string_view type, Parser parse, Doc doc);

  // False when there is no such key. An Error names the key and quotes the value.
  Result<bool> set(std::string_view key, std::string_view value);

  const std::vector<Param>& list() const { return params_; }
  std::string_view magic_key() const;
  // The lines of --help: "key=TYPE  help".
  std::string help() const;

 private:
  std::vector<Param> params_;
};

// `path` from the working directory of now. Empty is an error.
Result<std::string> absolute_path(std::string_view path);

}  // namespace nbdkit
