// SPDX-License-Identifier: BSD-3-Clause
// The table of all options of nbdkit: it drives parsing, --help, and the lists that completion
// reads.
#pragma once

#include <getopt.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nbdkit {

// One row for each option that getopt has to know.
struct OptionRow {
  int id;                     // the letter, or a LongOnly
  std::string_view names;     // long names with a blank between; the first one is documented
  std::string_view argument;  // what the usage calls it; empty: takes none
  std::string_view help;

  static constexpr int kLongOnly = 256;

  std::string first_name() const;
  // "-U" for options with a letter, else "--run": how messages call it.
  std::string spelling() const;
};

enum LongOnly : int {
  kDumpConfig = OptionRow::kLongOnly,
  kDumpPlugin,
  kExitWithParent,
  kFd,
  kFilter,
  kHandoff,
  kHandoffFd,
  kHandoffMode,
  kHandoffUser,
  kHelp,
  kKeepalive,
  kKeptMemoryFd,
  kRequestLedgerFd,
  kSurvives,
  kLog,
  kLongOptions,
  kMaskHandshake,
  kName,
  kNoMetaContexts,
  kNoStructuredReplies,
  kPrintUri,
  kRun,
  kSelinuxLabel,
  kShortOptions,
  kSwap,
  kTimeout,
  kTls,
  kTlsCertificates,
  kTlsPriority,
  kTlsPsk,
  kTlsVerifyPeer,
  kVsock,
};

std::span<const OptionRow> option_rows();
const OptionRow* find_option_row(int id);

extern const char* const kShortOptionString;

// getopt's table, and the names that it points to.
class GetoptTable {
 public:
  GetoptTable();
  const option* options() const { return options_.data(); }

 private:
  std::vector<std::string> names_;
  std::vector<const OptionRow*> rows_;
  std::vector<option> options_;
};

// What --help prints first, and what a wrong option gets.
std::string usage();
// One a line, as --long-options and --short-options print them.
std::string long_option_list();
std::string short_option_list();

}  // namespace nbdkit
