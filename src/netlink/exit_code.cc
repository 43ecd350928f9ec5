// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/exit_code.h"

#include <array>

namespace nbdkit {
namespace {

struct Row {
  ExitCode exit;
  std::errc code;
};

// The first row of a kind is the one that attach_error() uses.
constexpr std::array kTable{
    Row{ExitCode::failure, std::errc::io_error},
    Row{ExitCode::usage, std::errc::argument_out_of_domain},
    Row{ExitCode::no_module, std::errc::no_such_device},
    Row{ExitCode::not_permitted, std::errc::operation_not_permitted},
    Row{ExitCode::not_permitted, std::errc::permission_denied},
    Row{ExitCode::bad_descriptor, std::errc::bad_file_descriptor},
    Row{ExitCode::bad_descriptor, std::errc::not_a_socket},
    Row{ExitCode::bad_descriptor, std::errc::not_connected},
    Row{ExitCode::busy, std::errc::device_or_resource_busy},
    Row{ExitCode::timeout, std::errc::timed_out},
    Row{ExitCode::server_failed, std::errc::connection_aborted},
    Row{ExitCode::server_failed, std::errc::connection_reset},
    Row{ExitCode::server_failed, std::errc::protocol_error},
    Row{ExitCode::invalid_value, std::errc::invalid_argument},
    Row{ExitCode::identity_mismatch, std::errc::identifier_removed},
    Row{ExitCode::not_attached, std::errc::no_such_device_or_address},
    Row{ExitCode::not_supported, std::errc::operation_not_supported},
    Row{ExitCode::not_supported, std::errc::not_supported},
};

}  // namespace

std::errc errc_of(ExitCode code) {
  for (const Row& row : kTable) {
    if (row.exit == code) return row.code;
  }
  return std::errc::io_error;
}

ExitCode exit_code_of(const Error& error) {
  for (const Row& row : kTable) {
    if (row.code == error.code) return row.exit;
  }
  return ExitCode::failure;
}

}  // namespace nbdkit
