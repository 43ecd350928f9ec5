// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/nbd_control.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/nbd-netlink.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/unique_fd.h"
#include "netlink/exit_code.h"
#include "netlink/nbd_explain.h"

namespace nbdkit {
namespace {

using ConversationPtr = std::shared_ptr<Conversation>;

constexpr Milliseconds kRetryMin{20};
constexpr Milliseconds kRetryMax{250};
constexpr unsigned kEventsMax = 256;  // datagrams in one take_events()

// Sockets that a late call still needs when its caller has closed them.
Result<std::vector<UniqueFd>> own_sockets(const std::vector<int>& sockets) {
  std::vector<UniqueFd> owned;
  for (int socket : sockets) {
    UniqueFd one(::fcntl(socket, F_DUPFD_CLOEXEC, 3));
    if (!one) {
      return attach_error(ExitCode::bad_descriptor,
                          os_error(fmt::format("descriptor {}", socket)).message());
    }
    owned.push_back(std::move(one));
  }
  return owned;
}

std::vector<int> numbers_of(const std::vector<UniqueFd>& sockets) {
  std::vector<int> numbers;
  for (const UniqueFd& socket : sockets) numbers.push_back(socket.get());
  return numbers;
}

// A request together with the sockets that it names.
template <typename Request>
struct Owned {
  Request request;
  std::vector<UniqueFd> sockets;
};

template <typename Request>
Result<std::shared_ptr<Owned<Request>>> own(const Request& request) {
  auto sockets = own_sockets(request.sockets);
  if (!sockets.ok()) return std::move(sockets).error();
  auto owned = std::make_shared<Owned<Request>>();
  owned->request = request;
  owned->request.sockets = numbers_of(sockets.value());
  owned->sockets = std::move(sockets).value();
  return owned;
}

struct Driver {
  ConversationPtr conversation;
  std::unique_ptr<NetlinkSocket> events;
  NbdFamily family;
};

// no_such_device when the kernel has no such driver.
Result<Driver> look_for_driver(const NetlinkSocketFactory& factory, Nanoseconds limit) {
  auto socket = factory();
  if (!socket.ok()) {
    if (socket.error().code != std::errc::protocol_not_supported) return std::move(socket).error();
    return std::errc::no_such_device;
  }
  Driver driver;
  driver.conversation = std::make_shared<Conversation>(std::move(socket).value());
  auto answer = driver.conversation->ask(build_family_request, limit);
  if (!answer.ok()) return std::move(answer).error();
  const int error = answer.value().refusal.error;
  if (error == ENOENT) return std::errc::no_such_device;
  if (error != 0) return os_error("looking for the kernel's nbd driver", error);
  if (answer.value().messages.empty()) {
    return Error(std::errc::bad_message, "the kernel did not describe its nbd driver");
  }
  auto family = parse_family(answer.value().messages.front());
  if (!family.ok()) return std::move(family).error();
  driver.family = family.value();
  auto events = factory();
  if (!events.ok()) return std::move(events).error();
  driver.events = std::move(events).value();
  NBDKIT_TRY(driver.events->join(driver.family.group));
  return driver;
}

void undo(Conversation& conversation, const NbdFamily& family, std::uint32_t index) {
  // Nobody is left who could be told how this ends.
  static_cast<void>(conversation.ask(
      [&](std::uint32_t sequence) { return build_disconnect(family, sequence, index); },
      NbdControl::kCallMax));
}

Result<std::uint32_t> chosen_index(const KernelAnswer& answer,
                                   std::optional<std::uint32_t> asked_for) {
  for (const NetlinkMessage& message : answer.messages) {
    if (message.command == NBD_CMD_CONNECT) return parse_index(message);
  }
  if (asked_for) return *asked_for;
  return Error(std::errc::bad_message, "attaching: the kernel did not say which device it chose");
}

// The Error of a call that ended without an answer.
Error no_answer(Error error, std::string_view what, Nanoseconds limit) {
  if (error.code == std::errc::operation_canceled) return error;
  if (error.code != std::errc::timed_out) {
    return Error(error.code, fmt::format("{}: {}", what, error.message()));
  }
  return attach_error(
      ExitCode::timeout,
      fmt::format("{}: the kernel did not answer within {} s (the server does not read, or another "
                  "program holds the kernel's netlink lock)",
                  what, std::chrono::ceil<Seconds>(limit).count()));
}

}  // namespace

NbdControl::NbdControl(Loop& loop, Log& log, const Sysfs& sysfs, NetlinkSocketFactory factory)
    : loop_(loop),
      log_(log),
      sysfs_(sysfs),
      factory_(std::move(factory)),
      gate_(loop),
      helper_(loop, "netlink") {}

NbdControl::~NbdControl() = default;

Task<void> NbdControl::find_driver(Nanoseconds limit) {
  auto function = [factory = factory_, limit] { return look_for_driver(factory, limit); };
  auto call = helper_.call(limit, std::move(function));
  Result<Driver> driver = co_await std::move(call).as_result();
  if (!driver.ok()) {
    if (driver.error().code == std::errc::no_such_device) co_await fail(explain_no_driver(sysfs_));
    Error error = std::move(driver).error();
    co_await fail(no_answer(std::move(error), "looking for the kernel's nbd driver", limit));
  }
  family_ = driver.value().family;
  conversation_ = std::move(driver.value().conversation);
  events_ = std::move(driver.value().events);
}

// Before anybody asks for it: newer kernels (seen in Linux 6.12) load it by themselves then, with
// other parameters than ours.
Task<void> NbdControl::load_driver(const Modprobe* modprobe) {
  if (modprobe == nullptr || sysfs_.module_loaded()) co_return;
  log_.debug("", "loading the kernel's nbd driver");
  auto function = [modprobe] { return load_nbd_module(*modprobe); };
  co_await loop_.blocking(std::move(function));
}

Task<void> NbdControl::open(const Modprobe* modprobe, Nanoseconds limit) {
  NBDKIT_CHECK(conversation_ == nullptr);
  Result<void> loaded = co_await load_driver(modprobe).as_result();
  Result<void> found = co_await find_driver(limit).as_result();
  if (found.ok()) co_return;
  const bool missing = found.error().code == std::errc::no_such_device;
  if (missing && !loaded.ok()) co_await fail(std::move(loaded).error());
  co_await fail(std::move(found).error());
}

Task<KernelAnswer> NbdControl::ask(std::string what, Build build, Nanoseconds limit, Late late) {
  auto function = [conversation = conversation_, build = std::move(build), limit] {
    return conversation->ask(build, limit);
  };
  auto call = helper_.call(limit, std::move(function), std::move(late));
  Result<KernelAnswer> answer = co_await std::move(call).as_result();
  if (!answer.ok()) {
    Error error = std::move(answer).error();
    co_await fail(no_answer(std::move(error), what, limit));
  }
  co_return std::move(answer).value();
}

bool NbdControl::only_opened(const Refusal& refusal, const ConnectRequest& request) const {
  if (refusal.error != EBUSY || !request.index) return false;
  auto device = sysfs_.device(*request.index);
  return device.ok() && !device.value().attached();
}

Task<std::uint32_t> NbdControl::connect(const ConnectRequest& request, Nanoseconds limit) {
  Result<void> checked = check_connect(request);
  if (!checked.ok()) co_await fail(std::move(checked).error());
  const Nanoseconds until = loop_.now() + kOpenedMax;
  Milliseconds delay = kRetryMin;
  for (;;) {
    auto owned = own(request);
    if (!owned.ok()) co_await fail(std::move(owned).error());
    Build build = [owned = std::move(owned).value(), family = family_](std::uint32_t sequence) {
      return build_connect(family, sequence, owned->request);
    };
    Late late = [conversation = conversation_, family = family_,
                 index = request.index](Result<KernelAnswer> answer) {
      if (!answer.ok() || answer.value().refusal.error != 0) return;
      auto chosen = chosen_index(answer.value(), index);
      if (chosen.ok()) undo(*conversation, family, chosen.value());
    };
    KernelAnswer answer = co_await ask("attaching", std::move(build), limit, std::move(late));
    if (answer.refusal.error == 0) {
      auto index = chosen_index(answer, request.index);
      if (!index.ok()) co_await fail(std::move(index).error());
      co_return index.value();
    }
    if (!only_opened(answer.refusal, request) || loop_.now() >= until) {
      auto explain = [&]() -> Result<void> {
        return explain_connect(answer.refusal, request, sysfs_);
      };
      co_await loop_.blocking(std::move(explain));
    }
    co_await loop_.sleep(delay, gate_);
    delay = std::min(2 * delay, kRetryMax);
  }
}

Task<void> NbdControl::disconnect(std::uint32_t index, Nanoseconds limit) {
  Build build = [family = family_, index](std::uint32_t sequence) {
    return build_disconnect(family, sequence, index);
  };
  std::string what = fmt::format("detaching /dev/nbd{}", index);
  KernelAnswer answer = co_await ask(std::move(what), std::move(build), limit);
  if (answer.refusal.error == 0) co_return;
  co_await fail(explain_disconnect(answer.refusal, index, sysfs_));
}

Task<void> NbdControl::reconfigure(const ReconfigureRequest& request, Nanoseconds limit) {
  for (int socket : request.sockets) {
    Result<void> checked = check_socket(socket);
    if (!checked.ok()) co_await fail(std::move(checked).error());
  }
  auto owned = own(request);
  if (!owned.ok()) co_await fail(std::move(owned).error());
  Build build = [owned = std::move(owned).value(), family = family_](std::uint32_t sequence) {
    return build_reconfigure(family, sequence, owned->request);
  };
  std::string what = fmt::format("reconfiguring /dev/nbd{}", request.index);
  KernelAnswer answer = co_await ask(std::move(what), std::move(build), limit);
  if (answer.refusal.error == 0) co_return;
  co_await fail(explain_reconfigure(answer.refusal, request, sysfs_));
}

Task<std::vector<DeviceStatus>> NbdControl::status(std::optional<std::uint32_t> index,
                                                   Nanoseconds limit) {
  Build build = [family = family_, index](std::uint32_t sequence) {
    return build_status(family, sequence, index);
  };
  std::string what = "asking for the status of nbd devices";
  KernelAnswer answer = co_await ask(std::move(what), std::move(build), limit);
  const int error = answer.refusal.error;
  if (error != 0) co_await fail(os_error("asking for the status of nbd devices", error));
  std::vector<DeviceStatus> devices;
  for (const NetlinkMessage& message : answer.messages) {
    auto part = parse_status(message);
    if (!part.ok()) co_await fail(std::move(part).error());
    devices.insert(devices.end(), part.value().begin(), part.value().end());
  }
  co_return std::move(devices);
}

int NbdControl::events_fd() const { return events_->fd(); }

Result<LinkEvents> NbdControl::take_events() {
  LinkEvents events;
  for (unsigned taken = 0; taken < kEventsMax; ++taken) {
    auto datagram = events_->receive(Nanoseconds(0));
    if (!datagram.ok()) {
      if (datagram.error().code == std::errc::timed_out) break;
      if (datagram.error().code != std::errc::no_buffer_space) return std::move(datagram).error();
      events.missed = true;
      continue;
    }
    auto messages = parse_datagram(datagram.value());
    if (!messages.ok()) return std::move(messages).error();
    for (const NetlinkMessage& message : messages.value()) {
      if (message.type != family_.id || message.command != NBD_CMD_LINK_DEAD) continue;
      auto index = parse_index(message);
      if (!index.ok()) return std::move(index).error();
      events.dead.push_back(index.value());
    }
  }
  return events;
}

Task<bool> NbdControl::close(Nanoseconds patience) {
  gate_.close();
  co_return co_await helper_.close(patience);
}

}  // namespace nbdkit
