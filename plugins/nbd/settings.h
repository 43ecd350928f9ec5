// SPDX-License-Identifier: BSD-3-Clause
// Settings: the parameters of the nbd plugin.
#pragma once

#include <string>
#include <vector>

#include "block/params.h"
#include "client/remote_options.h"
#include "tls/mode.h"

namespace nbdkit {

class Settings {
 public:
  void declare(Params& params);
  // All parameters have been given. The Error is what the user sees.
  Result<void> check();
  // Reads what TLS needs.
  Result<void> load();

  // Valid after check(). For a command the address comes when it has been started.
  const RemoteOptions& options() const { return options_; }
  bool is_dynamic() const { return dynamic_; }
  bool is_shared() const { return shared_; }
  bool is_command() const { return !command_.empty(); }
  const std::vector<std::string>& command() const { return command_line_; }
  // What export= has said in vain, as the URI has another name; empty: nothing.
  const std::string& ignored_export() const { return ignored_export_; }
  // Which server this is, for telling it from others.
  std::string identity(std::string_view export_name) const;

 private:
  Result<void> check_place() const;
  Result<void> check_uri();
  Result<void> check_names();
  void settle_tls();
  Result<void> find_address();

  std::string uri_;
  std::string hostname_;
  std::string port_;
  std::string socket_;
  std::int64_t vsock_ = -1;
  std::int64_t socket_fd_ = -1;
  std::string command_;
  std::vector<std::string> arguments_;
  std::vector<std::string> command_line_;
  std::string export_;
  std::string ignored_export_;
  bool dynamic_ = false;
  bool shared_ = false;
  std::int64_t retries_ = 0;
  std::int64_t connections_ = 1;
  bool keeps_unflushed_ = false;
  TlsMode tls_ = TlsMode::off;
  bool tls_given_ = false;
  std::string tls_certificates_;
  bool tls_verify_ = true;
  bool tls_verify_given_ = false;
  std::string tls_username_;
  std::string tls_psk_;
  RemoteOptions options_;
};

}  // namespace nbdkit
