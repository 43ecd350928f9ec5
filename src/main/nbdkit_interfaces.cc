// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_interfaces.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>

#include <array>
#include <memory>

namespace nbdkit {
namespace {

struct FreeAddresses {
  void operator()(ifaddrs* list) const { ::freeifaddrs(list); }
};

bool fits(const sockaddr& address, Options::Family family) {
  if (address.sa_family == AF_INET) return family != Options::Family::ipv6;
  return address.sa_family == AF_INET6 && family != Options::Family::ipv4;
}

// With the scope of a link-local address, without which nobody can bind to it.
std::string text_of(const sockaddr& address) {
  std::array<char, NI_MAXHOST> text{};
  const socklen_t length =
      address.sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (::getnameinfo(&address, length, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0) {
    return {};
  }
  return text.data();
}

}  // namespace

Result<std::vector<std::string>> addresses_of(const std::string& name, Options::Family family) {
  if (name.empty() || ::if_nametoindex(name.c_str()) == 0) return std::vector<std::string>{name};
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return os_error("getifaddrs");
  std::unique_ptr<ifaddrs, FreeAddresses> list(first);
  std::vector<std::string> addresses;
  for (const ifaddrs* one = first; one != nullptr; one = one->ifa_next) {
    if (name != one->ifa_name || one->ifa_addr == nullptr) continue;
    if (!fits(*one->ifa_addr, family)) continue;
    std::string text = text_of(*one->ifa_addr);
    if (!text.empty()) addresses.push_back(std::move(text));
  }
  if (addresses.empty()) {
    return Error(std::errc::address_not_available,
                 fmt::format("-i: the interface {} has no address to listen on", name));
  }
  return addresses;
}

}  // namespace nbdkit
