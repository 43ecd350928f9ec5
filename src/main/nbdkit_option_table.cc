// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_option_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace nbdkit {
namespace {

constexpr OptionRow kRows[] = {
    {'4', "ipv4-only", "", "listen on IPv4 addresses only"},
    {'6', "ipv6-only", "", "listen on IPv6 addresses only"},
    {'D', "debug", "NAME.FLAG=N", "set a debug flag of a plugin or filter"},
    {kDumpConfig, "dump-config", "", "print how the program was built, and exit"},
    {kDumpPlugin, "dump-plugin", "", "print what the plugin is and can do, and exit"},
    {kExitWithParent, "exit-with-parent", "", "stop when the process that started it ends"},
    {'e', "exportname export-name export", "NAME", "the export that $uri of --run names"},
    {kFd, "fd", "FD[,mode=MODE][,export=NAME]", "serve the client of this socket (repeatable)"},
    {kFilter, "filter", "FILTER", "put a filter above the plugin (repeatable, outermost first)"},
    {'f', "foreground no-fork", "", "do not go to the background"},
    {'g', "group", "GROUP", "change to this group once the sockets are open"},
    {kHandoff, "handoff", "PATH", "listen here for control sockets that give sockets to serve"},
    {kHandoffFd, "handoff-fd", "FD", "the same on this socket, or from this control socket"},
    {kHandoffMode, "handoff-mode", "MODE", "of the node of --handoff, in octal (default 0600)"},
    {kHandoffUser, "handoff-user", "USER", "may give sockets, besides root (repeatable)"},
    {kHelp, "help", "", "print this, and the parameters of PLUGIN and FILTERs if given"},
    {'i', "ipaddr ip-addr", "ADDRESS",
     "listen on this address (repeatable; default: every address)"},
    {kKeepalive, "keepalive keep-alive", "",
     "have the kernel ask whether idle TCP clients are still there"},
    {kKeptMemoryFd, "kept-memory-fd", "FD", "memory for a plugin whose data must outlive it"},
    {kRequestLedgerFd, "request-ledger-fd", "FD", "memory for which requests are under way"},
    {kLog, "log", "TARGET", "stderr, syslog, journal, null, or a file for errors"},
    {kLongOptions, "long-options", "", "list the long options, and exit"},
    {kMaskHandshake, "mask-handshake", "MASK", "offer only these flags in the handshake"},
    {kName, "name", "NAME", "what to call this server in messages"},
    {'n', "newstyle new-style", "", "speak the newstyle protocol (which it always does)"},
    {kNoMetaContexts, "no-meta-contexts no-mc", "", "refuse metadata contexts"},
    {kNoStructuredReplies, "no-sr no-structured-replies", "",
     "refuse structured replies and extended headers"},
    {'o', "oldstyle old-style", "", "speak the oldstyle protocol: no negotiation"},
    {'P', "pidfile pid-file", "FILE", "write the process id here when ready"},
    {'p', "port", "PORT", "listen on this TCP port (default 10809)"},
    {kPrintUri, "print-uri print-url show-uri show-url", "", "print how clients find the server"},
    {'r', "readonly read-only", "", "no client may write"},
    {kRun, "run", "COMMAND", "run a command with the server, stop when it ends"},
    {kSelinuxLabel, "selinux-label", "LABEL", "the SELinux label of the sockets"},
    {kShortOptions, "short-options", "", "list the short options, and exit"},
    {'s', "single stdin", "", "serve one connection on stdin and stdout, then exit"},
    {kSurvives, "survives", "nothing|flushed|durable",
     "what of answered writes outlives the process, for a plugin in C"},
    {kSwap, "swap", "[=force]", "be able to serve when there is no memory left; or do not start"},
    {'t', "threads", "N", "blocking calls at the same time for one connection (default 16)"},
    {kTimeout, "timeout time-out", "DELAY", "drop clients whose handshake takes longer"},
    {kTls, "tls", "off|on|require", "whether clients may or must use TLS"},
    {kTlsCertificates, "tls-certificates", "DIR", "the folder with the certificates of TLS"},
    {kTlsPriority, "tls-priority", "TEXT", "which ciphers of TLS are used, in GnuTLS's words"},
    {kTlsPsk, "tls-psk", "FILE", "the keys that clients of TLS know, instead of certificates"},
    {kTlsVerifyPeer, "tls-verify-peer", "", "want to see the certificates of clients"},
    {'U', "unix", "PATH|-", "listen on this Unix socket (repeatable); -: on a private one"},
    {'u', "user", "USER", "change to this user once the sockets are open"},
    {'V', "version", "", "print the version, also of PLUGIN and FILTERs if given, and exit"},
    {'v', "verbose", "", "print debug messages"},
    {kVsock, "vsock", "", "listen for virtual machines, on the vsock port of -p"},
};

constexpr int kHelpColumn = 32;

std::vector<std::string> split_names(std::string_view names) {
  std::vector<std::string> list;
  while (!names.empty()) {
    std::size_t end = std::min(names.find(' '), names.size());
    list.emplace_back(names.substr(0, end));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  return list;
}

}  // namespace

std::string OptionRow::first_name() const { return split_names(names).front(); }

std::string OptionRow::spelling() const {
  if (id < kLongOnly) return fmt::format("-{}", static_cast<char>(id));
  return "--" + first_name();
}

std::span<const OptionRow> option_rows() { return kRows; }

const OptionRow* find_option_row(int id) {
  auto row =
      std::find_if(std::begin(kRows), std::end(kRows), [id](auto& one) { return one.id == id; });
  return row == std::end(kRows) ? nullptr : row;
}

// A ':' in front would make getopt silent; its messages are what users of nbdkit know.
const char* const kShortOptionString = "46D:e:fg:i:nop:P:rst:u:U:vV";

GetoptTable::GetoptTable() {
  for (const OptionRow& row : kRows) {
    for (std::string& name : split_names(row.names)) {
      names_.push_back(std::move(name));
      rows_.push_back(&row);
    }
  }
  for (std::size_t i = 0; i < names_.size(); ++i) {
    std::string_view value = rows_[i]->argument;
    int argument = value.empty()            ? no_argument
                   : value.starts_with('[') ? optional_argument
                                            : required_argument;
    options_.push_back({names_[i].c_str(), argument, nullptr, rows_[i]->id});
  }
  options_.push_back({nullptr, 0, nullptr, 0});
}

std::string usage() {
  std::string text =
      "Usage: nbdkit [OPTION...] PLUGIN [[KEY=]VALUE [KEY=VALUE [...]]]\n"
      "Serves what a plugin provides as a network block device (NBD).\n\n";
  for (const OptionRow& row : kRows) {
    std::string left = row.id < OptionRow::kLongOnly
                           ? fmt::format("  -{}, ", static_cast<char>(row.id))
                           : std::string("      ");
    std::string_view comma;
    for (const std::string& name : split_names(row.names)) {
      left += fmt::format("{}--{}", std::exchange(comma, ", "), name);
    }
    bool optional = row.argument.starts_with('[');
    if (!row.argument.empty()) left += fmt::format("{}{}", optional ? "" : " ", row.argument);
    if (left.size() > kHelpColumn - 2) left += fmt::format("\n{:{}}", "", kHelpColumn);
    text += fmt::format("{:<{}}{}\n", left, kHelpColumn, row.help);
  }
  text += "\nThe parameters of a plugin: nbdkit --help PLUGIN. More: man nbdkit.\n";
  return text;
}

std::string long_option_list() {
  std::string text;
  for (const OptionRow& row : kRows) {
    for (const std::string& name : split_names(row.names)) text += fmt::format("--{}\n", name);
  }
  return text;
}

std::string short_option_list() {
  std::string text;
  for (const OptionRow& row : kRows) {
    if (row.id < OptionRow::kLongOnly) {
      text += fmt::format("-{}\n", static_cast<char>(row.id));
    }
  }
  return text;
}

}  // namespace nbdkit
