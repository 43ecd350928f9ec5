// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/nbd_explain.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <limits>
#include <system_error>

#include "base/range.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kBlockSizeMin = 512;
constexpr std::size_t kBackendMax = 255;  // Far below a page, which sysfs shows at most.

std::string node(std::uint32_t index) { return fmt::format("/dev/nbd{}", index); }

std::string target(const ConnectRequest& request) {
  return request.index ? node(*request.index) : "a free nbd device";
}

std::string domain_name(int domain) {
  switch (domain) {
    case AF_UNIX:
      return "Unix";
    case AF_INET:
    case AF_INET6:
      return "internet";
    default:
      return fmt::format("address family {}", domain);
  }
}

std::string type_name(int type) {
  switch (type) {
    case SOCK_STREAM:
      return "stream";
    case SOCK_DGRAM:
      return "datagram";
    case SOCK_SEQPACKET:
      return "seqpacket";
    default:
      return fmt::format("type {}", type);
  }
}

Error bad_socket(int fd, std::string_view what) {
  return attach_error(
      ExitCode::bad_descriptor,
      fmt::format("descriptor {} is {}; the kernel needs a connected TCP or Unix stream socket", fd,
                  what));
}

std::string reason(const Refusal& refusal) {
  // Not strerror(), which is for one thread.
  std::string text = std::system_category().message(refusal.error);
  return refusal.words.empty() ? text : fmt::format("{} ({})", text, refusal.words);
}

Error no_privilege(std::string_view what) {
  return attach_error(
      ExitCode::not_permitted,
      fmt::format("{} needs CAP_SYS_ADMIN in the initial user namespace: run it as root, outside "
                  "of containers",
                  what));
}

Error in_use(const NbdDevice& device) {
  std::string backend = device.backend.empty() ? "" : fmt::format(" (backend {})", device.backend);
  return attach_error(
      ExitCode::busy,
      fmt::format("{} is in use by process {}{}: detach it first, or let a free device be chosen",
                  device.node(), *device.pid, backend));
}

Error held_open(std::uint32_t index, const Sysfs& sysfs) {
  std::string who = "a process that cannot be seen from here";
  auto openers = sysfs.openers(index);
  if (!openers.empty()) {
    who = fmt::format("process {} ({})", openers.front().pid, openers.front().command);
  }
  return attach_error(ExitCode::busy,
                      fmt::format("{} is held open by {} although nothing is attached to it: "
                                  "close it there, or let a free device be chosen",
                                  node(index), who));
}

Error busy(const ConnectRequest& request, const Refusal& refusal, const Sysfs& sysfs) {
  if (!request.index) {
    return attach_error(ExitCode::busy, fmt::format("no free nbd device: {}", reason(refusal)));
  }
  auto device = sysfs.device(*request.index);
  if (device.ok() && device.value().attached()) return in_use(device.value());
  return held_open(*request.index, sysfs);
}

// All that check_connect() sees is in order, and still the driver calls it invalid.
Error invalid_connect(const ConnectRequest& request, const Refusal& refusal, const Sysfs& sysfs) {
  if (request.index && !sysfs.device(*request.index).ok()) {
    return attach_error(
        ExitCode::invalid_value,
        fmt::format("{}: {}: the number is too high for this kernel's nbd driver (see its "
                    "parameter max_part), or the device is just going away",
                    target(request), reason(refusal)));
  }
  return attach_error(
      ExitCode::invalid_value,
      fmt::format("{}: {}: this kernel's nbd driver refuses size {}, block size {}, {} socket(s) "
                  "or flags {:#x}",
                  target(request), reason(refusal), request.size, request.block_size,
                  request.sockets.size(), request.server_flags));
}

Error nothing_attached(std::uint32_t index) {
  return attach_error(ExitCode::not_attached,
                      fmt::format("{}: nothing is attached to it", node(index)));
}

}  // namespace

Result<void> check_socket(int fd) {
  int type = 0;
  int domain = 0;
  int listening = 0;
  socklen_t length = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0) {
    return bad_socket(fd, errno == EBADF ? "not open" : "not a socket");
  }
  length = sizeof domain;
  ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
  length = sizeof listening;
  ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length);
  bool usable =
      type == SOCK_STREAM && (domain == AF_UNIX || domain == AF_INET || domain == AF_INET6);
  if (!usable) {
    return bad_socket(fd, fmt::format("a {} socket ({})", type_name(type), domain_name(domain)));
  }
  if (listening != 0) return bad_socket(fd, "a listening socket");
  // Today's kernels take an unconnected one and fail later, at the first request.
  sockaddr_storage peer;
  length = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) < 0) {
    return bad_socket(fd, "not connected");
  }
  return {};
}

