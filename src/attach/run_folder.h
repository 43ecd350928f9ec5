// SPDX-License-Identifier: BSD-3-Clause
// RunFolder: /run/nbdkit, where the keepers' locks, state files and control sockets are. Only its
// owner may enter it.
//
//   nbdN.lock   flock: the device has a keeper for as long as somebody holds it
//   nbdN.json   what the keeper would say, for when it is gone
//   nbdN.sock   the keeper's control socket
//   nbdN.start  what servers are started from, for when keeper and server are gone
//   nbdN.handoff  the server's control socket, for a keeper that has not started it
//   nbdN.server flock: a server of the device, or a program that it has started, runs
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

// Files are opened relative to the folder and never through a symbolic link.
class RunFolder {
 public:
  static constexpr std::string_view kPath = "/run/nbdkit";
  // A state with all requests that a server can have died of (block/request_ledger.h).
  static constexpr std::size_t kFileMax = 1024 * 1024;
  static constexpr std::size_t kStartMax = 16 * 1024 * 1024;  // arguments and environment
  static constexpr std::string_view kServer = "server";
  static constexpr std::string_view kHandoff = "handoff";
  static constexpr std::string_view kSpareHandoff = "handoff.spare";
  // Of the next server's control socket, until it serves. One of a device whose number is not known
  // yet is of this process, and is removed by open() when that has gone.
  static std::string door_name(std::optional<std::uint32_t> index);

  // Makes it when it is missing. Errors: not_permitted when it is not ours alone.
  static Result<RunFolder> open(std::string path = std::string(kPath));
  // no_such_file_or_directory when it is missing.
  static Result<RunFolder> open_existing(std::string path = std::string(kPath));

  // Held until the descriptor and its duplicates are closed. Busy when another process has it.
  Result<UniqueFd> lock(std::uint32_t index) const;
  // Removes the lock's file, which `lock` still holds.
  void remove_lock(std::uint32_t index) const;

  // Waits until no other process has the turn for this name of an attachment. Held until
  // end_turn(), or the descriptor and its duplicates are closed. `name` is fit for a file.
  Result<UniqueFd> wait_for_turn(const std::string& name) const;
  void end_turn(const std::string& name, UniqueFd turn) const;

  // Whole or not at all, mode 0600.
  Result<void> write_state(std::uint32_t index, std::string_view text) const;
  Result<std::string> read_state(std::uint32_t index) const;
  Result<void> write_start(std::uint32_t index, std::string_view text) const;
  Result<std::string> read_start(std::uint32_t index) const;
  // All of the device but the lock. What is missing already is fine.
  void remove_state(std::uint32_t index) const;

  std::string socket_path(std::uint32_t index) const;
  std::string path_of(std::string_view name) const { return path_ + "/" + std::string(name); }

  // "nbd0.lock"
  static std::string file_name(std::uint32_t index, std::string_view kind);
  // A file that nobody sees until it has a name, and that is gone with its last descriptor until
  // then. Mode 0600.
  Result<UniqueFd> create_unnamed() const;
  // In place of one that is there.
  Result<void> name_file(int file, const std::string& name) const;
  Result<UniqueFd> open_file(const std::string& name) const;
  // In place of one that is there.
  Result<void> rename_file(const std::string& from, const std::string& to) const;
  void remove_file(const std::string& name) const;

 private:
  // In place of one that is there. Mode 0600.
  Result<UniqueFd> create_file(const std::string& name) const;
  void remove_abandoned_doors() const;
  RunFolder(std::string path, UniqueFd folder)
      : path_(std::move(path)), folder_(std::move(folder)) {}

  Result<UniqueFd> open_lock(const std::string& name) const;
  Result<void> write_file(const std::string& name, std::string_view text) const;
  Result<std::string> read_file(const std::string& name, std::size_t max) const;

  std::string path_;
  UniqueFd folder_;
};

}  // namespace nbdkit