Result<void> check_connect(const ConnectRequest& request) {
  auto invalid = [&](std::string why) {
    return attach_error(ExitCode::invalid_value,
                        fmt::format("{}: {}", target(request), std::move(why)));
  };
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (request.block_size < kBlockSizeMin || request.block_size > page ||
      !is_power_of_2(request.block_size)) {
    return invalid(fmt::format("block size {} is not a power of 2 from {} to {}",
                               request.block_size, kBlockSizeMin, page));
  }
  if (request.size == 0) return invalid("its size would be 0");
  if (request.size > std::numeric_limits<std::int64_t>::max()) {
    return invalid(fmt::format("size {} is more than 2^63 - 1", request.size));
  }
  if (!is_aligned(request.size, request.block_size)) {
    return invalid(fmt::format("size {} is not a multiple of the block size {}", request.size,
                               request.block_size));
  }
  if (request.backend.size() > kBackendMax || request.backend.find('\0') != std::string::npos) {
    return invalid(fmt::format("its identifier is longer than {} bytes", kBackendMax));
  }
  if (request.sockets.empty()) return invalid("no socket is given");
  if (request.sockets.size() > 1 && (request.server_flags & kServerFlagMultiConn) == 0) {
    return attach_error(
        ExitCode::not_supported,
        fmt::format("{}: {} connections, but this export allows only one (no multi-conn)",
                    target(request), request.sockets.size()));
  }
  for (int socket : request.sockets) NBDKIT_TRY(check_socket(socket));
  return {};
}

Error explain_connect(const Refusal& refusal, const ConnectRequest& request, const Sysfs& sysfs) {
  std::string what = fmt::format("attaching {}", target(request));
  switch (refusal.error) {
    case EPERM:
    case EACCES:
      return no_privilege(what);
    case EBUSY:
      return busy(request, refusal, sysfs);
    case EBADF:
    case ENOTSOCK:
    case ENOTCONN:
    case EPIPE:
      return attach_error(
          ExitCode::bad_descriptor,
          fmt::format("{}: {}: a socket that it was given is closed or not connected any more",
                      what, reason(refusal)));
    case EINVAL:
      return invalid_connect(request, refusal, sysfs);
    case EOPNOTSUPP:
      return attach_error(
          ExitCode::not_supported,
          fmt::format("{}: this kernel's nbd driver cannot do that: {}", what, reason(refusal)));
    default:
      return attach_error(ExitCode::failure, fmt::format("{}: {}", what, reason(refusal)));
  }
}

Error explain_disconnect(const Refusal& refusal, std::uint32_t index, const Sysfs& sysfs) {
  std::string what = fmt::format("detaching {}", node(index));
  if (refusal.error == EPERM || refusal.error == EACCES) return no_privilege(what);
  if (refusal.error == EINVAL) {
    auto device = sysfs.device(index);
    if (!device.ok()) return attach_error(ExitCode::not_attached, device.error().message());
    if (!device.value().attached()) return nothing_attached(index);
    return attach_error(ExitCode::not_attached, fmt::format("{}: it is going away already", what));
  }
  return attach_error(ExitCode::failure, fmt::format("{}: {}", what, reason(refusal)));
}

Error explain_reconfigure(const Refusal& refusal, const ReconfigureRequest& request,
                          const Sysfs& sysfs) {
  std::string what = fmt::format("reconfiguring {}", node(request.index));
  switch (refusal.error) {
    case EPERM:
    case EACCES:
      return no_privilege(what);
    case EBADF:
    case ENOTSOCK:
    case ENOTCONN:
    case EPIPE:
      return attach_error(
          ExitCode::bad_descriptor,
          fmt::format("{}: {}: a new socket is closed or not connected", what, reason(refusal)));
    case EOPNOTSUPP:
      return attach_error(ExitCode::not_supported,
                          fmt::format("{}: this kernel's nbd driver cannot do that", what));
    case EINVAL:
      break;
    default:
      return attach_error(ExitCode::failure, fmt::format("{}: {}", what, reason(refusal)));
  }
  auto device = sysfs.device(request.index);
  if (!device.ok()) return attach_error(ExitCode::not_attached, device.error().message());
  if (!device.value().attached()) return nothing_attached(request.index);
  if (device.value().backend != request.backend) {
    return attach_error(ExitCode::identity_mismatch,
                        fmt::format("{}: it belongs to \"{}\", not to \"{}\"", what,
                                    device.value().backend, request.backend));
  }
  return attach_error(ExitCode::invalid_value,
                      fmt::format("{}: {}: it was not attached over netlink, it is being detached, "
                                  "or the new values are wrong",
                                  what, reason(refusal)));
}

Error explain_no_driver(const Sysfs& sysfs) {
  if (sysfs.module_loaded()) {
    return attach_error(ExitCode::no_module,
                        "the nbd driver cannot be seen from this network namespace (before Linux "
                        "6.4): run it in the initial one");
  }
  return attach_error(ExitCode::no_module, "kernel module nbd is not loaded: run \"modprobe nbd\"");
}

}  // namespace nbdkit
